"""The output that a manifest names, and writers of its partitions."""

import pyarrow as pa

from shuffle_worker.errors import OutputError
from shuffle_worker.ordering import SortColumn
from shuffle_worker.plan import Plan
from shuffle_worker.sink.arrow import ArrowFormat
from shuffle_worker.sink.base import Digests, Output, PartitionWriter, Permits
from shuffle_worker.sink.local import LocalOutput
from shuffle_worker.sink.parquet import ParquetFormat
from shuffle_worker.sink.writer import FileWriter, Format, WriterTask
from shuffle_worker.spec.model import Nulls, Order, Overwrite, Sink
from shuffle_worker.spec.paths import S3, scheme_of


def open_output(sink: Sink, uid: bytes, incarnation: int) -> Output:
    """One job's output, as one member sees it. Nothing is touched yet. :raises OutputError: storage of another kind."""
    path = sink.files.path
    replace = sink.overwrite is Overwrite.REPLACE
    scheme = scheme_of(path)
    if not scheme:
        return LocalOutput(path, uid, incarnation, replace)
    if scheme != S3:
        raise OutputError(f"the scheme {scheme}:// of {path} is not supported: use a local path or s3://bucket/key")
    from shuffle_worker.sink.s3 import S3Output  # boto3 is large: only jobs on S3 load it

    return S3Output(path, uid, incarnation, replace)


def open_writer(
    output: Output, sink: Sink, plan: Plan, partition: int, digests: Digests, permits: Permits
) -> PartitionWriter:
    """The writer of one partition's file. `permits` holds memory while a row group is encoded or a partition sorted."""
    format_ = open_format(sink)
    task = WriterTask(
        partition=partition,
        name=f"part-{partition:05d}{format_.suffix}",
        schema=pa.ipc.read_schema(pa.py_buffer(plan.schema)),
        order=sort_order(sink),
        digests=digests,
        permits=permits,
    )
    return FileWriter(output.create(task.name), format_, task)


def open_format(sink: Sink) -> Format:
    if sink.parquet is not None:
        return ParquetFormat(sink.parquet.compression.value, sink.parquet.row_group_rows)
    if sink.arrow is not None:
        return ArrowFormat(sink.arrow.compression.value)
    raise OutputError("a sink of no format: the manifest was not validated")


def sort_order(sink: Sink) -> tuple[SortColumn, ...]:
    """The rows' order within each file; empty for none."""
    return tuple(
        SortColumn(key.name, key.order is Order.DESCENDING, key.nulls is Nulls.FIRST) for key in sink.files.sort_columns
    )


def check_writable(sink: Sink, schema: pa.Schema) -> None:
    """:raises OutputError: a column is of a type that the format does not hold; names both."""
    format_ = open_format(sink)
    for field in schema:
        alone = pa.schema([field])
        try:
            format_.open(pa.BufferOutputStream(), alone, None).close()
        except pa.ArrowException as error:
            raise OutputError(
                f"the column {field.name!r} is {field.type}, which {sink.format} files do not hold: leave it out of "
                f"spec.source.columns, or write {'arrow' if sink.parquet else 'parquet'} files "
                f"({str(error).partition(chr(10))[0]})"
            ) from None
