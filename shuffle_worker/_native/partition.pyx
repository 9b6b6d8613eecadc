"""From batches to frames: the kernel of a map thread. Rows are routed, put in order of their group, staged column by
column, and encoded when their group is full. No sockets, no numbering of frames: see `frame.Stream`.

A batch is worked on in chunks whose columns fit in a core's cache. Before a chunk is staged, groups without room for
their part of it leave; afterwards those that reached their size do.
"""
from libc.stdlib cimport calloc, free
from libc.string cimport memset

from shuffle_worker._native.arrow cimport (
    KIND_BINARY, KIND_BOOL, KIND_NULL, KIND_STRING, LAYOUT_FIXED, LAYOUT_NESTED, batch_of, batches_of, same_type,
    schema_of, type_name,
)
from shuffle_worker._native.buffer cimport buffer_t
from shuffle_worker._native.columns cimport column_source, read_valid, rows_bytes, scratch_alloc, scratch_free
from shuffle_worker._native.encode cimport encode_group, encoder_alloc, encoder_free
from shuffle_worker._native.frame cimport FRAME_DATA, FRAME_GROUPED, frame_header_init, frame_header_t, frame_wrap
from shuffle_worker._native.ipc cimport aligned
from shuffle_worker._native.memo cimport MEMO_FULL, MEMO_OK, memo_begin, memo_codes, memo_free, memo_reset
from shuffle_worker._native.recode cimport recode
from shuffle_worker._native.route cimport router_of
from shuffle_worker._native.stage cimport (
    STAGE_FIXED, STAGE_NOTHING, STAGE_STRING, chunk_t, group_t, lane_t, slot_t, stage_advance, stage_clear,
    stage_column, stage_free, stage_reserve,
)

from typing import NamedTuple

import pyarrow as pa

from shuffle_worker._native.frame import CODECS
from shuffle_worker.errors import InternalError, UserError

cdef int64_t CHUNK_BYTES = 4 << 20          # of strings in a chunk of more than one row
cdef int64_t MAX_STAGE_BYTES = 1 << 30      # staged strings are addressed by int32
cdef int64_t MAX_ROW_BYTES = (1 << 31) - 4096
cdef enum:
    MIN_CHUNK = 8192
    MAX_CHUNK = 65536
    ROWS_PER_RUN = 256          # of a chunk, on average, if the groups are not too many
    STRAIGHT_ROWS = 256         # shorter slices are not worth a chunk of their own
    STRING_GUESS = 24           # bytes


class Figures(NamedTuple):
    """See partition.pyi."""

    rows: int
    digest: int
    group_rows: list
    staged_rows: int
    frames: int
    fallback_rows: int


def wire_schema_of(schema, dictionary_columns):
    """Columns as they travel: those of few values as dictionary(uint8), all others plain."""
    for name in dictionary_columns:
        if name not in schema.names:
            raise UserError(f"there is no column {name!r} to send as a dictionary; the columns are "
                            f"{', '.join(schema.names)}")
    fields = []
    for field in schema:
        type = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
        if field.name in dictionary_columns:
            if pa.types.is_nested(type) or pa.types.is_null(type) or pa.types.is_dictionary(type):
                raise UserError(f"column {field.name!r} of type {type} cannot travel as a dictionary")
            type = pa.dictionary(pa.uint8(), type)
        fields.append(field.with_type(type))
    return pa.schema(fields, schema.metadata)


cdef int64_t _row_width(stage_t *stage) noexcept nogil:
    """Bytes of a staged row, about."""
    cdef int64_t width = 4 if stage.partitioned else 0
    cdef int i
    for i in range(stage.columns):
        width += stage.slots[i].width if stage.slots[i].stage == STAGE_FIXED else 0
        width += 4 + STRING_GUESS if stage.slots[i].stage == STAGE_STRING else 0
    return max(width, <int64_t> 1)


cdef class Partitioner:

    def __init__(self, schema, partitioning, staging, BufferPool pool not None):
        if self.expected is not None:
            raise InternalError("a partitioner is initialised once")
        if staging.codec not in CODECS:
            raise UserError(f"there is no codec {staging.codec!r}; there are {', '.join(CODECS)}")
        self.router = router_of(partitioning, schema)
        self.schema = schema
        self.codec = staging.codec
        self.wire_schema = wire_schema_of(schema, staging.dictionary_columns)
        self.pool = pool
        self.nested = []
        self.taken = {}
        self.expected = schema_of(schema)
        self.max_row_bytes = max(1, min(staging.max_row_bytes, MAX_ROW_BYTES))
        self.stage.groups = 1 if partitioning.kind == "Broadcast" else partitioning.groups
        self.stage.partitioned = self.stage.groups < partitioning.partitions and partitioning.kind != "Broadcast"
        self._slots(staging.dictionary_columns)
        self.stage_bytes = max(1, min(staging.frame_bytes, staging.budget_bytes * 2 // 3 // self.stage.groups,
                                      MAX_STAGE_BYTES))
        self.stage_rows = max(1, min(staging.rows, self.stage_bytes // _row_width(&self.stage)))
        self.stage.row_capacity = self.stage_rows
        self.rows_of = Chunk(max(MIN_CHUNK, min(MAX_CHUNK, ROWS_PER_RUN * self.stage.groups)), self.stage.groups,
                             self.router.partitions)
        self._alloc()
        self.reset()

    def _slots(self, dictionary_columns):
        """What becomes of each column; nested ones are pyarrow's."""
        cdef slot_t *slot
        cdef int i
        self.stage.columns = self.expected.columns
        self.stage.slots = <slot_t *> calloc(max(1, self.stage.columns), sizeof(slot_t))
        self.memos = <memo_t *> calloc(max(1, self.stage.columns), sizeof(memo_t))
        if self.stage.slots == NULL or self.memos == NULL:
            raise MemoryError(f"no memory for {self.stage.columns} columns")
        for i in range(self.stage.columns):
            slot = &self.stage.slots[i]
            slot.type = self.expected.types[i]
            slot.coded = self.expected.names[i] in dictionary_columns
            if slot.type.layout == LAYOUT_NESTED:
                self.nested.append(i)
            if slot.type.layout == LAYOUT_NESTED or slot.type.kind == KIND_NULL:
                slot.stage = STAGE_NOTHING
            elif slot.coded or slot.type.layout == LAYOUT_FIXED or slot.type.kind == KIND_BOOL:
                slot.stage = STAGE_FIXED
                slot.width = 1 if slot.coded or slot.type.kind == KIND_BOOL else slot.type.width
            else:
                slot.stage = STAGE_STRING
            if slot.coded:
                self.memos[i].width = 1 if slot.type.kind == KIND_BOOL else slot.type.width
                if slot.type.kind == KIND_STRING or slot.type.kind == KIND_BINARY:
                    self.memos[i].width = -1

    cdef int _alloc(self) except -1:
        cdef int64_t groups = self.stage.groups, n = 0
        cdef int i, columns = self.stage.columns
        self.stage.lanes = <lane_t *> calloc(max(1, columns * groups), sizeof(lane_t))
        self.stage.group = <group_t *> calloc(groups, sizeof(group_t))
        self.sources = <source_t *> calloc(max(1, columns), sizeof(source_t))
        self.scratch = <scratch_t *> calloc(max(1, columns), sizeof(scratch_t))
        self.wanted = <uint8_t *> calloc(groups, 1)
        self.group_rows = <uint64_t *> calloc(groups, sizeof(uint64_t))
        self.encoder.dictionary_ids = <int64_t *> calloc(max(1, columns), sizeof(int64_t))
        if (self.stage.lanes == NULL or self.stage.group == NULL or self.sources == NULL or self.scratch == NULL
                or self.wanted == NULL or self.group_rows == NULL or self.encoder.dictionary_ids == NULL):
            raise MemoryError(f"no memory to partition {columns} columns into {groups} groups")
        for i in range(columns):
            self.scratch[i].rows = self.rows_of.capacity
            self.encoder.dictionary_ids[i] = n
            n += self.stage.slots[i].coded
        flat = [field for i, field in enumerate(self.wire_schema) if i not in self.nested]
        self.prefix = pa.schema(flat, self.wire_schema.metadata).serialize().to_pybytes()
        self.encoder.stage = &self.stage
        self.encoder.memos = self.memos
        self.encoder.prefix = self.prefix
        self.encoder.prefix_bytes = len(self.prefix)
        self.encoder.partitions = self.router.partitions
        self.encoder.pool = self.pool.pool
        if encoder_alloc(&self.encoder) != 0:
            raise MemoryError("no memory to encode frames")
        return 0

    def __dealloc__(self):
        cdef int i
        for i in range(self.stage.columns):
            if self.memos != NULL:
                memo_free(&self.memos[i])
            if self.scratch != NULL:
                scratch_free(&self.scratch[i])
        free(self.encoder.dictionary_ids)
        encoder_free(&self.encoder)
        stage_free(&self.stage)
        free(self.memos)
        free(self.sources)
        free(self.scratch)
        free(self.wanted)
        free(self.group_rows)

    # ---- attempts

    def reset(self, int64_t first_row=0, only=None):
        """Begin an attempt: forget staged rows and figures, keep the memory."""
        cdef int64_t g
        if first_row < 0:
            raise UserError(f"the first row's number {first_row} is negative")
        for g in range(self.stage.groups):
            stage_clear(&self.stage, g, self.stage_bytes)
        memset(self.group_rows, 0, <size_t> self.stage.groups * sizeof(uint64_t))
        memset(self.wanted, only is None, <size_t> self.stage.groups)
        for number in only or ():
            if not 0 <= number < self.stage.groups:
                raise UserError(f"there is no group {number}; there are {self.stage.groups}")
            self.wanted[<int64_t> number] = 1
        self._forget_dictionaries()
        self.taken = {}
        self.taken_bytes = 0
        self.next_row = first_row
        self.rows = self.staged_rows = self.frames = self.fallback_rows = 0
        self.digest = 0
        self.busy = False

    def push(self, batch):
        """Stage a batch; yields frames that became full."""
        self._claim()
        return self._push(batch)

    def flush(self):
        """Everything still staged, group by group."""
        self._claim()
        return self._flush()

    @property
    def figures(self):
        cdef int64_t g
        return Figures(self.rows, self.digest, [self.group_rows[g] for g in range(self.stage.groups)],
                       self.staged_rows, self.frames, self.fallback_rows)

    @property
    def staging_bytes(self) -> int:
        """Memory held for staging now, in bytes."""
        cdef int64_t lanes = self.stage.columns * self.stage.groups * <int64_t> sizeof(lane_t)
        cdef int64_t scratch = self.rows_of.capacity * (self.stage.columns * 6 + 24)
        return self.stage.held_bytes + lanes + scratch + self.taken_bytes

    def _claim(self):
        if self.busy:
            raise InternalError("the frames of an earlier push or flush were not all taken")
        self.busy = True

    def _push(self, source):
        if self.nested or self.router.casts:
            batches = pa.RecordBatchReader.from_stream(source) if not hasattr(source, "__arrow_c_array__") else (
                pa.record_batch(source),)
        else:
            batches = batches_of(source)
        for each in batches:
            yield from self._push_one(each)
        self.busy = False

    def _flush(self):
        yield from self._emit_all()
        self.busy = False

    def _emit_all(self):
        cdef int64_t g
        for g in range(self.stage.groups):
            if self.stage.group[g].rows:
                yield self._emit(g)
        self._forget_dictionaries()
        self.taken_bytes = 0

    def _forget_dictionaries(self):
        cdef int i
        for i in range(self.stage.columns):
            if self.stage.slots[i].coded:
                memo_reset(&self.memos[i])
        self.memo_fresh = True

    def _push_one(self, source):
        cdef Batch batch = source if isinstance(source, Batch) else batch_of(source)
        cdef Batch keys = self.router.keys_of(source, batch)
        cdef chunk_t *chunk = &self.rows_of.chunk
        cdef int64_t start = 0, rows, straight, t
        cdef int outcome
        cdef uint32_t g
        self._check(batch)
        while start < batch.rows:
            rows = min(self.rows_of.capacity, batch.rows - start)
            straight = self.router.straight_rows(self.next_row)
            if straight >= STRAIGHT_ROWS:
                rows = min(rows, straight)
            if self.stage.groups == 1:
                rows = min(rows, self.stage_rows - self.stage.group[0].rows)
            with nogil:
                outcome = self._prepare(batch, keys, start, rows)
            if outcome == CHUNK_FLUSH:
                yield from self._emit_all()
                continue
            self._raise(outcome, batch, start)
            for t in range(chunk.runs):
                g = chunk.run[t].group
                if self._lacks_room(g, chunk.run[t].count):
                    yield self._emit(g)
            with nogil:
                outcome = self._scatter(batch, start)
            self._raise(outcome, batch, start)
            if self.nested:
                self._take(source, start)
            start += chunk.rows
            for t in range(chunk.runs):
                g = chunk.run[t].group
                if self.stage.group[g].rows >= self.stage_rows or self.stage.group[g].bytes >= self.stage_bytes:
                    yield self._emit(g)
            if self.taken_bytes > self.stage_bytes * self.stage.groups:
                yield from self._emit_all()

    def _raise(self, int outcome, Batch batch, int64_t row):
        if outcome == CHUNK_NO_MEMORY:
            raise MemoryError(f"no memory to stage rows; {self.staging_bytes} bytes are staged")
        if outcome == CHUNK_TOO_LARGE:
            for i in range(self.stage.columns):
                size = self._value_bytes(batch, i, row)
                if size > self.max_row_bytes:
                    raise UserError(f"column {self.expected.names[i]!r} of row {self.next_row} has {size} bytes; a row "
                                    f"may have {self.max_row_bytes}: raise the memory or leave the column out")
            raise UserError(f"row {self.next_row} has more than {self.max_row_bytes} bytes: raise the memory or leave "
                            "columns out")

    # ---- checks

    cdef int _check(self, Batch batch) except -1:
        cdef int i
        if batch.hold.names != self.expected.names:
            raise UserError(f"a batch has the columns {', '.join(batch.hold.names)}; the shuffle's are "
                            f"{', '.join(self.expected.names)}")
        for i in range(self.stage.columns):
            if not same_type(&batch.hold.types[i], &self.stage.slots[i].type):
                raise UserError(f"column {self.expected.names[i]!r} of a batch has type "
                                f"{type_name(&batch.hold.types[i])}; the shuffle's is "
                                f"{type_name(&self.stage.slots[i].type)}")
            if self.stage.slots[i].coded and memo_begin(&self.memos[i], &batch.columns[i]) != MEMO_OK:
                raise MemoryError(f"no memory for the dictionary of column {self.expected.names[i]!r}")
        return 0

    def _value_bytes(self, Batch batch, int i, int64_t row):
        cdef int64_t size = 0
        if self.stage.slots[i].stage == STAGE_STRING:
            size = rows_bytes(&batch.columns[i], row, 1)
        return size

    def _lacks_room(self, uint32_t g, uint32_t count):
        cdef group_t *group = &self.stage.group[g]
        return group.rows and (group.rows + count > self.stage_rows or self.chunk_bytes > CHUNK_BYTES)

    # ---- a chunk

    cdef int64_t _string_bytes(self, Batch batch, int64_t start, int64_t rows) noexcept nogil:
        cdef int64_t total = 0
        cdef int i
        for i in range(self.stage.columns):
            if self.stage.slots[i].stage == STAGE_STRING:
                total += rows_bytes(&batch.columns[i], start, rows)
        return total

    cdef int _prepare(self, Batch batch, Batch keys, int64_t start, int64_t rows) noexcept nogil:
        """Decide the chunk's rows and their order; nothing is staged yet, so that it can be done again."""
        cdef int outcome
        self.chunk_bytes = self._string_bytes(batch, start, rows)
        while self.chunk_bytes > CHUNK_BYTES and rows > 1:
            rows = (rows + 1) // 2
            self.chunk_bytes = self._string_bytes(batch, start, rows)
        if rows == 1 and self.chunk_bytes > self.max_row_bytes:
            return CHUNK_TOO_LARGE
        outcome = self._code(batch, start, rows)
        while outcome == CHUNK_FLUSH and self.memo_fresh:
            rows = (rows + 1) // 2          # so many values in one chunk: a smaller one
            outcome = self._code(batch, start, rows)
        if outcome != CHUNK_READY:
            return outcome
        if self.rows_of.route(self.router, keys, start, rows, self.next_row) != 0:
            return CHUNK_NO_MEMORY
        while not self.rows_of.order(rows, self.wanted, self.stage_rows):
            rows = max((rows + 1) // 2, min(rows, self.stage_rows))     # so few fit in one group, if it comes to that
        return CHUNK_READY

    cdef int _code(self, Batch batch, int64_t start, int64_t rows) noexcept nogil:
        """The codes of columns that travel as dictionaries."""
        cdef int i, outcome
        for i in range(self.stage.columns):
            if not self.stage.slots[i].coded:
                continue
            if self.memo_fresh:
                memo_reset(&self.memos[i])      # of values that a larger chunk left
            if scratch_alloc(<void **> &self.scratch[i].valid, self.rows_of.capacity) != 0:
                return CHUNK_NO_MEMORY
            if scratch_alloc(<void **> &self.scratch[i].bytes, self.rows_of.capacity) != 0:
                return CHUNK_NO_MEMORY
            read_valid(&batch.columns[i], start, rows, self.scratch[i].valid)
            outcome = memo_codes(&self.memos[i], &batch.columns[i], start, rows, self.scratch[i].bytes,
                                 self.scratch[i].valid)
            if outcome != MEMO_OK:
                return CHUNK_FLUSH if outcome == MEMO_FULL else CHUNK_NO_MEMORY
        return CHUNK_READY

    cdef int _scatter(self, Batch batch, int64_t start) noexcept nogil:
        cdef chunk_t *chunk = &self.rows_of.chunk
        cdef int64_t t
        cdef int i
        for t in range(chunk.runs):
            if stage_reserve(&self.stage, chunk.run[t].group, chunk.run[t].count) != 0:
                return CHUNK_NO_MEMORY
        for i in range(self.stage.columns):
            if self.stage.slots[i].stage == STAGE_NOTHING:
                continue
            if column_source(&batch.columns[i], &self.stage.slots[i], start, chunk.rows, &self.scratch[i],
                             &self.sources[i]) != 0:
                return CHUNK_NO_MEMORY
            if stage_column(&self.stage, i, &self.sources[i], chunk) != 0:
                return CHUNK_NO_MEMORY
        self.digest += self.rows_of.count(self.stage.group)
        for t in range(chunk.runs):
            self.group_rows[chunk.run[t].group] += chunk.run[t].count
            self.staged_rows += chunk.run[t].count
        self.rows += chunk.rows
        self.next_row += chunk.rows
        stage_advance(&self.stage, chunk)
        self.memo_fresh = False
        return CHUNK_READY

    # ---- columns that pyarrow takes

    def _take(self, source, int64_t start):
        """Nested columns of the chunk, in its order, as a slice for each group."""
        cdef chunk_t *chunk = &self.rows_of.chunk
        cdef int64_t t
        cdef bytes order = (<char *> chunk.order)[:4 * chunk.rows]
        indices = pa.Array.from_buffers(pa.uint32(), chunk.rows, [None, pa.py_buffer(order)])
        for column in self.nested:
            array = source.column(column).slice(start, chunk.rows).take(indices)
            if pa.types.is_dictionary(array.type):
                array = array.dictionary_decode()
            self.taken_bytes += array.nbytes
            for t in range(chunk.runs):
                slices = self.taken.setdefault(chunk.run[t].group, {}).setdefault(column, [])
                slices.append(array.slice(chunk.run[t].first, chunk.run[t].count))
        self.fallback_rows += chunk.rows

    def _taken_of(self, int64_t group):
        """A group's nested columns, in the order of its frame."""
        cdef int64_t rows = self.stage.group[group].rows
        cdef bytes order
        columns = {column: pa.concat_arrays(slices) for column, slices in self.taken.pop(group).items()}
        if self.stage.partitioned:
            order = (<char *> self.encoder.order)[:4 * rows]
            indices = pa.Array.from_buffers(pa.uint32(), rows, [None, pa.py_buffer(order)])
            columns = {column: array.take(indices) for column, array in columns.items()}
        return columns

    # ---- frames

    cdef Frame _emit(self, int64_t group):
        cdef frame_header_t header
        cdef uint32_t index = 0
        cdef buffer_t *payload
        cdef Frame frame
        with nogil:
            payload = encode_group(&self.encoder, group, &index)
        if payload == NULL:
            raise MemoryError(f"no memory for a frame of {self.stage.group[group].rows} rows")
        frame_header_init(&header, FRAME_DATA)
        header.group = <uint32_t> group
        header.rows = <uint32_t> self.stage.group[group].rows
        header.value = self.stage.group[group].digest
        header.flags = <unsigned short> CODECS[self.codec]
        header.length = <uint64_t> payload.size
        if self.stage.partitioned:
            header.flags |= FRAME_GROUPED
            header.partitions = index
        frame = frame_wrap(&header, payload)
        if self.nested or self.codec != "None":
            nested = self._taken_of(group) if self.nested else {}
            frame = recode(frame, aligned(8 * <int64_t> index), self.wire_schema, nested, self.codec, self.pool)
        stage_clear(&self.stage, group, self.stage_bytes)
        self.frames += 1
        return frame
