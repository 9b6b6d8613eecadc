"""The supervisor of an embedded job: starts workers, names the coordinator, replaces it, records the commit, ends all.

It decides nothing about data. What it orders it has written down first (`record`), so that a coordinator named later
is told exactly what its predecessor was told.
"""

import contextlib
import logging
import os
import secrets
import shutil
import signal
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import msgspec

from shuffle_worker.errors import AdmissionError, Cancelled, DeadlineExceeded, PeerError, PeerLost, UserError
from shuffle_worker.quantity import format_bytes
from shuffle_worker.spec.model import ShuffleJob
from shuffle_worker.spec.paths import scheme_of, staging_folder
from shuffle_worker.spec.status import JobStatus, Phase
from shuffle_worker.supervisor.client import WorkerClient
from shuffle_worker.supervisor.options import RunOptions
from shuffle_worker.supervisor.processes import Endpoint, WorkerProcess, WorkerShare, end_all
from shuffle_worker.supervisor.record import Commit, Record, RecordFile

log = logging.getLogger(__name__)

# What this process itself holds: the rest of the total is shared among the workers.
SUPERVISOR_BYTES = 48 << 20
LEAST_WORKER_BYTES = 192 << 20
POLL_S = 0.1
SILENCE_S = 15.0
FIGURES_S = 1.0
CANCEL_S = 10.0
FINAL = frozenset({Phase.COMPLETE, Phase.FAILED, Phase.CANCELLED})


@dataclass(frozen=True)
class Started:
    """A worker process that is ready, and how to call it."""

    process: WorkerProcess
    endpoint: Endpoint
    client: WorkerClient


def run_job(job: ShuffleJob, options: RunOptions, on_status: Callable[[JobStatus], None]) -> JobStatus:
    """Run one job on worker processes of its own, and return its last status.

    :raises UserError: the job is refused. :raises Cancelled: interrupted; nothing is left behind.
    """
    uid = uuid.uuid4()
    work_dir = Path(tempfile.mkdtemp(prefix=f"shuffle-{uid.hex[:8]}-"))
    workers: list[WorkerProcess] = []
    try:
        with interruptible() as interrupted:
            started = _start(work_dir, options, workers)
            return Supervisor(job, uid, started, RecordFile(work_dir / "record.json")).run(on_status, interrupted)
    finally:
        end_all(workers)
        remove_staging(job, uid)
        shutil.rmtree(work_dir, ignore_errors=True)


def remove_staging(job: ShuffleJob, uid: uuid.UUID) -> None:
    """What workers that were killed left of their output; those that ended in order have removed it themselves."""
    path = job.spec.sink.files.path
    if scheme_of(path):
        return  # uploads of killed workers end by the bucket's lifecycle rule
    staging = staging_folder(path, uid.bytes)
    shutil.rmtree(staging, ignore_errors=True)
    with contextlib.suppress(OSError):
        staging.parent.rmdir()  # not when another job stages there


def worker_share(options: RunOptions, work_dir: Path) -> WorkerShare:
    """Each worker's part of the total; AdmissionError when that is too little to run at all."""
    memory_bytes = (options.memory_bytes - SUPERVISOR_BYTES) // options.workers
    if memory_bytes < LEAST_WORKER_BYTES:
        least = LEAST_WORKER_BYTES * options.workers + SUPERVISOR_BYTES
        raise AdmissionError(
            f"--memory {format_bytes(options.memory_bytes)} is too small for {options.workers} workers, which need at "
            f"least {format_bytes(least)} together: raise --memory or lower --workers"
        )
    spill_dirs = options.spill_dirs or (work_dir / "spill",)
    threads = max(1, (os.cpu_count() or 1) // options.workers)
    return WorkerShare(memory_bytes, tuple(spill_dirs), threads)


def _start(work_dir: Path, options: RunOptions, workers: list[WorkerProcess]) -> list[Started]:
    """Start all workers side by side; those started are in `workers` even when this raises."""
    share = worker_share(options, work_dir)
    token = secrets.token_urlsafe(32)
    token_file = work_dir / "token"
    token_file.touch(mode=0o600)
    token_file.write_text(token, encoding="utf-8")
    for directory in share.spill_dirs:
        directory.mkdir(parents=True, exist_ok=True)
    workers.extend(WorkerProcess(f"worker-{n}", work_dir, share, token_file) for n in range(options.workers))
    endpoints = [worker.await_ready() for worker in workers]
    return [
        Started(worker, endpoint, WorkerClient(worker.name, "127.0.0.1", endpoint.http_port, token))
        for worker, endpoint in zip(workers, endpoints, strict=True)
    ]


@contextmanager
def interruptible() -> Iterator[threading.Event]:
    """SIGINT and SIGTERM set the event while this lasts; only the main thread can be interrupted so."""
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return

    def note(_signal: int, _frame: FrameType | None) -> None:
        event.set()

    previous = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield event
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


class Supervisor:
    """One job over workers that run already."""

    def __init__(self, job: ShuffleJob, uid: uuid.UUID, workers: list[Started], record_file: RecordFile) -> None:
        self._job = job
        self._workers = workers
        self._record_file = record_file
        self._record = Record(uid=str(uid))
        self._coordinator: Started | None = None
        self._heard_at = 0.0
        self._figures: dict[str, dict[str, int]] = {}

    def run(self, on_status: Callable[[JobStatus], None], interrupted: threading.Event) -> JobStatus:
        """Until the job is final."""
        self._appoint()
        while True:
            if interrupted.is_set():
                self._cancel()
            view = self._poll()
            if view is not None:
                status = self._completed(msgspec.convert(view["status"], JobStatus))
                on_status(status)
                if status.phase in FINAL:
                    self._conclude()
                    return status
                if view.get("prepared") and self._record.commit is None:
                    self._commit(view["prepared"])
            interrupted.wait(POLL_S)

    def _alive(self) -> list[Started]:
        return [worker for worker in self._workers if worker.process.running]

    def _appoint(self) -> None:
        """Name the next coordinator, at the next epoch, among the workers that run.

        :raises PeerLost: no worker is left. :raises UserError: the coordinator refuses the job.
        """
        before = self._coordinator
        while True:
            candidates = [worker for worker in self._alive() if worker is not before] or self._alive()
            if not candidates:
                ends = "; ".join(f"{worker.process.name}: {worker.process.ending()}" for worker in self._workers)
                raise PeerLost(f"no worker is left to coordinate the job ({ends})")
            chosen = candidates[self._record.epoch % len(candidates)]
            self._record = msgspec.structs.replace(
                self._record, epoch=self._record.epoch + 1, coordinator=chosen.endpoint.name
            )
            self._record_file.write(self._record)
            try:
                chosen.client.call("PUT", f"/v1/jobs/{self._record.uid}", self._order(), timeout_s=SILENCE_S)
            except (PeerLost, DeadlineExceeded) as error:
                log.warning("%s could not be made coordinator: %s", chosen.endpoint.name, error)
                before = chosen
                continue
            self._coordinator = chosen
            self._heard_at = time.monotonic()
            return

    def _order(self) -> dict[str, Any]:
        commit = self._record.commit
        return {
            "uid": self._record.uid,
            "epoch": self._record.epoch,
            "manifest": msgspec.to_builtins(self._job),
            "members": [
                {
                    "name": worker.endpoint.name,
                    "incarnation": worker.endpoint.incarnation,
                    "host": "127.0.0.1",
                    "port": worker.endpoint.data_port,
                }
                for worker in self._alive()
            ],
            "membershipVersion": self._record.epoch,
            "commit": None if commit is None else {"epoch": commit.epoch, "digest": commit.digest},
        }

    def _poll(self) -> dict[str, Any] | None:
        """The job as its coordinator sees it; None when it was silent and, if for long, has been replaced."""
        assert self._coordinator is not None
        try:
            view: dict[str, Any] = self._coordinator.client.call("GET", f"/v1/jobs/{self._record.uid}")
        except (PeerLost, DeadlineExceeded) as error:
            silent_s = time.monotonic() - self._heard_at
            if not self._coordinator.process.running or silent_s > SILENCE_S:
                log.warning("replacing the coordinator: %s", error)
                self._appoint()
            return None
        self._heard_at = time.monotonic()
        return view

    def _commit(self, digest: str) -> None:
        """Record the decision, then tell it. A coordinator that does not hear it is told again with its order."""
        assert self._coordinator is not None
        self._record = msgspec.structs.replace(self._record, commit=Commit(self._record.epoch, digest))
        self._record_file.write(self._record)
        body = {"epoch": self._record.epoch, "digest": digest}
        try:
            self._coordinator.client.call("POST", f"/v1/jobs/{self._record.uid}/commit", body)
        except (PeerLost, DeadlineExceeded) as error:
            log.warning("the commit was not acknowledged: %s", error)
            self._appoint()

    def _completed(self, status: JobStatus) -> JobStatus:
        """The status with what each worker alone knows; one that is gone counts with what it last said."""
        for worker in self._alive():
            try:
                self._figures[worker.endpoint.name] = worker.client.call(
                    "GET", f"/v1/jobs/{self._record.uid}/figures", timeout_s=FIGURES_S
                )
            except (PeerError, UserError) as error:
                log.debug("no figures: %s", error)
        spilled = sum(figures["bytesSpilled"] for figures in self._figures.values())
        wire = sum(figures["bytesWire"] for figures in self._figures.values())
        stats = msgspec.structs.replace(status.stats, bytes_spilled=spilled, bytes_wire=wire)
        coordinator = self._record.coordinator
        return msgspec.structs.replace(status, stats=stats, spilled=format_bytes(spilled), coordinator=coordinator)

    def _conclude(self) -> None:
        """Record that the job has ended, and let its coordinator remove what is left of it."""
        assert self._coordinator is not None
        self._record = msgspec.structs.replace(self._record, concluded=True)
        self._record_file.write(self._record)
        try:
            body = {"epoch": self._record.epoch}
            self._coordinator.client.call("POST", f"/v1/jobs/{self._record.uid}/conclude", body)
        except PeerError as error:
            log.warning("the end was not acknowledged: %s", error)

    def _cancel(self) -> None:
        """Ask for the end, wait for it, and raise Cancelled."""
        assert self._coordinator is not None
        path = f"/v1/jobs/{self._record.uid}"
        deadline = time.monotonic() + CANCEL_S
        try:
            body = {"epoch": self._record.epoch, "reason": "interrupted"}
            self._coordinator.client.call("POST", f"{path}/cancel", body)
            while time.monotonic() < deadline:
                if self._coordinator.client.call("GET", path)["status"]["phase"] in FINAL:
                    self._conclude()
                    break
                time.sleep(POLL_S / 2)
        except PeerError as error:
            log.warning("the job could not be cancelled in order: %s", error)
        raise Cancelled("interrupted: the job was cancelled and its files were removed")
