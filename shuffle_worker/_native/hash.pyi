"""Types of hash.pyx: row hashes that other systems agree with."""

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from shuffle_worker.partitioning import HashFunctionName, Key

def hash_rows(batch: Any, keys: Sequence[str | Key], function: HashFunctionName = "XxHash64") -> pa.Array:
    """One hash for each row: int64 for XxHash64, int32 for the others (Iceberg: 0 for null).

    :raises UserError: a key is missing, or its type cannot be hashed by this function.
    """

def partition_ids(
    batch: Any, keys: Sequence[str | Key], partitions: int, function: HashFunctionName = "XxHash64"
) -> pa.Array:
    """uint32: the partition of each row of a Hash shuffle."""

def hashable(type: pa.DataType, function: HashFunctionName = "XxHash64") -> str:
    """Empty if a key may have this type, else the reason why not."""
