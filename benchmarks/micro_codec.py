"""Decoding and encoding Parquet against pyarrow as it comes: lineitem SF1, one thread, rounds interleaved.

    python -m benchmarks.micro_codec [--rounds 5] [--json FILE]

decode  our source reads the files; against pyarrow's `iter_batches` of whole row groups, without threads.
encode  our writer is given one partition of 64 as frames of 8,192 rows, as the shuffle delivers them, and makes row
        groups of 122,880 rows with snappy and statistics; against pyarrow's writer with default options, given the same
        rows as tables of a row group each. Bytes of the files are compared too.
Figures are ns of CPU time for each row, medians of the rounds; ratios are ours to pyarrow's. Targets: encode <= 0.6x in
time, <= 1.05x in bytes; decode <= 1.0x.
"""

import argparse
import contextlib
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from benchmarks.data import lineitem
from shuffle_worker._native.hash import partition_ids
from shuffle_worker.errors import OutputError, ShuffleError
from shuffle_worker.sink.base import Digests, Staged, StagedFile
from shuffle_worker.sink.parquet import ParquetFormat
from shuffle_worker.sink.writer import FileWriter, WriterTask
from shuffle_worker.source.base import Source, SourceInfo, cut_splits
from shuffle_worker.source.open import open_source
from shuffle_worker.spec.model import FileSource
from shuffle_worker.spec.model import Source as SourceSpec

PARTITIONS = 64
FRAME_ROWS = 8192
GROUP_ROWS = 122_880


class MemoryFile(StagedFile):
    """A file that stays in memory, so that no disk is measured."""

    def __init__(self) -> None:
        self.stream = pa.BufferOutputStream()

    def finish(self, generation: int) -> Staged:
        return Staged(f"{generation}", self.stream.getvalue().size)

    def abort(self) -> None:
        self.stream.close()

    def fault(self, error: OSError) -> ShuffleError:
        return OutputError(str(error))


def granted(_size: int, _what: str) -> contextlib.AbstractContextManager[None]:
    return contextlib.nullcontext()


def timed(work: Callable[[], int]) -> float:
    """CPU seconds of this thread."""
    start = time.thread_time()
    work()
    return time.thread_time() - start


def interleaved(rounds: int, rows: int, works: dict[str, Callable[[], int]]) -> dict[str, float]:
    """ns a row of each, medians; the ratio of the first to the second."""
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds):
        for name, work in works.items():
            seconds[name].append(timed(work))
    figures = {f"{name}_ns": statistics.median(values) / rows * 1e9 for name, values in seconds.items()}
    ours, theirs = figures.values()
    return figures | {"ratio": ours / theirs}


# ---- decode


def read_ours(source: Source, info: SourceInfo) -> int:
    rows = 0
    for split in cut_splits(info, 64 << 20, 1):
        for batch in source.read(split, info.schema, info.dictionary_columns, granted):
            rows += batch.num_rows
    return rows


def read_theirs(paths: list[Path]) -> int:
    rows = 0
    for path in paths:
        file = pq.ParquetFile(path)
        for group in range(file.num_row_groups):
            rows += sum(batch.num_rows for batch in file.iter_batches(row_groups=[group], use_threads=False))
    return rows


# ---- encode


def frames_of_one_partition(source: Source, info: SourceInfo, rows: int) -> Iterator[pa.RecordBatch]:
    """About so many rows of partition 0 by l_orderkey; each batch with dictionaries of its own."""
    held: list[pa.RecordBatch] = []
    for split in cut_splits(info, 64 << 20, 1):
        for batch in source.read(split, info.schema, (), granted):
            table = pa.table([takeable(column) for column in batch.columns], names=batch.schema.names)
            mine = pc.equal(partition_ids(batch, ["l_orderkey"], PARTITIONS), 0)
            held += table.filter(mine).to_batches()
    table = pa.Table.from_batches(held).combine_chunks()
    while table.num_rows < rows:
        table = pa.concat_tables([table, table])
    table = table.slice(0, rows).combine_chunks()
    for start in range(0, rows, FRAME_ROWS):
        yield as_frame(table.slice(start, FRAME_ROWS), info)


def takeable(column: pa.Array) -> pa.Array:
    return column.cast(pa.string()) if column.type == pa.string_view() else column


def as_frame(table: pa.Table, info: SourceInfo) -> pa.RecordBatch:
    columns = []
    for field in info.schema:
        column = table[field.name].combine_chunks()
        if field.name in info.dictionary_columns:
            column = column.dictionary_encode()
            column = pa.DictionaryArray.from_arrays(column.indices.cast(pa.uint8()), column.dictionary)
        else:
            column = column.cast(field.type)
        columns.append(column)
    fields = [field.with_type(column.type) for field, column in zip(info.schema, columns, strict=True)]
    return pa.RecordBatch.from_arrays(columns, schema=pa.schema(fields))


def plain(frames: list[pa.RecordBatch], schema: pa.Schema) -> pa.Table:
    """The same rows without dictionaries, as they are in the input."""
    columns = []
    for field in schema:
        chunks = [frame.column(field.name) for frame in frames]
        chunks = [chunk.dictionary_decode() if pa.types.is_dictionary(chunk.type) else chunk for chunk in chunks]
        columns.append(pa.chunked_array([chunk.cast(field.type) for chunk in chunks], field.type))
    return pa.Table.from_arrays(columns, schema=schema)


def write_ours(frames: list[pa.RecordBatch], schema: pa.Schema) -> int:
    task = WriterTask(0, "part-00000.parquet", schema, (), Digests(lambda _batch, _partition: 0), granted)
    writer = FileWriter(MemoryFile(), ParquetFormat("Snappy", GROUP_ROWS), task)
    for frame in frames:
        writer.write(frame)
    return writer.finish(0).bytes


def write_theirs(groups: list[pa.Table]) -> int:
    stream = pa.BufferOutputStream()
    with pq.ParquetWriter(stream, groups[0].schema) as writer:
        for group in groups:
            writer.write_table(group, row_group_size=GROUP_ROWS)
    return int(stream.getvalue().size)


def measure(rounds: int) -> dict[str, Any]:
    paths = sorted(lineitem(1.0).glob("*.parquet"))
    source = open_source(SourceSpec(parquet=FileSource(paths=tuple(map(str, paths)))))
    info = source.scan()
    decode = interleaved(
        rounds, info.rows, {"ours": lambda: read_ours(source, info), "pyarrow": lambda: read_theirs(paths)}
    )
    rows = 3 * GROUP_ROWS
    frames = list(frames_of_one_partition(source, info, rows))
    each = GROUP_ROWS // FRAME_ROWS
    groups = [plain(frames[start : start + each], info.schema) for start in range(0, len(frames), each)]
    encode = interleaved(
        rounds, rows, {"ours": lambda: write_ours(frames, info.schema), "pyarrow": lambda: write_theirs(groups)}
    )
    sizes = {"ours_bytes": write_ours(frames, info.schema), "pyarrow_bytes": write_theirs(groups)}
    encode |= sizes | {"bytes_ratio": sizes["ours_bytes"] / sizes["pyarrow_bytes"]}
    return {"decode": decode, "encode": encode}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", help="write the figures to this file too")
    arguments = parser.parse_args()
    figures = measure(arguments.rounds)
    for part, values in figures.items():
        for name, value in values.items():
            sys.stdout.write(f"{part:8} {name:15} {value:14.3f}\n")
    text = json.dumps(figures)
    sys.stdout.write(text + "\n")
    if arguments.json:
        Path(arguments.json).write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
