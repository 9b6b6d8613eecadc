"""Row hashes: the committed vectors of Spark, Iceberg's own transform, layouts, and what may not be a key."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyiceberg import types as iceberg
from pyiceberg.transforms import BucketTransform

from shuffle_worker._native.hash import hash_rows, hashable, partition_ids
from shuffle_worker.errors import InputError, UserError
from shuffle_worker.partitioning import Key

VECTORS: dict[str, Any] = json.loads(Path(__file__).with_name("vectors.json").read_text())
BUCKETS = 1000
ICEBERG_TYPES = {
    "int8": iceberg.IntegerType(),
    "int16": iceberg.IntegerType(),
    "int32": iceberg.IntegerType(),
    "int64": iceberg.LongType(),
    "uint8": iceberg.IntegerType(),
    "uint16": iceberg.IntegerType(),
    "uint32": iceberg.LongType(),
    "decimal32": iceberg.DecimalType(9, 2),
    "decimal64": iceberg.DecimalType(18, 4),
    "decimal128_18": iceberg.DecimalType(18, 0),
    "decimal128_19": iceberg.DecimalType(19, 3),
    "decimal128_38": iceberg.DecimalType(38, 10),
    "decimal256_15": iceberg.DecimalType(15, 2),
    "decimal256_38": iceberg.DecimalType(38, 0),
    "date32": iceberg.DateType(),
    "date64": iceberg.DateType(),
    "time32_s": iceberg.TimeType(),
    "time64_us": iceberg.TimeType(),
    "timestamp_s": iceberg.TimestampType(),
    "timestamp_ms": iceberg.TimestampType(),
    "timestamp_us": iceberg.TimestampType(),
    "timestamp_utc": iceberg.TimestamptzType(),
    "string": iceberg.StringType(),
    "large_string": iceberg.StringType(),
    "string_view": iceberg.StringType(),
    "binary": iceberg.BinaryType(),
    "large_binary": iceberg.BinaryType(),
    "binary_view": iceberg.BinaryType(),
    "fixed_binary": iceberg.FixedType(5),
    "dictionary": iceberg.StringType(),
}
AS_NUMBERS = ("date", "time")


def one(array: pa.Array) -> pa.RecordBatch:
    return pa.record_batch([array], names=["k"])


def test_every_type_hashes_as_the_vectors_say(keys: dict[str, pa.Array]) -> None:
    for name, array in keys.items():
        xx, murmur = VECTORS[f"{name}(k)"]
        assert hash_rows(one(array), ["k"]).to_pylist() == xx, name
        assert hash_rows(one(array), ["k"], "SparkMurmur3").to_pylist() == murmur, name


@pytest.mark.parametrize("name", ICEBERG_TYPES)
def test_buckets_are_icebergs(keys: dict[str, pa.Array], name: str) -> None:
    array = keys[name]
    values = array
    if name.startswith(AS_NUMBERS):  # Iceberg holds them as numbers of days or microseconds
        if not name.startswith("date"):
            values = values.cast(pa.time64("us") if name.startswith(("time3", "time6")) else pa.timestamp("us"))
        values = values.cast(pa.int32() if name == "date32" else pa.date32()) if name.startswith("date") else values
        values = values.cast(pa.int32() if name.startswith("date") else pa.int64())
    transform = BucketTransform(BUCKETS).transform(ICEBERG_TYPES[name])
    expected = [0 if value is None else transform(value) for value in values.to_pylist()]
    assert partition_ids(one(array), ["k"], BUCKETS, "Iceberg").to_pylist() == expected


@pytest.mark.parametrize("function", ["XxHash64", "SparkMurmur3", "Iceberg"])
def test_equal_values_hash_alike_in_every_layout(keys: dict[str, pa.Array], function: str) -> None:
    for name, array in keys.items():
        if hashable(array.type, function):
            continue
        expected = hash_rows(one(array), ["k"], function).to_pylist()
        plain = array.dictionary_decode() if name == "dictionary" else array
        for codes in (pa.int8(), pa.uint16(), pa.int64()):
            coded = pa.DictionaryArray.from_arrays(pa.array(range(len(plain)), codes), plain)
            assert hash_rows(one(coded), ["k"], function).to_pylist() == expected, name
        padded = pa.concat_arrays([array.slice(1, 1), array, array.slice(0, 1)])
        assert hash_rows(one(padded.slice(1, len(array))), ["k"], function).to_pylist() == expected, name
        assert hash_rows(one(array.slice(0, 0)), ["k"], function).to_pylist() == [], name


def test_a_null_in_a_dictionary_is_a_null() -> None:
    coded = pa.DictionaryArray.from_arrays(pa.array([0, 1, None, 0], pa.uint16()), pa.array(["a", None]))
    assert hash_rows(one(coded), ["k"]) == hash_rows(one(pa.array(["a", None, None, "a"])), ["k"])


def test_the_order_of_keys_counts_and_equal_columns_do_not_cancel() -> None:
    batch = pa.record_batch({"a": pa.array([1, 2, 3]), "b": pa.array([2, 1, 3])})
    there, back = hash_rows(batch, ["a", "b"]).to_pylist(), hash_rows(batch, ["b", "a"]).to_pylist()
    assert there[0] == back[1]
    assert there[0] != there[1]
    assert len(set(there)) == 3
    assert there[2] != 0


def test_the_hash_is_the_same_in_every_process() -> None:
    """Frozen here: a salted hash would differ from run to run."""
    batch = pa.record_batch({"k": pa.array(["shuffle", "größe"])})
    assert partition_ids(batch, ["k"], 64).to_pylist() == [14, 40]


def test_a_cast_key_hashes_as_its_other_type() -> None:
    narrow, wide = one(pa.array([1, -1, None], pa.int32())), one(pa.array([1, -1, None], pa.int64()))
    assert hash_rows(narrow, [Key("k", cast=pa.int64())]) == hash_rows(wide, ["k"])
    assert hash_rows(narrow, ["k"]) != hash_rows(wide, ["k"])
    with pytest.raises(UserError, match=r"key 'k' of type string cannot be cast to int64"):
        hash_rows(one(pa.array(["x"])), [Key("k", cast=pa.int64())])


def test_partitions_are_never_negative_and_cover_all() -> None:
    batch = one(pa.array(range(100_000)))
    for partitions in (1, 2, 3, 64, 1000, 65_536):
        ids = partition_ids(batch, ["k"], partitions).to_pylist()
        assert min(ids) >= 0
        assert max(ids) < partitions
        assert len(set(ids)) > 0.75 * partitions


@pytest.mark.parametrize(
    ("type", "function", "match"),
    [
        (pa.list_(pa.int64()), "XxHash64", r"column 'k' of type nested cannot be a key"),
        (pa.struct([("a", pa.int64())]), "SparkMurmur3", r"column 'k' of type nested"),
        (pa.month_day_nano_interval(), "XxHash64", "intervals cannot be hashed"),
        (pa.float64(), "Iceberg", "no bucket transform of float64"),
        (pa.uint64(), "Iceberg", "no bucket transform of uint64"),
        (pa.bool_(), "Iceberg", "no bucket transform of bool"),
    ],
)
def test_what_cannot_be_hashed_is_refused_by_name(type: pa.DataType, function: Any, match: str) -> None:
    with pytest.raises(UserError, match=match):
        hash_rows(one(pa.nulls(1, type)), ["k"], function)
    assert hashable(type, function)


def test_wrong_calls_are_refused() -> None:
    batch = pa.record_batch({"a": [1], "b": [2]})
    with pytest.raises(UserError, match="there is no column 'c'; the columns are a, b"):
        hash_rows(batch, ["c"])
    with pytest.raises(UserError, match="Iceberg's bucket transform takes one key, not 2"):
        hash_rows(batch, ["a", "b"], "Iceberg")
    with pytest.raises(UserError, match="at least one key"):
        hash_rows(batch, [])
    with pytest.raises(UserError, match=r"partitions must be 1 to 65,536, not 0"):
        partition_ids(batch, ["a"], 0)
    with pytest.raises(UserError, match="not a list"):
        hash_rows([1], ["a"])


def test_unsound_arrow_data_is_refused() -> None:
    descending = pa.Array.from_buffers(
        pa.string(), 2, [None, pa.py_buffer(b"\x00\0\0\0\x05\0\0\0\x02\0\0\0"), pa.py_buffer(b"hello")]
    )
    with pytest.raises(InputError, match="column 'k' of a batch is not sound Arrow data: its offsets do not ascend"):
        hash_rows(one(descending), ["k"])
    outside = pa.Array.from_buffers(
        pa.string_view(), 1, [None, pa.py_buffer(b"\x20\0\0\0abcd\x01\0\0\0\0\0\0\0"), pa.py_buffer(b"short")]
    )
    with pytest.raises(InputError, match="a view reaches outside its buffers"):
        hash_rows(one(outside), ["k"])
    codes = pa.DictionaryArray.from_arrays(pa.array([0, 3], pa.int8()), pa.array(["a"]), safe=False)
    with pytest.raises(InputError, match="a code is outside its dictionary"):
        hash_rows(one(codes), ["k"])
    crooked = pa.Array.from_buffers(pa.int64(), 1, [None, pa.py_buffer(bytes(64)).slice(1)])
    with pytest.raises(InputError, match="not aligned"):
        hash_rows(one(crooked), ["k"])
