"""Contents of chunk.pyx: a chunk of a batch, its rows in order of their group."""
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from shuffle_worker._native.arrow cimport Batch
from shuffle_worker._native.route cimport Router
from shuffle_worker._native.stage cimport chunk_t, group_t


cdef class Chunk:
    cdef chunk_t chunk
    cdef int64_t capacity           # in rows
    cdef uint64_t *hashes           # of each row
    cdef uint32_t *groups           # of each row, where a group holds several partitions
    cdef uint32_t *group_of         # [partition]; NULL: a group is a partition
    cdef uint32_t *counts           # [group], zero between chunks
    cdef uint32_t *cursors          # [group]

    # Hashes and partitions of a batch's rows [start, start + rows). -1: no memory.
    cdef int route(self, Router router, Batch keys, int64_t start, int64_t rows, int64_t global_row) noexcept nogil
    # Counting sort of the first `rows` of those routed, with runs for the groups that are `wanted`; False if one would
    # get more than `limit`.
    cdef bint order(self, int64_t rows, const uint8_t *wanted, int64_t limit) noexcept nogil
    # Add each run's digest to its group, and return that of all rows. Once a chunk: it uses the hashes up.
    cdef uint64_t count(self, group_t *groups) noexcept nogil
