"""Bytes as people and Kubernetes write them: `2Gi`, `500M`, `1048576`. Pure."""

import re

_UNITS = {
    "": 1,
    "k": 10**3,
    "M": 10**6,
    "G": 10**9,
    "T": 10**12,
    "Ki": 2**10,
    "Mi": 2**20,
    "Gi": 2**30,
    "Ti": 2**40,
}
_PATTERN = re.compile(r"(\d+(?:\.\d+)?)(Ki|Mi|Gi|Ti|k|M|G|T|)")


def parse_bytes(text: str) -> int:
    """Bytes of a Kubernetes quantity; ValueError says what a quantity looks like."""
    match = _PATTERN.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"expected a quantity such as 2Gi, 500M or 1048576, got {text!r}")
    return int(float(match[1]) * _UNITS[match[2]])


def format_bytes(count: float) -> str:
    """`1.2Gi`: the largest binary unit that leaves at least one, with one decimal below 100."""
    power = 0
    while abs(count) >= 1024 and power < 4:
        count /= 1024
        power += 1
    unit = ("", "Ki", "Mi", "Gi", "Ti")[power]
    return f"{count:.0f}{unit}" if power == 0 or abs(count) >= 99.95 else f"{count:.1f}{unit}"
