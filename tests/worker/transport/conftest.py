"""Transports to test with, and the protocol spoken by hand: a second implementation, from docs/protocol.md alone."""

import json
import socket
import struct
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest

from shuffle_worker._native.buffer import BufferPool
from shuffle_worker._native.frame import Frame, crc32c_of
from shuffle_worker._native.transport import Transport
from shuffle_worker._native.twin import MemoryReceiver
from shuffle_worker.wire.types import Address, Event, TransportConfig, TransportLimits

HEADER = struct.Struct("<IBBH16sQIIIIIIIIQQIII")
KINDS = SimpleNamespace(HELLO=1, WELCOME=2, REFUSE=3, DATA=4, CREDIT=5, NEED=6, REJECT=7, CONTROL=8, HEARTBEAT=9)
SHUFFLE = bytes(range(16))


@dataclass
class Speaker:
    """Encodes and decodes frames without the native code, but for the CRC."""

    kinds: SimpleNamespace = field(default_factory=lambda: KINDS)
    shuffle: bytes = SHUFFLE

    def frame(
        self, kind: int, payload: bytes = b"", value: int = 0, version: int = 1, shuffle: bytes = SHUFFLE, **names: int
    ) -> bytes:
        stream = [names.get(name, 0) for name in ("map", "epoch", "attempt", "generation", "group", "number")]
        fields = (
            0x31464853,
            version,
            kind,
            0,
            shuffle,
            0,
            *stream,
            0,
            0,
            value,
            len(payload),
            crc32c_of(payload),
            0,
            0,
        )
        head = HEADER.pack(*fields)
        return head + struct.pack("<I", crc32c_of(head)) + payload

    def hello(self, name: str = "stranger", role: str = "data", **fields: object) -> bytes:
        said = {
            "protocol": 1,
            "role": role,
            "name": name,
            "incarnation": "00000000000000ff",
            "max_frame_bytes": 1 << 20,
        }
        return self.frame(KINDS.HELLO, json.dumps(said | fields).encode())

    def welcome(self, name: str, incarnation: int) -> bytes:
        said = {"protocol": 1, "name": name, "incarnation": f"{incarnation:016x}", "max_frame_bytes": 1 << 20}
        return self.frame(KINDS.WELCOME, json.dumps(said).encode())

    def parse(self, data: bytes) -> list[tuple[int, int, bytes]]:
        """(kind, value, payload) of each whole frame."""
        found = []
        while len(data) >= 96:
            parts = HEADER.unpack_from(data)
            length = parts[15]
            found.append((parts[2], parts[14], data[96 : 96 + length]))
            data = data[96 + length :]
        return found


HEADER_BYTES = 96
assert HEADER.size == HEADER_BYTES - 4


class Node:
    """A transport, its receiver and its pool."""

    def __init__(self, config: TransportConfig, receiver_bytes: int) -> None:
        self.pool = BufferPool()
        self.receiver = MemoryReceiver(self.pool, receiver_bytes)
        self.transport = Transport(config, self.receiver)
        self.config = config
        self.seen: list[Event] = []
        self.handed_over = 0

    @property
    def name(self) -> str:
        return self.config.name

    @property
    def address(self) -> Address:
        return self.transport.address

    def join(self, other: "Node") -> None:
        """Connect to the other, one way."""
        self.transport.connect(other.address)
        self.transport.wait_connected(other.name, 10)

    def frame(self, payload: bytes, shuffle: bytes = SHUFFLE, **names: int) -> Frame:
        return Frame.build(self.pool, payload, shuffle=shuffle, incarnation=self.config.incarnation, **names)

    def await_event(self, kind: type, timeout_s: float = 10.0, **fields: object) -> Event:
        """The next event of that type with those fields; it and all before it are taken."""
        deadline = time.monotonic() + timeout_s
        while True:
            self.seen += self.transport.drain()
            for number, event in enumerate(self.seen):
                if isinstance(event, kind) and all(getattr(event, key) == value for key, value in fields.items()):
                    del self.seen[: number + 1]
                    return event
            if time.monotonic() > deadline:
                raise AssertionError(f"no {kind.__name__} with {fields} within {timeout_s} s, only {self.seen}")
            time.sleep(0.002)

    def peer(self, name: str):
        return next(state for state in self.transport.peers() if state.name == name)


def await_true(condition: Callable[[], object], timeout_s: float = 10.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(0.002)


@pytest.fixture
def eventually() -> Callable[..., None]:
    return await_true


@pytest.fixture
def speaker() -> Speaker:
    return Speaker()


@pytest.fixture
def make_node() -> Iterator[Callable[..., Node]]:
    """make_node(name, incarnation=..., receiver_bytes=..., tokens=..., **limits)."""
    nodes: list[Node] = []

    def make(
        name: str,
        incarnation: int = 1,
        receiver_bytes: int = 64 << 20,
        tokens: tuple[str, ...] = (),
        port: int = 0,
        **limits: float,
    ) -> Node:
        chosen = TransportLimits(**({"heartbeat_s": 0.1, "connect_timeout_s": 2.0} | limits))  # type: ignore[arg-type]
        node = Node(TransportConfig(name, incarnation, port=port, tokens=tokens, limits=chosen), receiver_bytes)
        nodes.append(node)
        return node

    yield make
    for node in nodes:
        node.transport.close(1.0)


@pytest.fixture
def knock() -> Iterator[Callable[[Node], socket.socket]]:
    """A bare connection to a node's port."""
    opened: list[socket.socket] = []

    def connect(node: Node) -> socket.socket:
        opened.append(socket.create_connection((node.address.host, node.address.port), timeout=10))
        return opened[-1]

    yield connect
    for connection in opened:
        connection.close()


@pytest.fixture
def read_frames(speaker: Speaker) -> Callable[..., list[tuple[int, int, bytes]]]:
    """Read from a socket until `count` frames came or the other side closed."""

    def read(connection: socket.socket, count: int) -> list[tuple[int, int, bytes]]:
        data = b""
        while len(speaker.parse(data)) < count:
            more = connection.recv(65536)
            if not more:
                break
            data += more
        return speaker.parse(data)

    return read
