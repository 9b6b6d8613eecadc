"""Takes Arrow data of any producer through the PyCapsule interface and checks what the kernels rely on.

Checked: lengths, buffer counts, alignment, offsets that ascend, views and dictionary codes within bounds. The interface
does not say how long plain buffers are: a producer that lies about those cannot be found out. No copies, no conversion.
"""
from cpython.pycapsule cimport PyCapsule_GetPointer
from libc.stdint cimport uintptr_t
from libc.stdlib cimport calloc, free
from libc.string cimport memset, strcmp

from shuffle_worker._native.formats cimport parse_format, text_of

from shuffle_worker.errors import InputError, InternalError, UserError

cdef enum:
    SOUND = 0
    BAD_LENGTH = 1
    BAD_BUFFERS = 2
    BAD_ALIGNMENT = 3
    BAD_OFFSETS = 4
    BAD_VIEW = 5
    BAD_CODE = 6
    BAD_CHILDREN = 7

cdef int64_t MAX_LENGTH = <int64_t> 1 << 48
cdef int64_t MAX_DICTIONARY = (<int64_t> 1 << 32) - 1

cdef dict FAULTS = {
    BAD_LENGTH: "its length, offset or null count is not possible",
    BAD_BUFFERS: "buffers are missing",
    BAD_ALIGNMENT: "a buffer is not aligned to its values' size: copy the batch first",
    BAD_OFFSETS: "its offsets do not ascend",
    BAD_VIEW: "a view reaches outside its buffers",
    BAD_CODE: "a code is outside its dictionary",
    BAD_CHILDREN: "its children do not match its type",
}


# ---- schemas

cdef class SchemaHold:

    def __dealloc__(self):
        free(self.types)
        if self.schema.release != NULL:
            self.schema.release(&self.schema)

    cdef int _parse(self) except -1:
        cdef ArrowSchema *child
        cdef int i
        if self.schema.format == NULL or strcmp(self.schema.format, b"+s") != 0:
            raise UserError(f"a batch of columns is wanted, not an array of Arrow format "
                            f"{text_of(self.schema.format)!r}")
        if self.schema.n_children < 0 or self.schema.n_children > 1 << 20:
            raise UserError(f"a schema of {self.schema.n_children} columns is not possible")
        self.columns = <int> self.schema.n_children
        self.types = <type_t *> calloc(max(1, self.columns), sizeof(type_t))
        if self.types == NULL:
            raise MemoryError(f"no memory for a schema of {self.columns} columns")
        self.names = []
        for i in range(self.columns):
            child = self.schema.children[i]
            self.names.append(text_of(child.name))
            self._parse_column(child, i)
        return 0

    cdef int _parse_column(self, ArrowSchema *child, int i) except -1:
        cdef type_t codes
        cdef ArrowSchema *holder = child if child.dictionary == NULL else child.dictionary
        if holder.format == NULL or parse_format(holder.format, &self.types[i]) != 0:
            raise UserError(f"column {self.names[i]!r} has the Arrow format {text_of(holder.format)!r}, "
                            "which is not known here")
        if child.dictionary == NULL:
            return 0
        if parse_format(child.format, &codes) != 0 or (codes.kind != KIND_INT and codes.kind != KIND_UINT):
            raise UserError(f"column {self.names[i]!r} has dictionary codes that are no integers")
        if holder.dictionary != NULL:       # a dictionary of dictionaries
            memset(&self.types[i], 0, sizeof(type_t))
            self.types[i].zone = b""
        return 0


cdef SchemaHold schema_of(object schema):
    """The columns' types of anything with `__arrow_c_schema__`."""
    cdef SchemaHold hold = SchemaHold.__new__(SchemaHold)
    capsule = schema.__arrow_c_schema__()
    cdef ArrowSchema *given = <ArrowSchema *> PyCapsule_GetPointer(capsule, "arrow_schema")
    hold.schema = given[0]
    given.release = NULL
    hold._parse()
    return hold


cdef int column_index(SchemaHold hold, object name) except -1:
    try:
        return hold.names.index(name)
    except ValueError:
        raise UserError(f"there is no column {name!r}; the columns are {', '.join(hold.names)}") from None


# ---- columns

cdef int64_t _count_set(const uint8_t *bits, int64_t offset, int64_t length) noexcept nogil:
    cdef int64_t i = offset, end = offset + length, count = 0
    while i < end and i & 7:
        count += bit_at(bits, i)
        i += 1
    while i + 8 <= end:
        count += __builtin_popcount(bits[i >> 3])
        i += 8
    while i < end:
        count += bit_at(bits, i)
        i += 1
    return count


cdef extern from *:
    int __builtin_popcount(unsigned int x) noexcept nogil


ctypedef fused offset_t:
    int32_t
    int64_t


cdef int _check_offsets(const offset_t *offsets, int64_t length, int64_t *end) noexcept nogil:
    cdef int64_t i
    cdef offset_t wrong = 0
    for i in range(length):
        wrong |= offsets[i + 1] < offsets[i]
    if wrong or offsets[0] < 0:
        return BAD_OFFSETS
    end[0] = offsets[length]
    return SOUND


cdef int _check_views(const column_t *c) noexcept nogil:
    cdef const int32_t *view
    cdef int64_t i
    for i in range(c.offset, c.offset + c.length):
        view = <const int32_t *> (c.values + 16 * i)
        if 0 <= view[0] <= 12:
            continue
        if c.validity != NULL and not bit_at(c.validity, i):
            continue
        if view[0] < 0 or view[2] < 0 or view[2] >= c.n_buffers or view[3] < 0:
            return BAD_VIEW
        if <int64_t> view[3] + view[0] > c.buffer_bytes[view[2]]:
            return BAD_VIEW
    return SOUND


ctypedef fused code_t:
    int8_t
    uint8_t
    int16_t
    uint16_t
    int32_t
    uint32_t
    int64_t


cdef bint _codes_within(const code_t *codes, int64_t length, uint64_t limit) noexcept nogil:
    cdef int64_t i
    cdef uint64_t top = 0
    for i in range(length):
        top = max(top, <uint64_t> <int64_t> codes[i])
    return top < limit


cdef int _check_codes(const column_t *c) noexcept nogil:
    cdef uint64_t limit = <uint64_t> c.dictionary.length
    cdef const uint8_t *codes = c.values + c.offset * c.code_width
    cdef int64_t i
    cdef bint within
    if c.length == 0:
        return SOUND
    if c.code_width == 1:
        within = (_codes_within(<const int8_t *> codes, c.length, limit) if c.code_signed
                  else _codes_within(<const uint8_t *> codes, c.length, limit))
    elif c.code_width == 2:
        within = (_codes_within(<const int16_t *> codes, c.length, limit) if c.code_signed
                  else _codes_within(<const uint16_t *> codes, c.length, limit))
    elif c.code_width == 4:
        within = (_codes_within(<const int32_t *> codes, c.length, limit) if c.code_signed
                  else _codes_within(<const uint32_t *> codes, c.length, limit))
    else:
        within = _codes_within(<const int64_t *> codes, c.length, limit)
    if within:
        return SOUND
    if c.validity == NULL:
        return BAD_CODE
    for i in range(c.offset, c.offset + c.length):
        if bit_at(c.validity, i) and <uint64_t> code_at(c, i) >= limit:
            return BAD_CODE
    return SOUND


cdef int _buffers_of(int layout) noexcept nogil:
    if layout == LAYOUT_NULL:
        return 0
    return 3 if layout == LAYOUT_PLAIN or layout == LAYOUT_LARGE else 2


cdef int _open_values(column_t *c, const ArrowArray *array) noexcept nogil:
    """Buffers and their checks, of a column that is not a dictionary's codes."""
    cdef int layout = c.type.layout
    cdef int32_t align
    if layout == LAYOUT_NULL:
        return SOUND
    if array.n_buffers < _buffers_of(layout) or (layout != LAYOUT_VIEW and array.n_buffers != _buffers_of(layout)):
        return BAD_BUFFERS
    c.values = <const uint8_t *> array.buffers[1]
    if c.length == 0:
        return SOUND
    if c.values == NULL and not (layout == LAYOUT_FIXED and c.type.width == 0):
        return BAD_BUFFERS
    if layout == LAYOUT_FIXED and c.type.kind != KIND_FIXED_BINARY:
        align = c.type.width if c.type.width < 8 else 8
    else:
        align = 8 if layout == LAYOUT_LARGE or layout == LAYOUT_VIEW else 4 if layout == LAYOUT_PLAIN else 1
    if <uintptr_t> c.values % <uintptr_t> align:
        return BAD_ALIGNMENT
    if layout == LAYOUT_PLAIN or layout == LAYOUT_LARGE:
        c.bytes = <const uint8_t *> array.buffers[2]
        if layout == LAYOUT_PLAIN:
            if _check_offsets(<const int32_t *> c.values + c.offset, c.length, &c.bytes_end) != SOUND:
                return BAD_OFFSETS
        elif _check_offsets(<const int64_t *> c.values + c.offset, c.length, &c.bytes_end) != SOUND:
            return BAD_OFFSETS
        return BAD_BUFFERS if c.bytes == NULL and c.bytes_end > 0 else SOUND
    if layout == LAYOUT_VIEW:
        c.n_buffers = array.n_buffers - 3
        if c.n_buffers < 0 or (c.n_buffers > 0 and array.buffers[array.n_buffers - 1] == NULL):
            return BAD_BUFFERS
        c.buffers = <const uint8_t **> (array.buffers + 2)
        c.buffer_bytes = <const int64_t *> array.buffers[array.n_buffers - 1]
        return _check_views(c)
    return SOUND


cdef int _open_column(column_t *c, const type_t *type, const ArrowSchema *schema, const ArrowArray *array,
                      int64_t start, int64_t rows) noexcept nogil:
    """Rows [start, start + rows) of `array` as a column; `c.dictionary` is ready where the schema has one."""
    cdef type_t codes
    memset(<void *> &c.type, 0, sizeof(type_t))
    c.type = type[0]
    if array.length < 0 or array.offset < 0 or array.length > MAX_LENGTH or array.offset > MAX_LENGTH:
        return BAD_LENGTH
    if start + rows > array.length or array.null_count < -1 or array.null_count > array.length:
        return BAD_LENGTH
    c.length = rows
    c.offset = array.offset + start
    if type.layout == LAYOUT_NESTED:
        return SOUND
    if type.layout != LAYOUT_NULL or schema.dictionary != NULL:
        if array.n_buffers < 2 or array.buffers == NULL:
            return BAD_BUFFERS
        if array.null_count != 0:
            c.validity = <const uint8_t *> array.buffers[0]
        if c.validity != NULL and _count_set(c.validity, c.offset, rows) == rows:
            c.validity = NULL
    if schema.dictionary == NULL:
        return _open_values(c, array)
    if array.n_buffers != 2 or parse_format(schema.format, &codes) != 0:
        return BAD_BUFFERS
    c.code_width = codes.width
    c.code_signed = codes.kind == KIND_INT
    c.values = <const uint8_t *> array.buffers[1]
    if rows and c.values == NULL:
        return BAD_BUFFERS
    if <uintptr_t> c.values % <uintptr_t> codes.width:
        return BAD_ALIGNMENT
    if c.dictionary.length > MAX_DICTIONARY:
        return BAD_LENGTH
    return _check_codes(c)


cdef int open_leaf(column_t *c, column_t *values, const ArrowSchema *schema, const ArrowArray *array, int64_t start,
                   int64_t rows) except -1:
    cdef const ArrowSchema *holder = schema if schema.dictionary == NULL else schema.dictionary
    cdef type_t type
    cdef int fault = SOUND
    if (schema.dictionary == NULL) != (array.dictionary == NULL):
        fault = BAD_CHILDREN
    elif holder.format == NULL or parse_format(holder.format, &type) != 0 or type.layout == LAYOUT_NESTED:
        raise UserError(f"values of the Arrow format {text_of(holder.format)!r} in a nested column are not known here")
    memset(<void *> c, 0, sizeof(column_t))
    if fault == SOUND and schema.dictionary != NULL:
        memset(<void *> values, 0, sizeof(column_t))
        fault = _open_column(values, &type, schema.dictionary, array.dictionary, 0, array.dictionary.length)
        c.dictionary = values
    if fault == SOUND:
        fault = _open_column(c, &type, schema, array, start, rows)
    if fault != SOUND:
        raise InputError(f"{text_of(schema.name)!r} within a nested column is not sound Arrow data: {FAULTS[fault]}")
    return 0


# ---- batches

cdef class Batch:

    def __dealloc__(self):
        cdef int i
        if self.columns != NULL:
            for i in range(self.hold.columns):
                free(self.columns[i].dictionary)
            free(self.columns)
        if self.array.release != NULL:
            self.array.release(&self.array)

    cdef int _open(self) except -1:
        cdef ArrowArray *top = &self.array
        cdef int i
        if top.length < 0 or top.offset < 0 or top.length > MAX_LENGTH or top.offset > MAX_LENGTH:
            raise UserError(f"a batch of {top.length} rows from row {top.offset} on is not possible")
        if top.n_children != self.hold.columns:
            raise UserError(f"a batch has {top.n_children} columns, its schema {self.hold.columns}")
        if top.null_count != 0 and top.n_buffers and top.buffers[0] != NULL:
            if _count_set(<const uint8_t *> top.buffers[0], top.offset, top.length) != top.length:
                raise UserError("a batch has rows that are null as a whole: only its columns may be null")
        self.rows = top.length
        self.columns = <column_t *> calloc(max(1, self.hold.columns), sizeof(column_t))
        if self.columns == NULL:
            raise MemoryError(f"no memory for a batch of {self.hold.columns} columns")
        for i in range(self.hold.columns):
            self._open_one(i)
        return 0

    cdef int _open_one(self, int i) except -1:
        cdef ArrowSchema *schema = self.hold.schema.children[i]
        cdef ArrowArray *array = self.array.children[i]
        cdef column_t *c = &self.columns[i]
        cdef int fault = SOUND
        if (schema.dictionary == NULL) != (array.dictionary == NULL):
            fault = BAD_CHILDREN
        elif schema.dictionary != NULL and self.hold.types[i].layout != LAYOUT_NESTED:
            c.dictionary = <column_t *> calloc(1, sizeof(column_t))
            if c.dictionary == NULL:
                raise MemoryError("no memory for a dictionary's column")
            with nogil:
                fault = _open_column(c.dictionary, &self.hold.types[i], schema.dictionary, array.dictionary, 0,
                                     array.dictionary.length)
        if fault == SOUND:
            with nogil:
                fault = _open_column(c, &self.hold.types[i], schema, array, self.array.offset, self.rows)
        if fault != SOUND:
            raise InputError(f"column {self.hold.names[i]!r} of a batch is not sound Arrow data: {FAULTS[fault]}")
        return 0


cdef Batch _batch(SchemaHold hold, ArrowArray *given):
    """A Batch that takes `given` over."""
    cdef Batch batch = Batch.__new__(Batch)
    batch.array = given[0]
    given.release = NULL
    batch.hold = hold
    batch._open()
    return batch


def _of_array(source):
    cdef SchemaHold hold = SchemaHold.__new__(SchemaHold)
    schema_capsule, array_capsule = source.__arrow_c_array__()
    cdef ArrowSchema *schema = <ArrowSchema *> PyCapsule_GetPointer(schema_capsule, "arrow_schema")
    hold.schema = schema[0]
    schema.release = NULL
    hold._parse()
    return _batch(hold, <ArrowArray *> PyCapsule_GetPointer(array_capsule, "arrow_array"))


def _of_stream(source):
    capsule = source.__arrow_c_stream__()
    cdef ArrowArrayStream *stream = <ArrowArrayStream *> PyCapsule_GetPointer(capsule, "arrow_array_stream")
    cdef SchemaHold hold = SchemaHold.__new__(SchemaHold)
    cdef ArrowArray array
    if stream.release == NULL:
        raise InternalError("a released Arrow stream was given")
    if stream.get_schema(stream, &hold.schema) != 0:
        raise InputError(f"an Arrow stream gave no schema: {_last_error(stream)}")
    hold._parse()
    while True:
        memset(&array, 0, sizeof(ArrowArray))
        if stream.get_next(stream, &array) != 0:
            raise InputError(f"an Arrow stream failed: {_last_error(stream)}")
        if array.release == NULL:
            return
        yield _batch(hold, &array)


cdef str _last_error(ArrowArrayStream *stream):
    cdef const char *text = stream.get_last_error(stream)
    return "no reason given" if text == NULL else text_of(text)


cdef object batches_of(object source):
    if hasattr(source, "__arrow_c_array__"):
        return iter((_of_array(source),))
    if hasattr(source, "__arrow_c_stream__"):
        return _of_stream(source)
    raise UserError(f"{type(source).__name__} is not Arrow data: it has no __arrow_c_array__ or __arrow_c_stream__")


cdef Batch batch_of(object source):
    if not hasattr(source, "__arrow_c_array__"):
        raise UserError(f"one record batch is wanted, not a {type(source).__name__}")
    return _of_array(source)
