"""Arrow IPC files as a source, in the file (Feather 2) and the stream format: record batches are the pieces of a split.

A scan reads metadata only. A stream whose batches lean on dictionaries before them cannot be entered in the middle: it
is one piece.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa

from shuffle_worker.errors import InputError, ShuffleError
from shuffle_worker.plan import Split
from shuffle_worker.source.base import FileInfo, Permits, Piece, Source, SourceInfo
from shuffle_worker.source.files import FileStore, check_unchanged
from shuffle_worker.source.ipc_metadata import BatchPlace, IpcFormatError, IpcLayout, read_layout
from shuffle_worker.source.schemas import conform, merge, project, strip

SUFFIXES = (".arrow", ".feather", ".arrows", ".ipc")
BATCH_ROWS = 65_536
SCAN_THREADS = 4
# LZ4 and Zstd make of Arrow buffers about a third; the truth is only in the buffers.
COMPRESSED_GROWTH = 3
_UNREADABLE = (pa.ArrowException, OSError, IpcFormatError)


class ArrowSource(Source):
    def __init__(self, store: FileStore, paths: Sequence[str], columns: Sequence[str] | None) -> None:
        self._store = store
        self._paths = paths
        self._columns = columns

    def scan(self) -> SourceInfo:
        paths = self._store.find_all(self._paths, SUFFIXES)
        with ThreadPoolExecutor(SCAN_THREADS, "scan") as threads:
            scanned = list(threads.map(self._scan_file, paths))
        schema = merge([(info.path, found) for info, found in scanned])
        return SourceInfo(project(schema, self._columns, paths[0]), tuple(info for info, _ in scanned))

    def _scan_file(self, path: str) -> tuple[FileInfo, pa.Schema]:
        identity = self._store.identity(path)
        try:
            with self._store.open(path, identity) as file:
                layout = read_layout(file)
                schema = _open(file, layout).schema
        except ShuffleError:
            raise
        except _UNREADABLE as error:
            raise InputError(
                f"{path} is not a readable Arrow IPC file ({error}): write it again, or leave it out"
            ) from None
        pieces = [Piece(place.rows, _decoded_bytes(place)) for place in layout.batches]
        if layout.dictionaries:
            pieces = [Piece(sum(piece.rows for piece in pieces), sum(piece.bytes for piece in pieces))]
        return FileInfo(path, identity, tuple(pieces)), strip(schema)

    def read(
        self,
        split: Split,
        schema: pa.Schema,
        dictionary_columns: tuple[str, ...],  # noqa: ARG002 - columns come as they are stored
        permits: Permits,
        columns: Sequence[str] | None = None,
    ) -> Iterator[pa.RecordBatch]:
        chosen = schema if columns is None else pa.schema([schema.field(name) for name in columns])
        check_unchanged(self._store, split.path, split.identity)
        with self._store.open(split.path, split.identity) as file:
            for need, what, load in _loaders(file, split):
                with permits(need, what):
                    try:
                        batch = conform(load(), chosen)
                        batch.validate()
                    except ShuffleError:
                        raise
                    except _UNREADABLE as error:
                        raise InputError(
                            f"{what}: cannot be decoded ({error}): the file is damaged; write it again, or leave it out"
                        ) from None
                    for start in range(0, batch.num_rows, BATCH_ROWS):
                        yield batch.slice(start, BATCH_ROWS)
        check_unchanged(self._store, split.path, split.identity)


def _loaders(file: pa.NativeFile, split: Split) -> Iterator[tuple[int, str, "_Load"]]:
    """For each record batch of a split: bytes to decode it, what it is, and the way to load it."""
    try:
        layout = read_layout(file)
        reader = _open(file, layout)
    except ShuffleError:
        raise
    except _UNREADABLE as error:
        raise InputError(
            f"{split.path} is not a readable Arrow IPC file ({error}): write it again, or leave it out"
        ) from None
    last = len(layout.batches) - 1 if layout.dictionaries else split.last
    for number in range(split.first, last + 1):
        place = layout.batches[number]
        need = _decoded_bytes(place) + (place.bytes if place.compressed else 0)
        yield need, f"record batch {number} of {split.path}", _Load(file, reader, layout, number)


class _Load:
    """Loads one record batch."""

    def __init__(
        self,
        file: pa.NativeFile,
        reader: pa.RecordBatchFileReader | pa.RecordBatchStreamReader,
        layout: IpcLayout,
        number: int,
    ) -> None:
        self._file = file
        self._reader = reader
        self._layout = layout
        self._number = number

    def __call__(self) -> pa.RecordBatch:
        if self._layout.is_file:
            return self._reader.get_batch(self._number)
        if self._layout.dictionaries:
            return self._reader.read_next_batch()
        self._file.seek(self._layout.batches[self._number].offset)
        return pa.ipc.read_record_batch(pa.ipc.read_message(self._file), self._reader.schema)


def _open(file: pa.NativeFile, layout: IpcLayout) -> pa.RecordBatchFileReader | pa.RecordBatchStreamReader:
    file.seek(0)
    options = pa.ipc.IpcReadOptions(use_threads=False)
    return (pa.ipc.open_file if layout.is_file else pa.ipc.open_stream)(file, options=options)


def _decoded_bytes(place: BatchPlace) -> int:
    return place.bytes * (COMPRESSED_GROWTH if place.compressed else 1)
