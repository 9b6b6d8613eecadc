"""Garbage, truncated, oversized, replayed and reordered bytes: never a crash, never memory beyond a limit, and never
a frame that was not sent. Without sockets: the bytes go straight into the connection.
"""

import random
import struct

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, given, settings

from shuffle_worker._native.buffer import BufferPool
from shuffle_worker._native.frame import HEADER_BYTES, crc32c_of
from shuffle_worker._native.twin import MemoryReceiver, SocketlessWire

LIMIT = 1 << 20
PAYLOAD = bytes(range(256)) * 3
NO_FIXTURE_CHECK = [HealthCheck.function_scoped_fixture]


class Owner:
    """One process without sockets, and the counters to hold it to."""

    def __init__(self, **options: object) -> None:
        self.pool = BufferPool(0)
        self.receiver = MemoryReceiver(self.pool, LIMIT)
        self.wire = SocketlessWire(self.receiver, **options)  # type: ignore[arg-type]

    def open(self, speaker, role: str = "data") -> int:
        number = self.wire.accept()
        assert self.wire.feed(number, speaker.hello("s", role))
        self.wire.output(number)
        return number

    def open_with_credit(self, speaker) -> int:
        number = self.open(speaker)
        assert self.wire.feed(number, speaker.frame(speaker.kinds.NEED, value=4096))
        self.wire.output(number)
        return number

    def check_clean(self) -> None:
        """All connections ended: nothing is held for them."""
        assert self.wire.live == 0
        while self.receiver.take(0) is not None:
            pass
        assert self.receiver.reserved_bytes == 0
        assert self.pool.live_bytes == 0


@pytest.fixture
def owner() -> Owner:
    return Owner()


@pytest.fixture
def conversation(speaker) -> list[bytes]:
    """What a well-behaved data connection says."""
    return [
        speaker.hello("s"),
        speaker.frame(speaker.kinds.NEED, value=8192),
        speaker.frame(speaker.kinds.DATA, PAYLOAD, number=0, map=1),
        speaker.frame(speaker.kinds.DATA, b"", number=1, map=1),
        speaker.frame(speaker.kinds.CREDIT, value=100),
        speaker.frame(speaker.kinds.DATA, PAYLOAD * 2, number=2, map=1),
    ]


def test_the_conversation_works_in_pieces_of_any_size(conversation):
    data = b"".join(conversation)
    for size in (1, 2, 3, 95, 96, 97, 1000, len(data)):
        for straight in (False, True):
            owner = Owner()
            number = owner.wire.accept()
            feed = owner.wire.feed_straight if straight else owner.wire.feed
            for start in range(0, len(data), size):
                assert feed(number, data[start : start + size]), owner.wire.reason(number)
            frames = [owner.receiver.take(0) for _ in range(3)]
            assert [bytes(frame) for frame in frames] == [PAYLOAD, b"", PAYLOAD * 2]
            del frames
            owner.wire.end(number)
            owner.check_clean()


def test_a_flipped_bit_anywhere_is_noticed(conversation):
    data = b"".join(conversation)
    for offset in range(len(data)):
        owner = Owner()
        number = owner.wire.accept()
        broken = bytearray(data)
        broken[offset] ^= 1 << offset % 8
        good = owner.wire.feed(number, bytes(broken))
        if good:
            # Only within HELLO's payload could a change pass, and that has its checksum too.
            raise AssertionError(f"a flipped bit at {offset} was not noticed")
        while (frame := owner.receiver.take(0)) is not None:
            assert frame.verify() == 0
            assert bytes(frame) in (PAYLOAD, b"", PAYLOAD * 2)
            del frame
        owner.wire.output(number)
        owner.check_clean()


def test_truncation_anywhere_leaves_nothing_behind(conversation):
    data = b"".join(conversation)
    for offset in range(len(data)):
        owner = Owner()
        number = owner.wire.accept()
        assert owner.wire.feed(number, data[:offset])
        owner.wire.end(number)
        owner.check_clean()


def test_garbage_at_every_offset_ends_only_that_connection(speaker, conversation, owner):
    data = b"".join(conversation)
    other = owner.open_with_credit(speaker)
    chosen = random.Random(1)
    for offset in range(0, len(data), 3):
        number = owner.wire.accept()
        garbage = chosen.randbytes(300)
        owner.wire.feed(number, data[:offset].replace(b'"s"', b'"g"') + garbage)
        owner.wire.output(number)
        owner.wire.end(number)
        while owner.receiver.take(0) is not None:
            pass
    assert owner.wire.feed(other, speaker.frame(speaker.kinds.DATA, b"still here"))
    assert bytes(owner.receiver.take(0)) == b"still here"
    owner.wire.end(other)
    owner.check_clean()


@pytest.mark.parametrize("length", [LIMIT + 1, 1 << 31, 1 << 40, (1 << 63) - 1, 1 << 63, (1 << 64) - 1])
def test_a_promised_length_allocates_nothing(speaker, owner, length):
    number = owner.open_with_credit(speaker)
    head = bytearray(speaker.frame(speaker.kinds.DATA))
    struct.pack_into("<Q", head, 72, length)
    struct.pack_into("<I", head, 92, crc32c_of(head[:92]))
    assert not owner.wire.feed(number, bytes(head))
    assert owner.pool.live_bytes == 0
    assert "longer than allowed" in owner.wire.reason(number)


@pytest.mark.parametrize("value", [0, LIMIT + 1, 1 << 62, (1 << 64) - 1])
def test_absurd_needs_are_refused(speaker, owner, value):
    number = owner.open(speaker)
    assert not owner.wire.feed(number, speaker.frame(speaker.kinds.NEED, value=value))
    assert owner.receiver.reserved_bytes == 0


@pytest.mark.parametrize("value", [0, 4097, 1 << 62, (1 << 64) - 1])
def test_credit_that_was_never_had_cannot_be_returned(speaker, value):
    owner = Owner(window_bytes=4096)
    number = owner.open_with_credit(speaker)
    assert not owner.wire.feed(number, speaker.frame(speaker.kinds.CREDIT, value=value))
    assert owner.receiver.reserved_bytes == 0


@pytest.mark.parametrize(("role", "kinds"), [("data", (1, 2, 3, 7, 8, 9)), ("control", (1, 2, 3, 4, 5, 6, 7))])
def test_kinds_of_the_other_direction_are_refused(speaker, role, kinds):
    for kind in kinds:
        owner = Owner()
        number = owner.open(speaker, role)
        assert not owner.wire.feed(number, speaker.frame(kind, value=1))


@pytest.mark.parametrize("kind", [5, 6])
def test_kinds_without_payload_must_have_none(speaker, owner, kind):
    number = owner.open(speaker)
    assert not owner.wire.feed(number, speaker.frame(kind, b"x", value=1))


def test_a_control_message_grows_only_as_it_arrives(speaker):
    owner = Owner(max_control_bytes=1 << 30)
    number = owner.open(speaker, "control")
    frame = speaker.frame(speaker.kinds.CONTROL, bytes(1 << 16))
    head = bytearray(frame[:HEADER_BYTES])
    struct.pack_into("<Q", head, 72, 1 << 30)
    struct.pack_into("<I", head, 92, crc32c_of(head[:92]))
    before = resident_bytes()
    assert owner.wire.feed(number, bytes(head) + bytes(1000))
    assert resident_bytes() - before < 64 << 20


def resident_bytes() -> int:
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * 4096


def test_shuffles_on_one_connection_are_limited(speaker, owner):
    number = owner.open(speaker)
    owner.receiver.grant_answer = -1
    reads = [
        owner.wire.feed(number, speaker.frame(speaker.kinds.NEED, value=4096, shuffle=struct.pack("<QQ", 1, n)))
        for n in range(65)
    ]
    assert reads == [True] * 64 + [False]
    assert "too many shuffles" in owner.wire.reason(number)


def test_replayed_and_reordered_frames_reach_the_fence_and_no_further(conversation):
    data = conversation[:2] + [conversation[2]] * 3 + conversation[5:] + conversation[2:3]
    owner = Owner()
    number = owner.wire.accept()
    for part in data:
        owner.wire.feed(number, part)
    owner.wire.output(number)
    # Order and number are the receiver's: it was handed only whole frames with good checksums.
    while (frame := owner.receiver.take(0)) is not None:
        assert frame.verify() == 0
    del frame
    owner.wire.end(number)
    owner.check_clean()


def test_a_replayed_hello_is_refused(speaker, owner):
    number = owner.open(speaker)
    assert not owner.wire.feed(number, speaker.hello("s"))


def mutate(chosen: random.Random, parts: list[bytes]) -> bytes:
    """One of the ways in which bytes go wrong, applied to whole frames or to bytes."""
    parts = list(parts)
    for _ in range(chosen.randint(1, 4)):
        place = chosen.randrange(len(parts))
        way = chosen.randrange(8)
        if way == 0:
            parts[place] = parts[place][: chosen.randrange(len(parts[place]) + 1)]
        elif way == 1:
            parts.insert(place, parts[chosen.randrange(len(parts))])
        elif way == 2:
            other = chosen.randrange(len(parts))
            parts[place], parts[other] = parts[other], parts[place]
        elif way == 3:
            parts[place] = chosen.randbytes(chosen.randrange(200))
        elif len(parts[place]) >= HEADER_BYTES:
            parts[place] = forge(chosen, parts[place], seal=way != 4)
    return b"".join(parts)


def forge(chosen: random.Random, frame: bytes, seal: bool) -> bytes:
    """Change some bytes of the header; with `seal`, make its checksum right again."""
    forged = bytearray(frame)
    for _ in range(chosen.randint(1, 3)):
        offset = chosen.randrange(4, 92)
        forged[offset] = chosen.choice((0, 1, 255, chosen.randrange(256)))
    if seal:
        struct.pack_into("<I", forged, 92, crc32c_of(forged[:92]))
    return bytes(forged)


def outbound_conversation(speaker) -> list[bytes]:
    """What an owner answers a sender."""
    kinds = speaker.kinds
    return [
        speaker.welcome("peer", 5),
        speaker.frame(kinds.CREDIT, value=8192),
        speaker.frame(kinds.REJECT, value=3, map=1),
        speaker.frame(kinds.CREDIT, value=0),
        speaker.frame(kinds.REFUSE, b"no more"),
    ]


@pytest.mark.parametrize("seed", range(8))
def test_mutated_conversations(speaker, conversation, seed):
    chosen = random.Random(seed)
    control = [speaker.hello("s", "control"), speaker.frame(8, b"hi"), speaker.frame(9, value=3)]
    owner = Owner()
    for _ in range(1500):
        side = chosen.randrange(3)
        if side == 0:
            number, data = owner.wire.accept(), mutate(chosen, conversation)
        elif side == 1:
            number, data = owner.wire.accept(), mutate(chosen, control)
        else:
            number = owner.wire.dial("peer", 5, chosen.random() < 0.7)
            data = mutate(chosen, outbound_conversation(speaker))
        feed = chosen.choice((owner.wire.feed, owner.wire.feed_straight))
        step = chosen.randint(1, len(data) + 1)
        for start in range(0, len(data), step):
            if not feed(number, data[start : start + step]):
                break
            assert owner.pool.live_bytes <= LIMIT
        owner.wire.output(number)
        owner.wire.end(number)
        while (frame := owner.receiver.take(0)) is not None:
            assert frame.verify() == 0
            del frame
        assert owner.wire.events < 100
    owner.check_clean()


@settings(max_examples=300, deadline=None, derandomize=True, suppress_health_check=NO_FIXTURE_CHECK)
@given(data=st.binary(max_size=600), role=st.sampled_from(["data", "control", "none"]))
def test_any_bytes(speaker, data, role):
    owner = Owner()
    number = owner.wire.accept() if role == "none" else owner.open(speaker, role)
    owner.wire.feed(number, data)
    owner.wire.output(number)
    owner.wire.end(number)
    owner.check_clean()


@settings(max_examples=300, deadline=None, derandomize=True, suppress_health_check=NO_FIXTURE_CHECK)
@given(text=st.text(max_size=200), name=st.text(max_size=60), token=st.text(max_size=60))
def test_any_hello(speaker, text, name, token):
    owner = Owner(tokens=("secret",))
    for frame in (speaker.frame(speaker.kinds.HELLO, text.encode()), speaker.hello(name, token=token, extra=text)):
        number = owner.wire.accept()
        assert not owner.wire.feed(number, frame) or token == "secret"
        owner.wire.output(number)
        owner.wire.end(number)
    owner.check_clean()
