"""Arrow IPC files as a source, in the file and in the stream format: record batches are the pieces of a split."""

from collections.abc import Iterator, Sequence

import pyarrow as pa

from shuffle_worker.errors import InputError
from shuffle_worker.plan import Split
from shuffle_worker.source.base import FileInfo, Permits, Piece, Source, SourceInfo
from shuffle_worker.source.files import FileStore, check_unchanged
from shuffle_worker.source.schemas import check_same, project, strip

SUFFIXES = (".arrow", ".feather", ".arrows", ".ipc")
BATCH_ROWS = 65_536
FILE_MAGIC = b"ARROW1"


class ArrowSource(Source):
    def __init__(self, store: FileStore, paths: Sequence[str], columns: Sequence[str] | None) -> None:
        self._store = store
        self._paths = paths
        self._columns = columns

    def scan(self) -> SourceInfo:
        paths = list(dict.fromkeys(name for path in self._paths for name in self._store.find(path, SUFFIXES)))
        files = []
        schema: pa.Schema | None = None
        for path in paths:
            identity = self._store.identity(path)
            with self._store.open(path) as file:
                found, pieces = _scan(file, path)
            if schema is None:
                schema = found
            check_same(schema, found, path, paths[0])
            files.append(FileInfo(path, identity, pieces))
        assert schema is not None
        return SourceInfo(project(schema, self._columns, paths[0]), tuple(files))

    def read(
        self, split: Split, schema: pa.Schema, dictionary_columns: tuple[str, ...], permits: Permits
    ) -> Iterator[pa.RecordBatch]:
        check_unchanged(self._store, split.path, split.identity)
        with self._store.open(split.path) as file:
            for number, batch in _batches(file, split):
                with permits(batch.get_total_buffer_size(), f"record batch {number} of {split.path}"):
                    chosen = batch.select(schema.names)
                    for start in range(0, chosen.num_rows, BATCH_ROWS):
                        yield chosen.slice(start, BATCH_ROWS)
        check_unchanged(self._store, split.path, split.identity)


def _is_file_format(file: pa.NativeFile) -> bool:
    file.seek(0)
    magic = file.read(len(FILE_MAGIC))
    file.seek(0)
    return bool(magic == FILE_MAGIC)


def _scan(file: pa.NativeFile, path: str) -> tuple[pa.Schema, tuple[Piece, ...]]:
    try:
        if _is_file_format(file):
            reader = pa.ipc.open_file(file)
            batches = (reader.get_batch(number) for number in range(reader.num_record_batches))
        else:
            reader = pa.ipc.open_stream(file)
            batches = iter(reader)
        pieces = tuple(Piece(batch.num_rows, batch.nbytes) for batch in batches)
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path} is not a readable Arrow IPC file: {error}") from None
    return strip(reader.schema), pieces


def _batches(file: pa.NativeFile, split: Split) -> Iterator[tuple[int, pa.RecordBatch]]:
    number = split.first
    try:
        if _is_file_format(file):
            reader = pa.ipc.open_file(file)
            for number in range(split.first, split.last + 1):
                yield number, reader.get_batch(number)
            return
        for number, batch in enumerate(pa.ipc.open_stream(file)):
            if number > split.last:
                return
            if number >= split.first:
                yield number, batch
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{split.path}, record batch {number}: cannot be decoded: {error}") from None
