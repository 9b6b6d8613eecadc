"""Memory is a promise: a job several times larger than its memory stays below it, by the kernel's own figure."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

LIMIT_BYTES = 512 << 20
V1 = Path("/sys/fs/cgroup/memory")
V2 = Path("/sys/fs/cgroup/cgroup.controllers")


class MemoryGroup:
    """A memory cgroup that this test made, of either version."""

    def __init__(self, name: str, limit_bytes: int) -> None:
        self.v2 = V2.exists() and "memory" in V2.read_text(encoding="ascii").split()
        self.path = (V2.parent if self.v2 else V1) / name
        self.path.mkdir()
        (self.path / ("memory.max" if self.v2 else "memory.limit_in_bytes")).write_text(str(limit_bytes))

    def held_bytes(self) -> int:
        """Anonymous and shared memory, without the page cache."""
        names = ("anon", "shmem") if self.v2 else ("total_rss", "total_shmem")
        lines = (self.path / "memory.stat").read_text(encoding="ascii").splitlines()
        return sum(int(line.split()[1]) for line in lines if line.split()[0] in names)

    def oom_kills(self) -> int:
        text = (self.path / ("memory.events" if self.v2 else "memory.oom_control")).read_text(encoding="ascii")
        return next(int(line.split()[1]) for line in text.splitlines() if line.startswith("oom_kill "))

    def remove(self) -> None:
        deadline = time.monotonic() + 10
        while (self.path / "cgroup.procs").read_text(encoding="ascii") and time.monotonic() < deadline:
            time.sleep(0.05)
        self.path.rmdir()


@pytest.fixture
def memory_group() -> Iterator[MemoryGroup]:
    if os.geteuid() != 0 or not (V1.is_dir() or V2.exists()):
        reason = "a memory cgroup needs root and a mounted controller"
        pytest.fail(reason) if os.environ.get("CI") == "true" else pytest.skip(reason)
    group = MemoryGroup(f"shuffle-test-{os.getpid()}", LIMIT_BYTES)
    try:
        yield group
    finally:
        group.remove()


@pytest.fixture(scope="module")
def large_lineitem(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Scale 3: 18 million rows, about 2.5 GB as Arrow."""
    folder = tmp_path_factory.mktemp("large")
    command = [Path(sys.executable).parent / "tpchgen-cli", "parquet", "-s", "3", "--tables=lineitem", "--parts=4"]
    subprocess.run([*command, f"--output-dir={folder}"], check=True, timeout=240)
    return folder / "lineitem"


@pytest.mark.timeout(600)
def test_a_job_five_times_its_memory_stays_below_it(
    job: Callable[..., Any],
    large_lineitem: Path,
    memory_group: MemoryGroup,
    same_rows: Callable[[str, str], None],
    tmp_path: Path,
) -> None:
    # A sort holds every row until the last has come, so that most of the job has to go through the disks.
    it = job(
        source={"parquet": {"paths": [f"{large_lineitem}/*.parquet"]}},
        shuffle={"type": "Hash", "keys": ["l_orderkey"], "partitions": 256},
        sink={"parquet": {"path": str(tmp_path / "out"), "sortBy": ["l_orderkey", "l_linenumber"]}},
        verify="Keys",
    )
    command = it.command("--memory", "512Mi", "--spill-dir", str(tmp_path / "spill"), "--quiet")
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: (memory_group.path / "cgroup.procs").write_text(str(os.getpid())) and None,
    )
    peak = [0]
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.02):
            peak[0] = max(peak[0], memory_group.held_bytes())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        _, errors = process.communicate(timeout=500)
    finally:
        done.set()
        watcher.join()
        process.kill()
    assert process.returncode == 0, errors
    assert memory_group.oom_kills() == 0
    assert 0 < peak[0] < LIMIT_BYTES
    same_rows(f"{large_lineitem}/*.parquet", f"{it.output}/*.parquet")
