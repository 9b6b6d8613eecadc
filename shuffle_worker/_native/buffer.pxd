"""Contents of buffer.h, and the pool as Python holds it."""
from libc.stdint cimport int32_t, int64_t, uint8_t


cdef extern from "buffer.h" nogil:
    ctypedef struct buffer_pool_t:
        int64_t kept_bytes
        int64_t keep_bytes
        int64_t live_bytes
        int64_t live_count

    ctypedef struct buffer_t:
        uint8_t *data
        int64_t size
        int64_t capacity
        int32_t refs
        buffer_pool_t *pool

    buffer_pool_t *buffer_pool_new(int64_t keep_bytes)
    void buffer_pool_trim(buffer_pool_t *pool, int64_t keep)
    void buffer_pool_on_freed(buffer_pool_t *pool, void (*freed)(void *context) noexcept nogil, void *context)
    void buffer_pool_usage(buffer_pool_t *pool, int64_t *live_bytes, int64_t *kept_bytes)
    int64_t buffer_capacity_for(int64_t size, int *size_class)
    buffer_t *buffer_new(buffer_pool_t *pool, int64_t size)
    void buffer_ref(buffer_t *b)
    void buffer_unref(buffer_t *b)


cdef class BufferPool:
    # Never freed: buffers may outlive every Python object, and hold a pointer to it.
    cdef buffer_pool_t *pool
