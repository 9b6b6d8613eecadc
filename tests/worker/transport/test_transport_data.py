"""Frames between two transports of one process: arrival, credit, refusal, and what ends a wait."""

import os
import threading
import time
import zlib

import pytest

from shuffle_worker._native.twin import LATER
from shuffle_worker.errors import Cancelled, DeadlineExceeded, Fenced, PeerLost, UserError
from shuffle_worker.wire.types import Lost, Rejected

MIB = 1 << 20


@pytest.fixture
def pair(make_node):
    sender, owner = make_node("sender", 1), make_node("owner", 2)
    sender.join(owner)
    return sender, owner


def in_thread(call):
    """Run `call` in a thread; the function returned waits for it and gives what it raised."""
    raised = []

    def run():
        try:
            call()
            raised.append(None)
        except Exception as error:  # noqa: BLE001 - handed to the test
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()

    def outcome():
        thread.join(20)
        assert not thread.is_alive(), "the call did not return"
        return raised[0]

    return outcome


@pytest.mark.parametrize("size", [0, 1, 95, 96, 4096, 65536, 262143, 3 * MIB + 7])
def test_a_frame_arrives_as_it_was_sent(pair, size):
    sender, owner = pair
    frame = sender.frame(os.urandom(size), map=3, epoch=1, attempt=2, generation=4, group=5, number=6, rows=7, value=8)
    sender.transport.send("owner", frame, 5)
    got = owner.receiver.take()
    assert got.header_bytes() == frame.header_bytes()
    assert bytes(got) == bytes(frame)
    assert got.verify() == 0


def test_many_frames_arrive_in_order_with_their_bytes(pair, eventually):
    sender, owner = pair
    sent = received = 0

    def send():
        nonlocal sent
        for number in range(400):
            payload = os.urandom(1000 + 997 * (number % 300))
            sent = zlib.crc32(payload, sent)
            sender.transport.send("owner", sender.frame(payload, number=number), 20)

    outcome = in_thread(send)
    for number in range(400):
        frame = owner.receiver.take()
        assert frame.number == number
        received = zlib.crc32(frame, received)
    assert outcome() is None
    assert sent == received
    eventually(lambda: sender.transport.stats()["frames_out"] == owner.transport.stats()["frames_in"] == 400)


def send_without_end(sender) -> None:
    for number in range(1000):
        sender.transport.send("owner", sender.frame(bytes(256 << 10), number=number), 0.3)


def test_a_paused_owner_keeps_itself_and_the_sender_within_their_budgets(make_node):
    sender, owner = make_node("sender", 1), make_node("owner", 2, receiver_bytes=4 * MIB, window_bytes=2 * MIB)
    sender.join(owner)
    with pytest.raises(DeadlineExceeded, match=r"credit from owner at 127.* 262144 bytes of map 0"):
        send_without_end(sender)
    assert owner.receiver.frames <= 16
    assert owner.receiver.peak_bytes <= 4 * MIB
    assert owner.pool.live_bytes <= 4 * MIB
    # What was handed over and not written, and the one frame of the test itself.
    assert sender.pool.live_bytes <= 3 * MIB
    assert sender.peer("owner").credit_bytes < 256 << 10


def test_a_paused_sender_goes_on_when_memory_is_freed(make_node):
    sender, owner = make_node("sender", 1), make_node("owner", 2, receiver_bytes=2 * MIB)
    sender.join(owner)

    def send():
        for number in range(64):
            sender.transport.send("owner", sender.frame(bytes(MIB), number=number), 20)

    outcome = in_thread(send)
    for number in range(64):
        assert owner.receiver.take(20).number == number
    assert outcome() is None
    assert owner.receiver.peak_bytes <= 2 * MIB
    assert sender.transport.stats()["credit_stalls"] > 0
    assert sender.transport.stats()["credit_stall_s"] > 0


def test_credit_that_becomes_possible_untold_is_found_by_the_clock(pair):
    sender, owner = pair
    owner.receiver.grant_answer = LATER
    outcome = in_thread(lambda: sender.transport.send("owner", sender.frame(b"x"), 10))
    time.sleep(0.05)
    owner.receiver.grant_answer = 0
    assert outcome() is None
    assert owner.receiver.take() is not None


def test_a_frame_larger_than_the_window_goes_alone(make_node):
    sender, owner = make_node("sender", 1), make_node("owner", 2, receiver_bytes=64 * MIB, window_bytes=MIB)
    sender.join(owner)
    for size in (100, 9 * MIB, 200, 33 * MIB):
        sender.transport.send("owner", sender.frame(bytes(size)), 20)
        assert len(owner.receiver.take(20)) == size


def test_idle_credit_of_one_sender_is_called_back_for_another(make_node):
    owner = make_node("owner", 9, receiver_bytes=2 * MIB, window_bytes=2 * MIB)
    idle, busy = make_node("idle", 1), make_node("busy", 2)
    for node in (idle, busy):
        node.join(owner)
    idle.transport.send("owner", idle.frame(b"x"), 5)
    owner.receiver.take()
    assert owner.receiver.reserved_bytes > MIB
    busy.transport.send("owner", busy.frame(bytes(2 * MIB)), 5)
    assert len(owner.receiver.take()) == 2 * MIB
    assert owner.transport.stats()["credit_recalls"] >= 1


def test_many_senders_share_a_small_owner_and_all_finish(make_node):
    owner = make_node("owner", 99, receiver_bytes=3 * MIB, window_bytes=2 * MIB)
    senders = [make_node(f"sender-{n}", n + 1) for n in range(8)]
    for node in senders:
        node.join(owner)

    def send(node):
        for number in range(20):
            size = MIB if number % 5 == 0 else 32 << 10
            node.transport.send("owner", node.frame(bytes(size), number=number), 30)

    outcomes = [in_thread(lambda node=node: send(node)) for node in senders]
    for _ in range(20 * len(senders)):
        assert owner.receiver.take(20) is not None
    assert [outcome() for outcome in outcomes] == [None] * len(senders)
    assert owner.receiver.peak_bytes <= 3 * MIB


@pytest.mark.parametrize(("verdict", "name"), [(2, "fenced"), (3, "gap"), (4, "unknown")])
def test_a_refused_stream_is_told_and_fails_at_once(pair, verdict, name):
    sender, owner = pair
    owner.receiver.verdict = verdict
    sender.transport.send("owner", sender.frame(b"x", map=1, epoch=2, attempt=3), 5)
    event = sender.await_event(Rejected)
    assert (event.peer, event.shuffle, event.stream, event.verdict) == ("owner", bytes(range(16)), (1, 2, 3), name)
    with pytest.raises(Fenced, match=rf"owner at .* does not take map 1 attempt \(2, 3\) .*\({name}\)"):
        sender.transport.send("owner", sender.frame(b"y", map=1, epoch=2, attempt=3, number=1), 5)
    owner.receiver.verdict = 0
    sender.transport.send("owner", sender.frame(b"z", map=1, epoch=2, attempt=4), 5)
    assert bytes(owner.receiver.take()) == b"z"
    assert owner.transport.stats()["refused_frames"][name] == 1


def test_a_duplicate_is_counted_and_not_rejected(pair, eventually):
    sender, owner = pair
    owner.receiver.verdict = 1
    for _ in range(3):
        sender.transport.send("owner", sender.frame(b"x"), 5)
    eventually(lambda: owner.transport.stats()["refused_frames"]["duplicate"] == 3)


def test_a_closed_shuffle_refuses_whoever_waits_for_it(pair):
    sender, owner = pair
    owner.receiver.grant_answer = -2
    with pytest.raises(Fenced, match="fenced"):
        sender.transport.send("owner", sender.frame(b"x"), 5)
    assert sender.await_event(Rejected).stream is None


def test_a_frame_that_can_never_fit_is_refused_alone(make_node):
    sender, owner = make_node("sender", 1), make_node("owner", 2, receiver_bytes=MIB)
    sender.join(owner)
    with pytest.raises(Fenced, match="too_large"):
        sender.transport.send("owner", sender.frame(bytes(2 * MIB), map=1), 5)
    sender.transport.send("owner", sender.frame(b"small", map=2), 5)
    assert bytes(owner.receiver.take()) == b"small"


def test_without_a_buffer_the_payload_is_skipped_and_the_stream_told(pair):
    sender, owner = pair
    owner.receiver.refuse_buffers = True
    sender.transport.send("owner", sender.frame(bytes(300_000), map=1), 5)
    assert sender.await_event(Rejected).verdict == "no_memory"
    owner.receiver.refuse_buffers = False
    sender.transport.send("owner", sender.frame(b"next", map=2), 5)
    assert bytes(owner.receiver.take()) == b"next"


def test_abort_wakes_the_waiting_sender_of_that_stream_only(pair):
    sender, owner = pair
    owner.receiver.grant_answer = LATER
    first = in_thread(lambda: sender.transport.send("owner", sender.frame(b"1", map=1), 10))
    second = in_thread(lambda: sender.transport.send("owner", sender.frame(b"2", map=2), 10))
    time.sleep(0.05)
    sender.transport.abort_stream(bytes(range(16)), 1, 0, 0)
    assert isinstance(first(), Cancelled)
    owner.receiver.grant_answer = 0
    assert second() is None
    assert bytes(owner.receiver.take()) == b"2"
    with pytest.raises(Cancelled):
        sender.transport.send("owner", sender.frame(b"1", map=1), 1)


def test_close_shuffle_wakes_senders_and_gives_credit_back(pair, eventually):
    sender, owner = pair
    sender.transport.send("owner", sender.frame(b"x"), 5)
    assert owner.receiver.take() is not None
    assert owner.receiver.reserved_bytes > 0
    sender.transport.close_shuffle(bytes(range(16)))
    eventually(lambda: owner.receiver.reserved_bytes == 0)
    owner.receiver.grant_answer = LATER
    waiting = in_thread(lambda: sender.transport.send("owner", sender.frame(b"y"), 10))
    time.sleep(0.05)
    sender.transport.close_shuffle(bytes(range(16)))
    assert isinstance(waiting(), Cancelled)


def test_close_wakes_senders(pair):
    sender, owner = pair
    owner.receiver.grant_answer = LATER
    waiting = in_thread(lambda: sender.transport.send("owner", sender.frame(b"y"), 10))
    time.sleep(0.05)
    sender.transport.close()
    assert isinstance(waiting(), Cancelled)
    with pytest.raises(Cancelled, match="closed"):
        sender.transport.send("owner", sender.frame(b"y"), 1)


def test_a_lost_owner_wakes_senders_and_names_it(pair):
    sender, owner = pair
    owner.receiver.grant_answer = LATER
    waiting = in_thread(lambda: sender.transport.send("owner", sender.frame(b"y"), 10))
    time.sleep(0.05)
    owner.transport.close()
    error = waiting()
    assert isinstance(error, PeerLost)
    assert "owner at 127.0.0.1" in str(error)
    assert sender.await_event(Lost, role="data").reason in ("closed", "reset")


def test_credit_comes_back_when_a_connection_dies(pair, eventually):
    sender, owner = pair
    sender.transport.send("owner", sender.frame(b"x"), 5)
    assert owner.receiver.take() is not None
    assert owner.receiver.reserved_bytes > 0
    sender.transport.disconnect("owner")
    eventually(lambda: owner.receiver.reserved_bytes == 0)


def test_a_frame_above_the_limit_and_an_unknown_peer_are_the_callers_fault(make_node):
    sender, owner = make_node("sender", 1, max_frame_bytes=1000), make_node("owner", 2)
    sender.join(owner)
    with pytest.raises(UserError, match=r"1001 bytes .* make smaller frames"):
        sender.transport.send("owner", sender.frame(bytes(1001)), 1)
    with pytest.raises(UserError, match="no peer is named 'ownr': the known peers are owner"):
        sender.transport.send("ownr", sender.frame(b""), 1)


def test_the_receivers_limit_on_frames_is_kept_by_the_sender(make_node):
    sender, owner = make_node("sender", 1), make_node("owner", 2, max_frame_bytes=1000)
    sender.join(owner)
    with pytest.raises(UserError, match=r"larger than owner at .* takes"):
        sender.transport.send("owner", sender.frame(bytes(1001)), 1)


def test_two_shuffles_on_one_connection_do_not_block_each_other(pair):
    sender, owner = pair
    owner.receiver.grant_answer = LATER
    blocked = in_thread(lambda: sender.transport.send("owner", sender.frame(b"a", shuffle=b"A" * 16), 10))
    time.sleep(0.05)
    owner.receiver.grant_answer = 0
    sender.transport.send("owner", sender.frame(b"b", shuffle=b"B" * 16), 5)
    assert blocked() is None
    assert {bytes(owner.receiver.take()), bytes(owner.receiver.take())} == {b"a", b"b"}
