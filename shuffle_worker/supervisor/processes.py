"""Worker processes of an embedded job: started here, and ended here for certain. No protocol.

A worker is told everything by its environment, says where it listens in a file it renames into place, and dies with
its parent (PR_SET_PDEATHSIG), so that not even SIGKILL of the supervisor leaves one behind.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from shuffle_worker.errors import DeadlineExceeded, PeerLost

START_S = 30.0
GRACE_S = 5.0


@dataclass(frozen=True)
class WorkerShare:
    """What one worker gets of the job's total."""

    memory_bytes: int
    spill_dirs: tuple[Path, ...]
    threads: int


@dataclass(frozen=True)
class Endpoint:
    """Where a worker that is ready listens, and which incarnation it is."""

    name: str
    incarnation: int
    http_port: int
    data_port: int


class WorkerProcess:
    """One `shuffle-worker`, with its log in `<work_dir>/<name>.log`."""

    def __init__(self, name: str, work_dir: Path, share: WorkerShare, token_file: Path) -> None:
        self.name = name
        self.log_path = work_dir / f"{name}.log"
        self._ready_path = work_dir / f"{name}.ready"
        environment = {
            **os.environ,
            "SHUFFLE_NAME": name,
            "SHUFFLE_MEMORY": str(share.memory_bytes),
            "SHUFFLE_SPILL_DIRS": ":".join(map(str, share.spill_dirs)),
            "SHUFFLE_TOKEN_FILE": str(token_file),
            "SHUFFLE_READY_FILE": str(self._ready_path),
            "SHUFFLE_MAP_THREADS": str(share.threads),
            "SHUFFLE_SINK_THREADS": str(share.threads),
            "SHUFFLE_PARENT_PID": str(os.getpid()),
            # Two arenas for a process: glibc makes up to 8 a core, and each keeps what it was given. What a batch or a
            # row group took is kept for the next one, up to 64 MiB: faulting pages in anew cost a quarter of a job.
            "MALLOC_ARENA_MAX": "2",
            "MALLOC_TRIM_THRESHOLD_": "67108864",
            "MALLOC_MMAP_THRESHOLD_": "33554432",
            "ARROW_DEFAULT_MEMORY_POOL": "system",
            "OMP_NUM_THREADS": "1",
        }
        with self.log_path.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "shuffle_worker.main"],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C goes to the supervisor alone, which then cancels in order
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def await_ready(self, timeout_s: float = START_S) -> Endpoint:
        """Where it listens; PeerLost with the end of its log if it ended instead."""
        deadline = time.monotonic() + timeout_s
        while not self._ready_path.exists():
            if not self.running:
                raise PeerLost(
                    f"worker {self.name} ended with {self.ending()} before it was ready: {self.last_words()}"
                )
            if time.monotonic() > deadline:
                raise DeadlineExceeded(f"worker {self.name} was not ready within {timeout_s:g} s: {self.last_words()}")
            time.sleep(0.005)
        return Endpoint(**json.loads(self._ready_path.read_text(encoding="utf-8")))

    def ending(self) -> str:
        """How it ended: `exit code 1`, `SIGKILL`."""
        code = self._process.poll()
        if code is None:
            return "nothing: it still runs"
        return signal.Signals(-code).name if code < 0 else f"exit code {code}"

    def last_words(self, lines: int = 3) -> str:
        """The end of its log, for an error message."""
        text = self.log_path.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return " | ".join(text[-lines:]) or "its log is empty"

    def ask_to_end(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()

    def end(self, grace_s: float = GRACE_S) -> None:
        """SIGTERM was sent; wait `grace_s`, then SIGKILL, which ends a stopped process too."""
        try:
            self._process.wait(grace_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def end_all(workers: list[WorkerProcess], grace_s: float = GRACE_S) -> None:
    """End every worker, side by side; returns when none is left."""
    for worker in workers:
        worker.ask_to_end()
    deadline = time.monotonic() + grace_s
    for worker in workers:
        worker.end(max(0.0, deadline - time.monotonic()))
