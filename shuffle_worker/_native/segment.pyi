"""Types of segment.pyx: spilled frames in files."""

from collections.abc import Iterator

from shuffle_worker._native.buffer import BufferPool
from shuffle_worker._native.frame import Frame

def read_segment(path: str, pool: BufferPool, max_frame_bytes: int = ...) -> Iterator[Frame]:
    """Every frame of a segment file, in order, as it would come from the wire.

    :raises Corrupted: names the file, the offset and what is wrong there.
    """
