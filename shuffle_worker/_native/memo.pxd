"""Contents of memo.pyx: values of a column that travel once in a frame, and the codes that stand for them."""
from libc.stdint cimport int16_t, int32_t, int64_t, uint8_t, uint16_t

from shuffle_worker._native.arrow cimport column_t

cdef enum:
    MEMO_VALUES = 256       # codes are uint8
    MEMO_SLOTS = 1024

cdef enum:
    MEMO_OK = 0
    MEMO_FULL = 1           # the chunk brings a value too many
    MEMO_NO_MEMORY = 2

ctypedef struct memo_t:
    int count
    int width                       # bytes of a value; -1: strings
    uint8_t *bytes                  # the values, one after the other
    int64_t bytes_capacity
    int64_t offsets[257]
    uint16_t slots[1024]            # of a hash table: 0 empty, else code + 1
    int16_t *known                  # codes of the current batch's dictionary
    int64_t known_capacity


cdef void memo_reset(memo_t *memo) noexcept nogil
cdef void memo_free(memo_t *memo) noexcept nogil
# A new batch, whose dictionary may be another one.
cdef int memo_begin(memo_t *memo, const column_t *c) noexcept nogil
# Codes of rows [start, start + count). Clears `valid` (one byte a row) of nulls, those in the dictionary included.
cdef int memo_codes(memo_t *memo, const column_t *c, int64_t start, int64_t count, uint8_t *codes,
                    uint8_t *valid) noexcept nogil
