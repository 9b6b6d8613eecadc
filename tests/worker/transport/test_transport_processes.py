"""Two real processes over loopback: bulk, death, and a process that is stopped and goes on."""

import multiprocessing
import os
import signal
import time
import zlib

import pytest

from shuffle_worker.errors import DeadlineExceeded, PeerLost
from shuffle_worker.wire.types import Lost, Message

MIB = 1 << 20


def own(pipe, memory_bytes: int) -> None:
    """The other process: takes frames, and answers each order with the count and checksum of so many."""
    from shuffle_worker._native.buffer import BufferPool
    from shuffle_worker._native.transport import Transport
    from shuffle_worker._native.twin import MemoryReceiver
    from shuffle_worker.wire.types import Address, TransportConfig, TransportLimits

    receiver = MemoryReceiver(BufferPool(), memory_bytes)
    limits = TransportLimits(heartbeat_s=0.1, window_bytes=4 * MIB)
    with Transport(TransportConfig("owner", 2, limits=limits), receiver) as transport:
        pipe.send(transport.address.port)
        transport.connect(Address("sender", "127.0.0.1", pipe.recv(), 1))
        while (count := pipe.recv()) is not None:
            checksum = 0
            for _ in range(count):
                frame = receiver.take(30)
                if frame is None:
                    raise TimeoutError("no frame within 30 s")
                checksum = zlib.crc32(frame, checksum)
            transport.send_control("sender", b"%d %d" % (checksum, receiver.peak_bytes))
    pipe.send("closed")


@pytest.fixture
def owner(make_node):
    """(sender, pipe, process), connected both ways."""
    context = multiprocessing.get_context("spawn")
    pipe, theirs = context.Pipe()
    process = context.Process(target=own, args=(theirs, 16 * MIB), daemon=True)
    process.start()
    sender = make_node("sender", 1)
    from shuffle_worker.wire.types import Address

    sender.transport.connect(Address("owner", "127.0.0.1", pipe.recv(), 2))
    pipe.send(sender.address.port)
    sender.transport.wait_connected("owner", 20)
    yield sender, pipe, process
    if process.is_alive():
        process.kill()
    process.join(10)


def send_until_refused(sender, timeout_s: float) -> None:
    """Frames of 1 MiB; how many were handed over is kept on the sender."""
    for sender.handed_over in range(1000):
        sender.transport.send("owner", sender.frame(bytes(MIB)), timeout_s)


def test_a_hundred_megabytes_arrive_with_their_checksum(owner):
    sender, pipe, process = owner
    pipe.send(200)
    block, checksum = os.urandom(MIB), 0
    for number in range(200):
        payload = block[number * 1000 : number * 1000 + 512 * 1024 + number]
        checksum = zlib.crc32(payload, checksum)
        sender.transport.send("owner", sender.frame(payload, number=number), 30)
    theirs, peak = sender.await_event(Message, timeout_s=30).payload.split()
    assert int(theirs) == checksum
    # Buffers are powers of two: a frame takes less than twice its credit.
    assert int(peak) <= 2 * 16 * MIB
    pipe.send(None)
    assert pipe.recv() == "closed"
    process.join(10)
    assert process.exitcode == 0
    assert sender.await_event(Lost, role="control", inbound=False).reason == "closed"


def test_a_killed_process_is_noticed_at_once(owner):
    sender, _, process = owner
    began = time.monotonic()
    process.kill()
    assert sender.await_event(Lost, role="control").reason in ("reset", "closed")
    assert sender.await_event(Lost, reason="refused").peer == "owner"
    assert time.monotonic() - began < 2
    with pytest.raises(PeerLost):
        send_until_refused(sender, 10)


def test_a_stopped_process_holds_the_sender_within_its_budget_and_goes_on(owner):
    sender, pipe, process = owner
    pipe.send(100)
    sender.transport.send("owner", sender.frame(bytes(MIB)), 10)
    os.kill(process.pid, signal.SIGSTOP)
    try:
        with pytest.raises(DeadlineExceeded):
            send_until_refused(sender, 0.5)
        # The next number was asked credit for, and did not get it.
        sent = sender.handed_over + 1
        assert sent < 32
        assert sender.pool.live_bytes <= 8 * MIB
        assert sender.peer("owner").heard_age_s > 0.4
        assert sender.peer("owner").connected
    finally:
        os.kill(process.pid, signal.SIGCONT)
    for _ in range(100 - sent):
        sender.transport.send("owner", sender.frame(bytes(MIB)), 20)
    assert int(sender.await_event(Message, timeout_s=20).payload.split()[0]) == zlib.crc32(bytes(100 * MIB))


def test_corrupted_bytes_are_attributed_and_end_the_connection(make_node, knock, speaker, read_frames):
    node = make_node("n", 1)
    liar = knock(node)
    liar.sendall(speaker.hello("liar") + speaker.frame(speaker.kinds.NEED, value=4096))
    assert [kind for kind, _, _ in read_frames(liar, 2)] == [speaker.kinds.WELCOME, speaker.kinds.CREDIT]
    frame = bytearray(speaker.frame(speaker.kinds.DATA, bytes(1000)))
    frame[-1] ^= 1
    liar.sendall(frame)
    lost = node.await_event(Lost)
    assert (lost.peer, lost.reason) == ("liar", "corrupt")
    assert "liar at 127.0.0.1" in lost.what
    assert "checksum" in lost.what
    assert node.transport.stats()["refused_frames"]["payload_crc"] == 1
    kind, _, text = read_frames(liar, 1)[0]
    assert kind == speaker.kinds.REFUSE
    assert b"checksum" in text
    assert node.receiver.frames == 0


def test_a_slow_client_within_a_frame_stalls_nobody(make_node, knock, speaker, read_frames):
    slow_of, fast = make_node("n", 1), make_node("fast", 2)
    slow = knock(slow_of)
    slow.sendall(speaker.hello("slow") + speaker.frame(speaker.kinds.NEED, value=100_000))
    read_frames(slow, 2)
    frame = speaker.frame(speaker.kinds.DATA, bytes(100_000), number=5)
    fast.join(slow_of)
    for start in range(0, len(frame), 10_007):
        slow.sendall(frame[start : start + 10_007])
        fast.transport.send("n", fast.frame(b"fast"), 2)
        if start + 10_007 < len(frame):
            assert bytes(slow_of.receiver.take(2)) == b"fast"
    assert {slow_of.receiver.take(2).number, slow_of.receiver.take(2).number} == {0, 5}
