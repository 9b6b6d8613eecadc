"""Metadata of Arrow IPC messages: the flatbuffers of a record batch and of a dictionary batch, laid out by hand.

Format: Message.fbs of Arrow, version V5. A flatbuffer's table begins with the distance back to its vtable, and a vtable
holds its own size, the table's, and where each field lies in the table (0: left out). All tables have fixed places
here; only the three vectors at the end depend on the columns.
"""
from libc.stdint cimport uint16_t, uint32_t
from libc.string cimport memcpy, memset

cdef enum:
    HEADER_DICTIONARY = 2
    HEADER_RECORD = 3
    VERSION_5 = 4
    PREFIX_BYTES = 8            # the continuation mark and the metadata's length
    MESSAGE_VTABLE = 4
    MESSAGE_TABLE = 16
    INNER_VTABLE = 40           # of the header's table
    INNER_TABLE = 56
    RECORD_VTABLE = 72          # of a dictionary batch's record batch
    RECORD_TABLE_AFTER = 16     # its vtable
    VECTORS_AFTER = 40          # its vtable


cdef void layout_clear(layout_t *layout) noexcept nogil:
    layout.rows = 0
    layout.n_nodes = 0
    layout.n_buffers = 0
    layout.n_variadic = 0
    layout.body_bytes = 0


cdef void layout_node(layout_t *layout, int64_t rows, int64_t nulls) noexcept nogil:
    layout.nodes[2 * layout.n_nodes] = rows
    layout.nodes[2 * layout.n_nodes + 1] = nulls
    layout.n_nodes += 1


cdef int64_t layout_buffer(layout_t *layout, int64_t size) noexcept nogil:
    cdef int64_t offset = layout.body_bytes
    layout.buffers[2 * layout.n_buffers] = offset
    layout.buffers[2 * layout.n_buffers + 1] = size
    layout.n_buffers += 1
    layout.body_bytes += aligned(size)
    return offset


cdef int64_t message_bytes(const layout_t *layout, bint dictionary, int64_t position) noexcept nogil:
    cdef int64_t size = (RECORD_VTABLE if dictionary else INNER_VTABLE) + VECTORS_AFTER
    size += 8 + 16 * layout.n_nodes + 8 + 16 * layout.n_buffers
    if layout.n_variadic:
        size += 8 + 8 * layout.n_variadic
    return aligned(position + PREFIX_BYTES + size) - position


cdef inline void _put16(uint8_t *out, int64_t value) noexcept nogil:
    cdef uint16_t v = <uint16_t> value
    memcpy(out, &v, 2)


cdef inline void _put32(uint8_t *out, int64_t value) noexcept nogil:
    cdef uint32_t v = <uint32_t> value
    memcpy(out, &v, 4)


cdef inline void _put64(uint8_t *out, int64_t value) noexcept nogil:
    memcpy(out, &value, 8)


cdef int64_t _vector(uint8_t *meta, int64_t field, int64_t at, const int64_t *values, int64_t count,
                     int64_t words) noexcept nogil:
    """A vector of `count` structs of `words` int64 at `at`, pointed to by `field`; returns where it ends."""
    _put32(meta + field, at + 4 - field)
    _put32(meta + at + 4, count)
    if count:
        memcpy(meta + at + 8, values, <size_t> (8 * words * count))
    return at + 8 + 8 * words * count


cdef void _record(const layout_t *layout, uint8_t *meta, int64_t vtable) noexcept nogil:
    """The RecordBatch table: length, nodes, buffers, no compression, variadicBufferCounts."""
    cdef int64_t table = vtable + RECORD_TABLE_AFTER
    cdef int64_t at = vtable + VECTORS_AFTER
    _put16(meta + vtable, 14)
    _put16(meta + vtable + 2, 24)
    _put16(meta + vtable + 4, 8)
    _put16(meta + vtable + 6, 4)
    _put16(meta + vtable + 8, 16)
    _put16(meta + vtable + 12, 20 if layout.n_variadic else 0)
    _put32(meta + table, RECORD_TABLE_AFTER)
    _put64(meta + table + 8, layout.rows)
    at = _vector(meta, table + 4, at, layout.nodes, layout.n_nodes, 2)
    at = _vector(meta, table + 16, at, layout.buffers, layout.n_buffers, 2)
    if layout.n_variadic:
        _vector(meta, table + 20, at, layout.variadic, layout.n_variadic, 1)


cdef void message_write(const layout_t *layout, bint dictionary, int64_t id, uint8_t *out, int64_t size) noexcept nogil:
    cdef uint8_t *meta = out + PREFIX_BYTES
    memset(out, 0, <size_t> size)
    _put32(out, 0xffffffff)
    _put32(out + 4, size - PREFIX_BYTES)
    _put32(meta, MESSAGE_TABLE)
    # Message: version, header type, header, body length
    _put16(meta + MESSAGE_VTABLE, 12)
    _put16(meta + MESSAGE_VTABLE + 2, 20)
    _put16(meta + MESSAGE_VTABLE + 4, 16)
    _put16(meta + MESSAGE_VTABLE + 6, 18)
    _put16(meta + MESSAGE_VTABLE + 8, 4)
    _put16(meta + MESSAGE_VTABLE + 10, 8)
    _put32(meta + MESSAGE_TABLE, MESSAGE_TABLE - MESSAGE_VTABLE)
    _put32(meta + MESSAGE_TABLE + 4, INNER_TABLE - MESSAGE_TABLE - 4)
    _put64(meta + MESSAGE_TABLE + 8, layout.body_bytes)
    _put16(meta + MESSAGE_TABLE + 16, VERSION_5)
    meta[MESSAGE_TABLE + 18] = HEADER_DICTIONARY if dictionary else HEADER_RECORD
    if not dictionary:
        _record(layout, meta, INNER_VTABLE)
        return
    # DictionaryBatch: id, data; isDelta left out
    _put16(meta + INNER_VTABLE, 10)
    _put16(meta + INNER_VTABLE + 2, 16)
    _put16(meta + INNER_VTABLE + 4, 8)
    _put16(meta + INNER_VTABLE + 6, 4)
    _put32(meta + INNER_TABLE, INNER_TABLE - INNER_VTABLE)
    _put32(meta + INNER_TABLE + 4, RECORD_VTABLE + RECORD_TABLE_AFTER - INNER_TABLE - 4)
    _put64(meta + INNER_TABLE + 8, id)
    _record(layout, meta, RECORD_VTABLE)
