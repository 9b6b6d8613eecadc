"""A chunk of a batch: the hash, partition and group of each row, and its rows in order of their group. No columns."""
from libc.stdlib cimport calloc, free

from shuffle_worker._native.hashing cimport mix_row
from shuffle_worker._native.stage cimport run_t, tail_t

cdef enum:
    MIN_SPREAD = 4              # groups in a chunk for `chunk_t.spread`: with fewer, runs are copied whole,
    MAX_SPREAD = 256            # with more, their lanes' ends do not stay in the nearest cache


cdef class Chunk:

    def __cinit__(self, int64_t capacity, int64_t groups, int64_t partitions):
        cdef int64_t i
        self.capacity = capacity
        self.hashes = <uint64_t *> calloc(capacity, sizeof(uint64_t))
        self.groups = <uint32_t *> calloc(capacity, sizeof(uint32_t))
        self.counts = <uint32_t *> calloc(groups, sizeof(uint32_t))
        self.cursors = <uint32_t *> calloc(groups, sizeof(uint32_t))
        self.chunk.partitions = <uint32_t *> calloc(capacity, sizeof(uint32_t))
        self.chunk.order = <uint32_t *> calloc(capacity, sizeof(uint32_t))
        self.chunk.composed = <uint32_t *> calloc(capacity, sizeof(uint32_t))
        self.chunk.group = <uint16_t *> calloc(capacity, sizeof(uint16_t))
        self.chunk.place = <uint16_t *> calloc(capacity, sizeof(uint16_t))
        self.chunk.run = <run_t *> calloc(min(groups, capacity), sizeof(run_t))
        self.chunk.tails = <tail_t *> calloc(groups, sizeof(tail_t))
        if groups < partitions:
            self.group_of = <uint32_t *> calloc(partitions, sizeof(uint32_t))
        if (self.hashes == NULL or self.groups == NULL or self.counts == NULL or self.cursors == NULL
                or self.chunk.partitions == NULL or self.chunk.order == NULL or self.chunk.composed == NULL
                or self.chunk.group == NULL or self.chunk.place == NULL or self.chunk.run == NULL
                or self.chunk.tails == NULL or (groups < partitions and self.group_of == NULL)):
            raise MemoryError(f"no memory to put rows in order of {groups} groups")
        if groups < partitions:
            for i in range(partitions):
                self.group_of[i] = <uint32_t> (i * groups // partitions)

    def __dealloc__(self):
        free(self.hashes)
        free(self.groups)
        free(self.group_of)
        free(self.counts)
        free(self.cursors)
        free(self.chunk.partitions)
        free(self.chunk.order)
        free(self.chunk.composed)
        free(self.chunk.group)
        free(self.chunk.place)
        free(self.chunk.run)
        free(self.chunk.tails)

    cdef int route(self, Router router, Batch keys, int64_t start, int64_t rows, int64_t global_row) noexcept nogil:
        return router.route(keys, start, rows, global_row, self.hashes, self.chunk.partitions)

    cdef bint order(self, int64_t rows, const uint8_t *wanted, int64_t limit) noexcept nogil:
        cdef uint32_t *groups = self.chunk.partitions
        cdef int64_t i, first = 0
        cdef uint32_t g, count, touched = 0, most = 0
        cdef int64_t runs = 0
        if self.group_of != NULL:
            groups = self.groups
            for i in range(rows):
                groups[i] = self.group_of[self.chunk.partitions[i]]
        for i in range(rows):
            g = groups[i]
            count = self.counts[g]
            if count == 0:
                self.chunk.composed[touched] = g
                touched += 1
            self.counts[g] = count + 1
        for i in range(touched):
            g = self.chunk.composed[i]
            count = self.counts[g]
            self.counts[g] = 0
            most = max(most, count)
            self.cursors[g] = <uint32_t> first
            if wanted[g]:
                self.chunk.run[runs].group = g
                self.chunk.run[runs].count = count
                self.chunk.run[runs].first = first
                runs += 1
            first += count
        if most > limit:
            return False
        for i in range(rows):
            g = groups[i]
            self.chunk.order[self.cursors[g]] = <uint32_t> i
            self.cursors[g] += 1
        self.chunk.rows = rows
        self.chunk.runs = runs
        self.chunk.spread = runs == touched and MIN_SPREAD <= runs and runs <= MAX_SPREAD
        if self.chunk.spread:
            for i in range(runs):
                g = self.chunk.run[i].group
                self.cursors[g] = 0
            for i in range(rows):
                g = groups[i]
                self.chunk.group[i] = <uint16_t> g
                self.chunk.place[i] = <uint16_t> self.cursors[g]
                self.cursors[g] += 1
        return True

    cdef uint64_t count(self, group_t *groups) noexcept nogil:
        cdef uint64_t mixed, total = 0, whole = 0
        cdef int64_t i, t
        cdef run_t *run
        for i in range(self.chunk.rows):
            mixed = mix_row(self.hashes[i], self.chunk.partitions[i])
            self.hashes[i] = mixed
            whole += mixed
        for t in range(self.chunk.runs):
            run = &self.chunk.run[t]
            total = 0
            for i in range(run.count):
                total += self.hashes[self.chunk.order[run.first + i]]
            groups[run.group].digest += total
        return whole
