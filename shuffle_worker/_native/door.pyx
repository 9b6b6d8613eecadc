# distutils: language = c++
"""The control loop's door to the inbox: shuffles, placement, fences, streams, winners, notices.

Each method takes the store's lock, applies one rule of the inbox, and turns its fault into an error. Nothing here
waits, and no lock is held while Python objects are made.
"""
from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.errno cimport EAGAIN, errno
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libcpp.string cimport string
from libcpp.vector cimport vector
from cython.operator cimport dereference as deref, preincrement as inc

from shuffle_worker._native.budget cimport budget_wake
from shuffle_worker._native.inbox cimport (
    INBOX_BROKEN, INBOX_CLOSED, INBOX_DISCARDED, INBOX_INCOMPLETE, INBOX_NO_GROUP, INBOX_NO_SHUFFLE, INBOX_NO_STREAM,
    INBOX_OK, INBOX_OLD_EPOCH, INBOX_OLD_GENERATION, INBOX_SEALED, INBOX_WON, NOTICE_DISK_FULL, cpp_map, group_t,
    inbox_absent, inbox_close, inbox_discard, inbox_drop_group, inbox_expect, inbox_fence, inbox_find, inbox_group,
    inbox_open, inbox_place, inbox_seal, inbox_stream, inbox_win, notice_t, shuffle_t, stream_key_t, stream_t,
    uid_key_t, unordered_map,
)
from shuffle_worker._native.monitor cimport monitor_notify
from shuffle_worker._native.receiver cimport Receiver
from shuffle_worker._native.segment cimport disk_figures, disk_finish
from shuffle_worker._native.spill cimport store_lock, store_sweep, store_unlock

import os

from shuffle_worker.errors import Cancelled, Fenced, InternalError
from shuffle_worker.store.limits import ShuffleLimits
from shuffle_worker.store.views import Counts, Notice

cdef extern from "<sys/eventfd.h>" nogil:
    int eventfd_read(int fd, uint64_t *value)

NOTICES = ("complete", "broken", "disk_full")
STATES = ("open", "broken", "won")


cdef const uint8_t *uid_bytes(bytes uid) except NULL:
    if len(uid) != 16:
        raise ValueError(f"a shuffle's UID has 16 bytes, not {len(uid)}")
    return <const uint8_t *> <const char *> uid


cdef int _check(int fault, bytes uid, str what) except -1:
    """Raise what an INBOX_ fault means."""
    if fault == INBOX_OK:
        return 0
    if fault == INBOX_SEALED:
        raise InternalError(f"{what} of shuffle {uid.hex()} won after its group was sealed")
    reason = {
        INBOX_NO_SHUFFLE: "the shuffle is unknown here",
        INBOX_CLOSED: "the shuffle was closed",
        INBOX_OLD_EPOCH: "a newer epoch has spoken",
        INBOX_NO_GROUP: "the group is not placed here",
        INBOX_OLD_GENERATION: "the group is held at a newer generation",
        INBOX_NO_STREAM: "nothing of it is here",
        INBOX_DISCARDED: "it was discarded",
        INBOX_BROKEN: "one of its frames was skipped",
        INBOX_INCOMPLETE: "frames that were promised are missing",
        INBOX_WON: "it has won already",
    }.get(fault)
    if reason is None:
        raise InternalError(f"{what} of shuffle {uid.hex()}: unexpected fault {fault}")
    raise Fenced(f"{what} of shuffle {uid.hex()} is refused: {reason}")


cdef str attempt_name(uint32_t map, uint32_t epoch, uint32_t attempt):
    return f"attempt ({epoch}, {attempt}) of map {map}"


cdef object _counts(const stream_t *stream):
    return Counts(STATES[stream.state], stream.frames, stream.rows, stream.bytes, stream.crc_sum, stream.value_sum,
                  stream.expected if stream.expecting else None)


cdef class InboxDoor(Receiver):
    """What a store offers to the control loop; Store adds memory, spill and hand-out. See store.pyi."""

    # ---- shuffles and what fences

    def open_shuffle(self, bytes uid not None, uint32_t epoch, limits=ShuffleLimits()) -> None:
        cdef const uint8_t *key = uid_bytes(uid)
        cdef int64_t ready_rows = limits.ready_rows
        cdef int fault
        if self.closed:
            raise Cancelled("the store was closed")
        with nogil:
            store_lock(self.state)
            fault = inbox_open(self.state.inbox, key, epoch, ready_rows)
            store_unlock(self.state)
            budget_wake(self.state.budget)      # senders may wait for it to be opened
        _check(fault, uid, f"epoch {epoch}")

    def close_shuffle(self, bytes uid not None) -> None:
        cdef const uint8_t *key = uid_bytes(uid)
        with nogil:
            store_lock(self.state)
            inbox_close(self.state.inbox, key)
            disk_finish(self.state.disk, key)
            monitor_notify(&self.state.lock)
            store_unlock(self.state)
            store_sweep(self.state)

    def shuffles(self) -> list[bytes]:
        cdef cpp_map[uid_key_t, shuffle_t].iterator each
        cdef vector[uid_key_t] found
        cdef size_t i
        with nogil:
            store_lock(self.state)
            each = self.state.inbox.shuffles.begin()
            while each != self.state.inbox.shuffles.end():
                found.push_back(deref(each).first)
                inc(each)
            store_unlock(self.state)
        return [PyBytes_FromStringAndSize(<char *> &found[i].first, 8)
                + PyBytes_FromStringAndSize(<char *> &found[i].second, 8) for i in range(found.size())]

    def place(self, bytes uid not None, uint32_t group, uint32_t generation) -> None:
        self.place_all(uid, (group,), generation)

    def place_all(self, bytes uid not None, groups, uint32_t generation) -> None:
        cdef const uint8_t *key = uid_bytes(uid)
        cdef vector[uint32_t] numbers = groups
        cdef shuffle_t *shuffle
        cdef int fault = INBOX_OK
        cdef size_t i = 0
        with nogil:
            store_lock(self.state)
            shuffle = inbox_find(self.state.inbox, key)
            if shuffle == NULL:
                fault = inbox_absent(self.state.inbox, key)
            while fault == INBOX_OK and i < numbers.size():
                fault = inbox_place(self.state.inbox, shuffle, numbers[i], generation)
                i += 1
            monitor_notify(&self.state.lock)
            store_unlock(self.state)
            store_sweep(self.state)
        _check(fault, uid, f"generation {generation} of group {numbers[i - 1] if i else '-'}")

    def drop_group(self, bytes uid not None, uint32_t group) -> None:
        cdef const uint8_t *key = uid_bytes(uid)
        cdef shuffle_t *shuffle
        with nogil:
            store_lock(self.state)
            shuffle = inbox_find(self.state.inbox, key)
            if shuffle != NULL:
                inbox_drop_group(self.state.inbox, shuffle, group)
                monitor_notify(&self.state.lock)
            store_unlock(self.state)
            store_sweep(self.state)

    def fence(self, bytes uid not None, uint32_t epoch) -> None:
        cdef const uint8_t *key = uid_bytes(uid)
        cdef shuffle_t *shuffle
        cdef int fault
        with nogil:
            store_lock(self.state)
            shuffle = inbox_find(self.state.inbox, key)
            if shuffle == NULL:
                fault = inbox_absent(self.state.inbox, key)
            else:
                fault = inbox_fence(shuffle, epoch)
            store_unlock(self.state)
        _check(fault, uid, f"epoch {epoch}")

    def seal(self, bytes uid not None, groups=None) -> None:
        cdef const uint8_t *key = uid_bytes(uid)
        cdef vector[uint32_t] numbers = groups or ()
        cdef bint every = groups is None
        cdef unordered_map[uint32_t, group_t].iterator each
        cdef shuffle_t *shuffle
        cdef group_t *group
        cdef int fault = INBOX_OK
        cdef size_t i
        with nogil:
            store_lock(self.state)
            shuffle = inbox_find(self.state.inbox, key)
            if shuffle == NULL:
                fault = inbox_absent(self.state.inbox, key)
            elif every:
                each = shuffle.groups.begin()
                while each != shuffle.groups.end():
                    inbox_seal(shuffle, &deref(each).second)
                    inc(each)
            else:
                for i in range(numbers.size()):
                    group = inbox_group(shuffle, numbers[i])
                    if group == NULL:
                        fault = INBOX_NO_GROUP
                    else:
                        inbox_seal(shuffle, group)
            monitor_notify(&self.state.lock)
            store_unlock(self.state)
        _check(fault, uid, "the seal")

    # ---- streams

    def expect(self, bytes uid not None, uint32_t map, uint32_t epoch, uint32_t attempt, uint64_t frames) -> None:
        cdef const uint8_t *key = uid_bytes(uid)
        cdef shuffle_t *shuffle
        cdef int fault
        with nogil:
            store_lock(self.state)
            shuffle = inbox_find(self.state.inbox, key)
            if shuffle == NULL:
                fault = inbox_absent(self.state.inbox, key)
            else:
                fault = inbox_expect(self.state.inbox, shuffle, map, epoch, attempt, frames)
            store_unlock(self.state)
        _check(fault, uid, attempt_name(map, epoch, attempt))

    def win(self, bytes uid not None, uint32_t map, uint32_t epoch, uint32_t attempt) -> None:
        cdef const uint8_t *key = uid_bytes(uid)
        cdef shuffle_t *shuffle
        cdef int fault
        with nogil:
            store_lock(self.state)
            shuffle = inbox_find(self.state.inbox, key)
            if shuffle == NULL:
                fault = inbox_absent(self.state.inbox, key)
            else:
                fault = inbox_win(self.state.inbox, shuffle, map, epoch, attempt)
            monitor_notify(&self.state.lock)
            store_unlock(self.state)
        _check(fault, uid, attempt_name(map, epoch, attempt))

    def discard(self, bytes uid not None, uint32_t map, uint32_t epoch, uint32_t attempt) -> None:
        cdef const uint8_t *key = uid_bytes(uid)
        cdef shuffle_t *shuffle
        cdef int fault
        with nogil:
            store_lock(self.state)
            shuffle = inbox_find(self.state.inbox, key)
            if shuffle == NULL:
                fault = inbox_absent(self.state.inbox, key)
            else:
                fault = inbox_discard(self.state.inbox, shuffle, map, epoch, attempt)
            store_unlock(self.state)
            store_sweep(self.state)
        _check(fault, uid, attempt_name(map, epoch, attempt))

    def counts(self, bytes uid not None, uint32_t map, uint32_t epoch, uint32_t attempt):
        cdef const uint8_t *key = uid_bytes(uid)
        cdef shuffle_t *shuffle
        cdef stream_t *found = NULL
        cdef stream_t stream
        with nogil:
            store_lock(self.state)
            shuffle = inbox_find(self.state.inbox, key)
            if shuffle != NULL:
                found = inbox_stream(shuffle, map, epoch, attempt)
                if found != NULL:
                    stream = found[0]
            store_unlock(self.state)
        return None if found == NULL else _counts(&stream)

    def streams(self, bytes uid not None) -> list:
        cdef const uint8_t *key = uid_bytes(uid)
        cdef vector[stream_key_t] keys
        cdef vector[stream_t] streams
        cdef shuffle_t *shuffle
        cdef cpp_map[stream_key_t, stream_t].iterator each
        cdef size_t i
        with nogil:
            store_lock(self.state)
            shuffle = inbox_find(self.state.inbox, key)
            if shuffle != NULL:
                each = shuffle.streams.begin()
                while each != shuffle.streams.end():
                    keys.push_back(deref(each).first)
                    streams.push_back(deref(each).second)
                    inc(each)
            store_unlock(self.state)
        return [(keys[i].first, keys[i].second >> 32, keys[i].second & 0xffffffff, _counts(&streams[i]))
                for i in range(keys.size())]

    def fileno(self) -> int:
        return self.state.event_fd

    def notices(self) -> list:
        cdef vector[notice_t] found
        cdef uint64_t count
        cdef size_t i
        with nogil:
            if eventfd_read(self.state.event_fd, &count) != 0 and errno != EAGAIN:
                count = 0       # nothing else can fail on a descriptor of our own; the queue is read anyway
            store_lock(self.state)
            while not self.state.inbox.notices.empty():
                found.push_back(self.state.inbox.notices.front())
                self.state.inbox.notices.pop_front()
            store_unlock(self.state)
        full = self.disk_full()
        return [Notice(NOTICES[found[i].kind], PyBytes_FromStringAndSize(<char *> found[i].uid, 16), found[i].map,
                       found[i].epoch, found[i].attempt, full if found[i].kind == NOTICE_DISK_FULL else "")
                for i in range(found.size())]

    def disk_full(self) -> str:
        cdef string figures
        cdef bint full
        with nogil:
            store_lock(self.state)
            full = self.state.full
            store_unlock(self.state)
            if full:
                figures = disk_figures(self.state.disk)
        if not full:
            return ""
        return f"every spill directory is full or out of use: {os.fsdecode(figures) or 'none was given'}"
