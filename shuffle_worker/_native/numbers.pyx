"""Values of fixed-width columns as int64, a block at a time: what hashes and orderings start from. Needs no GIL."""
from libc.stdint cimport int8_t, int16_t, int32_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy

from shuffle_worker._native.arrow cimport KIND_BOOL, KIND_DECIMAL, KIND_FLOAT, KIND_UINT, bit_at
from shuffle_worker._native.hashing cimport half_to_float_bits

ctypedef fused number_t:
    int8_t
    int16_t
    int32_t
    int64_t
    uint8_t
    uint16_t
    uint32_t


cdef void _widen(const number_t *values, int64_t count, int64_t *out) noexcept nogil:
    cdef int64_t i
    for i in range(count):
        out[i] = values[i]


cdef void _floats(const column_t *c, int64_t first, int64_t count, int64_t *out) noexcept nogil:
    """Bits with one zero and one NaN."""
    cdef const uint64_t *doubles = <const uint64_t *> c.values + first
    cdef uint64_t wide
    cdef uint32_t bits
    cdef int64_t i
    if c.type.width == 8:
        for i in range(count):
            wide = doubles[i]
            if wide << 1 > <uint64_t> 0xffe0000000000000:
                wide = <uint64_t> 0x7ff8000000000000
            out[i] = 0 if wide << 1 == 0 else <int64_t> wide
        return
    for i in range(count):
        if c.type.width == 4:
            bits = (<const uint32_t *> c.values)[first + i]
        else:
            bits = half_to_float_bits((<const uint16_t *> c.values)[first + i])
        if bits << 1 > <uint32_t> 0xff000000:
            bits = 0x7fc00000
        out[i] = 0 if bits << 1 == 0 else bits


cdef void column_numbers(const column_t *c, int64_t start, int64_t count, int64_t *out) noexcept nogil:
    cdef int64_t first = c.offset + start, i
    cdef int width = c.type.width
    cdef bint unsigned = c.type.kind == KIND_UINT
    if c.type.kind == KIND_BOOL:
        for i in range(count):
            out[i] = bit_at(c.values, first + i)
    elif c.type.kind == KIND_FLOAT:
        _floats(c, first, count, out)
    elif c.type.kind == KIND_DECIMAL and width > 8:
        for i in range(count):
            memcpy(&out[i], c.values + (first + i) * width, 8)
    elif width == 1:
        if unsigned:
            _widen(<const uint8_t *> c.values + first, count, out)
        else:
            _widen(<const int8_t *> c.values + first, count, out)
    elif width == 2:
        if unsigned:
            _widen(<const uint16_t *> c.values + first, count, out)
        else:
            _widen(<const int16_t *> c.values + first, count, out)
    elif width == 4:
        if unsigned:
            _widen(<const uint32_t *> c.values + first, count, out)
        else:
            _widen(<const int32_t *> c.values + first, count, out)
    else:
        _widen(<const int64_t *> c.values + first, count, out)
