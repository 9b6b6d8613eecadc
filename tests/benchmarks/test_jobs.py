"""The programs that the benchmark times do the whole job, on a few thousand rows."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks.measure import Outcome, Program, measure
from benchmarks.outputs import describe, fault_of
from benchmarks.systems import ENVIRONMENT, PARTITIONS, SYSTEMS, Job

ROWS = 4000


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Two files with string views, as the generator makes them."""
    folder = tmp_path / "in"
    folder.mkdir()
    for part in range(2):
        numbers = range(part * ROWS // 2, (part + 1) * ROWS // 2)
        table = pa.table(
            {
                "l_orderkey": pa.array([number // 4 for number in numbers], pa.int64()),
                "l_comment": pa.array([f"comment {number % 97}" for number in numbers], pa.string_view()),
            }
        )
        pq.write_table(table, folder / f"{part}.parquet")
    return folder


@pytest.mark.parametrize(
    ("name", "keys"),
    [
        ("polars", ("l_comment", "l_orderkey")),
        ("duckdb", ("l_comment", "l_orderkey")),
        ("pyarrow", ("l_comment", "l_orderkey")),
        ("pyarrow", ("l_orderkey",)),
    ],
)
def test_a_peer_partitions_by_hash(name: str, keys: tuple[str, ...], source: Path, tmp_path: Path) -> None:
    job = Job(source, tmp_path / "out", tmp_path, keys, None)
    measured = measure(Program(SYSTEMS[name].arguments(job), ENVIRONMENT, None, 60))
    assert measured.outcome is Outcome.DONE, measured.stderr
    assert fault_of(source, tmp_path / "out", keys) is None
    output = describe(tmp_path / "out")
    assert output.rows == ROWS
    assert output.files == PARTITIONS
    assert output.statistics
    assert all(each.endswith("SNAPPY") for each in output.encodings.values())


def test_our_delivery_counts_every_row(source: Path, tmp_path: Path) -> None:
    job = Job(source, None, tmp_path, ("l_orderkey",), None)
    measured = measure(Program(SYSTEMS["ours"].arguments(job), ENVIRONMENT, None, 60))
    assert measured.outcome is Outcome.DONE, measured.stderr
    assert json.loads(measured.stdout) == {"rows": ROWS}
