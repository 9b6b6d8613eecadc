"""Figures as people read them. Pure."""

from collections.abc import Sequence

_BARS = "▁▂▃▄▅▆▇█"


def format_rows(count: float) -> str:
    """`6.00 M`; below ten thousand, all digits."""
    for power, unit in ((9, "G"), (6, "M"), (3, "k")):
        if count >= max(10_000, 10**power):
            return f"{count / 10**power:.2f} {unit}"
    return f"{count:.0f}"


def format_rate(rows_per_second: float) -> str:
    return f"{rows_per_second / 1e6:.2f} Mrow/s"


def format_seconds(seconds: float) -> str:
    """`3.21 s`, `2 min 05 s`, `1 h 02 min`."""
    if seconds < 120:
        return f"{seconds:.2f} s" if seconds < 10 else f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02} s" if minutes < 120 else f"{minutes // 60} h {minutes % 60:02} min"


def histogram(rows: Sequence[int]) -> str:
    """One bar for each number, the largest at full height; a space stands for zero."""
    largest = max(rows, default=0)
    return "".join(_BARS[max(0, -(-count * len(_BARS) // largest) - 1)] if count else " " for count in rows)
