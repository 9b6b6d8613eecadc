"""pyarrow: `dataset.write_dataset`, one process.

As it comes it writes a row group for every small piece that reaches a partition, so `min_rows_per_group` is set: to
122,880 rows, or to less under a memory limit, where read-ahead is lowered too. (It holds back 2 Mi rows over all files
whatever it is told, so with 64 files row groups have some 32 Ki rows.) Its writer cannot `take` string views,
so the input's are read as strings. pyarrow computes no hashes: integer
keys are mixed by an expression (as a hash would do at least), other keys are hashed by Polars on the way.
"""

from collections.abc import Iterator
from functools import reduce

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from benchmarks.peers.arguments import PeerJob, parse_job

GOLDEN_RATIO = -7046029254386353131  # 2**64 / golden ratio, signed: Fibonacci hashing
ROW_GROUP_ROWS = 122_880
LIMITED_ROW_GROUP_ROWS = 16_384
LIMITED_READAHEAD = {"batch_readahead": 2, "fragment_readahead": 1, "batch_size": 65_536}


def partitioned(data: ds.Dataset, job: PeerJob) -> ds.Scanner:
    """The rows with their partition number in a column `p`."""
    readahead = {} if job.memory_bytes is None else LIMITED_READAHEAD
    if all(pa.types.is_integer(data.schema.field(key).type) for key in job.keys):
        columns: dict[str, pc.Expression] = {name: ds.field(name) for name in data.schema.names}
        # Another odd factor for each key, so that (a, b) and (b, a) differ; products wrap.
        products = (
            pc.multiply(ds.field(key).cast(pa.int64()), GOLDEN_RATIO + 2 * place) for place, key in enumerate(job.keys)
        )
        mixed = reduce(pc.add, products)
        columns["p"] = pc.bit_wise_and(pc.shift_right(mixed, 40), job.partitions - 1).cast(pa.int32())
        return data.scanner(columns=columns, **readahead)

    def batches() -> Iterator[pa.RecordBatch]:
        for batch in data.to_batches(**readahead):
            keys = pl.DataFrame([pl.Series(key, batch.column(key)) for key in job.keys])
            yield batch.append_column("p", (keys.hash_rows() % job.partitions).cast(pl.Int32).to_arrow())

    return ds.Scanner.from_batches(batches(), schema=data.schema.append(pa.field("p", pa.int32())))


def open_source(job: PeerJob) -> ds.Dataset:
    """The input, with strings for string views."""
    found = ds.dataset(str(job.source), format="parquet").schema
    plain = [each.with_type(pa.string()) if pa.types.is_string_view(each.type) else each for each in found]
    return ds.dataset(str(job.source), format="parquet", schema=pa.schema(plain))


def write(job: PeerJob) -> None:
    if job.partitions & (job.partitions - 1):
        raise SystemExit("the number of partitions must be a power of two here: the expression masks bits")
    data = open_source(job)
    rows = job.row_group_rows or (ROW_GROUP_ROWS if job.memory_bytes is None else LIMITED_ROW_GROUP_ROWS)
    ds.write_dataset(
        partitioned(data, job),
        job.output,
        format="parquet",
        file_options=ds.ParquetFileFormat().make_write_options(compression="snappy", write_statistics=True),
        partitioning=ds.partitioning(pa.schema([("p", pa.int32())]), flavor="hive"),
        min_rows_per_group=rows,
        max_rows_per_group=max(rows, ROW_GROUP_ROWS),
        max_open_files=job.partitions + 16,
    )


if __name__ == "__main__":
    write(parse_job())
