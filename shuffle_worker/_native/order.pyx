"""Range partitioning: how many boundaries a row is not before. A row equal to a boundary goes right of it.

Order: numbers by value, -0.0 equal to 0.0, NaN after every other number, strings and binaries by their bytes (UTF-8
keeps the order of code points), false before true; nulls first or last as each key says, whether it descends or not.
"""
from libc.stdint cimport int32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcmp

from shuffle_worker._native.arrow cimport (
    KIND_BINARY, KIND_DECIMAL, KIND_FIXED_BINARY, KIND_FLOAT, KIND_INTERVAL, KIND_NESTED, KIND_NULL, KIND_STRING,
    KIND_UINT, batch_of, bit_at, code_at, string_at, type_name, type_t,
)
from shuffle_worker._native.numbers cimport column_numbers

from shuffle_worker.errors import UserError


# ---- values

cdef int _form(const type_t *t) noexcept nogil:
    if t.kind == KIND_STRING or t.kind == KIND_BINARY or t.kind == KIND_FIXED_BINARY:
        return FORM_BYTES
    return FORM_WIDE if t.kind == KIND_DECIMAL and t.precision > 18 else FORM_NUMBER


cdef void _orderly(const type_t *t, bint descending, int64_t *values, int64_t count) noexcept nogil:
    """Make int64 order of the bits' order, and turn it round where keys descend."""
    cdef uint64_t top = <uint64_t> 1 << 63
    cdef int64_t i
    if t.kind == KIND_FLOAT:
        for i in range(count):
            if t.width < 8:
                values[i] = <int32_t> values[i]
            if values[i] < 0:
                values[i] ^= <int64_t> (top - 1) if t.width == 8 else 0x7fffffff
    elif t.kind == KIND_UINT and t.width == 8:
        for i in range(count):
            values[i] = <int64_t> (<uint64_t> values[i] ^ top)
    if descending:
        for i in range(count):
            values[i] = ~values[i]


cdef void _numbers(const column_t *c, const place_t *place, int64_t start, int64_t count, int64_t *out) noexcept nogil:
    cdef int64_t i
    if c.type.kind == KIND_NULL:
        return
    if c.dictionary == NULL:
        column_numbers(c, start, count, out)
    else:
        for i in range(count):
            out[i] = 0
            if _valid(c, start + i):
                column_numbers(c.dictionary, code_at(c, c.offset + start + i), 1, &out[i])
    _orderly(&c.type, place.descending, out, count)


cdef inline bint _valid(const column_t *c, int64_t row) noexcept nogil:
    cdef int64_t i = c.offset + row
    if c.type.kind == KIND_NULL:
        return False
    if c.validity != NULL and not bit_at(c.validity, i):
        return False
    if c.dictionary == NULL or c.dictionary.validity == NULL:
        return True
    return bit_at(c.dictionary.validity, c.dictionary.offset + code_at(c, i))


cdef inline const uint8_t *_bytes(const column_t *c, int64_t row, int64_t *size) noexcept nogil:
    cdef const column_t *d = c
    cdef int64_t i = c.offset + row
    if c.dictionary != NULL:
        i = c.dictionary.offset + code_at(c, i)
        d = c.dictionary
    if d.type.kind == KIND_STRING or d.type.kind == KIND_BINARY:
        return string_at(d, i, size)
    size[0] = d.type.width
    return d.values + i * d.type.width


# ---- comparisons

cdef int _compare_wide(const uint8_t *a, const uint8_t *b, int64_t width) noexcept nogil:
    cdef int64_t i
    cdef int left, right
    for i in range(width - 1, -1, -1):
        left = a[i] ^ (0x80 if i == width - 1 else 0)
        right = b[i] ^ (0x80 if i == width - 1 else 0)
        if left != right:
            return 1 if left > right else -1
    return 0


cdef int _compare_bytes(const uint8_t *a, int64_t a_size, const uint8_t *b, int64_t b_size) noexcept nogil:
    cdef int64_t common = min(a_size, b_size)
    cdef int order = 0
    if common:
        order = memcmp(a, b, <size_t> common)
    if order == 0:
        return (a_size > b_size) - (a_size < b_size)
    return 1 if order > 0 else -1


cdef int _compare_values(const place_t *place, const column_t *a, int64_t row, const column_t *b,
                         int64_t other) noexcept nogil:
    """Of keys that are not numbers and not null, turned round where the key descends."""
    cdef int64_t a_size, b_size
    cdef const uint8_t *p = _bytes(a, row, &a_size)
    cdef const uint8_t *q = _bytes(b, other, &b_size)
    cdef int order = _compare_wide(p, q, a_size) if place.form == FORM_WIDE else _compare_bytes(p, a_size, q, b_size)
    return -order if place.descending else order


cdef class Boundaries:

    def __dealloc__(self):
        cdef int k
        if self.places != NULL:
            for k in range(self.keys):
                free(self.places[k].numbers)
        free(self.places)

    cdef int partition(self, Batch rows, int64_t start, int64_t count, uint32_t *out) noexcept nogil:
        cdef int64_t *numbers = <int64_t *> malloc(<size_t> self.keys * ORDER_BLOCK * sizeof(int64_t))
        cdef int64_t done = 0, block
        cdef int k
        if numbers == NULL:
            return -1
        while done < count:
            block = min(<int64_t> ORDER_BLOCK, count - done)
            for k in range(self.keys):
                if self.places[k].form == FORM_NUMBER:
                    _numbers(&rows.columns[self.places[k].index], &self.places[k], start + done, block,
                             numbers + k * ORDER_BLOCK)
            if self.simple:
                _search_numbers(self, &rows.columns[self.places[0].index], start + done, block, numbers, out + done)
            else:
                _search(self, rows, start + done, block, numbers, out + done)
            done += block
        free(numbers)
        return 0

    cdef int _check_order(self) except -1:
        cdef int64_t i, number
        cdef int k, order
        for i in range(1, self.count):
            for k in range(self.keys):
                number = self.places[k].numbers[i] if self.places[k].form == FORM_NUMBER else 0
                order = _compare_key(self, k, &self.batch.columns[k], i, number, i - 1)
                if order < 0:
                    raise UserError(f"range boundaries are out of order: number {i + 1} comes before number {i}")
                if order > 0:
                    break
        return 0


cdef int _compare_key(Boundaries self, int k, const column_t *c, int64_t row, int64_t number,
                      int64_t boundary) noexcept nogil:
    """Key `k` of a row (whose number, if it is one, is given) against a boundary's."""
    cdef const place_t *place = &self.places[k]
    cdef const column_t *b = &self.batch.columns[k]
    cdef bint here = _valid(c, row)
    cdef bint there = _valid(b, boundary)
    if not here or not there:
        if here == there:
            return 0
        return 1 if here == place.nulls_first else -1
    if place.form == FORM_NUMBER:
        return (number > place.numbers[boundary]) - (number < place.numbers[boundary])
    return _compare_values(place, c, row, b, boundary)


cdef void _search_numbers(Boundaries self, const column_t *c, int64_t start, int64_t count, const int64_t *values,
                          uint32_t *out) noexcept nogil:
    """One key, numbers, no boundary null: the search has no branches that depend on data."""
    cdef const int64_t *boundaries = self.places[0].numbers
    cdef uint32_t null_place = 0 if self.places[0].nulls_first else <uint32_t> self.count
    cdef bint nullable = c.validity != NULL or (c.dictionary != NULL and c.dictionary.validity != NULL)
    cdef const int64_t *low
    cdef int64_t i, length, half
    for i in range(count):
        low = boundaries
        length = self.count
        while length > 0:
            half = (length + 1) // 2
            low += half if low[half - 1] <= values[i] else 0
            length -= half
        out[i] = <uint32_t> (low - boundaries)
    if nullable:
        for i in range(count):
            if not _valid(c, start + i):
                out[i] = null_place


cdef void _search(Boundaries self, Batch rows, int64_t start, int64_t count, const int64_t *numbers,
                  uint32_t *out) noexcept nogil:
    cdef int64_t i, low, high, middle
    cdef int k, order
    for i in range(count):
        low = 0
        high = self.count
        while low < high:
            middle = (low + high) // 2
            order = 0
            for k in range(self.keys):
                order = _compare_key(self, k, &rows.columns[self.places[k].index], start + i,
                                     numbers[k * ORDER_BLOCK + i], middle)
                if order != 0:
                    break
            if order >= 0:
                low = middle + 1
            else:
                high = middle
        out[i] = <uint32_t> low


cdef Boundaries boundaries_of(object boundaries, object keys, list columns):
    """:raises UserError: a type that has no order, or boundaries that are not in it."""
    cdef Boundaries self = Boundaries.__new__(Boundaries)
    cdef Batch batch = batch_of(boundaries)
    cdef const type_t *type
    cdef bint nulls = False
    cdef int64_t row
    cdef int k
    self.batch = batch
    self.count = batch.rows
    self.places = <place_t *> calloc(max(1, len(keys)), sizeof(place_t))
    if self.places == NULL:
        raise MemoryError("no memory for range boundaries")
    self.keys = len(keys)
    for k in range(self.keys):
        type = &batch.hold.types[k]
        if type.kind in (KIND_NESTED, KIND_INTERVAL):
            raise UserError(f"column {keys[k].name!r} of type {type_name(type)} cannot be a Range key: it has no order")
        self.places[k].index = columns[k]
        self.places[k].form = _form(type)
        self.places[k].descending = keys[k].descending
        self.places[k].nulls_first = keys[k].nulls_first
        self.places[k].numbers = <int64_t *> calloc(<size_t> self.count + 1, sizeof(int64_t))
        if self.places[k].numbers == NULL:
            raise MemoryError("no memory for range boundaries")
        if self.places[k].form == FORM_NUMBER:
            _numbers(&batch.columns[k], &self.places[k], 0, self.count, self.places[k].numbers)
        for row in range(self.count):
            nulls = nulls or not _valid(&batch.columns[k], row)
    self.simple = self.keys == 1 and self.places[0].form == FORM_NUMBER and not nulls
    self._check_order()
    return self
