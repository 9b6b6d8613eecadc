"""Contents of spill.pyx: what one store is made of, and the thread that moves frames from memory to disk."""
from libc.stdint cimport int64_t, uint64_t

from shuffle_worker._native.budget cimport budget_t
from shuffle_worker._native.inbox cimport inbox_t
from shuffle_worker._native.monitor cimport monitor_t
from shuffle_worker._native.segment cimport disk_t


cdef extern from "<pthread.h>" nogil:
    ctypedef unsigned long pthread_t


# Locks are taken in this order: the store's, a disk's, the budget's, the pool's. None is held over I/O.
ctypedef struct store_t:
    monitor_t lock          # over the inbox; notified when something became ready, was sealed or closed
    inbox_t *inbox
    disk_t *disk
    budget_t *budget
    int64_t told_resident   # what the budget knows of inbox.resident_bytes
    int64_t told_other      # and of its index
    size_t told_notices     # queued when the control loop was last woken
    int64_t batch_bytes
    int event_fd            # readable while notices are queued
    bint closing
    bint full               # no directory took the last batch
    bint running            # the thread was started
    pthread_t thread
    int64_t spill_ns        # spent writing
    int64_t batches
    int64_t full_ns         # begin of the present time of full disks


cdef void store_lock(store_t *store) noexcept nogil
# Unlock, and tell budget, disk and control loop what has changed meanwhile.
cdef void store_unlock(store_t *store) noexcept nogil
# Delete files that nobody needs any more. Does I/O; no lock is held.
cdef void store_sweep(store_t *store) noexcept nogil
# 0 or an errno.
cdef int spill_start(store_t *store) noexcept nogil
# The store is closing: wait for the end of the thread.
cdef void spill_stop(store_t *store) noexcept nogil
