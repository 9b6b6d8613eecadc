"""Which partition a row goes to, for every kind of shuffle, and the key hash that proves it arrived there.

A digest is the sum over rows of mix(key hash, partition). Hash shuffles sum the hash they partition by; Range XxHash64
of its keys; Rebalance and Broadcast, which have no keys, XxHash64 of the first DIGEST_COLUMNS columns that can be
hashed: cheap, and a row lost, doubled or put elsewhere changes the sum all the same.
"""
from shuffle_worker._native.arrow cimport SchemaHold, batch_of, column_index, same_type, schema_of, type_name
from shuffle_worker._native.hash cimport XXHASH64, function_number, hash_fault, key_hasher
from shuffle_worker._native.order cimport boundaries_of

import pyarrow as pa

from shuffle_worker._native.hash import key_batch
from shuffle_worker.errors import UserError
from shuffle_worker.partitioning import DIGEST_COLUMNS, MAX_PARTITIONS

cdef dict KINDS = {
    "Hash": ROUTE_HASH, "Range": ROUTE_RANGE, "Rebalance": ROUTE_REBALANCE, "Broadcast": ROUTE_BROADCAST,
}


cdef class Router:

    cdef Batch keys_of(self, object source, Batch rows):
        return batch_of(key_batch(source, self.keys)[0]) if self.casts else rows

    cdef int route(self, Batch keys, int64_t start, int64_t count, int64_t global_row, uint64_t *hashes,
                   uint32_t *partitions) noexcept nogil:
        cdef int64_t i
        self.hasher.hash(keys, start, count, hashes)
        if self.kind == ROUTE_HASH:
            self.hasher.partition(hashes, count, self.partitions, partitions)
        elif self.kind == ROUTE_RANGE:
            return self.boundaries.partition(keys, start, count, partitions)
        elif self.kind == ROUTE_REBALANCE:
            for i in range(count):
                partitions[i] = <uint32_t> ((global_row + i) // self.slice_rows % self.partitions)
        else:
            for i in range(count):
                partitions[i] = 0
        return 0

    cdef int64_t straight_rows(self, int64_t global_row) noexcept nogil:
        if self.kind == ROUTE_BROADCAST or self.partitions == 1:
            return <int64_t> 1 << 62
        if self.kind == ROUTE_REBALANCE:
            return self.slice_rows - global_row % self.slice_rows
        return 1


cdef list _digest_columns(SchemaHold hold):
    names = []
    cdef int i
    for i in range(hold.columns):
        if len(names) < DIGEST_COLUMNS and not hash_fault(&hold.types[i], XXHASH64):
            names.append(hold.names[i])
    return names


def _key_schema(schema, keys):
    """The schema of the batch that keys are read from, and their names there."""
    if all(key.cast is None for key in keys):
        return schema, [key.name for key in keys]
    empty, names = key_batch(pa.RecordBatch.from_pylist([], schema=schema), keys)
    return empty.schema, names


cdef Boundaries _boundaries(object partitioning, SchemaHold hold, object schema, list names):
    boundaries = partitioning.boundaries
    rows = 0 if boundaries is None else boundaries.num_rows
    if rows != partitioning.partitions - 1:
        raise UserError(f"{partitioning.partitions} Range partitions need {partitioning.partitions - 1} boundaries, "
                        f"not {rows}")
    if boundaries is None:
        boundaries = pa.record_batch([pa.array([], schema.field(name).type) for name in names], names=names)
    if boundaries.num_columns != len(names):
        raise UserError(f"range boundaries have {boundaries.num_columns} columns for {len(names)} keys")
    cdef SchemaHold given = schema_of(boundaries.schema)
    columns = [column_index(hold, name) for name in names]
    for k, key in enumerate(partitioning.keys):
        if not same_type(&given.types[<int> k], &hold.types[<int> columns[k]]):
            raise UserError(f"range boundaries of key {key.name!r} have type {type_name(&given.types[<int> k])}, "
                            f"the key has {type_name(&hold.types[<int> columns[k]])}")
    return boundaries_of(boundaries, partitioning.keys, columns)


cdef Router router_of(object partitioning, object schema):
    cdef Router router = Router.__new__(Router)
    cdef SchemaHold hold
    if partitioning.kind not in KINDS:
        raise UserError(f"there is no shuffle type {partitioning.kind!r}; there are {', '.join(KINDS)}")
    if not 1 <= partitioning.partitions <= MAX_PARTITIONS:
        raise UserError(f"partitions must be 1 to {MAX_PARTITIONS:,}, not {partitioning.partitions}")
    if not 1 <= partitioning.groups <= partitioning.partitions:
        raise UserError(f"groups must be 1 to {partitioning.partitions} (the partitions), not {partitioning.groups}")
    router.kind = KINDS[partitioning.kind]
    router.partitions = partitioning.partitions
    if router.kind in (ROUTE_HASH, ROUTE_RANGE):
        if not partitioning.keys:
            raise UserError(f"a {partitioning.kind} shuffle needs at least one key")
        router.keys = tuple(partitioning.keys)
        router.casts = any(key.cast is not None for key in router.keys)
        key_schema, names = _key_schema(schema, router.keys)
        hold = schema_of(key_schema)
    else:
        hold = schema_of(schema)
        router.keys = ()
        names = _digest_columns(hold)
    function = function_number(partitioning.function) if router.kind == ROUTE_HASH else XXHASH64
    router.hasher = key_hasher(hold, names, function)
    if router.kind == ROUTE_RANGE:
        router.boundaries = _boundaries(partitioning, hold, key_schema, names)
    elif router.kind == ROUTE_REBALANCE:
        if partitioning.slice_rows < 1:
            raise UserError(f"a Rebalance shuffle's slices must have at least 1 row, not {partitioning.slice_rows}")
        router.slice_rows = partitioning.slice_rows
    return router
