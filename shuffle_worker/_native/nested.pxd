"""Contents of nested.pyx: a digest's 64 bits of each value of a nested column."""
from libc.stdint cimport int64_t, uint64_t

from shuffle_worker._native.arrow cimport ArrowArray, ArrowSchema


# Rows [start, start + count), counted from the array's own offset, into `out`.
cdef int nested_values(const ArrowSchema *schema, const ArrowArray *array, int64_t start, int64_t count,
                       uint64_t *out) except -1
