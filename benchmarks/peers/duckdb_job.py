"""DuckDB: `COPY ... PARTITION_BY` of a hash, one process.

`preserve_insertion_order=false` as its guide for large writes advises, and no file is closed before its time. With a
memory limit, `memory_limit` is set to leave room for what DuckDB does not account, and rows are flushed to the files
earlier: that makes row groups of some 47 Ki rows, and SF10 in 2 GiB takes less than half of the CPU.
"""

import duckdb

from benchmarks.peers.arguments import MIB, PeerJob, parse_job

# DuckDB's own limit covers its buffer manager only; the rest of the process needs room too.
SHARE_OF_LIMIT = 0.6
LIMITED_FLUSH_ROWS = 32_768


def write(job: PeerJob) -> None:
    connection = duckdb.connect()
    connection.execute("SET preserve_insertion_order = false")
    connection.execute(f"SET partitioned_write_max_open_files = {2 * job.partitions}")
    connection.execute(f"SET temp_directory = '{job.scratch}'")
    if job.memory_bytes is not None:
        connection.execute(f"SET memory_limit = '{int(job.memory_bytes * SHARE_OF_LIMIT) // MIB}MiB'")
        connection.execute(f"SET partitioned_write_flush_threshold = {LIMITED_FLUSH_ROWS}")
    row_groups = "" if job.row_group_rows is None else f", ROW_GROUP_SIZE {job.row_group_rows}"
    connection.execute(
        f"COPY (SELECT *, hash({', '.join(job.keys)}) % {job.partitions} AS p FROM read_parquet('{job.pattern}')) "
        f"TO '{job.output}' (FORMAT parquet, PARTITION_BY (p), COMPRESSION snappy{row_groups})"
    )


if __name__ == "__main__":
    write(parse_job())
