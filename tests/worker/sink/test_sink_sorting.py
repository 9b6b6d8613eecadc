"""`sortBy`: the rows of a file in order, and a refusal with figures when they do not fit."""

import contextlib
import math
from collections.abc import Callable
from pathlib import Path

import hypothesis
import hypothesis.strategies as st
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from shuffle_worker.errors import AdmissionError
from shuffle_worker.spec.model import ArrowSink, Nulls, Order, ParquetSink, Sink, SortKey

CELLS = {
    "number": (pa.float64(), [None, math.nan, -1.5, 0.0, 2.0, math.inf, -math.inf]),
    "text": (pa.string_view(), [None, "", "a", "B", "ä" * 20]),
    "amount": (pa.decimal32(5, 2), [None, -1, 0, 5]),
}


def columns(rows: int) -> st.SearchStrategy[dict[str, list[object]]]:
    return st.fixed_dictionaries(
        {name: st.lists(st.sampled_from(values), min_size=rows, max_size=rows) for name, (_, values) in CELLS.items()}
    )


@st.composite
def cases(draw: st.DrawFn) -> tuple[pa.Table, list[SortKey]]:
    cells = draw(columns(draw(st.integers(0, 30))))
    arrays = []
    for name, (type_, _) in CELLS.items():
        wide = pa.decimal128(5, 2) if pa.types.is_decimal32(type_) else type_
        arrays.append(pa.array(cells[name], wide).cast(type_))
    arrays.append(pa.array(range(len(arrays[0]))))
    names = draw(st.lists(st.sampled_from(sorted(CELLS)), min_size=1, max_size=3, unique=True))
    keys = [SortKey(name, draw(st.sampled_from(Order)), draw(st.sampled_from(Nulls))) for name in names]
    return pa.Table.from_arrays(arrays, names=[*CELLS, "row"]), keys


def rank(value: object, key: SortKey) -> tuple[int, object]:
    """Where a value stands among those of its column, as Python compares."""
    if value is None:
        return (0 if key.nulls is Nulls.FIRST else 2, 0)
    text = value.encode() if isinstance(value, str) else (math.isnan(value), 0 if math.isnan(value) else value)
    return (1, Reverse(text) if key.order is Order.DESCENDING else text)


class Reverse:
    def __init__(self, value: object) -> None:
        self.value = value

    def __lt__(self, other: "Reverse") -> bool:
        return other.value < self.value  # type: ignore[operator]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Reverse) and self.value == other.value


@hypothesis.settings(
    max_examples=60, deadline=None, suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture]
)
@hypothesis.given(case=cases(), coded=st.booleans())
def test_rows_are_in_the_order_of_the_keys(bench, frames_of, case: tuple[pa.Table, list[SortKey]], coded: bool) -> None:
    table, keys = case
    output = bench.output()
    output.remove_staging()
    sink = Sink(parquet=ParquetSink(path="out", sort_by=tuple(keys), row_group_rows=9))
    written = bench.write(output, sink, table.schema, frames_of(table, ["text"] if coded else []))
    back = pq.read_table(written.path)
    wanted = sorted(table.to_pylist(), key=lambda row: [rank(row[key.name], key) for key in keys])
    assert back.schema.equals(table.schema)
    assert back.column("row").to_pylist() == [row["row"] for row in wanted]
    assert written.record.rows == table.num_rows


def test_nested_columns_and_dictionaries_move_along(bench, frames_of, tmp_path: Path) -> None:
    table = pa.table(
        {
            "k": [3, 1, 2],
            "views": pa.array([["c"], ["a", "x" * 30], None], pa.list_(pa.string_view())),
            "s": pa.array(["c", "a", "b"]).dictionary_encode(),
            "m": pa.array([[("c", 3)], [("a", 1)], []], pa.map_(pa.string(), pa.int32())),
        }
    )
    wanted = [table.to_pylist()[row] for row in (1, 2, 0)]
    for sink in (
        Sink(parquet=ParquetSink(path=str(tmp_path / "out"), sort_by=("k",))),
        Sink(arrow=ArrowSink(path=str(tmp_path / "out"), sort_by=("k",))),
    ):
        path = bench.write(bench.output(), sink, table.schema, frames_of(table, ["s"])).path
        back = pq.read_table(path) if sink.parquet else pa.ipc.open_file(pa.memory_map(str(path))).read_all()
        assert back.to_pylist() == wanted
        assert back.schema.equals(table.schema)
        path.unlink()


def test_a_partition_that_does_not_fit_is_refused_with_figures(bench, open_task: Callable, tmp_path: Path) -> None:
    @contextlib.contextmanager
    def refuse(size: int, what: str):
        raise AdmissionError(f"{what} takes {size} bytes and there are 1000")
        yield

    sink = Sink(parquet=ParquetSink(path=str(tmp_path / "out"), sort_by=("a",)))
    writer = open_task(bench.output(), sink, pa.schema([("a", pa.int64())]), refuse)
    for _ in range(3):
        writer.write(pa.record_batch({"a": list(range(1024))}))
    assert (writer.rows_wanted, writer.held_bytes) == (0, 24 << 10)
    with pytest.raises(
        AdmissionError,
        match=r"partition 0 has 3072 rows of 24\.0Ki and sorting it takes 2\.1Mi of memory: use more partitions, or "
        r"give more memory \(sorting part-00000\.parquet takes \d+ bytes and there are 1000\)",
    ):
        writer.finish(1)
    writer.abort()
