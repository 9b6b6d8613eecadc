"""Contents of monitor.h."""
from libc.stdint cimport int64_t


cdef extern from "monitor.h" nogil:
    ctypedef struct monitor_t:
        pass

    int monitor_init(monitor_t *m)
    void monitor_destroy(monitor_t *m)
    void monitor_lock(monitor_t *m)
    void monitor_unlock(monitor_t *m)
    void monitor_notify(monitor_t *m)
    int monitor_wait(monitor_t *m, int64_t deadline_ns)
    int64_t monotonic_ns()
    int64_t deadline_in(double seconds)
    int atomic_get(const int *flag)
    void atomic_set(int *flag, int value)
    int atomic_swap(int *flag, int value)
    int64_t atomic_get64(const int64_t *value)
    void atomic_set64(int64_t *to, int64_t value)
