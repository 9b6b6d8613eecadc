"""What a Parquet footer tells about a file's columns: which hold few values, and how large they are once decoded. Pure.

pyarrow does not show how many pages of a chunk are dictionary-encoded, so sizes have to tell: codes of a dictionary
take at most 20 bits or so, a plain string takes four bytes before its first character.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

# A column of few values: codes of 8 bits and a small dictionary page (256 values of 64 bytes).
FEW_BYTES_PER_VALUE = 1.25
FEW_PAGE_BYTES = 16 << 10
# A column that its writer kept as a dictionary: codes of 20 bits, and the page at which writers give up.
CODED_BYTES_PER_VALUE = 2.6
CODED_PAGE_BYTES = 1 << 20
# A value of a dictionary-encoded string column, when nothing tells its length.
GUESSED_STRING_BYTES = 24
_WIDTHS = {"BOOLEAN": 0.125, "INT32": 4.0, "FLOAT": 4.0, "INT64": 8.0, "DOUBLE": 8.0, "INT96": 8.0}
_DECIMAL_BYTES = 16.0
_VALIDITY_BYTES = 0.125


@dataclass(frozen=True)
class Leaf:
    """A column as Parquet stores it: one without parts. Made once for each file, for footers are slow to ask."""

    number: int
    column: str
    """The column of the schema that it is, or is a part of."""
    top_level: bool
    width: float | None
    """Bytes of a value as an Arrow array; None for texts and binaries."""


def leaves_of(metadata: pq.FileMetaData) -> list[Leaf]:
    """All leaf columns of a file, in order."""
    schema = metadata.schema
    leaves = []
    for number in range(metadata.num_columns):
        column = schema.column(number)
        top_level = column.path == column.name and column.max_repetition_level == 0
        name = column.name if column.path == column.name else column.path.split(".", 1)[0]
        width = _WIDTHS.get(column.physical_type)
        if column.physical_type == "FIXED_LEN_BYTE_ARRAY":
            width = float(column.length)
        if column.logical_type.type == "DECIMAL":
            width = _DECIMAL_BYTES
        leaves.append(Leaf(number, name, top_level, width))
    return leaves


def few_valued(groups: Sequence[pq.RowGroupMetaData], leaves: Sequence[Leaf]) -> frozenset[str]:
    """Top-level text columns of few values in every row group. Those without rows say nothing, so they agree."""
    groups = [group for group in groups if group.num_rows]
    texts = [leaf for leaf in leaves if leaf.top_level and leaf.width is None]
    return frozenset(leaf.column for leaf in texts if all(_has_few(group.column(leaf.number)) for group in groups))


def decoded_bytes(chunk: pq.ColumnChunkMetaData, leaf: Leaf, few: frozenset[str]) -> int:
    """Bytes of a column chunk as an Arrow array, about. Columns in `few` are read as dictionaries."""
    values = chunk.num_values
    if leaf.width is not None:
        return int(values * (leaf.width + _VALIDITY_BYTES))
    stored: int = chunk.total_uncompressed_size
    if leaf.top_level and leaf.column in few:
        size = 4.0 * values
    elif _is_coded(chunk):
        size = values * (4.0 + _string_bytes(chunk))
    else:
        size = stored + 4.0 * values
    return int(max(size + _VALIDITY_BYTES * values, stored))


def _string_bytes(chunk: pq.ColumnChunkMetaData) -> int:
    statistics = chunk.statistics
    if statistics is None or not statistics.has_min_max:
        return GUESSED_STRING_BYTES
    return max(len(statistics.min_raw), len(statistics.max_raw))


def _page_bytes(chunk: pq.ColumnChunkMetaData) -> int:
    """Of the dictionary page, as stored."""
    return int(chunk.data_page_offset - (chunk.dictionary_page_offset or 0))


def _is_coded(chunk: pq.ColumnChunkMetaData) -> bool:
    return bool(
        chunk.has_dictionary_page
        and chunk.total_uncompressed_size <= CODED_BYTES_PER_VALUE * chunk.num_values + CODED_PAGE_BYTES
        and _page_bytes(chunk) <= max(FEW_PAGE_BYTES, chunk.total_compressed_size // 2)
    )


def _has_few(chunk: pq.ColumnChunkMetaData) -> bool:
    return bool(
        chunk.has_dictionary_page
        and chunk.total_uncompressed_size <= FEW_BYTES_PER_VALUE * chunk.num_values + FEW_PAGE_BYTES
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
