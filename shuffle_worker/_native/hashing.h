/* Hash primitives, as Spark and Iceberg define them, and the mix that digests sum. Pure.
 *
 * XXH64: https://github.com/Cyan4973/xxHash/blob/dev/doc/xxhash_spec.md
 * Murmur3_x86_32: A. Appleby, MurmurHash3, public domain; Spark's variant differs in its tail, see below.
 */
#ifndef SHUFFLE_HASHING_H
#define SHUFFLE_HASHING_H

#include <stdint.h>
#include <string.h>

#define XXH_P1 0x9E3779B185EBCA87ULL
#define XXH_P2 0xC2B2AE3D27D4EB4FULL
#define XXH_P3 0x165667B19E3779F9ULL
#define XXH_P4 0x85EBCA77C2B2AE63ULL
#define XXH_P5 0x27D4EB2F165667C5ULL

static inline uint64_t rotl64(uint64_t x, int r) { return (x << r) | (x >> (64 - r)); }
static inline uint32_t rotl32(uint32_t x, int r) { return (x << r) | (x >> (32 - r)); }
static inline uint64_t load_u64(const uint8_t *p) { uint64_t v; memcpy(&v, p, 8); return v; }
static inline uint32_t load_u32(const uint8_t *p) { uint32_t v; memcpy(&v, p, 4); return v; }

static inline uint64_t xxh64_end(uint64_t h) {
    h ^= h >> 33;
    h *= XXH_P2;
    h ^= h >> 29;
    h *= XXH_P3;
    return h ^ (h >> 32);
}

/* XXH64 of the 4 little-endian bytes of a value. */
static inline uint64_t xxh64_u32(uint32_t value, uint64_t seed) {
    uint64_t h = seed + XXH_P5 + 4;
    h ^= (uint64_t)value * XXH_P1;
    h = rotl64(h, 23) * XXH_P2 + XXH_P3;
    return xxh64_end(h);
}

/* XXH64 of the 8 little-endian bytes of a value. */
static inline uint64_t xxh64_u64(uint64_t value, uint64_t seed) {
    uint64_t h = seed + XXH_P5 + 8;
    h ^= rotl64(value * XXH_P2, 31) * XXH_P1;
    h = rotl64(h, 27) * XXH_P1 + XXH_P4;
    return xxh64_end(h);
}

static inline uint64_t xxh64_round(uint64_t lane, uint64_t input) {
    return rotl64(lane + input * XXH_P2, 31) * XXH_P1;
}

static inline uint64_t xxh64_merge(uint64_t h, uint64_t lane) {
    return (h ^ xxh64_round(0, lane)) * XXH_P1 + XXH_P4;
}

static inline uint64_t xxh64_bytes(const uint8_t *p, int64_t size, uint64_t seed) {
    uint64_t h;
    int64_t left = size;
    if (size >= 32) {
        uint64_t a = seed + XXH_P1 + XXH_P2, b = seed + XXH_P2, c = seed, d = seed - XXH_P1;
        for (; left >= 32; left -= 32, p += 32) {
            a = xxh64_round(a, load_u64(p));
            b = xxh64_round(b, load_u64(p + 8));
            c = xxh64_round(c, load_u64(p + 16));
            d = xxh64_round(d, load_u64(p + 24));
        }
        h = rotl64(a, 1) + rotl64(b, 7) + rotl64(c, 12) + rotl64(d, 18);
        h = xxh64_merge(xxh64_merge(xxh64_merge(xxh64_merge(h, a), b), c), d);
    } else {
        h = seed + XXH_P5;
    }
    h += (uint64_t)size;
    for (; left >= 8; left -= 8, p += 8) h = rotl64(h ^ xxh64_round(0, load_u64(p)), 27) * XXH_P1 + XXH_P4;
    if (left >= 4) {
        h = rotl64(h ^ (uint64_t)load_u32(p) * XXH_P1, 23) * XXH_P2 + XXH_P3;
        left -= 4;
        p += 4;
    }
    for (; left > 0; left--, p++) h = rotl64(h ^ *p * XXH_P5, 11) * XXH_P1;
    return xxh64_end(h);
}

static inline uint32_t murmur_k(uint32_t k) { return rotl32(k * 0xcc9e2d51u, 15) * 0x1b873593u; }
static inline uint32_t murmur_h(uint32_t h, uint32_t k) { return rotl32(h ^ murmur_k(k), 13) * 5 + 0xe6546b64u; }

static inline uint32_t murmur_end(uint32_t h, uint32_t size) {
    h ^= size;
    h = (h ^ (h >> 16)) * 0x85ebca6bu;
    h = (h ^ (h >> 13)) * 0xc2b2ae35u;
    return h ^ (h >> 16);
}

static inline uint32_t murmur_u32(uint32_t value, uint32_t seed) { return murmur_end(murmur_h(seed, value), 4); }

static inline uint32_t murmur_u64(uint64_t value, uint32_t seed) {
    return murmur_end(murmur_h(murmur_h(seed, (uint32_t)value), (uint32_t)(value >> 32)), 8);
}

/* Spark's: each byte of the tail is a signed word of its own. */
static inline uint32_t murmur_spark_bytes(const uint8_t *p, int64_t size, uint32_t seed) {
    uint32_t h = seed;
    int64_t left = size;
    for (; left >= 4; left -= 4, p += 4) h = murmur_h(h, load_u32(p));
    for (; left > 0; left--, p++) h = murmur_h(h, (uint32_t)(int32_t)(int8_t)*p);
    return murmur_end(h, (uint32_t)size);
}

/* The standard one, which Iceberg uses. */
static inline uint32_t murmur_bytes(const uint8_t *p, int64_t size, uint32_t seed) {
    uint32_t h = seed, k = 0;
    int64_t left = size;
    for (; left >= 4; left -= 4, p += 4) h = murmur_h(h, load_u32(p));
    for (int64_t i = left - 1; i >= 0; i--) k = (k << 8) | p[i];
    if (left > 0) h ^= murmur_k(k);
    return murmur_end(h, (uint32_t)size);
}

/* What one row adds to a digest. A bijection of `hash` for each partition (splitmix64's finalizer, D. Lemire and
 * S. Vigna), so that rows of one key in two partitions, or swapped between two, do not cancel. */
static inline uint64_t mix_row(uint64_t hash, uint64_t partition) {
    uint64_t z = hash + (partition + 1) * 0x9E3779B97F4A7C15ULL;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ULL;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBULL;
    return z ^ (z >> 31);
}

/* Signed hash to partition, rounding down as Spark's pmod does. */
static inline uint32_t floor_mod(int64_t hash, int64_t n) {
    int64_t r = hash % n;
    return (uint32_t)(r + ((r >> 63) & n));
}

/* IEEE half to single precision, exactly. */
static inline uint32_t half_to_float_bits(uint16_t half) {
    uint32_t sign = (uint32_t)(half & 0x8000) << 16, exponent = (half >> 10) & 31, fraction = half & 1023;
    if (exponent == 31) return sign | 0x7f800000u | fraction << 13;
    if (exponent == 0) {
        if (fraction == 0) return sign;
        for (exponent = 113; !(fraction & 1024); exponent--) fraction <<= 1;
        return sign | exponent << 23 | (fraction & 1023) << 13;
    }
    return sign | (exponent + 112) << 23 | fraction << 13;
}

/* A little-endian two's complement number as its shortest big-endian one (java.math.BigInteger.toByteArray). */
static inline int64_t shortest_big_endian(const uint8_t *little, int width, uint8_t *out) {
    uint8_t fill = little[width - 1] & 0x80 ? 0xff : 0;
    int size = width;
    while (size > 1 && little[size - 1] == fill && ((little[size - 2] ^ fill) & 0x80) == 0) size--;
    for (int i = 0; i < size; i++) out[i] = little[size - 1 - i];
    return size;
}

#endif
