"""A whole job on S3: `shufflectl run` reads objects, shuffles, and publishes objects."""

import json
import subprocess
import sys
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq


def parquet(start: int, rows: int) -> bytes:
    table = pa.table({"k": pa.array(range(start, start + rows), pa.int64()), "v": [f"value {n}" for n in range(rows)]})
    file = BytesIO()
    pq.write_table(table, file, row_group_size=5000)
    return file.getvalue()


def run(manifest: dict[str, Any], folder: Path) -> tuple[int, dict[str, Any], str]:
    path = folder / "job.json"
    path.write_text(json.dumps(manifest), encoding="utf-8")
    command = [sys.executable, "-m", "shuffle_worker.cli.main", "run", "-f", str(path), "-o", "json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    return done.returncode, json.loads(done.stdout or "{}"), done.stderr


def test_a_job_from_s3_to_s3(s3: Any, bucket: str, put: Callable[[str, bytes], str], tmp_path: Path) -> None:
    for number in range(3):
        put(f"in/part-{number}.parquet", parquet(number * 20_000, 20_000))
    manifest = {
        "apiVersion": "shuffle-operator.dev/v1alpha1",
        "kind": "ShuffleJob",
        "metadata": {"name": "on-s3"},
        "spec": {
            "source": {"parquet": {"paths": [f"s3://{bucket}/in/*.parquet"]}},
            "shuffle": {"type": "Hash", "keys": ["k"], "partitions": 5},
            "sink": {"parquet": {"path": f"s3://{bucket}/out"}},
            "verify": "Rows",
        },
    }
    code, status, errors = run(manifest, tmp_path)
    assert code == 0, errors
    assert status["stats"]["rowsIn"] == status["stats"]["rowsOut"] == 60_000
    listed = {item["Key"] for item in s3.list_objects_v2(Bucket=bucket, Prefix="out/")["Contents"]}
    assert listed == {*(f"out/part-{n:05d}.parquet" for n in range(5)), "out/_SUCCESS", "out/_manifest.json"}
    assert (
        "Uploads" not in s3.list_multipart_uploads(Bucket=bucket)
        or not s3.list_multipart_uploads(Bucket=bucket)["Uploads"]
    )
    tables = [
        pq.read_table(BytesIO(s3.get_object(Bucket=bucket, Key=key)["Body"].read()))
        for key in sorted(listed)
        if "part" in key
    ]
    whole = pa.concat_tables(tables).sort_by("k")
    assert whole["k"].to_pylist() == list(range(60_000))
    assert whole["v"].to_pylist() == [f"value {n % 20_000}" for n in range(60_000)]

    code, _, errors = run(manifest, tmp_path)
    assert code == 2
    assert "exist" in errors
