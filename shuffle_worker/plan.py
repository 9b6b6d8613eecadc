"""The plan of a job: made once before the first map task, stored on every member, never changed. Pure values.

Two attempts of one split agree because everything that could make them differ is in here: which rows a split has and
how its file is recognised, the schema, boundaries, seeds, and the number of rows before each split.
"""

import hashlib

import msgspec

from shuffle_worker.errors import Corrupted


class FileIdentity(msgspec.Struct, frozen=True, array_like=True):
    """What tells that a file is still the one that was planned. `tag` is the inode, or the ETag on S3."""

    size: int
    mtime_ns: int
    tag: str


class Split(msgspec.Struct, frozen=True, array_like=True):
    """What one map task reads: row groups (Parquet) or record batches (Arrow IPC) `first..last` of one file."""

    path: str
    identity: FileIdentity
    first: int
    last: int
    rows: int
    bytes: int
    """Decoded, about."""
    first_row: int
    """Rows in all splits before this one."""


class KeyColumn(msgspec.Struct, frozen=True, array_like=True):
    """A key: its type as the input has it, and the type it is hashed or ordered as ("" for the same), as Arrow names
    types."""

    name: str
    type: str
    cast: str = ""
    descending: bool = False
    nulls_first: bool = False


class Plan(msgspec.Struct, frozen=True, array_like=True):
    """Everything that must be the same for all attempts of a job. Schemas and boundaries are Arrow IPC bytes."""

    uid: bytes
    manifest: bytes
    """The ShuffleJob as JSON: shuffle, sink and verify are read from there."""
    schema: bytes
    splits: tuple[Split, ...]
    partitions: int
    groups: int
    keys: tuple[KeyColumn, ...]
    function: str
    """Hash function's name as the manifest writes it; empty unless the shuffle is Hash."""
    dictionary_columns: tuple[str, ...]
    """Columns of few values: they are read, sent and written as dictionaries."""
    boundaries: bytes
    """Range: an IPC stream of one batch of partitions - 1 rows, one column for each key."""
    slice_rows: int
    """Rebalance: rows dealt to one partition before the next."""
    seed: int
    codec: str
    """Of frames."""
    nonce: str
    """Content of a file that the planner left in the staging folder: who cannot read it does not share the storage."""

    def encode(self) -> bytes:
        return msgspec.msgpack.encode(self)

    @staticmethod
    def decode(body: bytes) -> "Plan":
        """:raises Corrupted: these bytes are no plan."""
        try:
            return msgspec.msgpack.decode(body, type=Plan)
        except msgspec.MsgspecError as error:
            raise Corrupted(f"a plan of {len(body)} bytes cannot be read: {error}") from None

    @property
    def rows(self) -> int:
        return sum(split.rows for split in self.splits)


def plan_digest(body: bytes) -> bytes:
    """BLAKE2b-128 of an encoded plan: members that hold the same digest hold the same plan."""
    return hashlib.blake2b(body, digest_size=16).digest()
