"""Messages survive their encoding, and bytes from outside raise Corrupted and nothing else."""

import random

import msgspec
import pytest

from shuffle_worker import errors
from shuffle_worker.cluster.members import Member, Membership
from shuffle_worker.protocol import messages
from shuffle_worker.protocol.messages import Message, decode_message, encode_message
from shuffle_worker.protocol.values import (
    Attempt,
    EndKind,
    Fault,
    Placement,
    Plan,
    Split,
    Staged,
    StreamCounts,
    StreamReport,
    Timers,
)

U64 = (1 << 64) - 1
HEAD = (b"0123456789abcdef", 3, U64, 1)
ATTEMPT = Attempt(3, 7)
SPLIT = Split(10, U64, b"\xff" * 16, 80)
STAGED = Staged(1, 196608, 10, U64, b"", 99, b"\x00record")
FAULT = Fault("DiskFull", "disk full on /spill/0", 5)
PLACEMENT = Placement(196608, b"plan", (U64, 0), (196608, 65536), (STAGED,), (SPLIT,), 2)
MEMBERSHIP = Membership(4, (Member("worker-0", U64, "127.0.0.1", 7000),))
EXAMPLES: list[Message] = [
    messages.Join(*HEAD, MEMBERSHIP, Timers()),
    messages.FetchPlan(*HEAD, b"plan"),
    messages.StorePlan(*HEAD, Plan(b"plan", (1, -1), 2, 1, True, b"body"), False),
    messages.Place(*HEAD, MEMBERSHIP, PLACEMENT),
    messages.Run(*HEAD, 5, ATTEMPT, 196608, (65536, 196608)),
    messages.Decided(*HEAD, 5, ATTEMPT, True),
    messages.Winner(*HEAD, 5, ATTEMPT, (65536,)),
    messages.Discard(*HEAD, 5, ATTEMPT),
    messages.Seal(*HEAD, 65536),
    messages.StagedSeen(*HEAD, 1, 65536),
    messages.GroupsLostSeen(*HEAD, 65536, (1, 2)),
    messages.End(*HEAD, EndKind.ABORTED, FAULT),
    messages.Strike(*HEAD),
    messages.Ping(*HEAD),
    messages.Joined(
        *HEAD, b"plan", 2, PLACEMENT, (StreamReport(5, ATTEMPT, (65536,), True, SPLIT, 10, 80),), (STAGED,), None, None
    ),
    messages.Superseded(*HEAD, 4, U64),
    messages.PlanCopy(*HEAD, None),
    messages.Planned(*HEAD, b"plan", FAULT),
    messages.Placed(*HEAD, 196608),
    messages.Running(*HEAD, 5, ATTEMPT),
    messages.Progress(*HEAD, 5, ATTEMPT, 1000),
    messages.MapPrepared(*HEAD, 5, ATTEMPT, SPLIT, 10, 80),
    messages.MapFailed(*HEAD, 5, ATTEMPT, FAULT),
    messages.Won(*HEAD, 5, ATTEMPT),
    messages.Discarded(*HEAD, 5, ATTEMPT),
    messages.Sealing(*HEAD, 65536),
    messages.GroupStagedMsg(*HEAD, STAGED),
    messages.GroupsLost(*HEAD, 65536, (1, 2), FAULT),
    messages.Ended(*HEAD),
    messages.PeerReport(*HEAD, 9, True),
    messages.Leaving(*HEAD, "SIGTERM"),
    messages.Fin(*HEAD, 5, ATTEMPT, 196608, (65536,), StreamCounts(3, 10, 80, U64, U64), SPLIT),
    messages.Prepared(*HEAD, 5, ATTEMPT),
    messages.Waiting(*HEAD, 5, ATTEMPT),
    messages.FinRefused(*HEAD, 5, ATTEMPT, FAULT),
]


@pytest.mark.parametrize("message", EXAMPLES, ids=lambda message: type(message).__name__)
def test_round_trip(message: Message) -> None:
    assert decode_message(encode_message(message)) == message


def test_every_kind_has_an_example_and_one_direction() -> None:
    kinds = [*messages.FROM_COORDINATOR, *messages.FROM_MEMBER, *messages.FROM_PEER]
    assert len(kinds) == len(set(kinds))
    assert {type(message) for message in EXAMPLES} == set(kinds)


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\xff",
        b"\x91" * 100_000,
        msgspec.msgpack.encode(["Ping", b"short", 1, 2, 3]),
        msgspec.msgpack.encode(["NoSuchMessage", b"0123456789abcdef", 1, 2, 3]),
        msgspec.msgpack.encode(["Ping", b"0123456789abcdef", "1", 2, 3]),
        msgspec.msgpack.encode({"type": "Ping"}),
    ],
)
def test_what_is_no_message_is_corrupted(payload: bytes) -> None:
    with pytest.raises(errors.Corrupted):
        decode_message(payload)


def test_flipped_and_truncated_bytes_raise_nothing_else() -> None:
    rng = random.Random(1)
    for message in EXAMPLES:
        payload = encode_message(message)
        for _ in range(200):
            broken = bytearray(payload[: rng.randrange(len(payload) + 1)])
            if broken:
                broken[rng.randrange(len(broken))] ^= 1 << rng.randrange(8)
            try:
                decode_message(bytes(broken))
            except errors.Corrupted:
                continue


def test_a_fault_says_whether_to_try_again() -> None:
    assert Fault("DiskFull", "").retryable
    assert Fault("PeerLost", "").retryable
    assert not Fault("InputError", "").retryable
    assert not Fault("InternalError", "").retryable
    assert not Fault("Cancelled", "").retryable
    assert not Fault("os.system", "").retryable
    assert isinstance(Fault("DiskFull", "full").to_error(), errors.DiskFull)
    assert isinstance(Fault("Nonsense", "full").to_error(), errors.InternalError)
