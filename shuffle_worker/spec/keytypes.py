"""The names of types that a key can be cast to (`keys[].as`), as Arrow writes them. Pure; no Arrow."""

import re

_SIMPLE = (
    *("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    *("float32", "float64", "bool", "string", "large_string", "binary", "large_binary", "date32", "date64"),
)
_TIMED = tuple(
    f"{name}[{unit}]"
    for name, units in (("timestamp", ("s", "ms", "us", "ns")), ("time32", ("s", "ms")), ("time64", ("us", "ns")))
    for unit in units
)
TIMESTAMP = re.compile(r"timestamp\[(s|ms|us|ns)(?:, *(?:tz=)?([A-Za-z0-9_+\-:/]+))?\]")
DECIMAL = re.compile(r"decimal(32|64|128|256)\( *(\d{1,2}) *, *(\d{1,2}) *\)")
_DIGITS = {"32": 9, "64": 18, "128": 38, "256": 76}


def is_key_type(name: str) -> bool:
    """Whether a key may be cast to it."""
    decimal = DECIMAL.fullmatch(name)
    if decimal:
        precision, scale = int(decimal[2]), int(decimal[3])
        return 1 <= precision <= _DIGITS[decimal[1]] and scale <= precision
    return name in _SIMPLE or name in _TIMED or TIMESTAMP.fullmatch(name) is not None


def known_key_types() -> tuple[str, ...]:
    """Names to suggest."""
    return (*_SIMPLE, *_TIMED, "decimal128(38, 10)")
