# distutils: language = c++
"""In-memory twins of the transport's surroundings, for tests: a receiver without a store, a connection without a
socket, credit without a connection. Nothing in the product imports this.
"""
from libc.stdint cimport int64_t, uint8_t
from libc.stdlib cimport calloc
from libcpp.deque cimport deque
from libcpp.string cimport string
from libcpp.vector cimport vector

from shuffle_worker._native.buffer cimport (
    BufferPool, buffer_new, buffer_pool_on_freed, buffer_pool_usage, buffer_t, buffer_unref,
)
from shuffle_worker._native.frame cimport Frame, frame_header_t, frame_wrap
from shuffle_worker._native.monitor cimport (
    deadline_in, monitor_destroy, monitor_init, monitor_lock, monitor_notify, monitor_t, monitor_unlock, monitor_wait,
)
from shuffle_worker._native.receiver cimport (
    GRANT_FENCED, GRANT_LATER, GRANT_TOO_LARGE, VERDICT_TAKEN, Receiver, frame_credit, waker_t,
)
from shuffle_worker._native.wire cimport ReceiverTable
from shuffle_worker._native.wire_harness cimport Harness


LATER = GRANT_LATER
FENCED_SHUFFLE = GRANT_FENCED


cdef struct held_t:
    frame_header_t header
    buffer_t *payload


# Whom to tell of freed memory. Never freed itself: buffers may outlive the receiver, and the pool tells of them.
cdef struct bell_t:
    monitor_t monitor
    waker_t wake
    void *context


cdef void _ring(void *bell) noexcept nogil:
    cdef bell_t *b = <bell_t *> bell
    monitor_lock(&b.monitor)
    if b.wake != NULL:
        b.wake(b.context)
    monitor_unlock(&b.monitor)


cdef class MemoryReceiver(Receiver):
    """Takes frames into memory up to a limit; grants against that; answers with a verdict that the test chooses.

    Thread-safe. Frames are held until `take`; with `discard` they are counted and freed at once.
    """
    cdef monitor_t monitor
    cdef BufferPool pool
    cdef deque[held_t] held
    cdef bell_t *bell
    cdef public int verdict         # what deliver answers
    cdef public int grant_answer    # 0: grant by memory; else this GRANT_ code
    cdef public bint refuse_buffers
    cdef public bint discard
    cdef readonly int64_t limit_bytes
    cdef readonly int64_t reserved_bytes
    cdef readonly int64_t held_bytes
    cdef readonly int64_t peak_bytes        # of credit and live buffers
    cdef readonly int64_t frames
    cdef readonly int64_t bytes

    def __cinit__(self, BufferPool pool not None, limit_bytes: int):
        self.pool = pool
        self.limit_bytes = limit_bytes
        self.bell = <bell_t *> calloc(1, sizeof(bell_t))
        if self.bell == NULL or monitor_init(&self.bell.monitor) != 0 or monitor_init(&self.monitor) != 0:
            raise MemoryError("no memory for a receiver")
        buffer_pool_on_freed(pool.pool, _ring, self.bell)

    def __dealloc__(self):
        cdef size_t i
        for i in range(self.held.size()):
            buffer_unref(self.held[i].payload)
        monitor_destroy(&self.monitor)

    cdef void attach(self, waker_t wake, void *context) noexcept nogil:
        monitor_lock(&self.bell.monitor)
        self.bell.wake = wake
        self.bell.context = context
        monitor_unlock(&self.bell.monitor)

    cdef int64_t grant(self, const uint8_t *shuffle, int64_t wanted, bint alone) noexcept nogil:
        cdef int64_t granted
        monitor_lock(&self.monitor)
        granted = self.limit_bytes - self._used()
        if granted >= wanted:
            granted = wanted
        elif alone or granted < 0:
            granted = 0
        if self.grant_answer != 0:
            granted = self.grant_answer
        elif wanted > self.limit_bytes and alone:
            granted = GRANT_TOO_LARGE
        if granted > 0:
            self.reserved_bytes += granted
            self._used()
        monitor_unlock(&self.monitor)
        return granted

    cdef void ungrant(self, const uint8_t *shuffle, int64_t bytes) noexcept nogil:
        monitor_lock(&self.monitor)
        self.reserved_bytes -= bytes
        monitor_unlock(&self.monitor)
        _ring(self.bell)

    cdef buffer_t *obtain(self, const frame_header_t *header) noexcept nogil:
        cdef int64_t length = <int64_t> header.length
        cdef buffer_t *buffer = NULL
        if not self.refuse_buffers:
            buffer = buffer_new(self.pool.pool, length)
        if buffer != NULL:
            monitor_lock(&self.monitor)
            self.reserved_bytes -= frame_credit(length)
            self._used()
            monitor_unlock(&self.monitor)
        return buffer

    cdef int deliver(self, const frame_header_t *header, buffer_t *payload) noexcept nogil:
        cdef held_t held
        cdef int verdict
        held.header = header[0]
        held.payload = payload
        monitor_lock(&self.monitor)
        verdict = self.verdict
        if verdict == VERDICT_TAKEN:
            self.frames += 1
            self.bytes += <int64_t> header.length
            if not self.discard:
                self.held.push_back(held)
                self.held_bytes += <int64_t> header.length
                payload = NULL
            monitor_notify(&self.monitor)
        monitor_unlock(&self.monitor)
        buffer_unref(payload)
        return verdict

    cdef int64_t _used(self) noexcept nogil:
        """What counts against the limit: credit, and every buffer of the pool, whoever holds it."""
        cdef int64_t live, kept
        buffer_pool_usage(self.pool.pool, &live, &kept)
        self.peak_bytes = max(self.peak_bytes, live + self.reserved_bytes)
        return live + self.reserved_bytes

    def take(self, timeout_s: float = 5.0) -> Frame | None:
        """The oldest frame held; None when none came in time."""
        cdef held_t held
        cdef bint found = False
        cdef int64_t deadline_ns = deadline_in(timeout_s)
        with nogil:
            monitor_lock(&self.monitor)
            while self.held.empty():
                if monitor_wait(&self.monitor, deadline_ns):
                    break
            if not self.held.empty():
                found = True
                held = self.held.front()
                self.held.pop_front()
                self.held_bytes -= <int64_t> held.header.length
            monitor_unlock(&self.monitor)
        return frame_wrap(&held.header, held.payload) if found else None

    def wait_frames(self, count: int, timeout_s: float = 30.0) -> bool:
        """Wait until `count` frames were taken in all; False when that took too long."""
        cdef int64_t wanted = count
        cdef int64_t deadline_ns = deadline_in(timeout_s)
        cdef bint reached
        with nogil:
            monitor_lock(&self.monitor)
            while self.frames < wanted:
                if monitor_wait(&self.monitor, deadline_ns):
                    break
            reached = self.frames >= wanted
            monitor_unlock(&self.monitor)
        return reached

    def set_limit(self, limit_bytes: int, wake: bool = True) -> None:
        """Change how much may be held; with `wake`, tell the transport."""
        cdef int64_t limit = limit_bytes
        cdef bint tell = wake
        with nogil:
            monitor_lock(&self.monitor)
            self.limit_bytes = limit
            monitor_unlock(&self.monitor)
            if tell:
                _ring(self.bell)


cdef int64_t _grant(void *receiver, const uint8_t *shuffle, int64_t wanted, int alone) noexcept nogil:
    return (<MemoryReceiver> receiver).grant(shuffle, wanted, alone != 0)


cdef void _ungrant(void *receiver, const uint8_t *shuffle, int64_t size) noexcept nogil:
    (<MemoryReceiver> receiver).ungrant(shuffle, size)


cdef buffer_t *_obtain(void *receiver, const frame_header_t *header) noexcept nogil:
    return (<MemoryReceiver> receiver).obtain(header)


cdef int _deliver(void *receiver, const frame_header_t *header, buffer_t *payload) noexcept nogil:
    return (<MemoryReceiver> receiver).deliver(header, payload)


cdef ReceiverTable _table(MemoryReceiver receiver) noexcept:
    cdef ReceiverTable table
    table.self = <void *> receiver
    table.grant = _grant
    table.ungrant = _ungrant
    table.obtain = _obtain
    table.deliver = _deliver
    return table


cdef class SocketlessWire:
    """A transport's state without sockets: connections are numbers, bytes go in by `feed` and come out by `output`."""
    cdef Harness *harness
    cdef readonly MemoryReceiver receiver

    def __cinit__(self, MemoryReceiver receiver not None, tokens: tuple[str, ...] = (), incarnation: int = 7,
                  window_bytes: int = 65536, max_frame_bytes: int = 1 << 20, max_control_bytes: int = 1 << 16):
        cdef vector[string] raw = [<bytes> token.encode() for token in tokens]
        self.receiver = receiver
        self.harness = new Harness(_table(receiver), raw, incarnation, window_bytes, max_frame_bytes, max_control_bytes)

    def __dealloc__(self):
        del self.harness

    def accept(self) -> int:
        """A new inbound connection."""
        return self.harness.accept()

    def dial(self, name: str, expect: int = 0, data: bool = True) -> int:
        """A new outbound connection, whose HELLO is in its output."""
        cdef string raw = name.encode()
        return self.harness.dial(raw, expect, data)

    def feed(self, connection: int, data: bytes) -> bool:
        """Whether the connection still reads."""
        cdef const uint8_t *raw = <const uint8_t *> <const char *> data
        return self.harness.feed(connection, raw, len(data))

    def feed_straight(self, connection: int, data: bytes) -> bool:
        """The same, putting payload bytes straight into their buffers, as the socket loop does."""
        cdef const uint8_t *raw = <const uint8_t *> <const char *> data
        return self.harness.feed_straight(connection, raw, len(data))

    def output(self, connection: int) -> bytes:
        """What the connection has to write; taken."""
        cdef string raw = self.harness.output(connection)
        return raw.data()[:raw.size()]

    def end(self, connection: int) -> None:
        """The other side is gone."""
        self.harness.end(connection)

    def reason(self, connection: int) -> str:
        """Why the connection ended; empty while it lives."""
        cdef string raw = self.harness.reason(connection)
        return raw.data()[:raw.size()].decode("utf-8", "replace")

    def advance(self, seconds: float) -> None:
        """Let time pass, and serve who waits for credit."""
        self.harness.advance(<int64_t> (seconds * 1e9))

    def outstanding(self, connection: int, shuffle: bytes) -> int:
        """Credit that the connection holds for the shuffle."""
        return self.harness.outstanding(connection, <const uint8_t *> <const char *> shuffle)

    @property
    def waiting(self) -> int:
        """Senders that wait for credit."""
        return self.harness.waiting()

    @property
    def live(self) -> int:
        """Connections that have not ended."""
        return self.harness.live()

    @property
    def events(self) -> int:
        """Events queued; taken."""
        return self.harness.events()
