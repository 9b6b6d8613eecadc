"""Contents of handout.pyx: frames on their way out of a store, to the sink or to a reader."""
from libc.stdint cimport int64_t, uint8_t, uint32_t
from libcpp.vector cimport vector

from shuffle_worker._native.buffer cimport buffer_t
from shuffle_worker._native.frame cimport frame_header_t
from shuffle_worker._native.inbox cimport entry_t
from shuffle_worker._native.segment cimport segment_t
from shuffle_worker._native.spill cimport store_t


cdef enum:
    OUT_OK = 0
    OUT_NO_SHUFFLE = 1      # or closed
    OUT_NO_GROUP = 2        # not held, or at a new generation since
    OUT_DEADLINE = 3        # nothing became ready in time
    OUT_CLOSING = 4
    OUT_MEMORY = 5          # `fault` is a BUDGET_ fault
    OUT_DISK = 6            # `fault` is a DISK_ fault
    OUT_LEASED = 7          # another take works on the group and did not end in time


# What a hand-out asks for, and what came of it.
cdef cppclass handout_t:
    uint8_t uid[16]
    uint32_t group
    int64_t position        # -1: remove the frames; else leave them, from this one on
    int64_t max_bytes
    int64_t deadline_ns
    bint wait
    bint any                # of whichever group is ready
    bint last               # the group is sealed and nothing is left of it
    bint done               # take_ready: every placed group was handed out
    vector[frame_header_t] headers
    vector[buffer_t *] payloads         # one reference each; NULL where empty
    int outcome
    int fault
    int error               # errno
    entry_t *culprit        # pinned until handout_clear
    segment_t *segment      # of the culprit


# Take or peek; waits for ready frames when asked to. Frames of one group keep their order over many callers.
cdef void handout_group(store_t *store, handout_t *out) noexcept nogil
# Lease the best ready group and take from it; out.group says which.
cdef void handout_ready(store_t *store, handout_t *out) noexcept nogil
# Wait until handout_ready would not; whether it is so.
cdef bint handout_wait(store_t *store, const uint8_t *uid, int64_t deadline_ns, int *outcome) noexcept nogil
# Give back what was not handed on.
cdef void handout_clear(store_t *store, handout_t *out) noexcept nogil
