"""Contents of wire_harness.h."""
from libc.stdint cimport int64_t, uint8_t, uint64_t
from libcpp cimport bool as cpp_bool
from libcpp.string cimport string
from libcpp.vector cimport vector

from shuffle_worker._native.wire cimport ReceiverTable


cdef extern from "wire_harness.h" namespace "wire" nogil:
    cdef cppclass Harness:
        Harness(const ReceiverTable &receiver, const vector[string] &tokens, uint64_t incarnation, int64_t window,
                int64_t max_frame, int64_t max_control) except +
        uint64_t accept()
        uint64_t dial(const string &name, uint64_t expect, cpp_bool data)
        cpp_bool feed(uint64_t connection, const uint8_t *data, size_t size)
        cpp_bool feed_straight(uint64_t connection, const uint8_t *data, size_t size)
        string output(uint64_t connection)
        void end(uint64_t connection)
        string reason(uint64_t connection)
        void advance(int64_t ns)
        int64_t outstanding(uint64_t connection, const uint8_t *shuffle)
        int64_t waiting()
        int64_t live()
        int64_t events()
