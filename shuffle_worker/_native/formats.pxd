"""Contents of formats.pyx: what the values of a column mean and how they lie in memory."""
from libc.stdint cimport int32_t

# What a value means.
cdef enum:
    KIND_NESTED = 0         # lists, structs, unions, run-end encoded, ...: not for the kernels
    KIND_NULL = 1
    KIND_BOOL = 2
    KIND_INT = 3
    KIND_UINT = 4
    KIND_FLOAT = 5          # of 2, 4 or 8 bytes
    KIND_DECIMAL = 6
    KIND_DATE_DAYS = 7
    KIND_DATE_MS = 8
    KIND_TIME = 9
    KIND_TIMESTAMP = 10
    KIND_DURATION = 11
    KIND_INTERVAL = 12
    KIND_STRING = 13
    KIND_BINARY = 14
    KIND_FIXED_BINARY = 15

# How values lie in memory.
cdef enum:
    LAYOUT_NESTED = 0
    LAYOUT_NULL = 1
    LAYOUT_BITS = 2
    LAYOUT_FIXED = 3        # `width` bytes each
    LAYOUT_PLAIN = 4        # int32 offsets, bytes
    LAYOUT_LARGE = 5        # int64 offsets, bytes
    LAYOUT_VIEW = 6         # 16-byte views, any number of byte buffers

cdef enum:
    UNIT_S = 0
    UNIT_MS = 1
    UNIT_US = 2
    UNIT_NS = 3

ctypedef struct type_t:
    int kind
    int layout
    int32_t width           # bytes of a LAYOUT_FIXED value
    int32_t precision       # of decimals
    int32_t scale
    int unit                # of times, timestamps, durations
    const char *zone        # of timestamps; "" elsewhere. Lives as long as the schema


# Fill `t` from a format string of the C Data Interface, which must outlive it; -1: it is none that is known.
cdef int parse_format(const char *f, type_t *t) noexcept nogil
# Whether values mean the same; strings and binaries may lie differently.
cdef bint same_type(const type_t *a, const type_t *b) noexcept nogil
# As Arrow writes it, about.
cdef str type_name(const type_t *t)
# Text of any producer, empty for NULL.
cdef str text_of(const char *text)
