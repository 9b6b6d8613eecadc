"""What a shell tells a machine. Plain values; `on_event(now, event)` takes `now` in seconds of a monotonic clock.

A machine wants a Tick at (or soon after) `next_deadline()`; ticks at other times do no harm.
"""

from msgspec import Struct

from shuffle_worker.cluster.members import Membership
from shuffle_worker.protocol.messages import AnyMessage
from shuffle_worker.protocol.values import Attempt, CommitRecord, Fault, Plan, Sent, Split, Staged, StreamCounts


class Event(Struct, frozen=True, gc=False):
    """Root of all events."""


class Tick(Event, frozen=True):
    """Time has passed."""


class Received(Event, frozen=True):
    """A message came, from the network or from a machine in this process."""

    message: AnyMessage


class PeerDown(Event, frozen=True):
    """This process cannot reach a member. `refused`: its address refuses, or another incarnation answers there."""

    member: int
    refused: bool


# ---- to a coordinator


class Begin(Event, frozen=True):
    """First event of a coordinator."""


class Heard(Event, frozen=True):
    """Heartbeats since the last such event: (member, progress counter)."""

    beats: tuple[tuple[int, int], ...]


class PlanMade(Event, frozen=True):
    """The end of MakePlan."""

    plan: Plan


class PlanFailed(Event, frozen=True):
    """The end of MakePlan."""

    fault: Fault


class Commit(Event, frozen=True):
    """The supervisor has recorded this decision."""

    record: CommitRecord


class Cancel(Event, frozen=True):
    """The supervisor has recorded that the job is to end unpublished."""

    epoch: int
    reason: str


class MembersChanged(Event, frozen=True):
    """The supervisor's member list, when its version is higher than before."""

    membership: Membership


class ManifestSaved(Event, frozen=True):
    """The end of SaveManifest."""

    digest: str


class SaveFailed(Event, frozen=True):
    """The end of SaveManifest. A retryable fault is tried again, within the limit."""

    digest: str
    fault: Fault


class Published(Event, frozen=True):
    """The end of Publish: the output is there."""

    digest: str


class PublishFailed(Event, frozen=True):
    """The end of Publish. A retryable fault is tried again, within the limit."""

    digest: str
    fault: Fault


class Concluded(Event, frozen=True):
    """The supervisor has recorded the end of this job: what is left of it may be removed."""

    epoch: int


# ---- to a participant


class PlanStored(Event, frozen=True):
    """The end of AdoptPlan: this member can take part."""

    digest: bytes


class PlanRefused(Event, frozen=True):
    """The end of AdoptPlan: it cannot, because the storage is not shared, memory or disks do not suffice, ..."""

    digest: bytes
    fault: Fault


class MapProgressed(Event, frozen=True):
    map: int
    attempt: Attempt
    rows: int


class MapPushed(Event, frozen=True):
    """The end of StartMap: all frames were handed to the transport.

    `sent` has one entry for each owner of covered groups, also where nothing was sent (missing entries count as that).
    """

    map: int
    attempt: Attempt
    sent: tuple[Sent, ...]
    split: Split


class MapBroke(Event, frozen=True):
    """The end of StartMap: it failed. `fault.blames`: the owner that could not be reached, if that is why."""

    map: int
    attempt: Attempt
    fault: Fault


class StreamReached(Event, frozen=True):
    """The end of ExpectStream: that many frames are here; `counts` is what the store counted."""

    map: int
    attempt: Attempt
    counts: StreamCounts


class StreamBroken(Event, frozen=True):
    """A stream can never be complete: a gap, a checksum, memory or disk. Also for streams not (yet) expected."""

    map: int
    attempt: Attempt
    fault: Fault


class StreamWon(Event, frozen=True):
    """The end of WinStream."""

    map: int
    attempt: Attempt


class WinFailed(Event, frozen=True):
    """The end of WinStream: frames that were here are not any more."""

    map: int
    attempt: Attempt
    fault: Fault


class GroupStaged(Event, frozen=True):
    """One group of SealGroups is written."""

    staged: Staged


class GroupBroke(Event, frozen=True):
    """A placed group cannot be delivered: its spilled frames or its file are lost, or the sink refuses."""

    group: int
    generation: int
    fault: Fault


class LeaveAsked(Event, frozen=True):
    """This process will end soon: leave the job."""

    reason: str
