"""Contents of values.pyx: the 64 bits that stand for a value in digests."""
from libc.stdint cimport int64_t, uint64_t

from shuffle_worker._native.arrow cimport bit_at, code_at, column_t, KIND_NULL

cdef extern from *:
    """
    #define SHUFFLE_DIGEST_NULL 0x6e756c6c6e756c6cULL
    """
    uint64_t DIGEST_NULL "SHUFFLE_DIGEST_NULL"


# 64 bits for each of rows [start, start + count) of a column that is not nested.
cdef void column_values(const column_t *c, int64_t start, int64_t count, uint64_t *out) noexcept nogil


# Whether a row of a column that is not nested is null, be it in its dictionary.
cdef inline bint value_is_null(const column_t *c, int64_t row) noexcept nogil:
    cdef int64_t i = c.offset + row
    if c.validity != NULL and not bit_at(c.validity, i):
        return True
    if c.dictionary == NULL:
        return c.type.kind == KIND_NULL
    return c.dictionary.validity != NULL and not bit_at(c.dictionary.validity, c.dictionary.offset + code_at(c, i))
