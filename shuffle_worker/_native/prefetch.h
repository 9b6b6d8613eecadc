/* Hints that lines of memory will soon be written; they change nothing but time. */
#ifndef SHUFFLE_PREFETCH_H
#define SHUFFLE_PREFETCH_H

#include <stdint.h>

#define LINE_BYTES 64

static inline void prefetch_line(const uint8_t *p) { __builtin_prefetch(p, 1, 3); }

static inline void prefetch_write(const uint8_t *p, int64_t size, int64_t most) {
    const uint8_t *end = p + (size < most ? size : most);
    for (; p < end; p += LINE_BYTES) __builtin_prefetch(p, 1, 3);
}

#endif
