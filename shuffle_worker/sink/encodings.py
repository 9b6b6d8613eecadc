"""Which Parquet encoding and codec each column of a file gets. Pure: it looks at a sample of the first row group.

pyarrow's writer as it comes builds a dictionary for every column and gives most of them up again. Here the sample tells
how many bits a value would take: as a code of a dictionary, as a difference from the value before (numbers, dates and
times), or as it is. Columns that came as dictionaries stay so. Differences are dense: a fast codec finds nothing in
them and costs time, so it is left out there; a thorough one (Zstd, Gzip) was asked for and stays.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

DELTA = "DELTA_BINARY_PACKED"
FAST_CODECS = ("snappy", "lz4")
# Small, for it is looked at for every file: together a third of a millisecond for 16 columns.
SAMPLE_SLICES = 4
SAMPLE_SLICE_ROWS = 256
# A dictionary has to be this much smaller, for it is slower to build.
WORTH_IT = 0.85
DELTA_HEADER_BITS = 0.4  # of each value: blocks of 128 differences open with the least of them and four widths
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
        return dict.fromkeys(self.delta, dense) | dict.fromkeys((*self.dictionary, *self.plain), codec)


def choose_encodings(table: pa.Table) -> Encodings:
    """From the first row group of a file. Columns that are dictionaries stay so, in the file only."""
    sample = _sample(table)
    dictionary: list[str] = []
    delta: list[str] = []
    plain: list[str] = []
    for number, field in enumerate(table.schema):
        if pa.types.is_nested(field.type):
            continue
        if pa.types.is_dictionary(field.type):
            dictionary.append(field.name)
            continue
        column = _single(sample.column(number))
        as_delta = takes_delta(field.type)
        bits = _delta_bits(column.slice(0, SAMPLE_SLICE_ROWS)) if as_delta else _plain_bits(column)
        if len(column) > column.null_count and _dictionary_bits(column, table.num_rows) < WORTH_IT * bits:
            dictionary.append(field.name)
        else:
            (delta if as_delta else plain).append(field.name)
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


def estimate_distinct(column: pa.Array) -> float:
    """How many values there are where this sample comes from, by how many of its first half are in its second too.

    It is not misled by values that stand together. Too few only costs time, for the writer gives a dictionary up when
    it grows.
    """
    half = len(column) // 2
    first = _count(column.slice(0, half))
    if first in (0, half):
        return math.inf if half else float(_count(column))
    second = _count(column.slice(half))
    both = first + second - _count(column)
    return first * second / both if both else math.inf


def _count(column: pa.Array) -> int:
    return int(pc.count_distinct(column).as_py())


def _sample(table: pa.Table) -> pa.Table:
    """A few slices, spread evenly: neighbours may be alike."""
    if table.num_rows <= SAMPLE_SLICES * SAMPLE_SLICE_ROWS:
        return table
    step = (table.num_rows - SAMPLE_SLICE_ROWS) // (SAMPLE_SLICES - 1)
    return pa.concat_tables(table.slice(number * step, SAMPLE_SLICE_ROWS) for number in range(SAMPLE_SLICES))


def _single(column: pa.ChunkedArray) -> pa.Array:
    """One array, of a type whose values Arrow can count."""
    if column.type == pa.string_view():
        column = column.cast(pa.large_string())
    elif column.type == pa.binary_view():
        column = column.cast(pa.large_binary())
    array = column.combine_chunks()
    return array.storage if isinstance(array, pa.ExtensionArray) else array


def _plain_bits(column: pa.Array) -> float:
    """Bits of a value as it is; those of text and bytes have a length beside them."""
    return float(8 * column.nbytes / max(1, len(column) - column.null_count))


def _dictionary_bits(column: pa.Array, rows: int) -> float:
    """Bits of a value: its code, and its share of the dictionary."""
    distinct = estimate_distinct(column)
    return math.log2(distinct) + _plain_bits(column) * min(1, distinct / rows)


def _delta_bits(column: pa.Array) -> float:
    """Bits of a difference between neighbours: as many as tell the smallest from the largest."""
    values = _integers(column.drop_null())
    if len(values) < 2:
        return DELTA_HEADER_BITS
    limits = pc.min_max(pc.pairwise_diff(values))
    return float((limits["max"].as_py() - limits["min"].as_py()).bit_length() + DELTA_HEADER_BITS)


def _integers(values: pa.Array) -> pa.Array:
    """As Parquet stores them. Differences may wrap round, as they do there."""
    if pa.types.is_decimal(values.type):
        whole = {32: pa.int32(), 64: pa.int64(), 128: pa.decimal128(38), 256: pa.decimal256(76)}[values.type.bit_width]
        unscaled = pa.Array.from_buffers(whole, len(values), values.buffers(), offset=values.offset)
        return unscaled.cast(pa.int64())
    if pa.types.is_unsigned_integer(values.type):
        return values.cast(pa.uint64()).view(pa.int64())
    if pa.types.is_integer(values.type):
        return values.cast(pa.int64())
    return values.view(pa.int32() if values.type.bit_width == 32 else pa.int64())
