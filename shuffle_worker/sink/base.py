"""What a sink of any format and on any storage offers. No format and no storage in here.

A `PartitionWriter` encodes the rows of one partition into a `StagedFile`; an `Output` owns where files are staged and
how exactly one set of them is published. A writer takes record batches; one that takes staged columns instead needs
only another method beside `write`, for nothing outside a writer knows how rows become bytes.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

import msgspec
import pyarrow as pa

from shuffle_worker.errors import ShuffleError
from shuffle_worker.sink.manifest import OutputManifest

# Bytes and what for: holds memory while a codec works.
Permits = Callable[[int, str], AbstractContextManager[object]]
RowDigest = bytes


class FileRecord(msgspec.Struct, frozen=True, array_like=True):
    """A finished file that waits to be published: all that a publisher in another process needs."""

    name: str
    """In the output: part-00007.parquet."""
    partition: int
    generation: int
    rows: int
    bytes: int
    key_digest: int
    """Sum mod 2^64 of mix(key hash, partition) over the rows as they were handed to the encoder."""
    row_digest: RowDigest
    """Sum mod 2^128 over rows of all columns, 16 bytes little-endian; empty unless asked for."""
    staged: str
    """Local: path below the job's staging folder. S3: key of the upload's journal."""
    upload_id: str = ""
    etags: tuple[str, ...] = ()
    """S3: of the upload's parts, in order."""


@dataclass(frozen=True)
class Digests:
    """How rows handed to an encoder are summed.

    `key(batch, partition)`: mod 2^64; it may raise Corrupted when a row does not belong there. `row(batch)`: mod 2^128.
    """

    key: Callable[[pa.RecordBatch, int], int]
    row: Callable[[pa.RecordBatch], int] | None = None


@dataclass(frozen=True)
class Staged:
    """Where a finished file's bytes are."""

    place: str
    bytes: int
    upload_id: str = ""
    etags: tuple[str, ...] = ()


class StagedFile(ABC):
    """A file under way. Not visible in the output, whatever happens to its writer."""

    stream: pa.NativeFile
    """Where an encoder writes; it may close it."""

    @abstractmethod
    def finish(self, generation: int) -> Staged:
        """Make what was written durable, and keep it until it is published or removed."""

    @abstractmethod
    def abort(self) -> None:
        """Remove it. Idempotent; nothing after `finish`."""

    @abstractmethod
    def fault(self, error: OSError) -> ShuffleError:
        """What `stream` raised, as a sentence that names the place."""


class PartitionWriter(ABC):
    """Writes the file of one partition. Used by one thread at a time."""

    @property
    @abstractmethod
    def rows_wanted(self) -> int:
        """Rows until the writer can encode again and let go of what it holds; 0: it wants all that there are."""

    @property
    @abstractmethod
    def held_bytes(self) -> int:
        """Bytes of batches that were written and are not encoded yet."""

    @abstractmethod
    def write(self, batch: pa.RecordBatch) -> None:
        """Take a batch of the plan's columns. Any column may be dictionary-encoded; buffers are kept, not copied.

        :raises AdmissionError: the partition is to be sorted and does not fit in memory.
        :raises OutputError: the storage refuses, is full, or the column cannot be written.
        """

    @abstractmethod
    def finish(self, generation: int) -> FileRecord:
        """Encode the rest and stage the file. Not one byte of it changes afterwards."""

    @abstractmethod
    def abort(self) -> None:
        """Remove what was written. Idempotent; nothing after `finish`."""


class Output(ABC):
    """One job's output on its storage. Thread-safe.

    Every name it makes carries the job's uid, those of staged files its incarnation too; it removes no others.
    """

    @abstractmethod
    def check_free(self) -> None:
        """:raises OutputError: there is something already that this job may not replace, or cannot."""

    @abstractmethod
    def create(self, name: str) -> StagedFile:
        """Begin to write what will be `name` in the output."""

    @abstractmethod
    def write_nonce(self, nonce: str) -> None:
        """Leave a mark in the staging folder, for `check_nonce` on every other member."""

    @abstractmethod
    def check_nonce(self, nonce: str, member: str) -> None:
        """:raises OutputError: `member`, which calls this, does not see the mark: it does not share the storage."""

    @abstractmethod
    def save_manifest(self, digest: str, prepared: bytes) -> None:
        """Keep what was prepared (opaque here) beside the staged files, durably, for whoever publishes it."""

    @abstractmethod
    def load_manifest(self, digest: str) -> bytes | None:
        """What `save_manifest` kept; None if nothing was kept or staging was removed."""

    @abstractmethod
    def publish(self, manifest: OutputManifest, records: list[FileRecord]) -> None:
        """Make exactly these files the output. Done already, by whomever, is done.

        :raises OutputError: another output is there, or a staged file is gone or not what was staged.
        """

    @abstractmethod
    def is_published(self, digest: str) -> bool:
        """Whether the output is there and is the one of this manifest."""

    @abstractmethod
    def remove_staging(self) -> None:
        """Remove all that any incarnation staged for this job. Published files stay. Idempotent."""

    @abstractmethod
    def remove_incarnation(self) -> None:
        """Remove what this incarnation staged for this job. Published files stay. Idempotent."""
