"""Format strings of the Arrow C Data Interface: https://arrow.apache.org/docs/format/CDataInterface.html. Pure."""
from libc.stdlib cimport strtol
from libc.string cimport memset, strcmp

cdef dict KIND_NAMES = {
    KIND_NESTED: "nested", KIND_NULL: "null", KIND_BOOL: "bool", KIND_INT: "int", KIND_UINT: "uint",
    KIND_FLOAT: "float", KIND_DECIMAL: "decimal", KIND_DATE_DAYS: "date32", KIND_DATE_MS: "date64", KIND_TIME: "time",
    KIND_TIMESTAMP: "timestamp", KIND_DURATION: "duration", KIND_INTERVAL: "interval", KIND_STRING: "string",
    KIND_BINARY: "binary", KIND_FIXED_BINARY: "fixed_size_binary",
}
cdef list UNITS = ["s", "ms", "us", "ns"]


cdef void _set(type_t *t, int kind, int layout, int32_t width) noexcept nogil:
    t.kind = kind
    t.layout = layout
    t.width = width


cdef int _unit(char c) noexcept nogil:
    if c == b's':
        return UNIT_S
    if c == b'm':
        return UNIT_MS
    return UNIT_US if c == b'u' else UNIT_NS


cdef void _parse_time(const char *f, type_t *t) noexcept nogil:
    """What follows the `t` of a format: tdD, tdm, tts, ..., tsu:zone, tDn, tiM."""
    if f[0] == b'd':
        if f[1] == b'D':
            _set(t, KIND_DATE_DAYS, LAYOUT_FIXED, 4)
        else:
            _set(t, KIND_DATE_MS, LAYOUT_FIXED, 8)
    elif f[0] == b'i':
        _set(t, KIND_INTERVAL, LAYOUT_FIXED, 4 if f[1] == b'M' else 8 if f[1] == b'D' else 16)
    else:
        t.unit = _unit(f[1])
        if f[0] == b't':
            _set(t, KIND_TIME, LAYOUT_FIXED, 4 if t.unit <= UNIT_MS else 8)
        elif f[0] == b'D':
            _set(t, KIND_DURATION, LAYOUT_FIXED, 8)
        else:
            _set(t, KIND_TIMESTAMP, LAYOUT_FIXED, 8)
            if f[2] == b':':
                t.zone = f + 3


cdef int _parse_decimal(const char *f, type_t *t) noexcept nogil:
    """What follows `d:`: precision,scale[,bits]."""
    cdef char *end
    cdef long bits = 128
    t.precision = <int32_t> strtol(f, &end, 10)
    if end[0] != b',':
        return -1
    t.scale = <int32_t> strtol(end + 1, &end, 10)
    if end[0] == b',':
        bits = strtol(end + 1, &end, 10)
    if bits not in (32, 64, 128, 256):
        return -1
    _set(t, KIND_DECIMAL, LAYOUT_FIXED, <int32_t> (bits // 8))
    return 0


cdef int parse_format(const char *f, type_t *t) noexcept nogil:
    """Fill `t` from a format string of the C Data Interface; -1 if it is none."""
    cdef long width
    memset(t, 0, sizeof(type_t))
    t.zone = b""
    if f[0] == b'+':
        _set(t, KIND_NESTED, LAYOUT_NESTED, 0)
    elif f[0] == b'n':
        _set(t, KIND_NULL, LAYOUT_NULL, 0)
    elif f[0] == b'b':
        _set(t, KIND_BOOL, LAYOUT_BITS, 0)
    elif f[0] == b'c' or f[0] == b's' or f[0] == b'i' or f[0] == b'l':
        _set(t, KIND_INT, LAYOUT_FIXED, 1 if f[0] == b'c' else 2 if f[0] == b's' else 4 if f[0] == b'i' else 8)
    elif f[0] == b'C' or f[0] == b'S' or f[0] == b'I' or f[0] == b'L':
        _set(t, KIND_UINT, LAYOUT_FIXED, 1 if f[0] == b'C' else 2 if f[0] == b'S' else 4 if f[0] == b'I' else 8)
    elif f[0] == b'e' or f[0] == b'f' or f[0] == b'g':
        _set(t, KIND_FLOAT, LAYOUT_FIXED, 2 if f[0] == b'e' else 4 if f[0] == b'f' else 8)
    elif f[0] == b'u':
        _set(t, KIND_STRING, LAYOUT_PLAIN, 0)
    elif f[0] == b'U':
        _set(t, KIND_STRING, LAYOUT_LARGE, 0)
    elif f[0] == b'z':
        _set(t, KIND_BINARY, LAYOUT_PLAIN, 0)
    elif f[0] == b'Z':
        _set(t, KIND_BINARY, LAYOUT_LARGE, 0)
    elif f[0] == b'v':
        _set(t, KIND_STRING if f[1] == b'u' else KIND_BINARY, LAYOUT_VIEW, 0)
    elif f[0] == b'w' and f[1] == b':':
        width = strtol(f + 2, NULL, 10)
        if width < 0 or width > 0x7fffffff:
            return -1
        _set(t, KIND_FIXED_BINARY, LAYOUT_FIXED, <int32_t> width)
    elif f[0] == b'd' and f[1] == b':':
        return _parse_decimal(f + 2, t)
    elif f[0] == b't' and f[1] != 0 and f[2] != 0:
        _parse_time(f + 1, t)
    else:
        return -1
    return 0


cdef bint same_type(const type_t *a, const type_t *b) noexcept nogil:
    """Whether values mean the same; strings and binaries may lie differently."""
    if a.kind != b.kind or a.precision != b.precision or a.scale != b.scale or a.unit != b.unit or a.width != b.width:
        return False
    return strcmp(a.zone, b.zone) == 0


cdef str text_of(const char *text):
    return "" if text == NULL else (<bytes> text).decode(errors="replace")


cdef str type_name(const type_t *t):
    name = KIND_NAMES[t.kind]
    if t.kind == KIND_DECIMAL:
        return f"{name}{8 * t.width}({t.precision}, {t.scale})"
    if t.kind in (KIND_TIME, KIND_TIMESTAMP, KIND_DURATION):
        zone = f", tz={text_of(t.zone)}" if t.zone[0] else ""
        return f"{name}[{UNITS[t.unit]}{zone}]"
    if t.kind == KIND_FIXED_BINARY:
        return f"{name}[{t.width}]"
    return f"{name}{8 * t.width}" if t.kind in (KIND_INT, KIND_UINT, KIND_FLOAT) else name
