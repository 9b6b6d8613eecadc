"""A partition's writer over any encoder: gathers batches into row groups, sums what it hands over, sorts if asked to.

Knows neither a format nor a storage.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa

from shuffle_worker.errors import AdmissionError, InternalError, OutputError, ShuffleError
from shuffle_worker.ordering import SortColumn, sort_indices
from shuffle_worker.quantity import format_bytes
from shuffle_worker.sink.base import Digests, FileRecord, PartitionWriter, Permits, StagedFile
from shuffle_worker.sink.layout import gatherable_schema, row_group, stored_schema

ENCODER_BYTES = 2 << 20
SORT_BYTES_PER_ROW = 16


class Encoder(ABC):
    """Turns row groups into a file's bytes. Opened with the layout of its rows; closed once."""

    @abstractmethod
    def encode(self, table: pa.Table) -> None:
        """One row group, or record batch. All tables have the same schema."""

    @abstractmethod
    def close(self) -> None:
        """Write what belongs at the end. The stream stays open."""

    @abstractmethod
    def abandon(self) -> None:
        """Write nothing more, not even when it is collected as garbage."""


class Format(ABC):
    """A file format, with its options: the same for all files of a job."""

    suffix: str
    group_rows: int
    """Rows handed to an encoder at once; fewer at the end only."""

    @abstractmethod
    def open(self, stream: pa.NativeFile, logical: pa.Schema, first: pa.Table | None) -> Encoder:
        """Begin a file of rows like those of `first`, its first row group (None: there are no rows), for readers who
        shall see `logical`."""


@dataclass(frozen=True)
class WriterTask:
    """What a writer is to write. `schema` is the plan's."""

    partition: int
    name: str
    schema: pa.Schema
    order: tuple[SortColumn, ...]
    digests: Digests
    permits: Permits


class FileWriter(PartitionWriter):
    """Holds less than a row group, or with an order all rows of the partition."""

    def __init__(self, file: StagedFile, format_: Format, task: WriterTask) -> None:
        self._file = file
        self._format = format_
        self._task = task
        self._held: list[pa.RecordBatch] = []
        self._held_rows = 0
        self._held_bytes = 0
        self._stored: pa.Schema | None = None
        self._encoder: Encoder | None = None
        self._rows = 0
        self._key_digest = 0
        self._row_digest = 0
        self._finished = False

    @property
    def rows_wanted(self) -> int:
        return 0 if self._task.order else self._format.group_rows - self._held_rows

    @property
    def held_bytes(self) -> int:
        return self._held_bytes

    def write(self, batch: pa.RecordBatch) -> None:
        if self._finished:
            raise InternalError(f"{self._task.name} was finished and is written to")
        if self._task.order:
            self._hold(batch)
            return
        while batch.num_rows:
            piece = batch.slice(0, self._format.group_rows - self._held_rows)
            batch = batch.slice(piece.num_rows)
            self._hold(piece)
            if self._held_rows == self._format.group_rows:
                self._encode()

    def finish(self, generation: int) -> FileRecord:
        if self._finished:
            raise InternalError(f"{self._task.name} was finished twice")
        if self._held_rows and self._task.order:
            self._encode_sorted()
        elif self._held_rows:
            self._encode()
        self._finished = True
        try:
            encoder = self._encoder or self._open(None)
            encoder.close()
            staged = self._file.finish(generation)
        except (pa.ArrowException, OSError) as error:
            raise self._refused(error) from error
        return FileRecord(
            name=self._task.name,
            partition=self._task.partition,
            generation=generation,
            rows=self._rows,
            bytes=staged.bytes,
            key_digest=self._key_digest,
            row_digest=b"" if self._task.digests.row is None else self._row_digest.to_bytes(16, "little"),
            staged=staged.place,
            upload_id=staged.upload_id,
            etags=staged.etags,
        )

    def abort(self) -> None:
        self._finished = True
        self._held.clear()
        self._held_rows = self._held_bytes = 0
        if self._encoder is not None:
            self._encoder.abandon()
            self._encoder = None
        self._file.abort()

    def _hold(self, batch: pa.RecordBatch) -> None:
        if batch.num_rows:
            self._held.append(batch)
            self._held_rows += batch.num_rows
            self._held_bytes += batch.nbytes

    def _gather(self) -> pa.Table:
        """What is held, as one table; nothing is held any more."""
        held, self._held = self._held, []
        self._held_rows = self._held_bytes = 0
        if self._stored is None:
            stored = stored_schema(self._task.schema, held[0].schema)
            self._stored = gatherable_schema(stored) if self._task.order else stored
        try:
            return row_group(held, self._stored)
        except pa.ArrowException as error:
            raise self._refused(error) from error

    def _encode(self) -> None:
        """Encode what is held as one row group, with memory for what the encoder allocates: the pages of a column that
        has a dictionary wait for it, and the largest column is seldom more than half of a row."""
        with self._task.permits(self._held_bytes // 2 + ENCODER_BYTES, f"encoding {self._task.name}"):
            self._hand_over(self._gather())

    def _hand_over(self, table: pa.Table) -> None:
        """Sum what the encoder gets, and give it to it."""
        self._sum(table)
        try:
            if self._encoder is None:
                self._encoder = self._open(table)
            self._encoder.encode(table)
        except (pa.ArrowException, OSError) as error:
            raise self._refused(error) from error

    def _encode_sorted(self) -> None:
        """One permit for all: a second one, asked for while the first is held, might never come."""
        rows, size = self._held_rows, self._held_bytes
        # One copy of all rows beside those that are held, their order, and a row group that is cut out and encoded.
        need = 2 * size + SORT_BYTES_PER_ROW * rows + ENCODER_BYTES
        try:
            with self._task.permits(need, f"sorting {self._task.name}"):
                for table in self._sorted(rows):
                    self._hand_over(table)
        except AdmissionError as error:
            raise AdmissionError(
                f"partition {self._task.partition} has {rows} rows of {format_bytes(size)} and sorting it takes "
                f"{format_bytes(need)} of memory: use more partitions, or give more memory ({error})"
            ) from None

    def _sorted(self, rows: int) -> Iterator[pa.Table]:
        table = self._gather().combine_chunks()
        indices = sort_indices(table, self._task.order)
        for start in range(0, rows, self._format.group_rows):
            yield table.take(indices.slice(start, self._format.group_rows))

    def _sum(self, table: pa.Table) -> None:
        digests = self._task.digests
        for batch in table.to_batches():
            self._rows += batch.num_rows
            self._key_digest = (self._key_digest + digests.key(batch, self._task.partition)) % (1 << 64)
            if digests.row is not None:
                self._row_digest = (self._row_digest + digests.row(batch)) % (1 << 128)

    def _open(self, first: pa.Table | None) -> Encoder:
        return self._format.open(self._file.stream, self._task.schema, first)

    def _refused(self, error: pa.ArrowException | OSError) -> ShuffleError:
        if isinstance(error, OSError):
            return self._file.fault(error)
        return OutputError(f"cannot write {self._task.name}: {str(error).partition(chr(10))[0]}")
