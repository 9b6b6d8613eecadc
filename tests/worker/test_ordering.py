"""The order of rows by several columns, against Python's own sorting."""

import math
from decimal import Decimal

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shuffle_worker.ordering import SortColumn, sort_indices

FLOATS = st.one_of(st.none(), st.sampled_from([math.nan, math.inf, -math.inf, 0.0, -0.0, 1.5]), st.floats(-9, 9))
TEXTS = st.one_of(st.none(), st.sampled_from(["", "a", "é", "z", "\U0001f600", "a\x00"]))
TYPES = [pa.string(), pa.string_view(), pa.large_string(), pa.dictionary(pa.int8(), pa.string())]


def rank(value, column):
    """Tuples that compare as the values of a column do."""
    if value is None:
        return (not column.nulls_first, 0, 0)
    nan = isinstance(value, float) and math.isnan(value)
    where = (nan, 0 if nan else value)
    if isinstance(value, str):
        where = (False, (*value.encode(), -1))
    if not column.descending:
        return (column.nulls_first, *where)
    if isinstance(value, str):
        return (column.nulls_first, False, (*(-byte for byte in value.encode()), 1))
    return (column.nulls_first, -where[0], -where[1])


@settings(max_examples=150, deadline=None)
@given(
    rows=st.lists(st.tuples(FLOATS, TEXTS), max_size=40),
    type_=st.sampled_from(TYPES),
    signs=st.tuples(st.booleans(), st.booleans(), st.booleans(), st.booleans()),
)
def test_it_is_pythons_order_and_stable(rows, type_, signs):
    columns = [SortColumn("x", signs[0], signs[1]), SortColumn("y", signs[2], signs[3])]
    table = pa.table(
        {
            "x": pa.array([x for x, _ in rows], pa.float64()),
            "y": pa.array([y for _, y in rows], pa.string()).cast(pa.string())
            if type_ == pa.string()
            else pa.array([y for _, y in rows], type_),
        }
    )
    expected = sorted(range(len(rows)), key=lambda n: [rank(v, c) for v, c in zip(rows[n], columns, strict=True)])
    assert sort_indices(table, columns).to_pylist() == expected


SHORT = [pa.float16(), pa.decimal32(5, 2), pa.decimal64(9, 2), pa.bool_(), pa.uint64()]


@pytest.mark.parametrize("type_", SHORT, ids=str)
def test_types_that_arrow_does_not_sort_itself(type_):
    numbers = [Decimal(1), Decimal(0), Decimal(1), None, Decimal(0)]
    floats = pa.array([None if number is None else float(number) for number in numbers])
    values = pa.array(numbers, type_) if pa.types.is_decimal(type_) else floats.cast(type_)
    table = pa.table({"k": values})
    assert sort_indices(table, [SortColumn("k")]).to_pylist() == [1, 4, 0, 2, 3]
    assert sort_indices(table, [SortColumn("k", True, True)]).to_pylist() == [3, 0, 2, 1, 4]


def test_a_column_of_nulls_orders_nothing():
    table = pa.table({"k": pa.nulls(3)})
    assert sort_indices(table, [SortColumn("k")]).to_pylist() == [0, 1, 2]
    assert sort_indices(table, []).to_pylist() == [0, 1, 2]
