"""Reading frames: what a payload must hold, and what is said of one that does not."""

import pyarrow as pa
import pytest

from shuffle_worker._native.buffer import BufferPool
from shuffle_worker._native.frame import CODECS, Frame
from shuffle_worker._native.partition import Partitioner
from shuffle_worker.errors import Corrupted
from shuffle_worker.frames import decode_frame, split_group
from shuffle_worker.partitioning import CodecName, Key, Partitioning, Staging

GROUPED = 0x10
BATCH = pa.record_batch({"k": range(1000), "s": ["some text that compresses well"] * 1000})


def frame_of(pool: BufferPool, codec: CodecName = "None", groups: int = 1, partitions: int = 1) -> Frame:
    way = Partitioning("Hash", partitions, groups, (Key("k"),))
    partitioner = Partitioner(BATCH.schema, way, Staging(codec=codec), pool)
    frame, *rest = [*partitioner.push(BATCH), *partitioner.flush()]
    assert not rest
    frame.seal()
    return frame


@pytest.mark.parametrize("codec", CODECS)
def test_a_frame_is_a_whole_arrow_stream(pool: BufferPool, codec: CodecName) -> None:
    frame = frame_of(pool, codec)
    assert frame.codec == CODECS[codec]
    assert decode_frame(frame).equals(BATCH)
    if codec == "None":
        assert pa.ipc.open_stream(pa.py_buffer(frame)).read_all().equals(pa.table(BATCH))
    else:
        assert len(frame) < BATCH.nbytes // 2


def test_uncompressed_columns_are_views_of_the_frame(pool: BufferPool) -> None:
    frame = frame_of(pool)
    address = pa.py_buffer(frame).address
    batch = decode_frame(frame)
    size = len(frame)
    del frame
    assert address <= batch["k"].buffers()[1].address < address + size
    assert batch["k"].buffers()[1].address % 64 == 0
    assert pool.live_count == 1
    del batch
    assert pool.live_count == 0


@pytest.mark.parametrize("codec", CODECS)
def test_a_group_splits_into_its_partitions(pool: BufferPool, codec: CodecName) -> None:
    frame = frame_of(pool, codec, 1, 10)
    parts = split_group(frame)
    assert [partition for partition, _ in parts] == list(range(10))
    assert frame.partitions == 10
    assert sum(part.num_rows for _, part in parts) == 1000
    assert all(part["k"].to_pylist() == sorted(part["k"].to_pylist()) for _, part in parts)  # in the order they came


def changed(frame: Frame, pool: BufferPool, payload: bytes, **header: int) -> Frame:
    given = {"rows": frame.rows, "partitions": frame.partitions, "flags": frame.flags, **header}
    return Frame.build(pool, payload, **given)


@pytest.mark.parametrize("codec", CODECS)
def test_every_cut_is_found(pool: BufferPool, codec: CodecName) -> None:
    frame = frame_of(pool, codec, 1, 3)
    payload = bytes(frame)
    for size in (0, 1, 23, 64, 70, 200, len(payload) // 2, len(payload) - 100):
        with pytest.raises(Corrupted, match="Frame"):
            split_group(changed(frame, pool, payload[:size]))


def test_lies_about_rows_are_found(pool: BufferPool) -> None:
    frame = frame_of(pool, "None", 1, 3)
    payload = bytearray(frame)
    with pytest.raises(Corrupted, match="holds a batch of 1000 rows"):
        decode_frame(changed(frame, pool, payload, rows=999))
    payload[4] ^= 1
    with pytest.raises(Corrupted, match=r"the index of .* counts"):
        split_group(changed(frame, pool, payload))
    with pytest.raises(Corrupted, match="shorter than its index of 1000000 partitions"):
        split_group(changed(frame, pool, payload, partitions=1_000_000))


def test_a_claim_of_endless_bytes_is_not_believed(pool: BufferPool) -> None:
    payload = (1 << 39).to_bytes(8, "little") + b"\x00" * 100
    with pytest.raises(Corrupted, match="claims 549755813888 bytes before compression"):
        decode_frame(Frame.build(pool, payload, rows=1, flags=CODECS["Snappy"]))
