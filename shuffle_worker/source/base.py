"""What a source of any format offers: a scan of its files, and a reader of one split. No format in here."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import pyarrow as pa

from shuffle_worker.plan import FileIdentity, Split

# Bytes and what for: holds memory while a codec works.
Permits = Callable[[int, str], AbstractContextManager[object]]


@dataclass(frozen=True)
class Piece:
    """The smallest part of a file that can be read alone: a row group, or a record batch."""

    rows: int
    bytes: int
    """Decoded, about."""


@dataclass(frozen=True)
class FileInfo:
    """One file as it was when scanned."""

    path: str
    identity: FileIdentity
    pieces: tuple[Piece, ...]


@dataclass(frozen=True)
class SourceInfo:
    """All files of a source, in the order of their names."""

    schema: pa.Schema
    files: tuple[FileInfo, ...]
    dictionary_columns: tuple[str, ...] = ()
    """Columns that the files' own metadata shows to have few values."""

    @property
    def rows(self) -> int:
        return sum(piece.rows for file in self.files for piece in file.pieces)

    @property
    def bytes_in(self) -> int:
        return sum(file.identity.size for file in self.files)

    @property
    def bytes_decoded(self) -> int:
        return sum(piece.bytes for file in self.files for piece in file.pieces)


class Source(ABC):
    """Files of one format."""

    @abstractmethod
    def scan(self) -> SourceInfo:
        """Read every file's metadata. :raises InputError: a file is missing, corrupt, or of another schema."""

    @abstractmethod
    def read(
        self,
        split: Split,
        schema: pa.Schema,
        dictionary_columns: tuple[str, ...],
        permits: Permits,
        columns: Sequence[str] | None = None,
    ) -> Iterator[pa.RecordBatch]:
        """The rows of a split, in order, as batches of the columns of `schema`, or of those named in `columns`.

        Columns named in `dictionary_columns` may come as dictionaries; so may any whose type is one, with codes of any
        width. A permit is held from before a piece is decoded until its last batch was taken.
        :raises InputError: unreadable (names file and row group), or changed since it was planned.
        """


def cut_splits(info: SourceInfo, target_bytes: int, least_count: int) -> tuple[Split, ...]:
    """Runs of pieces of about `target_bytes` decoded, and smaller ones if there were fewer than `least_count`.

    A piece is never cut, so a split is never smaller than a piece.
    """
    if info.bytes_decoded:
        target_bytes = max(1, min(target_bytes, -(-info.bytes_decoded // max(1, least_count))))
    splits: list[Split] = []
    first_row = 0
    for file in info.files:
        first, rows, size = 0, 0, 0
        for number, piece in enumerate(file.pieces):
            if rows and size + piece.bytes > target_bytes:
                splits.append(Split(file.path, file.identity, first, number - 1, rows, size, first_row))
                first_row += rows
                first, rows, size = number, 0, 0
            rows += piece.rows
            size += piece.bytes
        if rows:
            splits.append(Split(file.path, file.identity, first, len(file.pieces) - 1, rows, size, first_row))
            first_row += rows
    return tuple(splits)
