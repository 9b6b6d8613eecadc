"""Sums over rows that show that none was lost, doubled, changed or misrouted. Sums, never XOR: a row twice is not zero.

Row digest: the 64 bits of each value (see values.pyx; nested.pyx for nested ones) are chained, mixed with the column's
number and whether it is null, into the row's 128 bits; the digest is their sum mod 2^128.
"""
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc

from shuffle_worker._native.arrow cimport (
    LAYOUT_NESTED, Batch, SchemaHold, batches_of, column_t, same_type, schema_of, type_name,
)
from shuffle_worker._native.hashing cimport mix_row, rotl64, xxh64_u64
from shuffle_worker._native.nested cimport nested_values
from shuffle_worker._native.route cimport ROUTE_BROADCAST, ROUTE_HASH, ROUTE_RANGE, Router, router_of
from shuffle_worker._native.values cimport DIGEST_NULL, column_values, value_is_null

import pyarrow as pa

from shuffle_worker.errors import Corrupted, UserError


cdef enum:
    DIGEST_BLOCK = 512


# ---- rows

cdef struct row_t:
    uint64_t a
    uint64_t b


cdef void _chain(const uint64_t *values, const uint8_t *nulls, int column, int64_t count, row_t *rows) noexcept nogil:
    cdef uint64_t tag
    cdef int64_t i
    for i in range(count):
        tag = 2 * <uint64_t> column + (nulls[i] + 1)
        rows[i].a = xxh64_u64(values[i], rows[i].a + tag)
        rows[i].b = rotl64((rows[i].b ^ values[i]) * <uint64_t> 0xC2B2AE3D27D4EB4F + tag, 31)


cdef int _add(Batch batch, uint64_t *low, uint64_t *high) except -1:
    cdef uint64_t values[DIGEST_BLOCK]
    cdef uint8_t nulls[DIGEST_BLOCK]
    cdef row_t rows[DIGEST_BLOCK]
    cdef column_t *c
    cdef int64_t start = 0, count, i
    cdef uint64_t b
    cdef int column
    while start < batch.rows:
        count = min(<int64_t> DIGEST_BLOCK, batch.rows - start)
        for i in range(count):
            rows[i].a = rows[i].b = 0
        for column in range(batch.hold.columns):
            c = &batch.columns[column]
            if c.type.layout == LAYOUT_NESTED:
                nested_values(batch.hold.schema.children[column], batch.array.children[column],
                              batch.array.offset + start, count, values)
            with nogil:
                if c.type.layout != LAYOUT_NESTED:
                    column_values(c, start, count, values)
                for i in range(count):
                    nulls[i] = values[i] == DIGEST_NULL and (
                        c.type.layout == LAYOUT_NESTED or value_is_null(c, start + i))
                _chain(values, nulls, column, count, rows)
        for i in range(count):
            b = xxh64_u64(rows[i].b, rows[i].a)
            low[0] += b
            high[0] += rows[i].a + (low[0] < b)
        start += count
    return 0


def row_digest(batch) -> int:
    """The sum mod 2^128 over rows of a mix of all columns; of any Arrow data, batch by batch."""
    cdef uint64_t low = 0, high = 0
    for each in batches_of(batch):
        _add(each, &low, &high)
    return (int(high) << 64) | int(low)


# ---- keys

cdef class KeyDigest:
    """Recomputes at the sink what mappers summed into the frames' `value`."""
    cdef Router router
    cdef SchemaHold expected
    cdef uint64_t *hashes
    cdef uint32_t *partitions

    def __cinit__(self, schema, partitioning):
        self.router = router_of(partitioning, schema)
        self.expected = schema_of(schema)
        self.hashes = <uint64_t *> malloc(DIGEST_BLOCK * sizeof(uint64_t))
        self.partitions = <uint32_t *> malloc(DIGEST_BLOCK * sizeof(uint32_t))
        if self.hashes == NULL or self.partitions == NULL:
            raise MemoryError("no memory for a key digest")

    def __dealloc__(self):
        free(self.hashes)
        free(self.partitions)

    def add(self, batch, uint32_t partition) -> int:
        """The sum mod 2^64 over the batch's rows of mix(key hash, partition); Broadcast has one partition, 0.

        :raises Corrupted: Hash or Range: a row does not belong to `partition`; names the row.
        """
        cdef bint fixed = self.router.kind in (ROUTE_HASH, ROUTE_RANGE)
        cdef uint32_t expected = 0 if self.router.kind == ROUTE_BROADCAST else partition
        cdef int64_t start, wrong
        cdef uint64_t total = 0
        cdef int outcome = 0
        cdef Batch rows, keys
        if partition >= self.router.partitions:
            raise UserError(f"there is no partition {partition}; there are {self.router.partitions}")
        if self.router.casts:
            batches = (batch,) if hasattr(batch, "__arrow_c_array__") else pa.RecordBatchReader.from_stream(batch)
        else:
            batches = batches_of(batch)
        for each in batches:
            rows = each if isinstance(each, Batch) else next(batches_of(each))
            self._check(rows)
            keys = self.router.keys_of(each, rows)
            start = 0
            wrong = -1
            with nogil:
                while start < rows.rows and wrong < 0 and outcome == 0:
                    outcome = self._block(keys, start, min(<int64_t> DIGEST_BLOCK, rows.rows - start), expected,
                                          fixed, &total, &wrong)
                    start += DIGEST_BLOCK
            if outcome != 0:
                raise MemoryError("no memory to route rows")
            if wrong >= 0:
                raise Corrupted(f"row {wrong} of a batch of partition {partition} belongs to partition "
                                f"{self.partitions[wrong % DIGEST_BLOCK]}")
        return total

    cdef int _check(self, Batch batch) except -1:
        cdef int i
        if batch.hold.names != self.expected.names:
            raise UserError(f"a batch has the columns {', '.join(batch.hold.names)}; the shuffle's are "
                            f"{', '.join(self.expected.names)}")
        for i in range(self.expected.columns):
            if not same_type(&batch.hold.types[i], &self.expected.types[i]):
                raise UserError(f"column {self.expected.names[i]!r} of a batch has type "
                                f"{type_name(&batch.hold.types[i])}; the shuffle's is "
                                f"{type_name(&self.expected.types[i])}")
        return 0

    cdef int _block(self, Batch keys, int64_t start, int64_t count, uint32_t expected, bint fixed, uint64_t *total,
                    int64_t *wrong) noexcept nogil:
        """Add up one block; `wrong` becomes its first row of another partition. -1: no memory."""
        cdef int64_t i
        if fixed:
            if self.router.route(keys, start, count, 0, self.hashes, self.partitions) != 0:
                return -1
            for i in range(count):
                if self.partitions[i] != expected:
                    wrong[0] = start + i
                    return 0
        else:
            self.router.hasher.hash(keys, start, count, self.hashes)
        for i in range(count):
            total[0] += mix_row(self.hashes[i], expected)
        return 0
