"""Where a process spills: `<root>/<cluster uid>/<incarnation>/` under every root, locked while the process lives.

The lock is a flock on the incarnation's directory itself, so the kernel drops it when the process ends, however it
ends. What is inside is the store's; removing what dead processes left is the janitor's.
"""

import contextlib
import errno
import fcntl
import os
import re
import time
from collections.abc import Iterator, Sequence
from types import TracebackType

from shuffle_worker.errors import DeadlineExceeded, SpecError

INCARNATION_NAME = re.compile(r"[0-9a-f]{16}")
SEGMENT_NAME = re.compile(r"[0-9]{12}\.seg")
CLUSTER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_LOCK_TIMEOUT_S = 10.0


class SpillDirectories:
    """The directories of one incarnation, one below each root. A context manager.

    :raises SpecError: a root cannot be made or written, or is named twice.
    """

    def __init__(self, roots: Sequence[str | os.PathLike[str]], cluster_uid: str, incarnation: int) -> None:
        self._cluster_uid = check_cluster_uid(cluster_uid)
        self._name = f"{incarnation:016x}"
        self._locks: list[int] = []
        self.paths: list[str] = []
        """What to give to the store, in the order of the roots."""
        try:
            for root in unique_roots(roots):
                self._add(root)
        except BaseException:
            self.close()
            raise

    def _add(self, root: str) -> None:
        path = os.path.join(root, self._cluster_uid, self._name)
        try:
            self._locks.append(make_locked(path))
        except OSError as error:
            raise SpecError(f"cannot spill to {root}: {error.strerror} ({error.filename or path})") from error
        self.paths.append(path)

    def close(self) -> None:
        """Remove the segment files and the directories that are then empty, and give up the locks. Idempotent."""
        for path, lock in zip(self.paths, self._locks, strict=True):
            with contextlib.suppress(FileNotFoundError):
                remove_segments(lock)
            remove_if_empty(path)
            os.close(lock)
            remove_if_empty(os.path.dirname(path))
        self.paths.clear()
        self._locks.clear()

    def __enter__(self) -> "SpillDirectories":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def check_cluster_uid(cluster_uid: str) -> str:
    """The UID, which names a directory; SpecError when it cannot."""
    if not CLUSTER_NAME.fullmatch(cluster_uid):
        raise SpecError(f"a cluster UID is letters, digits, '.', '_' and '-', not {cluster_uid!r}")
    return cluster_uid


def unique_roots(roots: Sequence[str | os.PathLike[str]]) -> Iterator[str]:
    """Absolute paths of the roots, made if they are missing; SpecError when two are the same directory."""
    seen: dict[tuple[int, int], str] = {}
    for each in roots:
        root = os.path.abspath(os.fspath(each))
        try:
            os.makedirs(root, exist_ok=True)
            found = os.stat(root)
        except OSError as error:
            raise SpecError(f"cannot spill to {root}: {error.strerror}") from error
        identity = (found.st_dev, found.st_ino)
        if identity in seen:
            raise SpecError(f"the spill directories {seen[identity]} and {root} are the same: name it once")
        seen[identity] = root
        yield root


def make_locked(path: str) -> int:
    """Make the directory and lock it; an open descriptor that holds the lock.

    A janitor may see the directory before it is locked, and remove it: then it is made again.
    """
    deadline = time.monotonic() + _LOCK_TIMEOUT_S
    while time.monotonic() < deadline:
        with contextlib.suppress(FileNotFoundError):
            os.makedirs(path, mode=0o700, exist_ok=True)
            lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            if try_lock(lock) and still_named(path, lock):
                return lock
            os.close(lock)
        time.sleep(0.01)
    raise DeadlineExceeded(f"waited {_LOCK_TIMEOUT_S:g} s for the lock of {path}: another process holds it")


def try_lock(descriptor: int) -> bool:
    """Take the lock unless somebody else has it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def still_named(path: str, descriptor: int) -> bool:
    """Whether the path still leads to the open directory."""
    try:
        named = os.stat(path, follow_symlinks=False)
    except FileNotFoundError:
        return False
    held = os.fstat(descriptor)
    return (named.st_dev, named.st_ino) == (held.st_dev, held.st_ino)


def remove_segments(directory: int) -> int:
    """Delete the segment files in an open directory; the bytes they had."""
    freed = 0
    for name in os.listdir(directory):
        if SEGMENT_NAME.fullmatch(name):
            freed += os.stat(name, dir_fd=directory, follow_symlinks=False).st_size
            os.unlink(name, dir_fd=directory)
    return freed


def remove_if_empty(path: str) -> bool:
    """Remove a directory unless something is in it; whether it is gone."""
    try:
        os.rmdir(path)
    except FileNotFoundError:
        return True
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.EBUSY):
            return False
        raise
    return True
