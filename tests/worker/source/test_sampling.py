"""Range boundaries drawn from the input, held against Python's own sorting and bisecting."""

import bisect
import datetime
import math
import random
from decimal import Decimal
from functools import cmp_to_key

import pyarrow as pa
import pytest

from shuffle_worker import partitioning
from shuffle_worker._native.buffer import BufferPool
from shuffle_worker._native.partition import Partitioner
from shuffle_worker.errors import InputError
from shuffle_worker.plan import FileIdentity, Split
from shuffle_worker.source.base import cut_splits
from shuffle_worker.source.sampling import draw_rows, sample_boundaries, sample_rows, spread
from shuffle_worker.spec.model import (
    FileSource,
    JobSpec,
    Key,
    Nulls,
    Order,
    ParquetSink,
    RangeOptions,
    Shuffle,
    ShuffleType,
    Sink,
)
from shuffle_worker.spec.model import Source as SourceSpec


def job(*keys, partitions, rows=None):
    shuffle = Shuffle(
        type=ShuffleType.RANGE,
        partitions=partitions,
        keys=tuple(keys),
        range=RangeOptions(sample_rows=rows) if rows else None,
    )
    source = SourceSpec(parquet=FileSource(paths=("x",)))
    return JobSpec(source=source, shuffle=shuffle, sink=Sink(parquet=ParquetSink(path="out")))


def compare(keys):
    """Python's order of rows (tuples) by the keys' definition."""

    def one(a, b, key):
        if a is None or b is None:
            return 0 if a is b else (-1 if (a is None) == (key.nulls is Nulls.FIRST) else 1)
        nan_a, nan_b = (isinstance(v, float) and math.isnan(v) for v in (a, b))
        if nan_a or nan_b:
            order = nan_a - nan_b
        else:
            if isinstance(a, str):
                a, b = a.encode(), b.encode()
            order = (a > b) - (a < b)
        return -order if key.order is Order.DESCENDING else order

    def both(left, right):
        return next((c for a, b, key in zip(left, right, keys, strict=True) if (c := one(a, b, key))), 0)

    return cmp_to_key(both)


def sizes(rows, boundaries, keys):
    """How many rows go to each partition: as many boundaries as a row is not before."""
    order = compare(keys)
    cuts = [order(cut) for cut in boundaries]
    counts = [0] * (len(boundaries) + 1)
    for row in rows:
        counts[bisect.bisect_right(cuts, order(row))] += 1
    return counts


def draw(reading, spec, seed=0, split_bytes=1 << 16):
    splits = cut_splits(reading.info, split_bytes, 1)
    batch = sample_boundaries(reading.source, reading.info, splits, spec, reading.permits, seed=seed)
    assert batch.num_rows == spec.shuffle.partitions - 1
    return batch


def tuples(table):
    return list(zip(*(column.to_pylist() for column in table.columns), strict=True))


@pytest.mark.parametrize("partitions", [2, 7, 64, 500])
@pytest.mark.parametrize("shape", ["sorted", "shuffled", "saw"])
def test_partitions_of_distinct_keys_are_near_the_mean(write_parquet, open_files, partitions, shape):
    rows = 200_000
    values = list(range(0, 3 * rows, 3))
    if shape == "shuffled":
        random.Random(7).shuffle(values)
    elif shape == "saw":
        values = [value for start in range(400) for value in values[start::400]]
    path = write_parquet("in.parquet", pa.table({"k": values}), row_group_size=8_000)
    batch = draw(open_files(path), job("k", partitions=partitions))
    counts = [0] * partitions
    cuts = batch.column(0).to_pylist()
    for value in values:
        counts[bisect.bisect_right(cuts, value)] += 1
    assert max(counts) <= 1.3 * rows / partitions
    assert sum(counts) == rows


def test_a_small_input_is_sampled_whole_and_cut_exactly(write_parquet, open_files):
    values = list(range(1000))
    random.Random(1).shuffle(values)
    batch = draw(open_files(write_parquet("in.parquet", pa.table({"k": values}))), job("k", partitions=8))
    assert batch.column(0).to_pylist() == [125, 250, 375, 500, 625, 750, 875]


def test_the_seed_decides(write_parquet, open_files):
    path = write_parquet("in.parquet", pa.table({"k": range(100_000)}), row_group_size=10_000)
    reading, spec = open_files(path), job("k", partitions=9)
    assert draw(reading, spec, seed=5).equals(draw(reading, spec, seed=5))
    assert not draw(reading, spec, seed=5).equals(draw(reading, spec, seed=6))


@pytest.mark.parametrize("order", list(Order))
@pytest.mark.parametrize("nulls", list(Nulls))
def test_nulls_and_nan_stand_where_the_keys_say(write_parquet, open_files, order, nulls):
    chance = random.Random(3)
    floats = [None, float("nan"), math.inf, -math.inf, 0.0, *(chance.uniform(-9, 9) for _ in range(5))]
    rows = [(chance.choice(floats), chance.choice([None, "a", "é", "zz", "z"])) for _ in range(3000)]
    table = pa.table({"x": pa.array([a for a, _ in rows]), "y": pa.array([b for _, b in rows], pa.string_view())})
    keys = (Key(name="x", order=order, nulls=nulls), Key(name="y", nulls=Nulls.FIRST))
    batch = draw(
        open_files(write_parquet("in.parquet", table, row_group_size=500)), job(*keys, partitions=6, rows=3000)
    )
    cuts = tuples(batch)
    by_order = compare(keys)
    assert [repr(cut) for cut in cuts] == [repr(cut) for cut in sorted(cuts, key=by_order)]
    # Everything was sampled, so each boundary is the row that stands there.
    ordered = sorted(rows, key=by_order)
    assert [repr(cut) for cut in cuts] == [repr(ordered[n * 3000 // 6]) for n in range(1, 6)]


@pytest.mark.parametrize(
    ("type_", "values"),
    [
        (pa.uint64(), [0, 2**63, 2**64 - 1]),
        (pa.int8(), [-128, 0, 127]),
        (pa.float16(), [-1.5, 0.0, 2.5]),
        (pa.bool_(), [False, False, True]),
        (pa.decimal128(15, 2), [Decimal("-3.10"), Decimal("0.00"), Decimal("9.99")]),
        (pa.decimal256(50, 3), [Decimal("-3.100"), Decimal("0.000"), Decimal("9.990")]),
        (pa.date32(), [datetime.date(1969, 1, 1), datetime.date(1970, 1, 1), datetime.date(2026, 2, 3)]),
        (pa.timestamp("us", "Europe/Rome"), [0, 1, 2]),
        (pa.time64("us"), [datetime.time(0), datetime.time(1), datetime.time(23, 59)]),
        (pa.duration("ms"), [1, 2, 3]),
        (pa.string(), ["", "a", "ab"]),
        (pa.large_string(), ["", "a", "ab"]),
        (pa.string_view(), ["", "a", "ab"]),
        (pa.binary_view(), [b"", b"\x00", b"\xff"]),
        (pa.binary(2), [b"\x00\x01", b"\x01\x00", b"\xff\xff"]),
        (pa.dictionary(pa.int8(), pa.string()), ["", "a", "ab"]),
    ],
    ids=str,
)
def test_every_type_that_has_an_order(write_parquet, open_files, type_, values):
    given = pa.array(values, type_)
    table = pa.table({"k": pa.chunked_array([given] * 40)})
    batch = draw(open_files(write_parquet("in.parquet", table, row_group_size=7)), job("k", partitions=4))
    assert batch.schema.names == ["k"]
    plain = type_.value_type if pa.types.is_dictionary(type_) else type_
    assert batch.schema.field(0).type == plain
    expected = pa.array(sorted(given.to_pylist() * 40), plain)
    assert batch.column(0).to_pylist() == [expected[n * 120 // 4].as_py() for n in (1, 2, 3)]


def test_a_cast_key_is_ordered_as_what_it_is_cast_to(write_parquet, open_files):
    path = write_parquet("in.parquet", pa.table({"k": [str(n) for n in range(100)]}))
    batch = draw(open_files(path), job(Key(name="k", cast="int64"), partitions=4))
    assert batch.schema.field(0).type == pa.int64()
    assert batch.column(0).to_pylist() == [25, 50, 75]


def test_a_value_that_does_not_cast_is_named_with_its_file(write_parquet, open_files):
    path = write_parquet("in.parquet", pa.table({"k": ["1", "2", "x3"]}))
    with pytest.raises(InputError, match=r"in\.parquet: the key 'k' holds a value that does not cast to int64.*x3"):
        draw(open_files(path), job(Key(name="k", cast="int64"), partitions=2))


def test_an_input_without_rows_has_boundaries_all_the_same(write_parquet, open_files):
    path = write_parquet("in.parquet", pa.table({"k": pa.array([], pa.string())}))
    batch = draw(open_files(path), job("k", partitions=5))
    assert batch.column(0).to_pylist() == [None] * 4


def test_one_value_everywhere_cuts_nothing_in_two(write_parquet, open_files):
    path = write_parquet("in.parquet", pa.table({"k": [4] * 5000}))
    batch = draw(open_files(path), job("k", partitions=5))
    assert sizes([(4,)] * 5000, tuples(batch), [Key(name="k")]) == [0, 0, 0, 0, 5000]


def test_only_key_columns_are_read_and_the_sample_is_bounded(write_parquet, open_files):
    table = pa.table({"k": range(50_000), "wide": ["x" * 200] * 50_000})
    reading = open_files(write_parquet("in.parquet", table, row_group_size=5_000, use_dictionary=False))
    draw(reading, job("k", partitions=2, rows=100))
    assert max(size for size, _ in reading.permits.asked) < 400_000
    assert [what for _, what in reading.permits.asked][-1] == "sorting a sample for range boundaries"


def test_draws_are_one_from_each_stratum():
    drawn = draw_rows(10_007, 1000, 42).to_pylist()
    assert len(drawn) == 1000
    assert all(n * 10_007 // 1000 <= place <= (n + 1) * 10_007 // 1000 for n, place in enumerate(drawn))
    assert draw_rows(5, 5, 0).to_pylist() == draw_rows(5, 9, 0).to_pylist() == [0, 1, 2, 3, 4]


def test_every_split_gives_its_share():
    identity = FileIdentity(0, 0, "")
    splits = [Split("a", identity, 0, 0, rows, 0, first) for rows, first in ((10, 0), (1, 10), (989, 11))]
    assert spread(100, splits) == [1, 0, 99]
    assert spread(5000, splits) == [10, 1, 989]


def test_the_sample_grows_with_the_partitions():
    assert [sample_rows(n, None) // n for n in (2, 64, 10_000)] == [256, 256, 443]
    assert sample_rows(65_536, None) == 1 << 24
    assert sample_rows(65_536, 10) == 10


@pytest.mark.parametrize("order", list(Order))
def test_the_kernel_takes_the_boundaries_and_cuts_as_they_say(write_parquet, open_files, order):
    chance = random.Random(9)
    rows = [(chance.choice([None, math.nan, *range(40)]), chance.choice(["a", "b", None])) for _ in range(4000)]
    rows = [(None if x is None else float(x), y) for x, y in rows]
    table = pa.table({"x": pa.array([x for x, _ in rows], pa.float32()), "y": [y for _, y in rows]})
    keys = (Key(name="x", order=order, nulls=Nulls.FIRST), Key(name="y"))
    reading = open_files(write_parquet("in.parquet", table))
    batch = draw(reading, job(*keys, partitions=5))
    kernel_keys = tuple(
        partitioning.Key(key.name, None, key.order is Order.DESCENDING, key.nulls is Nulls.FIRST) for key in keys
    )
    partitioner = Partitioner(
        table.schema,
        partitioning.Partitioning("Range", 5, 5, kernel_keys, boundaries=batch),
        partitioning.Staging(),
        BufferPool(),
    )
    partitioner.reset()
    for part in table.to_batches():
        for _ in partitioner.push(part):
            pass
    assert list(partitioner.figures.group_rows) == sizes(rows, tuples(batch), keys)
