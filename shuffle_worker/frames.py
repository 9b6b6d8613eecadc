"""Reads the rows of frames: the other end of `_native.partition`. Zero-copy where the codec allows; no I/O.

A payload is an optional index of (partition, rows) and a complete Arrow IPC stream of one record batch: see
docs/protocol.md.
"""

import struct
from collections.abc import Iterator

import pyarrow as pa

from shuffle_worker._native.frame import CODECS, Frame
from shuffle_worker.errors import Corrupted

INDEX_ALIGN = 64
SNAPPY_RATIO = 64
"""Snappy's densest element makes 64 bytes out of 3: what claims more than this is corrupt, and is not allocated."""
SNAPPY: int = CODECS["Snappy"]
_ENTRY = struct.Struct("<II")


def decode_frame(frame: Frame) -> pa.RecordBatch:
    """The frame's rows, in the order of its index. Uncompressed columns are views into the frame and keep it alive.

    :raises Corrupted: the payload does not hold what the header says.
    """
    payload = pa.py_buffer(frame)
    stream = payload.slice(_index_bytes(frame, payload.size))
    try:
        with pa.ipc.open_stream(_plain(frame, stream)) as reader:
            batch = reader.read_next_batch()
    except (pa.ArrowException, StopIteration, OSError, ValueError) as error:
        raise Corrupted(f"{frame!r} does not hold an Arrow IPC stream of one batch: {error}") from error
    if batch.num_rows != frame.rows:
        raise Corrupted(f"{frame!r} holds a batch of {batch.num_rows} rows")
    return batch


def split_group(frame: Frame) -> list[tuple[int, pa.RecordBatch]]:
    """The frame's partitions, ascending, each with a slice of the batch; an ungrouped frame is its group's only one.

    :raises Corrupted: as `decode_frame`, or the index does not add up to the rows.
    """
    batch = decode_frame(frame)
    if not frame.grouped:
        return [(frame.group, batch)]
    parts, start = [], 0
    for partition, rows in _index(frame):
        parts.append((partition, batch.slice(start, rows)))
        start += rows
    if start != batch.num_rows:
        raise Corrupted(f"the index of {frame!r} counts {start} rows, its batch holds {batch.num_rows}")
    return parts


def _index(frame: Frame) -> Iterator[tuple[int, int]]:
    view = memoryview(frame)
    return _ENTRY.iter_unpack(view[: _ENTRY.size * frame.partitions])


def _index_bytes(frame: Frame, payload_bytes: int) -> int:
    if not frame.grouped:
        return 0
    entries: int = _ENTRY.size * frame.partitions
    size = -(-entries // INDEX_ALIGN) * INDEX_ALIGN
    if size > payload_bytes:
        raise Corrupted(f"{frame!r} is shorter than its index of {frame.partitions} partitions")
    return size


def _plain(frame: Frame, stream: pa.Buffer) -> pa.Buffer:
    """The IPC stream, once Snappy is undone; LZ4 and Zstd are Arrow's own business."""
    if frame.codec != SNAPPY:
        return stream
    if stream.size < 8:
        raise Corrupted(f"{frame!r} is shorter than the length of its Snappy block")
    (size,) = struct.unpack_from("<Q", stream)
    if not 0 < size <= SNAPPY_RATIO * stream.size:
        raise Corrupted(f"{frame!r} claims {size} bytes before compression")
    return pa.decompress(stream.slice(8), decompressed_size=size, codec="snappy")
