"""Dask: `shuffle(method="p2p")` on a LocalCluster of two single-threaded workers, on loopback.

Columns stay Arrow all the way: Dask's reader does so with decimals and dates by itself, and is told so for string
views, of which it would make Python objects. `blocksize` cuts the input into even pieces that fit a worker's memory.
Under a memory limit each worker gets its share, and spills by Dask's own thresholds.
"""

import dask
import dask.dataframe as dd
import pandas as pd
import pyarrow as pa
from distributed import Client, LocalCluster

from benchmarks.peers.arguments import PeerJob, parse_job, print_delivered

WORKERS = 2
# Scheduler, the parent process and the workers' own base come out of the limit too.
SHARE_OF_LIMIT = 0.7
BLOCK_SIZE, LIMITED_BLOCK_SIZE = "64MiB", "16MiB"


def pandas_type(arrow_type: pa.DataType) -> pd.StringDtype | None:
    """Strings for string views; None leaves the other types to Dask."""
    return pd.StringDtype("pyarrow") if pa.types.is_string_view(arrow_type) else None


def shuffled(job: PeerJob) -> dd.DataFrame:
    blocksize = BLOCK_SIZE if job.memory_bytes is None else LIMITED_BLOCK_SIZE
    frame = dd.read_parquet(str(job.source), blocksize=blocksize, arrow_to_pandas={"types_mapper": pandas_type})
    return frame.shuffle(on=list(job.keys), npartitions=job.partitions, shuffle_method="p2p")


def run(job: PeerJob) -> None:
    if job.output is None:
        print_delivered(int(shuffled(job).map_partitions(len).sum().compute()))
        return
    shuffled(job).to_parquet(
        str(job.output), write_index=False, compression="snappy", row_group_size=job.row_group_rows
    )


def main() -> None:
    job = parse_job()
    worker_bytes = None if job.memory_bytes is None else int(job.memory_bytes * SHARE_OF_LIMIT / WORKERS)
    dask.config.set({"temporary-directory": str(job.scratch), "distributed.diagnostics.nvml": False})
    with (
        LocalCluster(
            n_workers=WORKERS,
            threads_per_worker=1,
            host="127.0.0.1",
            dashboard_address=None,
            memory_limit="auto" if worker_bytes is None else worker_bytes,
        ) as cluster,
        Client(cluster),
    ):
        run(job)


if __name__ == "__main__":
    main()
