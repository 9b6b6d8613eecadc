"""Types of budget.pyx: who may hold how much memory."""

from types import TracebackType

from shuffle_worker._native.buffer import BufferPool

class Permit:
    """Bytes that somebody else's allocator holds. A context manager; `correct` once the truth is known."""

    bytes: int
    def correct(self, actual: int) -> None:
        """The allocation turned out to be `actual` bytes. Never waits: an excess closes admission instead."""
    def release(self) -> None: ...
    def __enter__(self) -> Permit: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

class Budget:
    """Memory of one process: `limit_bytes` over all live and kept buffers of `pool`, credit granted, and permits."""

    pool: BufferPool
    limit_bytes: int
    high_bytes: int
    low_bytes: int
    def __init__(
        self,
        pool: BufferPool,
        limit_bytes: int,
        high: float = 0.7,
        low: float = 0.5,
        sink_bytes: int | None = None,
        permits: int = 2,
    ) -> None:
        """`sink_bytes` (default: an eighth) is kept for the sink: no earlier stage may take it.

        `permits`: how many may run at once, for the source and for the sink each.
        """
    def permit(self, bytes: int, deadline_s: float, what: str, sink: bool = False) -> Permit:
        """Wait, without the GIL, until `bytes` fit.

        :raises AdmissionError: they can never fit. :raises DeadlineExceeded: names what held the memory.
        """
    def figures(self) -> str:
        """What holds the memory, for messages."""
    def snapshot(self) -> dict[str, int]:
        """Every counter, read at one moment."""
    @property
    def used_bytes(self) -> int: ...
    @property
    def peak_bytes(self) -> int: ...
    @property
    def reserved_bytes(self) -> int:
        """Credit granted to senders and not yet used."""
    @property
    def permit_bytes(self) -> int: ...
    @property
    def stalls(self) -> int: ...
    @property
    def stall_ns(self) -> int: ...
