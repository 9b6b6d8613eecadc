"""examples/check_lineitem.py: it must see what it claims to see."""

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

CHECKER = Path(__file__).parents[2] / "examples" / "check_lineitem.py"
PARTITIONS = 4


@pytest.fixture
def rows() -> pa.Table:
    return pa.table(
        {
            "l_orderkey": pa.array([number // 3 for number in range(600)], pa.int64()),
            "l_quantity": pc.cast(pa.array(range(600), pa.int32()), pa.decimal128(15, 2)),
            "l_comment": pa.array([None if number % 7 == 0 else f"row {number % 11}" for number in range(600)]),
        }
    )


@pytest.fixture
def parts(rows: pa.Table) -> list[pa.Table]:
    """A right answer; the last partition is empty."""
    owner = [key.as_py() % (PARTITIONS - 1) for key in rows["l_orderkey"]]
    return [rows.filter(pa.array([each == part for each in owner])) for part in range(PARTITIONS)]


def write(folder: Path, parts: list[pa.Table]) -> Path:
    for number, part in enumerate(parts):
        path = folder / f"part-{number:05}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(part, path)
    return folder


@dataclass(frozen=True)
class Answer:
    returncode: int
    stdout: str
    stderr: str


Run = Callable[..., Answer]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    spec = importlib.util.spec_from_file_location("check_lineitem", CHECKER)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def call(source: Path, output: Path, *more: str) -> Answer:
        return Answer(module.main([str(source), str(output), *more]), *capsys.readouterr())

    return call


@pytest.fixture
def source(rows: pa.Table, tmp_path: Path) -> Path:
    return write(tmp_path / "in", [rows.slice(0, 250), rows.slice(250)])


def test_accepts_the_same_rows_in_another_order(run: Run, source: Path, parts: list[pa.Table], tmp_path: Path) -> None:
    turned = [part.take(pa.array(range(part.num_rows - 1, -1, -1), pa.int64())) for part in parts]
    answer = run(source, write(tmp_path / "out", turned))
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert "files without rows                       0                 1" in answer.stdout


def test_sees_a_lost_row(run: Run, source: Path, parts: list[pa.Table], tmp_path: Path) -> None:
    answer = run(source, write(tmp_path / "out", [parts[0].slice(1), *parts[1:]]))
    assert answer.returncode == 1
    assert "1 LOST" in answer.stdout


def test_sees_a_doubled_row(run: Run, source: Path, parts: list[pa.Table], tmp_path: Path) -> None:
    doubled = pa.concat_tables([parts[0], parts[0].slice(0, 1)])
    answer = run(source, write(tmp_path / "out", [doubled, *parts[1:]]))
    assert answer.returncode == 1
    assert "1 TOO MANY" in answer.stdout


def test_sees_one_row_lost_and_another_doubled(run: Run, source: Path, parts: list[pa.Table], tmp_path: Path) -> None:
    swapped = pa.concat_tables([parts[0].slice(1), parts[0].slice(5, 1)])
    answer = run(source, write(tmp_path / "out", [swapped, *parts[1:]]))
    assert answer.returncode == 1
    assert "DIFFERENT" in answer.stdout


def test_sees_values_that_changed_rows(run: Run, source: Path, parts: list[pa.Table], tmp_path: Path) -> None:
    comments = parts[0]["l_comment"].to_pylist()
    comments[1], comments[2] = comments[2], comments[1]
    changed = parts[0].set_column(2, "l_comment", pa.array(comments))
    answer = run(source, write(tmp_path / "out", [changed, *parts[1:]]))
    assert answer.returncode == 1
    assert "DIFFERENT" in answer.stdout


def test_sees_a_key_in_two_files(run: Run, source: Path, parts: list[pa.Table], tmp_path: Path) -> None:
    moved = pa.concat_tables([parts[3], parts[0].slice(0, 1)])
    answer = run(source, write(tmp_path / "out", [parts[0].slice(1), parts[1], parts[2], moved]))
    assert answer.returncode == 1
    assert "SUCH AS l_orderkey = 0" in answer.stdout


def test_two_files_of_one_folder_are_one_partition(
    run: Run, source: Path, parts: list[pa.Table], tmp_path: Path
) -> None:
    write(tmp_path / "out" / "p=0", [parts[0].slice(0, 4), parts[0].slice(4)])
    write(tmp_path / "out" / "p=1", [pa.concat_tables(parts[1:])])
    answer = run(source, tmp_path / "out")
    assert answer.returncode == 0, answer.stdout + answer.stderr


def test_sees_a_column_of_another_type(run: Run, source: Path, parts: list[pa.Table], tmp_path: Path) -> None:
    narrow = [part.set_column(0, "l_orderkey", part["l_orderkey"].cast(pa.int32())) for part in parts]
    answer = run(source, write(tmp_path / "out", narrow))
    assert answer.returncode == 1
    assert "l_orderkey: BIGINT / INTEGER" in answer.stdout


def test_other_keys(run: Run, source: Path, parts: list[pa.Table], tmp_path: Path) -> None:
    output = write(tmp_path / "out", parts)
    assert run(source, output, "--keys", "l_orderkey,l_quantity").returncode == 0
    assert run(source, output, "--keys", "l_comment").returncode == 1


def test_says_that_there_is_nothing_to_check(run: Run, source: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    answer = run(source, tmp_path / "out")
    assert answer.returncode == 2
    assert "no Parquet files" in answer.stderr
