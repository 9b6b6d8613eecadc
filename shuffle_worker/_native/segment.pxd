"""Contents of segment.pyx: spilled frames in files. Needs no GIL. A disk has a lock of its own, never held over I/O."""
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libcpp.string cimport string
from libcpp.vector cimport vector

from shuffle_worker._native.buffer cimport buffer_t
from shuffle_worker._native.frame cimport frame_header_t
from shuffle_worker._native.monitor cimport monitor_t


cdef enum:
    DISK_OK = 0
    DISK_FULL = 1           # every directory is at its reserve or out of use
    DISK_BAD_HEADER = 2     # what is in the file is not the frame that was written
    DISK_BAD_PAYLOAD = 3
    DISK_SHORT = 4          # the file ends too early
    DISK_IO = 5             # the system says errno


# A file of frames of one shuffle, appended to until it is full and deleted when all its frames are dead.
cdef cppclass segment_t:
    string path
    int directory
    uint8_t uid[16]
    int64_t size            # bytes written: whole frames
    int64_t flushed         # bytes whose write-back was begun
    int64_t live_bytes      # of frames that somebody may still read
    int32_t live_frames
    bint open               # more frames may be appended: not to be deleted yet
    bint listed             # waits to be deleted

cdef cppclass directory_t:
    string path
    bint memory             # tmpfs: what is in it counts as memory
    string fault            # why it is out of use for good; empty while it is in use
    bint full               # at its reserve when last tried
    int64_t free_bytes      # when last tried
    int64_t reserve_bytes
    int64_t bytes           # in segments now
    int64_t segments
    segment_t *tail         # takes more frames

cdef cppclass disk_t:
    monitor_t lock
    vector[directory_t *] directories
    size_t turn             # the directory to try first
    int64_t segment_bytes
    uint64_t names
    vector[segment_t *] doomed
    int64_t memory_bytes    # in segments on tmpfs
    int64_t told_memory     # of these, what disk_memory_change has told
    int64_t written_bytes   # ever
    int64_t read_bytes
    int64_t written_frames


cdef disk_t *disk_new(int64_t segment_bytes) noexcept nogil
# 0 or an errno. Detects tmpfs.
cdef int disk_add(disk_t *disk, const string &path, int64_t reserve_bytes) noexcept nogil
# Append frames of one shuffle to one segment; only one thread at a time. DISK_OK or DISK_FULL. On success each frame
# is live, *segment is where they are and offsets has one for each.
cdef int disk_write(disk_t *disk, const uint8_t *uid, const vector[frame_header_t *] &headers,
                    const vector[buffer_t *] &payloads, segment_t **segment, vector[int64_t] *offsets) noexcept nogil
# Read a frame's payload into `to` (header.length bytes), comparing header and checksum. A DISK_ fault; *error: errno.
cdef int segment_read(disk_t *disk, segment_t *segment, int64_t offset, const frame_header_t *header, uint8_t *to,
                      int *error) noexcept nogil
# The frame will not be read again.
cdef void segment_release(disk_t *disk, segment_t *segment, uint64_t length) noexcept nogil
# No more frames of this shuffle: its open segments may be deleted once their frames are dead.
cdef void disk_finish(disk_t *disk, const uint8_t *uid) noexcept nogil
# Delete files of which every frame is dead. Does I/O.
cdef void disk_sweep(disk_t *disk) noexcept nogil
# By how much the bytes on tmpfs have changed since the last call.
cdef int64_t disk_memory_change(disk_t *disk) noexcept nogil
# Free a disk, deleting what is dead. Nobody else may use it any more.
cdef void disk_delete(disk_t *disk) noexcept nogil
# A sentence with the figures of every directory.
cdef string disk_figures(disk_t *disk) noexcept nogil
