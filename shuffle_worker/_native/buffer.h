/* Reference-counted byte buffers from a pool that keeps their pages warm.
 *
 * First-touching a fresh page costs about seven times a warm one, so freed buffers go to a free list of their size
 * class and only what exceeds `keep_bytes` goes back to the system. Size classes run from 4 KiB to 64 MiB: powers of
 * two, and from 64 KiB on also the three quarters between two of them, so that a buffer is at most a quarter too large.
 * A larger buffer is exact and never kept. Thread-safe; needs no GIL. Accounting of who may hold how much is not done
 * here: see budget.pyx.
 */
#ifndef SHUFFLE_BUFFER_H
#define SHUFFLE_BUFFER_H

#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>

#define BUFFER_MIN_SHIFT 12
#define BUFFER_MAX_SHIFT 26
#define BUFFER_STEPS 4             /* classes from one power of two to the next, where pages are small enough */
#define BUFFER_STEPS_SHIFT 16
#define BUFFER_CLASSES ((BUFFER_MAX_SHIFT - BUFFER_MIN_SHIFT + 1) * BUFFER_STEPS)
#define BUFFER_MAX_BYTES ((int64_t)1 << 40)

struct buffer_pool;

typedef struct buffer {
    uint8_t *data;        /* 4096-aligned */
    int64_t size;         /* bytes in use, set by the writer */
    int64_t capacity;     /* bytes mapped */
    int32_t refs;
    int32_t size_class;   /* -1: exact, never kept */
    struct buffer_pool *pool;
    struct buffer *next;  /* in a free list */
} buffer_t;

typedef struct buffer_pool {
    pthread_mutex_t lock;
    buffer_t *free_list[BUFFER_CLASSES];
    int64_t kept_bytes;   /* in the free lists */
    int64_t keep_bytes;   /* the most that the free lists may hold */
    int64_t live_bytes;   /* in buffers that somebody holds */
    int64_t live_count;
    void (*freed)(void *context); /* called, with no lock held, after a buffer was given back; may be NULL */
    void *freed_context;
} buffer_pool_t;

static inline void buffer_release_memory(buffer_t *b) {
    munmap(b->data, (size_t)b->capacity);
    free(b);
}

static inline buffer_pool_t *buffer_pool_new(int64_t keep_bytes) {
    buffer_pool_t *pool = (buffer_pool_t *)calloc(1, sizeof(buffer_pool_t));
    if (pool == NULL) return NULL;
    if (pthread_mutex_init(&pool->lock, NULL) != 0) { free(pool); return NULL; }
    pool->keep_bytes = keep_bytes;
    return pool;
}

/* Whom to tell of buffers given back. Call before the pool is shared, and never free `context`. */
static inline void buffer_pool_on_freed(buffer_pool_t *pool, void (*freed)(void *context), void *context) {
    pthread_mutex_lock(&pool->lock);
    pool->freed = freed;
    pool->freed_context = context;
    pthread_mutex_unlock(&pool->lock);
}

static inline void buffer_pool_usage(buffer_pool_t *pool, int64_t *live_bytes, int64_t *kept_bytes) {
    pthread_mutex_lock(&pool->lock);
    *live_bytes = pool->live_bytes;
    *kept_bytes = pool->kept_bytes;
    pthread_mutex_unlock(&pool->lock);
}

/* Give the free lists' memory back to the system, down to `keep` bytes. */
static inline void buffer_pool_trim(buffer_pool_t *pool, int64_t keep) {
    pthread_mutex_lock(&pool->lock);
    for (int c = BUFFER_CLASSES - 1; c >= 0; c--) {
        while (pool->kept_bytes > keep && pool->free_list[c] != NULL) {
            buffer_t *b = pool->free_list[c];
            pool->free_list[c] = b->next;
            pool->kept_bytes -= b->capacity;
            buffer_release_memory(b);
        }
    }
    pthread_mutex_unlock(&pool->lock);
}

/* The bytes that a buffer for `size` bytes really takes; -1 when no buffer may be that large. */
static inline int64_t buffer_capacity_for(int64_t size, int *size_class) {
    if (size < 0 || size > BUFFER_MAX_BYTES) return -1;
    int shift = BUFFER_MIN_SHIFT;
    while (shift <= BUFFER_MAX_SHIFT && ((int64_t)1 << shift) < size) shift++;
    if (shift > BUFFER_MAX_SHIFT) { *size_class = -1; return (size + 4095) & ~(int64_t)4095; }
    int64_t capacity = (int64_t)1 << shift;
    int step = 0; /* quarters of the lower power of two that this one may be smaller by */
    if (shift > BUFFER_STEPS_SHIFT) {
        int64_t quarter = capacity >> 3;
        while (step < BUFFER_STEPS - 1 && capacity - quarter >= size) {
            capacity -= quarter;
            step++;
        }
    }
    *size_class = (shift - BUFFER_MIN_SHIFT) * BUFFER_STEPS + step;
    return capacity;
}

/* A buffer of at least `size` bytes with one reference and size 0; NULL when there is no memory. */
static inline buffer_t *buffer_new(buffer_pool_t *pool, int64_t size) {
    int size_class;
    int64_t capacity = buffer_capacity_for(size, &size_class);
    if (capacity < 0) return NULL;
    buffer_t *b = NULL;
    pthread_mutex_lock(&pool->lock);
    if (size_class >= 0 && pool->free_list[size_class] != NULL) {
        b = pool->free_list[size_class];
        pool->free_list[size_class] = b->next;
        pool->kept_bytes -= b->capacity;
    }
    pool->live_bytes += capacity;
    pool->live_count += 1;
    pthread_mutex_unlock(&pool->lock);
    if (b == NULL) {
        b = (buffer_t *)calloc(1, sizeof(buffer_t));
        void *data = b == NULL ? MAP_FAILED
            : mmap(NULL, (size_t)capacity, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (data == MAP_FAILED) {
            free(b);
            pthread_mutex_lock(&pool->lock);
            pool->live_bytes -= capacity;
            pool->live_count -= 1;
            pthread_mutex_unlock(&pool->lock);
            return NULL;
        }
        b->data = (uint8_t *)data;
        b->capacity = capacity;
        b->size_class = size_class;
        b->pool = pool;
    }
    b->size = 0;
    b->next = NULL;
    __atomic_store_n(&b->refs, 1, __ATOMIC_RELAXED);
    return b;
}

static inline void buffer_ref(buffer_t *b) { __atomic_add_fetch(&b->refs, 1, __ATOMIC_RELAXED); }

static inline void buffer_unref(buffer_t *b) {
    if (b == NULL || __atomic_sub_fetch(&b->refs, 1, __ATOMIC_ACQ_REL) != 0) return;
    buffer_pool_t *pool = b->pool;
    int keep;
    pthread_mutex_lock(&pool->lock);
    void (*freed)(void *context) = pool->freed;
    void *context = pool->freed_context;
    pool->live_bytes -= b->capacity;
    pool->live_count -= 1;
    keep = b->size_class >= 0 && pool->kept_bytes + b->capacity <= pool->keep_bytes;
    if (keep) {
        b->next = pool->free_list[b->size_class];
        pool->free_list[b->size_class] = b;
        pool->kept_bytes += b->capacity;
    }
    pthread_mutex_unlock(&pool->lock);
    if (!keep) buffer_release_memory(b);
    if (freed != NULL) freed(context);
}

#endif
