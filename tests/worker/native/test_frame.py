"""The frame header, its checks, the checksum, the pool."""

import os

import pytest

from shuffle_worker._native.buffer import BufferPool
from shuffle_worker._native.frame import Frame, FrameFault, Stream, crc32c_of, crc32c_portable_of


@pytest.fixture
def pool() -> BufferPool:
    return BufferPool(1 << 20)


def test_crc32c_is_castagnolis() -> None:
    # RFC 3720, B.4: 32 bytes of zeroes, of ones, ascending; and the usual check value.
    assert crc32c_of(b"123456789") == 0xE3069283
    assert crc32c_of(bytes(32)) == 0x8A9136AA
    assert crc32c_of(b"\xff" * 32) == 0x62A8AB43
    assert crc32c_of(bytes(range(32))) == 0x46DD794E


@pytest.mark.parametrize("size", [0, 1, 7, 8, 9, 255, 256, 767, 768, 769, 24575, 24576, 24577, 1 << 20])
def test_the_fast_crc_equals_the_tables_at_every_alignment(size: int) -> None:
    data = os.urandom(size + 8)
    for start in (0, 1, 7):
        piece = memoryview(data)[start : start + size]
        assert crc32c_of(piece) == crc32c_portable_of(piece)
        assert crc32c_of(piece[size // 2 :], crc32c_of(piece[: size // 2])) == crc32c_of(piece)


def test_a_frame_keeps_its_payload_and_says_what_it_is(pool: BufferPool) -> None:
    frame = Frame.build(pool, b"payload", shuffle=bytes(range(16)), map=3, epoch=2, attempt=9, group=5, rows=1)
    assert bytes(frame) == b"payload"
    assert (frame.map, frame.epoch, frame.attempt, frame.group, frame.rows) == (3, 2, 9, 5, 1)
    assert frame.verify() == FrameFault.FRAME_OK
    assert len(frame.header_bytes()) == 96


def test_a_changed_payload_is_found(pool: BufferPool) -> None:
    frame = Frame.build(pool, b"payload")
    other = frame.share()
    assert other.verify() == FrameFault.FRAME_OK
    frame.address(bytes(16), 1, 1, 1, 1, 1)  # the header changed and was not sealed again
    assert frame.verify() == FrameFault.FRAME_BAD_HEADER_CRC
    assert other.verify() == FrameFault.FRAME_OK


def test_a_stream_numbers_and_counts(pool: BufferPool) -> None:
    stream = Stream(bytes(16), 7, 1, 2, 3)
    frames = [Frame.build(pool, bytes([i]) * i, rows=i, value=2**64 - 1) for i in range(1, 4)]
    for frame in frames:
        stream.stamp(frame, 4)
    assert [frame.number for frame in frames] == [0, 1, 2]
    assert all(frame.verify() == 0 and frame.generation == 4 and frame.incarnation == 7 for frame in frames)
    assert (stream.frames, stream.rows, stream.payload_bytes) == (3, 6, 6)
    assert stream.crc_sum == sum(frame.payload_crc for frame in frames)
    assert stream.key_digest == (3 * (2**64 - 1)) % 2**64


def test_buffers_come_back_to_the_pool_and_to_the_system(pool: BufferPool) -> None:
    frames = [Frame.build(pool, bytes(10_000)) for _ in range(10)]
    assert pool.live_count == 10
    assert pool.live_bytes == 10 * 16384
    del frames
    assert (pool.live_count, pool.live_bytes, pool.kept_bytes) == (0, 0, 10 * 16384)
    pool.trim()
    assert pool.kept_bytes == 0


def test_a_view_keeps_the_frame_alive(pool: BufferPool) -> None:
    view = memoryview(Frame.build(pool, b"x" * 5000))
    assert pool.live_count == 1
    assert bytes(view) == b"x" * 5000
    del view
    assert pool.live_count == 0
