# distutils: language = c++
"""The spill thread: moves frames of the largest groups from memory to disk while memory is short.

It needs neither the GIL nor memory of its own: payloads are written from where they are. A frame may be taken by the
sink or freed while it is being written; then what was written of it is dead at once.
"""
from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.string cimport memcpy, memset
from libcpp.vector cimport vector

from shuffle_worker._native.budget cimport (
    budget_charge, budget_set_stuck, budget_spillable, budget_wait_spill,
)
from shuffle_worker._native.buffer cimport buffer_t
from shuffle_worker._native.frame cimport frame_header_t
from shuffle_worker._native.inbox cimport (
    NOTICE_DISK_FULL, entry_t, inbox_find, inbox_pick_spill, inbox_spilled, notice_t, shuffle_t,
)
from shuffle_worker._native.monitor cimport (
    monitor_lock, monitor_unlock, monitor_wait, monotonic_ns,
)
from shuffle_worker._native.segment cimport (
    DISK_OK, disk_finish, disk_memory_change, disk_sweep, disk_write, segment_release, segment_t,
)


cdef extern from "<pthread.h>" nogil:
    int pthread_create(pthread_t *thread, const void *attributes, void *(*start)(void *) noexcept nogil, void *argument)
    int pthread_join(pthread_t thread, void **result)

cdef extern from "<sys/eventfd.h>" nogil:
    int eventfd_write(int fd, uint64_t value)

cdef enum:
    MAX_FRAMES = 4096           # of one batch
    IDLE_NS = 1000000000        # looks at least that often
    RETRY_NS = 100000000        # while every disk is full


cdef void store_lock(store_t *store) noexcept nogil:
    monitor_lock(&store.lock)


cdef void store_unlock(store_t *store) noexcept nogil:
    cdef int64_t resident, other
    cdef size_t i
    for i in range(store.inbox.orphans.size()):
        segment_release(store.disk, store.inbox.orphans[i].first, store.inbox.orphans[i].second)
    store.inbox.orphans.clear()
    if store.inbox.notices.size() > store.told_notices:
        eventfd_write(store.event_fd, 1)
    store.told_notices = store.inbox.notices.size()
    resident = store.inbox.resident_bytes - store.told_resident
    store.told_resident += resident
    other = store.inbox.index_bytes - store.told_other
    store.told_other += other
    monitor_unlock(&store.lock)
    if other != 0:
        budget_charge(store.budget, other)
    if resident != 0:
        budget_spillable(store.budget, resident)


cdef void store_sweep(store_t *store) noexcept nogil:
    cdef int64_t change
    disk_sweep(store.disk)
    change = disk_memory_change(store.disk)
    if change != 0:
        budget_charge(store.budget, change)


cdef void _say_full(store_t *store, bint full) noexcept nogil:
    """The lock is held. Tells waiters, and once for each time of full disks the control loop."""
    cdef notice_t notice
    if full and not store.full:
        memset(&notice, 0, sizeof(notice))
        notice.kind = NOTICE_DISK_FULL
        store.inbox.notices.push_back(notice)
        store.full_ns = monotonic_ns()
    if full != store.full:
        store.full = full
        budget_set_stuck(store.budget, full)


cdef bint _spill_batch(store_t *store) noexcept nogil:
    """Write one batch; whether it could be written (or nothing had to be)."""
    cdef vector[entry_t *] chosen
    cdef vector[frame_header_t *] headers
    cdef vector[buffer_t *] payloads
    cdef vector[int64_t] offsets
    cdef segment_t *segment = NULL
    cdef shuffle_t *shuffle
    cdef size_t i
    cdef int fault
    cdef uint8_t uid[16]
    cdef int64_t begun = monotonic_ns()
    store_lock(store)
    shuffle = inbox_pick_spill(store.inbox, store.batch_bytes, MAX_FRAMES, &chosen)
    for i in range(chosen.size()):
        headers.push_back(&chosen[i].header)
        payloads.push_back(chosen[i].payload)
    store_unlock(store)
    if shuffle == NULL:
        return True
    # The shuffle may be closed meanwhile: its entries are pinned, and then dead.
    memcpy(uid, headers[0].shuffle, 16)
    fault = disk_write(store.disk, uid, headers, payloads, &segment, &offsets)
    store_lock(store)
    if inbox_find(store.inbox, uid) == NULL:
        disk_finish(store.disk, uid)
    for i in range(chosen.size()):
        inbox_spilled(store.inbox, chosen[i], segment, offsets[i] if fault == DISK_OK else 0)
    store.batches += 1
    store.spill_ns += monotonic_ns() - begun
    _say_full(store, fault != DISK_OK)
    store_unlock(store)
    return fault == DISK_OK


cdef void *_run(void *argument) noexcept nogil:
    cdef store_t *store = <store_t *> argument
    cdef bint spilling = False, closing = False
    while not closing:
        spilling = budget_wait_spill(store.budget, spilling, monotonic_ns() + IDLE_NS)
        store_lock(store)
        closing = store.closing
        if not spilling:
            _say_full(store, False)
        store_unlock(store)
        if spilling and not closing and not _spill_batch(store):
            store_lock(store)
            if not store.closing:
                monitor_wait(&store.lock, monotonic_ns() + RETRY_NS)
            store_unlock(store)
        store_sweep(store)
    return NULL


cdef int spill_start(store_t *store) noexcept nogil:
    cdef int error = pthread_create(&store.thread, NULL, _run, store)
    store.running = error == 0
    return error


cdef void spill_stop(store_t *store) noexcept nogil:
    if store.running:
        pthread_join(store.thread, NULL)
        store.running = False
