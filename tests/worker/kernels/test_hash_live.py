"""Hashes against Spark itself, reading the same Parquet file, and the committed vectors against both.

Needs Java. In CI its absence is a failure; elsewhere these tests are skipped, and `test_hash.py` holds the vectors.

    WRITE_VECTORS=1 python -m pytest tests/worker/kernels/test_hash_live.py     writes vectors.json anew
"""

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from shuffle_worker._native.hash import hash_rows, partition_ids

VECTORS = Path(__file__).with_name("vectors.json")
# Parquet has float32 for them, Spark reads nanoseconds as nothing else, and both agree with these other types:
STANDS_FOR = {
    "float16": pa.float32(),
    "timestamp_ns": pa.timestamp("us"),
    "time64_ns": pa.time64("us"),
    "time32_ms": pa.time64("us"),
    "time32_s": pa.time64("us"),
}
PAIRS = [("int64", "string"), ("float64", "decimal128_38"), ("date32", "binary"), ("uint64", "bool")]


@pytest.fixture(scope="module")
def spark() -> Iterator[Any]:
    if shutil.which("java") is None:
        if os.environ.get("CI") == "true":
            pytest.fail("no java on the PATH: CI compares hashes with Spark itself")
        pytest.skip("no java on the PATH: Spark cannot be asked; the committed vectors are tested instead")
    sql = pytest.importorskip("pyspark.sql")
    session = (
        sql.SparkSession.builder.master("local[1]")
        .config("spark.ui.enabled", "false")
        .config("spark.driver.bindAddress", "127.0.0.1")
        .config("spark.driver.host", "127.0.0.1")
        .config("spark.sql.shuffle.partitions", "1")
        .config("spark.sql.session.timeZone", "UTC")
        .config("spark.sql.timeType.enabled", "true")
        .getOrCreate()
    )
    yield session
    session.stop()


def _pair(keys: dict[str, pa.Array], a: str, b: str) -> pa.RecordBatch:
    """Every value of one beside every value of the other."""
    left, right = keys[a], keys[b]
    return pa.record_batch(
        [
            left.take(pa.array([i for i in range(len(left)) for _ in right])),
            right.take(pa.array([j for _ in left for j in range(len(right))])),
        ],
        names=["a", "b"],
    )


@pytest.fixture(scope="module")
def answers(spark: Any, keys: dict[str, pa.Array], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Spark's hashes: by key, and by pair in both orders. One file and one question for all keys, one for each pair."""
    folder = tmp_path_factory.mktemp("spark")
    found: dict[str, Any] = {}

    def ask(name: str, columns: list[pa.Array], names: list[str], questions: dict[str, str]) -> None:
        path = folder / f"{name}.parquet"
        order = pa.array(range(len(columns[0])), pa.int64())
        pq.write_table(pa.table([*columns, order], names=[*names, "row_number"]), path)
        asked = [
            text
            for of in questions.values()
            for text in (f"xxhash64({of})", f"hash({of})", f"pmod(xxhash64({of}), 7)", f"pmod(hash({of}), 7)")
        ]
        rows = spark.read.parquet(str(path)).orderBy("row_number").selectExpr(*asked).collect()
        answered = [list(column) for column in zip(*rows, strict=True)]
        for number, question in enumerate(questions):
            found[question] = answered[4 * number : 4 * number + 4]

    longest = max(map(len, keys.values()))
    columns = [array.cast(STANDS_FOR.get(name, array.type)) for name, array in keys.items()]
    padded = [pa.concat_arrays([array, pa.nulls(longest - len(array), array.type)]) for array in columns]
    ask("keys", padded, list(keys), {f"{name}(k)": f"`{name}`" for name in keys})
    for name, array in keys.items():
        found[f"{name}(k)"] = [answer[: len(array)] for answer in found[f"{name}(k)"]]
    for a, b in PAIRS:
        pair = _pair(keys, a, b)
        ask(f"{a}-{b}", pair.columns, ["a", "b"], {f"{a}-{b}({of})": of for of in ("a, b", "b, a")})
    return found


def test_every_type_hashes_as_in_spark(answers: dict[str, Any], keys: dict[str, pa.Array]) -> None:
    for name, array in keys.items():
        batch = pa.record_batch([array], names=["k"])
        xx, murmur, xx_ids, murmur_ids = answers[f"{name}(k)"]
        assert hash_rows(batch, ["k"]).to_pylist() == xx, name
        assert hash_rows(batch, ["k"], "SparkMurmur3").to_pylist() == murmur, name
        assert partition_ids(batch, ["k"], 7).to_pylist() == xx_ids, name
        assert partition_ids(batch, ["k"], 7, "SparkMurmur3").to_pylist() == murmur_ids, name


@pytest.mark.parametrize(("a", "b"), PAIRS)
@pytest.mark.parametrize("order", [("a", "b"), ("b", "a")])
def test_several_keys_hash_as_in_spark_in_both_orders(
    answers: dict[str, Any], keys: dict[str, pa.Array], a: str, b: str, order: tuple[str, str]
) -> None:
    batch = _pair(keys, a, b)
    xx, murmur, xx_ids, murmur_ids = answers[f"{a}-{b}({', '.join(order)})"]
    assert hash_rows(batch, order).to_pylist() == xx
    assert hash_rows(batch, order, "SparkMurmur3").to_pylist() == murmur
    assert partition_ids(batch, order, 7).to_pylist() == xx_ids
    assert partition_ids(batch, order, 7, "SparkMurmur3").to_pylist() == murmur_ids


def test_the_committed_vectors_are_sparks(answers: dict[str, Any]) -> None:
    if os.environ.get("WRITE_VECTORS"):
        lines = [f"{json.dumps(name)}: {json.dumps(answers[name][:2])}" for name in sorted(answers)]
        VECTORS.write_text("{\n" + ",\n".join(lines) + "\n}\n")
    committed = json.loads(VECTORS.read_text())
    assert {name: columns[:2] for name, columns in answers.items()} == committed
