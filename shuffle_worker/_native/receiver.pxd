"""What a transport hands frames to: the seam between sockets and the inbox. One abstract class, no data of its own.

All methods but `attach` are called on the transport's I/O thread, without the GIL, and must neither block nor raise.

Credit. A frame costs `frame_credit(length)` bytes of credit of its connection and shuffle. `grant` reserves, `obtain`
spends, `ungrant` gives back; the receiver may hold at most what it granted and was not given back. Credit is granted
to senders in the order in which they asked: while `grant` answers 0 to one, nobody behind it is asked about.
"""
from libc.stdint cimport int64_t, uint8_t

from shuffle_worker._native.buffer cimport buffer_t
from shuffle_worker._native.frame cimport frame_header_t

cdef enum:
    VERDICT_TAKEN = 0
    VERDICT_DUPLICATE = 1
    VERDICT_FENCED = 2          # an older epoch, generation or incarnation, or a shuffle that was closed
    VERDICT_GAP = 3             # a number was skipped: the attempt is void
    VERDICT_UNKNOWN = 4         # the shuffle was never opened here
    VERDICT_NO_MEMORY = 5       # the system gave no buffer for a frame that had been granted
    VERDICT_TOO_LARGE = 6       # the frame can never fit here
    VERDICTS = 7

cdef enum:
    GRANT_LATER = -1            # the shuffle is not open here yet: ask again, and serve others meanwhile
    GRANT_FENCED = -2           # the shuffle was closed: never
    GRANT_TOO_LARGE = -3        # so much will never be granted

cdef enum:
    # A pooled buffer has at least one page, so a frame costs at least that.
    FRAME_CREDIT_MIN = 4096


cdef inline int64_t frame_credit(int64_t length) noexcept nogil:
    return length if length > FRAME_CREDIT_MIN else FRAME_CREDIT_MIN


ctypedef void (*waker_t)(void *context) noexcept nogil


cdef class Receiver:
    # Whom to tell, from any thread, when a `grant` that was refused may succeed now (memory was freed, a shuffle was
    # opened). `wake` only writes an eventfd: it may be called with locks held. NULL: nobody any more, and when
    # `attach(NULL, NULL)` has returned the old one is never called again. Without it, grants are retried by a timer.
    cdef void attach(self, waker_t wake, void *context) noexcept nogil
    # Bytes of payload granted now, at most `wanted` (> 0), and reserved until spent or given back. 0: not now, memory
    # is short. With `alone` all or nothing: one frame larger than a window. Or a GRANT_ code above.
    cdef int64_t grant(self, const uint8_t *shuffle, int64_t wanted, bint alone) noexcept nogil
    # Credit came back unspent: its connection died, or the sender gave it up.
    cdef void ungrant(self, const uint8_t *shuffle, int64_t bytes) noexcept nogil
    # A buffer of header.length bytes (> 0), with one reference, for a frame that was granted; spends its frame_credit.
    # NULL: there is none. Then nothing was spent (the transport calls ungrant), and the stream is told
    # VERDICT_NO_MEMORY. The bytes are not there yet: the connection may still die, and the buffer is then released.
    cdef buffer_t *obtain(self, const frame_header_t *header) noexcept nogil
    # The frame, whole and with its checksum verified. Takes over the reference to `payload` (NULL when the length is
    # 0) whatever it answers: a VERDICT_. `header` is only valid during the call.
    cdef int deliver(self, const frame_header_t *header, buffer_t *payload) noexcept nogil
