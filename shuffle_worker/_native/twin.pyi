"""Types of twin.pyx: in-memory surroundings of the transport, for tests."""

from shuffle_worker._native.buffer import BufferPool
from shuffle_worker._native.frame import Frame
from shuffle_worker._native.receiver import Receiver

LATER: int
FENCED_SHUFFLE: int

class MemoryReceiver(Receiver):
    """Takes frames into memory up to a limit; answers with the verdict that the test chooses."""

    verdict: int
    grant_answer: int
    refuse_buffers: bool
    discard: bool
    limit_bytes: int
    reserved_bytes: int
    held_bytes: int
    peak_bytes: int
    frames: int
    bytes: int
    def __init__(self, pool: BufferPool, limit_bytes: int) -> None: ...
    def take(self, timeout_s: float = 5.0) -> Frame | None:
        """The oldest frame held; None when none came in time."""
    def wait_frames(self, count: int, timeout_s: float = 30.0) -> bool:
        """Wait until `count` frames were taken in all; False when that took too long."""
    def set_limit(self, limit_bytes: int, wake: bool = True) -> None:
        """Change how much may be held; with `wake`, tell the transport."""

class SocketlessWire:
    """A transport's state without sockets: connections are numbers, bytes go in by `feed` and come out by `output`."""

    receiver: MemoryReceiver
    waiting: int
    live: int
    events: int
    def __init__(
        self,
        receiver: MemoryReceiver,
        tokens: tuple[str, ...] = (),
        incarnation: int = 7,
        window_bytes: int = 65536,
        max_frame_bytes: int = 1 << 20,
        max_control_bytes: int = 1 << 16,
    ) -> None: ...
    def accept(self) -> int: ...
    def dial(self, name: str, expect: int = 0, data: bool = True) -> int: ...
    def feed(self, connection: int, data: bytes) -> bool:
        """Whether the connection still reads."""
    def feed_straight(self, connection: int, data: bytes) -> bool:
        """The same, putting payload bytes straight into their buffers, as the socket loop does."""
    def output(self, connection: int) -> bytes:
        """What the connection has to write; taken."""
    def end(self, connection: int) -> None:
        """The other side is gone."""
    def reason(self, connection: int) -> str:
        """Why the connection ended; empty while it lives."""
    def advance(self, seconds: float) -> None:
        """Let time pass, and serve who waits for credit."""
    def outstanding(self, connection: int, shuffle: bytes) -> int:
        """Credit that the connection holds for the shuffle."""
