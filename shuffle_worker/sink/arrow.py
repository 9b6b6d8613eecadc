"""Arrow IPC files, in the file format (Feather 2): one record batch for each row group.

A file may not replace a dictionary, only add to it, so each dictionary column has one that grows from batch to batch.
"""

import pyarrow as pa
import pyarrow.compute as pc

from shuffle_worker.sink.layout import cast
from shuffle_worker.sink.writer import Encoder, Format

CODECS = {"LZ4": "lz4", "Zstd": "zstd", "None": None}
GROUP_ROWS = 65_536


class ArrowFormat(Format):
    suffix = ".arrow"
    group_rows = GROUP_ROWS

    def __init__(self, compression: str) -> None:
        self._codec = CODECS[compression]

    def open(self, stream: pa.NativeFile, logical: pa.Schema, first: pa.Table | None) -> Encoder:  # noqa: ARG002
        options = pa.ipc.IpcWriteOptions(compression=self._codec, use_threads=False, emit_dictionary_deltas=True)
        return _ArrowEncoder(pa.ipc.new_file(stream, logical, options=options), logical)


class _ArrowEncoder(Encoder):
    def __init__(self, writer: pa.RecordBatchFileWriter, logical: pa.Schema) -> None:
        self._writer = writer
        self._logical = logical
        self._values = {
            field.name: pa.array([], field.type.value_type) for field in logical if pa.types.is_dictionary(field.type)
        }

    def encode(self, table: pa.Table) -> None:
        columns = [self._column(table.column(field.name), field) for field in self._logical]
        for batch in pa.Table.from_arrays(columns, schema=self._logical).combine_chunks().to_batches():
            self._writer.write_batch(batch)

    def close(self) -> None:
        self._writer.close()

    def abandon(self) -> None:
        """Nothing to do: only `close` writes."""

    def _column(self, column: pa.ChunkedArray, field: pa.Field) -> pa.ChunkedArray:
        if not pa.types.is_dictionary(field.type):
            return pa.chunked_array([cast(chunk, field.type) for chunk in column.chunks], field.type)
        plain = pa.concat_arrays([cast(chunk, field.type.value_type) for chunk in column.chunks])
        known = self._values[field.name]
        found = pc.unique(plain).drop_null()
        fresh = found.filter(pc.invert(pc.is_in(found, value_set=known)))
        values = self._values[field.name] = pa.concat_arrays([known, fresh])
        codes = pc.index_in(plain, value_set=values, skip_nulls=True).cast(field.type.index_type)
        array = pa.DictionaryArray.from_arrays(codes, values, ordered=field.type.ordered)
        return pa.chunked_array([array], field.type)
