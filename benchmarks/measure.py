"""Runs one program and measures it whole, with all its descendants. Knows no system under test.

Wall time is from start to the end of the program itself; CPU time that of all its descendants, those that outlive
it too. Every run ends: by itself, at its time-out, or by the kernel at its memory limit; nothing of it stays behind.
"""

import contextlib
import ctypes
import os
import resource
import select
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from tempfile import TemporaryFile

from benchmarks.cgroup import CgroupUnavailable, MemoryGroup, make_group

SAMPLE_EVERY_S = 0.05
LINGER_S = 10.0
PR_SET_CHILD_SUBREAPER = 36
_JOIN_GROUP = ["sh", "-c", 'echo $$ > "$0" && exec "$@"']
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_TAIL_BYTES = 4000


class Outcome(StrEnum):
    DONE = "done"
    FAILED = "failed"
    KILLED = "killed"
    """By the kernel, for memory; or it gave up after a part of it was."""
    TIMED_OUT = "timed out"
    WRONG = "wrong"
    """It ended well, and its output is not right."""


class MemoryKind(StrEnum):
    CGROUP = "anonymous + shared memory, cgroup, sampled"
    RSS = "sum of RSS, sampled"


@dataclass(frozen=True)
class Program:
    """What to run, and within what."""

    arguments: list[str]
    environment: dict[str, str]
    limit_bytes: int | None
    timeout_s: float


@dataclass(frozen=True)
class Measurement:
    """One run. `peak_usage_bytes` is the kernel's own high-water mark and counts page cache, up to the limit."""

    outcome: Outcome
    wall_s: float
    cpu_s: float
    peak_bytes: int
    peak_kind: MemoryKind
    peak_usage_bytes: int | None
    oom_kills: int
    exit_status: int
    stdout: str
    stderr: str

    def figures(self) -> dict[str, object]:
        """For the record: all but what was printed, unless that explains a failure."""
        figures = asdict(self)
        del figures["stdout"]
        if self.outcome is Outcome.DONE:
            del figures["stderr"]
        return figures


def measure(program: Program) -> Measurement:
    """Run a program to its end.

    :raises CgroupUnavailable: when there is a limit to set, and no cgroup to set it on
    """
    _adopt_orphans()
    with _group(program.limit_bytes) as group, TemporaryFile() as stdout, TemporaryFile() as stderr:
        cpu_before_s = _children_cpu_s()
        joining = [] if group is None else [*_JOIN_GROUP, str(group.processes_file)]
        started_at = time.perf_counter()
        process = subprocess.Popen(
            [*joining, *program.arguments],
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            env={**os.environ, **program.environment},
            start_new_session=True,
        )
        try:
            peak_bytes, in_time = _watch(process.pid, group, started_at + program.timeout_s)
        finally:
            if not _has_ended(process.pid):
                _kill_all(group)
            exit_status = process.wait()
            wall_s = time.perf_counter() - started_at
            _end_descendants(group)
        oom_kills = 0 if group is None else group.oom_kills()
        return Measurement(
            outcome=_outcome(in_time, oom_kills, exit_status),
            wall_s=wall_s,
            cpu_s=_children_cpu_s() - cpu_before_s,
            peak_bytes=peak_bytes,
            peak_kind=MemoryKind.RSS if group is None else MemoryKind.CGROUP,
            peak_usage_bytes=None if group is None else group.peak_bytes(),
            oom_kills=oom_kills,
            exit_status=exit_status,
            stdout=_tail(stdout.fileno()),
            stderr=_tail(stderr.fileno()),
        )


def _outcome(in_time: bool, oom_kills: int, exit_status: int) -> Outcome:
    if in_time and exit_status == 0:
        return Outcome.DONE
    if oom_kills:
        return Outcome.KILLED
    return Outcome.FAILED if in_time else Outcome.TIMED_OUT


@contextlib.contextmanager
def _group(limit_bytes: int | None) -> Iterator[MemoryGroup | None]:
    """A cgroup; without a limit, None will do where none can be made."""
    try:
        group = make_group(f"shuffle-benchmark-{os.getpid()}", limit_bytes)
        group.__enter__()
    except CgroupUnavailable:
        if limit_bytes is not None:
            raise
        yield None
        return
    with contextlib.ExitStack() as stack:
        stack.push(group)
        yield group


def _watch(process_id: int, group: MemoryGroup | None, deadline: float) -> tuple[int, bool]:
    """Sample memory until the process ends or its time is over: the peak, and whether it ended."""
    peak_bytes = 0
    handle = os.pidfd_open(process_id)
    try:
        ended = select.poll()
        ended.register(handle, select.POLLIN)
        while time.perf_counter() < deadline:
            if ended.poll(SAMPLE_EVERY_S * 1000):
                return peak_bytes, True
            held_bytes = _resident_bytes() if group is None else group.held_bytes()
            peak_bytes = max(peak_bytes, held_bytes)
        return peak_bytes, False
    finally:
        os.close(handle)


def _has_ended(process_id: int) -> bool:
    """Whether our child has ended; leaves it to be reaped."""
    return os.waitid(os.P_PID, process_id, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _end_descendants(group: MemoryGroup | None) -> None:
    """Let what outlives the program end by itself for a while, then end it, and reap it all."""
    deadline = time.monotonic() + LINGER_S
    while True:
        try:
            reaped, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if reaped == 0:
            if time.monotonic() > deadline:
                _kill_all(group)
            time.sleep(0.02)


def _kill_all(group: MemoryGroup | None) -> None:
    for process_id in _descendants() if group is None else group.process_ids():
        with contextlib.suppress(ProcessLookupError):
            os.kill(process_id, signal.SIGKILL)


def _adopt_orphans() -> None:
    """Become the parent of descendants whose own parent ends, so that they can be counted and ended."""
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "cannot become a subreaper")


def _children_cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _descendants() -> list[int]:
    """All descendants of this process: with `_adopt_orphans`, all that a run started."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with contextlib.suppress(OSError):
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                children.setdefault(parent, []).append(int(entry.name))
    found, ahead = [], [os.getpid()]
    while ahead:
        below = children.get(ahead.pop(), [])
        found += below
        ahead += below
    return found


def _resident_bytes() -> int:
    """The sum of resident memory of all descendants; what they share is counted for each."""
    total = 0
    for process_id in _descendants():
        with contextlib.suppress(OSError):
            total += int(Path(f"/proc/{process_id}/statm").read_text().split()[1]) * _PAGE_BYTES
    return total


def _tail(file: int) -> str:
    """The end of what was written to a file."""
    size = os.fstat(file).st_size
    start = max(0, size - _TAIL_BYTES)
    return os.pread(file, size - start, start).decode(errors="replace")
