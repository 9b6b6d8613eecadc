"""Directories of an incarnation, and the janitor: what it removes, and above all what it does not."""

import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from shuffle_worker.errors import SpecError
from shuffle_worker.store.directories import SpillDirectories, make_locked
from shuffle_worker.store.janitor import sweep

CLUSTER = "0b5a1d3e-cluster"


def leave_behind(root: Path, incarnation: int, *names: str, cluster: str = CLUSTER) -> Path:
    """What a killed process leaves: no lock."""
    path = root / cluster / f"{incarnation:016x}"
    path.mkdir(parents=True)
    for name in names:
        (path / name).write_bytes(b"x" * 1000)
    return path


def test_layout_and_clean_removal(tmp_path: Path) -> None:
    roots = [tmp_path / "a", tmp_path / "b"]
    with SpillDirectories(roots, CLUSTER, 0xABC) as directories:
        assert directories.paths == [str(root / CLUSTER / "0000000000000abc") for root in roots]
        assert all(os.stat(path).st_mode & 0o777 == 0o700 for path in directories.paths)
        (Path(directories.paths[0]) / "000000000001.seg").write_bytes(b"x")
    assert [list(root.iterdir()) for root in roots] == [[], []]
    directories.close()


def test_removal_keeps_what_is_not_ours(tmp_path: Path) -> None:
    other = leave_behind(tmp_path, 5)
    with SpillDirectories([tmp_path], CLUSTER, 1) as directories:
        mine = Path(directories.paths[0])
        (mine / "notes.txt").write_text("kept")
    assert (mine / "notes.txt").exists()
    assert other.exists()


@pytest.mark.parametrize("name", ["", "..", "a/b", ".hidden", "x" * 200])
def test_cluster_uid_must_name_a_directory(tmp_path: Path, name: str) -> None:
    with pytest.raises(SpecError, match="a cluster UID is"):
        SpillDirectories([tmp_path], name, 1)


def test_one_directory_named_twice_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").symlink_to(tmp_path / "a")
    with pytest.raises(SpecError, match="are the same"):
        SpillDirectories([tmp_path / "a", tmp_path / "b"], CLUSTER, 1)
    assert list((tmp_path / "a" / CLUSTER).iterdir() if (tmp_path / "a" / CLUSTER).exists() else []) == []


def test_root_that_is_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SpecError, match=str(tmp_path / "file")):
        SpillDirectories([tmp_path / "file"], CLUSTER, 1)


def test_dead_incarnations_are_removed(tmp_path: Path) -> None:
    dead = leave_behind(tmp_path, 7, "000000000001.seg", "000000000002.seg")
    empty = leave_behind(tmp_path, 8)
    report = sweep([tmp_path, tmp_path / "missing"], CLUSTER)
    assert report.removed == [str(dead), str(empty)]
    assert report.freed_bytes == 2000
    assert report.left == {}
    assert not dead.exists()


def test_a_locked_directory_stays(tmp_path: Path) -> None:
    with SpillDirectories([tmp_path], CLUSTER, 7) as directories:
        segment = Path(directories.paths[0]) / "000000000001.seg"
        segment.write_bytes(b"x")
        report = sweep([tmp_path], CLUSTER)
        assert report.alive == directories.paths
        assert segment.exists()


def test_another_process_keeps_its_directory_until_it_is_killed(tmp_path: Path) -> None:
    code = f"""
import sys
from shuffle_worker.store.directories import SpillDirectories
directories = SpillDirectories([{str(tmp_path)!r}], {CLUSTER!r}, 7)
open(directories.paths[0] + "/000000000001.seg", "w").close()
print("ready", flush=True)
sys.stdin.read()
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    assert sweep([tmp_path], CLUSTER).removed == []
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=10)
    assert len(sweep([tmp_path], CLUSTER).removed) == 1


def test_nothing_foreign_is_touched(tmp_path: Path) -> None:
    other_cluster = leave_behind(tmp_path, 7, "000000000001.seg", cluster="other")
    foreign_file = leave_behind(tmp_path, 8, "000000000001.seg", "precious.parquet")
    foreign_name = tmp_path / CLUSTER / "backup"
    foreign_name.mkdir()
    target = tmp_path / "target"
    target.mkdir()
    (target / "000000000001.seg").write_bytes(b"x")
    link = tmp_path / CLUSTER / f"{9:016x}"
    link.symlink_to(target)
    report = sweep([tmp_path], CLUSTER)
    assert report.removed == []
    assert set(report.left) == {str(foreign_file), str(foreign_name), str(link)}
    assert "precious.parquet" in report.left[str(foreign_file)]
    assert (other_cluster / "000000000001.seg").exists()
    assert (foreign_file / "000000000001.seg").exists(), "all or nothing"
    assert (target / "000000000001.seg").exists()


def test_directory_removed_by_a_janitor_before_its_lock_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "0000000000000007"
    real = fcntl.flock
    calls = []

    def flock(descriptor: int, operation: int) -> None:
        if not calls:
            path.rmdir()  # a janitor was faster
        calls.append(descriptor)
        real(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", flock)
    lock = make_locked(str(path))
    assert len(calls) == 2
    assert os.path.samestat(os.fstat(lock), path.stat())
    os.close(lock)
