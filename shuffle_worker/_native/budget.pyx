"""Who may hold how much memory: one limit over pooled buffers, credit promised to senders, and permits.

Buffers are counted by the pool that made them, so whoever holds one is accounted until it gives it back, and nothing
else has to be told. What the pool keeps warm gives way when somebody needs the room. This module knows nothing of
frames and files: the spill thread asks it when to work, the transport how much credit to grant.
"""
from libc.stdlib cimport calloc

from shuffle_worker._native.buffer cimport (
    BufferPool, buffer_capacity_for, buffer_new, buffer_pool_on_freed, buffer_pool_trim, buffer_pool_usage, buffer_t,
)
from shuffle_worker._native.monitor cimport (
    atomic_get, atomic_get64, atomic_set, atomic_set64, atomic_swap, deadline_in, monitor_init, monitor_lock,
    monitor_notify, monitor_unlock, monitor_wait, monotonic_ns,
)
from shuffle_worker._native.receiver cimport GRANT_TOO_LARGE, frame_credit

from shuffle_worker.errors import AdmissionError, Cancelled, DeadlineExceeded, DiskFull, InternalError
from shuffle_worker.quantity import format_bytes


cdef enum:
    DENIED_BY_CAP = 1       # too much credit is out: memory itself is not short
    DENIED_BY_MEMORY = 2
    # A buffer of n bytes takes up to 2n: capacities are powers of two.
    COST = 2
    LEAST_GRANT = 256 << 10     # less is not worth a message, unless it is all that was asked for


cdef inline int64_t _beside_buffers(const budget_t *b) noexcept nogil:
    return b.pending + b.other + b.reserved + b.permitted[STAGE_SOURCE] + b.permitted[STAGE_SINK]


cdef int64_t _used(budget_t *b) noexcept nogil:
    cdef int64_t live, kept
    buffer_pool_usage(b.pool, &live, &kept)
    live += _beside_buffers(b)
    if live > b.peak:
        b.peak = live
    return live


cdef void _make_room(budget_t *b, int64_t bytes) noexcept nogil:
    """Let warm pages go when they and `bytes` more would be above the limit."""
    cdef int64_t live, kept, keep
    buffer_pool_usage(b.pool, &live, &kept)
    keep = b.limit_bytes - live - _beside_buffers(b) - bytes
    if kept > keep:
        buffer_pool_trim(b.pool, max(keep, 0))


cdef bint _fits(budget_t *b, int stage, int64_t bytes) noexcept nogil:
    return _used(b) + bytes <= b.ceiling[stage]


cdef void _freed(void *context) noexcept nogil:
    """Memory was given back: who waits looks again. Called by the pool without locks of pool or budget."""
    cdef budget_t *b = <budget_t *> context
    atomic_set64(&b.freed_ns, monotonic_ns())
    if atomic_get(&b.waiting):
        monitor_lock(&b.monitor)
        monitor_notify(&b.monitor)
        monitor_unlock(&b.monitor)
    if atomic_get(&b.denied) and atomic_swap(&b.denied, 0):
        budget_wake(b)


cdef int _wait_once(budget_t *b, int64_t since_ns, int64_t deadline_ns) noexcept nogil:
    """One wait for memory, begun at `since_ns`; the lock is held. A BudgetFault: whether to go on waiting."""
    cdef int64_t now = monotonic_ns(), until = deadline_ns
    if b.closed:
        return BUDGET_CLOSED
    if now >= deadline_ns:
        return BUDGET_DEADLINE
    if b.stuck:
        until = min(until, max(since_ns, atomic_get64(&b.freed_ns)) + b.grace_ns)
        if now >= until:
            return BUDGET_STUCK
    monitor_wait(&b.monitor, until)
    return BUDGET_OK


cdef void _begin_wait(budget_t *b) noexcept nogil:
    b.stalls += 1
    atomic_set(&b.waiting, b.waiting + 1)
    monitor_notify(&b.monitor)      # the spill thread: somebody waits


cdef void _end_wait(budget_t *b, int64_t since_ns) noexcept nogil:
    atomic_set(&b.waiting, b.waiting - 1)
    b.stall_ns += monotonic_ns() - since_ns


cdef int64_t budget_used(budget_t *b) noexcept nogil:
    cdef int64_t used
    monitor_lock(&b.monitor)
    used = _used(b)
    monitor_unlock(&b.monitor)
    return used


cdef int budget_take(budget_t *b, int stage, int64_t bytes, int64_t deadline_ns) noexcept nogil:
    cdef int fault = BUDGET_OK
    cdef int64_t since
    if bytes < 0 or bytes > b.ceiling[stage]:
        return BUDGET_TOO_LARGE
    monitor_lock(&b.monitor)
    if b.closed:
        fault = BUDGET_CLOSED
    elif not _fits(b, stage, bytes):
        fault = BUDGET_DEADLINE
        if deadline_ns > 0:
            since = monotonic_ns()
            _begin_wait(b)
            while True:
                if _fits(b, stage, bytes):
                    fault = BUDGET_OK
                    break
                fault = _wait_once(b, since, deadline_ns)
                if fault != BUDGET_OK:
                    break
            _end_wait(b, since)
    if fault == BUDGET_OK:
        _make_room(b, bytes)
        b.pending += bytes
    monitor_unlock(&b.monitor)
    return fault


cdef void budget_made(budget_t *b, int64_t bytes) noexcept nogil:
    monitor_lock(&b.monitor)
    b.pending -= bytes
    monitor_unlock(&b.monitor)


cdef buffer_t *budget_buffer(budget_t *b, int stage, int64_t size, int64_t deadline_ns, int *fault) noexcept nogil:
    cdef int size_class
    cdef int64_t capacity = buffer_capacity_for(size, &size_class)
    fault[0] = budget_take(b, stage, capacity, deadline_ns)
    if fault[0] != BUDGET_OK:
        return NULL
    cdef buffer_t *buffer = buffer_new(b.pool, size)
    budget_made(b, capacity)
    if buffer == NULL:
        fault[0] = BUDGET_NO_MEMORY
    return buffer


cdef int budget_settle(budget_t *b, int64_t deadline_ns) noexcept nogil:
    cdef int fault = BUDGET_OK
    cdef int64_t since
    monitor_lock(&b.monitor)
    if b.closed:
        fault = BUDGET_CLOSED
    elif b.spillable > 0 and not _fits(b, STAGE_INBOX, 0):
        since = monotonic_ns()
        _begin_wait(b)
        # With nothing left to spill, waiting would wait for the caller itself: its frame is the next to be spilled.
        while b.spillable > 0 and not _fits(b, STAGE_INBOX, 0):
            fault = _wait_once(b, since, deadline_ns)
            if fault != BUDGET_OK:
                break
        _end_wait(b, since)
    monitor_unlock(&b.monitor)
    return fault


cdef int64_t budget_grant(budget_t *b, int64_t wanted, bint alone) noexcept nogil:
    cdef int64_t room, cap, granted = 0
    if wanted > b.ceiling[STAGE_INBOX] // COST:
        if alone:
            return GRANT_TOO_LARGE
        wanted = b.ceiling[STAGE_INBOX] // COST
    monitor_lock(&b.monitor)
    if not b.closed and wanted > 0:
        room = (b.ceiling[STAGE_INBOX] - _used(b)) // COST
        cap = (b.credit_cap - b.reserved) // COST
        if alone:
            # All or nothing, and above the cap only when nobody else holds credit.
            if wanted <= room and (wanted <= cap or b.reserved == 0):
                granted = wanted
        else:
            granted = min(wanted, min(room, cap))
            if granted < min(wanted, <int64_t> LEAST_GRANT):
                granted = 0
        if granted < wanted:
            atomic_set(&b.denied, DENIED_BY_MEMORY if room < wanted else DENIED_BY_CAP)
            monitor_notify(&b.monitor)
        b.reserved += granted * COST
    monitor_unlock(&b.monitor)
    return granted


cdef void budget_ungrant(budget_t *b, int64_t bytes) noexcept nogil:
    monitor_lock(&b.monitor)
    b.reserved = max(b.reserved - bytes * COST, 0)
    monitor_unlock(&b.monitor)
    _freed(b)


cdef buffer_t *budget_redeem(budget_t *b, int64_t length) noexcept nogil:
    cdef int size_class
    cdef int64_t capacity = buffer_capacity_for(length, &size_class)
    cdef int64_t credit = frame_credit(length) * COST
    cdef bint held
    if capacity < 0:
        return NULL
    monitor_lock(&b.monitor)
    held = b.reserved >= credit
    if held:
        _make_room(b, 0)        # what was reserved for it is room enough
        b.reserved -= credit
        b.pending += capacity
    monitor_unlock(&b.monitor)
    if not held:
        return NULL
    cdef buffer_t *buffer = buffer_new(b.pool, length)
    monitor_lock(&b.monitor)
    b.pending -= capacity
    if buffer == NULL:
        b.reserved += credit
    monitor_unlock(&b.monitor)
    if atomic_get(&b.denied):
        _freed(b)               # a buffer takes less than its credit
    return buffer


cdef void budget_wake(budget_t *b) noexcept nogil:
    monitor_lock(&b.monitor)
    if b.waker != NULL:
        b.waker(b.waker_context)
    monitor_unlock(&b.monitor)


cdef void budget_charge(budget_t *b, int64_t bytes) noexcept nogil:
    monitor_lock(&b.monitor)
    b.other += bytes
    monitor_unlock(&b.monitor)
    if bytes < 0:
        _freed(b)


cdef void budget_spillable(budget_t *b, int64_t bytes) noexcept nogil:
    monitor_lock(&b.monitor)
    b.spillable += bytes
    if b.waiting or (bytes > 0 and _used(b) > b.high_bytes):
        monitor_notify(&b.monitor)
    monitor_unlock(&b.monitor)


cdef bint budget_wait_spill(budget_t *b, bint spilling, int64_t deadline_ns) noexcept nogil:
    cdef bint needed = False
    cdef int64_t used
    monitor_lock(&b.monitor)
    while not b.closed:
        used = _used(b)
        needed = b.spillable > 0 and (
            used > b.high_bytes or (spilling and used > b.low_bytes)
            or b.waiting > 0 or atomic_get(&b.denied) == DENIED_BY_MEMORY
        )
        if needed or monitor_wait(&b.monitor, deadline_ns):
            break
    monitor_unlock(&b.monitor)
    return needed


cdef void budget_set_stuck(budget_t *b, bint stuck) noexcept nogil:
    monitor_lock(&b.monitor)
    b.stuck = stuck
    monitor_notify(&b.monitor)
    monitor_unlock(&b.monitor)


cdef void budget_close(budget_t *b) noexcept nogil:
    monitor_lock(&b.monitor)
    b.closed = 1
    b.waker = NULL
    monitor_notify(&b.monitor)
    monitor_unlock(&b.monitor)


cdef void budget_set_waker(budget_t *b, void (*waker)(void *context) noexcept nogil, void *context) noexcept nogil:
    monitor_lock(&b.monitor)
    b.waker = waker
    b.waker_context = context
    monitor_unlock(&b.monitor)


cdef int _take_permit(budget_t *b, int stage, int64_t bytes, int64_t deadline_ns) noexcept nogil:
    """As budget_take, for memory that the pool does not count; also waits for a free place among the permits."""
    cdef int fault = BUDGET_OK
    cdef int64_t since
    if bytes > b.ceiling[stage]:
        return BUDGET_TOO_LARGE
    monitor_lock(&b.monitor)
    since = monotonic_ns()
    if b.closed:
        fault = BUDGET_CLOSED
    elif b.running[stage] >= b.max_permits or not _fits(b, stage, bytes):
        _begin_wait(b)
        while b.running[stage] >= b.max_permits or not _fits(b, stage, bytes):
            fault = _wait_once(b, since, deadline_ns)
            if fault != BUDGET_OK:
                break
        _end_wait(b, since)
    if fault == BUDGET_OK:
        _make_room(b, bytes)
        b.permitted[stage] += bytes
        b.running[stage] += 1
        _used(b)
    monitor_unlock(&b.monitor)
    return fault


cdef class Budget:
    """Memory of one process; see budget.pyi for the methods' contract."""

    def __cinit__(self, BufferPool pool not None, limit_bytes: int, high: float = 0.7, low: float = 0.5,
                  sink_bytes: int | None = None, permits: int = 2):
        cdef budget_t *b
        cdef int64_t limit = limit_bytes
        cdef int64_t sink = limit // 8 if sink_bytes is None else sink_bytes
        if limit < 1 << 20:
            raise ValueError(f"limit_bytes is {limit_bytes}: a budget needs at least 1 MiB")
        if not 0 < low <= high <= 1:
            raise ValueError(f"watermarks must be 0 < low <= high <= 1, got low={low}, high={high}")
        if not 0 <= sink <= limit // 2 or permits < 1:
            raise ValueError(f"sink_bytes must be within half of the limit and permits at least 1, "
                             f"got {sink} of {limit} and {permits}")
        b = <budget_t *> calloc(1, sizeof(budget_t))
        if b == NULL or monitor_init(&b.monitor) != 0:
            raise MemoryError("no memory for a budget")
        b.pool = pool.pool
        b.limit_bytes = limit
        b.high_bytes = <int64_t> (limit * <double> high)
        b.low_bytes = <int64_t> (limit * <double> low)
        b.ceiling[STAGE_SINK] = limit
        b.ceiling[STAGE_INBOX] = limit - sink
        b.ceiling[STAGE_SOURCE] = limit - sink - limit // 8
        b.credit_cap = limit // 4
        b.max_permits = permits
        b.grace_ns = 5 * <int64_t> 1000000000
        self.state = b
        self.pool = pool
        buffer_pool_on_freed(pool.pool, _freed, b)

    def permit(self, bytes: int, deadline_s: float, str what not None, bint sink=False) -> Permit:
        cdef int64_t size = bytes
        cdef int64_t deadline = deadline_in(deadline_s)
        cdef int stage = STAGE_SINK if sink else STAGE_SOURCE
        cdef int fault
        if size < 0:
            raise InternalError(f"a permit of {size} bytes for {what}")
        with nogil:
            fault = _take_permit(self.state, stage, size, deadline)
        if fault == BUDGET_TOO_LARGE:
            raise AdmissionError(
                f"{what} needs {format_bytes(size)} of memory at once, and at most "
                f"{format_bytes(self.state.ceiling[stage])} of the limit of {format_bytes(self.state.limit_bytes)} can "
                f"be given to it: raise the memory limit, or make its row groups smaller"
            )
        if fault != BUDGET_OK:
            self.fail(fault, size, deadline_s, what)
        cdef Permit permit = Permit.__new__(Permit)
        permit.state = self.state
        permit.bytes = size
        permit.stage = stage
        permit.held = True
        return permit

    cdef fail(self, int fault, int64_t bytes, double seconds, str what):
        if fault == BUDGET_CLOSED:
            raise Cancelled(f"{what} waited for memory, and the store was closed")
        if fault == BUDGET_NO_MEMORY:
            raise MemoryError(f"the system has no {format_bytes(bytes)} for {what}, though the limit allows it")
        if fault == BUDGET_STUCK:
            raise DiskFull(f"{what} waits for {format_bytes(bytes)}, every spill directory is full and nothing frees "
                           f"memory ({self.figures()})")
        if fault == BUDGET_TOO_LARGE:
            raise AdmissionError(f"{what} needs {format_bytes(bytes)} at once, more than the memory limit of "
                                 f"{format_bytes(self.state.limit_bytes)} leaves to it: raise the memory limit")
        raise DeadlineExceeded(f"{what} waited {seconds:.1f} s for {format_bytes(bytes)} of memory ({self.figures()})")

    def figures(self) -> str:
        """What holds the memory, for messages."""
        cdef budget_t *b = self.state
        cdef int64_t used, spillable, reserved, permitted
        with nogil:
            monitor_lock(&b.monitor)
            used = _used(b)
            spillable = b.spillable
            reserved = b.reserved
            permitted = b.permitted[STAGE_SOURCE] + b.permitted[STAGE_SINK]
            monitor_unlock(&b.monitor)
        return (f"{format_bytes(used)} of {format_bytes(b.limit_bytes)} in use: "
                f"{format_bytes(spillable)} in the inbox, "
                f"{format_bytes(reserved)} promised to senders, {format_bytes(permitted)} by codecs, "
                f"{format_bytes(used - spillable - reserved - permitted)} elsewhere")

    def snapshot(self) -> dict[str, int]:
        """Every counter, read at one moment."""
        cdef budget_t *b = self.state
        cdef budget_t copy
        cdef int64_t used
        with nogil:
            monitor_lock(&b.monitor)
            used = _used(b)
            copy = b[0]
            monitor_unlock(&b.monitor)
        return {
            "used_bytes": used, "limit_bytes": copy.limit_bytes, "peak_bytes": copy.peak,
            "reserved_bytes": copy.reserved, "spillable_bytes": copy.spillable, "index_bytes": copy.other,
            "permit_bytes": copy.permitted[STAGE_SOURCE] + copy.permitted[STAGE_SINK],
            "waiting": copy.waiting, "stalls": copy.stalls, "stall_ns": copy.stall_ns,
        }

    limit_bytes = property(lambda Budget self: self.state.limit_bytes)
    high_bytes = property(lambda Budget self: self.state.high_bytes)
    low_bytes = property(lambda Budget self: self.state.low_bytes)
    used_bytes = property(lambda Budget self: self.snapshot()["used_bytes"])
    peak_bytes = property(lambda Budget self: self.snapshot()["peak_bytes"])
    reserved_bytes = property(lambda Budget self: self.snapshot()["reserved_bytes"])
    permit_bytes = property(lambda Budget self: self.snapshot()["permit_bytes"])
    stalls = property(lambda Budget self: self.snapshot()["stalls"])
    stall_ns = property(lambda Budget self: self.snapshot()["stall_ns"])


cdef class Permit:
    """Bytes that somebody else's allocator holds; released at the end of the with statement, or when dropped."""

    def __dealloc__(self):
        if self.held:
            self._give_back()

    cdef void _give_back(self) noexcept:
        cdef budget_t *b = self.state
        self.held = False
        with nogil:
            monitor_lock(&b.monitor)
            b.permitted[self.stage] -= self.bytes
            b.running[self.stage] -= 1
            monitor_notify(&b.monitor)
            monitor_unlock(&b.monitor)
            _freed(b)

    def correct(self, actual: int) -> None:
        """The allocation turned out to be `actual` bytes. Never waits: an excess closes admission instead."""
        cdef budget_t *b = self.state
        cdef int64_t size = actual
        if size < 0 or not self.held:
            raise InternalError(f"a permit corrected to {size} bytes, held: {bool(self.held)}")
        with nogil:
            monitor_lock(&b.monitor)
            b.permitted[self.stage] += size - self.bytes
            self.bytes = size
            _make_room(b, 0)
            _used(b)
            monitor_unlock(&b.monitor)
            _freed(b)

    def release(self) -> None:
        """Give the bytes back. Idempotent."""
        if self.held:
            self._give_back()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.release()
