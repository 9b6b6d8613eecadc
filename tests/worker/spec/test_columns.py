"""What can be said once the input's columns are known."""

import datetime
from decimal import Decimal

import pyarrow as pa
import pytest

from shuffle_worker.spec import check
from shuffle_worker.spec.columns import arrow_type, column_problems, key_types, typed_boundaries
from shuffle_worker.spec.keytypes import is_key_type, known_key_types

SCHEMA = pa.schema(
    {
        "id": pa.int64(),
        "small": pa.int8(),
        "price": pa.decimal128(12, 2),
        "ratio": pa.float64(),
        "flag": pa.bool_(),
        "day": pa.date32(),
        "at": pa.timestamp("ns", "UTC"),
        "clock": pa.time64("us"),
        "name": pa.string(),
        "view": pa.string_view(),
        "raw": pa.binary(),
        "code": pa.dictionary(pa.int8(), pa.string()),
        "tags": pa.list_(pa.string()),
        "nothing": pa.null(),
    }
)


@pytest.fixture
def spec_of(manifest, change):
    def make(changes):
        job, problems = check(change(manifest, changes))
        assert problems == []
        return job.spec

    return make


@pytest.fixture
def told(spec_of):
    return lambda changes: [str(problem) for problem in column_problems(spec_of(changes), SCHEMA)]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"spec.shuffle.keys": ["nam"]}, 'spec.shuffle.keys[0]: no column is named "nam": did you mean name?'),
        ({"spec.shuffle.keys": ["zzz"]}, 'spec.shuffle.keys[0]: no column is named "zzz": the input has id, small'),
        (
            {"spec.shuffle.keys": ["id"], "spec.source.parquet.columns": ["id", "prise"]},
            'spec.source.parquet.columns[1]: no column is named "prise": did you mean price?',
        ),
        (
            {"spec.shuffle.keys": ["id"], "spec.sink.parquet.sortBy": ["dya"]},
            'spec.sink.parquet.sortBy[0]: no column is named "dya": did you mean day?',
        ),
        (
            {"spec.shuffle.keys": ["id"], "spec.sink.parquet.sortBy": ["tags"]},
            'spec.sink.parquet.sortBy[0]: the column "tags" is list<item: string>, which has no order',
        ),
        (
            {"spec.shuffle.keys": ["tags"]},
            'spec.shuffle.keys[0]: the column "tags" is list<item: string>, which cannot be a key',
        ),
        ({"spec.shuffle.keys": ["nothing"]}, 'spec.shuffle.keys[0]: the column "nothing" has no type'),
        (
            {"spec.shuffle.keys": [{"name": "flag", "as": "date32"}]},
            'spec.shuffle.keys[0].as: the column "flag" is bool, which does not cast to date32[day]',
        ),
        (
            {"spec.shuffle.keys": ["ratio"], "spec.shuffle.hash": {"function": "Iceberg"}},
            'spec.shuffle.keys[0]: Iceberg does not bucket double ("ratio"): cast it with `as`, to int64 or string',
        ),
    ],
)
def test_wrong_columns(told, changes, sentence):
    (only,) = told(changes)
    assert only.startswith(sentence)


def test_all_wrong_columns_are_told_at_once(told):
    assert len(told({"spec.shuffle.keys": ["a1", "tags"], "spec.sink.parquet.sortBy": ["b1"]})) == 3


def test_a_name_that_two_columns_have(spec_of):
    schema = pa.schema([("id", pa.int64()), ("id", pa.int32())])
    (problem,) = column_problems(spec_of({"spec.shuffle.keys": ["id"]}), schema)
    assert problem.fault == '2 columns are named "id"'


def test_key_types_follow_casts_and_dictionaries(spec_of):
    spec = spec_of({"spec.shuffle.keys": ["id", "code", {"name": "small", "as": "int64"}]})
    assert key_types(spec.shuffle, SCHEMA) == [pa.int64(), pa.string(), pa.int64()]


def ranged(key, *boundaries):
    return {
        "spec.shuffle.type": "Range",
        "spec.shuffle.keys": [key],
        "spec.shuffle.partitions": len(boundaries) + 1,
        "spec.shuffle.range": {"boundaries": [[value] for value in boundaries]},
    }


@pytest.mark.parametrize(
    ("key", "boundaries", "typed"),
    [
        ("id", [1, 2**62], [1, 2**62]),
        ("price", [9, "9.5", 10.25], [Decimal("9.00"), Decimal("9.50"), Decimal("10.25")]),
        ("ratio", [-0.5, 1], [-0.5, 1.0]),
        ("flag", [True], [True]),
        ("day", ["2024-01-31", "2024-02-01"], [datetime.date(2024, 1, 31), datetime.date(2024, 2, 1)]),
        ("clock", ["09:00:00", "10:00:00"], [datetime.time(9), datetime.time(10)]),
        ("name", ["B", "a", "é"], ["B", "a", "é"]),
        ("view", ["a", "b"], ["a", "b"]),
        ("raw", ["a", "b"], [b"a", b"b"]),
        ("code", ["a", "b"], ["a", "b"]),
        ("id", [1, None], [1, None]),
    ],
)
def test_boundaries_take_the_keys_type(spec_of, key, boundaries, typed):
    spec = spec_of(ranged(key, *boundaries))
    assert column_problems(spec, SCHEMA) == []
    (values,) = typed_boundaries(spec.shuffle, SCHEMA)
    assert values.to_pylist() == typed
    assert [values.type] == key_types(spec.shuffle, SCHEMA)


def test_nanoseconds_are_kept(spec_of):
    given = ["2024-01-31T10:00:00.000000001Z", "2024-01-31T10:00:00.000000002Z"]
    spec = spec_of(ranged("at", *given))
    assert column_problems(spec, SCHEMA) == []
    (values,) = typed_boundaries(spec.shuffle, SCHEMA)
    assert values.type == pa.timestamp("ns", "UTC")
    assert [value % 1000 for value in values.cast(pa.int64()).to_pylist()] == [1, 2]


@pytest.mark.parametrize(
    ("key", "boundaries", "sentence"),
    [
        ("id", ["x"], '[0]: "x" is not a int64'),
        ("id", [1.5], "[0]: 1.5 is not a int64"),
        ("id", [1, True], "[1]: true is not a int64"),
        ("small", [1, 300], "[1]: 300 is not a int8"),
        ("flag", [1], "[0]: 1 is not a bool"),
        ("day", [20240131], "[0]: 20240131 is not a date32[day]"),
        ("day", ["31.1.2024"], '[0]: "31.1.2024" is not a date32[day]'),
        ("name", [1], "[0]: 1 is not a string"),
        ("raw", [1], "[0]: 1 is not a binary"),
        ("price", ["1.234"], '[0]: "1.234" is not a decimal128(12, 2)'),
        ("day", ["2024-02-01", "2024-01-31"], "[1]: comes before the boundary 0"),
        ("name", ["a", "B"], "[1]: comes before the boundary 0"),
        ("price", ["10", "9"], "[1]: comes before the boundary 0"),
        ("name", ["a", "a"], "[1]: repeats the boundary 0"),
        ({"name": "name", "order": "Descending"}, ["a", "b"], "[1]: comes before the boundary 0"),
        ({"name": "name", "nulls": "First"}, ["a", None], "[1]: comes before the boundary 0"),
    ],
)
def test_wrong_boundaries(told, key, boundaries, sentence):
    (only,) = told(ranged(key, *boundaries))
    assert only.removeprefix("spec.shuffle.range.boundaries").startswith(sentence)


@pytest.mark.parametrize("name", [*known_key_types(), "timestamp[us, tz=Europe/Zurich]", "timestamp[ms, UTC]"])
def test_every_key_type_is_an_arrow_type(name):
    assert is_key_type(name)
    assert isinstance(arrow_type(name), pa.DataType)


@pytest.mark.parametrize("name", ["", "int", "list<int64>", "decimal128(0, 0)", "decimal128(4, 5)", "timestamp[h]"])
def test_what_is_no_key_type(name):
    assert not is_key_type(name)
