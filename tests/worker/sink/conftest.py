"""Outputs on a real disk, and a way to fill them."""

import contextlib
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pytest

from shuffle_worker._native.digest import row_digest
from shuffle_worker.plan import Plan
from shuffle_worker.sink.base import Digests, FileRecord, Output, PartitionWriter
from shuffle_worker.sink.local import LocalOutput
from shuffle_worker.sink.manifest import ManifestFile, OutputManifest
from shuffle_worker.sink.open import open_writer
from shuffle_worker.spec.model import Sink

UID = bytes(range(16))
MASK64 = (1 << 64) - 1


@dataclass
class Permits:
    """Grants everything; `held` at this moment, `asked` each time."""

    held: int = 0
    asked: list[tuple[int, str]] = field(default_factory=list)

    @contextlib.contextmanager
    def __call__(self, size: int, what: str) -> Iterator[None]:
        assert not self.held, "a permit was asked for while another was held"
        self.asked.append((size, what))
        self.held += size
        try:
            yield
        finally:
            self.held -= size


def count_rows(batch: pa.RecordBatch, partition: int) -> int:
    """Stands for the key digest: a sum over rows that depends on the partition."""
    return batch.num_rows * (partition + 1)


@dataclass(frozen=True)
class Written:
    record: FileRecord
    path: Path
    permits: Permits


@dataclass(frozen=True)
class Bench:
    """Writes partitions of a job whose output is `<folder>/out`."""

    folder: Path

    def output(self, incarnation: int = 1, uid: bytes = UID, **options: object) -> LocalOutput:
        return LocalOutput(str(self.folder / "out"), uid, incarnation, **options)  # type: ignore[arg-type]

    def write(
        self,
        output: Output,
        sink: Sink,
        schema: pa.Schema,
        batches: Sequence[pa.RecordBatch],
        partition: int = 0,
        generation: int = 1,
    ) -> Written:
        """One partition's file, finished."""
        permits = Permits()
        writer = open_writer(output, sink, plan_of(schema), partition, Digests(count_rows, row_digest), permits)
        for batch in batches:
            writer.write(batch)
        record = writer.finish(generation)
        job = self.folder / ".out.staging" / UID.hex()
        return Written(record, job / record.staged, permits)


def plan_of(schema: pa.Schema) -> Plan:
    return Plan(
        uid=UID,
        manifest=b"",
        schema=schema.serialize().to_pybytes(),
        splits=(),
        partitions=1,
        groups=1,
        keys=(),
        function="",
        dictionary_columns=(),
        boundaries=b"",
        slice_rows=0,
        seed=0,
        codec="None",
        nonce="",
    )


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


@pytest.fixture
def manifest_of() -> Callable[..., OutputManifest]:
    def build(records: Sequence[FileRecord], digest: str = "d1", uid: bytes = UID) -> OutputManifest:
        return OutputManifest(
            job=uid.hex(),
            digest=digest,
            format="parquet",
            type="Hash",
            partitions=len(records),
            keys=(),
            hash_function="XxHash64",
            rows=sum(record.rows for record in records),
            bytes=sum(record.bytes for record in records),
            key_digest=f"{sum(record.key_digest for record in records) & MASK64:016x}",
            row_digest=None,
            files=tuple(
                ManifestFile(record.name, record.partition, record.rows, record.bytes, f"{record.key_digest:016x}")
                for record in records
            ),
            columns=(),
        )

    return build


@pytest.fixture
def frames_of() -> Callable[..., list[pa.RecordBatch]]:
    """Batches as frames bring them: of uneven sizes, each with its own dictionaries in the columns named."""

    def build(table: pa.Table, dictionaries: Sequence[str] = (), seed: int = 0) -> list[pa.RecordBatch]:
        chance = random.Random(seed)
        table = table.combine_chunks()
        batches, start = [], 0
        while start < table.num_rows:
            piece = table.slice(start, chance.randint(1, max(1, table.num_rows // 3)))
            start += piece.num_rows
            columns = []
            for name in table.schema.names:
                column = pa.concat_arrays(piece.column(name).chunks)
                if name in dictionaries and not pa.types.is_dictionary(column.type):
                    column = column.dictionary_encode()
                elif pa.types.is_dictionary(column.type) and name not in dictionaries:
                    column = column.dictionary_decode()
                columns.append(column)
            batches.append(pa.RecordBatch.from_arrays(columns, names=table.schema.names))
        return batches

    return build


@pytest.fixture
def open_task() -> Callable[..., PartitionWriter]:
    """A writer of partition 0, open."""

    def build(output: Output, sink: Sink, schema: pa.Schema, permits: object | None = None) -> PartitionWriter:
        granted = permits or Permits()
        return open_writer(output, sink, plan_of(schema), 0, Digests(count_rows), granted)  # type: ignore[arg-type]

    return build
