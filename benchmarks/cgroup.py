"""A memory cgroup around all processes of a run, in either version of the kernel's interface. Knows no benchmark.

Needs root (or a delegated folder), and nothing else: no daemon, no container. The kernel's high-water mark counts page
cache too, which it takes back before it kills; so what a system holds for itself is sampled besides.
"""

import contextlib
import os
import signal
import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Self

ROOT = Path("/sys/fs/cgroup")
EMPTY_TIMEOUT_S = 20.0


class CgroupUnavailable(Exception):
    """No memory cgroup can be made here; the message says why."""


class MemoryGroup(ABC):
    """One cgroup, from enter to exit: exit ends what is still in it, and removes it."""

    def __init__(self, folder: Path, limit_bytes: int | None) -> None:
        self.folder = folder
        self.limit_bytes = limit_bytes

    def __enter__(self) -> Self:
        try:
            self.folder.mkdir()
            if self.limit_bytes is not None:
                self._limit(self.limit_bytes)
        except OSError as error:
            with contextlib.suppress(OSError):
                self.folder.rmdir()
            raise CgroupUnavailable(f"cannot make a memory cgroup at {self.folder}: {error}: run as root") from error
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        deadline = time.monotonic() + EMPTY_TIMEOUT_S
        while True:
            try:
                self.folder.rmdir()
                return
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)

    @property
    def processes_file(self) -> Path:
        """A process that writes its id here is in, and its children with it."""
        return self.folder / "cgroup.procs"

    def process_ids(self) -> list[int]:
        return [int(line) for line in self.processes_file.read_text().split()]

    def kill(self) -> None:
        """End every process in it."""
        for process_id in self.process_ids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(process_id, signal.SIGKILL)

    @abstractmethod
    def _limit(self, limit_bytes: int) -> None: ...

    @abstractmethod
    def held_bytes(self) -> int:
        """Anonymous and shared memory held now: what cannot be dropped, unlike page cache."""

    @abstractmethod
    def peak_bytes(self) -> int:
        """The kernel's high-water mark, page cache included."""

    @abstractmethod
    def oom_kills(self) -> int:
        """Processes that the kernel killed for memory."""

    def _write(self, name: str, value: int) -> None:
        (self.folder / name).write_text(str(value))

    def _number(self, name: str) -> int:
        return int((self.folder / name).read_text())

    def _table(self, name: str) -> dict[str, int]:
        """A file of lines `name number`."""
        pairs = (line.split() for line in (self.folder / name).read_text().splitlines())
        return {pair[0]: int(pair[1]) for pair in pairs}


class MemoryGroupV1(MemoryGroup):
    def _limit(self, limit_bytes: int) -> None:
        self._write("memory.limit_in_bytes", limit_bytes)
        self._write("memory.swappiness", 0)
        if (self.folder / "memory.memsw.limit_in_bytes").exists():
            self._write("memory.memsw.limit_in_bytes", limit_bytes)

    def held_bytes(self) -> int:
        figures = self._table("memory.stat")
        return figures["total_rss"] + figures.get("total_shmem", 0)

    def peak_bytes(self) -> int:
        return self._number("memory.max_usage_in_bytes")

    def oom_kills(self) -> int:
        return self._table("memory.oom_control")["oom_kill"]


class MemoryGroupV2(MemoryGroup):
    def _limit(self, limit_bytes: int) -> None:
        self._write("memory.max", limit_bytes)
        if (self.folder / "memory.swap.max").exists():
            self._write("memory.swap.max", 0)

    def held_bytes(self) -> int:
        figures = self._table("memory.stat")
        return figures["anon"] + figures["shmem"]

    def peak_bytes(self) -> int:
        return self._number("memory.peak")

    def oom_kills(self) -> int:
        return self._table("memory.events")["oom_kill"]


def make_group(name: str, limit_bytes: int | None) -> MemoryGroup:
    """A group to enter; that too raises CgroupUnavailable.

    :raises CgroupUnavailable: when the machine has no memory controller for us
    """
    if (ROOT / "memory" / "cgroup.procs").exists():
        return MemoryGroupV1(ROOT / "memory" / name, limit_bytes)
    if (ROOT / "cgroup.controllers").exists():
        if "memory" not in (ROOT / "cgroup.subtree_control").read_text().split():
            raise CgroupUnavailable(f"the memory controller is off: echo +memory > {ROOT}/cgroup.subtree_control")
        return MemoryGroupV2(ROOT / name, limit_bytes)
    raise CgroupUnavailable(f"no memory cgroup below {ROOT}")
