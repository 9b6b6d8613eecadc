"""Contents of columns.pyx: a chunk's columns in the form in which they are staged."""
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t

from shuffle_worker._native.arrow cimport column_t
from shuffle_worker._native.stage cimport slot_t, source_t

# Memory of one column for a chunk; each made when it is first needed.
ctypedef struct scratch_t:
    int64_t rows            # the most of a chunk
    uint8_t *valid
    uint8_t *bytes          # codes, bools
    uint32_t *pick


# -1: no memory.
cdef int scratch_alloc(void **block, int64_t size) noexcept nogil
cdef void scratch_free(scratch_t *scratch) noexcept nogil
# Validity of rows [start, start + rows), a byte each; nulls within a dictionary are not looked at.
cdef void read_valid(const column_t *c, int64_t start, int64_t rows, uint8_t *valid) noexcept nogil
# Bytes of strings in rows [start, start + rows).
cdef int64_t rows_bytes(const column_t *c, int64_t start, int64_t rows) noexcept nogil
# Where the values of rows [start, start + rows) are. Of a coded column `valid` and `bytes` hold the codes already.
# -1: no memory.
cdef int column_source(const column_t *c, const slot_t *slot, int64_t start, int64_t rows, scratch_t *scratch,
                       source_t *source) noexcept nogil
