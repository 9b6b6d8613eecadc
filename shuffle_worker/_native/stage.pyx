"""Rows on their way into frames: lanes of memory, one for each column and group, that stay warm between frames.

A chunk of a batch is scattered column by column: its rows are put in order of their group once, and each column is
then gathered, run by run, onto the ends of the lanes. Column by column, because a chunk's column fits in a core's
cache and its rows do not. Needs no GIL; knows nothing of partitions, frames or Python.
"""
from libc.stdint cimport uint16_t, uintptr_t
from libc.stdlib cimport free, realloc
from libc.string cimport memcpy, memset

from shuffle_worker._native.arrow cimport LAYOUT_VIEW, string_at
from shuffle_worker._native.hashing cimport load_u64

cdef extern from "prefetch.h" nogil:
    void prefetch_write(const uint8_t *p, int64_t size, int64_t most)
    void prefetch_line(const uint8_t *p)

cdef enum:
    LINE_AHEAD = 64
    PREFETCH_BYTES = 1024   # of the next run's place, while this one is filled
    FIRST_ROWS = 64
    INLINE_BYTES = 12       # of a view: what may be read of it at least
    COPY_BYTES = 48         # strings up to this length are copied by three moves

ctypedef struct wide16_t:
    uint64_t a
    uint64_t b

ctypedef struct wide32_t:
    uint64_t a
    uint64_t b
    uint64_t c
    uint64_t d

ctypedef fused fixed_t:
    uint8_t
    uint16_t
    uint32_t
    uint64_t
    wide16_t
    wide32_t


# ---- memory

cdef int _grow(stage_t *stage, uint8_t **block, int64_t old_bytes, int64_t new_bytes) noexcept nogil:
    cdef uint8_t *grown = <uint8_t *> realloc(block[0], <size_t> (new_bytes + STAGE_SLACK))
    if grown == NULL:
        return -1
    stage.held_bytes += new_bytes + STAGE_SLACK - (0 if block[0] == NULL else old_bytes + STAGE_SLACK)
    block[0] = grown
    return 0


cdef int _reserve_lane(stage_t *stage, int column, int64_t group, int64_t old, int64_t new) noexcept nogil:
    cdef lane_t *lane = lane_of(stage, column, group)
    cdef slot_t *slot = &stage.slots[column]
    if slot.stage == STAGE_FIXED:
        if _grow(stage, &lane.values, old * slot.width, new * slot.width) != 0:
            return -1
    elif slot.stage == STAGE_STRING:
        if _grow(stage, &lane.values, (old + 1) * 4, (new + 1) * 4) != 0:
            return -1
        (<int32_t *> lane.values)[0] = 0
    if lane.valid != NULL:
        return _grow(stage, &lane.valid, old, new)
    return 0


cdef int stage_reserve(stage_t *stage, int64_t group, int64_t rows) noexcept nogil:
    cdef group_t *g = &stage.group[group]
    cdef int64_t wanted = g.rows + rows, capacity = g.capacity
    cdef int column
    if wanted <= capacity:
        return 0
    capacity = max(capacity, <int64_t> FIRST_ROWS)
    while capacity < wanted:
        capacity *= 2
    if wanted <= stage.row_capacity:
        capacity = min(capacity, stage.row_capacity)
    for column in range(stage.columns):
        if _reserve_lane(stage, column, group, g.capacity, capacity) != 0:
            return -1       # lanes that grew keep their old figure: `held_bytes` is then a little too low
    if stage.partitioned:
        if _grow(stage, <uint8_t **> &g.partitions, g.capacity * 4, capacity * 4) != 0:
            return -1
    g.capacity = capacity
    return 0


cdef int _reserve_bytes(stage_t *stage, lane_t *lane, int64_t more) noexcept nogil:
    cdef int64_t wanted = lane.bytes_used + more, capacity
    if wanted <= lane.bytes_capacity:
        return 0
    capacity = max(wanted, min(2 * lane.bytes_capacity, wanted + (1 << 20)))
    capacity = (max(capacity, <int64_t> 1024) + 63) & ~<int64_t> 63
    if _grow(stage, &lane.bytes, lane.bytes_capacity, capacity) != 0:
        return -1
    lane.bytes_capacity = capacity
    return 0


cdef void stage_clear(stage_t *stage, int64_t group, int64_t keep_bytes) noexcept nogil:
    cdef group_t *g = &stage.group[group]
    cdef lane_t *lane
    cdef int column
    for column in range(stage.columns):
        lane = lane_of(stage, column, group)
        lane.nullable = False
        lane.bytes_used = 0
        if lane.bytes_capacity > 2 * keep_bytes:
            free(lane.bytes)
            lane.bytes = NULL
            stage.held_bytes -= lane.bytes_capacity + STAGE_SLACK
            lane.bytes_capacity = 0
    g.rows = 0
    g.bytes = 0
    g.digest = 0


cdef void stage_free(stage_t *stage) noexcept nogil:
    cdef int64_t i
    if stage.lanes != NULL:
        for i in range(stage.columns * stage.groups):
            free(stage.lanes[i].values)
            free(stage.lanes[i].valid)
            free(stage.lanes[i].bytes)
    if stage.group != NULL:
        for i in range(stage.groups):
            free(stage.group[i].partitions)
    free(stage.lanes)
    free(stage.group)
    free(stage.slots)
    memset(stage, 0, sizeof(stage_t))


# ---- gathering

cdef void _gather(const fixed_t *values, const uint32_t *order, int64_t count, fixed_t *out) noexcept nogil:
    cdef int64_t k
    for k in range(count):
        out[k] = values[order[k]]


cdef void gather_fixed(int32_t width, const uint8_t *values, const uint32_t *order, int64_t count,
                       uint8_t *out) noexcept nogil:
    cdef int64_t k
    cdef bint aligned = (<uintptr_t> values | <uintptr_t> out) % <uintptr_t> min(width if width > 0 else 1, 8) == 0
    if width == 0 or count == 0:
        return
    if order == NULL or order[count - 1] - order[0] == <uint32_t> (count - 1) and order[0] <= order[count - 1] and (
            _ascending(order, count)):
        memcpy(out, values + (0 if order == NULL else <int64_t> order[0] * width), <size_t> (count * width))
    elif width == 1:
        _gather(values, order, count, out)
    elif not aligned:
        for k in range(count):
            memcpy(out + k * width, values + <int64_t> order[k] * width, <size_t> width)
    elif width == 2:
        _gather(<const uint16_t *> values, order, count, <uint16_t *> out)
    elif width == 4:
        _gather(<const uint32_t *> values, order, count, <uint32_t *> out)
    elif width == 8:
        _gather(<const uint64_t *> values, order, count, <uint64_t *> out)
    elif width == 16:
        _gather(<const wide16_t *> values, order, count, <wide16_t *> out)
    elif width == 32:
        _gather(<const wide32_t *> values, order, count, <wide32_t *> out)
    else:
        for k in range(count):
            memcpy(out + k * width, values + <int64_t> order[k] * width, <size_t> width)


cdef bint _ascending(const uint32_t *order, int64_t count) noexcept nogil:
    """Whether each is one more than the one before."""
    cdef int64_t k
    cdef uint32_t wrong = 0
    for k in range(count):
        wrong |= order[k] - order[0] - <uint32_t> k
    return wrong == 0


cdef void pack_bits(const uint8_t *flags, int64_t count, uint8_t *out) noexcept nogil:
    cdef int64_t i
    cdef uint8_t last = 0
    for i in range(count // 8):
        out[i] = <uint8_t> ((load_u64(flags + 8 * i) * <uint64_t> 0x0102040810204080) >> 56)
    if count & 7:
        for i in range(count & ~<int64_t> 7, count):
            last |= <uint8_t> (flags[i] << (i & 7))
        out[count // 8] = last


# ---- columns

cdef int _stage_valid(stage_t *stage, int column, const uint8_t *valid, const chunk_t *chunk) noexcept nogil:
    cdef const run_t *run
    cdef const uint32_t *order
    cdef group_t *g
    cdef lane_t *lane
    cdef uint8_t *out
    cdef int64_t t, k
    for t in range(chunk.runs):
        run = &chunk.run[t]
        g = &stage.group[run.group]
        lane = lane_of(stage, column, run.group)
        if valid == NULL:
            if lane.nullable:
                memset(lane.valid + g.rows, 1, run.count)
            continue
        if not lane.nullable:
            if lane.valid == NULL and _grow(stage, &lane.valid, 0, g.capacity) != 0:
                return -1
            memset(lane.valid, 1, <size_t> g.rows)
            lane.nullable = True
        out = lane.valid + g.rows
        order = chunk.order + run.first
        for k in range(run.count):
            out[k] = valid[order[k]]
    return 0


cdef void _spread(const fixed_t *values, const uint32_t *pick, const chunk_t *chunk) noexcept nogil:
    """Write each row to the end of its lane: reads go on in sequence, and each lane's last line stays in the cache."""
    cdef const uint16_t *group = chunk.group
    cdef const uint16_t *place = chunk.place
    cdef const tail_t *tails = chunk.tails
    cdef fixed_t *out
    cdef int64_t i
    if pick != NULL:
        for i in range(chunk.rows):
            (<fixed_t *> tails[group[i]].values)[place[i]] = values[pick[i]]
        return
    for i in range(chunk.rows):
        out = <fixed_t *> tails[group[i]].values + place[i]
        out[0] = values[i]
        prefetch_line(<uint8_t *> out + LINE_AHEAD)


cdef bint _spread_fixed(stage_t *stage, int column, const source_t *source, const chunk_t *chunk) noexcept nogil:
    """False if these values are better gathered."""
    cdef int32_t width = stage.slots[column].width
    cdef const uint8_t *values = source.values
    cdef const run_t *run
    cdef int64_t t
    if not chunk.spread or <uintptr_t> values % <uintptr_t> min(max(width, 1), 8) != 0:
        return False
    if width != 1 and width != 2 and width != 4 and width != 8 and width != 16:
        return False
    for t in range(chunk.runs):
        run = &chunk.run[t]
        chunk.tails[run.group].values = (
            lane_of(stage, column, run.group).values + stage.group[run.group].rows * width)
    if width == 1:
        _spread(values, source.pick, chunk)
    elif width == 2:
        _spread(<const uint16_t *> values, source.pick, chunk)
    elif width == 4:
        _spread(<const uint32_t *> values, source.pick, chunk)
    elif width == 8:
        _spread(<const uint64_t *> values, source.pick, chunk)
    else:
        _spread(<const wide16_t *> values, source.pick, chunk)
    return True


cdef void _stage_fixed(stage_t *stage, int column, const uint8_t *values, const uint32_t *order,
                       const chunk_t *chunk) noexcept nogil:
    cdef int32_t width = stage.slots[column].width
    cdef const run_t *run
    cdef int64_t t
    for t in range(chunk.runs):
        if t + 1 < chunk.runs:
            run = &chunk.run[t + 1]
            prefetch_write(lane_of(stage, column, run.group).values + stage.group[run.group].rows * width,
                           <int64_t> run.count * width, PREFETCH_BYTES)
        run = &chunk.run[t]
        gather_fixed(width, values, order + run.first, run.count,
                     lane_of(stage, column, run.group).values + stage.group[run.group].rows * width)


cdef inline const uint8_t *_stop(const column_t *c, int64_t i, const uint8_t *p, int64_t size) noexcept nogil:
    """How far the memory that string `i` lies in may be read."""
    cdef const int32_t *view
    if c.type.layout != LAYOUT_VIEW:
        return c.bytes + c.bytes_end
    view = <const int32_t *> (c.values + 16 * i)
    return p + INLINE_BYTES if size <= INLINE_BYTES else c.buffers[view[2]] + c.buffer_bytes[view[2]]


cdef inline void _copy_string(uint8_t *out, const uint8_t *p, int64_t size, const uint8_t *stop) noexcept nogil:
    """May write up to COPY_BYTES bytes; reads none at or after `stop`. Moves of a fixed size cost no call."""
    if size <= INLINE_BYTES and stop - p >= INLINE_BYTES:
        memcpy(out, p, INLINE_BYTES)
    elif size <= COPY_BYTES and stop - p >= COPY_BYTES:
        memcpy(out, p, COPY_BYTES)
    else:
        memcpy(out, p, <size_t> size)


cdef int _stage_run(stage_t *stage, lane_t *lane, int64_t rows, const source_t *source, const uint32_t *order,
                    const uint32_t *picked, int64_t count) noexcept nogil:
    """Append strings `picked` of the source, of which those whose `order` is not valid are empty."""
    cdef const column_t *c = source.strings
    cdef int32_t *ends = <int32_t *> lane.values + rows
    cdef const uint8_t *p
    cdef int64_t k, size, total = 0, at = lane.bytes_used
    for k in range(count):
        if source.valid == NULL or source.valid[order[k]]:
            string_at(c, source.base + picked[k], &size)
            total += size
        ends[k + 1] = <int32_t> (at + total)
    if _reserve_bytes(stage, lane, total) != 0:
        return -1
    for k in range(count):
        if ends[k + 1] == at:
            continue
        p = string_at(c, source.base + picked[k], &size)
        _copy_string(lane.bytes + at, p, size, _stop(c, source.base + picked[k], p, size))
        at = ends[k + 1]
    lane.bytes_used = at
    return 0


cdef int64_t _string_row(const source_t *source, int64_t i) noexcept nogil:
    """Where in its column the string of the chunk's row `i` is; -1: it is null."""
    if source.valid != NULL and not source.valid[i]:
        return -1
    return source.base + (i if source.pick == NULL else source.pick[i])


cdef int _spread_strings(stage_t *stage, int column, const source_t *source, const chunk_t *chunk) noexcept nogil:
    """As `_spread`: once for the sizes, once for the bytes."""
    cdef const column_t *c = source.strings
    cdef const run_t *run
    cdef const uint8_t *p
    cdef lane_t *lane
    cdef tail_t *tail
    cdef int64_t i, t, row, size
    for t in range(chunk.runs):
        chunk.tails[chunk.run[t].group].at = 0
    for i in range(chunk.rows):
        row = _string_row(source, i)
        if row >= 0:
            string_at(c, row, &size)
            chunk.tails[chunk.group[i]].at += size
    for t in range(chunk.runs):
        run = &chunk.run[t]
        lane = lane_of(stage, column, run.group)
        tail = &chunk.tails[run.group]
        if _reserve_bytes(stage, lane, tail.at) != 0:
            return -1
        stage.group[run.group].bytes += tail.at + 4 * <int64_t> run.count
        tail.values = lane.values + 4 * (stage.group[run.group].rows + 1)
        tail.bytes = lane.bytes
        tail.at = lane.bytes_used
    for i in range(chunk.rows):
        tail = &chunk.tails[chunk.group[i]]
        row = _string_row(source, i)
        if row >= 0:
            p = string_at(c, row, &size)
            if size:
                _copy_string(tail.bytes + tail.at, p, size, _stop(c, row, p, size))
                prefetch_line(tail.bytes + tail.at + LINE_AHEAD)
            tail.at += size
        (<int32_t *> tail.values)[chunk.place[i]] = <int32_t> tail.at
    for t in range(chunk.runs):
        lane_of(stage, column, chunk.run[t].group).bytes_used = chunk.tails[chunk.run[t].group].at
    return 0


cdef int _stage_strings(stage_t *stage, int column, const source_t *source, const uint32_t *picked,
                        const chunk_t *chunk) noexcept nogil:
    cdef const run_t *run
    cdef lane_t *lane
    cdef int64_t t, before
    for t in range(chunk.runs):
        run = &chunk.run[t]
        lane = lane_of(stage, column, run.group)
        before = lane.bytes_used
        if _stage_run(stage, lane, stage.group[run.group].rows, source, chunk.order + run.first, picked + run.first,
                      run.count) != 0:
            return -1
        stage.group[run.group].bytes += lane.bytes_used - before + 4 * <int64_t> run.count
    return 0


cdef int stage_column(stage_t *stage, int column, const source_t *source, const chunk_t *chunk) noexcept nogil:
    cdef const uint32_t *picked = chunk.order
    cdef slot_t *slot = &stage.slots[column]
    cdef int64_t t, k
    if slot.stage == STAGE_NOTHING:
        return 0
    if source.pick != NULL:
        for k in range(chunk.rows):
            chunk.composed[k] = source.pick[chunk.order[k]]
        picked = chunk.composed
    if _stage_valid(stage, column, source.valid, chunk) != 0:
        return -1
    if slot.stage == STAGE_STRING and chunk.spread:
        return _spread_strings(stage, column, source, chunk)
    if slot.stage == STAGE_STRING:
        return _stage_strings(stage, column, source, picked, chunk)
    if not _spread_fixed(stage, column, source, chunk):
        _stage_fixed(stage, column, source.values, picked, chunk)
    for t in range(chunk.runs):
        stage.group[chunk.run[t].group].bytes += slot.width * <int64_t> chunk.run[t].count
    return 0


cdef void stage_advance(stage_t *stage, const chunk_t *chunk) noexcept nogil:
    """Count the rows that were moved, and note their partitions."""
    cdef const run_t *run
    cdef group_t *g
    cdef int64_t t, k
    for t in range(chunk.runs):
        run = &chunk.run[t]
        g = &stage.group[run.group]
        if stage.partitioned:
            for k in range(run.count):
                g.partitions[g.rows + k] = chunk.partitions[chunk.order[run.first + k]]
        g.rows += run.count
