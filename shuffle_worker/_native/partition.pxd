"""Contents of partition.pyx: from batches to frames."""
from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from shuffle_worker._native.arrow cimport Batch, SchemaHold
from shuffle_worker._native.buffer cimport BufferPool
from shuffle_worker._native.chunk cimport Chunk
from shuffle_worker._native.columns cimport scratch_t
from shuffle_worker._native.encode cimport encoder_t
from shuffle_worker._native.frame cimport Frame
from shuffle_worker._native.memo cimport memo_t
from shuffle_worker._native.route cimport Router
from shuffle_worker._native.stage cimport source_t, stage_t

# What became of an attempt to make a chunk.
cdef enum:
    CHUNK_READY = 0
    CHUNK_FLUSH = 1         # everything staged must leave first: a dictionary is full
    CHUNK_NO_MEMORY = 2
    CHUNK_TOO_LARGE = 3     # its only row is too large


cdef class Partitioner:
    cdef readonly object schema
    cdef readonly object wire_schema
    cdef readonly int64_t stage_rows
    cdef readonly int64_t stage_bytes
    cdef readonly str codec
    cdef Router router
    cdef SchemaHold expected            # the schema given
    cdef BufferPool pool
    cdef bytes prefix
    cdef stage_t stage
    cdef encoder_t encoder
    cdef memo_t *memos                  # [column]
    cdef source_t *sources              # [column]
    cdef scratch_t *scratch             # [column]
    cdef Chunk rows_of                  # the chunk at hand
    cdef int64_t chunk_bytes            # of the strings of the chunk
    cdef int64_t max_row_bytes
    cdef uint8_t *wanted                # [group]
    cdef uint64_t *group_rows           # [group]
    cdef bint memo_fresh                # no staged row refers to a memo
    cdef bint busy                      # an iterator is not exhausted
    cdef int64_t next_row
    cdef int64_t rows
    cdef int64_t staged_rows
    cdef int64_t frames
    cdef int64_t fallback_rows
    cdef uint64_t digest
    cdef list nested                    # columns that pyarrow takes
    cdef dict taken                     # group -> for each nested column, slices
    cdef int64_t taken_bytes

    cdef int _alloc(self) except -1
    cdef int _check(self, Batch batch) except -1
    cdef int _prepare(self, Batch batch, Batch keys, int64_t start, int64_t rows) noexcept nogil
    cdef int64_t _string_bytes(self, Batch batch, int64_t start, int64_t rows) noexcept nogil
    cdef int _code(self, Batch batch, int64_t start, int64_t rows) noexcept nogil
    cdef int _scatter(self, Batch batch, int64_t start) noexcept nogil
    cdef Frame _emit(self, int64_t group)
