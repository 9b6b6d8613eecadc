/* A mutex with one condition on the monotonic clock. Waits take a deadline in ns of that clock. Needs no GIL. */
#ifndef SHUFFLE_MONITOR_H
#define SHUFFLE_MONITOR_H

#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <time.h>

typedef struct monitor {
    pthread_mutex_t mutex;
    pthread_cond_t changed;
} monitor_t;

/* 0, or an errno. */
static inline int monitor_init(monitor_t *m) {
    pthread_condattr_t attributes;
    int fault = pthread_mutex_init(&m->mutex, NULL);
    if (fault == 0) fault = pthread_condattr_init(&attributes);
    if (fault != 0) return fault;
    fault = pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    if (fault == 0) fault = pthread_cond_init(&m->changed, &attributes);
    pthread_condattr_destroy(&attributes);
    return fault;
}

static inline void monitor_destroy(monitor_t *m) {
    pthread_cond_destroy(&m->changed);
    pthread_mutex_destroy(&m->mutex);
}

static inline void monitor_lock(monitor_t *m) { pthread_mutex_lock(&m->mutex); }
static inline void monitor_unlock(monitor_t *m) { pthread_mutex_unlock(&m->mutex); }
static inline void monitor_notify(monitor_t *m) { pthread_cond_broadcast(&m->changed); }

static inline int64_t monotonic_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* The deadline `seconds` from now; a century for anything longer, now for anything negative or not a number. */
static inline int64_t deadline_in(double seconds) {
    if (!(seconds > 0)) return monotonic_ns();
    return monotonic_ns() + (int64_t)((seconds < 3e9 ? seconds : 3e9) * 1e9);
}

/* Wait for a notification, spurious ones too. 1 when the deadline has passed, else 0. The mutex is held. */
static inline int monitor_wait(monitor_t *m, int64_t deadline_ns) {
    struct timespec until = {.tv_sec = deadline_ns / 1000000000, .tv_nsec = deadline_ns % 1000000000};
    return pthread_cond_timedwait(&m->changed, &m->mutex, &until) == ETIMEDOUT;
}

static inline int atomic_get(const int *flag) { return __atomic_load_n(flag, __ATOMIC_SEQ_CST); }
static inline void atomic_set(int *flag, int value) { __atomic_store_n(flag, value, __ATOMIC_SEQ_CST); }
static inline int atomic_swap(int *flag, int value) { return __atomic_exchange_n(flag, value, __ATOMIC_SEQ_CST); }
static inline int64_t atomic_get64(const int64_t *value) { return __atomic_load_n(value, __ATOMIC_SEQ_CST); }
static inline void atomic_set64(int64_t *to, int64_t value) { __atomic_store_n(to, value, __ATOMIC_SEQ_CST); }

#endif
