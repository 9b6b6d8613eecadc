"""Spill and read-back: nothing is lost or changed, disks fill up and fail, files go away."""

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from shuffle_worker.errors import Corrupted, DiskFull, PeerError, SpecError

UID = bytes(range(16))
MIB = 1 << 20


def wait_for(holds: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < deadline, f"waited 10 s for {what}"
        time.sleep(0.005)


def settle(made: Any) -> None:
    """Wait until memory is below the high watermark and the spill thread writes nothing any more."""
    wait_for(lambda: made.budget.used_bytes <= made.budget.high_bytes, "memory below the high watermark")
    before = -1
    while (batches := made.store.stats()["spill_batches"]) != before:
        before = batches
        time.sleep(0.1)


def drain(made: Any, groups: int) -> int:
    """Take everything, checking content and order; the number of frames."""
    count = 0
    for group in range(groups):
        last: dict[int, int] = {}
        while frames := made.store.take(UID, group, 2 * MIB, 10.0, wait=False):
            for frame in frames:
                assert bytes(frame) == made.content(frame.map, 1, 0, frame.number, len(frame))
                assert frame.number > last.get(frame.map, -1)
                last[frame.map] = frame.number
            count += len(frames)
            del frame, frames
    return count


def test_spilled_frames_come_back_as_they_were(bench: Any) -> None:
    made = bench(limit_bytes=16 * MIB, disks=2)
    made.open(groups=4)
    for map in range(3):
        made.fill(24, groups=4, size=MIB - 1000 * map, map=map)
    stats = made.store.stats()
    assert stats["spilled_bytes"] > 56 * MIB
    assert stats["peak_bytes"] <= 16 * MIB
    assert all(each["bytes"] > 0 for each in made.store.directories()), "both directories are used"
    assert drain(made, 4) == 72
    wait_for(lambda: made.store.stats()["frames"] == 0 and len(made.segments()) <= 2, "dead segments to be deleted")


def test_the_largest_groups_go_first(bench: Any) -> None:
    made = bench(limit_bytes=32 * MIB, batch_bytes=2 * MIB)
    made.open(groups=3)
    for number in range(30):
        group = 0 if number == 0 else 1 if number < 4 else 2
        made.store.put(made.frame(number, group, MIB), 10.0)
    settle(made)
    made.store.win(UID, 0, 1, 0)
    before = made.store.stats()["read_back_bytes_total"]
    made.store.take(UID, 0, MIB, 1.0)
    made.store.take(UID, 1, 8 * MIB, 1.0)
    assert made.store.stats()["read_back_bytes_total"] == before, "the small groups stayed in memory"
    made.store.take(UID, 2, MIB, 1.0)
    assert made.store.stats()["read_back_bytes_total"] > before


def test_reading_leaves_frames_where_they_are(bench: Any) -> None:
    made = bench(limit_bytes=16 * MIB)
    made.open()
    made.fill(24)
    numbers, position = [], 0
    while frames := made.store.peek(UID, 0, position, 3 * MIB):
        numbers += [frame.number for frame in frames]
        position += len(frames)
        del frames
    assert numbers == list(range(24))
    assert made.store.peek(UID, 0, 24, MIB) == []
    assert drain(made, 1) == 24


def test_discarded_and_dropped_frames_leave_the_disk(bench: Any) -> None:
    made = bench(limit_bytes=16 * MIB, segment_bytes=2 * MIB)
    made.open(groups=2)
    for number in range(30):
        made.store.put(made.frame(number, number % 2, MIB), 10.0)
    made.fill(30, groups=2, map=1)
    made.store.discard(UID, 0, 1, 0)
    made.store.drop_group(UID, 0)
    made.store.drop_group(UID, 1)
    assert made.store.stats()["frames"] == 0
    wait_for(lambda: len(made.segments()) <= 1, "segments of dead frames to be deleted")
    made.store.close_shuffle(UID)
    wait_for(lambda: made.segments() == [], "the last segment to be deleted")


@pytest.mark.parametrize(("where", "says"), [(0, "another header"), (96 + 5000, "checksum"), (-1, "cut off")])
def test_damaged_segment_names_file_offset_and_sender(bench: Any, where: int, says: str) -> None:
    made = bench(limit_bytes=16 * MIB, segment_bytes=64 * MIB)
    made.open()
    made.fill(24)
    settle(made)
    (segment,) = made.segments()
    if where < 0:
        os.truncate(segment, 5000)
    else:
        with segment.open("r+b") as file:
            file.seek(where)
            byte = file.read(1)[0]
            file.seek(where)
            file.write(bytes([byte ^ 0x10]))
    with pytest.raises(Corrupted) as caught:
        made.store.take(UID, 0, 64 * MIB, 10.0)
    assert f"{segment} at offset 0" in str(caught.value)
    assert "0000000000000abc" in str(caught.value)
    assert says in str(caught.value)
    assert made.store.stats()["frames"] == 24, "nothing is removed by a failed take"


def test_missing_segment_is_an_error(bench: Any) -> None:
    made = bench(limit_bytes=16 * MIB)
    made.open()
    made.fill(24)
    made.segments()[0].unlink()
    with pytest.raises(PeerError, match="No such file"):
        made.store.take(UID, 0, 64 * MIB, 10.0)


def test_lost_directory_is_left_and_named(bench: Any) -> None:
    made = bench(limit_bytes=16 * MIB, disks=2)
    shutil.rmtree(made.directories[0])
    made.open()
    made.fill(40)
    first, second = made.store.directories()
    assert first["fault"] == "No such file or directory"
    assert second["bytes"] > 0
    assert drain(made, 1) == 40


def test_memory_disk_is_refused(bench: Any) -> None:
    if not os.path.ismount("/dev/shm"):
        pytest.skip("/dev/shm is not a file system of its own here")
    with pytest.raises(SpecError, match="is on tmpfs, which is memory"):
        bench(directories=[Path("/dev/shm")])
    with pytest.raises(SpecError, match="No such file"):
        bench(directories=[Path("/nonexistent")])


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """16 MiB of their own."""
    path = tmp_path / "small"
    path.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(path)]
    mounted = subprocess.run(command, capture_output=True, text=True, timeout=10)
    if mounted.returncode != 0:
        reason = f"cannot mount a tmpfs: {mounted.stderr.strip()}"
        assert os.environ.get("CI") != "true", reason
        pytest.skip(reason)
    yield path
    subprocess.run(["umount", "-l", str(path)], check=True, timeout=10)


def test_full_disk_hands_over_to_the_next(bench: Any, small_disk: Path, tmp_path: Path) -> None:
    large = tmp_path / "large"
    large.mkdir()
    made = bench(limit_bytes=64 * MIB, high=0.2, low=0.1, directories=[small_disk, large], memory_disks="account")
    made.open()
    for map in range(5):
        made.fill(16, map=map)
    full, other = made.store.directories()
    assert full["full"]
    assert full["memory"]
    assert 8 * MIB < full["bytes"] <= 16 * MIB
    assert other["bytes"] > 30 * MIB
    wait_for(lambda: made.store.stats()["peak_bytes"] > full["bytes"], "the tmpfs to be accounted")
    assert drain(made, 1) == 80


def test_all_disks_full_is_said_with_figures(bench: Any, small_disk: Path) -> None:
    made = bench(limit_bytes=64 * MIB, directories=[small_disk], memory_disks="account", full_grace_s=0.3)
    made.open()
    with pytest.raises(DiskFull) as caught:
        made.push(200)
    assert str(small_disk) in str(caught.value)
    assert "GiB free" in str(caught.value)
    assert made.store.disk_full() != ""
    (notice,) = [notice for notice in made.store.notices() if notice.kind == "disk_full"]
    assert str(small_disk) in notice.detail
    # What was taken is all there.
    made.store.win(UID, 0, 1, 0)
    assert drain(made, 1) == made.pushed


def test_reserve_is_left_free(bench: Any) -> None:
    made = bench(limit_bytes=16 * MIB, disk_reserve_bytes=1 << 60, full_grace_s=0.2)
    made.open()
    with pytest.raises(DiskFull, match="in reserve"):
        made.push(40)
    assert made.segments() == []


def test_many_groups_need_few_files(bench: Any) -> None:
    made = bench(limit_bytes=64 * MIB, high=0.3, low=0.1, disks=2)
    groups = 65_536
    made.open(groups=groups)
    before = len(os.listdir("/proc/self/fd"))
    most = 0
    begun = time.monotonic()
    for number in range(groups):
        assert made.store.put(made.frame(number, number, 40), 20.0) == 0
        if number % 4096 == 0:
            most = max(most, len(os.listdir("/proc/self/fd")))
    made.store.win(UID, 0, 1, 0)
    made.store.seal(UID)
    assert made.store.stats()["spilled_frames_total"] > groups // 2
    seen = 0
    while (taken := made.store.take_ready(UID, MIB, 10.0)) is not None:
        seen += len(taken.frames)
        assert taken.last
        if seen % 4096 == 0:
            most = max(most, len(os.listdir("/proc/self/fd")))
    assert seen == groups
    assert most - before < 64
    assert time.monotonic() - begun < 60
