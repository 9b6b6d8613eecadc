"""Contents of store.pyx: the store as native threads and Python hold it."""
from libc.stdint cimport int64_t

from shuffle_worker._native.buffer cimport buffer_t
from shuffle_worker._native.door cimport InboxDoor
from shuffle_worker._native.frame cimport Frame, frame_header_t
from shuffle_worker._native.handout cimport handout_t


cdef class Store(InboxDoor):
    # For map threads: a sealed frame of a mapper in this process. Takes over the payload's reference.
    # A verdict; or -1, with a BUDGET_ fault in *fault, when memory stayed short until the deadline.
    cdef int put_frame(self, const frame_header_t *header, buffer_t *payload, int64_t deadline_ns,
                       int *fault) noexcept nogil
    cdef void _shut(self) noexcept
    cdef int _own(self, Frame frame) except -1
    cdef int _ask(self, handout_t *out, bytes uid, int64_t max_bytes, double seconds, bint wait) except -1
    cdef list _frames(self, handout_t *out, bytes uid, double seconds)
    cdef int _raise_outcome(self, handout_t *out, bytes uid, double seconds) except -1
    cdef int _memory_fault(self, int fault, int64_t bytes, double seconds, str what) except -1
