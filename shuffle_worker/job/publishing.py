"""Publishing what was prepared: from the protocol's manifest to the sink's files and `_manifest.json`. No decisions."""

from typing import Any

import msgspec

from shuffle_worker.errors import OutputError
from shuffle_worker.job.context import JobContext
from shuffle_worker.protocol.values import decode_manifest
from shuffle_worker.sink.base import FileRecord
from shuffle_worker.sink.storage import part_name
from shuffle_worker.spec.model import Overwrite
from shuffle_worker.spec.status import digest64, digest128


def publish(context: JobContext, digest: str, manifest: bytes | None) -> None:
    """Make exactly this manifest the output. Done already is done.

    :raises OutputError: it cannot be; also when nobody holds the manifest any more and the output is not there.
    """
    if manifest is None:
        if context.storage.published_digest() != digest:
            raise OutputError(f"the manifest {digest} is lost with its members, and the output is not there")
        return
    records = [
        record
        for staged in decode_manifest(manifest)
        for record in msgspec.msgpack.decode(staged.record, type=list[FileRecord])
    ]
    records.sort(key=lambda record: record.partition)
    replace = context.job.spec.sink.overwrite is Overwrite.REPLACE
    context.storage.publish(records, describe(context, digest, records), replace)


def describe(context: JobContext, digest: str, records: list[FileRecord]) -> dict[str, Any]:
    """What `_manifest.json` says: enough to read the output, to co-partition with it, and to check it."""
    spec = context.job.spec
    return {
        "formatVersion": 1,
        "digest": digest,
        "job": context.job.metadata.name,
        "uid": context.uid.hex(),
        "rows": sum(record.rows for record in records),
        "bytes": sum(record.bytes for record in records),
        "shuffle": {
            "type": spec.shuffle.type.value,
            "partitions": spec.shuffle.partitions,
            **({"function": spec.shuffle.hash_function.value} if spec.shuffle.type.value == "Hash" else {}),
            "keys": [
                {
                    "name": key.name,
                    "type": key.type,
                    **({"order": "Descending" if key.descending else "Ascending"} if context.plan.boundaries else {}),
                }
                for key in context.plan.keys
            ],
        },
        "schema": [
            {"name": field.name, "type": str(field.type), "nullable": field.nullable} for field in context.schema
        ],
        "files": [
            {
                "name": part_name(record.partition, context.storage.suffix),
                "partition": record.partition,
                "rows": record.rows,
                "bytes": record.bytes,
                "keyDigest": digest64(record.key_digest),
                **({"rowDigest": digest128(int.from_bytes(record.row_digest, "little"))} if record.row_digest else {}),
            }
            for record in records
        ],
    }
