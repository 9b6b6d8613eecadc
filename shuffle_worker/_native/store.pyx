# distutils: language = c++
"""The store: the owner's side of the data plane, as transport, mappers and sink call it.

It puts together the inbox (which frames count), the budget (whether there is room), the spill thread and the hand-out,
and turns their faults into errors. The rules are in those modules; here are the doors, but for the control loop's,
which is door.pyx. See store.pyi for the contract of each method.
"""
from libc.errno cimport errno
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, strerror
from libcpp.string cimport string
from libcpp.vector cimport vector
from cython.operator cimport dereference as deref, preincrement as inc
from posix.unistd cimport close as close_fd

from shuffle_worker._native.budget cimport (
    BUDGET_OK, Budget, budget_close, budget_grant, budget_redeem, budget_set_waker, budget_settle, budget_ungrant,
)
from shuffle_worker._native.buffer cimport buffer_ref, buffer_t, buffer_unref
from shuffle_worker._native.door cimport InboxDoor, attempt_name, uid_bytes
from shuffle_worker._native.frame cimport Frame, frame_header_t, frame_wrap
from shuffle_worker._native.handout cimport (
    OUT_CLOSING, OUT_DEADLINE, OUT_DISK, OUT_LEASED, OUT_MEMORY, OUT_NO_GROUP, OUT_NO_SHUFFLE, OUT_OK, handout_clear,
    handout_group, handout_ready, handout_t, handout_wait,
)
from shuffle_worker._native.inbox cimport (
    INBOX_CLOSED, INBOX_OK, cpp_map, group_t, inbox_absent, inbox_close, inbox_deliver, inbox_find, inbox_group,
    inbox_new, inbox_release, shuffle_t, uid_key_t, unordered_map,
)
from shuffle_worker._native.monitor cimport (
    deadline_in, monitor_destroy, monitor_init, monitor_lock, monitor_notify, monitor_unlock,
)
from shuffle_worker._native.receiver cimport (
    GRANT_FENCED, GRANT_LATER, VERDICT_DUPLICATE, VERDICT_FENCED, VERDICT_GAP, VERDICT_UNKNOWN, waker_t,
)
from shuffle_worker._native.segment cimport (
    DISK_BAD_HEADER, DISK_BAD_PAYLOAD, DISK_IO, DISK_SHORT, directory_t, disk_add, disk_delete, disk_finish, disk_new,
    disk_t,
)
from shuffle_worker._native.spill cimport spill_start, spill_stop, store_lock, store_sweep, store_t, store_unlock

import os

from shuffle_worker.errors import (
    Cancelled, Corrupted, DeadlineExceeded, DiskFull, Fenced, InternalError, PeerError, SpecError,
)
from shuffle_worker.store.views import Counts, Notice, Ready, Taken  # no-cython-lint: the store's vocabulary


cdef extern from "<sys/eventfd.h>" nogil:
    enum:
        EFD_CLOEXEC
        EFD_NONBLOCK
    int eventfd(unsigned int value, int flags)


cdef class Store(InboxDoor):
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
                               f"a frame of {attempt_name(frame.header.map, frame.header.epoch, frame.header.attempt)}")
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
        out.any = True
        with nogil:
            handout_ready(self.state, &out)
        frames = self._frames(&out, uid, deadline_s)
        return None if out.done else Taken(out.group, frames, bool(out.last))

    def release_group(self, bytes uid not None, uint32_t group) -> None:
        cdef const uint8_t *key = uid_bytes(uid)
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
        cdef const uint8_t *key = uid_bytes(uid)
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
        cdef const uint8_t *key = uid_bytes(uid)
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
        memcpy(out.uid, uid_bytes(uid), 16)
        out.group = 0
        out.position = -1
        out.max_bytes = max_bytes
        out.deadline_ns = deadline_in(seconds)
        out.wait = wait
        out.any = False
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
        if out.any:
            name = f"any group of shuffle {uid.hex()}"
        raise DeadlineExceeded(f"waited {seconds:.1f} s for frames of {name}")

    # ---- memory and figures

    def permit(self, bytes, double deadline_s, str what not None, bint sink=False):
        return self.budget.permit(bytes, deadline_s, what, sink)

    cdef int _memory_fault(self, int fault, int64_t bytes, double seconds, str what) except -1:
        full = self.disk_full()
        if full:
            raise DiskFull(f"{what} waits for memory, and nothing can be spilled ({full}; {self.budget.figures()})")
        self.budget.fail(fault, bytes, seconds, what)
        return 0

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
