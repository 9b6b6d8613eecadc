"""Each kind of shuffle, end to end, held against the input by DuckDB."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

ROWS = 600_572


def rows_of(output: Path) -> list[int]:
    return [pq.read_metadata(path).num_rows for path in sorted(output.glob("part-*.parquet"))]


def check_output(output: Path, status: dict[str, Any], partitions: int) -> None:
    """What every output has: its files, the mark, and a manifest that tells the truth."""
    names = sorted(path.name for path in output.iterdir())
    parts = [f"part-{number:05d}.parquet" for number in range(partitions)]
    assert names == sorted([*parts, "_SUCCESS", "_manifest.json"])
    manifest = json.loads((output / "_manifest.json").read_text(encoding="utf-8"))
    assert [file["rows"] for file in manifest["files"]] == rows_of(output)
    assert [file["bytes"] for file in manifest["files"]] == [(output / name).stat().st_size for name in parts]
    assert manifest["rows"] == sum(rows_of(output)) == status["stats"]["rowsOut"]
    assert not list(output.parent.glob(".*staging*")), "staging is left"


@pytest.mark.parametrize("partitions", [1, 8, 200])
def test_hash(job: Callable[..., Any], lineitem: Path, same_rows: Callable[[str, str], None], partitions: int) -> None:
    it = job(shuffle={"type": "Hash", "keys": ["l_orderkey"], "partitions": partitions})
    status = it.run()
    check_output(it.output, status, partitions)
    same_rows(f"{lineitem}/*.parquet", f"{it.output}/*.parquet")
    assert status["stats"]["rowsIn"] == status["stats"]["rowsOut"] == ROWS
    assert status["stats"]["rowDigestIn"] == status["stats"]["rowDigestOut"] != ""
    with duckdb.connect() as connection:
        query = f"SELECT l_orderkey FROM read_parquet('{it.output}/*.parquet', filename = true) GROUP BY 1"
        assert connection.execute(f"{query} HAVING count(DISTINCT filename) > 1").fetchall() == []


def test_hash_by_two_string_keys_through_more_partitions_than_groups(
    job: Callable[..., Any], lineitem: Path, same_rows: Callable[[str, str], None]
) -> None:
    it = job(shuffle={"type": "Hash", "keys": ["l_comment", "l_shipmode"], "partitions": 3000})
    status = it.run()
    check_output(it.output, status, 3000)
    same_rows(f"{lineitem}/*.parquet", f"{it.output}/*.parquet")


def test_range_is_totally_ordered_with_sort_by(
    job: Callable[..., Any], lineitem: Path, same_rows: Callable[[str, str], None]
) -> None:
    order = [{"name": "l_shipdate", "order": "Descending"}, "l_orderkey"]
    sink = {"parquet": {"path": str(job().output), "sortBy": order}}
    it = job(shuffle={"type": "Range", "keys": order, "partitions": 8}, sink=sink)
    status = it.run()
    check_output(it.output, status, 8)
    same_rows(f"{lineitem}/*.parquet", f"{it.output}/*.parquet")
    table = pa.concat_tables(pq.read_table(path) for path in sorted(it.output.glob("part-*.parquet")))
    keys = table.select(["l_shipdate", "l_orderkey"])
    assert keys.equals(keys.sort_by([("l_shipdate", "descending"), ("l_orderkey", "ascending")]))
    assert max(rows_of(it.output)) <= 1.3 * ROWS / 8


def test_range_by_given_boundaries(job: Callable[..., Any]) -> None:
    it = job(shuffle={"type": "Range", "keys": ["l_quantity"], "partitions": 3, "range": {"boundaries": [[10], [40]]}})
    it.run()
    with duckdb.connect() as connection:
        found = [
            connection.execute(f"SELECT min(l_quantity), max(l_quantity) FROM read_parquet('{path}')").fetchone()
            for path in sorted(it.output.glob("part-*.parquet"))
        ]
    assert [(int(low), int(high)) for low, high in found] == [(1, 9), (10, 39), (40, 50)]


def test_rebalance_is_even(job: Callable[..., Any], lineitem: Path, same_rows: Callable[[str, str], None]) -> None:
    it = job(shuffle={"type": "Rebalance", "partitions": 7, "rebalance": {"sliceRows": 1000}})
    status = it.run()
    check_output(it.output, status, 7)
    same_rows(f"{lineitem}/*.parquet", f"{it.output}/*.parquet")
    assert max(rows_of(it.output)) - min(rows_of(it.output)) <= 1000


def test_broadcast_gives_every_partition_all(
    job: Callable[..., Any], lineitem: Path, same_rows: Callable[[str, str], None]
) -> None:
    it = job(
        source={"parquet": {"paths": [f"{lineitem}/lineitem.1.parquet"]}},
        shuffle={"type": "Broadcast", "partitions": 3},
    )
    status = it.run()
    check_output(it.output, status, 3)
    for path in it.output.glob("part-*.parquet"):
        same_rows(f"{lineitem}/lineitem.1.parquet", str(path))
    assert status["stats"]["rowsOut"] == 3 * status["stats"]["rowsIn"]


def test_arrow_files_in_and_out(job: Callable[..., Any], lineitem: Path, tmp_path: Path) -> None:
    table = pq.read_table(lineitem / "lineitem.1.parquet")
    # pyarrow sorts no string views, and keeps the files' metadata, which an output has no use for.
    plain = [field.with_type(pa.string()) if field.type == pa.string_view() else field for field in table.schema]
    table = table.cast(pa.schema([field.remove_metadata() for field in plain]))
    folder = tmp_path / "arrow"
    folder.mkdir()
    with pa.ipc.new_file(folder / "a.arrow", table.schema) as writer:
        writer.write_table(table, max_chunksize=10_000)
    it = job(source={"arrow": {"paths": [f"{folder}/*.arrow"]}}, sink={"arrow": {"path": str(tmp_path / "out")}})
    it.run()
    parts = [pa.ipc.open_file(path).read_all() for path in sorted(it.output.glob("part-*.arrow"))]
    order = [("l_orderkey", "ascending"), ("l_linenumber", "ascending")]
    assert pa.concat_tables(parts).sort_by(order).equals(table.sort_by(order))


def test_compression_makes_less_of_the_wire(
    job: Callable[..., Any], lineitem: Path, same_rows: Callable[[str, str], None]
) -> None:
    wire = {}
    for compression in ("None", "LZ4", "Zstd", "Snappy"):
        shuffle = {"type": "Hash", "keys": ["l_orderkey"], "partitions": 8, "compression": compression}
        it = job(shuffle=shuffle, sink={"parquet": {"path": str(job().output)}, "overwrite": "Replace"})
        wire[compression] = it.run()["stats"]["bytesWire"]
        same_rows(f"{lineitem}/*.parquet", f"{it.output}/*.parquet")
    assert 0 < max(wire["LZ4"], wire["Zstd"], wire["Snappy"]) < 0.8 * wire["None"]


def test_columns_are_projected_in_the_order_asked_for(job: Callable[..., Any], lineitem: Path) -> None:
    columns = ["l_tax", "l_orderkey", "l_shipmode"]
    it = job(source={"parquet": {"paths": [str(lineitem)], "columns": columns}})
    it.run()
    assert pq.read_schema(it.output / "part-00000.parquet").names == columns


def test_replace_exchanges_the_output(job: Callable[..., Any]) -> None:
    it = job()
    it.run()
    status, code, errors = it.try_run()
    assert (code, status["phase"]) == (2, "Failed")
    assert "exists" in errors
    it = job(
        shuffle={"type": "Rebalance", "partitions": 2},
        sink={"parquet": {"path": str(it.output)}, "overwrite": "Replace"},
    )
    it.run()
    assert len(rows_of(it.output)) == 2
