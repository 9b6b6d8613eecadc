"""Range partitioning against a plain sort of Python values."""

import math
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shuffle_worker._native.buffer import BufferPool
from shuffle_worker._native.digest import KeyDigest
from shuffle_worker._native.partition import Partitioner
from shuffle_worker.errors import Corrupted, UserError
from shuffle_worker.frames import split_group
from shuffle_worker.partitioning import Key, Partitioning, Staging

TYPES: dict[pa.DataType, st.SearchStrategy[Any]] = {
    pa.int8(): st.integers(-128, 127),
    pa.uint64(): st.integers(0, (1 << 64) - 1),
    pa.int64(): st.integers(-(1 << 63), (1 << 63) - 1),
    pa.float16(): st.floats(width=16),
    pa.float32(): st.floats(width=32),
    pa.float64(): st.floats(),
    pa.bool_(): st.booleans(),
    pa.date32(): st.dates(),
    pa.decimal64(15, 2): st.decimals(-100, 100, places=2),
    pa.decimal128(38, 2): st.decimals(Decimal("-1e30"), Decimal("1e30"), places=2),
    pa.decimal256(60, 2): st.decimals(-100, 100, places=2),
    pa.string(): st.text(max_size=20),
    pa.string_view(): st.text(max_size=20),
    pa.large_binary(): st.binary(max_size=20),
    pa.binary(3): st.binary(min_size=3, max_size=3),
}


class Turned:
    """Compares the other way round."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __lt__(self, other: "Turned") -> bool:
        return bool(other.value < self.value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Turned) and bool(other.value == self.value)


def rank(value: Any, key: Key) -> tuple[int, Any]:
    """What orders a value as the key says: NaN after all numbers, text by its bytes, nulls at their end."""
    if value is None:
        return (0 if key.nulls_first else 2, 0)
    if isinstance(value, float):
        value = (math.isnan(value), 0.0 if math.isnan(value) else value)
    if isinstance(value, str):
        value = value.encode()
    return (1, Turned(value) if key.descending else value)


@st.composite
def cases(draw: st.DrawFn) -> tuple[pa.RecordBatch, pa.RecordBatch, tuple[Key, ...]]:
    """Rows, boundaries drawn from the same few values, and keys."""
    keys, columns, bounds = [], [], []
    rows, count = draw(st.integers(0, 30)), draw(st.integers(0, 6))
    for number in range(draw(st.integers(1, 3))):
        type = draw(st.sampled_from(list(TYPES)))
        pool = draw(st.lists(st.none() | TYPES[type], min_size=1, max_size=5))
        keys.append(Key(f"c{number}", descending=draw(st.booleans()), nulls_first=draw(st.booleans())))
        column = pa.array(draw(st.lists(st.sampled_from(pool), min_size=rows, max_size=rows)), type)
        if draw(st.booleans()):
            column = pa.DictionaryArray.from_arrays(pa.array(range(rows), pa.int16()), column)
        columns.append(column)
        bounds.append(pa.array(draw(st.lists(st.sampled_from(pool), min_size=count, max_size=count)), type))
    names = [key.name for key in keys]
    values = list(zip(*(bound.to_pylist() for bound in bounds), strict=True))
    ranks = [tuple(rank(value, key) for value, key in zip(row, keys, strict=True)) for row in values]
    order = sorted(range(count), key=ranks.__getitem__)
    sorted_bounds = [pa.array([bound.to_pylist()[i] for i in order], bound.type) for bound in bounds]
    return pa.record_batch(columns, names=names), pa.record_batch(sorted_bounds, names=names), tuple(keys)


@given(case=cases())
@settings(max_examples=200, deadline=None)
def test_rows_go_right_of_every_boundary_they_reach(case: Any) -> None:
    batch, boundaries, keys = case
    way = Partitioning("Range", boundaries.num_rows + 1, boundaries.num_rows + 1, keys, boundaries=boundaries)
    partitioner = Partitioner(batch.schema, way, Staging(), BufferPool())
    digest = KeyDigest(batch.schema, way)
    total = 0

    def ranks(rows: pa.RecordBatch) -> list[Any]:
        columns = [column.to_pylist() for column in rows.columns]
        return [tuple(rank(v, key) for v, key in zip(row, keys, strict=True)) for row in zip(*columns, strict=True)]

    bounds = ranks(boundaries)
    for frame in [*partitioner.push(batch), *partitioner.flush()]:
        for partition, part in split_group(frame):
            assert digest.add(part, partition) == frame.value
            total += part.num_rows
            for row in ranks(part):
                assert sum(not row < bound for bound in bounds) == partition
    assert total == batch.num_rows


def way(boundaries: list[Any], type: pa.DataType | None = None, **options: bool) -> Partitioning:
    rows = pa.record_batch([pa.array(boundaries, type)], names=["bound"])
    return Partitioning("Range", len(boundaries) + 1, len(boundaries) + 1, (Key("k", **options),), boundaries=rows)


def test_zeroes_are_equal_and_nan_is_last(pool: BufferPool) -> None:
    batch = pa.record_batch({"k": [-0.0, 0.0, float("nan"), float("inf"), -1.0]})
    partitioner = Partitioner(batch.schema, way([0.0, float("nan")]), Staging(), pool)
    list(partitioner.push(batch))
    assert partitioner.figures.group_rows == [1, 3, 1]


def test_a_row_of_another_partition_is_told_at_the_sink() -> None:
    batch = pa.record_batch({"k": [1, 2, 30]})
    digest = KeyDigest(batch.schema, way([10]))
    with pytest.raises(Corrupted, match="row 2 of a batch of partition 0 belongs to partition 1"):
        digest.add(batch, 0)


def test_what_has_no_order_is_refused(pool: BufferPool) -> None:
    schema = pa.schema([("k", pa.int64())])
    with pytest.raises(UserError, match="range boundaries are out of order: number 3 comes before number 2"):
        Partitioner(schema, way([1, 5, 4]), Staging(), pool)
    with pytest.raises(UserError, match="out of order"):
        Partitioner(schema, way([1, 5], descending=True), Staging(), pool)
    with pytest.raises(UserError, match="range boundaries of key 'k' have type string, the key has int64"):
        Partitioner(schema, way(["x"]), Staging(), pool)
    nested = pa.schema([("k", pa.list_(pa.int64()))])
    with pytest.raises(UserError, match="column 'k' of type nested cannot be a key"):
        Partitioner(nested, way([[1]], pa.list_(pa.int64())), Staging(), pool)
