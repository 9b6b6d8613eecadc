"""Whole jobs by `shufflectl run`, on real data, in real processes."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import psutil
import pytest
import yaml

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def lineitem(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of TPC-H lineitem at scale 0.1: 600,572 rows in 4 files."""
    folder = tmp_path_factory.mktemp("tpch")
    command = [Path(sys.executable).parent / "tpchgen-cli", "parquet", "-s", "0.1", "--tables=lineitem", "--parts=4"]
    subprocess.run([*command, "--row-group-bytes=1000000", f"--output-dir={folder}"], check=True, timeout=120)
    return folder / "lineitem"


@dataclass
class Job:
    """A manifest in a file, and where its output goes."""

    path: Path
    output: Path

    def command(self, *options: str) -> list[str]:
        return [sys.executable, "-m", "shuffle_worker.cli.main", "run", "-f", str(self.path), "-o", "json", *options]

    def start(self, *options: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            self.command(*options), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT
        )

    def run(self, *options: str, timeout_s: float = 120) -> dict[str, Any]:
        """The status of a job that must end well."""
        status, code, errors = self.try_run(*options, timeout_s=timeout_s)
        assert code == 0, errors
        assert status["phase"] == "Complete"
        return status

    def try_run(self, *options: str, timeout_s: float = 120) -> tuple[dict[str, Any], int, str]:
        process = self.start(*options)
        try:
            out, errors = process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            process.kill()
            _, errors = process.communicate()
            pytest.fail(f"the job did not end within {timeout_s:g} s: {errors[-3000:]}")
        return (json.loads(out) if out else {}), process.returncode, errors


@pytest.fixture
def job(tmp_path: Path, lineitem: Path) -> Callable[..., Job]:
    """Writes a manifest; `changes` replace parts of its spec."""

    def write(**changes: Any) -> Job:
        output = tmp_path / "out"
        spec = {
            "source": {"parquet": {"paths": [f"{lineitem}/*.parquet"]}},
            "shuffle": {"type": "Hash", "keys": ["l_orderkey"], "partitions": 8},
            "sink": {"parquet": {"path": str(output)}},
            "verify": "Rows",
            **changes,
        }
        manifest = {
            "apiVersion": "shuffle-operator.dev/v1alpha1",
            "kind": "ShuffleJob",
            "metadata": {"name": "test"},
            "spec": spec,
        }
        path = tmp_path / "job.yaml"
        path.write_text(yaml.safe_dump(manifest), encoding="utf-8")
        return Job(path, output)

    return write


@pytest.fixture
def same_rows() -> Callable[[str, str], None]:
    """Every row of one is in the other once: counts, and a sum of whole-row hashes that no order changes."""

    def compare(source: str, output: str) -> None:
        query = "SELECT count(*), sum(hash(t)::HUGEINT) FROM (SELECT * FROM read_parquet('{}')) t"
        with duckdb.connect() as connection:
            expected = connection.execute(query.format(source)).fetchone()
            assert connection.execute(query.format(output)).fetchone() == expected

    return compare


@pytest.fixture
def workers_of() -> Callable[["subprocess.Popen[str]", int], list[psutil.Process]]:
    return _workers_of


def _workers_of(process: "subprocess.Popen[str]", count: int, timeout_s: float = 30) -> list[psutil.Process]:
    """The worker processes of a running `shufflectl run`, once there are `count`."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        try:
            found = [each for each in psutil.Process(process.pid).children() if "shuffle_worker.main" in each.cmdline()]
        except psutil.NoSuchProcess:
            break
        if len(found) >= count:
            return sorted(found, key=lambda each: each.pid)
        time.sleep(0.02)
    pytest.fail(f"there were never {count} workers")


@pytest.fixture(autouse=True)
def no_process_is_left() -> Iterator[None]:
    """Whatever a test does, its jobs leave no process."""
    yield
    deadline = time.monotonic() + 15
    while left := [each for each in psutil.Process(os.getpid()).children(recursive=True) if _is_ours(each)]:
        if time.monotonic() > deadline:
            for each in left:
                each.send_signal(signal.SIGKILL)
            pytest.fail(f"processes were left: {left}")
        time.sleep(0.05)


def _is_ours(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE and "shuffle_worker" in " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return False
