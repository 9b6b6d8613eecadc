# distutils: language = c++
"""The store: the owner's side of the data plane, as transport, mappers, sink and control loop call it.

It puts together the inbox (which frames count), the budget (whether there is room), the spill thread and the hand-out,
and turns their faults into errors. The rules are in those modules; here are the doors. See store.pyi for the contract
of each method.
"""
from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.errno cimport EAGAIN, errno
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, strerror
from libcpp.string cimport string
from libcpp.vector cimport vector
from cython.operator cimport dereference as deref, preincrement as inc
from posix.unistd cimport close as close_fd

from shuffle_worker._native.budget cimport (
    BUDGET_OK, Budget, budget_close, budget_grant, budget_redeem, budget_set_waker, budget_settle, budget_ungrant,
    budget_wake,
)
from shuffle_worker._native.buffer cimport buffer_ref, buffer_t, buffer_unref
from shuffle_worker._native.frame cimport Frame, frame_header_t, frame_wrap
from shuffle_worker._native.handout cimport (
    OUT_CLOSING, OUT_DEADLINE, OUT_DISK, OUT_LEASED, OUT_MEMORY, OUT_NO_GROUP, OUT_NO_SHUFFLE, OUT_OK, handout_clear,
    handout_group, handout_ready, handout_t, handout_wait,
)
from shuffle_worker._native.inbox cimport (
    INBOX_BROKEN, INBOX_CLOSED, INBOX_DISCARDED, INBOX_INCOMPLETE, INBOX_NO_GROUP, INBOX_NO_SHUFFLE, INBOX_NO_STREAM,
    INBOX_OK, INBOX_OLD_EPOCH, INBOX_OLD_GENERATION, INBOX_SEALED, INBOX_WON, cpp_map, group_t, inbox_absent,
    inbox_close, inbox_deliver, inbox_discard, inbox_drop_group, inbox_expect, inbox_fence, inbox_find, inbox_group,
    inbox_new, inbox_open, inbox_place, inbox_release, inbox_seal, inbox_stream, inbox_t, inbox_win, notice_t,
    shuffle_t, stream_key_t, stream_t, uid_key_t, unordered_map,
)
from shuffle_worker._native.monitor cimport (
    deadline_in, monitor_destroy, monitor_init, monitor_lock, monitor_notify, monitor_unlock,
)
from shuffle_worker._native.receiver cimport (
    GRANT_FENCED, GRANT_LATER, VERDICT_DUPLICATE, VERDICT_FENCED, VERDICT_GAP, VERDICT_UNKNOWN, Receiver, waker_t,
)
from shuffle_worker._native.segment cimport (
    DISK_BAD_HEADER, DISK_BAD_PAYLOAD, DISK_IO, DISK_SHORT, directory_t, disk_add, disk_delete, disk_figures,
    disk_finish, disk_new, disk_t,
)
from shuffle_worker._native.spill cimport spill_start, spill_stop, store_lock, store_sweep, store_t, store_unlock

import os

from shuffle_worker.errors import (
    Cancelled, Corrupted, DeadlineExceeded, DiskFull, Fenced, InternalError, PeerError, SpecError,
)
from shuffle_worker.store.limits import ShuffleLimits
from shuffle_worker.store.views import Counts, Notice, Ready, Taken


cdef extern from "<sys/eventfd.h>" nogil:
    enum:
        EFD_CLOEXEC
        EFD_NONBLOCK
    int eventfd(unsigned int value, int flags)
    int eventfd_read(int fd, uint64_t *value)

NOTICES = ("complete", "broken", "disk_full")
STATES = ("open", "broken", "won")


cdef const uint8_t *_uid(bytes uid) except NULL:
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


cdef str _attempt(uint32_t map, uint32_t epoch, uint32_t attempt):
    return f"attempt ({epoch}, {attempt}) of map {map}"


cdef object _counts(const stream_t *stream):
    return Counts(STATES[stream.state], stream.frames, stream.rows, stream.bytes, stream.crc_sum, stream.value_sum,
                  stream.expected if stream.expecting else None)


cdef class Store(Receiver):
    """Inbox, accounting, spill and hand-out of one process. Every method is thread-safe; see store.pyi."""

    def __cinit__(self, Budget budget not None, limits, directories=()):
        cdef store_t *store = <store_t *> calloc(1, sizeof(store_t))
        if store == NULL or monitor_init(&store.lock) != 0:
            free(store)
            raise MemoryError("no memory for a store")
        self.state = store
        self.budget = budget
        store.event_fd = -1
        store.budget = budget.state
        store.batch_bytes = limits.batch_bytes
        budget.state.grace_ns = <int64_t> (limits.full_grace_s * <double> 1e9)
        store.inbox = inbox_new(limits.tombstones)
        store.disk = disk_new(limits.segment_bytes)
        if store.inbox == NULL or store.disk == NULL:
            raise MemoryError("no memory for a store")
        for path in directories:
            self._add_directory(os.fspath(path), limits)
        store.event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)
        if store.event_fd < 0:
            raise PeerError(f"no descriptor for a store's notices: {strerror(errno).decode()}")
        cdef int error = spill_start(store)
        if error != 0:
            raise PeerError(f"cannot start the spill thread: {strerror(error).decode()}")

    def _add_directory(self, str path, limits):
        cdef string name = os.fsencode(path)
        cdef int error = disk_add(self.state.disk, name, limits.disk_reserve_bytes)
        if error != 0:
            raise SpecError(f"cannot use the spill directory {path}: {strerror(error).decode()}")
        if self.state.disk.directories.back().memory and limits.memory_disks == "refuse":
            raise SpecError(f"the spill directory {path} is on tmpfs, which is memory: name a directory on a disk")

    def __dealloc__(self):
        if self.state == NULL:
            return
        if not self.closed:
            self._shut()
        if self.state.event_fd >= 0:
            close_fd(self.state.event_fd)
        if self.state.disk != NULL:
            disk_delete(self.state.disk)
        del self.state.inbox
        monitor_destroy(&self.state.lock)
        free(self.state)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    cdef void _shut(self) noexcept:
        """Stop the thread, wake everybody, free everything held."""
        cdef store_t *store = self.state
        cdef cpp_map[uid_key_t, shuffle_t].iterator first
        cdef uint8_t uid[16]
        self.closed = True
        if store.inbox == NULL or store.disk == NULL:
            return
        with nogil:
            store_lock(store)
            store.closing = True
            monitor_notify(&store.lock)
            store_unlock(store)
            budget_close(store.budget)
            spill_stop(store)
            store_lock(store)
            while not store.inbox.shuffles.empty():
                first = store.inbox.shuffles.begin()
                memcpy(uid, deref(first).second.uid, 16)
                inbox_close(store.inbox, uid)
                disk_finish(store.disk, uid)
            store_unlock(store)
            store_sweep(store)

    def close(self) -> None:
        if not self.closed:
            self._shut()

    # ---- the transport's door

    cdef void attach(self, waker_t wake, void *context) noexcept nogil:
        budget_set_waker(self.state.budget, wake, context)

    cdef int64_t grant(self, const uint8_t *shuffle, int64_t wanted, bint alone) noexcept nogil:
        cdef int absent = INBOX_OK
        store_lock(self.state)
        if inbox_find(self.state.inbox, shuffle) == NULL:
            absent = inbox_absent(self.state.inbox, shuffle)
        store_unlock(self.state)
        if absent != INBOX_OK:
            return GRANT_FENCED if absent == INBOX_CLOSED else GRANT_LATER
        return budget_grant(self.state.budget, wanted, alone)

    cdef void ungrant(self, const uint8_t *shuffle, int64_t bytes) noexcept nogil:
        budget_ungrant(self.state.budget, bytes)

    cdef buffer_t *obtain(self, const frame_header_t *header) noexcept nogil:
        return budget_redeem(self.state.budget, <int64_t> header.length)

    cdef int deliver(self, const frame_header_t *header, buffer_t *payload) noexcept nogil:
        cdef int verdict
        store_lock(self.state)
        verdict = inbox_deliver(self.state.inbox, header, payload)
        store_unlock(self.state)
        return verdict

    cdef int put_frame(self, const frame_header_t *header, buffer_t *payload, int64_t deadline_ns,
                       int *fault) noexcept nogil:
        fault[0] = budget_settle(self.state.budget, deadline_ns)
        if fault[0] != BUDGET_OK:
            buffer_unref(payload)
            return -1
        return self.deliver(header, payload)

    def put(self, Frame frame not None, double deadline_s) -> int:
        cdef int fault = BUDGET_OK, verdict
        cdef int64_t deadline = deadline_in(deadline_s)
        self._own(frame)
        with nogil:
            if frame.payload != NULL:
                buffer_ref(frame.payload)
            verdict = self.put_frame(&frame.header, frame.payload, deadline, &fault)
        if verdict < 0:
            self._memory_fault(fault, <int64_t> frame.header.length, deadline_s,
                               f"a frame of {_attempt(frame.header.map, frame.header.epoch, frame.header.attempt)}")
        return verdict

    def offer(self, Frame frame not None) -> int:
        cdef int verdict
        self._own(frame)
        with nogil:
            if frame.payload != NULL:
                buffer_ref(frame.payload)
            verdict = self.deliver(&frame.header, frame.payload)
        return verdict

    cdef int _own(self, Frame frame) except -1:
        if self.closed:
            raise Cancelled("the store was closed")
        if frame.payload != NULL and frame.payload.pool != self.budget.pool.pool:
            raise InternalError("a frame's payload must come from the pool that the store's budget counts")
        if frame.header.length != (0 if frame.payload == NULL else frame.payload.size):
            raise InternalError(f"{frame!r} is not sealed: its payload has another size")
        return 0

    # ---- shuffles and what fences

    def open_shuffle(self, bytes uid not None, uint32_t epoch, limits=ShuffleLimits()) -> None:
        cdef const uint8_t *key = _uid(uid)
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
        cdef const uint8_t *key = _uid(uid)
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
        cdef const uint8_t *key = _uid(uid)
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
        cdef const uint8_t *key = _uid(uid)
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
        cdef const uint8_t *key = _uid(uid)
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
        cdef const uint8_t *key = _uid(uid)
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
        cdef const uint8_t *key = _uid(uid)
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
        _check(fault, uid, _attempt(map, epoch, attempt))

    def win(self, bytes uid not None, uint32_t map, uint32_t epoch, uint32_t attempt) -> None:
        cdef const uint8_t *key = _uid(uid)
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
        _check(fault, uid, _attempt(map, epoch, attempt))

    def discard(self, bytes uid not None, uint32_t map, uint32_t epoch, uint32_t attempt) -> None:
        cdef const uint8_t *key = _uid(uid)
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
        _check(fault, uid, _attempt(map, epoch, attempt))

    def counts(self, bytes uid not None, uint32_t map, uint32_t epoch, uint32_t attempt):
        cdef const uint8_t *key = _uid(uid)
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
        cdef const uint8_t *key = _uid(uid)
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
        return [Notice(NOTICES[found[i].kind], PyBytes_FromStringAndSize(<char *> found[i].uid, 16), found[i].map,
                       found[i].epoch, found[i].attempt, self.disk_full() if NOTICES[found[i].kind] == "disk_full" else "")
                for i in range(found.size())]

    # ---- hand-out

    def take(self, bytes uid not None, uint32_t group, int64_t max_bytes, double deadline_s, bint wait=True) -> list:
        cdef handout_t out
        self._ask(&out, uid, max_bytes, deadline_s, wait)
        out.group = group
        with nogil:
            handout_group(self.state, &out)
        if not wait and out.outcome in (OUT_DEADLINE, OUT_LEASED):
            out.outcome = OUT_OK
        return self._frames(&out, uid, deadline_s)

    def peek(self, bytes uid not None, uint32_t group, int64_t position, int64_t max_bytes,
             double deadline_s=60.0) -> list:
        cdef handout_t out
        if position < 0:
            raise ValueError(f"position {position} is negative")
        self._ask(&out, uid, max_bytes, deadline_s, False)
        out.group = group
        out.position = position
        with nogil:
            handout_group(self.state, &out)
        return self._frames(&out, uid, deadline_s)

    def take_ready(self, bytes uid not None, int64_t max_bytes, double deadline_s):
        cdef handout_t out
        self._ask(&out, uid, max_bytes, deadline_s, True)
        with nogil:
            handout_ready(self.state, &out)
        frames = self._frames(&out, uid, deadline_s)
        return None if out.done else Taken(out.group, frames, bool(out.last))

    def release_group(self, bytes uid not None, uint32_t group) -> None:
        cdef const uint8_t *key = _uid(uid)
        cdef shuffle_t *shuffle
        cdef group_t *found
        with nogil:
            store_lock(self.state)
            shuffle = inbox_find(self.state.inbox, key)
            if shuffle != NULL:
                found = inbox_group(shuffle, group)
                if found != NULL:
                    inbox_release(shuffle, found)
                    monitor_notify(&self.state.lock)
            store_unlock(self.state)

    def wait_ready(self, bytes uid not None, double deadline_s) -> bool:
        cdef const uint8_t *key = _uid(uid)
        cdef int64_t deadline = deadline_in(deadline_s)
        cdef int outcome = OUT_OK
        cdef bint ready
        with nogil:
            ready = handout_wait(self.state, key, deadline, &outcome)
        if outcome == OUT_CLOSING:
            raise Cancelled("the store was closed")
        if outcome == OUT_NO_SHUFFLE:
            raise Fenced(f"shuffle {uid.hex()} is not open here")
        return ready

    def ready(self, bytes uid not None) -> list:
        cdef const uint8_t *key = _uid(uid)
        cdef shuffle_t *shuffle
        cdef unordered_map[uint32_t, group_t].iterator each
        cdef group_t *group
        cdef vector[uint32_t] numbers
        cdef vector[int64_t] rows, sizes
        cdef vector[int] sealed
        cdef size_t i
        with nogil:
            store_lock(self.state)
            shuffle = inbox_find(self.state.inbox, key)
            if shuffle != NULL:
                each = shuffle.groups.begin()
                while each != shuffle.groups.end():
                    group = &deref(each).second
                    if group.queue.size() > group.head or group.sealed:
                        numbers.push_back(group.number)
                        rows.push_back(group.ready_rows)
                        sizes.push_back(group.ready_bytes)
                        sealed.push_back(group.sealed)
                    inc(each)
            store_unlock(self.state)
        return [Ready(numbers[i], rows[i], sizes[i], bool(sealed[i])) for i in range(numbers.size())]

    cdef int _ask(self, handout_t *out, bytes uid, int64_t max_bytes, double seconds, bint wait) except -1:
        memcpy(out.uid, _uid(uid), 16)
        out.group = 0
        out.position = -1
        out.max_bytes = max_bytes
        out.deadline_ns = deadline_in(seconds)
        out.wait = wait
        out.last = False
        out.done = False
        out.outcome = OUT_OK
        out.fault = 0
        out.error = 0
        out.culprit = NULL
        out.segment = NULL
        return 0

    cdef list _frames(self, handout_t *out, bytes uid, double seconds):
        """The frames, each with its payload's reference; or what went wrong, as an error."""
        cdef size_t i
        cdef buffer_t *payload
        frames = []
        try:
            if out.outcome != OUT_OK:
                self._raise_outcome(out, uid, seconds)
            for i in range(out.headers.size()):
                payload = out.payloads[i]
                out.payloads[i] = NULL
                frames.append(frame_wrap(&out.headers[i], payload))
        finally:
            handout_clear(self.state, out)
        return frames

    cdef int _raise_outcome(self, handout_t *out, bytes uid, double seconds) except -1:
        name = f"group {out.group} of shuffle {uid.hex()}"
        if out.outcome == OUT_NO_SHUFFLE:
            raise Fenced(f"shuffle {uid.hex()} is not open here")
        if out.outcome == OUT_NO_GROUP:
            raise Fenced(f"{name} is not placed here")
        if out.outcome == OUT_CLOSING:
            raise Cancelled("the store was closed")
        if out.outcome == OUT_MEMORY:
            self._memory_fault(out.fault, 0, seconds, f"reading {name} back from disk")
        if out.outcome == OUT_DISK:
            place = f"{os.fsdecode(out.segment.path)} at offset {out.culprit.offset}"
            worker = f"worker incarnation {out.culprit.header.incarnation:016x}"
            if out.fault == DISK_IO:
                raise PeerError(f"cannot read {place}, a frame of {worker}: {strerror(out.error).decode()}")
            raise Corrupted(f"{place}: a frame of {worker} " + {
                DISK_BAD_HEADER: "has another header than was written",
                DISK_BAD_PAYLOAD: "does not match its checksum",
                DISK_SHORT: "is cut off",
            }[out.fault])
        if out.outcome == OUT_LEASED:
            raise DeadlineExceeded(f"waited {seconds:.1f} s for another reader of {name} to end")
        raise DeadlineExceeded(f"waited {seconds:.1f} s for frames of {name if out.group or not out.wait else uid.hex()}")

    # ---- memory and figures

    def permit(self, bytes, double deadline_s, str what not None, bint sink=False):
        return self.budget.permit(bytes, deadline_s, what, sink)

    cdef int _memory_fault(self, int fault, int64_t bytes, double seconds, str what) except -1:
        full = self.disk_full()
        if full:
            raise DiskFull(f"{what} waits for memory, and nothing can be spilled ({full}; {self.budget.figures()})")
        self.budget.fail(fault, bytes, seconds, what)
        return 0

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

    def stats(self) -> dict[str, int]:
        cdef store_t *store = self.state
        cdef int64_t frames, resident, spilled, index, spill_ns, batches, written, written_frames, read_back
        cdef uint64_t duplicates, fenced, gaps, unknown
        with nogil:
            store_lock(store)
            frames = store.inbox.frames
            resident = store.inbox.resident_bytes
            spilled = store.inbox.spilled_bytes
            index = store.inbox.index_bytes
            duplicates = store.inbox.refused[VERDICT_DUPLICATE]
            fenced = store.inbox.refused[VERDICT_FENCED]
            gaps = store.inbox.refused[VERDICT_GAP]
            unknown = store.inbox.refused[VERDICT_UNKNOWN]
            spill_ns = store.spill_ns
            batches = store.batches
            store_unlock(store)
            monitor_lock(&store.disk.lock)
            written = store.disk.written_bytes
            written_frames = store.disk.written_frames
            read_back = store.disk.read_bytes
            monitor_unlock(&store.disk.lock)
        return {
            **self.budget.snapshot(), "frames": frames, "resident_bytes": resident, "spilled_bytes": spilled,
            "inbox_index_bytes": index, "duplicates": duplicates, "fenced": fenced, "gaps": gaps, "unknown": unknown,
            "spill_ns": spill_ns, "spill_batches": batches,
            "spilled_bytes_total": written, "spilled_frames_total": written_frames,
            "read_back_bytes_total": read_back,
        }

    def directories(self) -> list[dict[str, object]]:
        cdef disk_t *disk = self.state.disk
        cdef vector[directory_t] found
        cdef size_t i
        with nogil:
            monitor_lock(&disk.lock)
            for i in range(disk.directories.size()):
                found.push_back(deref(disk.directories[i]))
            monitor_unlock(&disk.lock)
        return [{
            "path": os.fsdecode(found[i].path), "free_bytes": found[i].free_bytes,
            "reserve_bytes": found[i].reserve_bytes, "bytes": found[i].bytes, "segments": found[i].segments,
            "full": bool(found[i].full), "memory": bool(found[i].memory),
            "fault": found[i].fault.decode(errors="replace"),
        } for i in range(found.size())]
