"""Which Parquet encoding and codec each column of a file gets. Pure: it looks at a sample of the first row group.

pyarrow's writer as it comes builds a dictionary for every column and gives most of them up again. Here a dictionary is
built where the rows came as one or the sample repeats itself; numbers, dates and times are delta-encoded, which is
smaller and faster, to write and to read. Delta and dictionary pages are dense already: a fast codec finds next to
nothing in them (2 % of lineitem) and costs 4 % of the time, so it is left out there; a thorough one (Zstd, Gzip) stays.
"""

from collections.abc import Callable
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

DELTA = "DELTA_BINARY_PACKED"
FAST_CODECS = ("snappy", "lz4")
SAMPLE_SLICES = 4
SAMPLE_SLICE_ROWS = 1024
# A dictionary of texts or floats pays when a value of a small sample comes back: with 0.7 distinct in 4,096 rows there
# are about 6,000 values in all.
MOST_DISTINCT = 0.7
# One of integers has to beat delta packing, which needs as many bits as the range of neighbours has.
MOST_DISTINCT_INTEGERS = 0.125
BITS_ADVANTAGE = 1.5
DENSE_BITS = 8  # up to here delta is as small as codes are
DELTA_DECIMAL_DIGITS = 18  # of a decimal that fits into eight bytes


@dataclass(frozen=True)
class Encodings:
    """By column name; nested columns are not in it."""

    dictionary: tuple[str, ...]
    delta: tuple[str, ...]
    plain: tuple[str, ...]

    def codecs(self, codec: str) -> dict[str, str]:
        """The codec of each column, given that of the file."""
        dense = "none" if codec in FAST_CODECS else codec
        return dict.fromkeys((*self.dictionary, *self.delta), dense) | dict.fromkeys(self.plain, codec)


def choose_encodings(table: pa.Table) -> Encodings:
    """From the first row group of a file. Columns that are dictionaries stay so, in the file only."""
    sample = _sample(table)
    dictionary: list[str] = []
    delta: list[str] = []
    plain: list[str] = []
    for field, column in zip(sample.schema, sample.columns, strict=True):
        if pa.types.is_nested(field.type):
            continue
        if pa.types.is_dictionary(field.type):
            dictionary.append(field.name)
        elif takes_delta(field.type):
            (dictionary if _few_integers(column) else delta).append(field.name)
        else:
            (dictionary if _repeats(column) else plain).append(field.name)
    return Encodings(tuple(dictionary), tuple(delta), tuple(plain))


def takes_delta(type_: pa.DataType) -> bool:
    """Whether Parquet stores the type as 32- or 64-bit integers."""
    if pa.types.is_decimal(type_):
        return bool(type_.precision <= DELTA_DECIMAL_DIGITS)
    checks: tuple[Callable[[pa.DataType], bool], ...] = (
        pa.types.is_integer,
        pa.types.is_date,
        pa.types.is_time,
        pa.types.is_timestamp,
        pa.types.is_duration,
    )
    return any(check(type_) for check in checks)


def _sample(table: pa.Table) -> pa.Table:
    """A few slices, spread evenly: neighbours may be alike."""
    if table.num_rows <= SAMPLE_SLICES * SAMPLE_SLICE_ROWS:
        return table
    step = (table.num_rows - SAMPLE_SLICE_ROWS) // (SAMPLE_SLICES - 1)
    return pa.concat_tables(table.slice(number * step, SAMPLE_SLICE_ROWS) for number in range(SAMPLE_SLICES))


def _few_integers(column: pa.ChunkedArray) -> bool:
    if column.null_count == len(column):
        return False
    range_bits = _range(column).bit_length()
    if range_bits <= DENSE_BITS:
        return False
    distinct = pc.count_distinct(column).as_py()
    return bool(
        distinct <= MOST_DISTINCT_INTEGERS * len(column) and distinct.bit_length() * BITS_ADVANTAGE < range_bits
    )


def _range(column: pa.ChunkedArray) -> int:
    """Largest less smallest, in units of the type as stored."""
    if pa.types.is_decimal128(column.type) or pa.types.is_decimal256(column.type):
        limits = pc.min_max(column)
        return int((limits["max"].as_py() - limits["min"].as_py()).scaleb(column.type.scale))
    if not pa.types.is_integer(column.type):
        stored = pa.int32() if column.type.bit_width == 32 else pa.int64()
        column = pa.chunked_array([chunk.view(stored) for chunk in column.chunks], stored)
    limits = pc.min_max(column)
    return int(limits["max"].as_py() - limits["min"].as_py())


def _repeats(column: pa.ChunkedArray) -> bool:
    if pa.types.is_boolean(column.type) or pa.types.is_null(column.type):
        return False
    if column.type in (pa.string_view(), pa.binary_view()):
        column = column.cast(pa.large_string() if column.type == pa.string_view() else pa.large_binary())
    try:
        distinct = pc.count_distinct(column).as_py()
    except pa.ArrowNotImplementedError:
        return True  # let the writer try, as it does by itself
    return bool(distinct <= MOST_DISTINCT * len(column))
