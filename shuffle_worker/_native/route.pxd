"""Contents of route.pyx: the partition of each row, and the hash that stands for its keys in digests."""
from libc.stdint cimport int64_t, uint32_t, uint64_t

from shuffle_worker._native.arrow cimport Batch
from shuffle_worker._native.hash cimport KeyHasher
from shuffle_worker._native.order cimport Boundaries

cdef enum:
    ROUTE_HASH = 0
    ROUTE_RANGE = 1
    ROUTE_REBALANCE = 2
    ROUTE_BROADCAST = 3


cdef class Router:
    cdef readonly int kind
    cdef readonly int64_t partitions
    cdef readonly int64_t slice_rows
    cdef readonly tuple keys
    cdef readonly bint casts            # keys are hashed or ordered as other types: `keys_of` makes a batch of them
    cdef KeyHasher hasher
    cdef Boundaries boundaries

    # The batch that holds the keys of `source`; `rows` itself where nothing is cast.
    cdef Batch keys_of(self, object source, Batch rows)
    # Hashes and partitions of rows [start, start + count), the first of which is the shuffle's `global_row`. -1: no
    # memory.
    cdef int route(self, Batch keys, int64_t start, int64_t count, int64_t global_row, uint64_t *hashes,
                   uint32_t *partitions) noexcept nogil
    # Rows from `global_row` on that certainly go to one partition; 1 where that depends on the row.
    cdef int64_t straight_rows(self, int64_t global_row) noexcept nogil


# `schema` is a pyarrow.Schema. :raises UserError: keys, boundaries or figures that do not fit.
cdef Router router_of(object partitioning, object schema)
