"""Contents of hash.pyx: row hashes over key columns, and the partitions they mean."""
from libc.stdint cimport int64_t, uint32_t, uint64_t

from shuffle_worker._native.arrow cimport Batch, SchemaHold, column_t, type_t

cdef enum:
    XXHASH64 = 0
    SPARK_MURMUR3 = 1
    ICEBERG = 2

cdef enum:
    HASH_BLOCK = 512        # rows whose values are brought to one form at a time


# Chain rows [start, start + count) of a column into `hashes`; null rows leave theirs as it is.
cdef void hash_column(int function, const column_t *c, int64_t start, int64_t count, uint64_t *hashes,
                      bint same_seed) noexcept nogil
# Why `function` cannot hash this type; empty if it can.
cdef str hash_fault(const type_t *t, int function)
cdef int function_number(str name) except -1


cdef class KeyHasher:
    cdef readonly int function
    cdef int columns
    cdef int *index             # of each key in a batch

    # The key hashes of rows [start, start + count). Of 32-bit functions: the signed hash, extended.
    cdef void hash(self, Batch batch, int64_t start, int64_t count, uint64_t *hashes) noexcept nogil
    cdef void partition(self, const uint64_t *hashes, int64_t count, int64_t partitions, uint32_t *out) noexcept nogil


cdef KeyHasher key_hasher(SchemaHold hold, object names, int function)
