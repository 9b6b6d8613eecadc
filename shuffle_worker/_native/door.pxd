"""Contents of door.pyx: the part of a store that the control loop speaks to."""
from libc.stdint cimport uint8_t, uint32_t

from shuffle_worker._native.budget cimport Budget
from shuffle_worker._native.receiver cimport Receiver
from shuffle_worker._native.spill cimport store_t


cdef class InboxDoor(Receiver):
    cdef store_t *state
    cdef readonly Budget budget
    cdef bint closed


# The 16 bytes of a shuffle's UID; ValueError when it has not as many.
cdef const uint8_t *uid_bytes(bytes uid) except NULL
# A map attempt's name in messages.
cdef str attempt_name(uint32_t map, uint32_t epoch, uint32_t attempt)
