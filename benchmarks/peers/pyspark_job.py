"""PySpark: `repartition(N, keys)` in `local[2]`, writing Parquet; delivery through `mapInArrow`, which counts.

The driver's heap holds everything in local mode: 4 GiB, or under a memory limit the share that leaves room for the
JVM's own needs and the Python side. Vectorised reading and Arrow are its defaults. Off heap and AQE as they come.
"""

import os
import sys
from collections.abc import Iterator

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession

from benchmarks.peers.arguments import MIB, PeerJob, parse_job, print_delivered

HEAP_MIB = 4096
SHARE_OF_LIMIT = 0.6


def connect(job: PeerJob) -> SparkSession:
    heap_mib = HEAP_MIB if job.memory_bytes is None else int(job.memory_bytes * SHARE_OF_LIMIT) // MIB
    return (
        SparkSession.builder.master("local[2]")
        .appName("benchmark")
        .config("spark.driver.memory", f"{heap_mib}m")
        .config("spark.driver.host", "127.0.0.1")
        .config("spark.driver.bindAddress", "127.0.0.1")
        .config("spark.ui.enabled", "false")
        .config("spark.ui.showConsoleProgress", "false")
        .config("spark.local.dir", str(job.scratch))
        .config("spark.sql.warehouse.dir", str(job.scratch / "warehouse"))
        .config("spark.sql.parquet.compression.codec", "snappy")
        .getOrCreate()
    )


def shuffled(spark: SparkSession, job: PeerJob) -> DataFrame:
    return spark.read.parquet(str(job.source)).repartition(job.partitions, *job.keys)


def count_batches(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    yield pa.record_batch({"rows": [sum(batch.num_rows for batch in batches)]})


def main() -> None:
    os.environ["PYSPARK_PYTHON"] = sys.executable
    os.environ["SPARK_LOCAL_IP"] = "127.0.0.1"
    job = parse_job()
    spark = connect(job)
    frame = shuffled(spark, job)
    if job.output is None:
        counts = frame.mapInArrow(count_batches, "rows long").collect()
        print_delivered(sum(row.rows for row in counts))
    else:
        frame.write.parquet(str(job.output))
    spark.stop()


if __name__ == "__main__":
    main()
