"""The `.status` of a ShuffleJob: what the workers' API answers, `shufflectl --output json` prints and the custom
resource holds. Pure data.

Figures are sums over the table of winners. Times are RFC 3339 in UTC; 64-bit digests are 16 hexadecimal digits and
128-bit ones 32, because a JSON number does not hold them.
"""

from enum import StrEnum
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

REFUSED = "Refused"
"""The reason of a Failed condition when the user can mend it and a retry cannot: `shufflectl run` then ends with 2."""


class Phase(StrEnum):
    """For display; machines read the conditions."""

    QUEUED = "Queued"
    PLANNING = "Planning"
    RUNNING = "Running"
    PREPARED = "Prepared"
    PUBLISHING = "Publishing"
    SUSPENDED = "Suspended"
    COMPLETE = "Complete"
    FAILED = "Failed"
    CANCELLED = "Cancelled"

    @property
    def final(self) -> bool:
        return self in (Phase.COMPLETE, Phase.FAILED, Phase.CANCELLED)


class ConditionStatus(StrEnum):
    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"


class _Part(Struct, frozen=True, rename="camel"):
    """Every object of a status. Unknown fields are ignored, so that an older reader takes a newer writer's status."""


class Condition(_Part, frozen=True):
    """As Kubernetes defines conditions."""

    type: Annotated[str, Meta(description="Complete, Failed, Finished, Progressing, Suspended or Queued.")]
    status: Annotated[ConditionStatus, Meta(description="True, False or Unknown.")]
    reason: Annotated[str, Meta(description="One CamelCase word for machines.", min_length=1, max_length=1024)]
    message: Annotated[str, Meta(description="A sentence for people.", max_length=32_768)] = ""
    last_transition_time: Annotated[str, Meta(description="When the status last changed.")] = ""
    observed_generation: Annotated[int, Meta(description="The generation of the spec this speaks of.", ge=0)] = 0


class MapTasks(_Part, frozen=True):
    """Map tasks by state."""

    total: Annotated[int, Meta(description="Splits of the input.")] = 0
    done: Annotated[int, Meta(description="Tasks with a winning attempt.")] = 0
    running: Annotated[int, Meta(description="Tasks with an attempt under way.")] = 0
    failed: Annotated[int, Meta(description="Attempts that failed.")] = 0
    rerun: Annotated[int, Meta(description="Tasks that ran again after they had won, for lost partitions.")] = 0


class Partitions(_Part, frozen=True):
    """Partitions by state."""

    total: Annotated[int, Meta(description="Partitions of the shuffle.")] = 0
    sealed: Annotated[int, Meta(description="Partitions that will receive nothing more.")] = 0
    staged: Annotated[int, Meta(description="Partitions whose file is written and waits to be published.")] = 0


class Stats(_Part, frozen=True):
    """Figures of the job."""

    rows_in: Annotated[int, Meta(description="Rows read.")] = 0
    rows_out: Annotated[int, Meta(description="Rows written.")] = 0
    seconds: Annotated[float, Meta(description="Wall time from start to end, or so far.")] = 0.0
    rows_per_second: Annotated[float, Meta(description="rowsIn / seconds.")] = 0.0
    bytes_in: Annotated[int, Meta(description="Bytes of the input that were read.")] = 0
    bytes_shuffled: Annotated[int, Meta(description="Bytes of rows that were sent to their owners.")] = 0
    bytes_wire: Annotated[int, Meta(description="Bytes that crossed a socket, after compression.")] = 0
    bytes_spilled: Annotated[int, Meta(description="Bytes written to spill disks.")] = 0
    bytes_out: Annotated[int, Meta(description="Bytes of the output files.")] = 0
    files_out: Annotated[int, Meta(description="Output files.")] = 0
    tasks_rerun: Annotated[int, Meta(description="Map tasks that ran again for lost partitions.")] = 0
    retries: Annotated[int, Meta(description="Map attempts beyond the first.")] = 0
    coordinators: Annotated[int, Meta(description="Coordinators the job has had.")] = 0
    skew: Annotated[float, Meta(description="Rows of the largest partition over the mean.")] = 0.0
    partition_rows: Annotated[
        tuple[int, ...],
        Meta(description="Rows of partitions, in order of the partitions, summed into at most 64 bins.", max_length=64),
    ] = ()
    key_digest: Annotated[str, Meta(description="Sum of mixed key hashes over the output, mod 2^64.")] = ""
    row_digest_in: Annotated[str, Meta(description="verify: Rows: sum of row digests read, mod 2^128.")] = ""
    row_digest_out: Annotated[str, Meta(description="verify: Rows: sum of row digests written, mod 2^128.")] = ""


class CommitRecord(_Part, frozen=True):
    """The supervisor's decision to publish exactly one manifest."""

    epoch: Annotated[int, Meta(description="The epoch whose coordinator prepared it.", ge=0)]
    digest: Annotated[str, Meta(description="Digest of the manifest of output files.")]


class JobStatus(_Part, frozen=True):
    """Where a job stands."""

    phase: Annotated[Phase, Meta(description="In one word.")] = Phase.QUEUED
    progress: Annotated[str, Meta(description="Done of all work, as text.", max_length=8)] = "0%"
    message: Annotated[str, Meta(description="What the job does now, or why it ended.", max_length=32_768)] = ""
    start_time: Annotated[str | None, Meta(description="When the first coordinator was called.")] = None
    completion_time: Annotated[str | None, Meta(description="When the job ended.")] = None
    coordinator: Annotated[str, Meta(description="The worker that coordinates the job.")] = ""
    epoch: Annotated[int, Meta(description="Counts the coordinators of the job.", ge=0)] = 0
    map_tasks: Annotated[MapTasks, Meta(description="Map tasks by state.")] = MapTasks()
    partitions: Annotated[Partitions, Meta(description="Partitions by state.")] = Partitions()
    stats: Annotated[Stats, Meta(description="Figures.")] = Stats()
    spilled: Annotated[str, Meta(description="stats.bytesSpilled for people.", max_length=16)] = "0"
    conditions: Annotated[tuple[Condition, ...], Meta(description="One of each type.", max_length=16)] = ()
    commit: Annotated[CommitRecord | None, Meta(description="Set before the output is published.")] = None
    observed_generation: Annotated[int, Meta(description="The generation of the spec this speaks of.", ge=0)] = 0

    @property
    def refused(self) -> bool:
        """Failed for a reason that lies in the manifest, the input or the output."""
        failed = condition_of(self, "Failed")
        return failed is not None and failed.status is ConditionStatus.TRUE and failed.reason == REFUSED


def digest64(value: int) -> str:
    """A 64-bit digest as a status writes it."""
    return f"{value & 0xFFFFFFFFFFFFFFFF:016x}"


def digest128(value: int) -> str:
    """A 128-bit digest as a status writes it."""
    return f"{value & ((1 << 128) - 1):032x}"


def percent(done: float, total: float) -> str:
    """`42%`, and 100% only when nothing is left."""
    if total <= 0:
        return "0%"
    return f"{100 if done >= total else min(99, int(100 * done / total))}%"


def condition_of(status: JobStatus, type_: str) -> Condition | None:
    return next((condition for condition in status.conditions if condition.type == type_), None)


def with_condition(status: JobStatus, condition: Condition) -> JobStatus:
    """The status with this condition in the place of the one of its type; the time of a transition that did not
    happen is kept."""
    before = condition_of(status, condition.type)
    if before is not None and before.status == condition.status:
        condition = msgspec.structs.replace(condition, last_transition_time=before.last_transition_time)
    others = [other for other in status.conditions if other.type != condition.type]
    return msgspec.structs.replace(status, conditions=tuple(sorted([*others, condition], key=lambda each: each.type)))
