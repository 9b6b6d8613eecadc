"""Contents of budget.pyx: who may hold how much memory. Needs no GIL; the lock of a budget is taken last."""
from libc.stdint cimport int64_t

from shuffle_worker._native.buffer cimport BufferPool, buffer_pool_t, buffer_t
from shuffle_worker._native.monitor cimport monitor_t


# Who asks, in the order in which data moves. A stage may fill memory up to its ceiling, and the later its place the
# higher that is, so that what comes after can always go on and empty what comes before.
cdef enum:
    STAGE_SOURCE = 0    # decoding, staging, encoding of frames
    STAGE_INBOX = 1     # frames received, or put by mappers of this process
    STAGE_SINK = 2      # frames read back from disk, the sink's codecs
    STAGES = 3

cdef enum:
    BUDGET_OK = 0
    BUDGET_DEADLINE = 1     # it did not fit in time
    BUDGET_TOO_LARGE = 2    # it can never fit
    BUDGET_STUCK = 3        # every spill directory is full and nothing was freed for the grace time
    BUDGET_CLOSED = 4
    BUDGET_NO_MEMORY = 5    # the system refused

ctypedef struct budget_t:
    monitor_t monitor
    buffer_pool_t *pool
    int64_t limit_bytes
    int64_t high_bytes          # spill starts above
    int64_t low_bytes           # and stops below
    int64_t ceiling[3]          # of each stage
    int64_t credit_cap          # the most credit, at its cost, that may be out at once
    int64_t reserved            # cost of credit granted and not yet used
    int64_t pending             # admitted; the buffer is not made yet
    int64_t other               # indexes, and files on disks that are memory
    int64_t permitted[3]        # by stage
    int running[3]              # permits out, by stage
    int max_permits             # of one stage
    int64_t spillable           # bytes in buffers that the spill thread could free
    int64_t peak
    int64_t stalls
    int64_t stall_ns
    int64_t freed_ns            # when memory was last given back (atomic)
    int64_t grace_ns
    int waiting                 # callers that are blocked (atomic)
    int denied                  # credit was refused since the last wake (atomic)
    int stuck                   # no spill directory takes anything
    int closed
    void (*waker)(void *context) noexcept nogil     # see Receiver.attach
    void *waker_context


# Bytes that count against the limit. The lock is not held.
cdef int64_t budget_used(budget_t *b) noexcept nogil
# Admit `bytes` for a buffer about to be made; waits until `deadline_ns` (0: not at all). Follow with budget_made.
cdef int budget_take(budget_t *b, int stage, int64_t bytes, int64_t deadline_ns) noexcept nogil
# The buffer exists now (and the pool counts it), or it will not.
cdef void budget_made(budget_t *b, int64_t bytes) noexcept nogil
# A buffer for `size` bytes, admitted and made; NULL with *fault set.
cdef buffer_t *budget_buffer(budget_t *b, int stage, int64_t size, int64_t deadline_ns, int *fault) noexcept nogil
# Wait until memory is below the inbox's ceiling, or nothing could be spilled anyway.
cdef int budget_settle(budget_t *b, int64_t deadline_ns) noexcept nogil
# Credit for up to `wanted` bytes of payload; what was granted, or GRANT_TOO_LARGE. See receiver.pxd.
cdef int64_t budget_grant(budget_t *b, int64_t wanted, bint alone) noexcept nogil
cdef void budget_ungrant(budget_t *b, int64_t bytes) noexcept nogil
# Turn credit into a buffer for the frame that came under it. NULL: there is none, and the credit stays.
cdef buffer_t *budget_redeem(budget_t *b, int64_t length) noexcept nogil
# Call the waker.
cdef void budget_wake(budget_t *b) noexcept nogil
# Add to what is not in buffers: indexes, files on tmpfs.
cdef void budget_charge(budget_t *b, int64_t bytes) noexcept nogil
# Tell of frames that could be spilled now (or, with fewer bytes, that are gone).
cdef void budget_spillable(budget_t *b, int64_t bytes) noexcept nogil
# For the spill thread: wait until it is needed. 1: spill; 0: the deadline passed or the budget is closed.
cdef bint budget_wait_spill(budget_t *b, bint spilling, int64_t deadline_ns) noexcept nogil
cdef void budget_set_stuck(budget_t *b, bint stuck) noexcept nogil
# Wake everybody who waits, for good.
cdef void budget_close(budget_t *b) noexcept nogil
cdef void budget_set_waker(budget_t *b, void (*waker)(void *context) noexcept nogil, void *context) noexcept nogil


cdef class Budget:
    cdef budget_t *state            # never freed: the pool calls it whenever a buffer is given back
    cdef readonly BufferPool pool

    # Raise what `fault` says. `what` is what was waited for.
    cdef fail(self, int fault, int64_t bytes, double seconds, str what)


cdef class Permit:
    cdef budget_t *state            # never freed
    cdef readonly int64_t bytes
    cdef int stage
    cdef bint held

    cdef void _give_back(self) noexcept
