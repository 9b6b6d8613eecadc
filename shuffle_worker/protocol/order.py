"""What the supervisor asks of a coordinator, and what the coordinator shows of the job. Plain values."""

from enum import StrEnum

from msgspec import Struct

from shuffle_worker.cluster.members import Membership
from shuffle_worker.protocol.values import CommitRecord, Fault, Limits, Timers


class Order(Struct, frozen=True):
    """*Be the coordinator of this job, with these members, at this epoch.* `host`: the coordinator's own incarnation.

    The job's manifest is the shell's: the machine never looks at it.
    """

    uid: bytes
    epoch: int
    host: int
    membership: Membership
    commit: CommitRecord | None = None
    limits: Limits = Limits()
    timers: Timers = Timers()


class Phase(StrEnum):
    JOINING = "joining"  # asking members what they hold
    PLANNING = "planning"  # fetching or making the plan
    ADMITTING = "admitting"  # members keep the plan and check that they can take part
    RUNNING = "running"  # maps run, groups are written
    PREPARED = "prepared"  # waits for the supervisor's record
    PUBLISHING = "publishing"
    ENDING = "ending"  # members are told the outcome
    COMPLETE = "complete"
    FAILED = "failed"
    CANCELLED = "cancelled"
    SUPERSEDED = "superseded"  # another coordinator was named: nothing is decided here any more

    @property
    def final(self) -> bool:
        return self in (Phase.COMPLETE, Phase.FAILED, Phase.CANCELLED, Phase.SUPERSEDED)


class MemberView(Struct, frozen=True):
    name: str
    incarnation: int
    state: str  # joining, live, suspect, slow, lost
    running: int = 0
    groups: int = 0
    cause: str = ""  # of its loss


class Status(Struct, frozen=True):
    """The job as its coordinator sees it. Rows and bytes are sums over the table of winners and staged groups.

    `rows_in`, `bytes_in`, `rows_sent`, `bytes_sent`: of winning attempts; `rows_running`: read so far by attempts that
    run. `prepared`: the digest that waits for the supervisor's record, or has it.
    """

    phase: Phase
    epoch: int
    message: str = ""
    fault: Fault | None = None
    maps: int = 0
    maps_done: int = 0
    maps_running: int = 0
    groups: int = 0
    groups_sealed: int = 0
    groups_staged: int = 0
    rows_in: int = 0
    bytes_in: int = 0
    rows_sent: int = 0
    bytes_sent: int = 0
    rows_running: int = 0
    rows_out: int = 0
    bytes_out: int = 0
    key_digest: int = 0
    row_digest_in: bytes = b""
    row_digest_out: bytes = b""
    tasks_rerun: int = 0
    attempts_failed: int = 0
    retries: int = 0
    members: tuple[MemberView, ...] = ()
    prepared: str = ""
