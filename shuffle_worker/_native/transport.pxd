"""Contents of transport.pyx for native callers: sending a frame without the GIL."""
from libc.stdint cimport int64_t

from shuffle_worker._native.buffer cimport buffer_t
from shuffle_worker._native.frame cimport frame_header_t
from shuffle_worker._native.receiver cimport Receiver


cdef extern from "wire_api.h" nogil:
    ctypedef struct wire_t:
        pass

    enum:
        SEND_OK
        SEND_LOST           # the peer is gone, or its connection broke while the frame waited
        SEND_DEADLINE
        SEND_REJECTED       # the owner refused an earlier frame of this stream
        SEND_CANCELLED      # abort_stream or close_shuffle
        SEND_CLOSED         # the transport was closed
        SEND_TOO_LARGE      # above what the peer takes
        SEND_NO_PEER


cdef class Transport:
    cdef wire_t *wire               # never NULL in a constructed one; freed with the object, not by close
    cdef object _config
    cdef readonly object address
    cdef readonly Receiver receiver  # kept alive while the I/O thread calls it

    # The number of a peer that `connect` was called for. Never reused: -1 and UserError when there is none.
    cdef int64_t peer_number(self, str name) except -1
    # Queue a sealed frame as soon as credit allows. Takes its own reference to `payload`. A SEND_ code.
    cdef int send_frame(self, int64_t peer, const frame_header_t *header, buffer_t *payload,
                        int64_t deadline_ns) noexcept nogil
    # Raise what a SEND_ code other than SEND_OK means. `waited_s` is told to the reader.
    cdef raise_fault(self, int fault, int64_t peer, const frame_header_t *header, double waited_s)
