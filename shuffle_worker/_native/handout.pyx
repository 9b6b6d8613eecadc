# distutils: language = c++
"""Frames on their way out of a store: waiting for them, reading back what was spilled, removing what was handed on.

A frame is removed only after it is in memory with its checksum verified, so a failure leaves the group as it was.
"""
from libc.stdint cimport int64_t, uint8_t, uint32_t
from libcpp.vector cimport vector

from shuffle_worker._native.budget cimport BUDGET_DEADLINE, STAGE_SINK, budget_buffer
from shuffle_worker._native.buffer cimport buffer_ref, buffer_t, buffer_unref
from shuffle_worker._native.inbox cimport (
    entry_t, group_t, inbox_begin_take, inbox_end_take, inbox_find, inbox_finish, inbox_group, inbox_lease,
    inbox_release, inbox_select, inbox_taken, inbox_unpin, shuffle_t,
)
from shuffle_worker._native.monitor cimport monitor_notify, monitor_wait
from shuffle_worker._native.segment cimport DISK_OK, segment_read
from shuffle_worker._native.spill cimport store_lock, store_sweep, store_t, store_unlock


cdef bint _wait(store_t *store, handout_t *out, int outcome) noexcept nogil:
    """Wait for a change; False, with the outcome set, when there is no more waiting."""
    if not out.wait or monitor_wait(&store.lock, out.deadline_ns):
        out.outcome = outcome
        return False
    return True


cdef shuffle_t *_shuffle(store_t *store, handout_t *out) noexcept nogil:
    cdef shuffle_t *shuffle = inbox_find(store.inbox, out.uid)
    if store.closing:
        out.outcome = OUT_CLOSING
        return NULL
    if shuffle == NULL:
        out.outcome = OUT_NO_SHUFFLE
    return shuffle


cdef group_t *_await_group(store_t *store, handout_t *out) noexcept nogil:
    """The group, once it has what is asked for or will never have; NULL with the outcome set."""
    cdef shuffle_t *shuffle
    cdef group_t *group
    while True:
        shuffle = _shuffle(store, out)
        if shuffle == NULL:
            return NULL
        group = inbox_group(shuffle, out.group)
        if group == NULL:
            out.outcome = OUT_NO_GROUP
            return NULL
        if out.position >= 0:
            return group
        if group.taking:
            if not _wait(store, out, OUT_LEASED):
                return NULL
        elif group.queue.size() > group.head or group.sealed or not out.wait:
            return group
        elif not _wait(store, out, OUT_DEADLINE):
            return NULL


cdef group_t *_await_ready(store_t *store, handout_t *out) noexcept nogil:
    """The best ready group, leased; NULL with the outcome set, or when all groups are done."""
    cdef shuffle_t *shuffle
    cdef group_t *group
    while True:
        shuffle = _shuffle(store, out)
        if shuffle == NULL:
            return NULL
        group = inbox_lease(shuffle)
        if group != NULL:
            return group
        if shuffle.groups_seen > 0 and shuffle.unfinished == 0:
            out.done = True
            return NULL
        if not _wait(store, out, OUT_DEADLINE):
            return NULL


cdef void _fetch(store_t *store, handout_t *out, vector[entry_t *] &chosen) noexcept nogil:
    """Read back what is on disk. Stops early, with fewer frames, when memory for more than the first is short."""
    cdef size_t i
    cdef entry_t *entry
    cdef buffer_t *payload
    for i in range(chosen.size()):
        entry = chosen[i]
        payload = out.payloads[i]
        if payload != NULL or entry.header.length == 0:
            continue
        payload = budget_buffer(store.budget, STAGE_SINK, <int64_t> entry.header.length,
                                out.deadline_ns if i == 0 else 0, &out.fault)
        if payload == NULL:
            if i == 0 or out.fault != BUDGET_DEADLINE:
                out.outcome = OUT_MEMORY
            break
        payload.size = <int64_t> entry.header.length
        out.fault = segment_read(store.disk, entry.segment, entry.offset, &entry.header, payload.data, &out.error)
        if out.fault != DISK_OK:
            buffer_unref(payload)
            out.outcome = OUT_DISK
            out.culprit = entry
            out.segment = entry.segment
            break
        out.payloads[i] = payload
    else:
        return
    while out.payloads.size() > i:
        buffer_unref(out.payloads.back())
        out.payloads.pop_back()
        out.headers.pop_back()


cdef void _choose(group_t *group, handout_t *out, vector[entry_t *] &chosen) noexcept nogil:
    """Pin the frames and refer to the payloads that are in memory."""
    cdef int64_t position = 0
    cdef size_t i
    if out.position >= 0:
        position = max(out.position - group.taken, 0)
    inbox_select(group, <size_t> position, out.max_bytes, &chosen)
    for i in range(chosen.size()):
        if chosen[i].payload != NULL:
            buffer_ref(chosen[i].payload)
        out.headers.push_back(chosen[i].header)
        out.payloads.push_back(chosen[i].payload)


cdef void _complete(store_t *store, handout_t *out, uint32_t generation) noexcept nogil:
    """Remove what was fetched, if the group is still the same. The lock is held."""
    cdef shuffle_t *shuffle = _shuffle(store, out)
    cdef group_t *group
    if shuffle == NULL:
        return
    group = inbox_group(shuffle, out.group)
    # A group dropped and placed again in between is another group, of which nobody takes.
    if group == NULL or group.generation != generation or not group.taking:
        out.outcome = OUT_NO_GROUP
        return
    if out.outcome == OUT_OK:
        inbox_taken(store.inbox, shuffle, group, out.headers.size())
        out.last = group.sealed and group.queue.size() == group.head
    inbox_end_take(shuffle, group)


cdef void _hand_out(store_t *store, handout_t *out, group_t *group) noexcept nogil:
    """From choosing to removing. The lock is held, and given up while reading."""
    cdef vector[entry_t *] chosen
    cdef uint32_t generation = group.generation
    cdef bint remove = out.position < 0
    cdef size_t i
    _choose(group, out, chosen)
    if remove:
        inbox_begin_take(inbox_find(store.inbox, out.uid), group)
    store_unlock(store)
    _fetch(store, out, chosen)
    store_lock(store)
    if remove:
        _complete(store, out, generation)
    for i in range(chosen.size()):
        if chosen[i] != out.culprit:
            inbox_unpin(store.inbox, chosen[i])
    monitor_notify(&store.lock)


cdef void handout_group(store_t *store, handout_t *out) noexcept nogil:
    cdef group_t *group
    store_lock(store)
    group = _await_group(store, out)
    if group != NULL:
        _hand_out(store, out, group)
    store_unlock(store)
    store_sweep(store)


cdef void handout_ready(store_t *store, handout_t *out) noexcept nogil:
    cdef shuffle_t *shuffle
    cdef group_t *group
    store_lock(store)
    group = _await_ready(store, out)
    if group != NULL:
        out.group = group.number
        _hand_out(store, out, group)
        shuffle = inbox_find(store.inbox, out.uid)
        group = NULL
        if shuffle != NULL:
            group = inbox_group(shuffle, out.group)
        if group != NULL and out.outcome == OUT_OK and out.last:
            inbox_finish(shuffle, group)
            monitor_notify(&store.lock)
        elif group != NULL and out.outcome != OUT_OK and out.outcome != OUT_NO_GROUP:
            inbox_release(shuffle, group)
    store_unlock(store)
    store_sweep(store)


cdef bint handout_wait(store_t *store, const uint8_t *uid, int64_t deadline_ns, int *outcome) noexcept nogil:
    cdef shuffle_t *shuffle
    cdef bint ready = False
    store_lock(store)
    while True:
        shuffle = inbox_find(store.inbox, uid)
        if store.closing or shuffle == NULL:
            outcome[0] = OUT_CLOSING if store.closing else OUT_NO_SHUFFLE
            break
        ready = not shuffle.ready.empty() or (shuffle.groups_seen > 0 and shuffle.unfinished == 0)
        if ready or monitor_wait(&store.lock, deadline_ns):
            break
    store_unlock(store)
    return ready


cdef void handout_clear(store_t *store, handout_t *out) noexcept nogil:
    cdef size_t i
    for i in range(out.payloads.size()):
        buffer_unref(out.payloads[i])
    out.payloads.clear()
    out.headers.clear()
    if out.culprit != NULL:
        store_lock(store)
        inbox_unpin(store.inbox, out.culprit)
        out.culprit = NULL
        store_unlock(store)
