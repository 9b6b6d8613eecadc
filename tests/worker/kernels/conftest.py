"""Key columns of every type, with their hard values; what the tests of kernels share."""

import datetime as dt
from decimal import Decimal

import pyarrow as pa
import pytest

from shuffle_worker._native.buffer import BufferPool

TEXTS = ["", "a", "abc", "abcd", "abcde", "été", "日本語", "😀" * 9, "x" * 31, "y" * 32, "z" * 100, "\x00", None]
BLOBS = [b"", b"\x00", b"\xff", b"\x80\x7f", bytes(range(33)), b"\xff" * 17, None]
DAYS = [dt.date(1970, 1, 1), dt.date(1969, 12, 31), dt.date(2024, 2, 29), dt.date(1, 1, 1), dt.date(9999, 12, 31), None]
TIMES = [dt.time(0), dt.time(23, 59, 59, 999_000), dt.time(12, 34, 56), None]
MOMENTS = [
    dt.datetime(1970, 1, 1),
    dt.datetime(1969, 12, 31, 23, 59, 59, 999_000),
    dt.datetime(2024, 2, 29, 12, 34, 56, 789_000),
    dt.datetime(1700, 1, 1, 0, 0, 1),
    None,
]


def _whole(bits: int, signed: bool) -> list[int | None]:
    low, high = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if signed else (0, (1 << bits) - 1)
    return [0, 1, low, high, high // 3, low // 2, None]


def _decimals(precision: int, scale: int) -> list[Decimal | None]:
    top = 10**precision - 1
    unscaled = [0, 1, -1, 127, 128, -128, -129, 255, 256, top, -top]
    return [Decimal(f"{number}e-{scale}") for number in unscaled if abs(number) <= top] + [None]


FLOATS = [0.0, -0.0, float("nan"), float("inf"), float("-inf"), 1.5, -1.5, None]


@pytest.fixture(scope="session")
def keys() -> dict[str, pa.Array]:
    """Arrays by name, each ending in a null."""
    seconds = [moment if moment is None else moment.replace(microsecond=0) for moment in MOMENTS]
    clock = [time if time is None else time.replace(microsecond=0) for time in TIMES]
    nans = pa.array([0x7FF8000000000001, -0x7FFFFFFFFFFFF, 0x7FF0000000000001, None], pa.int64())
    return {
        **{f"int{bits}": pa.array(_whole(bits, True), f"int{bits}") for bits in (8, 16, 32, 64)},
        **{f"uint{bits}": pa.array(_whole(bits, False), f"uint{bits}") for bits in (8, 16, 32, 64)},
        "float16": pa.array([*FLOATS[:-1], 6e-8, 65504.0, 6.1e-5, None], pa.float16()),
        "float32": pa.array([*FLOATS[:-1], 1e-45, 3.4e38, None], pa.float32()),
        "float64": pa.array([*FLOATS[:-1], 5e-324, 1.7e308, None], pa.float64()),
        "nans": nans.view(pa.float64()),
        "bool": pa.array([True, False, None]),
        "decimal32": pa.array(_decimals(9, 2), pa.decimal32(9, 2)),
        "decimal64": pa.array(_decimals(18, 4), pa.decimal64(18, 4)),
        "decimal128_18": pa.array(_decimals(18, 0), pa.decimal128(18, 0)),
        "decimal128_19": pa.array(_decimals(19, 3), pa.decimal128(19, 3)),
        "decimal128_38": pa.array(_decimals(38, 10), pa.decimal128(38, 10)),
        "decimal256_15": pa.array(_decimals(15, 2), pa.decimal256(15, 2)),
        "decimal256_38": pa.array(_decimals(38, 0), pa.decimal256(38, 0)),
        "date32": pa.array(DAYS, pa.date32()),
        "date64": pa.array(DAYS, pa.date64()),
        "time32_s": pa.array(clock, pa.time32("s")),
        "time32_ms": pa.array(TIMES, pa.time32("ms")),
        "time64_us": pa.array(TIMES, pa.time64("us")),
        "time64_ns": pa.array(TIMES, pa.time64("ns")),
        "timestamp_s": pa.array(seconds, pa.timestamp("s")),
        "timestamp_ms": pa.array(MOMENTS, pa.timestamp("ms")),
        "timestamp_us": pa.array(MOMENTS, pa.timestamp("us")),
        "timestamp_ns": pa.array(MOMENTS, pa.timestamp("ns")),
        "timestamp_utc": pa.array(MOMENTS, pa.timestamp("us", "UTC")),
        "duration": pa.array([0, 1, -1, 1 << 40, None], pa.int64()).cast(pa.duration("us")),
        "string": pa.array(TEXTS),
        "large_string": pa.array(TEXTS, pa.large_string()),
        "string_view": pa.array(TEXTS, pa.string_view()),
        "binary": pa.array(BLOBS, pa.binary()),
        "large_binary": pa.array(BLOBS, pa.large_binary()),
        "binary_view": pa.array(BLOBS, pa.binary_view()),
        "fixed_binary": pa.array([b"abcde", b"\x00" * 5, b"\xff" * 5, None], pa.binary(5)),
        "dictionary": pa.array([*TEXTS, *TEXTS]).dictionary_encode(),
    }


@pytest.fixture
def pool() -> BufferPool:
    return BufferPool(32 << 20)
