"""What a sink of any format offers: a writer for one partition's file, and what is known of a written file.

The writer takes Arrow batches. It is the seam for an encoder that takes staged columns instead: nothing above it looks
into a file.
"""

from abc import ABC, abstractmethod
from typing import Any

import msgspec
import pyarrow as pa


class FileRecord(msgspec.Struct, frozen=True, array_like=True):
    """A file that is written and waits to be published. Figures are of what was handed to the writer.

    `staged` is a path, or what S3 needs to complete the upload.
    """

    partition: int
    staged: str
    rows: int
    bytes: int
    key_digest: int
    row_digest: bytes = b""
    parts: tuple[tuple[int, str], ...] = ()


class Output(ABC):
    """Where the bytes of one file go."""

    @abstractmethod
    def file(self) -> Any:
        """What a format writes to: a path, or a file object."""

    @abstractmethod
    def commit(self) -> tuple[str, int, tuple[tuple[int, str], ...]]:
        """The file is whole and durable: (staged, bytes, parts)."""

    @abstractmethod
    def abort(self) -> None:
        """Remove what was written. Idempotent, and never an error."""


class PartitionWriter(ABC):
    """Writes the rows of one partition in a format."""

    @abstractmethod
    def write(self, batch: pa.RecordBatch) -> None:
        """Add rows. The batch's memory may be referred to until the row group it went into is written."""

    @abstractmethod
    def close(self) -> None:
        """Write what is held and the footer."""
