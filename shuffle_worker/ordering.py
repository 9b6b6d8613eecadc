"""The order of rows by several columns, as Range partitions have it: sampling and sorting must agree with the kernel.

Numbers by value, -0.0 equal to 0.0, NaN after every other number, text by its bytes; nulls first or last as each key
says, whether it descends or not. Arrow's own sort puts NaN beside the nulls, has one place of nulls for all keys, and
knows no views, half floats or short decimals: those come as other columns here. Pure.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc


@dataclass(frozen=True)
class SortColumn:
    """One column to order by."""

    name: str
    descending: bool = False
    nulls_first: bool = False


def sort_indices(table: pa.Table, columns: Sequence[SortColumn]) -> pa.Array:
    """Row numbers (uint64) in order; rows that are equal in all columns stay as they are."""
    arrays: list[pa.ChunkedArray] = []
    orders: list[tuple[str, str]] = []

    def add(array: pa.ChunkedArray, descending: bool) -> None:
        orders.append((str(len(arrays)), "descending" if descending else "ascending"))
        arrays.append(array)

    for column in columns:
        values = takeable(table.column(column.name))
        if values.null_count:
            # The larger of the two ranks comes last.
            add(pc.is_null(values) if not column.nulls_first else pc.is_valid(values), False)
        if pa.types.is_null(values.type):
            continue
        if pa.types.is_floating(values.type):
            add(pc.fill_null(pc.is_nan(values), False), column.descending)
        add(values, column.descending)
    if not arrays:
        return pa.arange(0, table.num_rows).cast(pa.uint64())
    keys = pa.table(arrays, names=[name for name, _ in orders])
    return pc.sort_indices(keys, sort_keys=orders)


def takeable(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """The same values in a type that Arrow can take from and sort."""
    wanted = takeable_type(column.type)
    return column if column.type == wanted else column.cast(wanted)


def takeable_type(type_: pa.DataType) -> pa.DataType:
    """What `takeable` makes of a type."""
    if pa.types.is_dictionary(type_):
        return takeable_type(type_.value_type)
    if pa.types.is_string_view(type_) or pa.types.is_string(type_):
        return pa.large_string()  # a whole partition may hold more than 2 GiB of text
    if pa.types.is_binary_view(type_) or pa.types.is_binary(type_):
        return pa.large_binary()
    if pa.types.is_float16(type_):
        return pa.float32()
    if pa.types.is_decimal32(type_) or pa.types.is_decimal64(type_):
        return pa.decimal128(type_.precision, type_.scale)
    return type_
