"""Row digests: the same for the same rows however they lie, another for any other rows."""

from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shuffle_worker._native.digest import row_digest

SUM128 = 1 << 128
NESTED = {
    pa.list_(pa.int32()): [[1, 2], [], [None], None, [1, 2], [3]],
    pa.large_list(pa.string()): [["a", "b"], [], None, ["", None], ["ab"], ["a"]],
    pa.list_(pa.int8(), 2): [[1, 2], None, [None, 3], [2, 1], [0, 0], [1, 2]],
    pa.list_view(pa.int32()): [[1, 2], [], [None], None, [1, 2], [3]],
    pa.struct([("a", pa.int64()), ("b", pa.string())]): [{"a": 1, "b": "x"}, None, {"a": None, "b": ""}] * 2,
    pa.map_(pa.string(), pa.int32()): [[("a", 1)], [], None, [("a", None)], [("b", 1), ("a", 1)], [("a", 1)]],
    pa.list_(pa.struct([("x", pa.list_(pa.bool_()))])): [[{"x": [True]}], None, [], [{"x": None}], [None], [{"x": []}]],
}  # fmt: skip


def one(array: pa.Array) -> pa.RecordBatch:
    return pa.record_batch([array], names=["c"])


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_it_adds_up_over_rows_in_any_order(data: st.DataObject) -> None:
    type, values = data.draw(st.sampled_from(list(NESTED.items())))
    rows = pa.record_batch({"a": pa.array(values, type), "b": range(6), "c": pa.array(["x", None] * 3)})
    order = data.draw(st.permutations(range(6)))
    cut = data.draw(st.integers(0, 6))
    pieces = [rows.slice(i, 1) for i in order]
    assert sum(row_digest(piece) for piece in pieces) % SUM128 == row_digest(rows)
    assert (row_digest(rows.slice(0, cut)) + row_digest(rows.slice(cut))) % SUM128 == row_digest(rows)
    assert row_digest(pa.Table.from_batches(pieces)) == row_digest(rows)


def test_layouts_of_equal_values_agree(keys: dict[str, pa.Array]) -> None:
    texts, blobs = keys["string"], keys["binary"]
    for type in (pa.large_string(), pa.string_view()):
        assert row_digest(one(texts.cast(type))) == row_digest(one(texts))
    for type in (pa.large_binary(), pa.binary_view()):
        assert row_digest(one(blobs.cast(type))) == row_digest(one(blobs))
    for name, array in keys.items():
        plain = array.dictionary_decode() if name == "dictionary" else array
        coded = pa.DictionaryArray.from_arrays(pa.array(range(len(plain)), pa.int8()), plain)
        assert row_digest(one(coded)) == row_digest(one(plain)), name
    lists = pa.array([[1, 2], [], None, [3]], pa.list_(pa.int32()))
    for type in (pa.large_list(pa.int32()), pa.list_view(pa.int32())):
        assert row_digest(one(pa.array(lists.to_pylist(), type))) == row_digest(one(lists))
    runs = pa.RunEndEncodedArray.from_arrays(pa.array([2, 5], pa.int32()), pa.array(["a", None]))
    assert row_digest(one(runs)) == row_digest(one(pa.array(["a", "a", None, None, None])))
    assert row_digest(one(runs.slice(1, 2))) == row_digest(one(pa.array(["a", None])))


def test_unions_count_by_type_and_value() -> None:
    ids = pa.array([0, 1, 0], pa.int8())
    sparse = pa.UnionArray.from_sparse(ids, [pa.array([1, 0, 3]), pa.array(["", "x", ""])])
    dense = pa.UnionArray.from_dense(ids, pa.array([0, 0, 1], pa.int32()), [pa.array([1, 3]), pa.array(["x"])])
    assert row_digest(one(sparse)) == row_digest(one(dense))
    assert row_digest(one(sparse.slice(0, 2))) != row_digest(one(sparse.slice(1)))


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ({"x": [1], "y": [2]}, {"x": [2], "y": [1]}),
        ({"x": [1, 1]}, {"x": [2, 2]}),
        ({"x": [None]}, {"x": pa.array([0], pa.int64())}),
        ({"x": [None, 1]}, {"x": [1]}),
        ({"x": [0.0]}, {"x": [-0.0]}),
        ({"x": [""], "y": ["a"]}, {"x": ["a"], "y": [""]}),
        ({"x": ["ab"], "y": ["c"]}, {"x": ["a"], "y": ["bc"]}),
        ({"x": [[1], []]}, {"x": [[], [1, 1]]}),
        ({"x": [[None]]}, {"x": [[]]}),
        ({"x": [1, 2, 2]}, {"x": [1, 1, 2]}),
    ],
)
def test_other_rows_have_another_digest(a: dict[str, Any], b: dict[str, Any]) -> None:
    assert row_digest(pa.record_batch(a)) != row_digest(pa.record_batch(b))


def test_equal_rows_do_not_cancel_and_none_count_nothing() -> None:
    row = pa.record_batch({"x": [7]})
    assert row_digest(row.slice(0, 0)) == 0
    assert row_digest(pa.record_batch({"x": [7, 7]})) == 2 * row_digest(row) % SUM128 != 0
