"""Which row goes to which partition, and how rows are staged on their way: frozen values that kernels are built from.

Pure; no Arrow data is touched here. The kernels are `_native.partition` (scatter), `_native.hash` (row hashes) and
`_native.digest` (sums that prove a result).
"""

from typing import Any, Literal

import msgspec

ShuffleKind = Literal["Hash", "Range", "Rebalance", "Broadcast"]
HashFunctionName = Literal["XxHash64", "SparkMurmur3", "Iceberg"]
CodecName = Literal["None", "LZ4", "Zstd", "Snappy"]

MAX_PARTITIONS = 65_536
DIGEST_COLUMNS = 4
"""Rebalance and Broadcast have no keys: their digest is of so many columns, the first that can be hashed."""


class Key(msgspec.Struct, frozen=True):
    """A column that decides the partition. `cast` (a pyarrow.DataType) hashes or orders it as another type."""

    name: str
    cast: Any = None
    descending: bool = False
    nulls_first: bool = False


class Partitioning(msgspec.Struct, frozen=True):
    """How rows find their partition.

    `boundaries` (Range): a pyarrow.RecordBatch of partitions - 1 rows, one column for each key, in the keys' order and
    sorted as they say; a row equal to a boundary goes right of it. `slice_rows` (Rebalance): partition =
    floor(global row / slice_rows) mod partitions. Broadcast stages every row once, in group 0.
    """

    kind: ShuffleKind
    partitions: int
    groups: int
    keys: tuple[Key, ...] = ()
    function: HashFunctionName = "XxHash64"
    boundaries: Any = None
    slice_rows: int = 0


class Staging(msgspec.Struct, frozen=True):
    """How many rows and bytes wait in a partitioner before they leave as a frame."""

    rows: int = 8192
    """Most rows of a frame."""
    frame_bytes: int = 1 << 20
    """A group with so many bytes staged leaves at once."""
    budget_bytes: int = 128 << 20
    """What all groups together may take: it lowers `rows` and `frame_bytes` when the groups are many."""
    codec: CodecName = "None"
    dictionary_columns: tuple[str, ...] = ()
    """Columns of few values: they travel as dictionary(uint8), at most 256 values in a frame."""
    max_row_bytes: int = 1 << 30
    """A value longer than this is refused, with its column and row."""


def group_of(partition: int, partitions: int, groups: int) -> int:
    """The group that holds a partition."""
    return partition * groups // partitions


def partitions_of(group: int, partitions: int, groups: int) -> range:
    """The partitions that a group holds."""
    return range(-(-group * partitions // groups), -(-(group + 1) * partitions // groups))
