"""Parquet files as a source: row groups are the pieces of a split.

Read lean: no read-ahead, no threads of its own, one row group at a time. Which columns are worth reading as
dictionaries is asked of the files' own metadata: string-like columns whose pages are all dictionary-encoded and whose
chunks are small for their number of values.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pyarrow.parquet as pq

from shuffle_worker.errors import InputError
from shuffle_worker.plan import Split
from shuffle_worker.source.base import FileInfo, Permits, Piece, Source, SourceInfo
from shuffle_worker.source.files import FileStore, check_unchanged
from shuffle_worker.source.schemas import check_same, project, strip

BATCH_ROWS = 65_536
SCAN_THREADS = 4
SUFFIXES = (".parquet", ".pq")
# A dictionary page of 256 values of 64 bytes, and codes of 8 bits: above that a column is not one of few values.
DICTIONARY_BYTES_PER_VALUE = 1.25
DICTIONARY_PAGE_BYTES = 16 << 10


class ParquetSource(Source):
    def __init__(self, store: FileStore, paths: Sequence[str], columns: Sequence[str] | None) -> None:
        self._store = store
        self._paths = paths
        self._columns = columns

    def scan(self) -> SourceInfo:
        paths = list(dict.fromkeys(name for path in self._paths for name in self._store.find(path, SUFFIXES)))
        with ThreadPoolExecutor(SCAN_THREADS, "scan") as threads:
            scanned = list(threads.map(self._scan_file, paths))
        schema = scanned[0][1]
        for info, found, _ in scanned[1:]:
            check_same(schema, found, info.path, paths[0])
        schema = project(schema, self._columns, paths[0])
        few = frozenset.intersection(*(names for _, _, names in scanned))
        chosen = tuple(field.name for field in schema if field.name in few and worth_a_dictionary(field.type))
        return SourceInfo(schema, tuple(info for info, _, _ in scanned), chosen)

    def _scan_file(self, path: str) -> tuple[FileInfo, pa.Schema, frozenset[str]]:
        identity = self._store.identity(path)
        with self._store.open(path) as file:
            parquet = _open(file, path)
            metadata = parquet.metadata
            groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
            pieces = tuple(Piece(group.num_rows, group.total_byte_size) for group in groups)
            return FileInfo(path, identity, pieces), strip(parquet.schema_arrow), _few_valued(groups)

    def read(
        self, split: Split, schema: pa.Schema, dictionary_columns: tuple[str, ...], permits: Permits
    ) -> Iterator[pa.RecordBatch]:
        check_unchanged(self._store, split.path, split.identity)
        with self._store.open(split.path) as file:
            parquet = _open(file, split.path, dictionary_columns)
            for number in range(split.first, split.last + 1):
                group = parquet.metadata.row_group(number)
                need = group.total_byte_size + max(
                    group.column(i).total_compressed_size for i in range(group.num_columns)
                )
                with permits(min(need, 64 << 20), f"decoding row group {number} of {split.path}"):
                    yield from _row_group(parquet, split.path, number, schema)
        check_unchanged(self._store, split.path, split.identity)


def _row_group(parquet: pq.ParquetFile, path: str, number: int, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    rows = 0
    try:
        for batch in parquet.iter_batches(BATCH_ROWS, [number], schema.names, use_threads=False):
            rows += batch.num_rows
            yield batch.select(schema.names) if batch.schema.names != schema.names else batch
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path}, row group {number}: cannot be decoded after {rows} rows: {error}") from None
    planned = parquet.metadata.row_group(number).num_rows
    if rows != planned:
        raise InputError(f"{path}, row group {number}: {rows} rows came where the file promises {planned}")


def _open(file: pa.NativeFile, path: str, dictionary_columns: tuple[str, ...] = ()) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(
            file, read_dictionary=list(dictionary_columns) or None, pre_buffer=False, memory_map=False
        )
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path} is not a readable Parquet file: {error}") from None


def worth_a_dictionary(type_: pa.DataType) -> bool:
    """Types that Parquet readers give as dictionaries."""
    return bool(
        pa.types.is_string(type_)
        or pa.types.is_binary(type_)
        or pa.types.is_large_string(type_)
        or pa.types.is_large_binary(type_)
        or type_ in (pa.string_view(), pa.binary_view())
    )


def _few_valued(groups: list[pq.RowGroupMetaData]) -> frozenset[str]:
    """Top-level columns whose every chunk is small and dictionary-encoded."""
    columns: dict[str, bool] = {}
    for group in groups:
        for number in range(group.num_columns):
            chunk = group.column(number)
            small = (
                chunk.has_dictionary_page
                and chunk.total_uncompressed_size
                <= DICTIONARY_BYTES_PER_VALUE * chunk.num_values + DICTIONARY_PAGE_BYTES
                and chunk.data_page_offset - (chunk.dictionary_page_offset or 0) <= DICTIONARY_PAGE_BYTES
            )
            name = chunk.path_in_schema
            columns[name] = columns.get(name, True) and small
    return frozenset(name for name, few in columns.items() if few)
