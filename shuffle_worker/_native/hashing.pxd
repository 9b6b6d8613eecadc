"""Contents of hashing.h: hash primitives, as Spark and Iceberg define them, and the mix that digests sum."""
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t


cdef extern from "hashing.h" nogil:
    uint64_t rotl64(uint64_t x, int r)
    uint64_t load_u64(const uint8_t *p)
    uint32_t load_u32(const uint8_t *p)
    uint64_t xxh64_u32(uint32_t value, uint64_t seed)
    uint64_t xxh64_u64(uint64_t value, uint64_t seed)
    uint64_t xxh64_bytes(const uint8_t *p, int64_t size, uint64_t seed)
    uint32_t murmur_u32(uint32_t value, uint32_t seed)
    uint32_t murmur_u64(uint64_t value, uint32_t seed)
    uint32_t murmur_spark_bytes(const uint8_t *p, int64_t size, uint32_t seed)
    uint32_t murmur_bytes(const uint8_t *p, int64_t size, uint32_t seed)
    uint64_t mix_row(uint64_t hash, uint64_t partition)
    uint32_t floor_mod(int64_t hash, int64_t n)
    uint32_t half_to_float_bits(uint16_t half)
    int64_t shortest_big_endian(const uint8_t *little, int width, uint8_t *out)
