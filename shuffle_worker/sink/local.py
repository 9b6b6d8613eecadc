"""Output on storage that all members mount: staged beside its final place, linked together, renamed at the end.

    <parent>/.<name>.staging/<job uid>/nonce
    <parent>/.<name>.staging/<job uid>/<incarnation>/part-00007.<generation>
    <parent>/.<name>.staging/<job uid>/published/          what becomes <parent>/<name>

A folder in which a zombie may still write is never renamed: only links of the manifest's files go into a fresh one.
"""

import contextlib
import ctypes
import errno
import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from shuffle_worker.errors import OutputError
from shuffle_worker.sink.base import FileRecord, Output
from shuffle_worker.sink.storage import MANIFEST, SUCCESS, Storage, part_name

AT_FDCWD = -100
RENAME_EXCHANGE = 2
NONCE = "nonce"


class LocalStorage(Storage):
    def __init__(self, path: str, uid: bytes, incarnation: int, suffix: str) -> None:
        self._final = Path(os.path.abspath(path))
        self._root = self._final.parent / f".{self._final.name}.staging"
        self._job = self._root / uid.hex()
        self._own = self._job / f"{incarnation:016x}"
        self._suffix = suffix

    def check_free(self, replace: bool) -> None:
        if not os.path.lexists(self._final):
            return
        if not self._final.is_dir():
            raise OutputError(f"{self._final} is there and is not a folder: choose another spec.sink path")
        if not replace and any(self._final.iterdir()):
            raise OutputError(
                f"{self._final} exists: choose another path, remove it, or set spec.sink.overwrite: Replace"
            )

    def leave_nonce(self, nonce: str) -> None:
        try:
            self._job.mkdir(parents=True, exist_ok=True)
            staged = self._job / f"{NONCE}.new"
            staged.write_text(nonce, encoding="utf-8")
            staged.replace(self._job / NONCE)
        except OSError as error:
            raise OutputError(f"cannot write below {self._root.parent}: {error.strerror}") from None

    def read_nonce(self) -> str:
        try:
            return (self._job / NONCE).read_text(encoding="utf-8")
        except OSError:
            return ""

    def open_output(self, partition: int, generation: int) -> Output:
        try:
            self._own.mkdir(parents=True, exist_ok=True)
            return LocalOutput(self._own / f"part-{partition:05d}.{generation}")
        except OSError as error:
            raise OutputError(f"cannot write below {self._own}: {error.strerror}") from None

    def publish(self, records: Sequence[FileRecord], manifest: dict[str, Any], replace: bool) -> None:
        if self._is_published(manifest["digest"]):
            return
        fresh = self._job / "published"
        try:
            if fresh.exists():
                shutil.rmtree(fresh)  # of a publication that was interrupted: nobody else has this name
            fresh.mkdir(parents=True)
            for record in records:
                _link(Path(record.staged), fresh / part_name(record.partition, self._suffix))
            _write_durably(fresh / MANIFEST, json.dumps(manifest, indent=1).encode())
            _write_durably(fresh / SUCCESS, b"")
            _sync_folder(fresh)
            self._move_into_place(fresh, replace)
            _sync_folder(self._final.parent)
        except OSError as error:
            raise OutputError(f"cannot publish {self._final}: {error.strerror}: {error.filename}") from error

    def _is_published(self, digest: str) -> bool:
        try:
            return bool(json.loads((self._final / MANIFEST).read_text(encoding="utf-8")).get("digest") == digest)
        except (OSError, ValueError):
            return False

    def _move_into_place(self, fresh: Path, replace: bool) -> None:
        if replace and self._final.exists():
            _exchange(fresh, self._final)
            shutil.rmtree(fresh)  # now what was there before
            return
        try:
            os.rename(fresh, self._final)
        except OSError as error:
            if error.errno in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR):
                raise OutputError(f"{self._final} appeared while the job ran: nothing was published") from None
            raise

    def remove_own(self) -> None:
        shutil.rmtree(self._own, ignore_errors=True)

    def remove_all(self) -> None:
        shutil.rmtree(self._job, ignore_errors=True)
        with contextlib.suppress(OSError):
            self._root.rmdir()  # another job may still stage below it


class LocalOutput(Output):
    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path.open("wb")

    def file(self) -> Any:
        return self._file

    def commit(self) -> tuple[str, int, tuple[tuple[int, str], ...]]:
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
            size = os.fstat(self._file.fileno()).st_size
            self._file.close()
        except OSError as error:
            raise OutputError(f"cannot write {self._path}: {error.strerror}") from None
        return str(self._path), size, ()

    def abort(self) -> None:
        with contextlib.suppress(OSError):
            self._file.close()
        with contextlib.suppress(OSError):
            self._path.unlink()


def _link(source: Path, target: Path) -> None:
    """Another name for the file; where the file system has no links, its only name from now on."""
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.EMLINK, errno.EOPNOTSUPP):
            raise
        os.rename(source, target)


def _write_durably(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(path: Path) -> None:
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _exchange(one: Path, other: Path) -> None:
    """Swap two names in one step. :raises OutputError: this file system cannot."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.renameat2(AT_FDCWD, os.fsencode(one), AT_FDCWD, os.fsencode(other), RENAME_EXCHANGE) != 0:
        number = ctypes.get_errno()
        raise OutputError(
            f"{other} cannot be replaced in one step on this file system ({os.strerror(number)}): remove it, or choose "
            "another path"
        )
