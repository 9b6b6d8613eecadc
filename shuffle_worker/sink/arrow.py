"""Arrow IPC files (the file format), one record batch for each batch of rows that came."""

from typing import Any

import pyarrow as pa

from shuffle_worker.sink.base import PartitionWriter

CODECS = {"LZ4": "lz4", "Zstd": "zstd", "None": None}


class ArrowWriter(PartitionWriter):
    """Dictionary columns of the wire are written with the schema's plain type: files keep the input's schema."""

    def __init__(self, file: Any, schema: pa.Schema, compression: str) -> None:
        self._schema = schema
        options = pa.ipc.IpcWriteOptions(compression=CODECS[compression])
        self._writer = pa.ipc.new_file(file, schema, options=options)

    def write(self, batch: pa.RecordBatch) -> None:
        self._writer.write_batch(batch if batch.schema.equals(self._schema) else plain(batch, self._schema))

    def close(self) -> None:
        self._writer.close()


def plain(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """The batch with the types of `schema`: dictionaries are decoded."""
    columns = [
        column if column.type == field.type else column.cast(field.type)
        for column, field in zip(batch.columns, schema, strict=True)
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema)
