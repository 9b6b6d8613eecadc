"""Parquet files: row groups of an exact number of rows, and encodings chosen by column rather than by trial.

pyarrow's writer as it comes builds a dictionary for every column and gives most of them up; a dictionary pays only for
columns that arrive as dictionaries. Numbers and dates are delta-encoded, which is smaller and faster to write and to
read. Readers get the plain types of the schema back: the Arrow schema is not stored.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from shuffle_worker.sink.base import PartitionWriter

Permit = Callable[[int, str], AbstractContextManager[object]]
CODECS = {"Snappy": "snappy", "Zstd": "zstd", "LZ4": "lz4", "Gzip": "gzip", "None": "none"}


class ParquetWriter(PartitionWriter):
    """Accumulates batches until a row group is full, then writes it under a permit."""

    def __init__(self, file: Any, schema: pa.Schema, wire_schema: pa.Schema, options: "ParquetOptions") -> None:
        self._options = options
        self._held: list[pa.RecordBatch] = []
        self._held_rows = 0
        self._schema = wire_schema
        self._writer = pq.ParquetWriter(file, wire_schema, **options.arguments(schema, wire_schema))

    def write(self, batch: pa.RecordBatch) -> None:
        row_group_rows = self._options.row_group_rows
        while batch.num_rows:
            piece = batch.slice(0, row_group_rows - self._held_rows)
            self._held.append(piece)
            self._held_rows += piece.num_rows
            batch = batch.slice(piece.num_rows)
            if self._held_rows == row_group_rows:
                self._flush()

    def _flush(self) -> None:
        table = pa.Table.from_batches(self._held, self._schema)
        rows = self._held_rows
        self._held.clear()
        self._held_rows = 0
        with self._options.permit(table.nbytes // 2 + (1 << 20), "encoding a row group"):
            self._writer.write_table(table, row_group_size=rows)

    def close(self) -> None:
        if self._held_rows:
            self._flush()
        self._writer.close()


class ParquetOptions:
    """Of all files of a job. `permit(bytes, what)` holds memory while the writer allocates its own."""

    def __init__(self, compression: str, row_group_rows: int, permit: Permit) -> None:
        self.compression = CODECS[compression]
        self.row_group_rows = row_group_rows
        self.permit = permit

    def arguments(self, schema: pa.Schema, wire_schema: pa.Schema) -> dict[str, Any]:
        """Keyword arguments of pyarrow's writer for these columns."""
        dictionaries = [field.name for field in wire_schema if pa.types.is_dictionary(field.type)]
        flat = not any(pa.types.is_nested(field.type) for field in schema)
        encodings = {
            field.name: encoding
            for field in wire_schema
            if (encoding := encoding_of(field.type)) is not None and field.name not in dictionaries
        }
        return {
            "compression": self.compression,
            "use_dictionary": dictionaries or False,
            "column_encoding": (encodings or None) if flat else None,
            "store_decimal_as_integer": True,
            "store_schema": _needs_stored_schema(schema),
            "write_statistics": True,
            "version": "2.6",
        }


def encoding_of(type_: pa.DataType) -> str | None:
    """The encoding that pays for a column of this type; None leaves it to the writer."""
    if pa.types.is_decimal(type_):
        return "DELTA_BINARY_PACKED" if type_.precision <= 18 else None
    if pa.types.is_integer(type_) or pa.types.is_date32(type_) or pa.types.is_time(type_):
        return "DELTA_BINARY_PACKED"
    if pa.types.is_timestamp(type_) or pa.types.is_duration(type_):
        return "DELTA_BINARY_PACKED"
    return None


def _needs_stored_schema(schema: pa.Schema) -> bool:
    """Types that Parquet alone does not bring back: those need the Arrow schema beside them."""
    return not all(_is_plain(field.type) for field in schema)


def _is_plain(type_: pa.DataType) -> bool:
    check = pa.types
    if check.is_nested(type_):
        return False
    if check.is_timestamp(type_):
        return bool(type_.unit != "s" and type_.tz is None)
    return bool(
        check.is_integer(type_)
        or check.is_floating(type_)
        or check.is_boolean(type_)
        or check.is_string(type_)
        or check.is_binary(type_)
        or check.is_date32(type_)
        or check.is_decimal128(type_)
        or type_ == pa.string_view()
    )
