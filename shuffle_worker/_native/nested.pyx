"""The 64 bits that stand for a nested value in a row digest, defined from the inside out:

    null                    DIGEST_NULL
    struct                  its children's bits chained, in order
    list, map (any layout)  its elements' bits chained onto their number; a map is a list of its entries, as they lie
    union                   the child's bits chained onto its type id
    run-end encoded         the run's value

so that layouts of equal values (list, large list, list view) agree. Chaining is XXH64 of 8 bytes, seeded by what came
before.
"""
from libc.stdint cimport int8_t, int16_t, int32_t, uint8_t
from libc.stdlib cimport free, malloc, strtol
from libc.string cimport strchr

from shuffle_worker._native.arrow cimport bit_at, column_t, open_leaf
from shuffle_worker._native.hashing cimport xxh64_u64
from shuffle_worker._native.values cimport DIGEST_NULL, column_values

from shuffle_worker.errors import InputError, UserError

cdef int64_t MAX_ROWS = <int64_t> 1 << 40


cdef int _fail(const ArrowSchema *schema, str what) except -1:
    raise InputError(f"{schema.name.decode(errors='replace') if schema.name != NULL else ''!r} within a nested column "
                     f"is not sound Arrow data: {what}")


cdef uint64_t *_block(int64_t count) except NULL:
    cdef uint64_t *block
    if not 0 <= count <= MAX_ROWS:
        raise InputError(f"a nested column with {count} values is not possible")
    block = <uint64_t *> malloc((<size_t> count + 1) * sizeof(uint64_t))
    if block == NULL:
        raise MemoryError(f"no memory for the digest of {count} nested values")
    return block


cdef int _struct(const ArrowSchema *schema, const ArrowArray *array, int64_t start, int64_t count,
                 uint64_t *out) except -1:
    cdef uint64_t *child = _block(count)
    cdef int64_t i, k
    try:
        for i in range(count):
            out[i] = 0
        for k in range(array.n_children):
            nested_values(schema.children[k], array.children[k], array.offset + start, count, child)
            for i in range(count):
                out[i] = xxh64_u64(child[i], out[i])
    finally:
        free(child)
    return 0


cdef int _span(const ArrowSchema *schema, const ArrowArray *array, int64_t i, int64_t *first, int64_t *size) except -1:
    """The elements of list `i`, counted from the buffers' start."""
    cdef const char *f = schema.format
    cdef bint view = f[1] == b"v"
    cdef bint large = f[1] == b"L" or (view and f[2] == b"L")
    if f[1] == b"w":
        size[0] = strtol(f + 3, NULL, 10)
        first[0] = i * size[0]
        return 0
    if array.n_buffers < (3 if view else 2) or array.buffers[1] == NULL:
        _fail(schema, "buffers are missing")
    first[0] = (<const int64_t *> array.buffers[1])[i] if large else (<const int32_t *> array.buffers[1])[i]
    if view:
        size[0] = (<const int64_t *> array.buffers[2])[i] if large else (<const int32_t *> array.buffers[2])[i]
    elif large:
        size[0] = (<const int64_t *> array.buffers[1])[i + 1] - first[0]
    else:
        size[0] = (<const int32_t *> array.buffers[1])[i + 1] - first[0]
    return 0


cdef int _list(const ArrowSchema *schema, const ArrowArray *array, int64_t start, int64_t count, const uint8_t *valid,
               uint64_t *out) except -1:
    cdef int64_t i, k, first, size, low = MAX_ROWS, high = 0
    cdef uint64_t *child
    if array.n_children != 1:
        _fail(schema, "a list has one child")
    for i in range(array.offset + start, array.offset + start + count):
        if valid == NULL or bit_at(valid, i):
            _span(schema, array, i, &first, &size)
            if first < 0 or size < 0 or first + size > array.children[0].length:
                _fail(schema, "a list reaches outside its values")
            if size:
                low = min(low, first)
                high = max(high, first + size)
    low = min(low, high)
    child = _block(high - low)
    try:
        nested_values(schema.children[0], array.children[0], low, high - low, child)
        for i in range(count):
            if valid == NULL or bit_at(valid, array.offset + start + i):
                _span(schema, array, array.offset + start + i, &first, &size)
                out[i] = <uint64_t> size
                for k in range(size):
                    out[i] = xxh64_u64(child[first - low + k], out[i])
    finally:
        free(child)
    return 0


cdef int _union(const ArrowSchema *schema, const ArrowArray *array, int64_t start, int64_t count,
                uint64_t *out) except -1:
    cdef const int8_t *ids
    cdef const char *text = strchr(schema.format, b":")
    cdef bint dense = schema.format[2] == b"d"
    cdef int64_t i, row
    cdef int k
    codes = [int(code) for code in (<bytes> (text + 1)).split(b",")] if text != NULL and text[1] else []
    if array.n_buffers < (2 if dense else 1) or len(codes) != array.n_children:
        _fail(schema, "a union's buffers or children are missing")
    ids = <const int8_t *> array.buffers[0]
    for i in range(count):
        row = array.offset + start + i
        if ids[row] not in codes:
            _fail(schema, f"a union has no type {ids[row]}")
        k = codes.index(ids[row])
        nested_values(schema.children[k], array.children[k],
                      (<const int32_t *> array.buffers[1])[row] if dense else row, 1, &out[i])
        out[i] = xxh64_u64(out[i], <uint64_t> <int64_t> ids[row])
    return 0


cdef int64_t _run_end(const ArrowSchema *schema, const ArrowArray *ends, int64_t i) except -1:
    cdef const void *values = ends.buffers[1]
    cdef int64_t at = ends.offset + i
    if schema.format[0] == b"s":
        return (<const int16_t *> values)[at]
    if schema.format[0] == b"i":
        return (<const int32_t *> values)[at]
    return (<const int64_t *> values)[at]


cdef int _runs(const ArrowSchema *schema, const ArrowArray *array, int64_t start, int64_t count,
               uint64_t *out) except -1:
    cdef const ArrowArray *ends
    cdef int64_t i, run = 0, row
    cdef uint64_t *values
    if array.n_children != 2 or array.children[0].n_buffers < 2:
        _fail(schema, "run ends or values are missing")
    ends = array.children[0]
    values = _block(ends.length)
    try:
        nested_values(schema.children[1], array.children[1], 0, ends.length, values)
        for i in range(count):
            row = array.offset + start + i
            while run < ends.length and _run_end(schema.children[0], ends, run) <= row:
                run += 1
            if run == ends.length:
                _fail(schema, "its runs end before its rows")
            out[i] = values[run]
    finally:
        free(values)
    return 0


cdef int _leaf(const ArrowSchema *schema, const ArrowArray *array, int64_t start, int64_t count,
               uint64_t *out) except -1:
    cdef column_t column, values
    open_leaf(&column, &values, schema, array, start, count)
    with nogil:
        column_values(&column, 0, count, out)
    return 0


cdef int nested_values(const ArrowSchema *schema, const ArrowArray *array, int64_t start, int64_t count,
                       uint64_t *out) except -1:
    cdef const uint8_t *valid = NULL
    cdef const char *f = schema.format
    cdef int64_t i
    if array.length < 0 or array.offset < 0 or start < 0 or start + count > array.length:
        _fail(schema, "it has fewer rows than its parent")
    if schema.dictionary != NULL or f[0] != b"+":
        return _leaf(schema, array, start, count, out)
    if schema.n_children != array.n_children:
        _fail(schema, "its children do not match its type")
    if f[1] == b"u":
        return _union(schema, array, start, count, out)
    if f[1] == b"r":
        return _runs(schema, array, start, count, out)
    if array.null_count != 0 and array.n_buffers:
        valid = <const uint8_t *> array.buffers[0]
    if f[1] == b"s":
        _struct(schema, array, start, count, out)
    elif f[1] == b"l" or f[1] == b"L" or f[1] == b"m" or f[1] == b"w" or f[1] == b"v":
        _list(schema, array, start, count, valid, out)
    else:
        raise UserError(f"a nested column of the Arrow format {f.decode(errors='replace')!r} is not known here")
    if valid != NULL:
        for i in range(count):
            if not bit_at(valid, array.offset + start + i):
                out[i] = DIGEST_NULL
    return 0
