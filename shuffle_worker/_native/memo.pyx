"""The dictionary of a column of few values: up to 256 of them, found by their bytes, shared by all groups of a
partitioner and copied into each frame. Needs no GIL.

When it is full its owner sends every staged row away and starts it anew, so that no frame needs more than 256.
"""
from libc.stdlib cimport free, realloc
from libc.string cimport memcmp, memcpy, memset

from shuffle_worker._native.arrow cimport KIND_BOOL, bit_at, code_at, string_at
from shuffle_worker._native.hashing cimport load_u32, load_u64

cdef int64_t MAX_BYTES = 1 << 30

cdef enum:
    UNSEEN = -1
    ABSENT = -2         # a null in the dictionary


cdef inline unsigned int _slot(const uint8_t *p, int64_t size) noexcept nogil:
    """Where to look for a value: of its ends and length, since it is compared anyway."""
    cdef unsigned long long a = 0, b = 0
    if size >= 8:
        a = load_u64(p)
        b = load_u64(p + size - 8)
    elif size >= 4:
        a = load_u32(p)
        b = load_u32(p + size - 4)
    elif size > 0:
        a = p[0] | (<unsigned long long> p[size >> 1] << 8) | (<unsigned long long> p[size - 1] << 16)
    a = (a + <unsigned long long> size) * <unsigned long long> 0x9E3779B185EBCA87
    a ^= b * <unsigned long long> 0xC2B2AE3D27D4EB4F
    a ^= a >> 29
    a *= <unsigned long long> 0x165667B19E3779F9
    return <unsigned int> (a >> 48) & (MEMO_SLOTS - 1)


cdef int _add(memo_t *memo, unsigned int slot, const uint8_t *p, int64_t size) noexcept nogil:
    cdef int64_t used = memo.offsets[memo.count], capacity
    cdef uint8_t *grown
    if memo.count == MEMO_VALUES or (memo.count and used + size > MAX_BYTES):
        return -MEMO_FULL
    if used + size > memo.bytes_capacity:
        capacity = max(<int64_t> 4096, 2 * (used + size))
        grown = <uint8_t *> realloc(memo.bytes, <size_t> capacity)
        if grown == NULL:
            return -MEMO_NO_MEMORY
        memo.bytes = grown
        memo.bytes_capacity = capacity
    if size:
        memcpy(memo.bytes + used, p, <size_t> size)
    memo.count += 1
    memo.offsets[memo.count] = used + size
    memo.slots[slot] = <uint16_t> memo.count
    return memo.count - 1


cdef inline int _find(memo_t *memo, const uint8_t *p, int64_t size) noexcept nogil:
    """The value's code, given one if need be; negative: -MEMO_FULL or -MEMO_NO_MEMORY."""
    cdef unsigned int slot = _slot(p, size)
    cdef int code
    while memo.slots[slot]:
        code = memo.slots[slot] - 1
        if memo.offsets[code + 1] - memo.offsets[code] == size:
            if size == 0 or memcmp(memo.bytes + memo.offsets[code], p, <size_t> size) == 0:
                return code
        slot = (slot + 1) & (MEMO_SLOTS - 1)
    return _add(memo, slot, p, size)


cdef inline int _find_row(memo_t *memo, const column_t *c, int64_t i) noexcept nogil:
    """The code of value `i` (counted from the buffer's start) of a plain column."""
    cdef const uint8_t *p
    cdef int64_t size
    cdef uint8_t bit
    if memo.width < 0:
        p = string_at(c, i, &size)
        return _find(memo, p, size)
    if c.type.kind == KIND_BOOL:
        bit = bit_at(c.values, i)
        return _find(memo, &bit, 1)
    return _find(memo, c.values + i * memo.width, memo.width)


cdef void memo_reset(memo_t *memo) noexcept nogil:
    memo.count = 0
    memo.offsets[0] = 0
    memset(memo.slots, 0, sizeof(memo.slots))
    if memo.known != NULL:
        memset(memo.known, 0xff, <size_t> memo.known_capacity * sizeof(int16_t))


cdef void memo_free(memo_t *memo) noexcept nogil:
    free(memo.bytes)
    free(memo.known)
    memset(memo, 0, sizeof(memo_t))


cdef int memo_begin(memo_t *memo, const column_t *c) noexcept nogil:
    cdef int16_t *grown
    if c.dictionary == NULL or c.dictionary.length == 0:
        return MEMO_OK
    if c.dictionary.length > memo.known_capacity:
        grown = <int16_t *> realloc(memo.known, <size_t> c.dictionary.length * sizeof(int16_t))
        if grown == NULL:
            return MEMO_NO_MEMORY
        memo.known = grown
        memo.known_capacity = c.dictionary.length
    memset(memo.known, 0xff, <size_t> c.dictionary.length * sizeof(int16_t))    # every one UNSEEN
    return MEMO_OK


cdef int _resolve(memo_t *memo, const column_t *d, int64_t index) noexcept nogil:
    """The memo's code of a dictionary's value that was not met before."""
    cdef int code = ABSENT
    if d.validity == NULL or bit_at(d.validity, d.offset + index):
        code = _find_row(memo, d, d.offset + index)
        if code < 0:
            return code - 2         # apart from ABSENT
    memo.known[index] = <int16_t> code
    return code


cdef int _recode(memo_t *memo, const column_t *c, int64_t start, int64_t count, uint8_t *codes,
                 uint8_t *valid) noexcept nogil:
    cdef int64_t i, index
    cdef int code
    for i in range(count):
        if not valid[i]:
            codes[i] = 0
            continue
        index = code_at(c, c.offset + start + i)
        code = memo.known[index]
        if code == UNSEEN:
            code = _resolve(memo, c.dictionary, index)
            if code < ABSENT:
                return -2 - code
        if code == ABSENT:
            valid[i] = 0
            code = 0
        codes[i] = <uint8_t> code
    return MEMO_OK


ctypedef fused code_t:
    uint8_t
    uint16_t
    int32_t
    int64_t


cdef bint _recode_known(const int16_t *known, const code_t *given, int64_t count, uint8_t *codes) noexcept nogil:
    """For rows without nulls, whose values were all met before: False if that turns out to be wrong."""
    cdef int64_t i
    cdef int16_t code, seen = 0
    for i in range(count):
        code = known[given[i]]
        seen |= code
        codes[i] = <uint8_t> code
    return seen >= 0


cdef bint _all_known(memo_t *memo, const column_t *c, int64_t start, int64_t count, uint8_t *codes) noexcept nogil:
    cdef const uint8_t *given = c.values + (c.offset + start) * c.code_width
    if c.validity != NULL:
        return False
    if c.code_width == 1:       # codes without nulls are within the dictionary: never negative
        return _recode_known(memo.known, given, count, codes)
    if c.code_width == 2:
        return _recode_known(memo.known, <const uint16_t *> given, count, codes)
    if c.code_width == 4:
        return c.code_signed and _recode_known(memo.known, <const int32_t *> given, count, codes)
    return _recode_known(memo.known, <const int64_t *> given, count, codes)


cdef int memo_codes(memo_t *memo, const column_t *c, int64_t start, int64_t count, uint8_t *codes,
                    uint8_t *valid) noexcept nogil:
    cdef int64_t i
    cdef int code
    if c.dictionary != NULL:
        if _all_known(memo, c, start, count, codes):
            return MEMO_OK
        return _recode(memo, c, start, count, codes, valid)
    for i in range(count):
        codes[i] = 0
        if valid[i]:
            code = _find_row(memo, c, c.offset + start + i)
            if code < 0:
                return -code
            codes[i] = <uint8_t> code
    return MEMO_OK
