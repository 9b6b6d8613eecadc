"""A segment file read by itself: whole, cut off, damaged, and garbage."""

import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shuffle_worker._native.buffer import BufferPool
from shuffle_worker._native.frame import HEADER_BYTES, Frame
from shuffle_worker._native.segment import read_segment
from shuffle_worker.errors import Corrupted, InputError

POOL = BufferPool(1 << 20)
SIZES = [0, 1, 64, 5000, 300]


def build_segment() -> bytes:
    parts = []
    for number, size in enumerate(SIZES):
        payload = random.Random(number).randbytes(size)
        frame = Frame.build(POOL, payload, number=number, group=number, rows=size, incarnation=0xFEED)
        parts += [frame.header_bytes(), payload]
    return b"".join(parts)


SEGMENT = build_segment()
STARTS = [sum(SIZES[:n]) + HEADER_BYTES * n for n in range(len(SIZES) + 1)]


def read(path: Path, data: bytes, **limits: Any) -> list[Frame]:
    path.write_bytes(data)
    return list(read_segment(str(path), POOL, **limits))


def test_frames_come_in_order(tmp_path: Path) -> None:
    frames = read(tmp_path / "a.seg", SEGMENT)
    assert [(frame.number, len(frame)) for frame in frames] == list(enumerate(SIZES))
    assert all(frame.verify() == 0 for frame in frames)
    assert read(tmp_path / "a.seg", b"") == []


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cut=st.integers(0, len(SEGMENT) - 1))
def test_cut_off_file_gives_whole_frames_and_an_error(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "a.seg"
    path.write_bytes(SEGMENT[:cut])
    whole = sum(start <= cut for start in STARTS[1:])
    reader = read_segment(str(path), POOL)
    for number in range(whole):
        assert next(reader).number == number
    if cut in STARTS:
        assert next(reader, None) is None
    else:
        with pytest.raises(Corrupted, match=f"{path} at offset {STARTS[whole]}"):
            next(reader)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.integers(0, len(SEGMENT) - 1), bit=st.integers(0, 7))
def test_every_flipped_bit_is_seen(tmp_path: Path, place: int, bit: int) -> None:
    damaged = bytearray(SEGMENT)
    damaged[place] ^= 1 << bit
    at = max(start for start in STARTS if start <= place)
    with pytest.raises(Corrupted, match=f"at offset {at}:"):
        read(tmp_path / "a.seg", bytes(damaged))


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(garbage=st.binary(min_size=1, max_size=400), kept=st.sampled_from([0, *STARTS]))
def test_garbage_never_passes_and_leaves_nothing(tmp_path: Path, garbage: bytes, kept: int) -> None:
    before = POOL.live_bytes
    with pytest.raises(Corrupted):
        read(tmp_path / "a.seg", SEGMENT[:kept] + garbage + SEGMENT[kept:])
    assert POOL.live_bytes == before


def test_length_beyond_the_file_or_the_limit_allocates_nothing(tmp_path: Path) -> None:
    large = Frame.build(POOL, bytes(100_000), number=0)
    with pytest.raises(Corrupted, match="at offset 0"):
        read(tmp_path / "a.seg", large.header_bytes() + bytes(99_999))
    with pytest.raises(Corrupted, match="at offset 0"):
        read(tmp_path / "a.seg", large.header_bytes() + bytes(100_000), max_frame_bytes=99_999)
    assert len(read(tmp_path / "a.seg", large.header_bytes() + bytes(100_000))) == 1


def test_unreadable_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"missing\.seg: No such file"):
        next(read_segment(str(tmp_path / "missing.seg"), POOL))
