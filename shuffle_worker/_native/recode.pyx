"""What pyarrow does to a frame that was encoded natively: compression, and columns the kernels do not cover."""
from libc.stdint cimport int64_t, uintptr_t
from libc.string cimport memcpy

from shuffle_worker._native.buffer cimport BufferPool, buffer_new, buffer_t
from shuffle_worker._native.frame cimport Frame, frame_wrap

import pyarrow as pa

COMPRESSIONS = {"LZ4": "lz4", "Zstd": "zstd"}


def _stream(batch, codec):
    """An Arrow IPC stream of one batch, its bodies compressed where the codec is Arrow's own."""
    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression=COMPRESSIONS.get(codec), unify_dictionaries=True)
    with pa.ipc.new_stream(sink, batch.schema, options=options) as writer:
        writer.write_batch(batch)
    return sink.getvalue()


cdef Frame recode(Frame frame, int64_t start, object schema, dict nested, str codec, BufferPool pool):
    """A frame whose payload, after its first `start` bytes, is compressed and holds the `nested` columns too.

    `schema`: of all columns; `nested`: arrays by position. The frame given is not sealed and holds the other columns.
    """
    stream = pa.py_buffer(frame).slice(start)
    if nested or codec in COMPRESSIONS:
        with pa.ipc.open_stream(stream) as reader:
            flat = iter(reader.read_next_batch().columns)
        arrays = [nested[i] if i in nested else next(flat) for i in range(len(schema))]
        stream = _stream(pa.record_batch(arrays, schema=schema), codec)
    size = b""
    if codec == "Snappy":
        size = int(stream.size).to_bytes(8, "little")
        stream = pa.compress(stream, codec="snappy")
    cdef uintptr_t bytes = stream.address
    cdef int64_t length = stream.size, head = start + len(size)
    cdef buffer_t *out = buffer_new(pool.pool, head + length)
    if out == NULL:
        raise MemoryError(f"no memory for a frame of {head + length} bytes")
    memcpy(out.data, frame.payload.data, <size_t> start)
    memcpy(out.data + start, <const char *> size, <size_t> (head - start))
    memcpy(out.data + head, <const void *> bytes, <size_t> length)
    out.size = head + length
    recoded = frame_wrap(&frame.header, out)
    recoded.header.length = <unsigned long long> out.size
    return recoded
