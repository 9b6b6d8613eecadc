"""What a Parquet footer tells about a file's columns: which hold few values, and how large they are once decoded. Pure.

pyarrow does not show how many pages of a chunk are dictionary-encoded, so sizes have to tell: codes of a dictionary
take at most 20 bits or so, a plain string takes four bytes before its first character.
"""

from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

# A column of few values: codes of 8 bits and a small dictionary page (256 values of 64 bytes).
FEW_BYTES_PER_VALUE = 1.25
FEW_PAGE_BYTES = 16 << 10
# A column that its writer kept as a dictionary: codes of 20 bits, and the page at which writers give up.
ENCODED_BYTES_PER_VALUE = 2.6
ENCODED_PAGE_BYTES = 1 << 20
# A value of a dictionary-encoded string column, when nothing tells its length.
GUESSED_STRING_BYTES = 24


@dataclass(frozen=True)
class ColumnHints:
    """Names of top-level columns, each true of every row group."""

    few: frozenset[str]
    """Strings of few values."""
    encoded: frozenset[str]
    """Strings and floats stored as dictionaries that are worth it, `few` among them."""

    def __and__(self, other: "ColumnHints") -> "ColumnHints":
        return ColumnHints(self.few & other.few, self.encoded & other.encoded)


def column_hints(metadata: pq.FileMetaData) -> ColumnHints:
    """Which columns a file stores as dictionaries. Files without rows say nothing, so they agree with any other."""
    flat = [number for number in range(metadata.num_columns) if _is_hinted(metadata.schema.column(number))]
    groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
    groups = [group for group in groups if group.num_rows]
    few, encoded = set(), set()
    for number in flat:
        chunks = [group.column(number) for group in groups]
        name = metadata.schema.column(number).name
        if all(map(_is_encoded, chunks)):
            encoded.add(name)
            if metadata.schema.column(number).physical_type == "BYTE_ARRAY" and all(map(_has_few, chunks)):
                few.add(name)
    return ColumnHints(frozenset(few), frozenset(encoded))


def decoded_bytes(group: pq.RowGroupMetaData, metadata: pq.FileMetaData, few: frozenset[str]) -> list[int]:
    """Bytes of each leaf column of a row group as Arrow arrays, about."""
    return [
        _decoded(group.column(number), metadata.schema.column(number), few) for number in range(metadata.num_columns)
    ]


def _decoded(chunk: pq.ColumnChunkMetaData, column: pq.ColumnSchema, few: frozenset[str]) -> int:
    values = chunk.num_values
    validity = values // 8
    match column.physical_type:
        case "BOOLEAN":
            size = values // 8
        case "INT32" | "FLOAT":
            size = 4 * values
        case "INT64" | "DOUBLE":
            size = 8 * values
        case "INT96":
            size = 8 * values
        case "FIXED_LEN_BYTE_ARRAY":
            size = column.length * values
        case _ if column.path in few:
            size = 4 * values
        case _ if _is_encoded(chunk):
            size = values * (4 + _string_bytes(chunk))
        case _:
            size = chunk.total_uncompressed_size + 4 * values
    if column.logical_type.type == "DECIMAL":
        size = 16 * values
    return int(max(size + validity, chunk.total_uncompressed_size if column.physical_type == "BYTE_ARRAY" else 0))


def _string_bytes(chunk: pq.ColumnChunkMetaData) -> int:
    statistics = chunk.statistics
    if statistics is None or not statistics.has_min_max:
        return GUESSED_STRING_BYTES
    return max(len(value) for value in (statistics.min_raw, statistics.max_raw)) if statistics.min_raw else 0


def _is_hinted(column: pq.ColumnSchema) -> bool:
    """Top-level strings and floats. Integers and their like are better off as differences."""
    top_level = column.path == column.name and column.max_repetition_level == 0
    return bool(top_level and column.physical_type in ("BYTE_ARRAY", "FLOAT", "DOUBLE"))


def _page_bytes(chunk: pq.ColumnChunkMetaData) -> int:
    return int(chunk.data_page_offset - (chunk.dictionary_page_offset or 0))


def _is_encoded(chunk: pq.ColumnChunkMetaData) -> bool:
    return bool(
        chunk.has_dictionary_page
        and chunk.total_uncompressed_size <= ENCODED_BYTES_PER_VALUE * chunk.num_values + ENCODED_PAGE_BYTES
        and _page_bytes(chunk) <= max(FEW_PAGE_BYTES, chunk.total_compressed_size // 2)
    )


def _has_few(chunk: pq.ColumnChunkMetaData) -> bool:
    return (
        chunk.total_uncompressed_size <= FEW_BYTES_PER_VALUE * chunk.num_values + FEW_PAGE_BYTES
        and _page_bytes(chunk) <= FEW_PAGE_BYTES
    )


def worth_a_dictionary(type_: pa.DataType) -> bool:
    """Types that Parquet readers give as dictionaries when asked to."""
    return bool(
        pa.types.is_string(type_)
        or pa.types.is_binary(type_)
        or pa.types.is_large_string(type_)
        or pa.types.is_large_binary(type_)
        or pa.types.is_string_view(type_)
        or pa.types.is_binary_view(type_)
    )
