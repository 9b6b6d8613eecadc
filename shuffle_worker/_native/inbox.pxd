"""Contents of inbox.pyx: which frames an owner takes, counts, queues and frees. No lock, no clock, no I/O inside.

Everything here is called under the store's lock and needs no GIL. Maps keep their nodes in place, so pointers to
shuffles, groups and streams hold until these are erased.
"""
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libcpp.deque cimport deque
from libcpp.map cimport map as cpp_map
from libcpp.pair cimport pair
from libcpp.set cimport set as cpp_set
from libcpp.unordered_map cimport unordered_map
from libcpp.vector cimport vector

from shuffle_worker._native.buffer cimport buffer_t
from shuffle_worker._native.frame cimport frame_header_t
from shuffle_worker._native.segment cimport segment_t


ctypedef segment_t *segment_t_ptr
ctypedef pair[uint64_t, uint64_t] uid_key_t                 # the 16 bytes of a shuffle's UID
ctypedef pair[uint32_t, uint64_t] stream_key_t              # map, then epoch << 32 | attempt
ctypedef pair[int64_t, uint32_t] rank_t                     # bytes, group

cdef enum:
    STREAM_OPEN = 0
    STREAM_BROKEN = 1       # a number was skipped: it can never win, and what it sent is freed
    STREAM_WON = 2

cdef enum:
    INBOX_OK = 0
    INBOX_NO_SHUFFLE = 1
    INBOX_CLOSED = 2        # the shuffle was closed
    INBOX_OLD_EPOCH = 3
    INBOX_NO_GROUP = 4
    INBOX_OLD_GENERATION = 5
    INBOX_NO_STREAM = 6
    INBOX_DISCARDED = 7
    INBOX_BROKEN = 8
    INBOX_INCOMPLETE = 9    # fewer frames than were expected
    INBOX_WON = 10
    INBOX_SEALED = 11       # the stream holds frames of a sealed group

cdef enum:
    NOTICE_COMPLETE = 0
    NOTICE_BROKEN = 1
    NOTICE_DISK_FULL = 2


# One frame held. Its memory is malloc's; about 170 bytes, charged as index.
ctypedef struct entry_t:
    frame_header_t header
    buffer_t *payload       # one reference; NULL: no payload, or only on disk
    segment_t *segment      # NULL: not on disk
    int64_t offset          # of the header in the segment
    entry_t *next           # in its stream, until that wins
    entry_t *older          # among the group's frames that may be spilled
    entry_t *newer
    int32_t pins            # the spill thread or a reader uses it without the lock
    bint listed             # among the frames that may be spilled
    bint dead               # to be freed with the last pin

ctypedef struct group_t:
    uint32_t number
    uint32_t generation
    bint sealed
    bint leased             # handed out by take_ready and not released
    bint taking             # a take works on it without the lock
    bint finished           # handed out with last=True
    bint ranked             # in its shuffle's `ready`, as (ready_bytes, number)
    vector[entry_t *] queue         # of winners, in order; those before `head` were taken
    size_t head
    int64_t taken           # frames taken so far
    int64_t ready_rows
    int64_t ready_bytes
    entry_t *oldest         # of the frames that may be spilled
    entry_t *newest
    int64_t spillable       # their capacity

ctypedef struct stream_t:
    int32_t state
    bint expecting
    bint noticed
    uint64_t expected
    uint64_t frames
    uint64_t rows
    uint64_t bytes
    uint64_t crc_sum
    uint64_t value_sum
    entry_t *head           # frames that have not won, by number
    entry_t *tail

ctypedef struct shuffle_t:
    uint8_t uid[16]
    uint32_t epoch
    int64_t ready_rows
    int64_t groups_seen     # ever placed
    int64_t unfinished      # groups not yet handed out with last=True
    unordered_map[uint32_t, group_t] groups
    cpp_map[stream_key_t, stream_t] streams
    cpp_set[stream_key_t] holding               # streams with frames that have not won
    cpp_set[stream_key_t] discarded
    deque[stream_key_t] discarded_order         # the oldest is forgotten first
    cpp_set[rank_t] ready                       # groups for the sink, by ready bytes
    cpp_set[rank_t] spillable                   # groups by bytes in memory

ctypedef struct notice_t:
    uint8_t uid[16]
    int kind
    uint32_t map
    uint32_t epoch
    uint32_t attempt

# A dead frame's place in a segment, to be released where I/O may be done.
ctypedef pair[segment_t_ptr, uint64_t] orphan_t

cdef cppclass inbox_t:
    cpp_map[uid_key_t, shuffle_t] shuffles
    cpp_set[uid_key_t] closed
    deque[uid_key_t] closed_order
    deque[notice_t] notices
    vector[orphan_t] orphans
    size_t tombstones
    int64_t resident_bytes      # capacity of all payloads in memory
    int64_t index_bytes         # of entries and streams
    int64_t frames              # held, in memory or on disk
    int64_t spilled_bytes       # held on disk only: payloads
    int64_t refused[7]          # frames by verdict


cdef inbox_t *inbox_new(size_t tombstones) noexcept nogil
cdef shuffle_t *inbox_find(inbox_t *inbox, const uint8_t *uid) noexcept nogil
cdef group_t *inbox_group(shuffle_t *shuffle, uint32_t number) noexcept nogil
cdef stream_t *inbox_stream(shuffle_t *shuffle, uint32_t map, uint32_t epoch, uint32_t attempt) noexcept nogil
# Why a shuffle that inbox_find does not know is not there.
cdef int inbox_absent(inbox_t *inbox, const uint8_t *uid) noexcept nogil

cdef int inbox_open(inbox_t *inbox, const uint8_t *uid, uint32_t epoch, int64_t ready_rows) noexcept nogil
cdef void inbox_close(inbox_t *inbox, const uint8_t *uid) noexcept nogil
cdef int inbox_place(inbox_t *inbox, shuffle_t *shuffle, uint32_t number, uint32_t generation) noexcept nogil
cdef void inbox_drop_group(inbox_t *inbox, shuffle_t *shuffle, uint32_t number) noexcept nogil
cdef int inbox_fence(shuffle_t *shuffle, uint32_t epoch) noexcept nogil
cdef void inbox_seal(shuffle_t *shuffle, group_t *group) noexcept nogil

# A verdict (receiver.pxd). The payload's reference is taken over in any case.
cdef int inbox_deliver(inbox_t *inbox, const frame_header_t *header, buffer_t *payload) noexcept nogil
cdef int inbox_expect(inbox_t *inbox, shuffle_t *shuffle, uint32_t map, uint32_t epoch, uint32_t attempt,
                      uint64_t frames) noexcept nogil
cdef int inbox_win(inbox_t *inbox, shuffle_t *shuffle, uint32_t map, uint32_t epoch, uint32_t attempt) noexcept nogil
cdef int inbox_discard(inbox_t *inbox, shuffle_t *shuffle, uint32_t map, uint32_t epoch,
                       uint32_t attempt) noexcept nogil

# Pin ready frames from `position` (0: the first not taken) on: at least one, up to about max_bytes of payload.
cdef void inbox_select(group_t *group, size_t position, int64_t max_bytes, vector[entry_t *] *chosen) noexcept nogil
# The first `count` ready frames are gone. They are pinned by the caller.
cdef void inbox_taken(inbox_t *inbox, shuffle_t *shuffle, group_t *group, size_t count) noexcept nogil
# A take works on the group without the lock: no other may; and has ended.
cdef void inbox_begin_take(shuffle_t *shuffle, group_t *group) noexcept nogil
cdef void inbox_end_take(shuffle_t *shuffle, group_t *group) noexcept nogil
# The ready group with the most bytes, now leased; NULL when none is ready.
cdef group_t *inbox_lease(shuffle_t *shuffle) noexcept nogil
cdef void inbox_release(shuffle_t *shuffle, group_t *group) noexcept nogil
cdef void inbox_finish(shuffle_t *shuffle, group_t *group) noexcept nogil

# Pin frames of the shuffle with most in memory, from its largest groups; the shuffle, or NULL when there is nothing.
cdef shuffle_t *inbox_pick_spill(inbox_t *inbox, int64_t max_bytes, size_t max_frames,
                                 vector[entry_t *] *chosen) noexcept nogil
# A picked frame was written to the segment; or (segment NULL) was not, and may be picked again. Unpins it.
cdef void inbox_spilled(inbox_t *inbox, entry_t *entry, segment_t *segment, int64_t offset) noexcept nogil
cdef void inbox_unpin(inbox_t *inbox, entry_t *entry) noexcept nogil
