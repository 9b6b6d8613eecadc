# distutils: language = c++
"""Spilled frames in files: appended as they are on the wire, read back with their checksum, deleted when dead.

One thread writes; any thread reads. No file stays open between calls, so the number of groups and segments costs no
descriptors. Which frames to spill, and what they mean, is decided elsewhere.
"""
from libc.errno cimport EINTR, ENOSPC, EDQUOT, errno
from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.stdio cimport snprintf
from libc.string cimport memcmp, memcpy, strerror
from posix.fcntl cimport O_CLOEXEC, O_CREAT, O_RDONLY, O_WRONLY, open
from posix.unistd cimport close, ftruncate, unlink
from posix.stat cimport struct_stat, fstat

from shuffle_worker._native.buffer cimport BufferPool, buffer_new, buffer_t
from shuffle_worker._native.frame cimport (
    FRAME_DATA, FRAME_HEADER_BYTES, FRAME_OK, Frame, crc32c, frame_header_check, frame_header_t, frame_wrap,
)
from shuffle_worker._native.monitor cimport monitor_destroy, monitor_init, monitor_lock, monitor_unlock

from shuffle_worker.errors import Corrupted, InputError


cdef extern from "<sys/uio.h>" nogil:
    ctypedef struct iovec:
        void *iov_base
        size_t iov_len
    ssize_t pwritev(int fd, const iovec *iov, int count, int64_t offset)

cdef extern from "<unistd.h>" nogil:
    ssize_t pread(int fd, void *to, size_t count, int64_t offset)

cdef extern from "<sys/vfs.h>" nogil:
    ctypedef struct struct_statfs "struct statfs":
        long f_type
        long f_bsize
        uint64_t f_bavail
    int statfs(const char *path, struct_statfs *to)

cdef extern from "<fcntl.h>" nogil:
    enum:
        SYNC_FILE_RANGE_WAIT_BEFORE
        SYNC_FILE_RANGE_WRITE
        SYNC_FILE_RANGE_WAIT_AFTER
        POSIX_FADV_DONTNEED
    int sync_file_range(int fd, int64_t offset, int64_t count, unsigned int flags)
    int posix_fadvise(int fd, int64_t offset, int64_t length, int advice)

cdef enum:
    TMPFS_MAGIC = 0x01021994
    RAMFS_MAGIC = <int> 0x858458f6
    IOV_BATCH = 1024        # of IOV_MAX


cdef disk_t *disk_new(int64_t segment_bytes) noexcept nogil:
    cdef disk_t *disk = new disk_t()
    disk.segment_bytes = segment_bytes
    disk.turn = 0
    disk.names = 0
    disk.memory_bytes = 0
    disk.told_memory = 0
    disk.written_bytes = 0
    disk.read_bytes = 0
    disk.written_frames = 0
    if monitor_init(&disk.lock) != 0:
        del disk
        return NULL
    return disk


cdef int _probe(directory_t *directory) noexcept nogil:
    """Look at the file system: 0 or an errno."""
    cdef struct_statfs info
    if statfs(directory.path.c_str(), &info) != 0:
        return errno
    directory.memory = info.f_type == TMPFS_MAGIC or <int> info.f_type == RAMFS_MAGIC
    directory.free_bytes = <int64_t> info.f_bavail * <int64_t> info.f_bsize
    return 0


cdef int disk_add(disk_t *disk, const string &path, int64_t reserve_bytes) noexcept nogil:
    cdef directory_t *directory = new directory_t()
    cdef int error
    directory.path = path
    directory.reserve_bytes = reserve_bytes
    directory.full = False
    directory.bytes = 0
    directory.segments = 0
    directory.tail = NULL
    error = _probe(directory)
    if error != 0:
        del directory
        return error
    monitor_lock(&disk.lock)
    disk.directories.push_back(directory)
    monitor_unlock(&disk.lock)
    return 0


# ---- writing: the spill thread only

cdef void _doom_if_dead(disk_t *disk, segment_t *segment) noexcept nogil:
    """The lock is held."""
    if segment.live_frames == 0 and not segment.open and not segment.listed:
        segment.listed = True
        disk.doomed.push_back(segment)


cdef void _retire_tail(disk_t *disk, directory_t *directory) noexcept nogil:
    """No more frames go into the directory's open segment. The lock is held."""
    cdef segment_t *tail = directory.tail
    directory.tail = NULL
    if tail != NULL:
        tail.open = False
        _doom_if_dead(disk, tail)


cdef segment_t *_tail_for(disk_t *disk, int number, const uint8_t *uid) noexcept nogil:
    """The segment of that directory to append to: the open one while it has room and is of the same shuffle."""
    cdef directory_t *directory = disk.directories[number]
    cdef segment_t *segment
    cdef char name[64]
    monitor_lock(&disk.lock)
    segment = directory.tail
    if segment == NULL or segment.size >= disk.segment_bytes or memcmp(segment.uid, uid, 16) != 0:
        _retire_tail(disk, directory)
        segment = new segment_t()
        disk.names += 1
        snprintf(name, sizeof(name), "/%012llu.seg", <unsigned long long> disk.names)
        segment.path = directory.path
        segment.path.append(<const char *> name)
        segment.directory = number
        memcpy(segment.uid, uid, 16)
        segment.size = 0
        segment.flushed = 0
        segment.live_bytes = 0
        segment.live_frames = 0
        segment.open = True
        segment.listed = False
        directory.tail = segment
        directory.segments += 1
    monitor_unlock(&disk.lock)
    return segment


cdef int _write_all(int fd, iovec *parts, int count, int64_t offset) noexcept nogil:
    """0 or an errno, ENOSPC when the system takes nothing more. Changes `parts`."""
    cdef int first = 0
    cdef ssize_t written
    while first < count:
        written = pwritev(fd, parts + first, min(count - first, <int> IOV_BATCH), offset)
        if written < 0:
            if errno == EINTR:
                continue
            return errno
        if written == 0:
            return ENOSPC
        offset += written
        while first < count and <size_t> written >= parts[first].iov_len:
            written -= parts[first].iov_len
            first += 1
        if first < count:
            parts[first].iov_base = <uint8_t *> parts[first].iov_base + written
            parts[first].iov_len -= written
    return 0


cdef int _leave_page_cache(int fd, segment_t *segment, int64_t size) noexcept nogil:
    """Begin to write back what is new, and drop what was begun before. 0 or an errno."""
    cdef int error = 0
    if segment.flushed > 0:
        if sync_file_range(fd, 0, segment.flushed, SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE
                           | SYNC_FILE_RANGE_WAIT_AFTER) != 0:
            error = errno
        posix_fadvise(fd, 0, segment.flushed, POSIX_FADV_DONTNEED)
    if error == 0 and sync_file_range(fd, segment.flushed, size - segment.flushed, SYNC_FILE_RANGE_WRITE) != 0:
        error = errno
    segment.flushed = size
    return error


cdef int _append(directory_t *directory, segment_t *segment, vector[iovec] &parts, int64_t bytes) noexcept nogil:
    """Append to the file; on a failure it is as long as before. 0 or an errno."""
    cdef int error = 0
    cdef int fd = open(segment.path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0o600)
    if fd < 0:
        return errno
    error = _write_all(fd, parts.data(), <int> parts.size(), segment.size)
    if error == 0 and not directory.memory:
        error = _leave_page_cache(fd, segment, segment.size + bytes)
    if error != 0:
        # What stays behind the end is overwritten or never read; without room even this may fail.
        ftruncate(fd, segment.size)
        segment.flushed = min(segment.flushed, segment.size)
    if close(fd) != 0 and error == 0:
        error = errno
    return error


cdef bint _usable(disk_t *disk, directory_t *directory, int64_t bytes) noexcept nogil:
    """Whether the directory has room for `bytes` above its reserve."""
    cdef directory_t seen
    cdef int error
    if not directory.fault.empty():
        return False
    seen.path = directory.path
    error = _probe(&seen)
    monitor_lock(&disk.lock)
    if error != 0:
        directory.fault = string(strerror(error))
    else:
        directory.free_bytes = seen.free_bytes
        directory.full = seen.free_bytes < directory.reserve_bytes + bytes
    monitor_unlock(&disk.lock)
    return error == 0 and not directory.full


cdef void _refuse(disk_t *disk, directory_t *directory, int error) noexcept nogil:
    """After a failed write: full for now, or out of use for good."""
    monitor_lock(&disk.lock)
    if error == ENOSPC or error == EDQUOT:
        directory.full = True
    else:
        directory.fault = string(strerror(error))
    if directory.tail != NULL and directory.tail.size == 0:
        # Never held a frame: the file may not even exist.
        directory.tail.open = False
        _doom_if_dead(disk, directory.tail)
        directory.tail = NULL
    monitor_unlock(&disk.lock)


cdef void _account(disk_t *disk, directory_t *directory, segment_t *segment, int frames, int64_t bytes) noexcept nogil:
    monitor_lock(&disk.lock)
    segment.size += bytes
    segment.live_bytes += bytes
    segment.live_frames += frames
    directory.bytes += bytes
    directory.full = False
    if directory.memory:
        disk.memory_bytes += bytes
    disk.written_bytes += bytes
    disk.written_frames += frames
    monitor_unlock(&disk.lock)


cdef int disk_write(disk_t *disk, const uint8_t *uid, const vector[frame_header_t *] &headers,
                    const vector[buffer_t *] &payloads, segment_t **segment, vector[int64_t] *offsets) noexcept nogil:
    cdef vector[iovec] parts
    cdef iovec part
    cdef size_t i
    cdef int64_t bytes = 0, offset
    cdef int number, error
    cdef directory_t *directory
    for i in range(headers.size()):
        bytes += FRAME_HEADER_BYTES + <int64_t> headers[i].length
    for _ in range(disk.directories.size()):
        number = <int> (disk.turn % disk.directories.size())
        disk.turn += 1
        directory = disk.directories[number]
        if not _usable(disk, directory, bytes):
            continue
        segment[0] = _tail_for(disk, number, uid)
        parts.clear()
        offset = segment[0].size
        offsets.clear()
        for i in range(headers.size()):
            part.iov_base = headers[i]
            part.iov_len = FRAME_HEADER_BYTES
            parts.push_back(part)
            if headers[i].length > 0:
                part.iov_base = payloads[i].data
                part.iov_len = headers[i].length
                parts.push_back(part)
            offsets.push_back(offset)
            offset += FRAME_HEADER_BYTES + <int64_t> headers[i].length
        error = _append(directory, segment[0], parts, bytes)
        if error == 0:
            _account(disk, directory, segment[0], <int> headers.size(), bytes)
            return DISK_OK
        _refuse(disk, directory, error)
    segment[0] = NULL
    return DISK_FULL


# ---- reading and releasing: any thread

cdef int _read_all(int fd, void *to, int64_t count, int64_t offset, int *error) noexcept nogil:
    """A DISK_ fault."""
    cdef ssize_t got
    cdef uint8_t *at = <uint8_t *> to
    while count > 0:
        got = pread(fd, at, count, offset)
        if got < 0:
            if errno == EINTR:
                continue
            error[0] = errno
            return DISK_IO
        if got == 0:
            return DISK_SHORT
        at += got
        offset += got
        count -= got
    return DISK_OK


cdef int segment_read(disk_t *disk, segment_t *segment, int64_t offset, const frame_header_t *header, uint8_t *to,
                      int *error) noexcept nogil:
    cdef frame_header_t found
    cdef int fault
    cdef int64_t length = <int64_t> header.length
    cdef int fd = open(segment.path.c_str(), O_RDONLY | O_CLOEXEC)
    if fd < 0:
        error[0] = errno
        return DISK_IO
    fault = _read_all(fd, &found, FRAME_HEADER_BYTES, offset, error)
    if fault == DISK_OK and memcmp(&found, header, FRAME_HEADER_BYTES) != 0:
        fault = DISK_BAD_HEADER
    if fault == DISK_OK:
        fault = _read_all(fd, to, length, offset + FRAME_HEADER_BYTES, error)
    if fault == DISK_OK and crc32c(0, to, length) != header.payload_crc:
        fault = DISK_BAD_PAYLOAD
    posix_fadvise(fd, offset, FRAME_HEADER_BYTES + length, POSIX_FADV_DONTNEED)
    close(fd)
    if fault == DISK_OK:
        monitor_lock(&disk.lock)
        disk.read_bytes += FRAME_HEADER_BYTES + length
        monitor_unlock(&disk.lock)
    return fault


cdef void segment_release(disk_t *disk, segment_t *segment, uint64_t length) noexcept nogil:
    monitor_lock(&disk.lock)
    segment.live_frames -= 1
    segment.live_bytes -= FRAME_HEADER_BYTES + <int64_t> length
    _doom_if_dead(disk, segment)
    monitor_unlock(&disk.lock)


cdef void disk_finish(disk_t *disk, const uint8_t *uid) noexcept nogil:
    cdef size_t i
    monitor_lock(&disk.lock)
    for i in range(disk.directories.size()):
        if disk.directories[i].tail != NULL and memcmp(disk.directories[i].tail.uid, uid, 16) == 0:
            _retire_tail(disk, disk.directories[i])
    monitor_unlock(&disk.lock)


cdef void _delete_segment(disk_t *disk, segment_t *segment) noexcept nogil:
    """The lock is not held, and nobody else has the segment."""
    cdef directory_t *directory = disk.directories[segment.directory]
    # A file that cannot be deleted is the janitor's, with its whole directory.
    unlink(segment.path.c_str())
    monitor_lock(&disk.lock)
    directory.bytes -= segment.size
    directory.segments -= 1
    if directory.memory:
        disk.memory_bytes -= segment.size
    monitor_unlock(&disk.lock)
    del segment


cdef void disk_sweep(disk_t *disk) noexcept nogil:
    cdef segment_t *segment
    while True:
        segment = NULL
        monitor_lock(&disk.lock)
        if not disk.doomed.empty():
            segment = disk.doomed.back()
            disk.doomed.pop_back()
        monitor_unlock(&disk.lock)
        if segment == NULL:
            return
        _delete_segment(disk, segment)


cdef int64_t disk_memory_change(disk_t *disk) noexcept nogil:
    cdef int64_t change
    monitor_lock(&disk.lock)
    change = disk.memory_bytes - disk.told_memory
    disk.told_memory = disk.memory_bytes
    monitor_unlock(&disk.lock)
    return change


cdef void disk_delete(disk_t *disk) noexcept nogil:
    cdef size_t i
    for i in range(disk.directories.size()):
        monitor_lock(&disk.lock)
        _retire_tail(disk, disk.directories[i])
        monitor_unlock(&disk.lock)
    disk_sweep(disk)
    for i in range(disk.directories.size()):
        del disk.directories[i]
    disk.directories.clear()
    monitor_destroy(&disk.lock)
    del disk


cdef string disk_figures(disk_t *disk) noexcept nogil:
    cdef string text
    cdef char part[96]
    cdef size_t i
    cdef directory_t *directory
    monitor_lock(&disk.lock)
    for i in range(disk.directories.size()):
        directory = disk.directories[i]
        if i:
            text.append("; ")
        text.append(directory.path)
        if not directory.fault.empty():
            text.append(": ")
            text.append(directory.fault)
        else:
            snprintf(part, sizeof(part), ": %.2f GiB free, %.2f GiB of it in reserve, %.2f GiB spilled",
                     directory.free_bytes / 1073741824.0, directory.reserve_bytes / 1073741824.0,
                     directory.bytes / 1073741824.0)
            text.append(<const char *> part)
    monitor_unlock(&disk.lock)
    return text


# ---- a file by itself

def read_segment(path: str, pool: BufferPool, max_frame_bytes: int = 1 << 30):
    """Every frame of a segment file, in order, as it would come from the wire.

    Nothing is allocated for a length that the file cannot hold.
    :raises Corrupted: names the file, the offset and what is wrong there.
    """
    cdef BufferPool buffers = pool
    cdef bytes name = path.encode()
    cdef const char *raw = name
    cdef int fd = open(raw, O_RDONLY | O_CLOEXEC)
    if fd < 0:
        raise InputError(f"cannot open the segment file {path}: {strerror(errno).decode()}")
    cdef struct_stat info
    cdef int64_t offset = 0
    cdef Frame frame
    try:
        fstat(fd, &info)
        while offset < info.st_size:
            frame = _read_frame(fd, path, offset, info.st_size, max_frame_bytes, buffers)
            offset += FRAME_HEADER_BYTES + <int64_t> frame.header.length
            yield frame
    finally:
        close(fd)


cdef Frame _read_frame(int fd, str path, int64_t offset, int64_t end, int64_t max_frame_bytes, BufferPool pool):
    cdef frame_header_t header
    cdef int64_t room = end - offset - FRAME_HEADER_BYTES
    cdef int fault = DISK_SHORT, error = 0, bad
    cdef buffer_t *payload = NULL
    if room >= 0:
        with nogil:
            fault = _read_all(fd, &header, FRAME_HEADER_BYTES, offset, &error)
    if fault != DISK_OK:
        raise Corrupted(f"{path} at offset {offset}: the file ends within a header")
    bad = frame_header_check(&header, <uint64_t> min(max_frame_bytes, room))
    if bad != FRAME_OK or header.kind != FRAME_DATA:
        raise Corrupted(f"{path} at offset {offset}: no frame header of {room} or fewer bytes (fault {bad})")
    if header.length > 0:
        payload = buffer_new(pool.pool, <int64_t> header.length)
        if payload == NULL:
            raise MemoryError(f"no memory for a frame of {header.length} bytes of {path}")
    cdef Frame frame = frame_wrap(&header, payload)
    if payload != NULL:
        payload.size = <int64_t> header.length
        with nogil:
            fault = _read_all(fd, payload.data, payload.size, offset + FRAME_HEADER_BYTES, &error)
            if fault == DISK_OK and crc32c(0, payload.data, payload.size) != header.payload_crc:
                fault = DISK_BAD_PAYLOAD
    if fault != DISK_OK:
        raise Corrupted(f"{path} at offset {offset}: the payload of a frame of worker incarnation "
                        f"{header.incarnation:016x} does not match its checksum")
    return frame
