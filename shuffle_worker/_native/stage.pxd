"""Contents of stage.pyx: the memory in which rows wait for their frame, and the loops that move them there."""
from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from shuffle_worker._native.arrow cimport column_t, type_t

cdef enum:
    STAGE_NOTHING = 0       # null and nested columns
    STAGE_FIXED = 1         # `width` bytes a row; bools are a byte each until they are encoded
    STAGE_STRING = 2        # int32 ends (the first is 0), and bytes

# A column on the wire.
ctypedef struct slot_t:
    type_t type             # of its values
    int stage
    int32_t width           # of a staged row, if STAGE_FIXED
    bint coded              # travels as codes of a memo

# One column of one group. Everything is NULL until its first row.
ctypedef struct lane_t:
    uint8_t *values         # rows, or int32 ends
    uint8_t *valid          # a byte a row, where `nullable`
    uint8_t *bytes          # of strings
    int64_t bytes_used
    int64_t bytes_capacity
    bint nullable

ctypedef struct group_t:
    int64_t rows
    int64_t capacity        # in rows
    int64_t bytes           # staged: what a frame of it holds, about
    uint64_t digest
    uint32_t *partitions    # of each row, where a group holds several

# Consecutive entries of a chunk's order that go to one group.
ctypedef struct run_t:
    uint32_t group
    uint32_t count
    int64_t first

# Where a chunk's column comes from.
ctypedef struct source_t:
    const uint8_t *values   # fixed: the chunk's row 0, or the dictionary's
    const column_t *strings
    int64_t base            # what a row's index is added to in `strings`
    const uint8_t *valid    # a byte for each row of the chunk; NULL: no nulls
    const uint32_t *pick    # of each row of the chunk: its row in the dictionary; NULL: the row itself

ctypedef struct stage_t:
    int64_t groups
    int columns
    slot_t *slots
    lane_t *lanes           # [column][group]
    group_t *group          # [group]
    int64_t row_capacity    # the most rows of a group
    bint partitioned        # groups hold several partitions
    int64_t held_bytes      # of all lanes

# Where a lane goes on, while a chunk's column is written to it.
ctypedef struct tail_t:
    uint8_t *values
    uint8_t *bytes          # of strings: the lane's first
    int64_t at              # and where the next one starts

# A chunk of a batch, put in order.
ctypedef struct chunk_t:
    int64_t rows
    int64_t runs
    run_t *run
    uint32_t *order         # rows of the chunk, run by run
    uint32_t *composed      # scratch: as many
    uint32_t *partitions    # of each row of the chunk
    bint spread             # rows are rather written to where they belong than gathered from where they are
    uint16_t *group         # of each row, and
    uint16_t *place         # where in its run it is; both only if `spread`
    tail_t *tails           # [group]: scratch


cdef enum:
    STAGE_SLACK = 64        # bytes after each lane that may be written


cdef inline lane_t *lane_of(stage_t *stage, int column, int64_t group) noexcept nogil:
    return &stage.lanes[column * stage.groups + group]


# Room for `rows` more rows in `group`. -1: no memory.
cdef int stage_reserve(stage_t *stage, int64_t group, int64_t rows) noexcept nogil
# Move a chunk's column to its groups' lanes; `stage_advance` after the last column. -1: no memory.
cdef int stage_column(stage_t *stage, int column, const source_t *source, const chunk_t *chunk) noexcept nogil
cdef void stage_advance(stage_t *stage, const chunk_t *chunk) noexcept nogil
# Forget a group's rows and keep its memory, except what is much more than `keep_bytes` for a column.
cdef void stage_clear(stage_t *stage, int64_t group, int64_t keep_bytes) noexcept nogil
cdef void stage_free(stage_t *stage) noexcept nogil
# out[k] = values[order[k]] for values of `width` bytes; order NULL: a copy.
cdef void gather_fixed(int32_t width, const uint8_t *values, const uint32_t *order, int64_t count,
                       uint8_t *out) noexcept nogil
# 8 flags (0 or 1) to a byte of bits; writes (count + 7) / 8 bytes.
cdef void pack_bits(const uint8_t *flags, int64_t count, uint8_t *out) noexcept nogil
