"""Output on storage that all members mount: staged beside its final place, linked together, renamed at the end.

    <parent>/.<name>.staging/<job uid>/nonce, prepared.<digest>
    <parent>/.<name>.staging/<job uid>/<incarnation>/part-00007.<generation>
    <parent>/.<name>.staging/<job uid>/publish.<token>/        becomes <parent>/<name>

Nobody writes to a file that has its generation's name: it was another name until it was whole. A folder in which a
zombie may still write is never renamed: links of just the manifest's files go into a fresh one, of one publisher alone.
"""

import contextlib
import errno
import os
import secrets
import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa

from shuffle_worker.errors import InternalError, OutputError
from shuffle_worker.quantity import format_bytes
from shuffle_worker.sink.base import FileRecord, Output, Staged, StagedFile
from shuffle_worker.sink.exchange import exchange, exchange_fault
from shuffle_worker.sink.manifest import MANIFEST, SUCCESS, OutputManifest, format_manifest, parse_manifest
from shuffle_worker.spec.paths import staging_folder

NONCE = "nonce"
PREPARED = "prepared"
PUBLISH_TRIES = 3
REMOVE_TRIES = 5
_NO_LINKS = (errno.EPERM, errno.EACCES, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EMLINK, errno.EXDEV)
_NOT_EMPTY = (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR)

# Called with the name of each step of a publication before it is taken. Tests interrupt there.
Step = Callable[[str], None]


class LocalOutput(Output):
    def __init__(
        self, path: str, uid: bytes, incarnation: int, replace: bool = False, step: Step = lambda _: None
    ) -> None:
        self._final = Path(os.path.abspath(path))
        self._job = staging_folder(path, uid)
        self._root = self._job.parent
        self._own = f"{incarnation:016x}"
        self._replace = replace
        self._step = step

    # ---- before the job

    def check_free(self) -> None:
        if self._final.is_symlink() or (self._final.exists() and not self._final.is_dir()):
            kind = "a link" if self._final.is_symlink() else "not a folder"
            raise OutputError(f"{self._final} is there and is {kind}: choose another path for the sink")
        if not self._is_taken():
            return
        if not self._replace:
            raise OutputError(
                f"the output {self._final} exists: choose another path, remove it, or set spec.sink.overwrite: Replace"
            )
        fault = exchange_fault(self._final.parent)
        if fault:
            raise OutputError(self._cannot_replace(fault))

    def write_nonce(self, nonce: str) -> None:
        self._keep(NONCE, nonce.encode())

    def check_nonce(self, nonce: str, member: str) -> None:
        try:
            found = (self._job / NONCE).read_text(encoding="utf-8")
        except OSError as error:
            found = f"{error.strerror}"
        if found != nonce:
            raise OutputError(
                f"the worker {member} does not see what the planner wrote to {self._job / NONCE} ({found}): "
                "mount the same storage at this path on every worker, or write to s3://"
            )

    # ---- staging

    def create(self, name: str) -> StagedFile:
        folder = self._job / self._own
        stem = name.partition(".")[0]
        try:
            folder.mkdir(parents=True, exist_ok=True)
            return LocalFile(self._job, f"{self._own}/{stem}")
        except OSError as error:
            raise self._fault("cannot write", error) from error

    def remove_incarnation(self) -> None:
        self._remove(self._job / self._own)

    def remove_staging(self) -> None:
        self._remove(self._job)
        with contextlib.suppress(OSError):  # another job stages below it, or removed it first
            self._root.rmdir()

    # ---- publishing

    def save_manifest(self, digest: str, prepared: bytes) -> None:
        self._keep(f"{PREPARED}.{digest}", prepared)

    def load_manifest(self, digest: str) -> bytes | None:
        try:
            return (self._job / f"{PREPARED}.{digest}").read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._fault("cannot read", error) from error

    def is_published(self, digest: str) -> bool:
        found = self._published()
        return found is not None and found.digest == digest

    def publish(self, manifest: OutputManifest, records: list[FileRecord]) -> None:
        for left in reversed(range(PUBLISH_TRIES)):
            if self.is_published(manifest.digest):
                self._sync_final()  # whoever published may have died before that
                return
            try:
                self._publish_once(manifest, records)
                return
            except FileNotFoundError as error:
                # Another coordinator of this job may have published and cleaned up meanwhile.
                if not left:
                    raise OutputError(
                        f"cannot publish {self._final}: {error.filename} is gone, though it was staged"
                    ) from error
            except OSError as error:
                raise self._fault("cannot publish", error) from error

    def _publish_once(self, manifest: OutputManifest, records: list[FileRecord]) -> None:
        if self._is_taken() and not self._replace:
            raise OutputError(
                f"{self._final} appeared while the job ran ({self._holder()}): nothing was published; "
                "remove it or choose another path, and run the job again"
            )
        fresh = self._gather(manifest, records)
        self._step("manifest")
        write_durably(fresh / SUCCESS, b"")
        write_durably(fresh / MANIFEST, format_manifest(manifest))
        self._step("sync")
        sync_folder(fresh)
        self._step("rename")
        self._move_into_place(fresh)
        self._step("sync parent")
        self._sync_final()

    def _gather(self, manifest: OutputManifest, records: list[FileRecord]) -> Path:
        """A folder of exactly the manifest's files."""
        fresh = self._job / f"publish.{secrets.token_hex(8)}"
        self._step("folder")
        fresh.mkdir()
        for record in records:
            staged = self._job / record.staged
            self._step(f"link {record.name}")
            try:
                os.link(staged, fresh / record.name)
            except OSError as error:
                if error.errno not in _NO_LINKS:
                    raise
                self._remove(fresh)
                return self._gather_by_renaming(manifest, records, error)
            _check_size(fresh / record.name, record)
        return fresh

    def _gather_by_renaming(self, manifest: OutputManifest, records: list[FileRecord], fault: OSError) -> Path:
        """Where there are no links. All publishers of one manifest use one folder, for none of them could take back
        what another has moved; so it is never exchanged, only renamed once."""
        if self._replace and self._is_taken():
            raise OutputError(self._cannot_replace(f"it has no hard links: {fault.strerror}"))
        fresh = self._job / f"publish-{manifest.digest}"
        fresh.mkdir(exist_ok=True)
        for record in records:
            self._step(f"move {record.name}")
            with contextlib.suppress(FileNotFoundError):  # moved before: its size is checked like any other's
                os.rename(self._job / record.staged, fresh / record.name)
            _check_size(fresh / record.name, record)
        return fresh

    def _move_into_place(self, fresh: Path) -> None:
        if self._replace and self._final.is_dir():
            exchange(fresh, self._final)
            self._step("remove old")
            self._remove(fresh)  # now what was there before
            return
        try:
            os.rename(fresh, self._final)
        except OSError as error:
            if error.errno not in _NOT_EMPTY:
                raise
            raise FileNotFoundError(errno.ENOENT, "another output was published", str(self._final)) from error

    def _published(self) -> OutputManifest | None:
        place = self._final / MANIFEST
        try:
            return parse_manifest(place.read_bytes(), str(place))
        except (OSError, OutputError):
            return None  # no output, or one of another program

    def _is_taken(self) -> bool:
        try:
            with os.scandir(self._final) as entries:
                return next(entries, None) is not None
        except FileNotFoundError:
            return False
        except OSError as error:
            raise self._fault("cannot look at", error) from error

    def _holder(self) -> str:
        found = self._published()
        return f"of job {found.job}" if found else "not of a shuffle"

    def _sync_final(self) -> None:
        sync_folder(self._final.parent)

    def _cannot_replace(self, fault: str) -> str:
        return (
            f"{self._final} cannot be replaced in one step on this file system ({fault}): remove it, or choose another "
            "path"
        )

    def _keep(self, name: str, content: bytes) -> None:
        """Write a file of the job's folder, whole or not at all."""
        unfinished = self._job / f"{name}.{secrets.token_hex(8)}"
        try:
            self._job.mkdir(parents=True, exist_ok=True)
            write_durably(unfinished, content)
            unfinished.replace(self._job / name)
            sync_folder(self._job)
        except OSError as error:
            raise self._fault("cannot write", error) from error

    def _remove(self, folder: Path) -> None:
        """Remove a folder, though a zombie may still write into it or another may remove it too."""
        for left in reversed(range(REMOVE_TRIES)):
            try:
                remove_tree(folder)
                return
            except OSError as error:
                if not left or error.errno != errno.ENOTEMPTY:
                    raise self._fault("cannot remove", error) from error

    def _fault(self, what: str, error: OSError) -> OutputError:
        return storage_fault(what, error, self._final.parent)


class LocalFile(StagedFile):
    """`<stem>.open-<token>` until it is whole, then `<stem>.<generation>`. `stem` is below the job's folder."""

    def __init__(self, job: Path, stem: str) -> None:
        self._job = job
        self._stem = stem
        self._path = job / f"{stem}.open-{secrets.token_hex(8)}"
        os.close(os.open(self._path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        self.stream = pa.OSFile(str(self._path), "wb")
        self._done = False

    def finish(self, generation: int) -> Staged:
        place = f"{self._stem}.{generation}"
        try:
            self.stream.close()
            sync_file(self._path)
            size = self._path.stat().st_size
            if (self._job / place).exists():
                raise InternalError(f"{self._job / place} was staged already: a generation is written once")
            # The name need not outlive a crash of the storage: publishing makes durable names of its own.
            os.rename(self._path, self._job / place)
        except OSError as error:
            raise storage_fault("cannot write", error, self._job) from error
        self._done = True
        return Staged(place, size)

    def abort(self) -> None:
        if self._done:
            return
        self._done = True
        try:
            self.stream.close()
            self._path.unlink(missing_ok=True)
        except OSError as error:
            raise storage_fault("cannot remove", error, self._job) from error

    def fault(self, error: OSError) -> OutputError:
        return storage_fault("cannot write", error, self._path)


def storage_fault(what: str, error: OSError, place: Path) -> OutputError:
    """An error of the file system in a sentence; a full disk with its figures."""
    name = error.filename or place
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        usage = shutil.disk_usage(existing_part(place))
        return OutputError(
            f"{what} {name}: the disk is full ({format_bytes(usage.free)} of {format_bytes(usage.total)} free): "
            "free some space, or write the output elsewhere"
        )
    return OutputError(f"{what} {name}: {error.strerror or error}")


def existing_part(path: Path) -> Path:
    """The path, or the nearest folder above it that exists."""
    return next(folder for folder in (path, *path.parents) if folder.exists())


def remove_tree(folder: Path) -> None:
    """Remove a folder and all in it; what is gone already is fine. Links are removed, not followed."""
    for parent, folders, files in os.walk(folder, topdown=False):
        for name in files:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(os.path.join(parent, name))
        for name in folders:
            path = os.path.join(parent, name)
            with contextlib.suppress(FileNotFoundError):
                (os.unlink if os.path.islink(path) else os.rmdir)(path)
    with contextlib.suppress(FileNotFoundError):
        os.rmdir(folder)


def _check_size(path: Path, record: FileRecord) -> None:
    size = path.stat().st_size
    if size != record.bytes:
        raise OutputError(f"{record.name} was staged with {record.bytes} bytes and has {size}: nothing was published")


def write_durably(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def sync_file(path: Path) -> None:
    _sync(path, os.O_RDONLY)


def sync_folder(path: Path) -> None:
    """Make names in it durable."""
    _sync(path, os.O_RDONLY | os.O_DIRECTORY)


def _sync(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
