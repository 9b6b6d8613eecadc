"""Types of partition.pyx: scatters batches into staging and makes frames of them."""

from collections.abc import Collection, Iterator
from typing import Any, NamedTuple

import pyarrow as pa

from shuffle_worker._native.buffer import BufferPool
from shuffle_worker._native.frame import Frame
from shuffle_worker.partitioning import Partitioning, Staging

class Figures(NamedTuple):
    """One attempt so far. `rows` and `digest` cover every row pushed, also those of groups left out by `only`."""

    rows: int
    digest: int
    """Sum mod 2^64 over rows of mix(key hash, partition)."""
    group_rows: list[int]
    """Rows staged, by group."""
    staged_rows: int
    frames: int
    fallback_rows: int
    """Rows with columns that went through pyarrow's take."""

class Partitioner:
    """One map thread's kernel, reused across attempts: `reset`, then `push` each batch, then `flush`.

    `push` and `flush` are iterators that do the work as frames are taken from them: exhaust one before the next call
    (else InternalError). Frames have group, rows, partitions, value and flags set and are not sealed: `Stream.stamp`
    does that. Not thread-safe; the GIL is released while rows are scattered.
    """

    wire_schema: pa.Schema
    """What a frame's payload holds: the schema given, with `dictionary_columns` as dictionary(uint8) and all other
    dictionary columns plain."""
    stage_rows: int
    stage_bytes: int

    def __init__(self, schema: pa.Schema, partitioning: Partitioning, staging: Staging, pool: BufferPool) -> None:
        """:raises UserError: a key is missing or of a type that has no hash or order; boundaries out of order."""
    def reset(self, first_row: int = 0, only: Collection[int] | None = None) -> None:
        """Begin an attempt: forget staged rows and figures, keep the memory.

        `first_row` is the global number of the next row (Rebalance). `only`: stage rows of these groups, all if None.
        """
    def push(self, batch: Any) -> Iterator[Frame]:
        """Stage a batch (anything with `__arrow_c_array__` or `__arrow_c_stream__`); yields frames that became full.

        Columns must be those of the schema, by name and order; strings and binaries may have any layout, and any column
        may be dictionary-encoded.
        """
    def flush(self) -> Iterator[Frame]:
        """Everything still staged, group by group."""
    @property
    def figures(self) -> Figures: ...
    @property
    def staging_bytes(self) -> int:
        """Memory held for staging now, in bytes."""
