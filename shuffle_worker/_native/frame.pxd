"""Contents of frame.h, and a frame as Python holds it."""
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from shuffle_worker._native.buffer cimport buffer_t


cdef extern from "frame.h" nogil:
    enum:
        FRAME_MAGIC
        FRAME_VERSION
        FRAME_HEADER_BYTES
        FRAME_HELLO
        FRAME_WELCOME
        FRAME_REFUSE
        FRAME_DATA
        FRAME_CREDIT
        FRAME_NEED
        FRAME_REJECT
        FRAME_CONTROL
        FRAME_HEARTBEAT
        FRAME_KINDS
        FRAME_CODEC_MASK
        FRAME_CODEC_NONE
        FRAME_CODEC_LZ4
        FRAME_CODEC_ZSTD
        FRAME_CODEC_SNAPPY
        FRAME_GROUPED

    ctypedef struct frame_header_t:
        uint32_t magic
        uint8_t version
        uint8_t kind
        uint16_t flags
        uint8_t shuffle[16]
        uint64_t incarnation
        uint32_t map
        uint32_t epoch
        uint32_t attempt
        uint32_t generation
        uint32_t group
        uint32_t number
        uint32_t rows
        uint32_t partitions
        uint64_t value
        uint64_t length
        uint32_t payload_crc
        uint32_t reserved
        uint32_t reserved2
        uint32_t header_crc


cdef extern from "crc32c.h" nogil:
    uint32_t crc32c(uint32_t crc, const void *data, size_t size)


cdef void frame_header_init(frame_header_t *h, int kind) noexcept nogil
# Fills length, payload_crc and header_crc; the payload must not change afterwards.
cdef void frame_header_seal(frame_header_t *h, const uint8_t *payload, uint64_t length) noexcept nogil
# 0, or the FRAME_BAD_* reason why these 96 bytes are not a header. Never reads the payload.
cdef int frame_header_check(const frame_header_t *h, uint64_t max_length) noexcept nogil


cpdef enum FrameFault:
    FRAME_OK = 0
    FRAME_BAD_MAGIC = 1
    FRAME_BAD_VERSION = 2
    FRAME_BAD_KIND = 3
    FRAME_BAD_HEADER_CRC = 4
    FRAME_TOO_LONG = 5
    FRAME_BAD_PAYLOAD_CRC = 6


cdef class Frame:
    cdef frame_header_t header
    cdef buffer_t *payload      # one reference is ours; NULL when length is 0


# A Frame that takes over one reference to `payload`.
cdef Frame frame_wrap(const frame_header_t *header, buffer_t *payload)


cdef class Stream:
    cdef frame_header_t template
    cdef readonly uint64_t frames
    cdef readonly uint64_t rows
    cdef readonly uint64_t payload_bytes
    cdef readonly uint64_t crc_sum
    cdef readonly uint64_t key_digest
