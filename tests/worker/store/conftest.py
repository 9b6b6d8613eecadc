"""Stores with small budgets over temporary directories, and frames whose content follows from their name."""

import gc
import random
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from shuffle_worker._native.budget import Budget
from shuffle_worker._native.buffer import BufferPool
from shuffle_worker._native.frame import Frame
from shuffle_worker._native.store import Store
from shuffle_worker.store.limits import ShuffleLimits, StoreLimits

UID = bytes(range(16))
MIB = 1 << 20


def content(map: int, epoch: int, attempt: int, number: int, size: int) -> bytes:
    """What the frame of that name carries."""
    return random.Random(f"{map} {epoch} {attempt} {number}").randbytes(size)


class Bench:
    """A store with all that it needs. Closing it checks that no byte stayed accounted."""

    content = staticmethod(content)

    def __init__(self, limit_bytes: int, directories: list[Path], **limits: Any) -> None:
        budget = {key: limits.pop(key) for key in ("high", "low", "sink_bytes", "permits") if key in limits}
        self.pool = BufferPool(min(limit_bytes // 4, 64 * MIB))
        self.budget = Budget(self.pool, limit_bytes, **budget)
        limits = {"disk_reserve_bytes": 0, "batch_bytes": 1 * MIB, "segment_bytes": 4 * MIB, **limits}
        self.store = Store(self.budget, StoreLimits(**limits), [str(path) for path in directories])
        self.directories = directories
        self.pushed = 0

    def open(self, groups: int = 1, epoch: int = 1, ready_rows: int = 1, uid: bytes = UID) -> None:
        self.store.open_shuffle(uid, epoch, ShuffleLimits(ready_rows=ready_rows))
        self.store.place_all(uid, range(groups), 1)

    def frame(self, number: int, group: int = 0, size: int = 1000, **name: Any) -> Frame:
        name = {"map": 0, "epoch": 1, "attempt": 0, "generation": 1, "shuffle": UID, "rows": 10, **name}
        payload = content(name["map"], name["epoch"], name["attempt"], number, size)
        return Frame.build(self.pool, payload, number=number, group=group, incarnation=0xABC, **name)

    def push(self, frames: int) -> None:
        """Put up to that many frames of 1 MiB of map 0; `pushed` says how many were taken."""
        for number in range(frames):
            assert self.store.put(self.frame(number, size=MIB), 20.0) == 0
            self.pushed = number + 1

    def fill(self, frames: int, groups: int = 1, size: int = MIB, map: int = 0) -> None:
        """Put that many frames of one map, turn by turn to each group, and let it win."""
        for number in range(frames):
            assert self.store.put(self.frame(number, number % groups, size, map=map), 10.0) == 0
        self.store.win(UID, map, 1, 0)

    def segments(self) -> list[Path]:
        return sorted(path for directory in self.directories for path in directory.glob("*.seg"))

    def close(self) -> None:
        self.store.close()
        gc.collect()
        assert self.pool.live_bytes == 0, "a buffer was leaked"
        assert self.segments() == [], "a segment file stayed"


@pytest.fixture(scope="session")
def bench_type() -> type[Bench]:
    """For tests that make many stores of their own."""
    return Bench


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Callable[..., Bench]]:
    """bench(limit_bytes=.., disks=..): a store of its own; several in one test have directories of their own."""
    made: list[Bench] = []

    def make(
        limit_bytes: int = 64 * MIB, disks: int = 1, directories: list[Path] | None = None, **limits: Any
    ) -> Bench:
        if directories is None:
            directories = [tmp_path / f"{len(made)}-{disk}" for disk in range(disks)]
            for directory in directories:
                directory.mkdir()
        made.append(Bench(limit_bytes, directories, **limits))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture
def in_thread() -> Iterator[Callable[[Callable[[], Any]], Callable[[], Any]]]:
    """in_thread(call) runs it beside the test; what it returns waits for the result, or raises what was raised."""
    threads: list[threading.Thread] = []

    def start(call: Callable[[], Any]) -> Callable[[], Any]:
        outcome: list[Any] = []

        def run() -> None:
            try:
                outcome.append((True, call()))
            except BaseException as error:  # noqa: BLE001 - raised again in the test
                outcome.append((False, error))

        thread = threading.Thread(target=run)
        threads.append(thread)
        thread.start()

        def result() -> Any:
            thread.join(20)
            assert outcome, "the call did not end within 20 s"
            good, value = outcome[0]
            if not good:
                raise value
            return value

        return result

    yield start
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()
