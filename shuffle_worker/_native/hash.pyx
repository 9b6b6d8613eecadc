"""Row hashes that other systems agree with, over one or more key columns. No staging, no I/O.

XxHash64 and SparkMurmur3 are Spark's `xxhash64` and `hash`: seed 42, each column's hash seeds the next column's, a null
leaves the hash as it is, -0.0 is 0.0 and all NaNs are one; the partition is the signed hash, floor-mod N. Iceberg is
the bucket transform over one column: murmur3_x86_32, (hash & 0x7fffffff) mod N, and null goes to partition 0.

What is hashed, chosen so that Spark reading the same Parquet file agrees:

    bool, int8-32, uint8, uint16, date32    int32
    int64, uint32                           int64
    uint64                                  as decimal(20, 0): Spark's type for it
    float16, float32                        the bits of a float32
    float64                                 its bits
    decimal, precision <= 18                the unscaled value as int64
    decimal, larger                         the unscaled value's shortest big-endian two's complement
    date64                                  days (rounded down) as int32
    timestamp                               microseconds (rounded down) as int64, whatever the unit: Parquet has no s,
                                            and Spark has micros only
    time                                    nanoseconds as int64
    duration                                the number itself as int64: Parquet keeps no unit
    strings, binaries, fixed-size binaries  their bytes

Iceberg hashes all integers and dates as int64, times and timestamps as microseconds, decimals as bytes; it has no
bucket for bool, floats, durations and uint64. Dictionaries are hashed by value; extension types as their storage.
"""
from libc.stdint cimport int32_t, uint8_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize

import pyarrow as pa

from shuffle_worker._native.arrow cimport (
    KIND_BINARY, KIND_BOOL, KIND_DATE_MS, KIND_DECIMAL, KIND_DURATION, KIND_FIXED_BINARY, KIND_FLOAT,
    KIND_INT, KIND_INTERVAL, KIND_NESTED, KIND_NULL, KIND_STRING, KIND_TIME, KIND_TIMESTAMP, KIND_UINT,
    UNIT_NS, UNIT_US, batch_of, bit_at, code_at, column_index, schema_of, string_at, type_name,
)
from shuffle_worker._native.hashing cimport (
    floor_mod, murmur_bytes, murmur_spark_bytes, murmur_u32, murmur_u64, shortest_big_endian,
    xxh64_bytes, xxh64_u32, xxh64_u64,
)
from shuffle_worker._native.numbers cimport column_numbers

from shuffle_worker.errors import UserError

# The form in which values of a type are hashed.
cdef enum:
    FORM_NONE = 0
    FORM_INT32 = 1
    FORM_INT64 = 2
    FORM_BYTES = 3

cdef uint64_t SPARK_SEED = 42
cdef dict FUNCTIONS = {"XxHash64": XXHASH64, "SparkMurmur3": SPARK_MURMUR3, "Iceberg": ICEBERG}
cdef int64_t MS_PER_DAY = 86_400_000


# ---- one form for each type

cdef int _form(const type_t *t, int function) noexcept nogil:
    cdef int kind = t.kind
    if kind == KIND_STRING or kind == KIND_BINARY or kind == KIND_FIXED_BINARY:
        return FORM_BYTES
    if kind == KIND_DECIMAL:
        return FORM_INT64 if t.precision <= 18 and function != ICEBERG else FORM_BYTES
    if kind == KIND_UINT and t.width == 8:
        return FORM_BYTES
    if kind == KIND_TIME or kind == KIND_TIMESTAMP or kind == KIND_DURATION or function == ICEBERG:
        return FORM_INT64
    if kind == KIND_FLOAT or kind == KIND_INT:
        return FORM_INT64 if t.width == 8 else FORM_INT32
    if kind == KIND_UINT:
        return FORM_INT64 if t.width == 4 else FORM_INT32
    return FORM_INT32


cdef inline int64_t _floor_div(int64_t a, int64_t b) noexcept nogil:
    cdef int64_t q = a // b
    return q - (q * b > a)


cdef void _scale(int64_t *values, int64_t count, int64_t times, int64_t per) noexcept nogil:
    """Multiply (wrapping) or divide (rounding down) in place."""
    cdef int64_t i
    if times > 1:
        for i in range(count):
            values[i] = <int64_t> (<uint64_t> values[i] * <uint64_t> times)
    elif per > 1:
        for i in range(count):
            values[i] = _floor_div(values[i], per)


cdef void _to_unit(const type_t *t, int64_t *values, int64_t count, int unit) noexcept nogil:
    cdef int64_t factor = 1
    cdef int _step
    for _step in range(abs(t.unit - unit)):
        factor *= 1000
    if t.unit < unit:
        _scale(values, count, factor, 1)
    else:
        _scale(values, count, 1, factor)


cdef void _numbers(const column_t *c, int64_t start, int64_t count, int function, int64_t *out) noexcept nogil:
    """Values of rows [start, start + count) in the form FORM_INT32 or FORM_INT64."""
    column_numbers(c, start, count, out)
    if c.type.kind == KIND_DATE_MS:
        _scale(out, count, 1, MS_PER_DAY)
    elif c.type.kind == KIND_TIMESTAMP:
        _to_unit(&c.type, out, count, UNIT_US)
    elif c.type.kind == KIND_TIME:
        _to_unit(&c.type, out, count, UNIT_US if function == ICEBERG else UNIT_NS)


cdef inline const uint8_t *_bytes(const column_t *c, int64_t row, uint8_t *scratch, int64_t *size) noexcept nogil:
    """The bytes of a row that are hashed; numbers are written to `scratch` (33 bytes)."""
    cdef int64_t i = c.offset + row
    cdef uint8_t little[33]
    if c.type.kind == KIND_STRING or c.type.kind == KIND_BINARY:
        return string_at(c, i, size)
    if c.type.kind == KIND_FIXED_BINARY:
        size[0] = c.type.width
        return c.values + i * c.type.width
    memcpy(little, c.values + i * c.type.width, c.type.width)
    if c.type.kind == KIND_UINT:
        little[8] = 0
        size[0] = shortest_big_endian(little, 9, scratch)
    else:
        size[0] = shortest_big_endian(little, c.type.width, scratch)
    return scratch


# ---- hashing

cdef inline uint64_t _hash_number(int function, int form, int64_t value, uint64_t seed) noexcept nogil:
    if function == XXHASH64:
        return xxh64_u64(<uint64_t> value, seed) if form == FORM_INT64 else xxh64_u32(<uint32_t> value, seed)
    if form == FORM_INT64:
        return murmur_u64(<uint64_t> value, <uint32_t> seed)
    return murmur_u32(<uint32_t> value, <uint32_t> seed)


cdef inline uint64_t _hash_bytes(int function, const uint8_t *p, int64_t size, uint64_t seed) noexcept nogil:
    if function == XXHASH64:
        return xxh64_bytes(p, size, seed)
    if function == SPARK_MURMUR3:
        return murmur_spark_bytes(p, size, <uint32_t> seed)
    return murmur_bytes(p, size, <uint32_t> seed)


cdef void _hash_numbers(const column_t *c, int64_t start, int64_t count, int function, int form,
                        uint64_t *hashes) noexcept nogil:
    cdef int64_t values[HASH_BLOCK]
    cdef int64_t done = 0, block, i
    while done < count:
        block = min(<int64_t> HASH_BLOCK, count - done)
        _numbers(c, start + done, block, function, values)
        if c.validity != NULL:
            for i in range(block):
                if bit_at(c.validity, c.offset + start + done + i):
                    hashes[done + i] = _hash_number(function, form, values[i], hashes[done + i])
        elif function == XXHASH64 and form == FORM_INT64:
            for i in range(block):
                hashes[done + i] = xxh64_u64(<uint64_t> values[i], hashes[done + i])
        else:
            for i in range(block):
                hashes[done + i] = _hash_number(function, form, values[i], hashes[done + i])
        done += block


cdef void _hash_strings(const column_t *c, int64_t start, int64_t count, int function,
                        uint64_t *hashes) noexcept nogil:
    cdef uint8_t scratch[33]
    cdef const uint8_t *p
    cdef int64_t size, i
    for i in range(count):
        if c.validity == NULL or bit_at(c.validity, c.offset + start + i):
            p = _bytes(c, start + i, scratch, &size)
            hashes[i] = _hash_bytes(function, p, size, hashes[i])


cdef void _hash_plain(int function, const column_t *c, int64_t start, int64_t count,
                      uint64_t *hashes) noexcept nogil:
    cdef int form
    if c.type.kind == KIND_NULL:
        return
    form = _form(&c.type, function)
    if form == FORM_BYTES:
        _hash_strings(c, start, count, function, hashes)
    else:
        _hash_numbers(c, start, count, function, form, hashes)


cdef void _hash_coded(int function, const column_t *c, int64_t start, int64_t count, uint64_t *hashes,
                      bint same_seed) noexcept nogil:
    """By value; each value once where all rows have one seed and the values are few."""
    cdef const column_t *d = c.dictionary
    cdef uint64_t *once = NULL
    cdef int64_t i, row
    if same_seed and 0 < d.length <= count // 2:
        once = <uint64_t *> malloc(<size_t> d.length * sizeof(uint64_t))
    if once != NULL:
        for i in range(d.length):
            once[i] = hashes[0]
        _hash_plain(function, d, 0, d.length, once)
    for i in range(count):
        row = c.offset + start + i
        if c.validity != NULL and not bit_at(c.validity, row):
            continue
        if once != NULL:
            hashes[i] = once[code_at(c, row)]
        else:
            _hash_plain(function, d, code_at(c, row), 1, &hashes[i])
    free(once)


cdef void hash_column(int function, const column_t *c, int64_t start, int64_t count, uint64_t *hashes,
                      bint same_seed) noexcept nogil:
    if c.dictionary != NULL:
        _hash_coded(function, c, start, count, hashes, same_seed)
    else:
        _hash_plain(function, c, start, count, hashes)


# ---- which types

cdef str hash_fault(const type_t *t, int function):
    if t.kind == KIND_NESTED:
        return "nested values have no hash that other systems agree with"
    if t.kind == KIND_INTERVAL:
        return "intervals cannot be hashed"
    if function != ICEBERG:
        return ""
    if t.kind in (KIND_BOOL, KIND_FLOAT, KIND_DURATION) or (t.kind == KIND_UINT and t.width == 8):
        return f"Iceberg has no bucket transform of {type_name(t)}"
    return ""


cdef int function_number(str name) except -1:
    if name not in FUNCTIONS:
        raise UserError(f"there is no hash function {name!r}; there are {', '.join(FUNCTIONS)}")
    return FUNCTIONS[name]


cdef class KeyHasher:

    def __dealloc__(self):
        free(self.index)

    cdef void hash(self, Batch batch, int64_t start, int64_t count, uint64_t *hashes) noexcept nogil:
        cdef uint64_t seed = 0 if self.function == ICEBERG else SPARK_SEED
        cdef int64_t i
        cdef int k
        for i in range(count):
            hashes[i] = seed
        for k in range(self.columns):
            hash_column(self.function, &batch.columns[self.index[k]], start, count, hashes, k == 0)
        if self.function != XXHASH64:
            for i in range(count):
                hashes[i] = <uint64_t> <int64_t> <int32_t> <uint32_t> hashes[i]

    cdef void partition(self, const uint64_t *hashes, int64_t count, int64_t partitions, uint32_t *out) noexcept nogil:
        cdef int64_t mask = 0x7fffffff if self.function == ICEBERG else -1
        cdef int64_t i
        if partitions & (partitions - 1) == 0:
            for i in range(count):
                out[i] = <uint32_t> (<int64_t> hashes[i] & mask & (partitions - 1))
        else:
            for i in range(count):
                out[i] = floor_mod(<int64_t> hashes[i] & mask, partitions)


cdef KeyHasher key_hasher(SchemaHold hold, object names, int function):
    """Of no keys too: all rows then have one hash.

    :raises UserError: a key is missing, or of a type that cannot be hashed.
    """
    cdef KeyHasher hasher = KeyHasher.__new__(KeyHasher)
    cdef int k
    if function == ICEBERG and len(names) != 1:
        raise UserError(f"Iceberg's bucket transform takes one key, not {len(names)} ({', '.join(names)}): "
                        "use XxHash64 for several")
    hasher.function = function
    hasher.columns = len(names)
    hasher.index = <int *> calloc(max(1, hasher.columns), sizeof(int))
    if hasher.index == NULL:
        raise MemoryError("no memory for keys")
    for k in range(hasher.columns):
        hasher.index[k] = column_index(hold, names[k])
        fault = hash_fault(&hold.types[hasher.index[k]], function)
        if fault:
            raise UserError(f"column {names[k]!r} of type {type_name(&hold.types[hasher.index[k]])} cannot be a key: "
                            f"{fault}")
    return hasher


# ---- for callers in Python

def key_batch(batch, keys):
    """The batch to hash and the names of its keys: with casts, a batch of the cast columns alone.

    `keys`: names, or objects with `name` and `cast`.
    """
    names = [key if isinstance(key, str) else key.name for key in keys]
    casts = [None if isinstance(key, str) else key.cast for key in keys]
    if not any(cast is not None for cast in casts):
        return batch, names
    rows = pa.record_batch(batch)
    columns = []
    for name, cast in zip(names, casts):
        if name not in rows.schema.names:
            raise UserError(f"there is no column {name!r}; the columns are {', '.join(rows.schema.names)}")
        column = rows.column(name)
        try:
            columns.append(column if cast is None else column.cast(cast))
        except pa.ArrowException as error:
            raise UserError(f"key {name!r} of type {column.type} cannot be cast to {cast}: {error}") from error
    names = [f"{i}" for i in range(len(names))]
    return pa.record_batch(columns, names=names), names


cdef object _array_of(bytes data, object type, int64_t rows):
    return pa.Array.from_buffers(type, rows, [None, pa.py_buffer(data)])


cdef KeyHasher _open(object batch, object keys, str function, list opened):
    source, names = key_batch(batch, keys)
    if not names:
        raise UserError("at least one key is needed")
    cdef Batch rows = batch_of(source)
    opened.append(rows)
    return key_hasher(rows.hold, names, function_number(function))


def hash_rows(batch, keys, str function not None="XxHash64"):
    """One hash for each row: int64 for XxHash64, int32 for the others (Iceberg: 0 for null)."""
    opened = []
    cdef KeyHasher hasher = _open(batch, keys, function, opened)
    cdef Batch rows = opened[0]
    out = PyBytes_FromStringAndSize(NULL, 8 * rows.rows)
    cdef uint64_t *hashes = <uint64_t *> PyBytes_AS_STRING(out)
    with nogil:
        hasher.hash(rows, 0, rows.rows, hashes)
    wide = _array_of(out, pa.int64(), rows.rows)
    return wide if hasher.function == XXHASH64 else wide.cast(pa.int32())


def partition_ids(batch, keys, int64_t partitions, str function not None="XxHash64"):
    """uint32: the partition of each row of a Hash shuffle."""
    opened = []
    cdef KeyHasher hasher = _open(batch, keys, function, opened)
    cdef Batch rows = opened[0]
    cdef uint64_t *hashes = <uint64_t *> malloc(max(1, rows.rows) * sizeof(uint64_t))
    if not 1 <= partitions <= 65536:
        free(hashes)
        raise UserError(f"partitions must be 1 to 65,536, not {partitions}")
    if hashes == NULL:
        raise MemoryError(f"no memory to hash {rows.rows} rows")
    out = PyBytes_FromStringAndSize(NULL, 4 * rows.rows)
    cdef uint32_t *ids = <uint32_t *> PyBytes_AS_STRING(out)
    with nogil:
        hasher.hash(rows, 0, rows.rows, hashes)
        hasher.partition(hashes, rows.rows, partitions, ids)
    free(hashes)
    return _array_of(out, pa.uint32(), rows.rows)


def hashable(type, str function not None="XxHash64"):
    """Empty if a key may have this type, else the reason why not."""
    cdef SchemaHold hold = schema_of(pa.schema([pa.field("key", type)]))
    return hash_fault(&hold.types[0], function_number(function))
