"""The transport against a plain TCP socket, and its round trip. Two processes on loopback, rounds interleaved.

    python -m benchmarks.micro_transport [--seconds 1.0] [--rounds 5] [--json FILE]

stream     one sender, frames of 1 MiB, every payload checksummed by the receiver; against `sendall` and `recv_into` of
           as many bytes over a bare socket with the same options. Target: >= 0.8x.
round trip a frame of 64 KiB, answered by a control message from the other process's Python, in ms. Target: p99 < 0.5.
"""

import argparse
import json
import multiprocessing
import os
import select
import socket
import statistics
import sys
import time
from multiprocessing.connection import Connection

from shuffle_worker._native.buffer import BufferPool
from shuffle_worker._native.frame import Frame
from shuffle_worker._native.transport import Transport
from shuffle_worker._native.twin import MemoryReceiver
from shuffle_worker.wire.types import Address, Message, TransportConfig

FRAME = 1 << 20
SMALL = 64 << 10
SHUFFLE = bytes(range(16))
WARM_FRAMES = 64


def _serve_frames(pipe: Connection) -> None:
    """The receiving process: counts frames, and answers each small one by a control message."""
    receiver = MemoryReceiver(BufferPool(), 256 << 20)
    with Transport(TransportConfig("receiver", 2), receiver) as transport:
        pipe.send(transport.address.port)
        transport.connect(Address("sender", "127.0.0.1", pipe.recv()))
        transport.wait_connected("sender", 10)
        pipe.send("ready")
        while (order := pipe.recv()) is not None:
            mode, count = order
            receiver.discard = mode == "stream"
            pipe.send("ready")
            if receiver.discard:
                done = receiver.wait_frames(count, 120)
                pipe.send(done)
                continue
            for _ in range(count):
                if receiver.take(10) is None:
                    raise TimeoutError("a frame of the round trip did not arrive within 10 s")
                transport.send_control("sender", b"ok")


def _serve_socket(pipe: Connection) -> None:
    """The receiving end of the bare socket."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        pipe.send(server.getsockname()[1])
        connection, _ = server.accept()
    buffer = bytearray(FRAME)
    with connection:
        while (count := pipe.recv()) is not None:
            left = count * FRAME
            while left:
                left -= connection.recv_into(buffer, min(left, FRAME))
            pipe.send(True)


class Peer:
    """The other process, and the pipe to it."""

    def __init__(self, serve: object) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=serve, args=(theirs,), daemon=True)  # type: ignore[arg-type]
        self.process.start()
        self.port = self.pipe.recv()

    def stop(self) -> None:
        self.pipe.send(None)
        self.process.join(10)


class FrameStream:
    """Our transport to the other process."""

    def __init__(self) -> None:
        pool = BufferPool()
        self.transport = Transport(TransportConfig("sender", 1), MemoryReceiver(pool, 64 << 20))
        self.peer = Peer(_serve_frames)
        self.transport.connect(Address("receiver", "127.0.0.1", self.peer.port))
        self.peer.pipe.send(self.transport.address.port)
        self.transport.wait_connected("receiver", 10)
        assert self.peer.pipe.recv() == "ready"
        self.sent = 0
        self.large = Frame.build(pool, os.urandom(FRAME), shuffle=SHUFFLE)
        self.small = Frame.build(pool, os.urandom(SMALL), shuffle=SHUFFLE)

    def _order(self, mode: str, count: int) -> None:
        """Tell the other side what comes: how many round trips, or up to which frame since the start."""
        self.peer.pipe.send((mode, count))
        assert self.peer.pipe.recv() == "ready"

    def stream(self, count: int) -> float:
        """Seconds until `count` frames were taken by the other side."""
        self.sent += count
        self._order("stream", self.sent)
        began = time.perf_counter()
        for _ in range(count):
            self.transport.send("receiver", self.large, 60)
        assert self.peer.pipe.recv()
        return time.perf_counter() - began

    def round_trips(self, count: int) -> list[float]:
        """Seconds of each."""
        self.sent += count
        self._order("trip", count)
        self.transport.drain()
        return [self._round_trip() for _ in range(count)]

    def _round_trip(self) -> float:
        began = time.perf_counter()
        self.transport.send("receiver", self.small, 10)
        while True:
            if not select.select([self.transport.fileno()], [], [], 10)[0]:
                raise TimeoutError("no answer to a frame within 10 s")
            if any(isinstance(event, Message) for event in self.transport.drain()):
                return time.perf_counter() - began

    def close(self) -> None:
        self.peer.stop()
        self.transport.close()


class SocketStream:
    """A bare socket to the other process."""

    def __init__(self) -> None:
        self.peer = Peer(_serve_socket)
        self.socket = socket.create_connection(("127.0.0.1", self.peer.port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.payload = os.urandom(FRAME)

    def stream(self, count: int) -> float:
        self.peer.pipe.send(count)
        began = time.perf_counter()
        for _ in range(count):
            self.socket.sendall(self.payload)
        assert self.peer.pipe.recv()
        return time.perf_counter() - began

    def close(self) -> None:
        self.peer.stop()
        self.socket.close()


def _percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(int(len(values) * share), len(values) - 1)]


def measure(seconds: float, rounds: int) -> dict[str, float]:
    """Medians over interleaved rounds. GiB/s and milliseconds."""
    ours, plain = FrameStream(), SocketStream()
    try:
        plain.stream(WARM_FRAMES)
        ours.stream(WARM_FRAMES)
        count = max(int(WARM_FRAMES * seconds / plain.stream(WARM_FRAMES)), WARM_FRAMES)
        pairs = [(ours.stream(count), plain.stream(count)) for _ in range(rounds)]
        ours.round_trips(200)
        trips = ours.round_trips(3000)
    finally:
        ours.close()
        plain.close()
    gib = count * FRAME / (1 << 30)
    return {
        "stream_frames": count,
        "stream_gib_s": gib / statistics.median(a for a, _ in pairs),
        "socket_gib_s": gib / statistics.median(b for _, b in pairs),
        "stream_to_socket": statistics.median(b / a for a, b in pairs),
        "round_trip_p50_ms": statistics.median(trips) * 1e3,
        "round_trip_p99_ms": _percentile(trips, 0.99) * 1e3,
        "load_1min": os.getloadavg()[0],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=1.0, help="of one stream in one round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", help="write the figures to this file too")
    arguments = parser.parse_args()
    figures = measure(arguments.seconds, arguments.rounds)
    for name, value in figures.items():
        sys.stdout.write(f"{name:20} {value:10.3f}\n")
    text = json.dumps(figures)
    sys.stdout.write(text + "\n")
    if arguments.json:
        with open(arguments.json, "w", encoding="utf-8") as file:
            file.write(text + "\n")


if __name__ == "__main__":
    main()
