"""A plan is the same bytes on every member, and says so when it is not one."""

import msgspec
import pytest

from shuffle_worker.errors import Corrupted
from shuffle_worker.plan import FileIdentity, KeyColumn, Plan, Split, plan_digest

PLAN = Plan(
    uid=bytes(range(16)),
    manifest=b"{}",
    schema=b"schema",
    splits=tuple(Split("/a/b.parquet", FileIdentity(10, 20, "30"), n, n, 5, 100, 5 * n) for n in range(3)),
    partitions=8,
    groups=4,
    keys=(KeyColumn("k", "int64", "string", nulls_first=True),),
    function="XxHash64",
    dictionary_columns=("flag",),
    boundaries=b"",
    slice_rows=0,
    seed=7,
    codec="LZ4",
    nonce="n",
)


def test_a_plan_comes_back() -> None:
    body = PLAN.encode()
    assert Plan.decode(body) == PLAN
    assert Plan.decode(body).encode() == body
    assert PLAN.rows == 15


def test_the_digest_tells_one_plan_from_another() -> None:
    digests = {plan_digest(PLAN.encode())}
    digests.add(plan_digest(Plan.decode(PLAN.encode()).encode()))
    assert len(digests) == 1
    digests.add(plan_digest(msgspec.structs.replace(PLAN, seed=8).encode()))
    assert len(digests) == 2
    assert {len(digest) for digest in digests} == {16}


@pytest.mark.parametrize("body", [b"", b"\x00", PLAN.encode()[:-1], b"\x93\x01\x02\x03"])
def test_other_bytes_are_refused(body: bytes) -> None:
    with pytest.raises(Corrupted, match=rf"a plan of {len(body)} bytes cannot be read"):
        Plan.decode(body)
