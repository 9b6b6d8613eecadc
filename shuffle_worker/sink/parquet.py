"""Parquet files: row groups of an exact number of rows, an encoding for each column, and the plan's types for readers.

What each column gets is decided in `encodings`, once for each file, from its first row group.
"""

import base64
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from shuffle_worker.sink.encodings import DELTA, Encodings, choose_encodings
from shuffle_worker.sink.layout import plain_schema
from shuffle_worker.sink.writer import Encoder, Format

CODECS = {"Snappy": "snappy", "Zstd": "zstd", "LZ4": "lz4", "Gzip": "gzip", "None": "none"}


class ParquetFormat(Format):
    suffix = ".parquet"

    def __init__(self, compression: str, group_rows: int) -> None:
        self._codec = CODECS[compression]
        self.group_rows = group_rows

    def open(self, stream: pa.NativeFile, logical: pa.Schema, first: pa.Table | None) -> Encoder:
        stored = plain_schema(logical) if first is None else first.schema
        encodings = Encodings((), (), ()) if first is None else choose_encodings(first)
        writer = pq.ParquetWriter(stream, stored, **writer_arguments(stored, encodings, self._codec))
        return _ParquetEncoder(writer, logical)


class _ParquetEncoder(Encoder):
    def __init__(self, writer: pq.ParquetWriter, logical: pa.Schema) -> None:
        self._writer = writer
        self._logical = logical

    def encode(self, table: pa.Table) -> None:
        # Of more rows than `row_group_size` pyarrow makes two row groups; of each call it makes at least one.
        self._writer.write_table(table, row_group_size=max(1, table.num_rows))

    def close(self) -> None:
        self._writer.add_key_value_metadata({"ARROW:schema": stored_arrow_schema(self._logical)})
        self._writer.close()

    def abandon(self) -> None:
        self._writer.is_open = False  # else its finalizer writes a footer


def writer_arguments(schema: pa.Schema, encodings: Encodings, codec: str) -> dict[str, Any]:
    """Keyword arguments of pyarrow's writer. What `encodings` does not name (leaves of nested columns) is left to the
    writer's own trial."""
    leaves = nested_leaves(schema)
    return {
        "compression": encodings.codecs(codec) | dict.fromkeys(leaves, codec),
        "use_dictionary": [*encodings.dictionary, *leaves] or False,
        "column_encoding": dict.fromkeys(encodings.delta, DELTA) or None,
        "store_decimal_as_integer": True,  # DELTA is for integers
        # The schema handed over has dictionaries where the plan has none: `close` stores the plan's.
        "store_schema": False,
        "write_statistics": True,
        "version": "2.6",
    }


def nested_leaves(schema: pa.Schema) -> list[str]:
    """Paths of the leaf columns of nested columns, as Parquet names them."""
    nested = pa.schema([field for field in schema if pa.types.is_nested(_storage(field.type))])
    if not nested.names:
        return []
    file = pa.BufferOutputStream()
    pq.ParquetWriter(file, nested, store_schema=False).close()
    metadata = pq.read_metadata(pa.BufferReader(file.getvalue()))
    return [metadata.schema.column(number).path for number in range(metadata.num_columns)]


def stored_arrow_schema(schema: pa.Schema) -> str:
    """The schema as Arrow's readers look for it in a Parquet file's metadata."""
    return base64.b64encode(schema.serialize()).decode()


def _storage(type_: pa.DataType) -> pa.DataType:
    return type_.storage_type if isinstance(type_, pa.BaseExtensionType) else type_
