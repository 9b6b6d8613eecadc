"""Finding and opening input files, and knowing them again. Local disks here, S3 in `s3`. Knows no format."""

import difflib
import glob
import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from shuffle_worker.errors import InputError
from shuffle_worker.plan import FileIdentity
from shuffle_worker.spec.paths import S3, scheme_of


class FileStore(ABC):
    """Where files are. Thread-safe."""

    read_bytes: int
    """What a decoder should ask for at once of one column."""

    @abstractmethod
    def find(self, pattern: str, suffixes: tuple[str, ...]) -> list[str]:
        """Paths that match, in order of their names. :raises InputError: none does."""

    @abstractmethod
    def identity(self, path: str) -> FileIdentity:
        """:raises InputError: the file is gone or cannot be read."""

    @abstractmethod
    def open(self, path: str, identity: FileIdentity) -> pa.NativeFile:
        """The file of that identity, for random reads. :raises InputError:"""

    def find_all(self, patterns: Sequence[str], suffixes: tuple[str, ...]) -> list[str]:
        """Paths that match any pattern, each once. :raises InputError: a pattern matches none."""
        return list(dict.fromkeys(path for pattern in patterns for path in self.find(pattern, suffixes)))


class LocalFiles(FileStore):
    """Files of this machine, or of storage it has mounted."""

    read_bytes = 256 << 10

    def find(self, pattern: str, suffixes: tuple[str, ...]) -> list[str]:
        path = os.path.abspath(pattern)
        if os.path.isdir(path):
            found = [name for suffix in suffixes for name in glob.glob(os.path.join(glob.escape(path), f"*{suffix}"))]
            found = visible(found, path)
            if not found:
                held = len(os.listdir(path))
                raise InputError(
                    f"no file matches {pattern}: none of the {held} names in this folder ends in "
                    f"{' or '.join(suffixes)}; name the files by a pattern"
                )
        elif os.path.isfile(path):
            found = [path]
        else:
            found = [name for name in glob.glob(path, recursive=True) if os.path.isfile(name)]
            found = visible(found, path)
        if not found:
            raise InputError(f"no file matches {pattern}: {_near(path)}")
        return sorted(found)

    def identity(self, path: str) -> FileIdentity:
        try:
            stat = os.stat(path)
        except OSError as error:
            raise InputError(f"cannot read {path}: {error.strerror}") from None
        return FileIdentity(stat.st_size, stat.st_mtime_ns, str(stat.st_ino))

    def open(self, path: str, identity: FileIdentity) -> pa.NativeFile:  # noqa: ARG002
        try:
            return pa.OSFile(path, "rb")
        except OSError as error:
            raise InputError(f"cannot read {path}: {os.strerror(error.errno) if error.errno else error}") from None


def visible(names: Sequence[str], pattern: str) -> list[str]:
    """Without names that begin with _ or ., other programs' marks and unfinished files, unless the pattern says so."""
    if os.path.basename(pattern).startswith(("_", ".")):
        return list(names)
    return [name for name in names if not os.path.basename(name).startswith(("_", "."))]


def nearest(name: str, names: Sequence[str]) -> str:
    """The few names most like one that is not there."""
    near = difflib.get_close_matches(name, names, 3, 0.3) or sorted(names)[:3]
    more = len(names) - len(near)
    return ", ".join(near) + (f" and {more} more" if more else "")


def _near(path: str) -> str:
    """What is there instead: the nearest names, or the first folder that is missing."""
    missing = Path(path)
    while not missing.parent.is_dir():
        missing = missing.parent
    folder = missing.parent
    try:
        names = os.listdir(folder)
    except OSError as error:
        return f"{folder} cannot be listed: {error.strerror}"
    if not names:
        return f"{folder} is empty"
    if missing != Path(path) and not glob.has_magic(missing.name):
        return f"there is no folder {missing}; {folder} holds {nearest(missing.name, names)}"
    return f"{folder} holds {nearest(missing.name, names)}"


def file_store(paths: Sequence[str]) -> FileStore:
    """The store that all these paths are in. :raises InputError: they are in different ones, or in one not known."""
    schemes = {scheme_of(path) for path in paths}
    unknown = sorted(schemes - {"", S3})
    if unknown:
        raise InputError(f"the scheme {unknown[0]}:// is not supported: use local paths or s3://bucket/key")
    if len(schemes) > 1:
        raise InputError("source paths are partly local and partly on S3: name one kind, or run a job for each")
    if schemes == {S3}:
        from shuffle_worker.source.s3 import S3Files  # boto3 is large: only jobs on S3 load it

        return S3Files()
    return LocalFiles()


def check_unchanged(store: FileStore, path: str, planned: FileIdentity) -> None:
    """:raises InputError: the file is not the one that was planned."""
    found = store.identity(path)
    if found == planned:
        return
    if found.size != planned.size:
        what = f"{planned.size} bytes when planned, {found.size} now"
    elif found.tag != planned.tag:
        what = "another file has its name now"
    else:
        what = "it was written to"
    raise InputError(f"{path} changed while it was read ({what}): run the job again when nobody writes to it")
