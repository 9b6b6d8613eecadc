"""Contents of arrow.pyx: Arrow data of any producer, validated and laid open to the kernels."""
from libc.stdint cimport int8_t, int16_t, int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from shuffle_worker._native.formats cimport (
    KIND_NESTED, KIND_NULL, KIND_BOOL, KIND_INT, KIND_UINT, KIND_FLOAT, KIND_DECIMAL, KIND_DATE_DAYS, KIND_DATE_MS,
    KIND_TIME, KIND_TIMESTAMP, KIND_DURATION, KIND_INTERVAL, KIND_STRING, KIND_BINARY, KIND_FIXED_BINARY,
    LAYOUT_NESTED, LAYOUT_NULL, LAYOUT_BITS, LAYOUT_FIXED, LAYOUT_PLAIN, LAYOUT_LARGE, LAYOUT_VIEW, UNIT_S, UNIT_MS,
    UNIT_US, UNIT_NS, same_type, type_name, type_t,
)


cdef extern from "arrow_abi.h" nogil:
    struct ArrowSchema:
        const char *format
        const char *name
        int64_t flags
        int64_t n_children
        ArrowSchema **children
        ArrowSchema *dictionary
        void (*release)(ArrowSchema *) noexcept

    struct ArrowArray:
        int64_t length
        int64_t null_count
        int64_t offset
        int64_t n_buffers
        int64_t n_children
        const void **buffers
        ArrowArray **children
        ArrowArray *dictionary
        void (*release)(ArrowArray *) noexcept

    struct ArrowArrayStream:
        int (*get_schema)(ArrowArrayStream *, ArrowSchema *out) noexcept
        int (*get_next)(ArrowArrayStream *, ArrowArray *out) noexcept
        const char *(*get_last_error)(ArrowArrayStream *) noexcept
        void (*release)(ArrowArrayStream *) noexcept


# Rows [offset, offset + length) of the buffers. Of a dictionary column `type` is that of its values, `values` are its
# codes, and each code of a valid row is within the dictionary. A null row's offsets are sound, its view or code may
# not be.
ctypedef struct column_t:
    type_t type
    int64_t length
    int64_t offset
    const uint8_t *validity         # bits; NULL: no nulls
    const uint8_t *values           # fixed values, bits, offsets, views or codes
    const uint8_t *bytes            # of plain and large
    int64_t bytes_end               # how far their offsets reach
    const uint8_t **buffers         # of views
    const int64_t *buffer_bytes
    int64_t n_buffers
    column_t *dictionary
    int code_width
    bint code_signed


cdef class SchemaHold:
    """Owns an ArrowSchema of a struct: one for a stream, or for a batch."""
    cdef ArrowSchema schema
    cdef type_t *types              # of each column's values
    cdef readonly int columns
    cdef readonly list names

    cdef int _parse(self) except -1
    cdef int _parse_column(self, ArrowSchema *child, int i) except -1


cdef class Batch:
    """Owns an ArrowArray of a struct, and its columns as the kernels read them."""
    cdef ArrowArray array
    cdef readonly SchemaHold hold
    cdef readonly int64_t rows
    cdef column_t *columns

    cdef int _open(self) except -1
    cdef int _open_one(self, int i) except -1


cdef SchemaHold schema_of(object schema)
# Rows [start, start + rows) of an array that is not nested, as a column; `values` becomes its dictionary, if any. For
# children of nested columns; those of a batch are in `Batch.columns`. :raises InputError: it is not sound.
cdef int open_leaf(column_t *c, column_t *values, const ArrowSchema *schema, const ArrowArray *array, int64_t start,
                   int64_t rows) except -1
# The batches of anything that speaks the PyCapsule interface.
cdef object batches_of(object source)
# Exactly one batch.
cdef Batch batch_of(object source)
cdef int column_index(SchemaHold hold, object name) except -1


cdef inline bint bit_at(const uint8_t *bits, int64_t i) noexcept nogil:
    return (bits[i >> 3] >> (i & 7)) & 1


# The code of row `i` (counted from the buffer's start) of a dictionary column.
cdef inline int64_t code_at(const column_t *c, int64_t i) noexcept nogil:
    if c.code_width == 1:
        return (<const int8_t *> c.values)[i] if c.code_signed else c.values[i]
    if c.code_width == 2:
        return (<const int16_t *> c.values)[i] if c.code_signed else (<const uint16_t *> c.values)[i]
    if c.code_width == 4:
        return (<const int32_t *> c.values)[i] if c.code_signed else (<const uint32_t *> c.values)[i]
    return (<const int64_t *> c.values)[i]


# The bytes of string `i` (counted from the buffer's start), which must be valid.
cdef inline const uint8_t *string_at(const column_t *c, int64_t i, int64_t *size) noexcept nogil:
    cdef const int32_t *view
    cdef int64_t start
    if c.type.layout == LAYOUT_PLAIN:
        start = (<const int32_t *> c.values)[i]
        size[0] = (<const int32_t *> c.values)[i + 1] - start
        return c.bytes + start
    if c.type.layout == LAYOUT_LARGE:
        start = (<const int64_t *> c.values)[i]
        size[0] = (<const int64_t *> c.values)[i + 1] - start
        return c.bytes + start
    view = <const int32_t *> (c.values + 16 * i)
    size[0] = view[0]
    if view[0] <= 12:
        return <const uint8_t *> (view + 1)
    return c.buffers[view[2]] + view[3]
