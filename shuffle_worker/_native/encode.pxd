"""Contents of encode.pyx: a group's staged rows as the payload of a frame."""
from libc.stdint cimport int64_t, uint8_t, uint32_t

from shuffle_worker._native.buffer cimport buffer_pool_t, buffer_t
from shuffle_worker._native.ipc cimport layout_t
from shuffle_worker._native.memo cimport memo_t
from shuffle_worker._native.stage cimport stage_t

cdef enum:
    INDEX_ALIGN = 64

# What encoding needs besides the rows: fixed when the partitioner is made.
ctypedef struct encoder_t:
    stage_t *stage
    memo_t *memos               # [column]; those of coded columns are used
    int64_t *dictionary_ids     # [column]
    const uint8_t *prefix       # the schema message
    int64_t prefix_bytes
    int64_t partitions
    buffer_pool_t *pool
    layout_t batch
    layout_t dictionary
    uint32_t *order             # [row_capacity]: rows of a group by partition
    uint32_t *counts            # [partitions of a group + 1]


cdef int encoder_alloc(encoder_t *encoder) noexcept nogil
cdef void encoder_free(encoder_t *encoder) noexcept nogil
# The payload, with *index entries at its front where groups hold several partitions; NULL: no memory.
cdef buffer_t *encode_group(encoder_t *encoder, int64_t group, uint32_t *index) noexcept nogil
