"""How a job stands, as the status of a ShuffleJob: built from the coordinator's figures. Pure but for the clock."""

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from shuffle_worker.job.model import JobView
from shuffle_worker.protocol.coordinator import Coordinator, CoordinatorStatus
from shuffle_worker.quantity import format_bytes
from shuffle_worker.spec.status import (
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
