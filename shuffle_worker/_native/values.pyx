"""The 64 bits that stand for a value in digests, whatever its layout: plain, large or view, dictionary or not. No GIL.

    null                            DIGEST_NULL
    up to 8 bytes                   the raw bits, zero-extended: -0.0 is not 0.0 here
    decimals up to 8 bytes          the unscaled value, sign-extended
    longer decimals                 XXH64 of the unscaled value's shortest big-endian two's complement
    strings, binaries, other fixed  XXH64 of the bytes
"""
from libc.stdint cimport int32_t, uint8_t, uint16_t, uint32_t
from libc.string cimport memcpy

from shuffle_worker._native.arrow cimport (
    KIND_BINARY, KIND_BOOL, KIND_DECIMAL, KIND_FIXED_BINARY, KIND_NULL, KIND_STRING, bit_at, code_at, string_at,
)
from shuffle_worker._native.hashing cimport shortest_big_endian, xxh64_bytes
from shuffle_worker._native.numbers cimport column_numbers


cdef void _decimals(const column_t *c, int64_t start, int64_t count, uint64_t *out) noexcept nogil:
    cdef int32_t width = c.type.width
    cdef uint8_t scratch[33]
    cdef const uint8_t *p
    cdef int64_t i, size
    if width <= 8:
        column_numbers(c, start, count, <int64_t *> out)
        return
    for i in range(count):
        p = c.values + (c.offset + start + i) * width
        size = shortest_big_endian(p, width, scratch)
        if size <= 8:
            memcpy(&out[i], p, 8)
        else:
            out[i] = xxh64_bytes(scratch, size, 0)


cdef void _fixed(const column_t *c, int64_t start, int64_t count, uint64_t *out) noexcept nogil:
    cdef int32_t width = c.type.width
    cdef const uint8_t *p = c.values + (c.offset + start) * width
    cdef int64_t i
    if width == 8:
        memcpy(out, p, <size_t> (8 * count))
    elif width == 4:
        for i in range(count):
            out[i] = (<const uint32_t *> p)[i]
    elif width == 2:
        for i in range(count):
            out[i] = (<const uint16_t *> p)[i]
    elif width == 1:
        for i in range(count):
            out[i] = p[i]
    else:
        for i in range(count):
            out[i] = xxh64_bytes(p + i * width, width, 0)


cdef void _plain(const column_t *c, int64_t start, int64_t count, uint64_t *out) noexcept nogil:
    cdef const uint8_t *p
    cdef int64_t i, size
    cdef int kind = c.type.kind
    if kind == KIND_STRING or kind == KIND_BINARY or kind == KIND_NULL:
        for i in range(count):
            out[i] = DIGEST_NULL
            if kind != KIND_NULL and (c.validity == NULL or bit_at(c.validity, c.offset + start + i)):
                p = string_at(c, c.offset + start + i, &size)
                out[i] = xxh64_bytes(p, size, 0)
    elif kind == KIND_BOOL:
        for i in range(count):
            out[i] = bit_at(c.values, c.offset + start + i)
    elif kind == KIND_DECIMAL:
        _decimals(c, start, count, out)
    elif kind == KIND_FIXED_BINARY:
        for i in range(count):
            out[i] = xxh64_bytes(c.values + (c.offset + start + i) * c.type.width, c.type.width, 0)
    else:
        _fixed(c, start, count, out)
    if c.validity != NULL:
        for i in range(count):
            if not bit_at(c.validity, c.offset + start + i):
                out[i] = DIGEST_NULL


cdef void column_values(const column_t *c, int64_t start, int64_t count, uint64_t *out) noexcept nogil:
    cdef int64_t i, row
    if c.dictionary == NULL:
        _plain(c, start, count, out)
        return
    for i in range(count):
        row = c.offset + start + i
        out[i] = DIGEST_NULL
        if c.validity == NULL or bit_at(c.validity, row):
            _plain(c.dictionary, code_at(c, row), 1, &out[i])
