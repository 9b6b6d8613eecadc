"""How a job is cut to fit: groups, staging, splits, from the memory there is and what the metadata says. Pure.

staging      an eighth of a worker's budget, divided among its map threads
uncommitted  a quarter: what attempts that have not won may hold; splits are cut so
groups       as many as partitions while each can be staged and written as it comes; else as many as can be
             staged, up to 512: a group is held whole when it is written
"""

from dataclasses import dataclass

from shuffle_worker.service.node import STAGING_SHARE

UNCOMMITTED_SHARE = 4
LEAST_STAGE_BYTES = 64 << 10
MOST_STREAMING_GROUPS = 1024
MOST_GROUPS = 512
SPLITS_FOR_A_THREAD = 8
# A group that is written at the end: its frames, in buffers up to twice their size, and a sorted copy.
AT_SEAL_FACTOR = 3.5


@dataclass(frozen=True)
class Room:
    """What one worker has, and how many there are. `slots`: map attempts at once on one worker."""

    budget_bytes: int
    workers: int
    map_threads: int
    slots: int


@dataclass(frozen=True)
class Sizes:
    groups: int
    staging_bytes: int
    """Of one map thread."""
    split_bytes: int
    least_splits: int


def size_job(room: Room, partitions: int) -> Sizes:
    """The sizes of a job of so many partitions."""
    staging_bytes = room.budget_bytes // STAGING_SHARE // room.map_threads
    stageable = max(1, staging_bytes // LEAST_STAGE_BYTES)
    if partitions <= min(stageable, MOST_STREAMING_GROUPS):
        groups = partitions
    else:
        groups = min(partitions, stageable, MOST_GROUPS)
    return Sizes(
        groups=groups,
        staging_bytes=staging_bytes,
        split_bytes=max(1 << 20, room.budget_bytes // UNCOMMITTED_SHARE // room.slots),
        least_splits=SPLITS_FOR_A_THREAD * room.map_threads * room.workers,
    )
