"""The source that a manifest names."""

from shuffle_worker.source.arrow import ArrowSource
from shuffle_worker.source.base import Source
from shuffle_worker.source.files import file_store
from shuffle_worker.source.parquet import ParquetSource
from shuffle_worker.spec.model import Source as SourceSpec


def open_source(spec: SourceSpec) -> Source:
    """Nothing is read yet."""
    files = spec.files
    store = file_store(files.paths)
    kind = ParquetSource if spec.format == "parquet" else ArrowSource
    return kind(store, files.paths, files.columns)
