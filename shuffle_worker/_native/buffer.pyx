"""Pooled, reference-counted buffers: see buffer.h. One pool for a process."""


cdef class BufferPool:
    """Keeps up to `keep_bytes` of freed buffers warm for the next taker."""

    def __cinit__(self, keep_bytes: int = 64 << 20):
        self.pool = buffer_pool_new(keep_bytes)
        if self.pool == NULL:
            raise MemoryError("no memory for a buffer pool")

    @property
    def live_bytes(self) -> int:
        """Bytes in buffers that somebody holds."""
        return self.pool.live_bytes

    @property
    def live_count(self) -> int:
        """Buffers that somebody holds."""
        return self.pool.live_count

    @property
    def kept_bytes(self) -> int:
        """Bytes in free buffers, still mapped."""
        return self.pool.kept_bytes

    def trim(self, keep_bytes: int = 0) -> None:
        """Give free buffers back to the system until at most `keep_bytes` are kept."""
        cdef int64_t keep = keep_bytes
        with nogil:
            buffer_pool_trim(self.pool, keep)
