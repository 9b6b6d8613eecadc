"""Publishing what was prepared: from the protocol's manifest to the sink's. No decisions."""

import msgspec

from shuffle_worker.errors import OutputError
from shuffle_worker.job.context import JobContext
from shuffle_worker.protocol.values import MASK64, add_row_digests, decode_manifest
from shuffle_worker.sink.base import FileRecord
from shuffle_worker.sink.manifest import ManifestColumn, ManifestFile, ManifestKey, OutputManifest
from shuffle_worker.spec.model import ShuffleType
from shuffle_worker.spec.status import digest64, digest128


def read_records(manifest: bytes) -> list[FileRecord]:
    """The files of a prepared manifest, in order of their partitions."""
    records = [
        record
        for staged in decode_manifest(manifest)
        for record in msgspec.msgpack.decode(staged.record, type=list[FileRecord])
    ]
    return sorted(records, key=lambda record: record.partition)


def publish(context: JobContext, digest: str, manifest: bytes | None) -> None:
    """Make exactly this manifest the output. Done already is done.

    `manifest` None: another coordinator prepared it; it is read from where that one saved it.
    :raises OutputError: it cannot be.
    """
    if manifest is None:
        manifest = context.output.load_manifest(digest)
    if manifest is None:
        if not context.output.is_published(digest):
            raise OutputError(f"the prepared manifest {digest} is gone from the staging folder, and so is the output")
        return
    records = read_records(manifest)
    context.output.publish(describe(context, digest, records), records)


def describe(context: JobContext, digest: str, records: list[FileRecord]) -> OutputManifest:
    """Enough to read the output, to co-partition with it, and to check it."""
    spec, plan = context.job.spec, context.plan
    row_digest = add_row_digests([record.row_digest for record in records])
    return OutputManifest(
        job=context.uid.hex(),
        digest=digest,
        format=spec.sink.format,
        type=spec.shuffle.type.value,
        partitions=spec.shuffle.partitions,
        keys=tuple(ManifestKey(key.name, key.cast or key.type, key.descending, key.nulls_first) for key in plan.keys),
        hash_function=spec.shuffle.hash_function.value if spec.shuffle.type is ShuffleType.HASH else None,
        rows=sum(record.rows for record in records),
        bytes=sum(record.bytes for record in records),
        key_digest=digest64(sum(record.key_digest for record in records) & MASK64),
        row_digest=hex_digest(row_digest),
        files=tuple(
            ManifestFile(
                record.name,
                record.partition,
                record.rows,
                record.bytes,
                digest64(record.key_digest),
                hex_digest(record.row_digest),
            )
            for record in records
        ),
        columns=tuple(ManifestColumn(field.name, str(field.type), field.nullable) for field in context.schema),
    )


def hex_digest(digest: bytes) -> str | None:
    """A row digest as the manifest writes it; None when there is none."""
    return digest128(int.from_bytes(digest, "little")) if digest else None
