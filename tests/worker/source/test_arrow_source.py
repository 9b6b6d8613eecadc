"""Arrow IPC files as a source: both formats, any batch alone, metadata only in a scan."""

import contextlib

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shuffle_worker.errors import InputError
from shuffle_worker.source.base import cut_splits
from shuffle_worker.source.ipc_metadata import IpcFormatError, read_layout

ROWS = 5_000


@pytest.fixture
def table():
    return pa.table(
        {
            "id": pa.array(range(ROWS), pa.int64()),
            "text": pa.array([None if n % 7 == 0 else f"row {n}" for n in range(ROWS)], pa.string_view()),
            "deep": pa.array([[{"x": n}] for n in range(ROWS)], pa.list_(pa.struct([("x", pa.int16())]))),
        }
    )


@pytest.fixture
def write_arrow(tmp_path):
    def write(name, table, kind="file", rows=1000, compression=None):
        new = pa.ipc.new_file if kind == "file" else pa.ipc.new_stream
        path = tmp_path / name
        options = pa.ipc.IpcWriteOptions(compression=compression, emit_dictionary_deltas=kind == "stream")
        with new(str(path), table.schema, options=options) as writer:
            writer.write_table(table, max_chunksize=rows)
        return path

    return write


@pytest.mark.parametrize("kind", ["file", "stream"])
@pytest.mark.parametrize("compression", [None, "lz4", "zstd"])
def test_all_rows_come_in_order_whatever_the_splits(write_arrow, open_files, table, kind, compression):
    reading = open_files(write_arrow("in.arrow", table, kind, compression=compression), format="arrow")
    assert [piece.rows for piece in reading.info.files[0].pieces] == [1000] * 5
    assert reading.info.schema == table.schema
    for split_bytes in (1, 1 << 30):
        assert reading.table(split_bytes).equals(table)
    assert reading.table(columns=["text"]).equals(table.select(["text"]))
    assert reading.permits.held == 0


@pytest.mark.parametrize("kind", ["file", "stream"])
def test_dictionaries_are_read_with_their_batches(write_arrow, open_files, kind):
    chunks = [pa.array(["a", "b"]).dictionary_encode(), pa.array(["a", "b", "c"]).dictionary_encode()]
    if kind == "file":
        chunks = pa.chunked_array(chunks).unify_dictionaries().chunks
    table = pa.table({"k": pa.chunked_array(chunks)})
    reading = open_files(write_arrow("in.arrow", table, kind), format="arrow")
    assert reading.table(1)["k"].to_pylist() == ["a", "b", "a", "b", "c"]


def test_a_folder_takes_all_names_of_the_format(write_arrow, open_files, table, tmp_path):
    for name in ("1.arrow", "2.feather", "3.arrows", "4.ipc"):
        write_arrow(name, table.slice(0, 10), "stream" if name == "3.arrows" else "file")
    (tmp_path / "5.txt").touch()
    assert open_files(tmp_path, format="arrow").info.rows == 40


def test_files_without_batches(write_arrow, open_files, table):
    for kind in ("file", "stream"):
        reading = open_files(write_arrow("in.arrow", table.slice(0, 0), kind), format="arrow")
        assert reading.info.rows == 0
        assert cut_splits(reading.info, 1, 1) == ()


@pytest.mark.parametrize("kind", ["file", "stream"])
def test_a_truncated_file_is_named(write_arrow, open_files, table, kind):
    path = write_arrow("in.arrow", table, kind)
    path.write_bytes(path.read_bytes()[:-3000])
    with pytest.raises(InputError, match=r"in\.arrow"):
        open_files(path, format="arrow").table()


def test_what_is_not_arrow_is_named(tmp_path, open_files):
    path = tmp_path / "in.arrow"
    for body in (b"", b"ARROW1", b"hello, this is text" * 10):
        path.write_bytes(body)
        with pytest.raises(InputError, match=r"in\.arrow is not a readable Arrow IPC file .*write it again"):
            open_files(path, format="arrow")


def test_a_damaged_batch_is_named_by_its_number(write_arrow, open_files, table):
    path = write_arrow("in.arrow", table, "file", compression="lz4")
    with pa.OSFile(str(path)) as file:
        place = read_layout(file).batches[3]
    data = bytearray(path.read_bytes())
    middle = place.offset + place.bytes // 2
    data[middle : middle + 400] = b"\xff" * 400
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"record batch 3 of .*in\.arrow: cannot be decoded .*the file is damaged"):
        open_files(path, format="arrow").table()


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_no_bytes_make_the_layout_reader_fail_otherwise(data):
    table = pa.table({"a": pa.array(range(50)), "b": pa.array(["x", "y"] * 25).dictionary_encode()})
    sink = pa.BufferOutputStream()
    kind = data.draw(st.sampled_from([pa.ipc.new_file, pa.ipc.new_stream]))
    with kind(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=20)
    body = bytearray(sink.getvalue().to_pybytes())
    for _ in range(data.draw(st.integers(0, 8))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    body = body[: data.draw(st.integers(0, len(body)))]
    with contextlib.suppress(IpcFormatError, pa.ArrowException, OSError):
        read_layout(pa.BufferReader(bytes(body)))
