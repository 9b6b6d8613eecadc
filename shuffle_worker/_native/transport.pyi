"""Types of transport.pyx: frames and control messages between processes."""

from types import TracebackType

from shuffle_worker._native.frame import Frame
from shuffle_worker._native.receiver import Receiver
from shuffle_worker.wire.types import Address, Event, PeerState, TransportConfig

class Transport:
    """One I/O thread with all connections of this process. Thread-safe; waits without the GIL.

    Listens from construction on. Only the service layer holds one.
    """

    receiver: Receiver

    def __init__(self, config: TransportConfig, receiver: Receiver) -> None:
        """:raises UserError: the port is in use, or the host cannot be listened on."""
    def __enter__(self) -> Transport: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
    @property
    def address(self) -> Address:
        """Where peers reach this process: the advertised host and the port really bound."""
    def close(self, timeout_s: float = 5.0) -> None:
        """Write out queued control messages, close every socket, end the thread. Waiting sends fail. Idempotent."""
    # peers
    def connect(self, peer: Address) -> None:
        """Begin to connect; returns at once. The same address again is tried anew if it was given up, else nothing.

        Another incarnation or address under a known name replaces it. :raises UserError: the host has no address.
        """
    def disconnect(self, name: str) -> None:
        """End our connections to the peer: waiting sends fail. Those from it to us stay. Idempotent."""
    def wait_connected(self, name: str, timeout_s: float) -> None:
        """:raises PeerLost: given up, with the reason. :raises DeadlineExceeded: :raises UserError: unknown name."""
    def peers(self) -> list[PeerState]: ...
    # data
    def send(self, peer: str, frame: Frame, timeout_s: float) -> None:
        """Hand a sealed frame to the peer's queue, waiting for credit. It may still be lost: FIN's counts tell.

        :raises PeerLost: the peer is gone, or the connection broke meanwhile.
        :raises DeadlineExceeded: names peer, shuffle and what was missing.
        :raises Fenced: the owner rejected an earlier frame of the stream, or the shuffle.
        :raises Cancelled: abort_stream, close_shuffle or close.
        :raises UserError: no peer of that name, or a frame larger than it takes.
        """
    def abort_stream(self, shuffle: bytes, map: int, epoch: int, attempt: int) -> None:
        """Fail waiting and later sends of that stream, to every peer, and drop its frames that are still queued."""
    def close_shuffle(self, shuffle: bytes) -> None:
        """Fail waiting sends, drop queued frames, give credit back, forget its streams."""
    # control
    def send_control(self, peer: str, payload: bytes) -> None:
        """Queue a message: at most once, in order while the connection lives. Never waits.

        :raises PeerLost: not connected and given up, or the queue is full. :raises UserError: unknown, or too long.
        """
    def drain(self) -> list[Event]:
        """Take all queued events. Never waits."""
    def fileno(self) -> int:
        """An eventfd, readable while events are queued."""
    def set_progress(self, progress: int) -> None:
        """What heartbeats carry from now on."""
    def stats(self) -> dict[str, int | float | dict[str, int]]:
        """Counters since the start. `refused_frames` and `refused_hellos` are by reason; seconds end in _s."""
