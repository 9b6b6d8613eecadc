"""Scatters rows over a shuffle by its own rule, with the native kernels. One kernel for a thread at a time.

Rebalance deals slices in turn: a member's sends go on where the last one ended; a writer begins at a place given by its
map id, so that a retry deals alike.
"""

import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import pyarrow as pa

from shuffle_worker._native.buffer import BufferPool
from shuffle_worker._native.frame import Frame
from shuffle_worker._native.partition import Partitioner
from shuffle_worker.errors import UserError
from shuffle_worker.partitioning import Key, Partitioning, Staging
from shuffle_worker.service.codec import Encoder
from shuffle_worker.service.directory import Known
from shuffle_worker.service.messages import Info
from shuffle_worker.spec.model import Compression, ShuffleType

SLICE_ROWS = 1024
"""Rebalance: rows dealt to one partition before the next; partitions differ by at most so many for each sender."""
STAGING_BYTES = 64 << 20


class Scatterer(Protocol):
    """Rows in, frames of partitions out."""

    def push(self, batch: pa.RecordBatch) -> Iterable[Frame]: ...
    def flush(self) -> Iterable[Frame]: ...


class _Broadcast:
    """Every partition sees every row: stored once, as it came."""

    def __init__(self, encoder: Encoder, schema: pa.Schema) -> None:
        self._encoder = encoder
        self._schema = schema

    def push(self, batch: pa.RecordBatch) -> Iterable[Frame]:
        return self._encoder.frames(self._schema, batch, 0)

    def flush(self) -> Iterable[Frame]:
        return ()


@dataclass
class _Kernels:
    """Of one shuffle."""

    idle: list[Partitioner] = field(default_factory=list)
    next_row: int = 0


class Scatterers:
    """The kernels of one member, made when first needed and used again."""

    def __init__(self, pool: BufferPool, encoder: Encoder, compression: Compression, memory_bytes: int) -> None:
        self._pool = pool
        self._encoder = encoder
        budget_bytes = min(STAGING_BYTES, memory_bytes // 8)
        self._staging = Staging(budget_bytes=budget_bytes, codec=compression.value)
        self._lock = threading.Lock()
        self._kernels: dict[bytes, _Kernels] = {}

    @contextmanager
    def lease(self, known: Known, schema: pa.Schema, map_id: int | None = None) -> Iterator[Scatterer]:
        """A scatterer of one's own. :raises UserError: the shuffle has no rule, or its keys do not suit the schema."""
        if known.info.kind == ShuffleType.BROADCAST:
            yield _Broadcast(self._encoder, schema)
            return
        kernel, first_row = self._take(known, schema)
        if map_id is not None:
            first_row = map_id * SLICE_ROWS
        kernel.reset(first_row)
        yield kernel
        # After an error it is left to the collector: frames may be under way in it.
        self._give_back(known.info.uid, kernel, map_id is None)

    def _take(self, known: Known, schema: pa.Schema) -> tuple[Partitioner, int]:
        with self._lock:
            kernels = self._kernels.setdefault(known.info.uid, _Kernels())
            first_row = kernels.next_row
            if kernels.idle:
                return kernels.idle.pop(), first_row
        return Partitioner(schema, partitioning_of(known.info, schema), self._staging, self._pool), first_row

    def _give_back(self, uid: bytes, kernel: Partitioner, in_turn: bool) -> None:
        with self._lock:
            kernels = self._kernels.get(uid)
            if kernels is None:
                return
            kernels.idle.append(kernel)
            if in_turn:
                kernels.next_row += kernel.figures.rows

    def forget(self, uid: bytes) -> None:
        """The shuffle is closed: free the kernels' memory."""
        with self._lock:
            self._kernels.pop(uid, None)


def partitioning_of(info: Info, schema: pa.Schema) -> Partitioning:
    """The rule of a shuffle. :raises UserError: it has none, or boundaries do not have the keys' types."""
    if info.kind in (ShuffleType.HASH, ShuffleType.RANGE) and not info.keys:
        raise UserError(
            f"the shuffle {info.id!r} has no partition_keys: create it with some, or send to a partition yourself"
        )
    keys = tuple(Key(name) for name in info.keys)
    boundaries = None
    if info.kind == ShuffleType.RANGE:
        boundaries = _boundaries(info, schema)
    slice_rows = SLICE_ROWS if info.kind == ShuffleType.REBALANCE else 0
    return Partitioning(
        info.kind.value, info.partitions, info.groups, keys, boundaries=boundaries, slice_rows=slice_rows
    )


def _boundaries(info: Info, schema: pa.Schema) -> pa.RecordBatch:
    if not info.boundaries:
        raise UserError(
            f"the range shuffle {info.id!r} has no boundaries: create it with {info.partitions - 1} of them"
        )
    with pa.ipc.open_stream(pa.py_buffer(info.boundaries)) as reader:
        given = reader.read_next_batch()
    columns = []
    for name, column in zip(info.keys, given.columns, strict=True):
        position = schema.get_field_index(name)
        if position < 0:
            raise UserError(
                f"key {name!r} of the shuffle {info.id!r} is not a column: it has {', '.join(schema.names)}"
            )
        try:
            columns.append(column.cast(schema.field(position).type))
        except pa.ArrowInvalid as error:
            raise UserError(f"a boundary of {name!r} is no {schema.field(position).type}: {error}") from error
    return pa.RecordBatch.from_arrays(columns, names=list(info.keys))


def encode_boundaries(keys: Sequence[str], partitions: int, boundaries: Sequence[Any]) -> bytes:
    """Boundaries as given to `create_shuffle`, one value or one tuple for each cut, as an IPC stream.

    :raises UserError: their number is not partitions - 1, or they have not one value for each key.
    """
    rows = [tuple(each) if isinstance(each, (tuple, list)) else (each,) for each in boundaries]
    if len(rows) != partitions - 1:
        raise UserError(f"{partitions} partitions have {partitions - 1} boundaries between them, not {len(rows)}")
    for number, row in enumerate(rows):
        if len(row) != len(keys):
            raise UserError(f"boundaries[{number}] has {len(row)} values, and the shuffle {len(keys)} partition_keys")
    try:
        batch = pa.RecordBatch.from_arrays([pa.array(column) for column in zip(*rows, strict=True)], names=list(keys))
    except (pa.ArrowException, TypeError) as error:
        raise UserError(f"boundaries of one key must have one type: {error}") from error
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return bytes(sink.getvalue().to_pybytes())
