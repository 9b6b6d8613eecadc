"""What is written is what is read back, by Arrow and by other engines, for every type and layout."""

import decimal
from collections.abc import Callable
from pathlib import Path

import duckdb
import hypothesis
import hypothesis.strategies as st
import polars
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from shuffle_worker._native.digest import row_digest
from shuffle_worker.errors import OutputError
from shuffle_worker.sink.open import check_writable
from shuffle_worker.spec.model import ArrowCompression, ArrowSink, ParquetCompression, ParquetSink, Sink

TEXT = ["", "a", "ä€😀", "long " * 20]
INTEGERS = [0, 1, -1, 100]


def decimals(digits: int) -> list[decimal.Decimal]:
    return [decimal.Decimal(text) for text in ("0.00", "-1.25", "9" * (digits - 2) + ".99")]


# Type and values of every kind of column; the values need not be of the type's full range, the layout matters.
PLAIN: dict[str, tuple[pa.DataType, list[object]]] = {
    **{
        f"{sign}int{bits}": (pa.type_for_alias(f"{sign}int{bits}"), [abs(v) if sign else v for v in INTEGERS])
        for sign in ("", "u")
        for bits in (8, 16, 32, 64)
    },
    "int64_far": (pa.int64(), [-(2**63), 2**63 - 1, 0]),
    "float16": (pa.float16(), [0.0, -0.0, 1.5, float("inf")]),
    "float32": (pa.float32(), [0.0, -0.0, 1.5, float("-inf")]),
    "float64": (pa.float64(), [0.0, -0.0, 1e300, float("inf")]),
    "bool": (pa.bool_(), [True, False]),
    "null": (pa.null(), [None]),
    "string": (pa.string(), TEXT),
    "large_string": (pa.large_string(), TEXT),
    "string_view": (pa.string_view(), TEXT),
    "binary": (pa.binary(), [b"", b"\x00\xff"]),
    "large_binary": (pa.large_binary(), [b"", b"\x00\xff"]),
    "binary_view": (pa.binary_view(), [b"", b"x" * 40]),
    "fixed": (pa.binary(3), [b"abc", b"\x00\x01\x02"]),
    "decimal32": (pa.decimal32(7, 2), decimals(7)),
    "decimal64": (pa.decimal64(15, 2), decimals(15)),
    "decimal128": (pa.decimal128(15, 2), decimals(15)),
    "decimal128_wide": (pa.decimal128(38, 2), decimals(38)),
    "decimal256": (pa.decimal256(60, 2), decimals(60)),
    "date32": (pa.date32(), [0, -1, 20_000]),
    "date64": (pa.date64(), [0, -86_400_000, 86_400_000 * 20_000]),
    "time32": (pa.time32("ms"), [0, 86_399_999]),
    "time64": (pa.time64("ns"), [0, 86_399_999_999_999]),
    "timestamp_s": (pa.timestamp("s"), [0, -1, 1_700_000_000]),
    "timestamp_ns_tz": (pa.timestamp("ns", "Europe/Berlin"), [0, -1, 1_700_000_000_123_456_789]),
    "duration": (pa.duration("us"), [0, -5, 10**12]),
}
NESTED: dict[str, tuple[pa.DataType, list[object]]] = {
    "list": (pa.list_(pa.int32()), [[], [1, None, 3]]),
    "large_list": (pa.large_list(pa.string()), [[], ["a", None]]),
    "list_view": (pa.list_view(pa.int16()), [[], [7]]),
    "fixed_list": (pa.list_(pa.int8(), 2), [[1, 2], [None, 4]]),
    "list_of_view": (pa.list_(pa.string_view()), [[], ["x" * 30]]),
    "struct": (
        pa.struct([("a", pa.int64()), ("b", pa.list_(pa.string()))]),
        [{"a": 1, "b": ["x"]}, {"a": None, "b": None}],
    ),
    "map": (pa.map_(pa.string(), pa.int32()), [[("a", 1)], []]),
}
DICTIONARY: dict[str, tuple[pa.DataType, list[object]]] = {
    "dictionary": (pa.dictionary(pa.int32(), pa.string()), ["a", "b", ""]),
    "dictionary_of_int": (pa.dictionary(pa.int32(), pa.int64()), [5, -6]),
}
ARROW_ONLY: dict[str, tuple[pa.DataType, list[object]]] = {
    "interval": (pa.month_day_nano_interval(), [(1, 2, 3), (-1, 0, 5)]),
    "union": (pa.sparse_union([pa.field("i", pa.int64()), pa.field("s", pa.string())]), [1, "x"]),
}
PARQUET = PLAIN | NESTED | DICTIONARY
TEXT_TYPES = ("string", "large_string", "string_view", "binary", "dictionary")


@st.composite
def tables(draw: st.DrawFn, kinds: dict[str, tuple[pa.DataType, list[object]]]) -> pa.Table:
    names = draw(st.lists(st.sampled_from(sorted(kinds)), min_size=1, max_size=6, unique=True))
    rows = draw(st.integers(0, 40))
    columns = []
    for name in names:
        type_, values = kinds[name]
        cells = draw(st.lists(st.sampled_from([*values, None]), min_size=rows, max_size=rows))
        columns.append(build(cells, type_))
    return pa.Table.from_arrays(columns, names=names)


def build(cells: list[object], type_: pa.DataType) -> pa.Array:
    if pa.types.is_union(type_):
        codes = pa.array([1 if isinstance(cell, str) else 0 for cell in cells], pa.int8())
        integers = pa.array([cell if isinstance(cell, int) else None for cell in cells], pa.int64())
        texts = pa.array([cell if isinstance(cell, str) else None for cell in cells], pa.string())
        return pa.UnionArray.from_sparse(codes, [integers, texts], ["i", "s"])
    if pa.types.is_dictionary(type_):
        return pa.array(cells, type_.value_type).dictionary_encode().cast(type_)
    if pa.types.is_decimal32(type_) or pa.types.is_decimal64(type_):
        return pa.array(cells, pa.decimal128(type_.precision, type_.scale)).cast(type_)
    return pa.array(cells, type_)


def sinks(folder: Path, format_: str, group_rows: int = 7) -> Sink:
    if format_ == "parquet":
        return Sink(parquet=ParquetSink(path=str(folder / "out"), row_group_rows=group_rows))
    return Sink(arrow=ArrowSink(path=str(folder / "out"), compression=ArrowCompression.LZ4))


def read_back(path: Path, format_: str) -> pa.Table:
    # Paths of staged files end in a generation: say what they are.
    return pq.read_table(path) if format_ == "parquet" else pa.ipc.open_file(pa.memory_map(str(path))).read_all()


def as_read(schema: pa.Schema, format_: str) -> pa.Schema:
    """What readers make of a schema: Arrow's Parquet reader knows neither date64 nor dictionaries but of text."""
    if format_ == "arrow":
        return schema
    file = pa.BufferOutputStream()
    pq.write_table(schema.empty_table(), file)
    return pq.read_schema(pa.BufferReader(file.getvalue()))


def values(table: pa.Table) -> dict[str, list[object]]:
    """Python's values, but of what Python's datetime cannot hold: nanoseconds come as numbers."""
    return {
        field.name: (column.cast(pa.int64()) if getattr(field.type, "unit", "") == "ns" else column).to_pylist()
        for field, column in zip(table.schema, table.columns, strict=True)
    }


@pytest.mark.parametrize("format_", ["parquet", "arrow"])
@hypothesis.settings(
    max_examples=50, deadline=None, suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture]
)
@hypothesis.given(data=st.data(), seed=st.integers(0, 5))
def test_any_table_comes_back(bench, frames_of, format_: str, data: st.DataObject, seed: int) -> None:
    table = data.draw(tables(PARQUET if format_ == "parquet" else PARQUET | ARROW_ONLY))
    coded = [name for name in table.schema.names if name in TEXT_TYPES and data.draw(st.booleans())]
    output = bench.output()
    output.remove_staging()
    batches = frames_of(table, coded, seed)
    written = bench.write(output, sinks(bench.folder, format_), table.schema, batches)
    back = read_back(written.path, format_)
    assert back.schema.equals(as_read(table.schema, format_))
    assert values(back) == values(table)
    assert written.record.rows == table.num_rows
    assert written.record.key_digest == table.num_rows
    assert written.record.row_digest == (sum(row_digest(batch) for batch in batches) % (1 << 128)).to_bytes(
        16, "little"
    )
    assert written.record.bytes == written.path.stat().st_size


@pytest.mark.parametrize("compression", list(ParquetCompression))
def test_row_groups_are_exact_and_other_engines_agree(
    bench, frames_of, tmp_path: Path, compression: ParquetCompression
) -> None:
    rows = 2_500
    table = pa.table(
        {
            "i": pa.array(range(rows), pa.int64()),
            "s": pa.array([TEXT[row % 4] if row % 7 else None for row in range(rows)]),
            "d": pa.array([decimal.Decimal(row) / 4 for row in range(rows)], pa.decimal128(15, 2)),
            "t": pa.array(range(rows), pa.timestamp("us")),
            "n": pa.array([{"x": row, "y": [row] * (row % 3)} for row in range(rows)]),
        }
    )
    sink = Sink(parquet=ParquetSink(path=str(tmp_path / "out"), row_group_rows=1000, compression=compression))
    written = bench.write(bench.output(), sink, table.schema, frames_of(table, ["s"]))
    metadata = pq.read_metadata(written.path)
    assert [metadata.row_group(number).num_rows for number in range(3)] == [1000, 1000, 500]
    chunk = metadata.row_group(0).column(1)
    assert (chunk.path_in_schema, chunk.has_dictionary_page) == ("s", True)
    assert metadata.row_group(1).column(0).statistics.min == 1000
    path = tmp_path / "file.parquet"
    written.path.rename(path)
    assert duckdb.sql(f"select * from '{path}' order by i").to_arrow_table().to_pylist() == table.to_pylist()
    assert polars.read_parquet(path).to_arrow().to_pylist() == table.to_pylist()


def test_readers_get_plain_types_though_dictionaries_were_written(bench, frames_of, tmp_path: Path) -> None:
    table = pa.table({"s": ["a", "b"] * 50, "v": pa.array(["x"] * 100, pa.string_view())})
    written = bench.write(bench.output(), sinks(tmp_path, "parquet"), table.schema, frames_of(table, ["s", "v"]))
    assert pq.read_schema(written.path).equals(table.schema)
    assert {str(type_) for type_ in polars.read_parquet_schema(written.path).values()} == {"String"}


def test_more_values_than_eight_bits_of_codes_hold(bench, tmp_path: Path) -> None:
    """Each frame has few values, a row group of many frames has many."""
    texts = [f"value {number}" for number in range(2000)]
    batches = []
    for start in range(0, 2000, 100):
        coded = pa.array(texts[start : start + 100]).dictionary_encode()
        codes = pa.DictionaryArray.from_arrays(coded.indices.cast(pa.uint8()), coded.dictionary)
        batches.append(pa.RecordBatch.from_arrays([codes], names=["s"]))
    schema = pa.schema([("s", pa.string())])
    for format_ in ("parquet", "arrow"):
        written = bench.write(bench.output(), sinks(tmp_path, format_, 1500), schema, batches)
        assert read_back(written.path, format_).column("s").to_pylist() == texts
        written.path.unlink()


@pytest.mark.parametrize("format_", ["parquet", "arrow"])
def test_a_partition_without_rows_has_the_schema(bench, tmp_path: Path, format_: str) -> None:
    schema = pa.schema([(name, type_) for name, (type_, _) in PARQUET.items()])
    written = bench.write(bench.output(), sinks(tmp_path, format_), schema, [])
    back = read_back(written.path, format_)
    assert back.schema.equals(as_read(schema, format_))
    assert (back.num_rows, written.record.rows, written.record.key_digest) == (0, 0, 0)


@pytest.mark.parametrize("format_", ["parquet", "arrow"])
def test_wide_schemas(bench, frames_of, tmp_path: Path, format_: str) -> None:
    table = pa.table({f"c{number}": [number, None, 3] for number in range(1500)})
    written = bench.write(bench.output(), sinks(tmp_path, format_), table.schema, frames_of(table))
    assert read_back(written.path, format_).equals(table)


def test_extension_types_survive_a_journey_as_their_storage(bench, tmp_path: Path) -> None:
    storage = pa.array([b"0123456789abcdef", None], pa.binary(16))
    schema = pa.schema([("u", pa.uuid())])
    for format_ in ("parquet", "arrow"):
        batch = pa.RecordBatch.from_arrays([storage], names=["u"])
        written = bench.write(bench.output(), sinks(tmp_path, format_), schema, [batch])
        back = read_back(written.path, format_)
        assert back.schema.equals(schema)
        assert back.column("u").combine_chunks().storage.equals(storage)
        written.path.unlink()


def test_types_that_parquet_does_not_hold_are_refused_by_name(tmp_path: Path) -> None:
    schema = pa.schema([("a", pa.int64()), ("gap", pa.month_day_nano_interval())])
    with pytest.raises(
        OutputError,
        match=r"the column 'gap' is month_day_nano_interval, which parquet files do not "
        r"hold: leave it out of spec.source.columns, or write arrow files",
    ):
        check_writable(sinks(tmp_path, "parquet"), schema)
    check_writable(sinks(tmp_path, "arrow"), schema)


def test_a_writer_holds_less_than_a_row_group(bench, tmp_path: Path, open_task: Callable) -> None:
    writer = open_task(bench.output(), sinks(tmp_path, "parquet", 100), pa.schema([("a", pa.int64())]))
    assert writer.rows_wanted == 100
    writer.write(pa.record_batch({"a": list(range(70))}))
    assert (writer.rows_wanted, writer.held_bytes) == (30, 560)
    writer.write(pa.record_batch({"a": list(range(250))}))
    assert (writer.rows_wanted, writer.held_bytes) == (80, 160)
    writer.abort()
    assert writer.held_bytes == 0
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
