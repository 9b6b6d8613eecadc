"""Jobs whose processes are killed, stopped and interrupted. The output is right, or the job says why there is none."""

import json
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from shuffle_worker.supervisor.client import WorkerClient

Workers = Callable[["subprocess.Popen[str]", int], list[psutil.Process]]


@pytest.fixture(scope="session")
def larger_lineitem(lineitem: Path) -> str:
    """The same files eight times: enough work to be interrupted in the middle."""
    folder = lineitem.parent / "larger"
    folder.mkdir()
    for copy in range(8):
        for path in lineitem.glob("*.parquet"):
            (folder / f"{copy}-{path.name}").hardlink_to(path)
    return f"{folder}/*.parquet"


def await_maps(workers: list[psutil.Process], least: int, timeout_s: float = 60) -> None:
    """Ask the coordinator, as an operator would, until so many map tasks have won."""
    settings = next(each.environ() for each in workers if each.environ()["SHUFFLE_NAME"] == "worker-0")
    ready, token = Path(settings["SHUFFLE_READY_FILE"]), Path(settings["SHUFFLE_TOKEN_FILE"])
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if ready.exists():
            port = json.loads(ready.read_text(encoding="utf-8"))["http_port"]
            client = WorkerClient("worker-0", "127.0.0.1", port, token.read_text(encoding="utf-8"))
            jobs = client.call("GET", "/v1/jobs")["jobs"]
            if jobs and jobs[0]["status"].get("mapTasks", {}).get("done", 0) >= least:
                return
        time.sleep(0.005)
    pytest.fail(f"{least} map tasks never won")


@pytest.mark.parametrize("victim", ["coordinator", "other"])
def test_a_worker_killed_in_the_middle_changes_nothing(
    job: Callable[..., Any],
    larger_lineitem: str,
    same_rows: Callable[[str, str], None],
    workers_of: Workers,
    victim: str,
) -> None:
    it = job(source={"parquet": {"paths": [larger_lineitem]}})
    process = it.start("--workers", "3")
    workers = workers_of(process, 3)
    await_maps(workers, 4)
    named = {name: worker for worker in workers for name in [worker.environ()["SHUFFLE_NAME"]]}
    # The first coordinator is chosen by the epoch before it, 0.
    chosen = named["worker-0" if victim == "coordinator" else "worker-2"]
    chosen.send_signal(signal.SIGKILL)
    out, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    status = json.loads(out)
    assert 0 < status["stats"]["tasksRerun"] < status["mapTasks"]["total"]
    same_rows(larger_lineitem, f"{it.output}/*.parquet")


def test_a_stopped_coordinator_is_replaced_and_ended(
    job: Callable[..., Any], larger_lineitem: str, same_rows: Callable[[str, str], None], workers_of: Workers
) -> None:
    it = job(source={"parquet": {"paths": [larger_lineitem]}})
    process = it.start("--workers", "3")
    workers = workers_of(process, 3)
    await_maps(workers, 4)
    coordinator = next(each for each in workers if each.environ()["SHUFFLE_NAME"] == "worker-0")
    coordinator.send_signal(signal.SIGSTOP)
    _, errors = process.communicate(timeout=150)
    assert process.returncode == 0, errors
    same_rows(larger_lineitem, f"{it.output}/*.parquet")


def test_all_workers_killed_fails_with_a_sentence(
    job: Callable[..., Any], larger_lineitem: str, workers_of: Workers
) -> None:
    it = job(source={"parquet": {"paths": [larger_lineitem]}})
    process = it.start()
    workers = workers_of(process, 2)
    await_maps(workers, 4)
    for worker in workers:
        worker.send_signal(signal.SIGKILL)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "no worker is left" in errors
    assert "SIGKILL" in errors
    assert not it.output.exists()


def test_ctrl_c_leaves_nothing(
    job: Callable[..., Any], larger_lineitem: str, workers_of: Workers, tmp_path: Path
) -> None:
    spill = tmp_path / "spill"
    it = job(source={"parquet": {"paths": [larger_lineitem]}})
    process = it.start("--spill-dir", str(spill))
    workers = workers_of(process, 2)
    await_maps(workers, 4)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130, errors
    assert "Traceback" not in errors
    left = [path for path in tmp_path.rglob("*") if path.is_file() and path.name != "job.yaml"]
    assert left == []


def test_the_supervisor_killed_takes_its_workers_along(
    job: Callable[..., Any], larger_lineitem: str, workers_of: Workers
) -> None:
    it = job(source={"parquet": {"paths": [larger_lineitem]}})
    process = it.start()
    workers = workers_of(process, 2)
    await_maps(workers, 4)
    process.kill()
    process.communicate(timeout=10)
    _, alive = psutil.wait_procs(workers, timeout=10)
    assert alive == []
    assert not it.output.exists()


def test_a_deadline_ends_a_job(job: Callable[..., Any], larger_lineitem: str) -> None:
    it = job(source={"parquet": {"paths": [larger_lineitem]}}, activeDeadlineSeconds=1)
    status, code, errors = it.try_run()
    assert code == 1
    assert "activeDeadlineSeconds" in errors
    assert status["phase"] == "Failed"
    assert not it.output.exists()
