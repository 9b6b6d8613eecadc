"""Parquet files are read as they are, split by row groups, and every fault is told with its file and place."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shuffle_worker.errors import InputError
from shuffle_worker.source.base import cut_splits

ROWS = 10_000


@pytest.fixture
def table():
    return pa.table(
        {
            "id": pa.array(range(ROWS), pa.int64()),
            "flag": pa.array([("A", "N", "R")[n % 3] for n in range(ROWS)]),
            "text": pa.array([f"row {n} of many" for n in range(ROWS)], pa.large_string()),
            "list": pa.array([[n, None] for n in range(ROWS)], pa.list_(pa.int32())),
        }
    )


def test_all_rows_come_in_order_whatever_the_splits(write_parquet, open_files, table):
    reading = open_files(write_parquet("in.parquet", table, row_group_size=999))
    assert reading.info.rows == ROWS
    assert reading.info.schema == table.schema
    for split_bytes in (1, 100_000, 1 << 30):
        read = reading.table(split_bytes)
        assert read.equals(table)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(st.integers(0, 500), min_size=1, max_size=6),
    group=st.integers(1, 200),
    target=st.integers(1, 20_000),
    least=st.integers(0, 12),
)
def test_splits_cover_every_row_once(tmp_path, open_files, rows, group, target, least):
    for old in tmp_path.glob("*.parquet"):
        old.unlink()
    for number, count in enumerate(rows):
        values = pa.array(range(count), pa.int64())
        pq.write_table(pa.table({"k": values}), tmp_path / f"{number}.parquet", row_group_size=group)
    reading = open_files(tmp_path)
    splits = cut_splits(reading.info, target, least)
    assert sum(split.rows for split in splits) == sum(rows) == reading.info.rows
    assert [split.first_row for split in splits] == [sum(s.rows for s in splits[:n]) for n in range(len(splits))]
    read = [
        (
            split.path,
            [
                v
                for b in reading.source.read(split, reading.info.schema, (), reading.permits)
                for v in b.column(0).to_pylist()
            ],
        )
        for split in splits
    ]
    assert all(len(values) == split.rows for (_, values), split in zip(read, splits, strict=True))
    for number, count in enumerate(rows):
        path = str(tmp_path / f"{number}.parquet")
        assert [value for name, values in read if name == path for value in values] == list(range(count))


def test_columns_are_chosen_and_ordered(write_parquet, open_files, table):
    reading = open_files(write_parquet("in.parquet", table), columns=("text", "id"))
    assert reading.table().equals(table.select(["text", "id"]))
    assert reading.table(columns=["id"]).equals(table.select(["id"]))


def test_columns_of_few_values_are_found_and_read_as_dictionaries(write_parquet, open_files, table):
    reading = open_files(write_parquet("in.parquet", table, row_group_size=2_000))
    assert reading.info.dictionary_columns == ("flag",)
    (split,) = cut_splits(reading.info, 1 << 30, 1)
    first = next(iter(reading.source.read(split, reading.info.schema, ("flag",), reading.permits)))
    assert pa.types.is_dictionary(first.column(1).type)
    assert first.column(1).dictionary_decode().to_pylist() == table["flag"].to_pylist()[: first.num_rows]


def test_a_column_is_a_dictionary_only_if_all_files_agree(write_parquet, open_files, tmp_path, table):
    write_parquet("a.parquet", table)
    many = table.set_column(1, "flag", pa.array([f"value {n}" for n in range(ROWS)]))
    write_parquet("b.parquet", many)
    assert open_files(tmp_path).info.dictionary_columns == ()


def test_batches_are_bounded_and_a_permit_is_held_while_they_last(write_parquet, open_files):
    table = pa.table({"k": range(200_000)})
    reading = open_files(write_parquet("in.parquet", table, row_group_size=200_000))
    (split,) = cut_splits(reading.info, 1 << 30, 1)
    for batch in reading.source.read(split, reading.info.schema, (), reading.permits):
        assert batch.num_rows <= 65_536
        assert reading.permits.held > 0
    assert reading.permits.held == 0
    assert "row group 0 of" in reading.permits.asked[0][1]


def test_a_reader_that_stops_gives_its_permit_back(write_parquet, open_files, table):
    reading = open_files(write_parquet("in.parquet", table))
    (split,) = cut_splits(reading.info, 1 << 30, 1)
    batches = reading.source.read(split, reading.info.schema, (), reading.permits)
    next(batches)
    batches.close()
    assert reading.permits.held == 0


def test_an_empty_file_and_a_file_without_row_groups(write_parquet, open_files, tmp_path):
    empty = pa.table({"k": pa.array([], pa.string())})
    write_parquet("a.parquet", empty)
    pq.ParquetWriter(tmp_path / "b.parquet", empty.schema).close()
    reading = open_files(tmp_path)
    assert reading.info.rows == 0
    assert cut_splits(reading.info, 1, 1) == ()


def test_views_and_64_bit_text_keep_their_types(write_parquet, open_files):
    table = pa.table({"v": pa.array(["a", None], pa.string_view()), "l": pa.array([b"x", b""], pa.large_binary())})
    reading = open_files(write_parquet("in.parquet", table))
    assert reading.info.schema.types == [pa.string_view(), pa.large_binary()]
    assert reading.table().to_pylist() == table.to_pylist()


# ---- faults


def refused(match):
    return pytest.raises(InputError, match=match)


def test_what_is_not_parquet_is_named(tmp_path, open_files):
    path = tmp_path / "in.parquet"
    for body in (b"", b"PAR1", b"no parquet at all, but long enough to have a footer PAR2"):
        path.write_bytes(body)
        with refused(r"in\.parquet is not a readable Parquet file .*write it again, or leave it out"):
            open_files(path)


def test_a_truncated_file_is_named(write_parquet, open_files, table):
    path = write_parquet("in.parquet", table)
    path.write_bytes(path.read_bytes()[:-100])
    with refused(r"in\.parquet is not a readable Parquet file"):
        open_files(path)


def test_a_damaged_row_group_is_named_by_its_number(write_parquet, open_files, table):
    path = write_parquet("in.parquet", table, row_group_size=2_500, compression="snappy")
    chunk = pq.read_metadata(path).row_group(2).column(2)
    start = chunk.dictionary_page_offset or chunk.data_page_offset
    data = bytearray(path.read_bytes())
    data[start : start + 200] = b"\xff" * 200
    stat = path.stat()
    path.write_bytes(data)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    reading = open_files(path)
    with refused(r"in\.parquet, row group 2: cannot be decoded after \d+ rows .*the file is damaged"):
        reading.table()
    assert reading.permits.held == 0


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda path: path.write_bytes(path.read_bytes() + b"x"), r"\d+ bytes when planned, \d+ now"),
        (lambda path: os.utime(path, ns=(1, 1)), "it was written to"),
        (lambda path: path.with_suffix(".new").rename(path), "another file has its name now"),
    ],
)
def test_a_file_that_changed_since_it_was_planned(write_parquet, open_files, table, change, sentence):
    path = write_parquet("in.parquet", table)
    path.with_suffix(".new").write_bytes(path.read_bytes())
    reading = open_files(path)
    change(path)
    with refused(rf"in\.parquet changed while it was read \({sentence}\): run the job again"):
        reading.table()


def test_a_change_while_it_is_read_is_seen_at_the_end(write_parquet, open_files, table):
    path = write_parquet("in.parquet", table)
    reading = open_files(path)
    (split,) = cut_splits(reading.info, 1 << 30, 1)
    batches = reading.source.read(split, reading.info.schema, (), reading.permits)
    next(batches)
    os.utime(path, ns=(1, 1))
    with refused("changed while it was read"):
        list(batches)


def test_a_file_that_is_gone(write_parquet, open_files, table):
    path = write_parquet("in.parquet", table)
    reading = open_files(path)
    path.unlink()
    with refused(rf"cannot read {re.escape(str(path))}: No such file"):
        reading.table()


def test_schemas_that_differ_are_told_by_file_and_column(write_parquet, open_files, tmp_path):
    first = pa.table({"a": [1], "b": ["x"]})
    write_parquet("1.parquet", first)
    for other, sentence in [
        (pa.table({"a": [1]}), r"2\.parquet has no column 'b', which .*1\.parquet has"),
        (pa.table({"a": [1], "b": [2]}), r"column 'b' is int64 in .*2\.parquet and string in .*1\.parquet"),
        (pa.table({"a": [1], "b": ["x"], "c": [1]}), r"2\.parquet has a column 'c', which .*1\.parquet has not"),
        (pa.table({"b": ["x"], "a": [1]}), r"column 0 is 'b' in .*2\.parquet and 'a' in .*1\.parquet"),
    ]:
        write_parquet("2.parquet", other)
        with refused(sentence + ".*files that are shuffled together need one schema"):
            open_files(tmp_path)


def test_not_null_in_one_file_only_may_be_null_in_all(write_parquet, open_files, tmp_path):
    not_null = pa.schema([pa.field("a", pa.int64(), False)])
    write_parquet("1.parquet", pa.table({"a": [1]}, schema=not_null))
    assert not open_files(tmp_path).info.schema.field("a").nullable
    write_parquet("2.parquet", pa.table({"a": [None, 2]}, schema=pa.schema([("a", pa.int64())])))
    reading = open_files(tmp_path)
    assert reading.info.schema.field("a").nullable
    read = reading.table()
    assert read.schema == reading.info.schema
    assert read["a"].to_pylist() == [1, None, 2]


def test_a_column_that_is_not_there_is_told_with_the_nearest(write_parquet, open_files, table):
    path = write_parquet("in.parquet", table)
    with refused(r"spec\.source\.columns: .*has no column 'flagg': did you mean 'flag'\?"):
        open_files(path, columns=("flagg",))


def test_a_name_that_two_columns_have(tmp_path, open_files):
    path = tmp_path / "in.parquet"
    pq.write_table(pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["a", "a"]), path)
    with refused(r"has more than one column named 'a'"):
        open_files(path)


def test_importing_the_local_source_does_not_load_the_s3_client():
    code = "import sys, shuffle_worker.source.open; sys.exit('boto3' in sys.modules)"
    root = Path(__file__).resolve().parents[3]
    assert subprocess.run([sys.executable, "-c", code], cwd=root, timeout=60, check=False).returncode == 0
