"""Finding and opening input files, on local disks and on S3. Knows no format."""

import difflib
import glob
import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from shuffle_worker.errors import InputError
from shuffle_worker.plan import FileIdentity

S3 = "s3://"


class FileStore(ABC):
    """Where files are."""

    @abstractmethod
    def find(self, pattern: str, suffixes: tuple[str, ...]) -> list[str]:
        """Paths that match, in order of their names. :raises InputError: none does."""

    @abstractmethod
    def identity(self, path: str) -> FileIdentity:
        """:raises InputError: the file is gone or cannot be read."""

    @abstractmethod
    def open(self, path: str) -> pa.NativeFile:
        """A file for random reads. :raises InputError:"""


class LocalFiles(FileStore):
    """Files of this machine, or of storage it has mounted."""

    def find(self, pattern: str, suffixes: tuple[str, ...]) -> list[str]:
        path = os.path.abspath(pattern)
        if os.path.isdir(path):
            found = [name for suffix in suffixes for name in glob.glob(os.path.join(glob.escape(path), f"*{suffix}"))]
        else:
            found = [name for name in glob.glob(path, recursive=True) if os.path.isfile(name)]
        # Names that begin with _ or . are other programs' marks and unfinished files, as everywhere in this field.
        found = [name for name in found if not os.path.basename(name).startswith(("_", "."))]
        if not found:
            raise InputError(f"no file matches {pattern}: {self._near(path)}")
        return sorted(found)

    def _near(self, path: str) -> str:
        """What is there instead: the nearest names, or the first part of the path that is missing."""
        folder = Path(path).parent
        while not folder.is_dir() and folder != folder.parent:
            missing, folder = folder, folder.parent
            if folder.is_dir() and not glob.has_magic(str(missing)):
                names = difflib.get_close_matches(missing.name, os.listdir(folder), 3, 0.5)
                return f"there is no folder {missing}" + (f", but {' and '.join(names)}" if names else "")
        names = sorted(os.listdir(folder))
        if not names:
            return f"{folder} is empty"
        near = difflib.get_close_matches(os.path.basename(path), names, 3, 0.3) or names[:3]
        return f"{folder} holds {', '.join(near)}" + (f" and {len(names) - len(near)} more" if names[3:] else "")

    def identity(self, path: str) -> FileIdentity:
        try:
            stat = os.stat(path)
        except OSError as error:
            raise InputError(f"cannot read {path}: {error.strerror}") from None
        return FileIdentity(stat.st_size, stat.st_mtime_ns, str(stat.st_ino))

    def open(self, path: str) -> pa.NativeFile:
        try:
            return pa.OSFile(path, "rb")
        except OSError as error:
            raise InputError(f"cannot read {path}: {error.strerror or error}") from None


def file_store(paths: Sequence[str]) -> FileStore:
    """The store that all these paths are in. :raises InputError: they are in different ones."""
    remote = [path for path in paths if path.startswith(S3)]
    if not remote:
        return LocalFiles()
    if len(remote) != len(paths):
        raise InputError("source paths are partly local and partly on S3: name one kind")
    from shuffle_worker.source.s3 import S3Files  # boto3 is large: only jobs on S3 load it

    return S3Files()


def check_unchanged(store: FileStore, path: str, planned: FileIdentity) -> None:
    """:raises InputError: the file is not the one that was planned."""
    found = store.identity(path)
    if found != planned:
        what = f"{planned.size} bytes then, {found.size} now" if found.size != planned.size else "its time or inode"
        raise InputError(f"{path} changed while it was read ({what}): run the job again when nobody writes to it")
