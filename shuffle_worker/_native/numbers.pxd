"""Contents of numbers.pyx: values of columns as int64."""
from libc.stdint cimport int64_t

from shuffle_worker._native.arrow cimport column_t


# Rows [start, start + count) of a column that is no dictionary's codes, extended with or without sign as its type is.
# Floats: their bits (of a float32 for halves, not extended), with one zero and one NaN. Bools: 0 or 1. Decimals: the
# lowest 64 bits. Null rows: anything.
cdef void column_numbers(const column_t *c, int64_t start, int64_t count, int64_t *out) noexcept nogil
