"""From a manifest and a plan to the kernels' own values. Pure, but for Arrow types."""

import pyarrow as pa

from shuffle_worker.partitioning import Key, Partitioning
from shuffle_worker.plan import KeyColumn, Plan
from shuffle_worker.spec.columns import arrow_type, key_types
from shuffle_worker.spec.model import JobSpec, Nulls, Order


def schema_bytes(schema: pa.Schema) -> bytes:
    return bytes(schema.serialize())


def read_schema(data: bytes) -> pa.Schema:
    return pa.ipc.read_schema(pa.py_buffer(data))


def batch_bytes(batch: pa.RecordBatch) -> bytes:
    """One record batch as an IPC stream."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return bytes(sink.getvalue())


def read_batch(data: bytes) -> pa.RecordBatch:
    return pa.ipc.open_stream(data).read_next_batch()


def key_columns(spec: JobSpec, schema: pa.Schema) -> tuple[KeyColumn, ...]:
    """The keys as the plan and the manifest of the output keep them."""
    return tuple(
        KeyColumn(
            key.name,
            str(type_),
            key.cast or "",
            key.order is Order.DESCENDING,
            key.nulls is Nulls.FIRST,
        )
        for key, type_ in zip(spec.shuffle.key_columns, key_types(spec.shuffle, schema), strict=True)
    )


def build_partitioning(spec: JobSpec, plan: Plan) -> Partitioning:
    """What the partitioner and the key digest are built from."""
    shuffle = spec.shuffle
    keys = tuple(
        Key(key.name, arrow_type(key.cast) if key.cast else None, key.descending, key.nulls_first) for key in plan.keys
    )
    return Partitioning(
        kind=shuffle.type.value,
        partitions=shuffle.partitions,
        groups=plan.groups,
        keys=keys,
        function=shuffle.hash_function.value,
        boundaries=read_batch(plan.boundaries) if plan.boundaries else None,
        slice_rows=shuffle.slice_rows,
    )
