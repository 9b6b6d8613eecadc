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
    if DECIMAL.fullmatch(name):
        return not decimal_fault(name)
    return name in _SIMPLE or name in _TIMED or TIMESTAMP.fullmatch(name) is not None


def decimal_fault(name: str) -> str:
    """What is wrong with a decimal's digits, as a remedy; empty for none, and for what is no decimal."""
    match = DECIMAL.fullmatch(name)
    if match is None:
        return ""
    most, precision, scale = _DIGITS[match[1]], int(match[2]), int(match[3])
    if not 1 <= precision <= most:
        return f"a decimal{match[1]} has 1 to {most} digits, not {precision}"
    return f"of {precision} digits, {scale} cannot be after the point" if scale > precision else ""


def known_key_types() -> tuple[str, ...]:
    """Names to suggest."""
    return (*_SIMPLE, *_TIMED, "decimal128(38, 10)")
