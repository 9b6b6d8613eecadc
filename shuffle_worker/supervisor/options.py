"""What `shufflectl run` was told about the machine: how many workers, how much memory, which disks. Pure data."""

from dataclasses import dataclass
from pathlib import Path

DEFAULT_WORKERS = 2
DEFAULT_MEMORY_BYTES = 2 << 30


@dataclass(frozen=True)
class RunOptions:
    """The resources of one embedded job.

    `memory_bytes` is the total of all processes. No `spill_dirs`: the supervisor makes one in the machine's
    temporary folder.
    """

    workers: int = DEFAULT_WORKERS
    memory_bytes: int = DEFAULT_MEMORY_BYTES
    spill_dirs: tuple[Path, ...] = ()
