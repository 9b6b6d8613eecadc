"""The supervisor's register of one job: which coordinator at which epoch, and the commit. A file, replaced atomically.

It is written and on disk *before* the call that depends on it: what the record does not say has not been ordered.
"""

import os
from dataclasses import dataclass
from pathlib import Path

import msgspec


class Commit(msgspec.Struct, frozen=True):
    """The decision to publish exactly the manifest of this digest."""

    epoch: int
    digest: str


class Record(msgspec.Struct, frozen=True):
    uid: str
    epoch: int = 0
    coordinator: str = ""
    commit: Commit | None = None
    concluded: bool = False


@dataclass
class RecordFile:
    """`<work_dir>/record.json`."""

    path: Path

    def write(self, record: Record) -> None:
        """Returns when the record is on disk."""
        staged = self.path.with_suffix(".new")
        with staged.open("wb") as file:
            file.write(msgspec.json.encode(record))
            file.flush()
            os.fsync(file.fileno())
        staged.replace(self.path)
        folder = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def read(self) -> Record:
        return msgspec.json.decode(self.path.read_bytes(), type=Record)
