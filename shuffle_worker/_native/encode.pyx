"""Turns a group's staged rows into a payload: an index where groups hold several partitions, then a whole Arrow IPC
stream of a schema message, dictionary batches and one record batch, uncompressed. Needs no GIL.

Everything is sized first, so that a payload is written once, straight into a pooled buffer.
"""
from libc.stdint cimport int32_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset

from shuffle_worker._native.arrow cimport (
    KIND_BINARY, KIND_BOOL, KIND_NESTED, KIND_NULL, KIND_STRING, LAYOUT_LARGE, LAYOUT_VIEW, type_t,
)
from shuffle_worker._native.buffer cimport buffer_new
from shuffle_worker._native.ipc cimport (
    aligned, layout_buffer, layout_clear, layout_node, message_bytes, message_write,
)
from shuffle_worker._native.stage cimport (
    STAGE_STRING, gather_fixed, group_t, lane_of, lane_t, pack_bits, slot_t,
)

cdef enum:
    END_BYTES = 8           # the end-of-stream mark
    VIEW_BYTES = 16
    INLINE_BYTES = 12       # of a view


cdef int encoder_alloc(encoder_t *encoder) noexcept nogil:
    cdef int columns = encoder.stage.columns
    cdef int64_t width = encoder.partitions // encoder.stage.groups + 2
    encoder.batch.nodes = <int64_t *> calloc(columns + 1, 2 * sizeof(int64_t))
    encoder.batch.buffers = <int64_t *> calloc(columns + 1, 6 * sizeof(int64_t))
    encoder.batch.variadic = <int64_t *> calloc(columns + 1, sizeof(int64_t))
    encoder.dictionary.nodes = <int64_t *> calloc(1, 2 * sizeof(int64_t))
    encoder.dictionary.buffers = <int64_t *> calloc(1, 6 * sizeof(int64_t))
    encoder.dictionary.variadic = <int64_t *> calloc(1, sizeof(int64_t))
    encoder.order = <uint32_t *> calloc(<size_t> encoder.stage.row_capacity, sizeof(uint32_t))
    encoder.counts = <uint32_t *> calloc(<size_t> width + 1, sizeof(uint32_t))
    if (encoder.batch.nodes == NULL or encoder.batch.buffers == NULL or encoder.batch.variadic == NULL
            or encoder.dictionary.nodes == NULL or encoder.dictionary.buffers == NULL
            or encoder.dictionary.variadic == NULL or encoder.order == NULL or encoder.counts == NULL):
        return -1
    return 0


cdef void encoder_free(encoder_t *encoder) noexcept nogil:
    free(encoder.batch.nodes)
    free(encoder.batch.buffers)
    free(encoder.batch.variadic)
    free(encoder.dictionary.nodes)
    free(encoder.dictionary.buffers)
    free(encoder.dictionary.variadic)
    free(encoder.order)
    free(encoder.counts)
    memset(encoder, 0, sizeof(encoder_t))


# ---- sizes

cdef int64_t _count_nulls(const lane_t *lane, int64_t rows) noexcept nogil:
    cdef int64_t i, valid = 0
    if not lane.nullable:
        return 0
    for i in range(rows):
        valid += lane.valid[i]
    return rows - valid


cdef void _plan_values(layout_t *layout, const type_t *type, int64_t rows, int32_t width,
                       int64_t bytes) noexcept nogil:
    """The buffers of a column after its validity."""
    if type.kind == KIND_BOOL:
        layout_buffer(layout, (rows + 7) // 8)
    elif type.kind == KIND_STRING or type.kind == KIND_BINARY:
        if type.layout == LAYOUT_VIEW:
            layout_buffer(layout, VIEW_BYTES * rows)
            layout.variadic[layout.n_variadic] = 1
            layout.n_variadic += 1
        else:
            layout_buffer(layout, (8 if type.layout == LAYOUT_LARGE else 4) * (rows + 1))
        layout_buffer(layout, bytes)
    else:
        layout_buffer(layout, rows * width)


cdef void _plan_batch(encoder_t *encoder, int64_t group) noexcept nogil:
    cdef layout_t *layout = &encoder.batch
    cdef int64_t rows = encoder.stage.group[group].rows, nulls
    cdef slot_t *slot
    cdef lane_t *lane
    cdef int column
    layout_clear(layout)
    layout.rows = rows
    for column in range(encoder.stage.columns):
        slot = &encoder.stage.slots[column]
        lane = lane_of(encoder.stage, column, group)
        if slot.type.kind == KIND_NESTED:
            continue            # pyarrow adds it afterwards
        if slot.type.kind == KIND_NULL:
            layout_node(layout, rows, rows)
            continue
        nulls = _count_nulls(lane, rows)
        layout_node(layout, rows, nulls)
        layout_buffer(layout, (rows + 7) // 8 if nulls else 0)
        if slot.coded:
            layout_buffer(layout, rows)
        else:
            _plan_values(layout, &slot.type, rows, slot.width, lane.bytes_used)


cdef void _plan_dictionary(encoder_t *encoder, int column) noexcept nogil:
    cdef layout_t *layout = &encoder.dictionary
    cdef memo_t *memo = &encoder.memos[column]
    layout_clear(layout)
    layout.rows = memo.count
    layout_node(layout, memo.count, 0)
    layout_buffer(layout, 0)
    _plan_values(layout, &encoder.stage.slots[column].type, memo.count, memo.width, memo.offsets[memo.count])


# ---- values

cdef void _write_ends(const int32_t *ends, int64_t rows, bint large, uint8_t *out) noexcept nogil:
    cdef int64_t *wide = <int64_t *> out
    cdef int64_t i
    if large:
        for i in range(rows + 1):
            wide[i] = ends[i]
    else:
        memcpy(out, ends, <size_t> (4 * (rows + 1)))


cdef void _write_views(const int32_t *ends, int64_t rows, const uint8_t *bytes, uint8_t *out) noexcept nogil:
    cdef int32_t *view
    cdef int32_t size
    cdef int64_t i
    memset(out, 0, <size_t> (VIEW_BYTES * rows))
    for i in range(rows):
        view = <int32_t *> (out + VIEW_BYTES * i)
        size = ends[i + 1] - ends[i]
        view[0] = size
        if size == 0:
            continue
        if size <= INLINE_BYTES:
            memcpy(view + 1, bytes + ends[i], <size_t> size)
        else:
            memcpy(view + 1, bytes + ends[i], 4)
            view[3] = ends[i]


cdef void _write_ordered(const lane_t *lane, const uint32_t *order, int64_t rows, const type_t *type,
                         uint8_t *values, uint8_t *out) noexcept nogil:
    """Strings in another order than they lie in; views need no such thing, their bytes may lie anywhere."""
    cdef const int32_t *ends = <const int32_t *> lane.values
    cdef int32_t *plain = <int32_t *> values
    cdef int64_t *large = <int64_t *> values
    cdef bint wide = type.layout == LAYOUT_LARGE
    cdef int64_t k, at = 0, size
    if wide:
        large[0] = 0
    else:
        plain[0] = 0
    for k in range(rows):
        size = ends[order[k] + 1] - ends[order[k]]
        if size:
            memcpy(out + at, lane.bytes + ends[order[k]], <size_t> size)
        at += size
        if wide:
            large[k + 1] = at
        else:
            plain[k + 1] = <int32_t> at


cdef void _write_strings(encoder_t *encoder, const type_t *type, const lane_t *lane, const uint32_t *order,
                         int64_t rows, uint8_t *values, uint8_t *bytes) noexcept nogil:
    cdef const int32_t *ends = <const int32_t *> lane.values
    cdef int64_t k, i
    if order != NULL and type.layout != LAYOUT_VIEW:
        _write_ordered(lane, order, rows, type, values, bytes)
        return
    if lane.bytes_used:
        memcpy(bytes, lane.bytes, <size_t> lane.bytes_used)
    if type.layout != LAYOUT_VIEW:
        _write_ends(ends, rows, type.layout == LAYOUT_LARGE, values)
    elif order == NULL:
        _write_views(ends, rows, lane.bytes, values)
    else:
        for k in range(rows):
            i = order[k]
            _write_views(ends + i, 1, lane.bytes, values + VIEW_BYTES * k)


cdef void _write_flags(const uint8_t *flags, const uint32_t *order, int64_t rows, uint8_t *out) noexcept nogil:
    """A byte a row to a bit a row."""
    cdef uint8_t block[1024]
    cdef int64_t done = 0, count
    if order == NULL:
        pack_bits(flags, rows, out)
        return
    while done < rows:
        count = min(<int64_t> sizeof(block), rows - done)
        gather_fixed(1, flags, order + done, count, block)
        pack_bits(block, count, out + done // 8)
        done += count


cdef void _pad(const layout_t *layout, int64_t buffer, uint8_t *body) noexcept nogil:
    """Zeroes between a buffer's end and the next one's start: memory of an earlier frame must not travel."""
    cdef int64_t end = layout.buffers[2 * buffer] + layout.buffers[2 * buffer + 1]
    memset(body + end, 0, <size_t> (aligned(end) - end))


cdef int64_t _write_column(encoder_t *encoder, int column, int64_t group, const uint32_t *order, int64_t buffer,
                           uint8_t *body) noexcept nogil:
    """Fill the column's buffers, of which `buffer` is the first; returns the first of the next column."""
    cdef const int64_t *buffers = encoder.batch.buffers
    cdef slot_t *slot = &encoder.stage.slots[column]
    cdef lane_t *lane = lane_of(encoder.stage, column, group)
    cdef int64_t rows = encoder.batch.rows
    cdef uint8_t *values
    if slot.type.kind == KIND_NULL or slot.type.kind == KIND_NESTED:
        return buffer
    values = body + buffers[2 * buffer + 2]
    if buffers[2 * buffer + 1]:
        _write_flags(lane.valid, order, rows, body + buffers[2 * buffer])
    if slot.stage == STAGE_STRING:
        _write_strings(encoder, &slot.type, lane, order, rows, values, body + buffers[2 * buffer + 4])
        return buffer + 3
    if slot.type.kind == KIND_BOOL and not slot.coded:
        _write_flags(lane.values, order, rows, values)
    else:
        gather_fixed(slot.width, lane.values, order, rows, values)
    return buffer + 2


cdef void _write_dictionary(encoder_t *encoder, int column, uint8_t *body) noexcept nogil:
    cdef memo_t *memo = &encoder.memos[column]
    cdef const type_t *type = &encoder.stage.slots[column].type
    cdef const int64_t *buffers = encoder.dictionary.buffers
    cdef uint8_t *values = body + buffers[2]
    cdef int32_t ends[257]
    cdef int64_t i, bytes = memo.offsets[memo.count]
    if memo.width >= 0:
        if type.kind == KIND_BOOL:
            pack_bits(memo.bytes, memo.count, values)
        elif bytes:
            memcpy(values, memo.bytes, <size_t> bytes)
        return
    for i in range(memo.count + 1):
        ends[i] = <int32_t> memo.offsets[i]
    if bytes:
        memcpy(body + buffers[4], memo.bytes, <size_t> bytes)
    if type.layout == LAYOUT_VIEW:
        _write_views(ends, memo.count, memo.bytes, values)
    else:
        _write_ends(ends, memo.count, type.layout == LAYOUT_LARGE, values)


# ---- the whole

cdef uint32_t _sort(encoder_t *encoder, int64_t group) noexcept nogil:
    """Order the group's rows by partition, those of one as they came; returns how many partitions have any."""
    cdef group_t *g = &encoder.stage.group[group]
    cdef int64_t groups = encoder.stage.groups
    cdef uint32_t first = <uint32_t> ((group * encoder.partitions + groups - 1) // groups)
    cdef int64_t width = ((group + 1) * encoder.partitions + groups - 1) // groups - first
    cdef uint32_t entries = 0, at = 0, count
    cdef int64_t i
    memset(encoder.counts, 0, <size_t> (width + 1) * sizeof(uint32_t))
    for i in range(g.rows):
        encoder.counts[g.partitions[i] - first] += 1
    for i in range(width):
        count = encoder.counts[i]
        entries += count != 0
        encoder.counts[i] = at
        at += count
    for i in range(g.rows):
        encoder.order[encoder.counts[g.partitions[i] - first]] = <uint32_t> i
        encoder.counts[g.partitions[i] - first] += 1
    return entries


cdef void _write_index(encoder_t *encoder, int64_t group, uint32_t entries, uint8_t *out) noexcept nogil:
    """Pairs of (partition, rows), of `encoder.order`."""
    cdef group_t *g = &encoder.stage.group[group]
    cdef uint32_t *pairs = <uint32_t *> out
    cdef int64_t i, entry = -1
    cdef uint32_t partition
    memset(out, 0, <size_t> aligned(8 * <int64_t> entries))
    for i in range(g.rows):
        partition = g.partitions[encoder.order[i]]
        if entry < 0 or pairs[2 * entry] != partition:
            entry += 1
            pairs[2 * entry] = partition
        pairs[2 * entry + 1] += 1


cdef int64_t _dictionaries(encoder_t *encoder, int64_t at, uint8_t *out) noexcept nogil:
    """Size (and, where `out` is not NULL, write) the dictionary batches that start at `at`; returns where they end."""
    cdef int64_t head, buffer
    cdef int column
    for column in range(encoder.stage.columns):
        if not encoder.stage.slots[column].coded:
            continue
        _plan_dictionary(encoder, column)
        head = message_bytes(&encoder.dictionary, True, at)
        if out != NULL:
            message_write(&encoder.dictionary, True, encoder.dictionary_ids[column], out + at, head)
            _write_dictionary(encoder, column, out + at + head)
            for buffer in range(encoder.dictionary.n_buffers):
                _pad(&encoder.dictionary, buffer, out + at + head)
        at += head + encoder.dictionary.body_bytes
    return at


cdef buffer_t *encode_group(encoder_t *encoder, int64_t group, uint32_t *index) noexcept nogil:
    cdef uint32_t *order = encoder.order if encoder.stage.partitioned else NULL
    cdef int64_t start = 0, at, head, size, buffer = 0
    cdef uint8_t *body
    cdef buffer_t *out
    cdef int column
    index[0] = 0
    if order != NULL:
        index[0] = _sort(encoder, group)
        start = aligned(8 * <int64_t> index[0])
    _plan_batch(encoder, group)
    at = _dictionaries(encoder, start + encoder.prefix_bytes, NULL)
    head = message_bytes(&encoder.batch, False, at)
    size = at + head + encoder.batch.body_bytes + END_BYTES
    out = buffer_new(encoder.pool, size)
    if out == NULL:
        return NULL
    if order != NULL:
        _write_index(encoder, group, index[0], out.data)
    memcpy(out.data + start, encoder.prefix, <size_t> encoder.prefix_bytes)
    _dictionaries(encoder, start + encoder.prefix_bytes, out.data)
    message_write(&encoder.batch, False, 0, out.data + at, head)
    body = out.data + at + head
    for column in range(encoder.stage.columns):
        buffer = _write_column(encoder, column, group, order, buffer, body)
    for buffer in range(encoder.batch.n_buffers):
        _pad(&encoder.batch, buffer, body)
    memset(out.data + size - END_BYTES, 0xff, 4)
    memset(out.data + size - END_BYTES + 4, 0, 4)
    out.size = size
    return out
