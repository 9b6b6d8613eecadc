"""The abstract receiver. This one takes nothing: it grants no credit, so no frame can reach it."""
from shuffle_worker._native.buffer cimport buffer_unref


cdef class Receiver:
    """Abstract: see receiver.pxd for the contract. The store is one; `twin.MemoryReceiver` is its twin for tests."""

    cdef void attach(self, waker_t wake, void *context) noexcept nogil:
        pass

    cdef int64_t grant(self, const uint8_t *shuffle, int64_t wanted, bint alone) noexcept nogil:
        return GRANT_LATER

    cdef void ungrant(self, const uint8_t *shuffle, int64_t bytes) noexcept nogil:
        pass

    cdef buffer_t *obtain(self, const frame_header_t *header) noexcept nogil:
        return NULL

    cdef int deliver(self, const frame_header_t *header, buffer_t *payload) noexcept nogil:
        buffer_unref(payload)
        return VERDICT_UNKNOWN
