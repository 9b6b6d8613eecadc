"""A chunk's columns in the form in which they are staged: validity and bools as bytes, dictionaries as picks."""
from libc.stdlib cimport free, malloc
from libc.string cimport memset

from shuffle_worker._native.arrow cimport KIND_BOOL, LAYOUT_LARGE, LAYOUT_PLAIN, bit_at, code_at, string_at
from shuffle_worker._native.stage cimport STAGE_STRING


cdef void scratch_free(scratch_t *scratch) noexcept nogil:
    free(scratch.valid)
    free(scratch.bytes)
    free(scratch.pick)
    memset(scratch, 0, sizeof(scratch_t))


cdef int scratch_alloc(void **block, int64_t size) noexcept nogil:
    if block[0] == NULL:
        block[0] = malloc(<size_t> size)
    return 0 if block[0] != NULL else -1


cdef void read_valid(const column_t *c, int64_t start, int64_t rows, uint8_t *valid) noexcept nogil:
    """A byte a row."""
    cdef int64_t i, first = c.offset + start
    if c.validity == NULL:
        memset(valid, 1, <size_t> rows)
        return
    for i in range(rows):
        valid[i] = bit_at(c.validity, first + i)


cdef void _read_dictionary_valid(const column_t *c, int64_t start, int64_t rows, uint8_t *valid) noexcept nogil:
    """Clear rows whose value in the dictionary is null."""
    cdef const column_t *d = c.dictionary
    cdef int64_t i
    if d.validity == NULL:
        return
    for i in range(rows):
        if valid[i] and not bit_at(d.validity, d.offset + code_at(c, c.offset + start + i)):
            valid[i] = 0


cdef int64_t rows_bytes(const column_t *c, int64_t start, int64_t rows) noexcept nogil:
    """Bytes of strings, nulls included where that is cheaper."""
    cdef const column_t *d = c if c.dictionary == NULL else c.dictionary
    cdef int64_t i, first = c.offset + start, size, total = 0
    if d == c and d.type.layout == LAYOUT_PLAIN:
        return (<const int32_t *> c.values)[first + rows] - (<const int32_t *> c.values)[first]
    if d == c and d.type.layout == LAYOUT_LARGE:
        return (<const int64_t *> c.values)[first + rows] - (<const int64_t *> c.values)[first]
    for i in range(first, first + rows):
        if c.validity == NULL or bit_at(c.validity, i):
            if d == c:
                total += (<const int32_t *> c.values)[4 * i]
            else:
                string_at(d, d.offset + code_at(c, i), &size)
                total += size
    return total


cdef int column_source(const column_t *c, const slot_t *slot, int64_t start, int64_t rows, scratch_t *scratch,
                       source_t *source) noexcept nogil:
    cdef const column_t *d = c if c.dictionary == NULL else c.dictionary
    cdef bint nulls = c.validity != NULL or d.validity != NULL
    cdef int64_t i
    memset(source, 0, sizeof(source_t))
    if slot.coded:
        source.values = scratch.bytes
        source.valid = scratch.valid if nulls else NULL
        return 0
    if nulls:
        if scratch_alloc(<void **> &scratch.valid, scratch.rows) != 0:
            return -1
        read_valid(c, start, rows, scratch.valid)
        if d != c:
            _read_dictionary_valid(c, start, rows, scratch.valid)
        source.valid = scratch.valid
    source.base = c.offset + start
    if d != c:
        if scratch_alloc(<void **> &scratch.pick, 4 * scratch.rows) != 0:
            return -1
        source.base = d.offset
        source.pick = scratch.pick
        for i in range(rows):
            scratch.pick[i] = 0
            if source.valid == NULL or source.valid[i]:
                scratch.pick[i] = <uint32_t> code_at(c, c.offset + start + i)
    if slot.stage == STAGE_STRING:
        source.strings = d
    elif c.type.kind == KIND_BOOL:
        if scratch_alloc(<void **> &scratch.bytes, scratch.rows) != 0:
            return -1
        for i in range(rows):
            scratch.bytes[i] = 0
            if source.valid == NULL or source.valid[i]:
                scratch.bytes[i] = bit_at(d.values, source.base + (i if source.pick == NULL else source.pick[i]))
        source.values = scratch.bytes
        source.pick = NULL
    else:
        source.values = d.values + source.base * d.type.width
        if d.length == 0:       # every row is null: what is picked for them all is one value of zeroes
            if scratch_alloc(<void **> &scratch.bytes, max(scratch.rows, <int64_t> d.type.width)) != 0:
                return -1
            memset(scratch.bytes, 0, <size_t> d.type.width)
            source.values = scratch.bytes
    return 0
