"""Publishing on a local disk: exactly the staged files, once, whenever it is interrupted and whoever else is at it."""

import errno
import json
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from shuffle_worker.errors import InternalError, OutputError
from shuffle_worker.sink.base import FileRecord
from shuffle_worker.sink.exchange import exchange, exchange_fault
from shuffle_worker.sink.local import remove_tree, storage_fault
from shuffle_worker.spec.model import ParquetSink, Sink

SCHEMA = pa.schema([("a", pa.int64())])
OTHER_UID = bytes(16)


class Interrupted(Exception):
    """As if the process had died there."""


class Steps:
    """Notes the steps of a publication, and stops before the one of that number."""

    def __init__(self, stop_at: int = -1) -> None:
        self.names: list[str] = []
        self.stop_at = stop_at

    def __call__(self, name: str) -> None:
        if len(self.names) == self.stop_at:
            raise Interrupted(name)
        self.names.append(name)


@pytest.fixture
def sink(tmp_path: Path) -> Sink:
    return Sink(parquet=ParquetSink(path=str(tmp_path / "out")))


@pytest.fixture
def staged(bench, sink: Sink) -> list[FileRecord]:
    """Three partitions of three rows, written by two incarnations."""
    return [write_partition(bench, sink, partition) for partition in range(3)]


def write_partition(bench, sink: Sink, partition: int, generation: int = 1, first: int = 0) -> FileRecord:
    batch = pa.record_batch({"a": [first + partition, first + partition + 1, first + partition + 2]})
    output = bench.output(incarnation=partition % 2 + 1)
    return bench.write(output, sink, SCHEMA, [batch], partition, generation).record


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


FILES = ["_SUCCESS", "_manifest.json", "part-00000.parquet", "part-00001.parquet", "part-00002.parquet"]


def test_the_output_is_the_manifests_files(bench, staged, manifest_of, tmp_path: Path) -> None:
    stray = bench.output(incarnation=9).create("part-00001.parquet")
    stray.stream.write(b"a zombie's")
    stray.finish(7)
    bench.output().publish(manifest_of(staged), staged)
    out = tmp_path / "out"
    assert names(out) == FILES
    assert pq.read_table(out / "part-00001.parquet").column("a").to_pylist() == [1, 2, 3]
    said = json.loads((out / "_manifest.json").read_text())
    assert (said["digest"], said["rows"], said["hashFunction"], said["version"]) == ("d1", 9, "XxHash64", 1)
    assert [file["rows"] for file in said["files"]] == [3, 3, 3]
    bench.output().remove_staging()
    assert names(tmp_path) == ["out"]
    assert pq.read_table(out / "part-00002.parquet").num_rows == 3


@pytest.mark.parametrize("replace", [False, True])
def test_interrupted_anywhere_it_is_done_again_by_another(
    bench, sink, manifest_of, tmp_path: Path, replace: bool
) -> None:
    rehearsal = Steps()
    stop_at = 0
    while True:
        out = tmp_path / "out"
        if replace:
            out.mkdir()
            (out / "old").write_text("old")
        records = [write_partition(bench, sink, partition) for partition in range(2)]
        manifest = manifest_of(records)
        steps = Steps(stop_at)
        try:
            bench.output(incarnation=3, replace=replace, step=steps).publish(manifest, records)
        except Interrupted:
            if "_manifest.json" in (names(out) if out.exists() else []):
                assert names(out) == [*FILES[:2], *FILES[2:4]]  # nobody sees half an output
            elif replace:
                assert names(out) == ["old"]
            else:
                assert not out.exists()
        else:
            rehearsal = steps
        bench.output(incarnation=4, replace=replace).publish(manifest, records)
        assert names(out) == [*FILES[:2], *FILES[2:4]]
        assert bench.output().is_published("d1")
        bench.output(incarnation=5).remove_staging()
        assert names(tmp_path) == ["out"]
        for path in out.iterdir():
            path.unlink()
        out.rmdir()
        if rehearsal.names:
            break
        stop_at += 1
    assert stop_at >= 7


def test_two_coordinators_publish_at_once(bench, sink, manifest_of, tmp_path: Path) -> None:
    records = [write_partition(bench, sink, partition) for partition in range(3)]
    manifest = manifest_of(records)
    together = threading.Barrier(4)
    errors: list[OutputError] = []

    def meet(name: str) -> None:
        if name == "rename":
            together.wait(timeout=20)

    def run(incarnation: int) -> None:
        try:
            bench.output(incarnation=incarnation, step=meet).publish(manifest, records)
        except OutputError as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert errors == []
    assert names(tmp_path / "out") == FILES


def test_a_zombie_cannot_change_what_is_published(bench, sink, staged, manifest_of, tmp_path: Path) -> None:
    """The same incarnation and another: a file under way, a later generation, and the same generation again."""
    late = bench.output(incarnation=1).create("part-00000.parquet")
    bench.output().publish(manifest_of(staged), staged)
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    late.stream.write(b"late")
    with pytest.raises(InternalError, match="was staged already"):
        late.finish(1)
    write_partition(bench, sink, 0, generation=2, first=100)
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before


def test_an_output_that_appeared_meanwhile_is_not_touched(bench, staged, manifest_of) -> None:
    bench.output().publish(manifest_of(staged), staged)
    with pytest.raises(OutputError, match=r"out appeared while the job ran \(of job [0-9a-f]{32}\): nothing was publ"):
        bench.output().publish(manifest_of(staged, "d2"), staged)
    assert bench.output().is_published("d1")


def test_an_empty_folder_is_as_good_as_none(bench, staged, manifest_of, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    bench.output().check_free()
    bench.output().publish(manifest_of(staged), staged)
    assert names(tmp_path / "out") == FILES


def test_what_is_there_is_refused_early(bench, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.write_text("a file")
    with pytest.raises(OutputError, match="out is there and is not a folder"):
        bench.output().check_free()
    out.unlink()
    out.symlink_to(tmp_path)
    with pytest.raises(OutputError, match="out is there and is a link"):
        bench.output(replace=True).check_free()
    out.unlink()
    out.mkdir()
    (out / "x").touch()
    with pytest.raises(
        OutputError,
        match=r"the output .*/out exists: choose another path, remove it, or set "
        r"spec\.sink\.overwrite: Replace",
    ):
        bench.output().check_free()
    bench.output(replace=True).check_free()
    assert names(tmp_path) == ["out"]


def test_a_staged_file_that_is_gone_or_short(bench, staged, manifest_of, tmp_path: Path) -> None:
    path = tmp_path / ".out.staging" / bytes(range(16)).hex() / staged[1].staged
    path.write_bytes(b"short")
    with pytest.raises(OutputError, match=r"part-00001.parquet was staged with \d+ bytes and has 5: nothing was publ"):
        bench.output().publish(manifest_of(staged), staged)
    path.unlink()
    with pytest.raises(OutputError, match=r"cannot publish .*/part-00001\.1 is gone, though it was staged"):
        bench.output().publish(manifest_of(staged), staged)
    assert not (tmp_path / "out").exists()


def no_links(*_: object) -> None:
    raise OSError(errno.EPERM, os.strerror(errno.EPERM))


@pytest.mark.parametrize("stop_at", range(8))
def test_without_hard_links_files_are_moved(
    bench, sink, manifest_of, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop_at: int
) -> None:
    """As on FAT or some network file systems, which a test cannot mount."""
    monkeypatch.setattr(os, "link", no_links)
    records = [write_partition(bench, sink, partition) for partition in range(3)]
    manifest = manifest_of(records)
    with pytest.raises(Interrupted):
        bench.output(incarnation=3, step=Steps(stop_at)).publish(manifest, records)
    bench.output(incarnation=4).publish(manifest, records)
    assert names(tmp_path / "out") == FILES


def test_replacing_takes_hard_links(
    bench, staged, manifest_of, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "old").touch()
    monkeypatch.setattr(os, "link", no_links)
    with pytest.raises(OutputError, match=r"out cannot be replaced in one step .* .it has no hard lin"):
        bench.output(replace=True).publish(manifest_of(staged), staged)
    assert names(tmp_path / "out") == ["old"]


def test_exchange_swaps_and_says_why_it_cannot(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.write_text("1")
    other.mkdir()
    exchange(one, other)
    assert one.is_dir()
    assert other.read_text() == "1"
    assert exchange_fault(tmp_path) == ""
    assert exchange_fault(tmp_path / "missing") == "No such file or directory"


def test_the_nonce_tells_who_shares_the_storage(bench) -> None:
    bench.output(incarnation=1).write_nonce("n1")
    bench.output(incarnation=2).check_nonce("n1", "worker-1")
    with pytest.raises(
        OutputError,
        match=r"the worker worker-1 does not see what the planner wrote to .*/nonce .*"
        r"mount the same storage at this path on every worker",
    ):
        bench.output(uid=OTHER_UID).check_nonce("n1", "worker-1")


def test_a_prepared_manifest_is_kept_until_staging_is_removed(bench) -> None:
    assert bench.output().load_manifest("d1") is None
    for _ in range(2):
        bench.output(incarnation=1).save_manifest("d1", b"body")
    assert bench.output(incarnation=2).load_manifest("d1") == b"body"
    assert bench.output(incarnation=2).load_manifest("d2") is None
    bench.output().remove_staging()
    assert bench.output().load_manifest("d1") is None


def test_only_names_of_the_own_job_and_incarnation_are_removed(bench, sink: Sink, tmp_path: Path) -> None:
    write_partition(bench, sink, 0)
    write_partition(bench, sink, 1)
    bench.output(uid=OTHER_UID).create("part-00000.parquet").finish(1)
    root = tmp_path / ".out.staging"
    job = root / bytes(range(16)).hex()
    bench.output(incarnation=1).remove_incarnation()
    assert names(job) == [f"{2:016x}"]
    for _ in range(2):
        bench.output(incarnation=1).remove_staging()
    assert names(root) == [OTHER_UID.hex()]


def test_a_file_is_invisible_until_it_is_whole(bench, tmp_path: Path) -> None:
    file = bench.output().create("part-00003.parquet")
    file.stream.write(b"123")
    (unfinished,) = tmp_path.rglob("part*")
    assert unfinished.name.startswith("part-00003.open-")
    assert file.finish(5).bytes == 3
    assert [path.name for path in tmp_path.rglob("part*")] == ["part-00003.5"]
    file.abort()
    assert [path.name for path in tmp_path.rglob("part*")] == ["part-00003.5"]
    other = bench.output(incarnation=2).create("part-00003.parquet")
    other.abort()
    other.abort()
    assert [path.name for path in tmp_path.rglob("part*")] == ["part-00003.5"]


def test_a_full_disk_is_said_with_figures(tmp_path: Path) -> None:
    error = storage_fault("cannot write", OSError(errno.ENOSPC, "No space left on device"), tmp_path / "a" / "b")
    assert str(error).startswith(f"cannot write {tmp_path}/a/b: the disk is full (")
    assert str(error).endswith("free): free some space, or write the output elsewhere")


def test_a_device_that_is_full_fails_the_writer(bench, sink: Sink, open_task: Callable, tmp_path: Path) -> None:
    """/dev/full answers every write as a full disk does."""
    writer = open_task(bench.output(), sink, SCHEMA)
    (partial,) = tmp_path.rglob("part-00000.open-*")
    writer._file.stream = pa.OSFile("/dev/full", "wb")
    writer.write(pa.record_batch({"a": list(range(1000))}))
    with pytest.raises(
        OutputError, match=r"cannot write .*part-00000.open-[0-9a-f]+: the disk is full \(.* free\): free some"
    ):
        writer.finish(1)
    writer.abort()
    assert not partial.exists()


def test_staging_is_removed_by_many_at_once(bench, sink: Sink, tmp_path: Path) -> None:
    """Members and the supervisor clean up together."""
    for partition in range(30):
        write_partition(bench, sink, partition)
    together = threading.Barrier(4)
    errors: list[OutputError] = []

    def run(incarnation: int) -> None:
        together.wait(timeout=20)
        try:
            bench.output(incarnation=incarnation).remove_staging()
        except OutputError as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert errors == []
    assert names(tmp_path) == []


def test_removing_a_tree_does_not_follow_links(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    (tmp_path / "tree" / "inner").mkdir(parents=True)
    kept.mkdir()
    (kept / "file").touch()
    (tmp_path / "tree" / "inner" / "file").touch()
    (tmp_path / "tree" / "link").symlink_to(kept)
    (tmp_path / "tree" / "broken").symlink_to(tmp_path / "nowhere")
    remove_tree(tmp_path / "tree")
    remove_tree(tmp_path / "tree")
    assert names(tmp_path) == ["kept"]
    assert names(kept) == ["file"]
