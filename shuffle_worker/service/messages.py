"""What members of a shuffle service say to each other: tagged MessagePack arrays on the service's channel. Pure.

Every request may come twice and must then do nothing the second time. Answers are matched by the call's number alone.
"""

from typing import Any

import msgspec
from msgspec import Struct

from shuffle_worker import errors
from shuffle_worker.cluster.members import Member, Membership
from shuffle_worker.spec.model import ShuffleType

GENERATION = 1
"""Of every placement: pushed data cannot be made again, so a partition never gets a second owner."""
EPOCH_SEND = 1
"""Streams of `send_partition`: the map is the sender's number, the attempt counts its sends."""
EPOCH_WRITER = 2
"""Streams of writers: the map is the caller's map id, the attempt is unique among all members."""
EPOCH_BATCH = 3
"""Streams of `send_batch`; otherwise as EPOCH_SEND."""


class _Message(Struct, frozen=True, array_like=True, tag=True, gc=False):
    """Base of all messages."""


class Info(_Message, frozen=True):
    """What does not change about a shuffle, once its first batch fixed the schema (IPC; empty before)."""

    id: str
    uid: bytes
    kind: ShuffleType
    partitions: int
    keys: tuple[str, ...] = ()
    boundaries: bytes = b""
    schema: bytes = b""
    sealed: bool = False

    @property
    def groups(self) -> int:
        """A broadcast is stored once; any other partition is a group of its own."""
        return 1 if self.kind == ShuffleType.BROADCAST else self.partitions


class Owner(_Message, frozen=True):
    name: str
    incarnation: int


class StreamName(_Message, frozen=True):
    """(shuffle, map, epoch, attempt)."""

    uid: bytes
    map: int
    epoch: int
    attempt: int

    @property
    def decision(self) -> tuple[int, int, int]:
        """What is decided once: a writer's map for all of its attempts; any other stream by itself."""
        return (self.epoch, self.map, 0 if self.epoch == EPOCH_WRITER else self.attempt)


class Promise(_Message, frozen=True):
    """What a sender says it sent to one owner. Sums are mod 2^64 over frames."""

    frames: int
    rows: int
    bytes: int
    crc_sum: int
    value_sum: int


# to the registrar


class Join(_Message, frozen=True):
    member: Member


class Joined(_Message, frozen=True):
    """`number` is never given twice; it names the member's streams."""

    registrar: Member
    number: int
    membership: Membership


class Leave(_Message, frozen=True):
    member: Member


class Create(_Message, frozen=True):
    info: Info


class Look(_Message, frozen=True):
    id: str


class Claim(_Message, frozen=True):
    """Who shall own these groups; `target` empty: as the registrar places them. Fixes the schema, if none is yet."""

    id: str
    groups: tuple[int, ...]
    target: str
    schema: bytes


class Claimed(_Message, frozen=True):
    info: Info
    owners: tuple[Owner, ...]


class Locate(_Message, frozen=True):
    """Who owns a group. Waits up to `wait_s` until somebody does or the shuffle is sealed."""

    id: str
    group: int
    wait_s: float


class Located(_Message, frozen=True):
    info: Info
    owner: Owner | None


class Decide(_Message, frozen=True):
    """All owners are prepared: choose this attempt for the map, unless one was chosen."""

    stream: StreamName
    owners: tuple[Owner, ...]


class Decided(_Message, frozen=True):
    attempt: int


class Seal(_Message, frozen=True):
    id: str


class Close(_Message, frozen=True):
    id: str


# to an owner


class Place(_Message, frozen=True):
    info: Info
    groups: tuple[int, ...]


class Commit(_Message, frozen=True):
    """Make a stream readable as soon as it is whole; `prepare`: only answer then."""

    stream: StreamName
    promise: Promise
    prepare: bool = False


class Win(_Message, frozen=True):
    stream: StreamName


class Discard(_Message, frozen=True):
    stream: StreamName


class SealHere(_Message, frozen=True):
    uid: bytes


class Forget(_Message, frozen=True):
    uid: bytes


class Read(_Message, frozen=True):
    """Push frames from `position` on into the reader's own shuffle `into`, as stream (0, 1, `turn`)."""

    uid: bytes
    group: int
    position: int
    max_bytes: int
    wait_s: float
    into: bytes
    turn: int


class ReadEnd(_Message, frozen=True):
    """The reader has ended: nothing more goes into its shuffle, and what credit is left for it returns."""

    into: bytes


# answers and news


class ReadOut(_Message, frozen=True):
    """How many frames were pushed. `end`: the partition is sealed and was read to its end."""

    frames: int
    end: bool


class Done(_Message, frozen=True):
    pass


class Failed(_Message, frozen=True):
    """An error as it travels: the name of its class and its sentence."""

    kind: str
    sentence: str

    @staticmethod
    def of(error: errors.ShuffleError) -> "Failed":
        return Failed(type(error).__name__, str(error))

    def to_error(self) -> errors.ShuffleError:
        found = getattr(errors, self.kind, None)
        if isinstance(found, type) and issubclass(found, errors.ShuffleError):
            return found(self.sentence)
        return errors.InternalError(f"{self.kind}: {self.sentence}")


class MembersChanged(_Message, frozen=True):
    """News from the registrar."""

    membership: Membership


class Closed(_Message, frozen=True):
    """News from the registrar: the shuffle is gone."""

    id: str
    uid: bytes


ToRegistrar = Join | Leave | Create | Look | Claim | Locate | Decide | Seal | Close
ToOwner = Place | Commit | Win | Discard | SealHere | Forget | Read | ReadEnd
Request = ToRegistrar | ToOwner
Answer = Joined | Info | Claimed | Located | Decided | ReadOut | Done | Failed
News = MembersChanged | Closed


class Envelope(Struct, frozen=True, array_like=True, gc=False):
    """`call` names the request that this is, or answers; 0: news, which nobody answers."""

    call: int
    body: Request | Answer | News


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Envelope)


def encode(call: int, body: Any) -> bytes:
    return _encoder.encode(Envelope(call, body))


def decode(message: bytes) -> Envelope:
    """:raises Corrupted: it is no message of this version."""
    try:
        return _decoder.decode(message)
    except msgspec.DecodeError as error:
        raise errors.Corrupted(f"a message of another version of the service: {error}") from None
