"""What messages, events and effects are made of. Plain immutable values; no rules but those of arithmetic.

A member is named by its incarnation (u64) everywhere in this package; names and addresses are for sentences only.

A *version* is the number of a placement table: epoch << 16 | n, so two coordinators never make the same one. A group's
*generation* is the version of the table that put it where it is. Groups of one generation were placed by one
decision, and a map attempt wins for whole generations.
"""

import hashlib
from enum import StrEnum

import msgspec
from msgspec import Struct

from shuffle_worker import errors

MASK64 = (1 << 64) - 1
TABLES_PER_EPOCH = 1 << 16
LAST_EPOCH = (1 << 16) - 1
NOBODY = 0
"""The owner of a group whose staged files outlived it. No incarnation is 0."""


class Attempt(Struct, frozen=True, order=True, array_like=True, gc=False):
    """(epoch, number): the name of one run of one map. Never reused within a job."""

    epoch: int
    number: int

    def __str__(self) -> str:
        return f"{self.epoch}.{self.number}"


class Fault(Struct, frozen=True, array_like=True, gc=False):
    """An error as it travels: the class in `errors` it stands for, its sentence, and the member it names, if any."""

    kind: str
    sentence: str
    blames: int = NOBODY

    @property
    def retryable(self) -> bool:
        """The same thing may work elsewhere or later: it is not the user's fault, and not a bug of ours."""
        found = getattr(errors, self.kind, None)
        return isinstance(found, type) and issubclass(found, errors.PeerError) and found is not errors.Cancelled

    def to_error(self) -> errors.ShuffleError:
        found = getattr(errors, self.kind, None)
        if isinstance(found, type) and issubclass(found, errors.ShuffleError):
            return found(self.sentence)
        return errors.InternalError(f"{self.kind}: {self.sentence}")


def fault_of(error: errors.ShuffleError, blames: int = NOBODY) -> Fault:
    return Fault(type(error).__name__, str(error), blames)


class Split(Struct, frozen=True, array_like=True, gc=False):
    """What an attempt saw of its whole split, whatever part of it was sent. Two attempts of a map must agree.

    `key_digest`: sum mod 2^64 over rows of mix(key hash, partition). `row_digest`: with `verify: Rows`, the sum mod
    2^128 over rows as 16 bytes, little-endian; else empty. `memory_bytes`: of the rows, for the status.
    """

    rows: int
    key_digest: int
    row_digest: bytes = b""
    memory_bytes: int = 0


class StreamCounts(Struct, frozen=True, array_like=True, gc=False):
    """One stream, as its mapper sent it or its owner received it. Sums are mod 2^64 over frames."""

    frames: int
    rows: int
    payload_bytes: int
    crc_sum: int
    key_digest: int


class Sent(Struct, frozen=True, array_like=True, gc=False):
    """What a mapper sent to one owner."""

    owner: int
    counts: StreamCounts


class Staged(Struct, frozen=True, array_like=True, gc=False):
    """A group whose files are written and wait to be published. Figures were computed again from what was written.

    `record` is the sink's: file names, sizes, upload ids.
    """

    group: int
    generation: int
    rows: int
    key_digest: int
    row_digest: bytes = b""
    file_bytes: int = 0
    record: bytes = b""


class Plan(Struct, frozen=True, array_like=True, gc=False):
    """What the protocol knows of a plan; `body` is opaque.

    `map_rows`: rows of each map's split by the file's metadata, -1 where unknown. `copies`: rows staged for each input
    row (Broadcast: the number of groups, each of which holds all rows once). `durable`: staged files outlive their
    owner (shared storage).
    """

    digest: bytes
    map_rows: tuple[int, ...]
    groups: int
    copies: int = 1
    durable: bool = True
    body: bytes = b""

    @property
    def maps(self) -> int:
        return len(self.map_rows)


class Placement(Struct, frozen=True, array_like=True, gc=False):
    """Which member owns each group at which generation: the whole table, replaced by one of a higher version.

    `kept`: staged groups whose owner is gone (`owners` holds NOBODY for them). They are in the table so that they
    outlive the coordinator too; `splits` (one for each map) then says what their rows must add up to.
    """

    version: int
    plan: bytes
    owners: tuple[int, ...]
    generations: tuple[int, ...]
    kept: tuple[Staged, ...] = ()
    splits: tuple[Split, ...] = ()
    tasks_rerun: int = 0

    def groups_of(self, owner: int, generations: frozenset[int] | None = None) -> tuple[int, ...]:
        """The groups an owner holds, of these generations or of any."""
        return tuple(
            group
            for group, (holder, generation) in enumerate(zip(self.owners, self.generations, strict=True))
            if holder == owner and (generations is None or generation in generations)
        )

    def owners_of(self, generations: frozenset[int]) -> tuple[int, ...]:
        """Who holds groups of these generations, in a fixed order."""
        pairs = zip(self.owners, self.generations, strict=True)
        return tuple(sorted({owner for owner, generation in pairs if generation in generations} - {NOBODY}))


def first_version(epoch: int) -> int:
    """The lowest version of an epoch; all versions of older epochs are lower. :raises InternalError: epoch > 65535."""
    if not 0 < epoch <= LAST_EPOCH:
        raise errors.InternalError(f"epoch {epoch} is outside 1..{LAST_EPOCH}")
    return epoch * TABLES_PER_EPOCH


class StreamState(StrEnum):
    EXPECTED = "expected"  # FIN is here, frames are missing
    PREPARED = "prepared"  # all counts agree
    WINNING = "winning"  # the store was asked to let it win
    WON = "won"


class StreamReport(Struct, frozen=True, array_like=True, gc=False):
    """A stream that an owner holds whole, as JOINED reports it. Rows and bytes are the stream's own."""

    map: int
    attempt: Attempt
    generations: tuple[int, ...]
    won: bool
    split: Split
    rows: int
    payload_bytes: int


class EndKind(StrEnum):
    RELEASED = "released"
    ABORTED = "aborted"


class Outcome(StrEnum):
    COMPLETE = "complete"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Timers(Struct, frozen=True, array_like=True, gc=False):
    """Every wait of a job, in seconds. `scaled` makes them all shorter or longer together."""

    retry_s: float = 1.0  # an unanswered message is sent again
    suspect_s: float = 5.0  # silence: no new tasks
    dead_s: float = 15.0  # silence: declared dead
    slow_s: float = 10.0  # alive without progress: no new tasks
    stuck_s: float = 300.0  # alive without progress: declared dead
    answer_s: float = 60.0  # alive, but a message was not answered: declared dead
    backoff_s: float = 0.5  # before a failed map runs again; doubles with each failure of it
    ping_s: float = 30.0  # the coordinator speaks to every member at least so often
    orphan_s: float = 900.0  # a member that heard no coordinator for so long forgets the job
    wind_down_s: float = 10.0  # for members to acknowledge the end

    def scaled(self, factor: float) -> "Timers":
        return Timers(*(getattr(self, name) * factor for name in self.__struct_fields__))


class Limits(Struct, frozen=True, array_like=True, gc=False):
    """How a job is to be run.

    `backoff_limit`: failed map attempts of the whole job before it fails. `slots`: map attempts at once on one member.
    `deadline_s`: of this coordinator, from its start; None: no limit. `speculate`: a second attempt beside a slow one.
    """

    backoff_limit: int = 6
    slots: int = 2
    min_members: int = 1
    deadline_s: float | None = None
    speculate: bool = False


class CommitRecord(Struct, frozen=True, array_like=True, gc=False):
    """The supervisor's decision: publish exactly the manifest of this digest (hex)."""

    epoch: int
    digest: str


def encode_manifest(staged: tuple[Staged, ...]) -> bytes:
    """The output's manifest: every group once, in order."""
    return msgspec.msgpack.encode(staged)


def decode_manifest(manifest: bytes) -> tuple[Staged, ...]:
    """:raises Corrupted: these bytes are no manifest."""
    try:
        return msgspec.msgpack.decode(manifest, type=tuple[Staged, ...])
    except msgspec.MsgspecError as error:
        raise errors.Corrupted(f"a prepared manifest of {len(manifest)} bytes cannot be read: {error}") from None


def manifest_digest(manifest: bytes) -> str:
    """BLAKE2b-128 in hex: what the supervisor records."""
    return hashlib.blake2b(manifest, digest_size=16).hexdigest()


def add_row_digests(digests: list[bytes]) -> bytes:
    """Sum mod 2^128 of row digests; empty when any is missing."""
    if not digests or not all(digests):
        return b""
    return (sum(int.from_bytes(each, "little") for each in digests) % (1 << 128)).to_bytes(16, "little")
