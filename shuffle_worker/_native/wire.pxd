"""Contents of the wire_*.h headers, as far as Cython needs them. C++ only."""
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libcpp cimport bool as cpp_bool
from libcpp.deque cimport deque
from libcpp.memory cimport shared_ptr
from libcpp.string cimport string
from libcpp.vector cimport vector

from shuffle_worker._native.buffer cimport buffer_t
from shuffle_worker._native.frame cimport frame_header_t
from shuffle_worker._native.transport cimport wire_t


cdef extern from "wire_view.h" namespace "wire" nogil:
    cdef cppclass Count "wire::Count":
        int64_t load()
        void store(int64_t value)

    cdef cppclass Uid:
        Uid()
        Uid(const uint8_t *data)
        void put(uint8_t *data)

    cdef cppclass StreamKey:
        uint32_t map
        uint32_t epoch
        uint32_t attempt
        StreamKey()
        StreamKey(uint32_t map, uint32_t epoch, uint32_t attempt)
        StreamKey(const frame_header_t &header)
        cpp_bool all()

    cdef cppclass ReceiverTable:
        void *self
        int64_t (*grant)(void *self, const uint8_t *shuffle, int64_t wanted, int alone) noexcept
        void (*ungrant)(void *self, const uint8_t *shuffle, int64_t size) noexcept
        buffer_t *(*obtain)(void *self, const frame_header_t *header) noexcept
        int (*deliver)(void *self, const frame_header_t *header, buffer_t *payload) noexcept

    cdef cppclass Config:
        string name
        string host
        string advertise_host
        uint64_t incarnation
        int port
        vector[string] tokens
        int64_t window_bytes
        int64_t max_frame_bytes
        int64_t max_control_bytes
        int64_t control_queue_bytes
        int64_t max_connections
        int64_t max_strangers
        int64_t max_shuffles
        int64_t hello_timeout_ns
        int64_t connect_timeout_ns
        int64_t user_timeout_ns
        int64_t heartbeat_ns

    cdef cppclass Counters:
        Count frames_in
        Count frames_out
        Count bytes_in
        Count bytes_out
        Count messages_in
        Count messages_out
        Count accepted
        Count opened
        Count lost
        Count stalls
        Count stall_ns
        Count events_dropped

    int64_t count_fault(const Counters &counters, int number)
    int64_t count_verdict(const Counters &counters, int number)
    int64_t count_refusal(const Counters &counters, int number)

    cdef cppclass Granter:
        Count granted_total
        Count returned
        Count recalls

    cdef cppclass SocketAddress:
        pass

    cdef cppclass Event:
        int type
        string peer
        string address
        string text
        uint64_t incarnation
        uint64_t progress
        int role
        int reason
        int verdict
        cpp_bool inbound
        Uid shuffle
        StreamKey stream

    enum:
        EVENT_CONNECTED "wire::Event::CONNECTED"
        EVENT_LOST "wire::Event::LOST"
        EVENT_REJECTED "wire::Event::REJECTED"
        EVENT_HELLO_REJECTED "wire::Event::HELLO_REJECTED"
        EVENT_HEARTBEAT "wire::Event::HEARTBEAT"
        EVENT_MESSAGE "wire::Event::MESSAGE"

    cdef cppclass PeerView:
        string name
        string address
        string gave_up
        uint64_t incarnation
        cpp_bool connected
        cpp_bool connecting
        cpp_bool reading_paused
        int64_t inbound
        int64_t heard_ns
        int64_t progress
        int64_t frames_out
        int64_t bytes_out
        int64_t frames_in
        int64_t bytes_in
        int64_t queued_bytes
        int64_t credit_bytes
        int64_t stalled

    cdef cppclass Peer:
        int wait_open(int64_t deadline_ns)
        int verdict_of(const Uid &shuffle, const StreamKey &stream)
        string why()
        string address()
        string name

    cdef cppclass Wire:
        Wire(const Config &config, const ReceiverTable &receiver, int listener) except +
        int start()
        void close(int64_t timeout_ns)
        int64_t connect(const string &name, const string &host, int port, uint64_t incarnation,
                        vector[SocketAddress] addresses)
        void disconnect(const string &name)
        shared_ptr[Peer] peer(int64_t number)
        int64_t number_of(const string &name)
        int send(int64_t peer, const frame_header_t *header, buffer_t *payload, int64_t deadline_ns)
        int send_control(int64_t peer, const char *payload, size_t size)
        void abort_stream(const Uid &shuffle, const StreamKey &stream)
        void close_shuffle(const Uid &shuffle)
        cpp_bool closed()
        int event_fd()
        Granter &granter()
        Counters counters
        Count progress

    void credit_available "wire::Wire::credit_available" (void *wire) noexcept
    string resolve(const string &host, int port, cpp_bool passive, vector[SocketAddress] *to)
    int listen_on(const SocketAddress &address)
    int port_of(int fd)
    vector[PeerView] view_peers(Wire &wire)
    deque[Event] drain_events(Wire &wire)
