"""Encodings chosen from a sample: files no larger than pyarrow's own, whatever the columns hold."""

import datetime
import math
import random
from decimal import Decimal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from shuffle_worker.sink.encodings import choose_encodings, estimate_distinct
from shuffle_worker.sink.parquet import writer_arguments

ROWS = 60_000


def columns():
    """One column of each shape that an encoding may be wrong for, by name."""
    chance = random.Random(11)
    day = datetime.date(1992, 1, 1)
    words = ["".join(chance.choices("abcdefgh ", k=chance.randint(10, 40))) for _ in range(5000)]
    wide = [chance.getrandbits(62) for _ in range(50)]
    return {
        "sorted": pa.array(range(ROWS), pa.int64()),
        "random_64": pa.array([chance.getrandbits(63) for _ in range(ROWS)], pa.int64()),
        "random_32": pa.array([chance.getrandbits(31) for _ in range(ROWS)], pa.int32()),
        "few_far_apart": pa.array([chance.choice(wide) for _ in range(ROWS)], pa.int64()),
        "few_near": pa.array([chance.randint(1, 7) for _ in range(ROWS)], pa.int8()),
        "unsigned": pa.array([2**64 - 1 - chance.randint(0, 9) for _ in range(ROWS)], pa.uint64()),
        "constant": pa.array([7] * ROWS, pa.int64()),
        "nulls": pa.nulls(ROWS, pa.int32()),
        "sparse": pa.array([n if chance.random() < 0.01 else None for n in range(ROWS)], pa.int64()),
        "mostly_zero": pa.array([chance.getrandbits(40) if n % 100 == 0 else 0 for n in range(ROWS)], pa.int64()),
        "price": pa.array(
            [Decimal(chance.randint(90_000, 10_000_000)).scaleb(-2) for _ in range(ROWS)], pa.decimal128(15, 2)
        ),
        "long_decimal": pa.array(
            [Decimal(chance.getrandbits(90)).scaleb(-3) for _ in range(ROWS)], pa.decimal128(38, 3)
        ),
        "date": pa.array([day + datetime.timedelta(chance.randint(0, 2500)) for _ in range(ROWS)]),
        "time": pa.array([n * 1_000_003 for n in range(ROWS)], pa.timestamp("us", "UTC")),
        "float": pa.array([chance.random() for _ in range(ROWS)]),
        "few_floats": pa.array([chance.choice([0.0, 0.01, 0.02, 0.05]) for _ in range(ROWS)]),
        "flag": pa.array([chance.choice("ANR") for _ in range(ROWS)]),
        "thousands_of_words": pa.array([chance.choice(words) for _ in range(ROWS)], pa.string_view()),
        "text": pa.array([f"{chance.choice(words)} {n}" for n in range(ROWS)]),
        "bytes": pa.array([chance.randbytes(16) for _ in range(ROWS)], pa.binary(16)),
        "bool": pa.array([chance.random() < 0.3 for _ in range(ROWS)]),
        "list": pa.array([[n % 7, None] for n in range(ROWS)], pa.list_(pa.int32())),
        "struct": pa.array([{"x": "abc", "y": n} for n in range(ROWS)]),
    }


COLUMNS = columns()


def ours(table, codec):
    sink = pa.BufferOutputStream()
    arguments = writer_arguments(table.schema, choose_encodings(table), codec)
    with pq.ParquetWriter(sink, table.schema, **arguments) as writer:
        writer.write_table(table, row_group_size=ROWS)
    return sink.getvalue()


@pytest.mark.parametrize("codec", ["snappy", "zstd", "none"])
@pytest.mark.parametrize("name", COLUMNS)
def test_no_column_is_larger_than_as_pyarrow_writes_it(name, codec):
    table = pa.table({name: COLUMNS[name]})
    body = ours(table, codec)
    plain = pa.BufferOutputStream()
    pq.write_table(table, plain, compression=codec, row_group_size=ROWS)
    assert body.size <= 1.05 * plain.getvalue().size + 200
    read = pq.read_table(pa.BufferReader(body))
    assert read.column(0).cast(table.schema.field(0).type).equals(table.column(0))


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("sorted", "delta"),
        ("price", "delta"),
        ("date", "delta"),
        ("time", "delta"),
        ("few_near", "dictionary"),
        ("few_far_apart", "dictionary"),
        ("few_floats", "dictionary"),
        ("flag", "dictionary"),
        ("thousands_of_words", "dictionary"),
        ("text", "plain"),
        ("float", "plain"),
        ("bytes", "plain"),
    ],
)
def test_what_each_shape_gets(name, kind):
    chosen = choose_encodings(pa.table({name: COLUMNS[name]}))
    assert getattr(chosen, kind) == (name,)


def test_a_column_that_came_as_a_dictionary_stays_one():
    column = COLUMNS["flag"].dictionary_encode()
    assert choose_encodings(pa.table({"flag": column})).dictionary == ("flag",)


@pytest.mark.parametrize(("codec", "dense"), [("snappy", "none"), ("lz4", "none"), ("zstd", "zstd"), ("gzip", "gzip")])
def test_a_fast_codec_is_left_out_where_it_finds_nothing(codec, dense):
    chosen = choose_encodings(pa.table({name: COLUMNS[name] for name in ("sorted", "flag", "text")}))
    assert chosen.codecs(codec) == {"sorted": dense, "flag": codec, "text": codec}


def test_the_choice_looks_beyond_the_first_rows():
    values = [f"{n} is another" for n in range(300)] + ["same", "again"] * ((ROWS - 300) // 2)
    assert choose_encodings(pa.table({"x": values})).dictionary == ("x",)


@pytest.mark.parametrize("distinct", [1, 10, 300, 2_000])
def test_the_number_of_values_is_told_from_a_sample(distinct):
    chance = random.Random(5)
    sample = pa.array([chance.randrange(distinct) for _ in range(1024)])
    assert distinct / 1.6 <= estimate_distinct(sample) <= distinct * 1.6


def test_values_that_stand_together_and_never_come_back_are_many():
    assert estimate_distinct(pa.array([n // 8 for n in range(1024)])) == math.inf
    assert estimate_distinct(pa.array(range(1024))) == math.inf
    assert choose_encodings(pa.table({"x": [n // 4 for n in range(ROWS)]})).delta == ("x",)


@pytest.mark.parametrize("rows", [0, 1, 2, 3])
@pytest.mark.parametrize("name", COLUMNS)
def test_the_fewest_rows(name, rows):
    table = pa.table({name: COLUMNS[name].slice(0, rows)})
    assert pq.read_table(pa.BufferReader(ours(table, "snappy"))).num_rows == rows


def test_files_of_all_shapes_are_read_by_others(tmp_path):
    import duckdb
    import polars

    table = pa.table({name: column for name, column in COLUMNS.items() if name != "nulls"})
    path = tmp_path / "out.parquet"
    path.write_bytes(ours(table, "snappy"))
    assert polars.read_parquet(path).equals(polars.from_arrow(table))
    by_duckdb = duckdb.sql(f"select * from '{path}'").to_arrow_table()
    for name in ("sorted", "unsigned", "price", "date", "few_floats", "thousands_of_words", "text", "sparse", "list"):
        assert by_duckdb[name].to_pylist() == table[name].to_pylist()
