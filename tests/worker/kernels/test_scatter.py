"""Batches in, frames out: every row arrives once, where its keys say, whatever the columns and their layouts."""

import datetime as dt
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shuffle_worker._native.buffer import BufferPool
from shuffle_worker._native.digest import KeyDigest, row_digest
from shuffle_worker._native.frame import Frame
from shuffle_worker._native.hash import hashable, partition_ids
from shuffle_worker._native.partition import Figures, Partitioner
from shuffle_worker.errors import InternalError, UserError
from shuffle_worker.frames import decode_frame, split_group
from shuffle_worker.partitioning import Key, Partitioning, Staging, group_of

SUM64 = 1 << 64
SUM128 = 1 << 128
TYPES: dict[pa.DataType, st.SearchStrategy[Any]] = {
    pa.int8(): st.integers(-128, 127),
    pa.uint16(): st.integers(0, 65535),
    pa.int64(): st.integers(-(1 << 63), (1 << 63) - 1),
    pa.float32(): st.floats(width=32),
    pa.float64(): st.floats(),
    pa.bool_(): st.booleans(),
    pa.date32(): st.dates(),
    pa.timestamp("us", "UTC"): st.datetimes(dt.datetime(1900, 1, 1), dt.datetime(2200, 1, 1)),
    pa.decimal64(12, 2): st.decimals(-1000, 1000, places=2),
    pa.decimal128(38, 3): st.decimals(Decimal("-1e30"), Decimal("1e30"), places=3),
    pa.decimal256(50, 1): st.decimals(-10, 10, places=1),
    pa.string(): st.text(max_size=60),
    pa.large_string(): st.text(max_size=60),
    pa.string_view(): st.text(max_size=60),
    pa.binary(): st.binary(max_size=20),
    pa.binary_view(): st.binary(max_size=20),
    pa.binary(7): st.binary(min_size=7, max_size=7),
    pa.binary(0): st.just(b""),
    pa.null(): st.none(),
    pa.month_day_nano_interval(): st.tuples(st.integers(0, 9), st.integers(0, 9), st.integers(0, 9)),
    pa.list_(pa.int32()): st.lists(st.integers(-5, 5), max_size=3),
    pa.struct([("a", pa.int8()), ("b", pa.string())]): st.fixed_dictionaries({"a": st.integers(0, 3), "b": st.text()}),
}


@st.composite
def batches(draw: st.DrawFn) -> tuple[pa.RecordBatch, list[str], list[str]]:
    """A batch (often a slice of a larger one, columns often dictionaries), its keys, its dictionary columns."""
    rows = draw(st.integers(0, 60))
    columns, names, keys, coded = [], [], [], []
    for number in range(draw(st.integers(1, 5))):
        type = draw(st.sampled_from(list(TYPES)))
        values = draw(st.lists(st.none() | TYPES[type], min_size=rows, max_size=rows))
        array = pa.array(values, type)
        flat = not pa.types.is_nested(type) and not pa.types.is_null(type)
        if flat and draw(st.booleans()):
            codes = draw(st.sampled_from([pa.int8(), pa.uint8(), pa.int32(), pa.int64()]))
            array = pa.DictionaryArray.from_arrays(pa.array(range(rows), codes), array)
        if flat and draw(st.booleans()):
            coded.append(f"c{number}")
        if not hashable(type):
            keys.append(f"c{number}")
        columns.append(array)
        names.append(f"c{number}")
    columns.append(pa.array(range(rows), pa.int32()))
    batch = pa.record_batch(columns, names=[*names, "row"])
    start = draw(st.integers(0, rows))
    return batch.slice(start, draw(st.integers(0, rows - start))), draw(st.permutations([*keys, "row"])), coded


def scatter(partitioner: Partitioner, *pieces: Any) -> list[Frame]:
    return [frame for piece in pieces for frame in partitioner.push(piece)] + list(partitioner.flush())


def parts_of(frames: list[Frame]) -> Iterator[tuple[int, pa.RecordBatch]]:
    for frame in frames:
        frame.seal()
        assert frame.verify() == 0
        yield from split_group(frame)


def values_of(batch: pa.RecordBatch) -> dict[int, tuple[str, ...]]:
    """Rows by their number; as text, so that NaN equals itself."""
    columns = [column.to_pylist() for column in batch.columns]
    return {row[-1]: tuple(map(repr, row)) for row in zip(*columns, strict=True)}


@given(
    data=batches(),
    partitions=st.sampled_from([1, 2, 3, 64, 1000]),
    divisor=st.sampled_from([1, 3, 1000]),
    codec=st.sampled_from(["None", "None", "LZ4", "Zstd", "Snappy"]),
    rows=st.sampled_from([1, 3, 8192]),
)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_every_row_arrives_once_where_it_belongs(
    data: tuple[pa.RecordBatch, list[str], list[str]], partitions: int, divisor: int, codec: Any, rows: int
) -> None:
    batch, keys, coded = data
    groups = max(1, partitions // divisor)
    way = Partitioning("Hash", partitions, groups, tuple(Key(name) for name in keys))
    staging = Staging(rows=rows, codec=codec, dictionary_columns=tuple(coded))
    partitioner = Partitioner(batch.schema, way, staging, BufferPool())
    half = batch.num_rows // 2
    frames = scatter(partitioner, batch.slice(0, half), batch.slice(half))
    found: dict[int, tuple[str, ...]] = {}
    key_digest, rows_digest = KeyDigest(batch.schema, way), 0
    ids = dict(zip(batch["row"].to_pylist(), partition_ids(batch, keys, partitions).to_pylist(), strict=True))
    for frame in frames:
        assert frame.rows <= rows
        value = 0
        for partition, part in split_group(frame):
            part.validate(full=True)
            assert part.schema == partitioner.wire_schema
            assert group_of(partition, partitions, groups) == frame.group
            assert {ids[row] for row in part["row"].to_pylist()} == {partition}
            assert not found.keys() & values_of(part).keys()
            found |= values_of(part)
            value += key_digest.add(part, partition)
            rows_digest += row_digest(part)
        assert value % SUM64 == frame.value
    assert found == values_of(batch)
    figures = partitioner.figures
    assert sum(frame.value for frame in frames) % SUM64 == figures.digest
    assert rows_digest % SUM128 == row_digest(batch)
    assert figures.rows == figures.staged_rows == sum(figures.group_rows) == batch.num_rows
    assert figures.frames == len(frames)


def simple(rows: int, start: int = 0) -> pa.RecordBatch:
    return pa.record_batch(
        {
            "k": pa.array(range(start, start + rows), pa.int64()),
            "s": pa.array([f"value {i % 1000}" for i in range(rows)]),
        }
    )


def by_key(partitions: int, groups: int | None = None, *keys: str) -> Partitioning:
    return Partitioning("Hash", partitions, groups or partitions, tuple(map(Key, keys or ("k",))))


def test_frames_leave_when_their_group_is_full(pool: BufferPool) -> None:
    partitioner = Partitioner(simple(1).schema, by_key(1), Staging(rows=1000), pool)
    assert [frame.rows for frame in partitioner.push(simple(2500))] == [1000, 1000]
    assert [frame.rows for frame in partitioner.flush()] == [500]
    wide = pa.record_batch({"k": [1, 2, 3], "s": ["x" * 700_000] * 3})
    partitioner.reset()
    assert [frame.rows for frame in partitioner.push(wide)] == [3]
    assert list(partitioner.flush()) == []


@pytest.mark.parametrize("groups", [1, 7, 65_536])
def test_65536_partitions(pool: BufferPool, groups: int) -> None:
    batch = simple(100_000)
    partitioner = Partitioner(batch.schema, by_key(65_536, groups), Staging(budget_bytes=64 << 20), pool)
    parts = list(parts_of(scatter(partitioner, batch)))
    assert sorted(row for _, part in parts for row in part["k"].to_pylist()) == list(range(100_000))
    for partition, part in parts[:200]:
        assert set(partition_ids(part, ["k"], 65_536).to_pylist()) == {partition}
    assert partitioner.staging_bytes < 256 << 20


def test_a_column_of_many_values_still_travels_as_dictionaries_of_256(pool: BufferPool) -> None:
    batch = pa.record_batch({"k": range(5000), "s": [f"value {i % 900}" for i in range(5000)]})
    partitioner = Partitioner(batch.schema, by_key(4), Staging(dictionary_columns=("s",)), pool)
    coded = batch.set_column(1, "s", batch["s"].dictionary_encode())
    for given_batch in (batch, coded):
        partitioner.reset()
        frames = scatter(partitioner, given_batch)
        found = {}
        for frame in frames:
            part = decode_frame(frame)
            assert len(part["s"].dictionary) <= 256
            found |= dict(zip(part["k"].to_pylist(), part["s"].to_pylist(), strict=True))
        assert found == dict(zip(batch["k"].to_pylist(), batch["s"].to_pylist(), strict=True))


def test_a_huge_value_travels_alone_and_too_huge_a_one_is_named(pool: BufferPool) -> None:
    big = "x" * (20 << 20)
    batch = pa.record_batch({"k": range(5), "s": pa.array(["a", big, "b", big, "c"], pa.large_string())})
    partitioner = Partitioner(batch.schema, by_key(2), Staging(), pool)
    parts = [part for _, part in parts_of(scatter(partitioner, batch))]
    assert {k: len(s) for part in parts for k, s in zip(*part.to_pydict().values(), strict=True)} == {
        0: 1, 1: len(big), 2: 1, 3: len(big), 4: 1,
    }  # fmt: skip
    assert partitioner.staging_bytes < 16 << 20
    small = Partitioner(batch.schema, by_key(2), Staging(max_row_bytes=1 << 20), pool)
    with pytest.raises(UserError, match=r"column 's' of row 1 has 20971520 bytes; a row may have 1048576"):
        list(small.push(batch))


def test_frames_of_any_producer(pool: BufferPool) -> None:
    import duckdb
    import polars as pl

    frame = pl.DataFrame({"k": [1, 2, 3, None], "s": ["a", "a much longer string than twelve bytes", None, ""]})
    schema = pa.schema([("k", pa.int64()), ("s", pa.string())])
    partitioner = Partitioner(schema, by_key(3), Staging(), pool)
    for source in (frame, duckdb.sql("select * from frame"), pa.table(frame.to_arrow()).cast(schema)):
        partitioner.reset()
        rows = [row for _, part in parts_of(scatter(partitioner, source)) for row in part.to_pylist()]
        assert sorted(rows, key=str) == sorted(frame.to_dicts(), key=str)


def test_a_rerun_stages_only_the_groups_it_is_for(pool: BufferPool) -> None:
    batch = simple(10_000)
    partitioner = Partitioner(batch.schema, by_key(16), Staging(), pool)
    every = {frame.group: frame.value for frame in scatter(partitioner, batch)}
    whole = partitioner.figures
    partitioner.reset(only={3, 5})
    some = {frame.group: frame.value for frame in scatter(partitioner, batch)}
    assert some == {group: every[group] for group in (3, 5)}
    again = partitioner.figures
    assert (again.rows, again.digest) == (whole.rows, whole.digest)
    assert again.staged_rows == whole.group_rows[3] + whole.group_rows[5]


def test_the_digest_tells_a_swap_between_partitions_from_none() -> None:
    """The sum of mix(hash, partition) would be blind if the mix were a plain sum."""
    batch = simple(2)
    way = Partitioning("Rebalance", 2, 2, slice_rows=1)
    digest = KeyDigest(batch.schema, way)
    a, b = batch.slice(0, 1), batch.slice(1, 1)
    right = (digest.add(a, 0) + digest.add(b, 1)) % SUM64
    assert right != (digest.add(a, 1) + digest.add(b, 0)) % SUM64
    assert right != (digest.add(a, 0) + digest.add(a, 1)) % SUM64


@pytest.mark.parametrize(("slice_rows", "first"), [(1, 0), (7, 3), (1000, 0), (4096, 12_345)])
def test_rebalance_slices_the_global_rows(pool: BufferPool, slice_rows: int, first: int) -> None:
    batch = simple(20_000, first)
    way = Partitioning("Rebalance", 5, 5, slice_rows=slice_rows)
    partitioner = Partitioner(batch.schema, way, Staging(), pool)
    partitioner.reset(first_row=first)
    for frame in scatter(partitioner, batch.slice(0, 9000), batch.slice(9000)):
        assert {row // slice_rows % 5 for row in decode_frame(frame)["k"].to_pylist()} == {frame.group}
    rows = partitioner.figures.group_rows
    assert sum(rows) == 20_000
    assert max(rows) - min(rows) <= 2 * slice_rows


def test_broadcast_stores_every_row_once(pool: BufferPool) -> None:
    batch = simple(20_000)
    way = Partitioning("Broadcast", 9, 9)
    partitioner = Partitioner(batch.schema, way, Staging(), pool)
    frames = scatter(partitioner, batch)
    assert {(frame.group, frame.grouped) for frame in frames} == {(0, False)}
    assert [row for frame in frames for row in decode_frame(frame)["k"].to_pylist()] == list(range(20_000))
    digest = KeyDigest(batch.schema, way)
    assert sum(digest.add(decode_frame(frame), 4) for frame in frames) % SUM64 == partitioner.figures.digest


def test_calls_out_of_turn_and_foreign_batches_are_refused(pool: BufferPool) -> None:
    batch = simple(10)
    partitioner = Partitioner(batch.schema, by_key(2), Staging(), pool)
    partitioner.push(batch)
    with pytest.raises(InternalError, match="were not all taken"):
        partitioner.flush()
    partitioner.reset()
    with pytest.raises(UserError, match="a batch has the columns s, k; the shuffle's are k, s"):
        list(partitioner.push(batch.select(["s", "k"])))
    partitioner.reset()
    with pytest.raises(UserError, match="column 'k' of a batch has type int32; the shuffle's is int64"):
        list(partitioner.push(batch.set_column(0, "k", batch["k"].cast(pa.int32()))))
    partitioner.reset()
    assert partitioner.figures == Figures(0, 0, [0, 0], 0, 0, 0)
    assert sum(frame.rows for frame in scatter(partitioner, batch)) == 10


@pytest.mark.parametrize(
    ("way", "staging", "match"),
    [
        (Partitioning("Hash", 0, 1, (Key("k"),)), Staging(), "partitions must be 1 to 65,536, not 0"),
        (Partitioning("Hash", 65_537, 1, (Key("k"),)), Staging(), "partitions must be"),
        (Partitioning("Hash", 2, 3, (Key("k"),)), Staging(), "groups must be 1 to 2"),
        (Partitioning("Hash", 2, 2), Staging(), "a Hash shuffle needs at least one key"),
        (Partitioning("Hash", 2, 2, (Key("z"),)), Staging(), "there is no column 'z'; the columns are k, s"),
        (Partitioning("Rebalance", 2, 2), Staging(), "slices must have at least 1 row"),
        (Partitioning("Range", 3, 3, (Key("k"),)), Staging(), "3 Range partitions need 2 boundaries, not 0"),
        (by_key(2), Staging(dictionary_columns=("z",)), "there is no column 'z' to send as a dictionary"),
    ],
)
def test_a_way_that_does_not_fit_is_refused(pool: BufferPool, way: Partitioning, staging: Staging, match: str) -> None:
    with pytest.raises(UserError, match=match):
        Partitioner(simple(1).schema, way, staging, pool)
