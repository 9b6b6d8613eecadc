"""Contents of order.pyx: the partition of a row by its place among boundaries."""
from libc.stdint cimport int64_t, uint8_t, uint32_t

from shuffle_worker._native.arrow cimport Batch, column_t

cdef enum:
    ORDER_BLOCK = 512

cdef enum:
    FORM_NUMBER = 0         # compared as an int64
    FORM_WIDE = 1           # as a little-endian two's complement number of `width` bytes
    FORM_BYTES = 2          # byte by byte, the shorter first

ctypedef struct place_t:
    int index               # in a batch
    int form
    bint descending
    bint nulls_first
    int64_t *numbers        # of the boundaries, FORM_NUMBER


cdef class Boundaries:
    cdef Batch batch            # of the boundaries, a column for each key
    cdef int64_t count
    cdef int keys
    cdef place_t *places
    cdef bint simple            # one key of numbers, and no boundary is null

    cdef int _check_order(self) except -1
    # The partitions of rows [start, start + count). -1: no memory.
    cdef int partition(self, Batch rows, int64_t start, int64_t count, uint32_t *out) noexcept nogil


# `columns`: where each key is in the batches to come; keys have `descending` and `nulls_first`.
cdef Boundaries boundaries_of(object boundaries, object keys, list columns)
