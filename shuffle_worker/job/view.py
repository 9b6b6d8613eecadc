"""How a job stands, as the status of a ShuffleJob: built from the coordinator's figures. Pure but for the clock."""

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from uuid import UUID

from shuffle_worker.errors import UserError
from shuffle_worker.job.model import JobView
from shuffle_worker.protocol.order import Phase as CoordinatorPhase
from shuffle_worker.protocol.order import Status
from shuffle_worker.spec.status import (
    REFUSED,
    CommitRecord,
    Condition,
    ConditionStatus,
    JobStatus,
    MapTasks,
    Partitions,
    Phase,
    Stats,
    digest64,
    digest128,
    percent,
)

HISTOGRAM_BINS = 64


@dataclass
class JobClock:
    """When a job began and ended here. The duration is of a monotonic clock."""

    started_at: str
    began: float
    ended_at: str | None = None
    seconds: float | None = None

    @staticmethod
    def start() -> "JobClock":
        return JobClock(timestamp(), time.monotonic())

    def stop(self) -> None:
        """Note the end, once."""
        if self.seconds is None:
            self.seconds = time.monotonic() - self.began
            self.ended_at = timestamp()


def timestamp() -> str:
    """Now, as RFC 3339 in UTC."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


_PHASES = {
    CoordinatorPhase.JOINING: Phase.PLANNING,
    CoordinatorPhase.PLANNING: Phase.PLANNING,
    CoordinatorPhase.ADMITTING: Phase.PLANNING,
    CoordinatorPhase.RUNNING: Phase.RUNNING,
    CoordinatorPhase.PREPARED: Phase.PREPARED,
    CoordinatorPhase.PUBLISHING: Phase.PUBLISHING,
    CoordinatorPhase.ENDING: Phase.PUBLISHING,
    CoordinatorPhase.COMPLETE: Phase.COMPLETE,
    CoordinatorPhase.FAILED: Phase.FAILED,
    CoordinatorPhase.CANCELLED: Phase.CANCELLED,
    CoordinatorPhase.SUPERSEDED: Phase.QUEUED,
}


@dataclass(frozen=True)
class Measured:
    """What the coordinator's machine does not count.

    Bytes on the wire and spilled are each worker's own, and summed by the supervisor.
    """

    partitions: int = 0
    bytes_in: int = 0
    partition_rows: tuple[int, ...] = ()
    files: int = 0


def build_view(uid: UUID, status: Status, clock: JobClock, version: int, measured: Measured) -> JobView:
    """The job as its supervisor polls it."""
    seconds = clock.seconds if clock.seconds is not None else time.monotonic() - clock.began
    prepared = status.prepared if status.phase is CoordinatorPhase.PREPARED else None
    return JobView(str(uid), status.epoch, version, build_status(status, clock, seconds, measured), prepared)


def build_status(status: Status, clock: JobClock, seconds: float, measured: Measured) -> JobStatus:
    """The status as the custom resource holds it."""
    phase = _PHASES[status.phase]
    return JobStatus(
        phase=phase,
        progress="100%" if phase is Phase.COMPLETE else percent(*_progress(status)),
        message=status.fault.sentence if status.fault else status.message,
        start_time=clock.started_at,
        completion_time=clock.ended_at,
        epoch=status.epoch,
        map_tasks=MapTasks(
            total=status.maps,
            done=status.maps_done,
            running=status.maps_running,
            failed=status.attempts_failed,
            rerun=status.tasks_rerun,
        ),
        partitions=Partitions(
            total=measured.partitions,
            sealed=_share(status.groups_sealed, status.groups, measured.partitions),
            staged=_share(status.groups_staged, status.groups, measured.partitions),
        ),
        stats=build_stats(status, seconds, measured),
        conditions=build_conditions(status, phase, clock.ended_at or clock.started_at),
        commit=CommitRecord(status.epoch, status.prepared) if phase is Phase.COMPLETE else None,
    )


def build_stats(status: Status, seconds: float, measured: Measured) -> Stats:
    rows = measured.partition_rows
    mean = sum(rows) / len(rows) if rows else 0
    return Stats(
        rows_in=status.rows_in,
        rows_out=sum(rows) if rows else status.rows_out,
        seconds=round(seconds, 3),
        rows_per_second=round(status.rows_in / seconds, 1) if seconds else 0.0,
        bytes_in=measured.bytes_in,
        bytes_shuffled=status.bytes_sent,
        bytes_out=status.bytes_out,
        files_out=measured.files,
        tasks_rerun=status.tasks_rerun,
        retries=status.retries,
        coordinators=status.epoch,
        skew=round(max(rows) / mean, 3) if mean else 0.0,
        partition_rows=histogram(rows),
        key_digest=digest64(status.key_digest),
        row_digest_in=_digest128(status.row_digest_in),
        row_digest_out=_digest128(status.row_digest_out),
    )


def build_conditions(status: Status, phase: Phase, when: str) -> tuple[Condition, ...]:
    """Complete, Failed and Finished at the end; Progressing before it."""
    if not phase.final:
        return (Condition("Progressing", ConditionStatus.TRUE, phase.value, status.message, when),)
    fault = status.fault
    reason, message = phase.value, status.message
    if fault is not None:
        reason = REFUSED if issubclass(type(fault.to_error()), UserError) else fault.kind
        message = fault.sentence
    complete, failed = phase is Phase.COMPLETE, phase is not Phase.COMPLETE
    return (
        Condition("Complete", _truth(complete), reason, message, when),
        Condition("Failed", _truth(failed), reason, message, when),
        Condition("Finished", ConditionStatus.TRUE, reason, message, when),
    )


def histogram(rows: tuple[int, ...]) -> tuple[int, ...]:
    """Rows of partitions in order, summed into at most 64 bins."""
    if len(rows) <= HISTOGRAM_BINS:
        return rows
    edges = [len(rows) * number // HISTOGRAM_BINS for number in range(HISTOGRAM_BINS + 1)]
    return tuple(sum(rows[start:end]) for start, end in pairwise(edges))


def _progress(status: Status) -> tuple[float, float]:
    """Maps are nine tenths of the work, files the last one."""
    maps = status.maps_done / status.maps if status.maps else 0.0
    groups = status.groups_staged / status.groups if status.groups else 0.0
    return 0.9 * maps + 0.09 * groups, 1.0


def _share(groups: int, of: int, partitions: int) -> int:
    return groups * partitions // of if of else 0


def _digest128(digest: bytes) -> str:
    return digest128(int.from_bytes(digest, "little")) if digest else ""


def _truth(value: bool) -> ConditionStatus:
    return ConditionStatus.TRUE if value else ConditionStatus.FALSE
