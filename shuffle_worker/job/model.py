"""What a supervisor and a worker say to each other about jobs. Pure; the HTTP API's types."""

from typing import Any

import msgspec

from shuffle_worker.cluster.members import Member
from shuffle_worker.spec.status import JobStatus


class CommitOrder(msgspec.Struct, frozen=True, rename="camel"):
    """The supervisor's decision to publish exactly the manifest of this digest."""

    epoch: int
    digest: str


class JobOrder(msgspec.Struct, frozen=True, rename="camel"):
    """*Be the coordinator of this job, with these members, at this epoch.*"""

    uid: str
    epoch: int
    manifest: dict[str, Any]
    members: tuple[Member, ...]
    membership_version: int = 1
    commit: CommitOrder | None = None


class CancelOrder(msgspec.Struct, frozen=True, rename="camel"):
    epoch: int
    reason: str = "cancelled"


class ConcludeOrder(msgspec.Struct, frozen=True, rename="camel"):
    """The supervisor has recorded the job's end: no other coordinator will come."""

    epoch: int


class JobView(msgspec.Struct, frozen=True, rename="camel"):
    """One job as its coordinator sees it. `prepared` is the digest of the manifest that waits for the commit."""

    uid: str
    epoch: int
    version: int
    status: JobStatus
    prepared: str | None = None


class LocalFigures(msgspec.Struct, frozen=True, rename="camel"):
    """What one worker did for a job: bytes it sent to others, and bytes spilled here since the job came.

    Spilled bytes are counted for the process: jobs that run at once share the figure.
    """

    bytes_wire: int
    bytes_spilled: int
