"""Parquet files: row groups of an exact number of rows, and encodings chosen by column rather than by trial.

Readers get the plain types of the schema back, also for columns that came as dictionaries.
"""

import base64
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from shuffle_worker.errors import OutputError
from shuffle_worker.sink.base import Permits
from shuffle_worker.sink.encodings import choose_encodings

CODECS = {"Snappy": "snappy", "Zstd": "zstd", "LZ4": "lz4", "Gzip": "gzip", "None": "none"}
CODES = pa.int32()


class ParquetOptions:
    """Of all files of a job. `permit(bytes, what)` holds memory while the writer allocates its own."""

    def __init__(self, compression: str, row_group_rows: int, permit: Permits) -> None:
        self.compression = CODECS[compression]
        self.row_group_rows = row_group_rows
        self.permit = permit


class ParquetEncoder:
    """Accumulates batches until a row group is full, then writes it under a permit."""

    def __init__(self, file: Any, schema: pa.Schema, wire_schema: pa.Schema, options: ParquetOptions) -> None:
        """`schema` is what readers shall see, `wire_schema` what batches have: dictionaries in places."""
        self._file = file
        self._options = options
        self._schema = schema
        self._wire_schema = wire_schema
        self._held: list[pa.RecordBatch] = []
        self._held_rows = 0
        self._writer: pq.ParquetWriter | None = None

    def write(self, batch: pa.RecordBatch) -> None:
        row_group_rows = self._options.row_group_rows
        while batch.num_rows:
            piece = batch.slice(0, row_group_rows - self._held_rows)
            self._held.append(piece)
            self._held_rows += piece.num_rows
            batch = batch.slice(piece.num_rows)
            if self._held_rows == row_group_rows:
                self._flush()

    def close(self) -> None:
        if self._held_rows or self._writer is None:
            self._flush()
        assert self._writer is not None
        self._writer.close()

    def _flush(self) -> None:
        table = one_dictionary(pa.Table.from_batches(self._held, self._wire_schema))
        rows = self._held_rows
        self._held.clear()
        self._held_rows = 0
        with self._options.permit(table.nbytes // 2 + (1 << 20), "encoding a row group"):
            if self._writer is None:
                self._writer = self._open(table)
            if rows:
                self._writer.write_table(table, row_group_size=rows)

    def _open(self, first: pa.Table) -> pq.ParquetWriter:
        """The encodings of a file are settled by its first row group."""
        encodings = choose_encodings(first)
        codecs = encodings.codecs(self._options.compression)
        nested = dict.fromkeys(nested_leaves(first.schema), self._options.compression)
        writer = pq.ParquetWriter(
            self._file,
            first.schema,
            compression=(codecs | nested) or self._options.compression,
            use_dictionary=[*encodings.dictionary, *nested] or False,
            column_encoding=dict.fromkeys(encodings.delta, "DELTA_BINARY_PACKED") or None,
            store_decimal_as_integer=True,
            store_schema=False,
            version="2.6",
        )
        writer.add_key_value_metadata(stored_schema(self._schema))
        return writer


def one_dictionary(table: pa.Table) -> pa.Table:
    """Every frame has a dictionary of its own; the writer gives dictionaries up at the second that differs.

    Codes of eight bits would not do for the values of many frames.
    """
    for number, field in enumerate(table.schema):
        if not pa.types.is_dictionary(field.type):
            continue
        type_ = pa.dictionary(CODES, field.type.value_type, field.type.ordered)
        chunks = [
            pa.DictionaryArray.from_arrays(
                chunk.indices.cast(CODES), chunk.dictionary, safe=False, ordered=field.type.ordered
            )
            for chunk in table.column(number).chunks
        ]
        column = pa.chunked_array(chunks, type_).unify_dictionaries()
        table = table.set_column(number, field.with_type(type_), column)
    return table


def stored_schema(schema: pa.Schema) -> dict[str, str]:
    """File metadata that lets Arrow readers restore types that Parquet has no name for; nothing if all have one.

    Key and form are Arrow's own. pyarrow itself would store the types of the batches, which are dictionaries in places.
    """
    if all(_is_parquets_own(field.type) for field in schema):
        return {}
    return {"ARROW:schema": base64.b64encode(schema.remove_metadata().serialize().to_pybytes()).decode()}


def _is_parquets_own(type_: pa.DataType) -> bool:
    """Types that come back from Parquet as they are, and views of text: those come back plain, as readers expect."""
    check = pa.types
    if check.is_timestamp(type_):
        return bool(type_.unit != "s" and type_.tz in (None, "UTC"))
    if check.is_time(type_):
        return bool(type_.unit != "s")
    tests = (check.is_integer, check.is_floating, check.is_boolean, check.is_string, check.is_binary, check.is_date32)
    return (
        any(test(type_) for test in tests)
        or check.is_fixed_size_binary(type_)
        or check.is_decimal128(type_)
        or type_ in (pa.string_view(), pa.binary_view())
    )


def nested_leaves(schema: pa.Schema) -> list[str]:
    """Parquet's paths of all leaf columns within nested columns."""
    nested = [field for field in schema if pa.types.is_nested(field.type)]
    if not nested:
        return []
    leaves = _empty_file(pa.schema(nested)).schema
    return [leaves.column(number).path for number in range(len(leaves))]


def check_parquet_takes(schema: pa.Schema) -> None:
    """:raises OutputError: a column has a type that Parquet cannot hold."""
    for field in schema:
        try:
            _empty_file(pa.schema([field]))
        except pa.ArrowException as error:
            raise OutputError(
                f"Parquet cannot hold the column {field.name!r} of type {field.type} ({error}): leave it out with "
                "spec.source.columns, or write Arrow files with spec.sink.arrow"
            ) from None


def _empty_file(schema: pa.Schema) -> pq.FileMetaData:
    sink = pa.BufferOutputStream()
    pq.write_table(schema.empty_table(), sink)
    return pq.read_metadata(pa.BufferReader(sink.getvalue()))
