"""Control messages, heartbeats, reconnection, and what is left behind."""

import gc
import os
import threading
import time

import pytest

from shuffle_worker.errors import Cancelled, PeerLost, UserError
from shuffle_worker.wire.types import Connected, Heartbeat, Lost, Message


@pytest.fixture
def pair(make_node):
    a, b = make_node("a", 1), make_node("b", 2)
    a.join(b)
    b.join(a)
    return a, b


def test_messages_arrive_in_order_both_ways(pair):
    a, b = pair
    for number in range(500):
        a.transport.send_control("b", b"%d" % number)
        b.transport.send_control("a", b"%d" % -number)
    for number in range(500):
        assert b.await_event(Message).payload == b"%d" % number
        assert a.await_event(Message).payload == b"%d" % -number
    assert a.transport.stats()["messages_out"] == b.transport.stats()["messages_in"] == 500


@pytest.mark.parametrize("size", [0, 1, 70_000, 5 << 20])
def test_a_message_of_any_length(pair, size):
    a, b = pair
    payload = os.urandom(size)
    a.transport.send_control("b", payload)
    event = b.await_event(Message)
    assert (event.peer, event.incarnation, event.payload) == ("a", 1, payload)


def test_messages_queued_before_the_connection_arrive(make_node):
    a, b = make_node("a", 1), make_node("b", 2)
    a.transport.connect(b.address)
    for number in range(10):
        a.transport.send_control("b", b"%d" % number)
    assert [b.await_event(Message).payload for _ in range(10)] == [b"%d" % n for n in range(10)]


def send_until_full(node) -> int:
    """Numbered messages to b until its queue takes no more for half a second; how many were taken."""
    sent, refused_since, why = 0, None, ""
    while refused_since is None or time.monotonic() - refused_since < 0.5:
        try:
            node.transport.send_control("b", b"%08d" % sent + bytes(50_000))
        except PeerLost as error:
            why = str(error)
            refused_since = refused_since or time.monotonic()
            time.sleep(0.01)
        else:
            sent += 1
            refused_since = None
    assert why.startswith("b at 127.0.0.1")
    assert "does not take its control messages: the queue is full" in why
    return sent


def test_who_does_not_drain_stops_the_sender_and_loses_nothing(make_node, eventually):
    a = make_node("a", 1, control_queue_bytes=1 << 20)
    b = make_node("b", 2, control_queue_bytes=1 << 20)
    a.join(b)
    sent = send_until_full(a)
    eventually(lambda: b.peer("a").reading_paused)
    # Frames do not wait behind messages.
    a.transport.send("b", a.frame(b"data"), 5)
    assert bytes(b.receiver.take()) == b"data"
    for number in range(sent):
        assert b.await_event(Message).payload[:8] == b"%08d" % number
    assert not b.peer("a").reading_paused
    a.transport.send_control("b", b"again")
    assert b.await_event(Message).payload == b"again"


def test_a_message_too_long_is_the_callers_fault(make_node):
    a, b = make_node("a", 1, max_control_bytes=100), make_node("b", 2)
    a.join(b)
    with pytest.raises(UserError, match="101 bytes is longer than the 100"):
        a.transport.send_control("b", bytes(101))


def test_heartbeats_carry_progress_and_age(pair, eventually):
    a, b = pair
    a.transport.set_progress(42)
    eventually(lambda: b.peer("a").progress == 42)
    assert b.peer("a").heard_age_s < 1
    a.transport.set_progress((1 << 64) - 1)
    eventually(lambda: b.peer("a").progress == (1 << 64) - 1)
    assert b.await_event(Heartbeat, progress=(1 << 64) - 1).peer == "a"


def test_heartbeats_come_both_ways_over_one_connection(make_node, eventually):
    a, b = make_node("a", 1), make_node("b", 2)
    a.join(b)
    b.transport.set_progress(7)
    eventually(lambda: a.peer("b").progress == 7)


def test_heartbeats_do_not_pile_up_for_who_does_not_drain(make_node):
    a, b = make_node("a", 1, heartbeat_s=0.01), make_node("b", 2, heartbeat_s=0.01)
    a.join(b)
    time.sleep(0.3)
    assert sum(isinstance(event, Heartbeat) for event in b.transport.drain()) <= 1


def test_heartbeats_go_on_while_python_holds_the_lock(pair):
    _, b = pair
    worst = 0.0
    began = time.monotonic()
    while time.monotonic() - began < 0.5:
        sum(range(2_000_000))
        worst = max(worst, b.peer("a").heard_age_s)
    assert worst < 0.4


def test_fileno_is_readable_while_events_wait(pair):
    import select

    a, b = pair
    b.transport.drain()
    a.transport.send_control("b", b"x")
    assert select.select([b.transport.fileno()], [], [], 5)[0]
    assert b.await_event(Message).payload == b"x"


def test_a_restarted_peer_at_the_same_address_is_refused_as_another(make_node):
    a, b = make_node("a", 1), make_node("b", 2)
    a.join(b)
    port = b.address.port
    b.transport.close()
    assert a.await_event(Lost, role="control").reason in ("closed", "reset")
    again = make_node("b", 3, port=port)
    lost = a.await_event(Lost, reason="gave_up")
    assert "another incarnation" in lost.what
    a.transport.connect(again.address)
    a.transport.wait_connected("b", 5)
    assert a.await_event(Connected).incarnation == 3


def test_a_lost_connection_is_made_again(make_node):
    a, b = make_node("a", 1, connect_timeout_s=10), make_node("b", 2)
    a.join(b)
    port = b.address.port
    b.transport.close()
    assert a.await_event(Lost, role="control").reason in ("closed", "reset")
    assert a.await_event(Lost, reason="refused")
    again = make_node("b", 2, port=port)
    a.transport.wait_connected("b", 10)
    a.transport.send("b", a.frame(b"again"), 5)
    assert bytes(again.receiver.take()) == b"again"
    a.transport.send_control("b", b"again")
    assert again.await_event(Message).payload == b"again"


def test_many_peers(make_node):
    hub = make_node("hub", 1000)
    nodes = [make_node(f"n{number}", number + 1) for number in range(24)]
    for node in nodes:
        node.transport.connect(hub.address)
        hub.transport.connect(node.address)
    for node in nodes:
        node.transport.wait_connected("hub", 10)
        hub.transport.wait_connected(node.name, 10)
        node.transport.send("hub", node.frame(node.name.encode()), 10)
        hub.transport.send(node.name, hub.frame(b"back"), 10)
        hub.transport.send_control(node.name, b"hello " + node.name.encode())
    assert {bytes(hub.receiver.take()) for _ in nodes} == {node.name.encode() for node in nodes}
    for node in nodes:
        assert bytes(node.receiver.take()) == b"back"
        assert node.await_event(Message).payload == b"hello " + node.name.encode()
    assert len(hub.transport.peers()) == 24


def test_close_writes_out_messages_and_leaves_no_descriptor_or_thread(make_node):
    gc.collect()
    descriptors = set(os.listdir("/proc/self/fd"))
    threads = set(os.listdir("/proc/self/task"))
    a, b = make_node("a", 1), make_node("b", 2)
    a.join(b)
    for number in range(100):
        a.transport.send_control("b", b"%d" % number + bytes(10_000))
    a.transport.close(5)
    assert b.await_event(Message, timeout_s=5).payload.startswith(b"0")
    for number in range(1, 100):
        assert b.await_event(Message, timeout_s=5).payload.startswith(b"%d" % number)
    assert b.await_event(Lost, role="control").reason == "closed"
    b.transport.close()
    a.transport.close()
    assert set(os.listdir("/proc/self/fd")) <= descriptors
    assert set(os.listdir("/proc/self/task")) <= threads
    with pytest.raises(Cancelled, match="closed"):
        a.transport.send_control("b", b"x")


def test_close_ends_in_time_when_the_other_side_does_not_read(make_node):
    a = make_node("a", 1, control_queue_bytes=64 << 20)
    b = make_node("b", 2, control_queue_bytes=1)
    a.join(b)
    for _ in range(40):
        a.transport.send_control("b", bytes(1 << 20))
    began = time.monotonic()
    a.transport.close(0.3)
    assert time.monotonic() - began < 2


def test_connect_and_disconnect_in_many_threads(make_node):
    a, b = make_node("a", 1), make_node("b", 2)
    failures = []

    def churn():
        for _ in range(50):
            a.transport.connect(b.address)
            try:
                a.transport.send("b", a.frame(b"x"), 5)
                a.transport.send_control("b", b"x")
            except (PeerLost, UserError):
                pass  # another thread disconnected meanwhile
            except Exception as error:  # noqa: BLE001 - told below
                failures.append(error)
            a.transport.disconnect("b")

    threads = [threading.Thread(target=churn) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not any(thread.is_alive() for thread in threads)
    assert failures == []
