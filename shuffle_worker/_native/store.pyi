"""Types of store.pyx: the owner's side of the data plane."""

from collections.abc import Sequence
from types import TracebackType

from shuffle_worker._native.budget import Budget, Permit
from shuffle_worker._native.frame import Frame
from shuffle_worker._native.receiver import Receiver
from shuffle_worker.store.limits import ShuffleLimits, StoreLimits
from shuffle_worker.store.views import Counts as Counts
from shuffle_worker.store.views import Notice as Notice
from shuffle_worker.store.views import Ready as Ready
from shuffle_worker.store.views import Taken as Taken

class Store(Receiver):
    """Inbox, accounting, spill and hand-out of one process. Every method is thread-safe.

    Frames handed out stay accounted until the Frame object and all views of it are gone.
    """

    budget: Budget

    def __init__(self, budget: Budget, limits: StoreLimits, directories: Sequence[str] = ()) -> None: ...
    def __enter__(self) -> Store: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
    def close(self) -> None:
        """Stop the spill thread, wake every waiter with Cancelled, free all memory and segment files. Idempotent.

        The budget is closed with it. Frames handed out stay readable.
        """
    # shuffles and what fences
    def open_shuffle(self, uid: bytes, epoch: int, limits: ShuffleLimits = ...) -> None:
        """Idempotent for an open shuffle at the same or a newer epoch. :raises Fenced: it was closed."""
    def close_shuffle(self, uid: bytes) -> None:
        """Free everything of it; its frames are FENCED from now on. Idempotent."""
    def shuffles(self) -> list[bytes]: ...
    def place(self, uid: bytes, group: int, generation: int) -> None:
        """This owner holds the group at that generation; what it held at an older one is freed.

        :raises Fenced: the group is held at a newer generation.
        """
    def place_all(self, uid: bytes, groups: Sequence[int], generation: int) -> None: ...
    def drop_group(self, uid: bytes, group: int) -> None:
        """Free what is held of it; later frames of it are FENCED. Idempotent."""
    def fence(self, uid: bytes, epoch: int) -> None:
        """Refuse frames of attempts of older epochs from now on; what they delivered stays until discarded.

        :raises Fenced: the shuffle is at a newer epoch.
        """
    # streams
    def put(self, frame: Frame, deadline_s: float) -> int:
        """Take a frame of a mapper in this process; its payload is in a buffer of this budget's pool. A verdict.

        Blocks, without the GIL, while memory is above the limit.
        :raises DeadlineExceeded: names the figures. :raises DiskFull: no spill directory takes what is held.
        """
    def offer(self, frame: Frame) -> int:
        """The same without waiting and without a look at the budget: the rules of the inbox alone."""
    def expect(self, uid: bytes, map: int, epoch: int, attempt: int, frames: int) -> None:
        """Queue a notice as soon as the stream has that many frames (now, if it has them already)."""
    def notices(self) -> list[Notice]: ...
    def fileno(self) -> int:
        """An eventfd, readable while notices are queued."""
    def counts(self, uid: bytes, map: int, epoch: int, attempt: int) -> Counts | None:
        """None: unknown here, or discarded."""
    def streams(self, uid: bytes) -> list[tuple[int, int, int, Counts]]:
        """(map, epoch, attempt, counts) of every stream held."""
    def win(self, uid: bytes, map: int, epoch: int, attempt: int) -> None:
        """Its frames join their groups' ready queues, all at once. Idempotent.

        :raises Fenced: unknown, broken, discarded, or frames that were promised are missing.
        """
    def discard(self, uid: bytes, map: int, epoch: int, attempt: int) -> None:
        """Free its frames; later ones are FENCED. Idempotent. :raises Fenced: it has won."""
    def seal(self, uid: bytes, groups: Sequence[int] | None = None) -> None:
        """Nothing more will win in these groups (None: in all placed ones)."""
    # hand-out
    def take(self, uid: bytes, group: int, max_bytes: int, deadline_s: float, wait: bool = True) -> list[Frame]:
        """Remove ready frames in the order in which they won, at least one, at most about `max_bytes`.

        [] when the group is sealed and empty, or (wait=False) when nothing is ready.
        :raises DeadlineExceeded, Corrupted, Fenced (the group is not held):
        """
    def take_ready(self, uid: bytes, max_bytes: int, deadline_s: float) -> Taken | None:
        """Frames of the group with the most ready bytes among those with `ready_rows` rows ready, or sealed.

        The group is leased: no other take_ready gets it before `release_group`. A sealed group is handed out once
        with last=True, empty or not. None: all placed groups were. :raises DeadlineExceeded:
        """
    def release_group(self, uid: bytes, group: int) -> None: ...
    def wait_ready(self, uid: bytes, deadline_s: float) -> bool:
        """Wait until take_ready would not block; False when the deadline passed first."""
    def ready(self, uid: bytes) -> list[Ready]: ...
    def peek(self, uid: bytes, group: int, position: int, max_bytes: int, deadline_s: float = 60.0) -> list[Frame]:
        """Ready frames from `position` (counted from the group's first) on, left where they are; [] at the end."""
    # memory
    def permit(self, bytes: int, deadline_s: float, what: str, sink: bool = False) -> Permit:
        """Memory that a codec will allocate by itself, held as a context manager. See Budget.permit."""
    def stats(self) -> dict[str, int]: ...
    def directories(self) -> list[dict[str, object]]:
        """Path, free, reserve and spilled bytes, segments, and why it is out of use (or "") for each directory."""
    def disk_full(self) -> str:
        """A sentence with figures while no directory takes what must be spilled, else an empty string."""
