"""Polars: the streaming engine with `PartitionBy`, one process.

`maintain_order=False` frees it from an order nobody asked for. Row groups are its default unless told otherwise: with
a memory limit the default keeps 64 large row groups in memory, so the 16 Ki variant is run beside it.
Delivery is `partition_by` of the collected frame: Polars hands no partition over before it holds all rows.
"""

from functools import reduce

import polars as pl

from benchmarks.peers.arguments import PeerJob, parse_job, print_delivered

PARTITION = "__partition"


def partition_of(job: PeerJob) -> pl.Expr:
    """The partition number of a row."""
    hashes = (pl.col(key).hash(seed) for seed, key in enumerate(job.keys))
    return (reduce(lambda left, right: left ^ right, hashes) % job.partitions).cast(pl.UInt32).alias(PARTITION)


def write(job: PeerJob) -> None:
    pl.scan_parquet(job.pattern).sink_parquet(
        pl.PartitionBy(
            str(job.output),
            key=partition_of(job),
            include_key=False,
            approximate_bytes_per_file=None,
            file_path_provider=lambda file: f"part-{file.partition_keys.item():05}.parquet",
        ),
        compression="snappy",
        statistics=True,
        row_group_size=job.row_group_rows,
        maintain_order=False,
        mkdir=True,
        engine="streaming",
    )


def deliver(job: PeerJob) -> int:
    frame = pl.scan_parquet(job.pattern).with_columns(partition_of(job)).collect(engine="streaming")
    return sum(part.height for part in frame.partition_by(PARTITION, include_key=False, maintain_order=False))


if __name__ == "__main__":
    the_job = parse_job()
    if the_job.output is None:
        print_delivered(deliver(the_job))
    else:
        write(the_job)
