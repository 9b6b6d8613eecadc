/* CRC32C (Castagnoli, RFC 3720 appendix B.4): reflected polynomial 0x82f63b78, initial value and final xor all ones.
 *
 * With SSE4.2 three streams are interleaved, as the instruction has a latency of three and a throughput of one, and
 * joined by multiplying with x^(8n) mod P, for which 4 tables of 256 entries are built once per block length.
 */
#ifndef SHUFFLE_CRC32C_H
#define SHUFFLE_CRC32C_H

#include <pthread.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#ifdef __SSE4_2__
#include <nmmintrin.h>
#endif

#define CRC32C_POLY 0x82f63b78u
#define CRC32C_LONG 8192
#define CRC32C_SHORT 256

static uint32_t crc32c_table[8][256];
static uint32_t crc32c_long_shift[4][256];
static uint32_t crc32c_short_shift[4][256];
static pthread_once_t crc32c_once = PTHREAD_ONCE_INIT;

/* `vec` times the 32x32 bit matrix `mat`, over GF(2). */
static inline uint32_t crc32c_times(const uint32_t *mat, uint32_t vec) {
    uint32_t sum = 0;
    for (; vec; vec >>= 1, mat++) {
        if (vec & 1) sum ^= *mat;
    }
    return sum;
}

static inline void crc32c_square(uint32_t *to, const uint32_t *mat) {
    for (int n = 0; n < 32; n++) to[n] = crc32c_times(mat, mat[n]);
}

/* The tables that advance a CRC over `length` zero bytes; `length` is a power of two. */
static inline void crc32c_build_shift(uint32_t tables[4][256], size_t length) {
    uint32_t odd[32], even[32];
    odd[0] = CRC32C_POLY;
    for (int n = 1; n < 32; n++) odd[n] = 1u << (n - 1);
    crc32c_square(even, odd); /* two bits */
    crc32c_square(odd, even); /* four bits */
    uint32_t *from = odd, *to = even;
    for (; length; length >>= 1) { /* the first squaring makes one byte */
        crc32c_square(to, from);
        uint32_t *swap = from; from = to; to = swap;
    }
    for (uint32_t n = 0; n < 256; n++) {
        for (int k = 0; k < 4; k++) tables[k][n] = crc32c_times(from, n << (8 * k));
    }
}

static inline uint32_t crc32c_shift(uint32_t tables[4][256], uint32_t crc) {
    return tables[0][crc & 0xff] ^ tables[1][(crc >> 8) & 0xff] ^ tables[2][(crc >> 16) & 0xff] ^ tables[3][crc >> 24];
}

static void crc32c_build(void) {
    for (uint32_t n = 0; n < 256; n++) {
        uint32_t crc = n;
        for (int k = 0; k < 8; k++) crc = crc & 1 ? (crc >> 1) ^ CRC32C_POLY : crc >> 1;
        crc32c_table[0][n] = crc;
    }
    for (uint32_t n = 0; n < 256; n++) {
        uint32_t crc = crc32c_table[0][n];
        for (int k = 1; k < 8; k++) {
            crc = crc32c_table[0][crc & 0xff] ^ (crc >> 8);
            crc32c_table[k][n] = crc;
        }
    }
    crc32c_build_shift(crc32c_long_shift, CRC32C_LONG);
    crc32c_build_shift(crc32c_short_shift, CRC32C_SHORT);
}

/* Slicing by eight, for machines without the instruction and as the other answer in tests. `crc` is inverted. */
static inline uint32_t crc32c_tables(uint32_t crc, const uint8_t *p, size_t size) {
    for (; size >= 8; size -= 8, p += 8) {
        uint64_t word;
        memcpy(&word, p, 8);
        word ^= crc;
        crc = crc32c_table[7][word & 0xff] ^ crc32c_table[6][(word >> 8) & 0xff] ^ crc32c_table[5][(word >> 16) & 0xff]
            ^ crc32c_table[4][(word >> 24) & 0xff] ^ crc32c_table[3][(word >> 32) & 0xff]
            ^ crc32c_table[2][(word >> 40) & 0xff] ^ crc32c_table[1][(word >> 48) & 0xff] ^ crc32c_table[0][word >> 56];
    }
    for (; size; size--) crc = crc32c_table[0][(crc ^ *p++) & 0xff] ^ (crc >> 8);
    return crc;
}

#ifdef __SSE4_2__
static inline uint64_t crc32c_word(uint64_t crc, const uint8_t *p) {
    uint64_t word;
    memcpy(&word, p, 8);
    return _mm_crc32_u64(crc, word);
}

static inline uint32_t crc32c_blocks(uint32_t crc, const uint8_t **p, size_t *size, size_t block,
                                     uint32_t tables[4][256]) {
    while (*size >= 3 * block) {
        uint64_t a = crc, b = 0, c = 0;
        const uint8_t *at = *p, *end = at + block;
        for (; at < end; at += 8) {
            a = crc32c_word(a, at);
            b = crc32c_word(b, at + block);
            c = crc32c_word(c, at + 2 * block);
        }
        crc = crc32c_shift(tables, (uint32_t)a) ^ (uint32_t)b;
        crc = crc32c_shift(tables, crc) ^ (uint32_t)c;
        *p += 3 * block;
        *size -= 3 * block;
    }
    return crc;
}

static inline uint32_t crc32c_hardware(uint32_t crc, const uint8_t *p, size_t size) {
    crc = crc32c_blocks(crc, &p, &size, CRC32C_LONG, crc32c_long_shift);
    crc = crc32c_blocks(crc, &p, &size, CRC32C_SHORT, crc32c_short_shift);
    uint64_t wide = crc;
    for (; size >= 8; size -= 8, p += 8) wide = crc32c_word(wide, p);
    crc = (uint32_t)wide;
    for (; size; size--) crc = _mm_crc32_u8(crc, *p++);
    return crc;
}
#endif

/* The CRC of `data` following bytes whose CRC is `crc` (0 for none). */
static inline uint32_t crc32c(uint32_t crc, const void *data, size_t size) {
    pthread_once(&crc32c_once, crc32c_build);
#ifdef __SSE4_2__
    return ~crc32c_hardware(~crc, (const uint8_t *)data, size);
#else
    return ~crc32c_tables(~crc, (const uint8_t *)data, size);
#endif
}

static inline uint32_t crc32c_portable(uint32_t crc, const void *data, size_t size) {
    pthread_once(&crc32c_once, crc32c_build);
    return ~crc32c_tables(~crc, (const uint8_t *)data, size);
}

#endif
