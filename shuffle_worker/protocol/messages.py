"""What coordinator, mappers and owners say to each other, and its bytes.

Every message names its job, the epoch it speaks for, who sends it and to whom it goes (incarnations): a process that
was restarted on the same address is another one. All requests are sent again until answered, so every handler is
idempotent; the answer is named beside each. Fences are the receiver's: see `participant` and `coordinator`.
"""

import msgspec
from msgspec import Struct

from shuffle_worker.cluster.members import Membership
from shuffle_worker.errors import Corrupted
from shuffle_worker.protocol.values import (
    Attempt,
    EndKind,
    Fault,
    Placement,
    Plan,
    Split,
    Staged,
    StreamCounts,
    StreamReport,
    Timers,
)

UID_BYTES = 16


class Message(Struct, frozen=True, array_like=True, tag=True, gc=False):
    """The head of every message. `sender` and `target` are incarnations."""

    uid: bytes
    epoch: int
    sender: int
    target: int


# ---- coordinator -> member


class Join(Message, frozen=True):
    """Take me as this epoch's coordinator. Answered by Joined, or Superseded."""

    membership: Membership
    timers: Timers


class FetchPlan(Message, frozen=True):
    """Answered by PlanCopy."""

    digest: bytes


class StorePlan(Message, frozen=True):
    """Keep this plan, and check that you can take part. `fresh`: forget whatever you hold of this job first.

    A member that holds another plan forgets all of it in any case. Answered by Planned.
    """

    plan: Plan
    fresh: bool


class Place(Message, frozen=True):
    """The placement table; an older one changes nothing. Answered by Placed."""

    membership: Membership
    placement: Placement


class Run(Message, frozen=True):
    """Run a map for all groups of these generations, with a table of at least `version`. Answered by Running."""

    map: int
    attempt: Attempt
    version: int
    generations: tuple[int, ...]


class Decided(Message, frozen=True):
    """The answer to MapPrepared and MapFailed: forget the attempt."""

    map: int
    attempt: Attempt
    won: bool


class Winner(Message, frozen=True):
    """This attempt's stream is the map's data at these generations. Answered by Won, or GroupsLost."""

    map: int
    attempt: Attempt
    generations: tuple[int, ...]


class Discard(Message, frozen=True):
    """This attempt will never win: end it, free its frames. Answered by Discarded."""

    map: int
    attempt: Attempt


class Seal(Message, frozen=True):
    """All maps have won at this generation: write your groups of it. Answered by Sealing; then Staged or GroupsLost."""

    generation: int


class StagedSeen(Message, frozen=True):
    """The answer to GroupStagedMsg."""

    group: int
    generation: int


class GroupsLostSeen(Message, frozen=True):
    """The answer to GroupsLost."""

    generation: int
    groups: tuple[int, ...]


class End(Message, frozen=True):
    """The job is over: free everything, remove your own staged files. Answered by Ended."""

    kind: EndKind
    fault: Fault | None


class Strike(Message, frozen=True):
    """You were declared lost: forget what you hold, but remove no staged file (the manifest may list it)."""


class Ping(Message, frozen=True):
    """The coordinator lives. Not answered."""


# ---- member -> coordinator


class Joined(Message, frozen=True):
    """All that this member holds of the job, after it has fenced every older epoch.

    `plan_epoch`: at which the plan was stored.
    """

    plan: bytes
    plan_epoch: int
    placement: Placement | None
    streams: tuple[StreamReport, ...]
    staged: tuple[Staged, ...]
    ended: EndKind | None
    fault: Fault | None


class Superseded(Message, frozen=True):
    """Refused: I am bound to this epoch and coordinator."""

    bound_epoch: int
    coordinator: int


class PlanCopy(Message, frozen=True):
    """None: I do not hold that plan."""

    plan: Plan | None


class Planned(Message, frozen=True):
    """`fault`: why this member cannot take part."""

    digest: bytes
    fault: Fault | None


class Placed(Message, frozen=True):
    version: int


class Running(Message, frozen=True):
    map: int
    attempt: Attempt


class Progress(Message, frozen=True):
    """Rows read so far by a running attempt. Not answered, not sent again."""

    map: int
    attempt: Attempt
    rows: int


class MapPrepared(Message, frozen=True):
    """Every owner has all of this attempt. `rows` and `payload_bytes`: what was sent. Answered by Decided."""

    map: int
    attempt: Attempt
    split: Split
    rows: int
    payload_bytes: int


class MapFailed(Message, frozen=True):
    """Answered by Decided."""

    map: int
    attempt: Attempt
    fault: Fault


class Won(Message, frozen=True):
    map: int
    attempt: Attempt


class Discarded(Message, frozen=True):
    map: int
    attempt: Attempt


class Sealing(Message, frozen=True):
    generation: int


class GroupStagedMsg(Message, frozen=True):
    """Answered by StagedSeen."""

    staged: Staged


class GroupsLost(Message, frozen=True):
    """Groups of one generation can no longer be delivered: place them anew. Answered by GroupsLostSeen."""

    generation: int
    groups: tuple[int, ...]
    fault: Fault


class Ended(Message, frozen=True):
    pass


class PeerReport(Message, frozen=True):
    """I cannot reach that member. `refused`: its address refuses, or another incarnation answers there."""

    member: int
    refused: bool


class Leaving(Message, frozen=True):
    """I take no further part in this epoch, and hold nothing any more."""

    reason: str


# ---- mapper <-> owner


class Fin(Message, frozen=True):
    """The stream (map, attempt) to you is complete: compare. Answered by Prepared or FinRefused, in time.

    Asked again meanwhile, the owner says Waiting.
    """

    map: int
    attempt: Attempt
    version: int
    generations: tuple[int, ...]
    counts: StreamCounts
    split: Split


class Prepared(Message, frozen=True):
    """I hold all of it, and will until it wins or is discarded."""

    map: int
    attempt: Attempt


class Waiting(Message, frozen=True):
    """I live, and frames of it are still on their way to me."""

    map: int
    attempt: Attempt


class FinRefused(Message, frozen=True):
    map: int
    attempt: Attempt
    fault: Fault


CoordinatorMessage = (
    Join | FetchPlan | StorePlan | Place | Run | Decided | Winner | Discard | Seal | StagedSeen | GroupsLostSeen | End
    | Strike | Ping
)  # fmt: skip
MemberMessage = (
    Joined | Superseded | PlanCopy | Planned | Placed | Running | Progress | MapPrepared | MapFailed | Won | Discarded
    | Sealing | GroupStagedMsg | GroupsLost | Ended | PeerReport | Leaving
)  # fmt: skip
PeerMessage = Fin | Prepared | Waiting | FinRefused
AnyMessage = CoordinatorMessage | MemberMessage | PeerMessage

FROM_COORDINATOR: tuple[type[Message], ...] = CoordinatorMessage.__args__
FROM_MEMBER: tuple[type[Message], ...] = MemberMessage.__args__
FROM_PEER: tuple[type[Message], ...] = PeerMessage.__args__

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[AnyMessage] = msgspec.msgpack.Decoder(AnyMessage)


def encode_message(message: Message) -> bytes:
    """The payload of a CONTROL frame."""
    return _encoder.encode(message)


def decode_message(payload: bytes) -> AnyMessage:
    """:raises Corrupted: these bytes are no message of this protocol."""
    try:
        message = _decoder.decode(payload)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise Corrupted(f"a control frame of {len(payload)} bytes is no message of this protocol: {error}") from None
    if len(message.uid) != UID_BYTES:
        raise Corrupted(f"a control message names a job by {len(message.uid)} bytes instead of {UID_BYTES}")
    return message
