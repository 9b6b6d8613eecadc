"""What a member counts of its shuffles, as plain values, and the counters behind them."""

import threading
from dataclasses import dataclass

import msgspec


class ShuffleStats(msgspec.Struct, frozen=True, rename="camel"):
    """One shuffle as one member sees it. Bytes are of frames, after compression."""

    id: str
    type: str = ""
    partitions: int = 0
    sealed: bool = False
    partitions_held: int = 0
    """Owned by this member."""
    sends: int = 0
    """Commits made from here: sends and writers."""
    rows_sent: int = 0
    bytes_sent: int = 0
    rows_held: int = 0
    """Committed and readable here."""
    bytes_held: int = 0
    frames_held: int = 0
    rows_received: int = 0
    """Handed to readers here, again for each time they were read."""
    bytes_received: int = 0


class ServiceStats(msgspec.Struct, frozen=True, rename="camel"):
    """All shuffles that this member knows, and their sum."""

    shuffles: dict[str, ShuffleStats]
    total: ShuffleStats
    memory_used_bytes: int
    memory_limit_bytes: int
    spilled_bytes: int
    """On disk now."""
    spilled_bytes_total: int
    """Ever written to disk."""
    wire_bytes_out: int
    wire_bytes_in: int


SUMMED = (
    "partitions", "partitions_held", "sends", "rows_sent", "bytes_sent", "rows_held", "bytes_held", "frames_held",
    "rows_received", "bytes_received",
)  # fmt: skip


def total_of(shuffles: list[ShuffleStats]) -> ShuffleStats:
    return ShuffleStats(id="", **{name: sum(getattr(each, name) for each in shuffles) for name in SUMMED})


@dataclass
class Moved:
    """What one shuffle moved through this member."""

    sends: int = 0
    rows_sent: int = 0
    bytes_sent: int = 0
    rows_received: int = 0
    bytes_received: int = 0


class Counters:
    """Counts by shuffle id. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._moved: dict[str, Moved] = {}

    def add_sent(self, shuffle_id: str, rows: int, size: int) -> None:
        with self._lock:
            moved = self._moved.setdefault(shuffle_id, Moved())
            moved.sends += 1
            moved.rows_sent += rows
            moved.bytes_sent += size

    def add_received(self, shuffle_id: str, rows: int, size: int) -> None:
        with self._lock:
            moved = self._moved.setdefault(shuffle_id, Moved())
            moved.rows_received += rows
            moved.bytes_received += size

    def moved(self, shuffle_id: str) -> Moved:
        with self._lock:
            return self._moved.get(shuffle_id, Moved())

    def ids(self) -> list[str]:
        with self._lock:
            return list(self._moved)

    def forget(self, shuffle_id: str) -> None:
        with self._lock:
            self._moved.pop(shuffle_id, None)
