"""DataFusion: `COPY ... PARTITIONED BY`, one process; delivery is its hash repartitioning, a consumer a partition.

It has no cheap hash function for SQL: integer keys are mixed by a multiplication, as a hash would do at least; other
keys are hashed by a function of Polars. Batches of 64 Ki rows: with the default of 8 Ki each file gets crumbs, and the
job takes twice the CPU. Row groups as it comes (1 Mi rows); statistics for each page, its default.
"""

from concurrent.futures import ThreadPoolExecutor

import polars as pl
import pyarrow as pa
from datafusion import RecordBatchStream, RuntimeEnvBuilder, SessionConfig, SessionContext, col, udf

from benchmarks.peers.arguments import PeerJob, parse_job, print_delivered

SHARE_OF_LIMIT = 0.6
BATCH_ROWS = 65_536
GOLDEN_RATIO = -7046029254386353131  # 2**64 / golden ratio, signed: Fibonacci hashing


def connect(job: PeerJob) -> SessionContext:
    config = SessionConfig().with_batch_size(BATCH_ROWS).set("datafusion.execution.parquet.compression", "snappy")
    if job.row_group_rows is not None:
        config = config.set("datafusion.execution.parquet.max_row_group_size", str(job.row_group_rows))
    runtime = RuntimeEnvBuilder().with_temp_file_path(str(job.scratch))
    if job.memory_bytes is not None:
        runtime = runtime.with_fair_spill_pool(int(job.memory_bytes * SHARE_OF_LIMIT))
    context = SessionContext(config, runtime)
    context.register_parquet("lineitem", str(job.source))
    return context


def partition_sql(context: SessionContext, job: PeerJob) -> str:
    """The partition number as a SQL expression."""
    types = {field.name: field.type for field in context.table("lineitem").schema()}
    if all(pa.types.is_integer(types[key]) for key in job.keys):
        # Another odd factor for each key, so that (a, b) and (b, a) differ; products wrap.
        mixed = " + ".join(f"{key} * {GOLDEN_RATIO + 2 * place}" for place, key in enumerate(job.keys))
        return f"((({mixed}) >> 32) & 2147483647) % {job.partitions}"

    def hash_of(*columns: pa.Array) -> pa.Array:
        frame = pl.DataFrame([pl.Series(str(place), column) for place, column in enumerate(columns)])
        return (frame.hash_rows() % job.partitions).cast(pl.Int64).to_arrow()

    context.register_udf(udf(hash_of, [types[key] for key in job.keys], pa.int64(), "immutable", "partition_of"))
    return f"partition_of({', '.join(job.keys)})"


def write(job: PeerJob) -> None:
    context = connect(job)
    context.sql(
        f"COPY (SELECT *, {partition_sql(context, job)} AS p FROM lineitem) TO '{job.output}/' "
        "STORED AS PARQUET PARTITIONED BY (p)"
    ).collect()


def deliver(job: PeerJob) -> int:
    table = connect(job).table("lineitem")
    streams = table.repartition_by_hash(*map(col, job.keys), num=job.partitions).execute_stream_partitioned()
    # One consumer for each partition, all at once: a partition that nobody reads would pile up in memory.
    with ThreadPoolExecutor(job.partitions) as consumers:
        return sum(consumers.map(count_rows, streams))


def count_rows(stream: RecordBatchStream) -> int:
    return sum(batch.to_pyarrow().num_rows for batch in stream)


if __name__ == "__main__":
    the_job = parse_job()
    if the_job.output is None:
        print_delivered(deliver(the_job))
    else:
        write(the_job)
