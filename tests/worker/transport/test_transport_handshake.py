"""Who may come in, who may not and why, and that strangers cost little and stall nobody."""

import socket
import struct
import time

import pytest

from shuffle_worker._native.frame import HEADER_BYTES
from shuffle_worker.errors import DeadlineExceeded, PeerLost, UserError
from shuffle_worker.wire.types import Address, Connected, HelloRejected, Lost


def ends(connection: socket.socket) -> bytes:
    """What comes until the other side closes or resets."""
    data = b""
    try:
        while more := connection.recv(65536):
            data += more
    except ConnectionResetError:
        pass
    return data


def test_both_sides_learn_names_incarnations_and_addresses(make_node):
    a, b = make_node("a", 11), make_node("b", 22)
    a.join(b)
    out = a.await_event(Connected)
    assert (out.peer, out.incarnation, out.address, out.inbound) == ("b", 22, f"127.0.0.1:{b.address.port}", False)
    came = b.await_event(Connected)
    assert (came.peer, came.incarnation, came.address, came.inbound) == ("a", 11, f"127.0.0.1:{a.address.port}", True)
    assert b.peer("a").inbound >= 1
    assert a.peer("b").connected


@pytest.mark.parametrize(
    ("shown", "accepted"), [("new", ("new", "old")), ("old", ("new", "old")), ("t" * 200, ("t" * 200,))]
)
def test_an_accepted_token_opens(make_node, shown, accepted):
    make_node("a", 1, tokens=(shown,)).join(make_node("b", 2, tokens=accepted))


@pytest.mark.parametrize("shown", ["", "wrong", "secre", "secrets", "secretsecret", "SECRET"])
def test_any_other_token_is_refused_with_a_sentence(make_node, shown):
    a = make_node("a", 1, tokens=(shown,) if shown else ())
    b = make_node("b", 2, tokens=("secret",))
    with pytest.raises(PeerLost, match=r"b at .* is lost: the token is wrong: give a and b the same token"):
        a.join(b)
    lost = a.await_event(Lost)
    assert (lost.peer, lost.reason) == ("b", "rejected_hello")
    assert "token is wrong" in b.await_event(HelloRejected).what
    assert b.transport.stats()["refused_hellos"]["token"] >= 1
    assert b.transport.stats()["connections_opened"] == 0


def test_another_incarnation_is_refused_and_not_tried_again(make_node):
    a, b = make_node("a", 1), make_node("b", 2)
    a.transport.connect(Address("b", "127.0.0.1", b.address.port, 3))
    with pytest.raises(
        PeerLost, match=r"another incarnation .0000000000000002., not 0000000000000003: it was restarted"
    ):
        a.transport.wait_connected("b", 5)
    assert a.await_event(Lost, reason="gave_up").peer == "b"
    refused = b.transport.stats()["refused_hellos"]["incarnation"]
    time.sleep(0.2)
    assert b.transport.stats()["refused_hellos"]["incarnation"] == refused
    a.transport.connect(b.address)
    a.transport.wait_connected("b", 5)


def test_another_name_at_the_address_is_not_taken_for_the_peer(make_node):
    a, b = make_node("a", 1), make_node("b", 2)
    a.transport.connect(Address("c", "127.0.0.1", b.address.port))
    with pytest.raises(PeerLost, match=r"the member at .* is b, not c"):
        a.transport.wait_connected("c", 5)


def test_a_new_incarnation_under_a_known_name_replaces_the_old(make_node):
    a, old = make_node("a", 1), make_node("b", 2)
    a.join(old)
    new = make_node("b", 3)
    a.join(new)
    a.transport.send("b", a.frame(b"for the new one"), 5)
    assert bytes(new.receiver.take()) == b"for the new one"
    assert old.receiver.frames == 0


def test_another_protocol_version_is_refused(make_node, knock, speaker, read_frames):
    node = make_node("n", 1)
    stranger = knock(node)
    stranger.sendall(speaker.hello("s", protocol=2))
    kind, _, text = read_frames(stranger, 1)[0]
    assert kind == speaker.kinds.REFUSE
    assert b"speaks protocol 1, and s speaks 2" in text
    assert ends(stranger) == b""


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"{}",
        b"[]",
        b"{",
        b'{"protocol":1}',
        b'{"name":"x","role":"data","protocol":"1"}',
        b'{"a":{"b":1}}',
        b'{"name":"\\ud800","role":"data"}',
        b'{"name":"","role":"data"}',
        b'{"name":"a","role":"both"}',
        b'{"incarnation":"xyz"}',
        b'{"protocol":99999999999999999999}',
        b"\xff" * 4000,
        b'{"name":"a\\u0000b","role":"data"}',
    ],
)
def test_a_malformed_hello_ends_the_connection(make_node, knock, speaker, payload):
    node = make_node("n", 1)
    stranger = knock(node)
    stranger.sendall(speaker.frame(speaker.kinds.HELLO, payload))
    assert ends(stranger) == b""
    node.await_event(HelloRejected)


def test_a_hello_too_long_is_refused_before_its_payload_is_read(make_node, knock, speaker):
    node = make_node("n", 1)
    stranger = knock(node)
    stranger.sendall(speaker.frame(speaker.kinds.HELLO, b" " * 4097)[:HEADER_BYTES])
    assert ends(stranger) == b""
    assert node.transport.stats()["refused_frames"]["length"] == 1


@pytest.mark.parametrize("kind", range(2, 10))
def test_nothing_but_hello_is_taken_first(make_node, knock, speaker, kind):
    node = make_node("n", 1)
    stranger = knock(node)
    stranger.sendall(speaker.frame(kind, value=1))
    assert ends(stranger) == b""
    assert node.transport.stats()["refused_frames"]["unexpected_kind"] == 1


def test_a_silent_stranger_is_sent_away(make_node, knock):
    node = make_node("n", 1, hello_timeout_s=0.1)
    began = time.monotonic()
    assert ends(knock(node)) == b""
    assert 0.05 < time.monotonic() - began < 2
    assert "no HELLO in time" in node.await_event(HelloRejected).what
    assert node.transport.stats()["refused_hellos"]["late"] == 1


def test_a_flood_of_strangers_neither_grows_nor_stalls_the_transport(make_node, knock):
    a, b = make_node("a", 1), make_node("b", 2, max_strangers=8)
    strangers = [knock(b) for _ in range(100)]
    a.join(b)
    a.transport.send("b", a.frame(b"through"), 5)
    assert bytes(b.receiver.take()) == b"through"
    assert b.transport.stats()["refused_hellos"]["too_many"] >= 80
    assert sum(not still_open(stranger) for stranger in strangers) >= 80


def still_open(connection: socket.socket) -> bool:
    connection.settimeout(0.001)
    try:
        return connection.recv(1) != b""
    except TimeoutError:
        return True
    except ConnectionResetError:
        return False


def test_connections_are_limited(make_node, knock):
    node = make_node("n", 1, max_connections=4)
    for _ in range(4):
        knock(node)
    assert ends(knock(node)) == b""


def test_a_second_connection_of_the_same_peer_replaces_the_first(make_node, knock, speaker, read_frames):
    node = make_node("n", 1)
    first, second = knock(node), knock(node)
    for connection in (first, second):
        connection.sendall(speaker.hello("twice"))
        assert read_frames(connection, 1)[0][0] == speaker.kinds.WELCOME
    assert ends(first) == b""
    assert node.await_event(Lost).reason == "replaced"
    assert node.peer("twice").inbound == 1


def test_a_port_in_use_is_named(make_node):
    first = make_node("a", 1)
    with pytest.raises(UserError, match=rf"port {first.address.port} on 127.0.0.1 is in use: choose another, or 0"):
        make_node("b", 2, port=first.address.port)


def test_unknown_hosts_are_the_callers_fault(make_node):
    node = make_node("n", 1)
    with pytest.raises(UserError, match="ghost cannot be reached at"):
        node.transport.connect(Address("ghost", "no such host", 1))
    with pytest.raises(UserError, match="ports are 1 to 65535"):
        node.transport.connect(Address("ghost", "127.0.0.1", 0))


def test_ipv6_loopback_works():
    from shuffle_worker._native.buffer import BufferPool
    from shuffle_worker._native.transport import Transport
    from shuffle_worker._native.twin import MemoryReceiver
    from shuffle_worker.wire.types import TransportConfig

    if not socket.has_ipv6:
        pytest.skip("this machine has no IPv6")
    try:
        a = Transport(TransportConfig("a", 1, host="::1"), MemoryReceiver(BufferPool(), 1 << 20))
    except UserError as error:
        pytest.skip(f"no IPv6 loopback: {error}")
    with a, Transport(TransportConfig("b", 2, host="::1"), MemoryReceiver(BufferPool(), 1 << 20)) as b:
        a.connect(b.address)
        a.wait_connected("b", 5)
        assert a.peers()[0].address == f"[::1]:{b.address.port}"


def test_nobody_there_is_told_at_once_and_given_up_at_the_deadline(make_node):
    node = make_node("n", 1, connect_timeout_s=0.3)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    began = time.monotonic()
    node.transport.connect(Address("gone", "127.0.0.1", port, 5))
    assert node.await_event(Lost).reason == "refused"
    assert time.monotonic() - began < 0.2
    with pytest.raises(PeerLost, match=r"gone at 127.0.0.1:\d+ is lost: .*refused.* \(tried for 300 ms\)"):
        node.transport.wait_connected("gone", 5)
    assert 0.1 < time.monotonic() - began < 1
    assert node.await_event(Lost, reason="gave_up").peer == "gone"
    with pytest.raises(PeerLost):
        node.transport.send("gone", node.frame(b"x"), 5)
    with pytest.raises(PeerLost):
        node.transport.send_control("gone", b"x")


def test_one_that_was_given_up_is_tried_again_on_demand(make_node):
    a, b = make_node("a", 1, connect_timeout_s=0.1), make_node("b", 2)
    b.transport.close()
    a.transport.connect(b.address)
    with pytest.raises(PeerLost):
        a.transport.wait_connected("b", 5)
    again = make_node("b", 2, port=b.address.port)
    a.join(again)
    a.transport.send("b", a.frame(b"x"), 5)
    assert bytes(again.receiver.take()) == b"x"


def test_one_who_accepts_and_says_nothing_is_given_up(make_node):
    node = make_node("n", 1, hello_timeout_s=0.1, connect_timeout_s=0.2)
    with socket.create_server(("127.0.0.1", 0)) as server:
        node.transport.connect(Address("mute", "127.0.0.1", server.getsockname()[1]))
        with pytest.raises(PeerLost, match="did not answer in time"):
            node.transport.wait_connected("mute", 5)


@pytest.mark.parametrize("answer", [b"HTTP/1.1 400 Bad Request\r\n" * 10, struct.pack("<I", 0x31464853) + bytes(92)])
def test_one_who_speaks_something_else_is_given_up(make_node, answer):
    node = make_node("n", 1, connect_timeout_s=0.2)
    with socket.create_server(("127.0.0.1", 0)) as server:
        node.transport.connect(Address("other", "127.0.0.1", server.getsockname()[1]))
        server.settimeout(5)
        for _ in range(2):
            server.accept()[0].sendall(answer)
        assert "broke the protocol" in node.await_event(Lost).what


def test_waiting_for_a_connection_has_a_deadline(make_node):
    node = make_node("n", 1, connect_timeout_s=30)
    with socket.create_server(("127.0.0.1", 0)) as server:
        node.transport.connect(Address("slow", "127.0.0.1", server.getsockname()[1]))
        with pytest.raises(DeadlineExceeded, match=r"waited 0.1 s for a connection to slow at"):
            node.transport.wait_connected("slow", 0.1)
