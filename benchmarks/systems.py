"""The systems compared: how each is called for a job. Runs nothing itself."""

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.data import ROOT

WORKERS = 2
PARTITIONS = 64
SMALL_ROW_GROUP_ROWS = 16_384
OURS = "ours"
ENVIRONMENT = {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}


@dataclass(frozen=True)
class Job:
    """What to do. `output` None: deliver the rows to consumers that count them. Every path is of this run alone."""

    source: Path
    output: Path | None
    scratch: Path
    keys: tuple[str, ...]
    memory_bytes: int | None


@dataclass(frozen=True)
class System:
    """`settings` is for readers of the record; `delivers` whether it has a shuffle-only job."""

    name: str
    label: str
    settings: str
    arguments: Callable[[Job], list[str]]
    delivers: bool = False
    packages: tuple[str, ...] = ()


def _ours(job: Job) -> list[str]:
    if job.output is None:
        return _python("benchmarks.shuffle_only", job)
    manifest = job.scratch / "job.json"
    manifest.write_text(json.dumps(_manifest(job, job.output), indent=1))
    shufflectl = [sys.executable, "-m", "shuffle_worker.cli.main"]
    arguments = [*shufflectl, "run", "-f", str(manifest), "--workers", str(WORKERS), "--quiet", "--output", "json"]
    memory = [] if job.memory_bytes is None else ["--memory", str(job.memory_bytes)]
    return [*arguments, *memory, "--spill-dir", str(job.scratch / "spill")]


def _manifest(job: Job, output: Path) -> dict[str, object]:
    return {
        "apiVersion": "shuffle-operator.dev/v1alpha1",
        "kind": "ShuffleJob",
        "metadata": {"name": "benchmark"},
        "spec": {
            "source": {"parquet": {"paths": [str(job.source / "*.parquet")]}},
            "shuffle": {"type": "Hash", "keys": list(job.keys), "partitions": PARTITIONS},
            "sink": {"parquet": {"path": str(output), "compression": "Snappy"}},
        },
    }


def _python(module: str, job: Job, *more: str) -> list[str]:
    arguments = [sys.executable, "-m", module, "--source", str(job.source), "--scratch", str(job.scratch)]
    arguments += ["--keys", ",".join(job.keys), "--partitions", str(PARTITIONS)]
    if job.output is not None:
        arguments += ["--output", str(job.output)]
    if job.memory_bytes is not None:
        arguments += ["--memory-bytes", str(job.memory_bytes)]
    return [*arguments, *more]


def _peer(name: str, *more: str) -> Callable[[Job], list[str]]:
    return lambda job: _python(f"benchmarks.peers.{name}_job", job, *more)


SYSTEMS = {
    system.name: system
    for system in (
        System(
            OURS,
            "shuffle-operator",
            f"{WORKERS} worker processes, the full protocol over loopback, default row groups",
            _ours,
            True,
            ("shuffle-operator", "pyarrow"),
        ),
        System(
            "polars",
            "Polars",
            "one process, streaming, PartitionBy, default row groups",
            _peer("polars"),
            True,
            ("polars",),
        ),
        System(
            "polars-16k",
            "Polars, 16 Ki row groups",
            "one process, streaming, PartitionBy, row groups of 16 Ki rows",
            _peer("polars", "--row-group-rows", str(SMALL_ROW_GROUP_ROWS)),
            packages=("polars",),
        ),
        System(
            "duckdb",
            "DuckDB",
            "one process, COPY PARTITION_BY, insertion order not kept, default row groups (smaller under a limit)",
            _peer("duckdb"),
            packages=("duckdb",),
        ),
        System(
            "datafusion",
            "DataFusion",
            "one process, COPY PARTITIONED BY, default row groups",
            _peer("datafusion"),
            True,
            ("datafusion",),
        ),
        System(
            "pyarrow",
            "pyarrow write_dataset",
            "one process, row groups of at least 120 Ki rows, 16 Ki and less read-ahead under a memory limit",
            _peer("pyarrow"),
            packages=("pyarrow",),
        ),
        System(
            "dask",
            "Dask P2P",
            "LocalCluster of 2 processes, p2p shuffle, Arrow-backed columns",
            _peer("dask"),
            True,
            ("dask", "distributed", "pandas"),
        ),
        System(
            "pyspark",
            "PySpark",
            "local[2], repartition by key, 4 GiB heap or 0.6 of the limit",
            _peer("pyspark"),
            True,
            ("pyspark",),
        ),
    )
}
