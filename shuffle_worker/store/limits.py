"""What a store may use. Frozen values, resolved once by the caller; no I/O."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class StoreLimits:
    """Of one process's store."""

    segment_bytes: int = 128 << 20
    """A segment file is closed at about this size, and deleted when all its frames are dead."""
    batch_bytes: int = 8 << 20
    """Written to one segment in one go."""
    disk_reserve_bytes: int = 1 << 30
    """A spill directory counts as full with less than this free."""
    memory_disks: Literal["refuse", "account"] = "refuse"
    """A spill directory on tmpfs: refuse it, or count what is in it as memory."""
    tombstones: int = 65_536
    """Discarded streams remembered for each shuffle, and closed shuffles remembered in all."""
    full_grace_s: float = 5.0
    """With every disk full, a waiter fails after this long in which no memory was freed."""


@dataclass(frozen=True, slots=True)
class ShuffleLimits:
    """Of one shuffle."""

    ready_rows: int = 1
    """A group that is not sealed is ready for the sink at this many rows."""
