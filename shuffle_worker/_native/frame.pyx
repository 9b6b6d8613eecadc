"""Frames: the header's construction and check, and a frame as Python holds it. No I/O."""
from cpython.buffer cimport PyBuffer_FillInfo
from libc.string cimport memcpy, memset

from shuffle_worker._native.buffer cimport BufferPool, buffer_new, buffer_ref, buffer_unref


cdef extern from "crc32c.h" nogil:
    uint32_t crc32c_portable(uint32_t crc, const void *data, size_t size)

HEADER_BYTES = FRAME_HEADER_BYTES
CODECS = {"None": FRAME_CODEC_NONE, "LZ4": FRAME_CODEC_LZ4, "Zstd": FRAME_CODEC_ZSTD, "Snappy": FRAME_CODEC_SNAPPY}


cdef void frame_header_init(frame_header_t *h, int kind) noexcept nogil:
    memset(h, 0, sizeof(frame_header_t))
    h.magic = FRAME_MAGIC
    h.version = FRAME_VERSION
    h.kind = <uint8_t> kind


cdef void frame_header_seal(frame_header_t *h, const uint8_t *payload, uint64_t length) noexcept nogil:
    h.length = length
    h.payload_crc = crc32c(0, payload, length)
    h.header_crc = crc32c(0, h, FRAME_HEADER_BYTES - 4)


cdef int frame_header_check(const frame_header_t *h, uint64_t max_length) noexcept nogil:
    if h.magic != FRAME_MAGIC:
        return FRAME_BAD_MAGIC
    if h.header_crc != crc32c(0, h, FRAME_HEADER_BYTES - 4):
        return FRAME_BAD_HEADER_CRC
    if h.version != FRAME_VERSION:
        return FRAME_BAD_VERSION
    if h.kind == 0 or h.kind >= FRAME_KINDS:
        return FRAME_BAD_KIND
    if h.length > max_length:
        return FRAME_TOO_LONG
    return FRAME_OK


def crc32c_of(data, crc: int = 0) -> int:
    """CRC32C of a bytes-like object, following bytes whose CRC is `crc`."""
    cdef const uint8_t[::1] view = data
    cdef uint32_t start = crc
    if view.shape[0] == 0:
        return start
    with nogil:
        start = crc32c(start, &view[0], view.shape[0])
    return start


def crc32c_portable_of(data) -> int:
    """The same by tables alone: what a machine without the instruction computes."""
    cdef const uint8_t[::1] view = data
    if view.shape[0] == 0:
        return 0
    return crc32c_portable(0, &view[0], view.shape[0])


cdef Frame frame_wrap(const frame_header_t *header, buffer_t *payload):
    cdef Frame frame = Frame.__new__(Frame)
    frame.header = header[0]
    frame.payload = payload
    return frame


cdef class Frame:
    """One Arrow record batch of one partition (or partition group) from one attempt: header and payload.

    The payload is readable through the buffer protocol without a copy; the frame lives as long as any view of it.
    Python never changes a sealed frame's payload.
    """

    def __dealloc__(self):
        buffer_unref(self.payload)

    @staticmethod
    def build(pool: BufferPool, payload, *, shuffle: bytes = bytes(16), incarnation: int = 0, map: int = 0,
              epoch: int = 0, attempt: int = 0, generation: int = 0, group: int = 0, number: int = 0, rows: int = 0,
              partitions: int = 0, value: int = 0, flags: int = 0) -> Frame:
        """A sealed DATA frame around a copy of `payload`."""
        cdef BufferPool owner = pool
        cdef const uint8_t[::1] view = payload
        cdef frame_header_t h
        cdef int64_t size = view.shape[0]
        cdef Frame frame
        frame_header_init(&h, FRAME_DATA)
        cdef buffer_t *data = buffer_new(owner.pool, size)
        if data == NULL:
            raise MemoryError(f"no memory for a frame of {size} bytes")
        if size:
            memcpy(data.data, &view[0], size)
        data.size = size
        frame = frame_wrap(&h, data)
        frame.address(shuffle, incarnation, map, epoch, attempt, generation)
        frame.header.group = group
        frame.header.number = number
        frame.header.rows = rows
        frame.header.partitions = partitions
        frame.header.value = value
        frame.header.flags = flags
        frame.seal()
        return frame

    def address(self, shuffle: bytes, incarnation: int, map: int, epoch: int, attempt: int, generation: int) -> None:
        """Say which stream the frame belongs to. Call `seal` afterwards."""
        if len(shuffle) != 16:
            raise ValueError(f"a shuffle's UID has 16 bytes, not {len(shuffle)}")
        memcpy(self.header.shuffle, <const char *> shuffle, 16)
        self.header.incarnation = incarnation
        self.header.map = map
        self.header.epoch = epoch
        self.header.attempt = attempt
        self.header.generation = generation

    def seal(self) -> None:
        """Compute length and checksums: the payload must not change afterwards."""
        cdef uint64_t length = 0 if self.payload == NULL else <uint64_t> self.payload.size
        with nogil:
            frame_header_seal(&self.header, NULL if self.payload == NULL else self.payload.data, length)

    def verify(self) -> int:
        """0, or the FrameFault of header or payload."""
        cdef int fault
        with nogil:
            fault = frame_header_check(&self.header, ~<uint64_t> 0)
            if fault == FRAME_OK and self.header.length != (0 if self.payload == NULL else self.payload.size):
                fault = FRAME_TOO_LONG
            if fault == FRAME_OK and self.payload != NULL:
                if crc32c(0, self.payload.data, self.header.length) != self.header.payload_crc:
                    fault = FRAME_BAD_PAYLOAD_CRC
        return fault

    def share(self) -> Frame:
        """Another frame over the same payload, with a header of its own."""
        if self.payload != NULL:
            buffer_ref(self.payload)
        return frame_wrap(&self.header, self.payload)

    def to_group(self, group: int) -> Frame:
        """The same rows for another group; `Stream.stamp` seals it."""
        cdef Frame other = self.share()
        other.header.group = group
        return other

    def header_bytes(self) -> bytes:
        """The 96 bytes of the header."""
        return (<char *> &self.header)[:FRAME_HEADER_BYTES]

    def __getbuffer__(self, Py_buffer *view, int flags):
        cdef void *data = NULL if self.payload == NULL else self.payload.data
        PyBuffer_FillInfo(view, self, data, self.header.length, 1, flags)

    def __len__(self):
        return self.header.length

    shuffle = property(lambda Frame self: (<char *> self.header.shuffle)[:16])
    incarnation = property(lambda Frame self: self.header.incarnation)
    kind = property(lambda Frame self: self.header.kind)
    flags = property(lambda Frame self: self.header.flags)
    codec = property(lambda Frame self: self.header.flags & FRAME_CODEC_MASK)
    grouped = property(lambda Frame self: bool(self.header.flags & FRAME_GROUPED))
    map = property(lambda Frame self: self.header.map)
    epoch = property(lambda Frame self: self.header.epoch)
    attempt = property(lambda Frame self: self.header.attempt)
    generation = property(lambda Frame self: self.header.generation)
    group = property(lambda Frame self: self.header.group)
    number = property(lambda Frame self: self.header.number)
    rows = property(lambda Frame self: self.header.rows)
    partitions = property(lambda Frame self: self.header.partitions)
    value = property(lambda Frame self: self.header.value)
    payload_crc = property(lambda Frame self: self.header.payload_crc)

    def __repr__(self):
        return (f"Frame(map={self.header.map}, attempt=({self.header.epoch}, {self.header.attempt}), "
                f"group={self.header.group}, generation={self.header.generation}, number={self.header.number}, "
                f"rows={self.header.rows}, bytes={self.header.length})")


cdef class Stream:
    """What one map attempt sends to one owner: numbers the frames and counts what FIN will promise.

    `crc_sum` and `key_digest` are sums mod 2^64 of the frames' payload CRCs and of their `value`s.
    """

    def __init__(self, shuffle: bytes, incarnation: int, map: int, epoch: int, attempt: int):
        if len(shuffle) != 16:
            raise ValueError(f"a shuffle's UID has 16 bytes, not {len(shuffle)}")
        frame_header_init(&self.template, FRAME_DATA)
        memcpy(self.template.shuffle, <const char *> shuffle, 16)
        self.template.incarnation = incarnation
        self.template.map = map
        self.template.epoch = epoch
        self.template.attempt = attempt

    def stamp(self, frame: Frame, generation: int) -> None:
        """Make `frame` the next of this stream, for a group placed at `generation`, and seal it."""
        cdef Frame stamped = frame
        cdef frame_header_t *h = &stamped.header
        memcpy(h.shuffle, self.template.shuffle, 16)
        h.incarnation = self.template.incarnation
        h.map = self.template.map
        h.epoch = self.template.epoch
        h.attempt = self.template.attempt
        h.generation = generation
        h.number = <uint32_t> self.frames
        stamped.seal()
        self.frames += 1
        self.rows += h.rows
        self.payload_bytes += h.length
        self.crc_sum += h.payload_crc
        self.key_digest += h.value
