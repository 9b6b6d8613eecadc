# distutils: language = c++
"""Which frames an owner takes, counts, queues and frees: fence, order, count, win. See inbox.pxd for the contents.

Pure rules over memory: no lock, no clock, no socket, no file. The store calls them under its lock.
"""
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset
from cython.operator cimport dereference as deref, predecrement as dec, preincrement as inc

from shuffle_worker._native.buffer cimport buffer_t, buffer_unref
from shuffle_worker._native.frame cimport frame_header_t
from shuffle_worker._native.receiver cimport (
    VERDICT_DUPLICATE, VERDICT_FENCED, VERDICT_GAP, VERDICT_NO_MEMORY, VERDICT_TAKEN, VERDICT_UNKNOWN,
)
from shuffle_worker._native.segment cimport segment_t


# What a stream costs in its map: the node and its key.
cdef enum:
    STREAM_BYTES = sizeof(stream_t) + 64


cdef inline uid_key_t _uid_key(const uint8_t *uid) noexcept nogil:
    cdef uid_key_t key
    memcpy(&key.first, uid, 8)
    memcpy(&key.second, uid + 8, 8)
    return key


cdef inline stream_key_t _stream_key(uint32_t map, uint32_t epoch, uint32_t attempt) noexcept nogil:
    return stream_key_t(map, (<uint64_t> epoch << 32) | attempt)


cdef inline rank_t _rank(int64_t bytes, uint32_t number) noexcept nogil:
    return rank_t(bytes, number)


cdef inbox_t *inbox_new(size_t tombstones) noexcept nogil:
    cdef inbox_t *inbox = new inbox_t()
    inbox.tombstones = tombstones
    inbox.resident_bytes = 0
    inbox.index_bytes = 0
    inbox.frames = 0
    inbox.spilled_bytes = 0
    memset(inbox.refused, 0, sizeof(inbox.refused))
    return inbox


# ---- look-up

cdef shuffle_t *inbox_find(inbox_t *inbox, const uint8_t *uid) noexcept nogil:
    cdef cpp_map[uid_key_t, shuffle_t].iterator found = inbox.shuffles.find(_uid_key(uid))
    if found == inbox.shuffles.end():
        return NULL
    return &deref(found).second


cdef int inbox_absent(inbox_t *inbox, const uint8_t *uid) noexcept nogil:
    return INBOX_CLOSED if inbox.closed.count(_uid_key(uid)) else INBOX_NO_SHUFFLE


cdef group_t *inbox_group(shuffle_t *shuffle, uint32_t number) noexcept nogil:
    cdef unordered_map[uint32_t, group_t].iterator found = shuffle.groups.find(number)
    if found == shuffle.groups.end():
        return NULL
    return &deref(found).second


cdef stream_t *inbox_stream(shuffle_t *shuffle, uint32_t map, uint32_t epoch, uint32_t attempt) noexcept nogil:
    cdef cpp_map[stream_key_t, stream_t].iterator found = shuffle.streams.find(_stream_key(map, epoch, attempt))
    if found == shuffle.streams.end():
        return NULL
    return &deref(found).second


# ---- ranks: the sets that say which group is next for the sink and for the spill thread

cdef void _unrank_ready(shuffle_t *shuffle, group_t *group) noexcept nogil:
    """Before a group's ready bytes, seal or lease change."""
    if group.ranked:
        shuffle.ready.erase(_rank(group.ready_bytes, group.number))
        group.ranked = False


cdef void _rank_ready(shuffle_t *shuffle, group_t *group) noexcept nogil:
    """After they changed."""
    cdef bint some = group.queue.size() > group.head
    if group.leased or group.finished or group.taking:
        return
    if group.sealed or (some and group.ready_rows >= shuffle.ready_rows):
        shuffle.ready.insert(_rank(group.ready_bytes, group.number))
        group.ranked = True


cdef void _list_spillable(shuffle_t *shuffle, group_t *group, entry_t *entry) noexcept nogil:
    if group.spillable > 0:
        shuffle.spillable.erase(_rank(group.spillable, group.number))
    entry.older = group.newest
    entry.newer = NULL
    if group.newest != NULL:
        group.newest.newer = entry
    else:
        group.oldest = entry
    group.newest = entry
    entry.listed = True
    group.spillable += entry.payload.capacity
    shuffle.spillable.insert(_rank(group.spillable, group.number))


cdef void _unlist_spillable(shuffle_t *shuffle, group_t *group, entry_t *entry) noexcept nogil:
    shuffle.spillable.erase(_rank(group.spillable, group.number))
    if entry.older != NULL:
        entry.older.newer = entry.newer
    else:
        group.oldest = entry.newer
    if entry.newer != NULL:
        entry.newer.older = entry.older
    else:
        group.newest = entry.older
    entry.older = NULL
    entry.newer = NULL
    entry.listed = False
    group.spillable -= entry.payload.capacity
    if group.spillable > 0:
        shuffle.spillable.insert(_rank(group.spillable, group.number))


# ---- the life of an entry

cdef void _destroy(inbox_t *inbox, entry_t *entry) noexcept nogil:
    if entry.segment != NULL:
        inbox.orphans.push_back(orphan_t(entry.segment, <uint64_t> entry.header.length))
    buffer_unref(entry.payload)
    inbox.index_bytes -= sizeof(entry_t)
    free(entry)


cdef void _kill(inbox_t *inbox, shuffle_t *shuffle, group_t *group, entry_t *entry) noexcept nogil:
    """The entry is in no stream and no queue any more. `group` may be NULL when it is not listed."""
    if entry.listed:
        _unlist_spillable(shuffle, group, entry)
    if entry.payload != NULL:
        inbox.resident_bytes -= entry.payload.capacity
    elif entry.segment != NULL:
        inbox.spilled_bytes -= entry.header.length
    inbox.frames -= 1
    if entry.pins > 0:
        entry.dead = True
    else:
        _destroy(inbox, entry)


cdef void inbox_unpin(inbox_t *inbox, entry_t *entry) noexcept nogil:
    entry.pins -= 1
    if entry.pins == 0 and entry.dead:
        _destroy(inbox, entry)


cdef void _free_stream_frames(inbox_t *inbox, shuffle_t *shuffle, stream_t *stream) noexcept nogil:
    cdef entry_t *entry = stream.head
    cdef entry_t *after
    while entry != NULL:
        after = entry.next
        _kill(inbox, shuffle, inbox_group(shuffle, entry.header.group), entry)
        entry = after
    stream.head = NULL
    stream.tail = NULL


# ---- shuffles and what fences

cdef int inbox_open(inbox_t *inbox, const uint8_t *uid, uint32_t epoch, int64_t ready_rows) noexcept nogil:
    cdef shuffle_t *shuffle = inbox_find(inbox, uid)
    if shuffle != NULL:
        return inbox_fence(shuffle, epoch)
    if inbox.closed.count(_uid_key(uid)):
        return INBOX_CLOSED
    shuffle = &inbox.shuffles[_uid_key(uid)]
    memcpy(shuffle.uid, uid, 16)
    shuffle.epoch = epoch
    shuffle.ready_rows = ready_rows
    shuffle.groups_seen = 0
    shuffle.unfinished = 0
    return INBOX_OK


cdef void inbox_close(inbox_t *inbox, const uint8_t *uid) noexcept nogil:
    cdef uid_key_t key = _uid_key(uid)
    cdef shuffle_t *shuffle = inbox_find(inbox, uid)
    cdef cpp_set[stream_key_t].iterator held
    cdef unordered_map[uint32_t, group_t].iterator placed
    if inbox.closed.insert(key).second:
        inbox.closed_order.push_back(key)
        if inbox.closed_order.size() > inbox.tombstones:
            inbox.closed.erase(inbox.closed_order.front())
            inbox.closed_order.pop_front()
    if shuffle == NULL:
        return
    held = shuffle.holding.begin()
    while held != shuffle.holding.end():
        _free_stream_frames(inbox, shuffle, &shuffle.streams[deref(held)])
        inc(held)
    placed = shuffle.groups.begin()
    while placed != shuffle.groups.end():
        _free_queue(inbox, shuffle, &deref(placed).second)
        inc(placed)
    inbox.index_bytes -= STREAM_BYTES * <int64_t> shuffle.streams.size()
    inbox.shuffles.erase(key)


cdef int inbox_fence(shuffle_t *shuffle, uint32_t epoch) noexcept nogil:
    if epoch < shuffle.epoch:
        return INBOX_OLD_EPOCH
    shuffle.epoch = epoch
    return INBOX_OK


cdef void _free_queue(inbox_t *inbox, shuffle_t *shuffle, group_t *group) noexcept nogil:
    cdef size_t i
    for i in range(group.head, group.queue.size()):
        _kill(inbox, shuffle, group, group.queue[i])
    group.queue.clear()
    group.head = 0


cdef void _free_group_frames(inbox_t *inbox, shuffle_t *shuffle, group_t *group) noexcept nogil:
    """All frames of the group, those that have not won too."""
    cdef cpp_set[stream_key_t].iterator held = shuffle.holding.begin()
    cdef stream_t *stream
    cdef entry_t *entry
    cdef entry_t *after
    cdef entry_t *kept
    while held != shuffle.holding.end():
        stream = &shuffle.streams[deref(held)]
        entry = stream.head
        stream.head = NULL
        kept = NULL
        while entry != NULL:
            after = entry.next
            entry.next = NULL
            if entry.header.group == group.number:
                _kill(inbox, shuffle, group, entry)
            else:
                if kept == NULL:
                    stream.head = entry
                else:
                    kept.next = entry
                kept = entry
            entry = after
        stream.tail = kept
        inc(held)
    _unrank_ready(shuffle, group)
    _free_queue(inbox, shuffle, group)


cdef int inbox_place(inbox_t *inbox, shuffle_t *shuffle, uint32_t number, uint32_t generation) noexcept nogil:
    cdef group_t *group = inbox_group(shuffle, number)
    if group != NULL:
        if generation < group.generation:
            return INBOX_OLD_GENERATION
        if generation == group.generation:
            return INBOX_OK
        inbox_drop_group(inbox, shuffle, number)
    group = &shuffle.groups[number]
    group.number = number
    group.generation = generation
    group.sealed = False
    group.leased = False
    group.taking = False
    group.finished = False
    group.ranked = False
    group.head = 0
    group.taken = 0
    group.ready_rows = 0
    group.ready_bytes = 0
    group.oldest = NULL
    group.newest = NULL
    group.spillable = 0
    shuffle.groups_seen += 1
    shuffle.unfinished += 1
    return INBOX_OK


cdef void inbox_drop_group(inbox_t *inbox, shuffle_t *shuffle, uint32_t number) noexcept nogil:
    cdef group_t *group = inbox_group(shuffle, number)
    if group == NULL:
        return
    _free_group_frames(inbox, shuffle, group)
    if not group.finished:
        shuffle.unfinished -= 1
    shuffle.groups.erase(number)


cdef void inbox_seal(shuffle_t *shuffle, group_t *group) noexcept nogil:
    if not group.sealed:
        _unrank_ready(shuffle, group)
        group.sealed = True
        _rank_ready(shuffle, group)


# ---- streams

cdef void _notify(inbox_t *inbox, shuffle_t *shuffle, const stream_key_t &key, int kind) noexcept nogil:
    cdef notice_t notice
    memset(&notice, 0, sizeof(notice))
    memcpy(notice.uid, shuffle.uid, 16)
    notice.kind = kind
    notice.map = key.first
    notice.epoch = <uint32_t> (key.second >> 32)
    notice.attempt = <uint32_t> key.second
    inbox.notices.push_back(notice)


cdef stream_t *_new_stream(inbox_t *inbox, shuffle_t *shuffle, const stream_key_t &key) noexcept nogil:
    cdef stream_t *stream = &shuffle.streams[key]
    memset(stream, 0, sizeof(stream_t))
    inbox.index_bytes += STREAM_BYTES
    return stream


cdef void _notice_if_complete(inbox_t *inbox, shuffle_t *shuffle, const stream_key_t &key,
                              stream_t *stream) noexcept nogil:
    if stream.expecting and not stream.noticed and stream.frames >= stream.expected:
        stream.noticed = True
        _notify(inbox, shuffle, key, NOTICE_COMPLETE)


cdef void _break_stream(inbox_t *inbox, shuffle_t *shuffle, const stream_key_t &key, stream_t *stream) noexcept nogil:
    _free_stream_frames(inbox, shuffle, stream)
    shuffle.holding.erase(key)
    stream.state = STREAM_BROKEN
    _notify(inbox, shuffle, key, NOTICE_BROKEN)


cdef int _judge(inbox_t *inbox, shuffle_t *shuffle, const frame_header_t *header) noexcept nogil:
    """The verdict on a frame, before anything of it is kept; a gap breaks the stream."""
    cdef group_t *group
    cdef stream_t *stream
    cdef stream_key_t key = _stream_key(header.map, header.epoch, header.attempt)
    if header.epoch < shuffle.epoch or shuffle.discarded.count(key):
        return VERDICT_FENCED
    stream = inbox_stream(shuffle, header.map, header.epoch, header.attempt)
    if stream != NULL and stream.state == STREAM_BROKEN:
        return VERDICT_GAP
    if stream != NULL and header.number < stream.frames:
        return VERDICT_DUPLICATE
    if stream != NULL and stream.state == STREAM_WON:
        return VERDICT_FENCED
    group = inbox_group(shuffle, header.group)
    if group == NULL or group.generation != header.generation or group.sealed:
        return VERDICT_FENCED
    if header.number == (0 if stream == NULL else stream.frames):
        return VERDICT_TAKEN
    if stream == NULL:
        stream = _new_stream(inbox, shuffle, key)
    _break_stream(inbox, shuffle, key, stream)
    return VERDICT_GAP


cdef int inbox_deliver(inbox_t *inbox, const frame_header_t *header, buffer_t *payload) noexcept nogil:
    cdef shuffle_t *shuffle = inbox_find(inbox, header.shuffle)
    cdef stream_key_t key = _stream_key(header.map, header.epoch, header.attempt)
    cdef int verdict
    cdef stream_t *stream
    cdef entry_t *entry = NULL
    if shuffle != NULL:
        verdict = _judge(inbox, shuffle, header)
    else:
        verdict = VERDICT_UNKNOWN if inbox_absent(inbox, header.shuffle) == INBOX_NO_SHUFFLE else VERDICT_FENCED
    if verdict == VERDICT_TAKEN:
        entry = <entry_t *> calloc(1, sizeof(entry_t))
        if entry == NULL:
            verdict = VERDICT_NO_MEMORY
    if verdict != VERDICT_TAKEN:
        inbox.refused[verdict] += 1
        buffer_unref(payload)
        return verdict
    entry.header = header[0]
    entry.payload = payload
    stream = inbox_stream(shuffle, header.map, header.epoch, header.attempt)
    if stream == NULL:
        stream = _new_stream(inbox, shuffle, key)
    if stream.head == NULL:
        stream.head = entry
        shuffle.holding.insert(key)
    else:
        stream.tail.next = entry
    stream.tail = entry
    stream.frames += 1
    stream.rows += header.rows
    stream.bytes += header.length
    stream.crc_sum += header.payload_crc
    stream.value_sum += header.value
    inbox.index_bytes += sizeof(entry_t)
    inbox.frames += 1
    if payload != NULL:
        inbox.resident_bytes += payload.capacity
        _list_spillable(shuffle, inbox_group(shuffle, header.group), entry)
    _notice_if_complete(inbox, shuffle, key, stream)
    return VERDICT_TAKEN


cdef int inbox_expect(inbox_t *inbox, shuffle_t *shuffle, uint32_t map, uint32_t epoch, uint32_t attempt,
                      uint64_t frames) noexcept nogil:
    cdef stream_key_t key = _stream_key(map, epoch, attempt)
    cdef stream_t *stream = inbox_stream(shuffle, map, epoch, attempt)
    if shuffle.discarded.count(key):
        return INBOX_DISCARDED
    if stream == NULL:
        if epoch < shuffle.epoch:
            return INBOX_OLD_EPOCH
        stream = _new_stream(inbox, shuffle, key)
    stream.expecting = True
    stream.expected = frames
    if stream.state == STREAM_BROKEN:
        _notify(inbox, shuffle, key, NOTICE_BROKEN)
    else:
        # Asked again, it answers again: the asker may be a new coordinator.
        stream.noticed = False
        _notice_if_complete(inbox, shuffle, key, stream)
    return INBOX_OK


cdef int inbox_win(inbox_t *inbox, shuffle_t *shuffle, uint32_t map, uint32_t epoch, uint32_t attempt) noexcept nogil:
    cdef stream_key_t key = _stream_key(map, epoch, attempt)
    cdef stream_t *stream = inbox_stream(shuffle, map, epoch, attempt)
    cdef entry_t *entry
    cdef entry_t *after
    cdef group_t *group
    if stream == NULL:
        return INBOX_DISCARDED if shuffle.discarded.count(key) else INBOX_NO_STREAM
    if stream.state == STREAM_WON:
        return INBOX_OK
    if stream.state == STREAM_BROKEN:
        return INBOX_BROKEN
    if stream.expecting and stream.frames != stream.expected:
        return INBOX_INCOMPLETE
    entry = stream.head
    while entry != NULL:
        if inbox_group(shuffle, entry.header.group).sealed:
            return INBOX_SEALED
        entry = entry.next
    entry = stream.head
    while entry != NULL:
        after = entry.next
        entry.next = NULL
        group = inbox_group(shuffle, entry.header.group)
        _unrank_ready(shuffle, group)
        group.queue.push_back(entry)
        group.ready_rows += entry.header.rows
        group.ready_bytes += entry.header.length
        _rank_ready(shuffle, group)
        entry = after
    stream.head = NULL
    stream.tail = NULL
    stream.state = STREAM_WON
    shuffle.holding.erase(key)
    return INBOX_OK


cdef int inbox_discard(inbox_t *inbox, shuffle_t *shuffle, uint32_t map, uint32_t epoch,
                       uint32_t attempt) noexcept nogil:
    cdef stream_key_t key = _stream_key(map, epoch, attempt)
    cdef stream_t *stream = inbox_stream(shuffle, map, epoch, attempt)
    if stream != NULL:
        if stream.state == STREAM_WON:
            return INBOX_WON
        _free_stream_frames(inbox, shuffle, stream)
        shuffle.holding.erase(key)
        shuffle.streams.erase(key)
        inbox.index_bytes -= STREAM_BYTES
    if shuffle.discarded.insert(key).second:
        shuffle.discarded_order.push_back(key)
        if shuffle.discarded_order.size() > inbox.tombstones:
            shuffle.discarded.erase(shuffle.discarded_order.front())
            shuffle.discarded_order.pop_front()
    return INBOX_OK


# ---- hand-out

cdef void inbox_select(group_t *group, size_t position, int64_t max_bytes, vector[entry_t *] *chosen) noexcept nogil:
    cdef size_t i
    cdef entry_t *entry
    cdef int64_t bytes = 0
    for i in range(group.head + position, group.queue.size()):
        entry = group.queue[i]
        if bytes > 0 and bytes + <int64_t> entry.header.length > max_bytes:
            break
        bytes += entry.header.length
        entry.pins += 1
        chosen.push_back(entry)


cdef void inbox_taken(inbox_t *inbox, shuffle_t *shuffle, group_t *group, size_t count) noexcept nogil:
    cdef size_t i
    cdef entry_t *entry
    _unrank_ready(shuffle, group)
    for i in range(group.head, group.head + count):
        entry = group.queue[i]
        group.ready_rows -= entry.header.rows
        group.ready_bytes -= entry.header.length
        _kill(inbox, shuffle, group, entry)
    group.head += count
    group.taken += count
    if group.head * 2 >= group.queue.size():
        group.queue.erase(group.queue.begin(), group.queue.begin() + <int64_t> group.head)
        group.head = 0
    _rank_ready(shuffle, group)


cdef void inbox_begin_take(shuffle_t *shuffle, group_t *group) noexcept nogil:
    _unrank_ready(shuffle, group)
    group.taking = True


cdef void inbox_end_take(shuffle_t *shuffle, group_t *group) noexcept nogil:
    group.taking = False
    _unrank_ready(shuffle, group)
    _rank_ready(shuffle, group)


cdef group_t *inbox_lease(shuffle_t *shuffle) noexcept nogil:
    cdef cpp_set[rank_t].iterator largest
    cdef group_t *group
    if shuffle.ready.empty():
        return NULL
    largest = shuffle.ready.end()
    dec(largest)
    group = inbox_group(shuffle, deref(largest).second)
    _unrank_ready(shuffle, group)
    group.leased = True
    return group


cdef void inbox_release(shuffle_t *shuffle, group_t *group) noexcept nogil:
    _unrank_ready(shuffle, group)
    group.leased = False
    _rank_ready(shuffle, group)


cdef void inbox_finish(shuffle_t *shuffle, group_t *group) noexcept nogil:
    if not group.finished:
        _unrank_ready(shuffle, group)
        group.finished = True
        shuffle.unfinished -= 1


# ---- spill

cdef shuffle_t *inbox_pick_spill(inbox_t *inbox, int64_t max_bytes, size_t max_frames,
                                 vector[entry_t *] *chosen) noexcept nogil:
    cdef cpp_map[uid_key_t, shuffle_t].iterator each = inbox.shuffles.begin()
    cdef shuffle_t *shuffle = NULL
    cdef group_t *group
    cdef entry_t *entry
    cdef int64_t largest = 0, top, bytes = 0
    while each != inbox.shuffles.end():
        if not deref(each).second.spillable.empty():
            top = deref(deref(each).second.spillable.rbegin()).first
            if top > largest:
                largest = top
                shuffle = &deref(each).second
        inc(each)
    if shuffle == NULL:
        return NULL
    while bytes < max_bytes and chosen.size() < max_frames and not shuffle.spillable.empty():
        group = inbox_group(shuffle, deref(shuffle.spillable.rbegin()).second)
        entry = group.oldest
        while entry != NULL and bytes < max_bytes and chosen.size() < max_frames:
            _unlist_spillable(shuffle, group, entry)
            entry.pins += 1
            bytes += entry.payload.capacity
            chosen.push_back(entry)
            entry = group.oldest
    return shuffle


cdef void inbox_spilled(inbox_t *inbox, entry_t *entry, segment_t *segment, int64_t offset) noexcept nogil:
    cdef shuffle_t *shuffle
    entry.segment = segment
    entry.offset = offset
    if entry.dead:
        pass            # taken or freed meanwhile: what was written of it is dead as well
    elif segment == NULL:
        shuffle = inbox_find(inbox, entry.header.shuffle)
        _list_spillable(shuffle, inbox_group(shuffle, entry.header.group), entry)
    else:
        inbox.resident_bytes -= entry.payload.capacity
        inbox.spilled_bytes += entry.header.length
        buffer_unref(entry.payload)
        entry.payload = NULL
    inbox_unpin(inbox, entry)
