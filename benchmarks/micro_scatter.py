"""Scatter of lineitem's 16 columns into 64 partitions by l_orderkey, on one core, against pyarrow's argsort and take.

    python -m benchmarks.micro_scatter [--rows 2000000] [--rounds 5] [--json FILE]

ours     decoded batches in, frames out: hash, scatter into warm staging, and the Arrow IPC payload, not sealed. With
         columns of few values as dictionaries (as the worker reads them), and with every column plain.
take     pyarrow's: the partition ids are given; sort_indices of them, take of the batch, a slice for each partition.
frames   the same, and each slice written as an Arrow IPC stream: what ours does besides hashing and staging.

Rounds are interleaved and timed in CPU seconds of the process. Targets: 15 Mrow/s, and 4x pyarrow's take.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from benchmarks.data import lineitem
from shuffle_worker._native.buffer import BufferPool
from shuffle_worker._native.hash import partition_ids
from shuffle_worker._native.partition import Partitioner
from shuffle_worker.partitioning import Key, Partitioning, Staging

PARTITIONS = 64
BATCH_ROWS = 65_536
FEW_VALUES = ("l_returnflag", "l_linestatus", "l_shipinstruct", "l_shipmode")


def load(rows: int, dictionaries: bool) -> list[pa.RecordBatch]:
    """Lineitem from its Parquet files, in batches, with strings as pyarrow can take them: not as views."""
    batches: list[pa.RecordBatch] = []
    columns = list(FEW_VALUES) if dictionaries else None
    for path in sorted(lineitem(1).glob("*.parquet")):
        with pq.ParquetFile(path, read_dictionary=columns) as file:
            for batch in file.iter_batches(BATCH_ROWS):
                if rows <= 0:
                    return batches
                schema = pa.schema(
                    field.with_type(pa.string()) if field.type == pa.string_view() else field for field in batch.schema
                )
                batches.append(batch.slice(0, rows).cast(schema))
                rows -= batch.num_rows
    return batches


def ours(batches: list[pa.RecordBatch], dictionary_columns: tuple[str, ...]) -> Callable[[], int]:
    """A round of ours: every frame is made, and given back to the pool."""
    way = Partitioning("Hash", PARTITIONS, PARTITIONS, (Key("l_orderkey"),))
    staging = Staging(dictionary_columns=dictionary_columns)
    partitioner = Partitioner(batches[0].schema, way, staging, BufferPool(256 << 20))

    def run() -> int:
        partitioner.reset()
        rows = 0
        for batch in batches:
            rows += sum(frame.rows for frame in partitioner.push(batch))
        return rows + sum(frame.rows for frame in partitioner.flush())

    return run


def theirs(batches: list[pa.RecordBatch], frames: bool = False) -> Callable[[], int]:
    """A round of pyarrow's: the ids are known beforehand."""
    ids = [partition_ids(batch, ["l_orderkey"], PARTITIONS) for batch in batches]

    def run() -> int:
        rows = 0
        for batch, partitions in zip(batches, ids, strict=True):
            order = pc.sort_indices(partitions)
            taken = batch.take(order)
            start = 0
            for count in pc.value_counts(partitions.take(order)).field("counts").to_pylist():
                part = taken.slice(start, count)
                rows += part.num_rows
                start += count
                if frames:
                    with pa.ipc.new_stream(pa.BufferOutputStream(), part.schema) as writer:
                        writer.write_batch(part)
        return rows

    return run


def timed(run: Callable[[], int], rows: int) -> float:
    """CPU seconds of one round."""
    start = time.process_time()
    done = run()
    seconds = time.process_time() - start
    if done != rows:
        raise ValueError(f"{done} rows came out of {rows}")
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    pa.set_cpu_count(1)
    coded, plain = load(options.rows, True), load(options.rows, False)
    ways = {
        "ours, dictionaries": ours(coded, FEW_VALUES),
        "take, dictionaries": theirs(coded),
        "frames, dictionaries": theirs(coded, True),
        "ours, plain": ours(plain, ()),
        "take, plain": theirs(plain),
        "frames, plain": theirs(plain, True),
    }
    rows = sum(batch.num_rows for batch in coded)
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(options.rounds + 1):
        for name, run in ways.items():
            spent = timed(run, rows)
            if turn:  # the first warms
                seconds[name].append(spent)
    median = {name: statistics.median(spent) for name, spent in seconds.items()}
    figures: dict[str, Any] = {
        "rows": rows,
        "mrow_s": {name: round(rows / spent / 1e6, 2) for name, spent in median.items()},
        "ratio": {name: round(spent / median["ours," + name.partition(",")[2]], 2) for name, spent in median.items()},
    }
    for name, rate in figures["mrow_s"].items():
        print(
            f"{name:22} {rate:6.2f} Mrow/s {1000 / rate:7.1f} ns a row, {figures['ratio'][name]:5.2f}x the time of ours"
        )
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
