"""Contents of ipc.pyx: the metadata of Arrow IPC messages, built by hand. No bodies, no Python."""
from libc.stdint cimport int64_t, uint8_t

cdef enum:
    BODY_ALIGN = 64

# What a record batch's metadata says of its columns and their buffers, offsets counted from the body's start.
ctypedef struct layout_t:
    int64_t rows
    int64_t n_nodes
    int64_t *nodes          # (length, nulls) each
    int64_t n_buffers
    int64_t *buffers        # (offset, length) each
    int64_t n_variadic
    int64_t *variadic       # byte buffers of each column of views
    int64_t body_bytes      # a multiple of BODY_ALIGN


cdef inline int64_t aligned(int64_t size) noexcept nogil:
    return (size + BODY_ALIGN - 1) & ~<int64_t> (BODY_ALIGN - 1)


cdef void layout_clear(layout_t *layout) noexcept nogil
cdef void layout_node(layout_t *layout, int64_t rows, int64_t nulls) noexcept nogil
# Append a buffer to the body; returns its offset.
cdef int64_t layout_buffer(layout_t *layout, int64_t size) noexcept nogil
# Bytes of the message up to its body, when it starts at `position` of a payload; the body is then aligned.
cdef int64_t message_bytes(const layout_t *layout, bint dictionary, int64_t position) noexcept nogil
# Write that many bytes at `out`. `dictionary`: a DictionaryBatch of `id`, else a RecordBatch.
cdef void message_write(const layout_t *layout, bint dictionary, int64_t id, uint8_t *out, int64_t size) noexcept nogil
