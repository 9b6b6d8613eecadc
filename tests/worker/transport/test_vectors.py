"""The vectors in docs/protocol.md: what the code sends and takes is what the document shows."""

import re
from pathlib import Path

import pytest

from shuffle_worker._native.buffer import BufferPool
from shuffle_worker._native.frame import Frame, crc32c_of
from shuffle_worker._native.twin import MemoryReceiver, SocketlessWire

DOCUMENT = (Path(__file__).parents[3] / "docs" / "protocol.md").read_text(encoding="utf-8")
NO_SHUFFLE = bytes(16)


@pytest.fixture(scope="module")
def vectors() -> dict[str, bytes]:
    """Bytes by the first word of the line before them."""
    section = DOCUMENT.partition("## Test vectors")[2]
    found = re.findall(r"\n([A-Z]+) [^\n]*:\n\n((?:    [0-9a-f]+\n)+)", section)
    return {name: bytes.fromhex(digits.replace("\n", "").replace(" ", "")) for name, digits in found}


def make_wire(**options: object) -> SocketlessWire:
    return SocketlessWire(MemoryReceiver(BufferPool(), 64 << 20), window_bytes=8 << 20, **options)  # type: ignore[arg-type]


def test_all_kinds_that_are_sent_have_a_vector(vectors):
    assert sorted(vectors) == ["CONTROL", "CREDIT", "DATA", "HEARTBEAT", "HELLO", "NEED", "REJECT"]


def test_the_crc_is_the_one_named():
    assert "`e3069283`" in DOCUMENT
    assert crc32c_of(b"123456789") == 0xE3069283


def test_the_documents_own_bytes_open_a_connection_and_deliver(vectors):
    wire = make_wire(tokens=("other", "secret"), incarnation=0xFF)
    number = wire.accept()
    assert wire.feed(number, vectors["HELLO"])
    wire.output(number)
    assert wire.feed(number, vectors["NEED"])
    assert wire.output(number) == vectors["CREDIT"]
    wire.receiver.verdict = 3
    assert wire.feed(number, vectors["DATA"])
    assert wire.output(number).startswith(vectors["REJECT"])
    wire.receiver.verdict = 0
    assert wire.feed(number, vectors["DATA"])
    frame = wire.receiver.take(0)
    assert bytes(frame) == b"123456789"
    assert (frame.map, frame.epoch, frame.attempt, frame.generation, frame.group, frame.number) == (7, 1, 2, 3, 4, 5)


def test_the_code_makes_the_documents_data_frame(vectors):
    frame = Frame.build(
        BufferPool(), b"123456789", shuffle=bytes(range(16)), map=7, epoch=1, attempt=2, generation=3, group=4, number=5
    )
    assert frame.header_bytes() + bytes(frame) == vectors["DATA"]


def test_another_implementation_makes_the_same_bytes(vectors, speaker):
    stream = {"map": 7, "epoch": 1, "attempt": 2}
    kinds = speaker.kinds
    assert speaker.frame(kinds.NEED, value=4096, **stream) == vectors["NEED"]
    assert speaker.frame(kinds.REJECT, value=3, **stream) == vectors["REJECT"]
    assert speaker.frame(kinds.CONTROL, b"hello", shuffle=NO_SHUFFLE) == vectors["CONTROL"]
    assert speaker.frame(kinds.HEARTBEAT, value=42, shuffle=NO_SHUFFLE) == vectors["HEARTBEAT"]


def test_control_vectors_are_taken(vectors, speaker):
    wire = make_wire()
    number = wire.accept()
    assert wire.feed(number, speaker.hello("s", "control"))
    assert wire.feed(number, vectors["CONTROL"] + vectors["HEARTBEAT"])
    # Connected, the message, the heartbeat.
    assert wire.events == 3


def test_the_sent_hello_is_the_documents(vectors, speaker):
    """The keys and types; name and address are the harness's own."""
    import json

    wire = make_wire(tokens=("secret",), incarnation=0x0123456789ABCDEF)
    sent = json.loads(speaker.parse(wire.output(wire.dial("peer", 0xFF)))[0][2])
    shown = json.loads(speaker.parse(vectors["HELLO"])[0][2])
    assert list(sent) == list(shown)
    same = ("protocol", "role", "incarnation", "expect", "token", "max_frame_bytes")
    assert {key: sent[key] for key in same} == {key: shown[key] for key in same}


def test_the_limits_in_the_document_are_the_defaults():
    from shuffle_worker.wire.types import TransportLimits

    limits = TransportLimits()
    assert limits.window_bytes == 8 << 20
    assert limits.max_control_bytes == 16 << 20
    assert limits.hello_timeout_s == 5
    assert (limits.max_connections, limits.max_strangers, limits.max_shuffles) == (1024, 64, 4096)
    assert limits.control_queue_bytes == 64 << 20
