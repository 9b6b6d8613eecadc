"""Parquet files as a source: row groups are the pieces of a split.

Read lean: no read-ahead, no threads of its own, one row group at a time, a bounded piece of each column's bytes. What
the files' own metadata shows to have few values is read as dictionaries; each row group then brings its own.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pyarrow.parquet as pq

from shuffle_worker.errors import InputError, ShuffleError
from shuffle_worker.plan import Split
from shuffle_worker.source.base import FileInfo, Permits, Piece, Source, SourceInfo
from shuffle_worker.source.files import FileStore, check_unchanged
from shuffle_worker.source.parquet_metadata import Leaf, decoded_bytes, few_valued, leaves_of, worth_a_dictionary
from shuffle_worker.source.schemas import conform, merge, project, strip

BATCH_ROWS = 65_536
SCAN_THREADS = 4
SUFFIXES = (".parquet", ".pq")
PAGE_BYTES = 1 << 20


class ParquetSource(Source):
    def __init__(self, store: FileStore, paths: Sequence[str], columns: Sequence[str] | None) -> None:
        self._store = store
        self._paths = paths
        self._columns = columns

    def scan(self) -> SourceInfo:
        paths = self._store.find_all(self._paths, SUFFIXES)
        with ThreadPoolExecutor(SCAN_THREADS, "scan") as threads:
            scanned = list(threads.map(self._scan_file, paths))
        whole = merge([(info.path, found) for info, found, _ in scanned])
        schema = project(whole, self._columns, paths[0])
        few = frozenset.intersection(*(names for _, _, names in scanned))
        chosen = tuple(field.name for field in schema if field.name in few and worth_a_dictionary(field.type))
        return SourceInfo(schema, tuple(info for info, _, _ in scanned), chosen)

    def _scan_file(self, path: str) -> tuple[FileInfo, pa.Schema, frozenset[str]]:
        identity = self._store.identity(path)
        with self._store.open(path, identity) as file:
            parquet = _open(file, path, 0)
            metadata = parquet.metadata
            wanted = None if self._columns is None else frozenset(self._columns)
            leaves = [leaf for leaf in leaves_of(metadata) if wanted is None or leaf.column in wanted]
            groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
            few = few_valued(groups, leaves)
            pieces = tuple(
                Piece(group.num_rows, sum(decoded_bytes(group.column(leaf.number), leaf, few) for leaf in leaves))
                for group in groups
            )
            return FileInfo(path, identity, pieces), strip(parquet.schema_arrow), few

    def read(
        self,
        split: Split,
        schema: pa.Schema,
        dictionary_columns: tuple[str, ...],
        permits: Permits,
        columns: Sequence[str] | None = None,
    ) -> Iterator[pa.RecordBatch]:
        chosen = schema if columns is None else pa.schema([schema.field(name) for name in columns])
        check_unchanged(self._store, split.path, split.identity)
        with self._store.open(split.path, split.identity) as file:
            parquet = _open(file, split.path, self._store.read_bytes, dictionary_columns)
            few = frozenset(dictionary_columns)
            wanted = frozenset(chosen.names)
            leaves = [leaf for leaf in leaves_of(parquet.metadata) if leaf.column in wanted]
            for number in range(split.first, split.last + 1):
                need = _decode_bytes(parquet.metadata.row_group(number), leaves, few, self._store.read_bytes)
                with permits(need, f"decoding row group {number} of {split.path}"):
                    yield from _row_group(parquet, split.path, number, chosen)
        check_unchanged(self._store, split.path, split.identity)


def _row_group(parquet: pq.ParquetFile, path: str, number: int, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    rows = 0
    batches = parquet.iter_batches(BATCH_ROWS, [number], schema.names, use_threads=False)
    while True:
        try:
            batch = next(batches, None)
            if batch is None:
                break
            batch = conform(batch, schema)
        except ShuffleError:
            raise
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            raise InputError(
                f"{path}, row group {number}: cannot be decoded after {rows} rows ({_first_line(error)}): "
                "the file is damaged; write it again, or leave it out"
            ) from None
        rows += batch.num_rows
        yield batch
    planned = parquet.metadata.row_group(number).num_rows
    if rows != planned:
        raise InputError(
            f"{path}, row group {number}: {rows} rows came where the file promises {planned}: "
            "the file is damaged; write it again, or leave it out"
        )


def _decode_bytes(group: pq.RowGroupMetaData, leaves: Sequence[Leaf], few: frozenset[str], read_bytes: int) -> int:
    """What pyarrow allocates while it decodes one row group batch by batch, about: for each column read-ahead and a
    page, and twice the largest batch (the one that is made, and the one that its taker still holds)."""
    share = min(1.0, BATCH_ROWS / max(1, group.num_rows))
    need = 0.0
    for leaf in leaves:
        chunk = group.column(leaf.number)
        need += min(read_bytes, chunk.total_compressed_size) + min(PAGE_BYTES, chunk.total_uncompressed_size)
        need += 2 * share * decoded_bytes(chunk, leaf, few)
    return int(need)


def _open(file: pa.NativeFile, path: str, read_bytes: int, dictionary_columns: tuple[str, ...] = ()) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(
            file, read_dictionary=list(dictionary_columns) or None, pre_buffer=False, buffer_size=read_bytes
        )
    except ShuffleError:
        raise
    except (pa.ArrowException, OSError) as error:
        raise InputError(
            f"{path} is not a readable Parquet file ({_first_line(error)}): write it again, or leave it out"
        ) from None


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0].rstrip(". ")
