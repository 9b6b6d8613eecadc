"""Files to read, and permits that note what was asked for."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from shuffle_worker.source.base import Source, SourceInfo, cut_splits
from shuffle_worker.source.open import open_source
from shuffle_worker.spec.model import FileSource
from shuffle_worker.spec.model import Source as SourceSpec


@dataclass
class Permits:
    """Grants everything; `held` bytes now, `peak` at most, `asked` each time."""

    held: int = 0
    peak: int = 0
    asked: list[tuple[int, str]] = field(default_factory=list)

    @contextlib.contextmanager
    def __call__(self, size: int, what: str) -> Iterator[None]:
        self.asked.append((size, what))
        self.held += size
        self.peak = max(self.peak, self.held)
        try:
            yield
        finally:
            self.held -= size


@dataclass(frozen=True)
class Reading:
    """A source and what its scan found."""

    source: Source
    info: SourceInfo
    permits: Permits

    def table(self, split_bytes: int = 1 << 30, columns: list[str] | None = None) -> pa.Table:
        """All rows, read split by split."""
        batches = []
        for split in cut_splits(self.info, split_bytes, 1):
            batches += self.source.read(split, self.info.schema, self.info.dictionary_columns, self.permits, columns)
        chosen = columns or self.info.schema.names
        plain = [_plain(batch) for batch in batches]
        return pa.Table.from_batches(plain) if plain else self.info.schema.empty_table().select(chosen)


def _plain(batch: pa.RecordBatch) -> pa.RecordBatch:
    columns = [c.dictionary_decode() if pa.types.is_dictionary(c.type) else c for c in batch.columns]
    return pa.RecordBatch.from_arrays(columns, names=batch.schema.names)


@pytest.fixture
def permits() -> Permits:
    return Permits()


@pytest.fixture
def open_files(permits: Permits) -> Callable[..., Reading]:
    """Scan paths as Parquet, or as Arrow with format="arrow"."""

    def scan(*paths: str | Path, format: str = "parquet", columns: tuple[str, ...] | None = None) -> Reading:
        files = FileSource(paths=tuple(map(str, paths)), columns=columns)
        source = open_source(SourceSpec(**{format: files}))
        return Reading(source, source.scan(), permits)

    return scan


@pytest.fixture
def write_parquet(tmp_path: Path) -> Callable[..., Path]:
    """Write a table below the test's folder."""

    def write(name: str, table: pa.Table, **options: object) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table, path, **options)
        return path

    return write
