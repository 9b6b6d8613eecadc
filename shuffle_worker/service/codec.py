"""Arrow data into frames and back: any producer in, exactly the shuffle's schema out. No I/O.

A frame's payload is a whole Arrow IPC stream of one record batch, so any Arrow library can read it.
"""

import struct
from collections.abc import Iterable, Iterator
from typing import Any

import pyarrow as pa

from shuffle_worker._native.buffer import BufferPool
from shuffle_worker._native.frame import CODECS, Frame
from shuffle_worker.errors import UserError
from shuffle_worker.frames import decode_frame
from shuffle_worker.quantity import format_bytes
from shuffle_worker.spec.model import Compression

_IPC_CODECS = {Compression.LZ4: "lz4", Compression.ZSTD: "zstd"}


def open_arrow(data: Any) -> tuple[pa.Schema, Iterable[pa.RecordBatch]]:
    """The schema and the batches of anything that speaks Arrow, without a conversion of values.

    :raises UserError: it does not, or is not a table.
    """
    if isinstance(data, pa.RecordBatch):
        return data.schema, (data,)
    if isinstance(data, pa.Table):
        return data.schema, data.to_batches()
    try:
        if hasattr(data, "__arrow_c_array__"):
            batch = pa.record_batch(data)
            return batch.schema, (batch,)
        if hasattr(data, "__arrow_c_stream__"):
            reader = pa.RecordBatchReader.from_stream(data)
            return reader.schema, reader
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise UserError(f"{type(data).__name__} does not hold rows of columns: {error}") from error
    raise UserError(
        f"expected Arrow data (a pyarrow, Polars, DuckDB or nanoarrow table, or anything else with "
        f"__arrow_c_array__ or __arrow_c_stream__), got {type(data).__name__}"
    )


class Encoder:
    """Makes frames of at most about `frame_bytes` from batches of one schema."""

    def __init__(self, pool: BufferPool, compression: Compression, frame_bytes: int, row_limit_bytes: int) -> None:
        self._pool = pool
        self._compression = compression
        self._frame_bytes = frame_bytes
        self._row_limit_bytes = row_limit_bytes
        self._flags = CODECS[compression.value]
        self._options = pa.ipc.IpcWriteOptions(compression=_IPC_CODECS.get(compression))

    def frames(self, schema: pa.Schema, batch: pa.RecordBatch, group: int) -> Iterator[Frame]:
        """The batch as frames of one partition; usually one.

        :raises UserError: one row is too large; names it.
        """
        for part in self._parts(batch):
            payload = self._payload(schema, part)
            yield Frame.build(self._pool, payload, group=group, rows=part.num_rows, partitions=1, flags=self._flags)

    def _parts(self, batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
        size: int = batch.nbytes
        if size <= self._frame_bytes or batch.num_rows <= 1:
            if size > self._row_limit_bytes:
                self._refuse(batch)
            yield batch
            return
        rows = max(1, batch.num_rows * self._frame_bytes // size)
        for start in range(0, batch.num_rows, rows):
            part = batch.slice(start, rows)
            if part.nbytes > 2 * self._frame_bytes and part.num_rows > 1:  # rows of very different sizes
                half = part.num_rows // 2
                yield from self._parts(part.slice(0, half))
                yield from self._parts(part.slice(half))
            elif part.nbytes > self._row_limit_bytes:
                self._refuse(part)
            else:
                yield part

    def _refuse(self, batch: pa.RecordBatch) -> None:
        widest = max(range(batch.num_columns), key=lambda i: batch.column(i).nbytes)
        raise UserError(
            f"a row has {format_bytes(batch.nbytes)}, most of it in column {batch.schema.field(widest).name!r}: a row "
            f"may have {format_bytes(self._row_limit_bytes)}, an eighth of memory_bytes; raise that"
        )

    def _payload(self, schema: pa.Schema, batch: pa.RecordBatch) -> Any:
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, schema, options=self._options) as writer:
            writer.write_batch(batch)
        stream = sink.getvalue()
        if self._compression != Compression.SNAPPY:
            return memoryview(stream).cast("B")
        return struct.pack("<Q", stream.size) + pa.compress(stream, codec="snappy", asbytes=True)


def decode(frame: Frame, schema: pa.Schema) -> pa.RecordBatch:
    """The frame's rows with the shuffle's schema.

    Rows that a kernel scattered may have lost their dictionaries on the way: those columns are encoded again.
    """
    batch = decode_frame(frame)
    if batch.schema.equals(schema):
        return (
            batch
            if batch.schema.equals(schema, check_metadata=True)
            else batch.replace_schema_metadata(schema.metadata)
        )
    columns = [
        column if column.type == field.type else _as_field(column, field)
        for column, field in zip(batch.columns, schema, strict=True)
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _as_field(column: pa.Array, field: pa.Field) -> pa.Array:
    if pa.types.is_dictionary(field.type):
        values = column.cast(field.type.value_type) if column.type != field.type.value_type else column
        return values.dictionary_encode().cast(field.type)
    return column.cast(field.type)
