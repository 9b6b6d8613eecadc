# distutils: language = c++
"""The transport as Python holds it: frames and control messages between processes. The contract is in transport.pyi.

This module turns Python values into the transport's and back; sockets, credit and the protocol are in the wire_*.h
headers, which know nothing of Python. It sends and receives: what a frame means is the receiver's affair, and whether
a member is dead is the coordinator's.
"""
cimport cython
from libc.errno cimport EADDRINUSE, errno
from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.string cimport strerror
from libcpp.deque cimport deque
from libcpp.memory cimport shared_ptr
from libcpp.string cimport string
from libcpp.vector cimport vector

from shuffle_worker._native.buffer cimport buffer_t
from shuffle_worker._native.frame cimport Frame, frame_header_t
from shuffle_worker._native.monitor cimport deadline_in, monotonic_ns
from shuffle_worker._native.receiver cimport VERDICT_UNKNOWN, Receiver, waker_t
from shuffle_worker._native.wire cimport (
    EVENT_CONNECTED, EVENT_HEARTBEAT, EVENT_HELLO_REJECTED, EVENT_LOST, EVENT_MESSAGE, EVENT_REJECTED, Config,
    Counters, Event, Peer, PeerView, ReceiverTable, SocketAddress, StreamKey, Uid, Wire, count_fault, count_refusal,
    count_verdict, credit_available, drain_events, listen_on, port_of, resolve, view_peers,
)

import uuid

from shuffle_worker.errors import Cancelled, DeadlineExceeded, Fenced, InternalError, PeerError, PeerLost, UserError
from shuffle_worker.wire.types import (
    Address, Connected, Heartbeat, HelloRejected, Lost, Message, PeerState, Rejected,
)


cdef extern from "<unistd.h>" nogil:
    int close_fd "close" (int fd)


ROLES = ("data", "control")
REASONS = ("refused", "reset", "timeout", "closed", "rejected_hello", "protocol", "corrupt", "replaced", "gave_up")
VERDICT_NAMES = ("taken", "duplicate", "fenced", "gap", "unknown", "no_memory", "too_large")
FAULT_NAMES = ("", "magic", "version", "kind", "header_crc", "length", "payload_crc", "unexpected_kind",
               "over_credit", "too_many_shuffles", "hello")
REFUSAL_NAMES = ("", "token", "incarnation", "version", "malformed", "late", "too_many")


# ---- the receiver, as the I/O thread calls it

cdef int64_t _grant(void *receiver, const uint8_t *shuffle, int64_t wanted, int alone) noexcept nogil:
    return (<Receiver> receiver).grant(shuffle, wanted, alone != 0)


cdef void _ungrant(void *receiver, const uint8_t *shuffle, int64_t size) noexcept nogil:
    (<Receiver> receiver).ungrant(shuffle, size)


cdef buffer_t *_obtain(void *receiver, const frame_header_t *header) noexcept nogil:
    return (<Receiver> receiver).obtain(header)


cdef int _deliver(void *receiver, const frame_header_t *header, buffer_t *payload) noexcept nogil:
    return (<Receiver> receiver).deliver(header, payload)


cdef ReceiverTable _table(Receiver receiver) noexcept:
    cdef ReceiverTable table
    table.self = <void *> receiver
    table.grant = _grant
    table.ungrant = _ungrant
    table.obtain = _obtain
    table.deliver = _deliver
    return table


# ---- values in and out

cdef int64_t _ns(double seconds, str name) except -1:
    if not 0 < seconds < 1e9:
        raise ValueError(f"{name} is {seconds}: give a number of seconds above 0")
    return <int64_t> (seconds * 1e9)


cdef Config _config(config) except *:
    cdef Config c
    limits = config.limits
    for name in ("window_bytes", "max_frame_bytes", "max_control_bytes", "control_queue_bytes", "max_connections",
                 "max_strangers", "max_shuffles"):
        if getattr(limits, name) < 1:
            raise ValueError(f"limits.{name} is {getattr(limits, name)}: it must be at least 1")
    c.name = config.name.encode()
    if not 1 <= c.name.size() <= 255 or not config.name.isprintable():
        raise ValueError(f"a transport's name has 1 to 255 printable bytes, not {config.name!r}")
    c.host = config.host.encode()
    c.advertise_host = config.advertise_host.encode()
    c.incarnation = config.incarnation
    for token in config.tokens:
        c.tokens.push_back(<string> token.encode())
    c.window_bytes = limits.window_bytes
    c.max_frame_bytes = limits.max_frame_bytes
    c.max_control_bytes = limits.max_control_bytes
    c.control_queue_bytes = limits.control_queue_bytes
    c.max_connections = limits.max_connections
    c.max_strangers = limits.max_strangers
    c.max_shuffles = limits.max_shuffles
    c.hello_timeout_ns = _ns(limits.hello_timeout_s, "limits.hello_timeout_s")
    c.connect_timeout_ns = _ns(limits.connect_timeout_s, "limits.connect_timeout_s")
    c.user_timeout_ns = _ns(limits.user_timeout_s, "limits.user_timeout_s")
    c.heartbeat_ns = _ns(limits.heartbeat_s, "limits.heartbeat_s")
    return c


cdef str _text(const string &value):
    # Names and sentences come from other processes: what is not UTF-8 must not raise here.
    cdef bytes raw = value.data()[:value.size()]
    return raw.decode("utf-8", "replace")


cdef bytes _uid_bytes(Uid &uid):
    cdef uint8_t raw[16]
    uid.put(raw)
    return (<char *> raw)[:16]


cdef Uid _uid(bytes shuffle) except *:
    if len(shuffle) != 16:
        raise ValueError(f"a shuffle's UID has 16 bytes, not {len(shuffle)}")
    return Uid(<const uint8_t *> <const char *> shuffle)


cdef _event(Event &e):
    """One of wire.types.Event."""
    peer = _text(e.peer)
    if e.type == EVENT_MESSAGE:
        return Message(peer, e.incarnation, e.text.data()[:e.text.size()])
    if e.type == EVENT_HEARTBEAT:
        return Heartbeat(peer, e.incarnation, e.progress)
    if e.type == EVENT_CONNECTED:
        return Connected(peer, e.incarnation, _text(e.address), e.inbound)
    if e.type == EVENT_LOST:
        return Lost(peer, e.incarnation, _text(e.address), ROLES[e.role], e.inbound, REASONS[e.reason], _text(e.text))
    if e.type == EVENT_REJECTED:
        stream = None if e.stream.all() else (e.stream.map, e.stream.epoch, e.stream.attempt)
        return Rejected(peer, e.incarnation, _uid_bytes(e.shuffle), stream, VERDICT_NAMES[e.verdict])
    if e.type == EVENT_HELLO_REJECTED:
        return HelloRejected(_text(e.address), _text(e.text))
    raise InternalError(f"the transport queued an event of unknown type {e.type}")


cdef int _listen(config) except -1:
    """A listening socket. :raises UserError:"""
    cdef vector[SocketAddress] addresses
    cdef string host = config.host.encode()
    cdef int port = config.port
    cdef string fault
    cdef int fd
    with nogil:
        fault = resolve(host, port, True, &addresses)
    if not fault.empty():
        raise UserError(f"cannot listen on {config.host}: {_text(fault)}")
    fd = listen_on(addresses[0])
    if fd >= 0:
        return fd
    if errno == EADDRINUSE:
        raise UserError(f"port {config.port} on {config.host} is in use: choose another, or 0 for any free one")
    raise UserError(f"cannot listen on {config.host}:{config.port}: {strerror(errno).decode()}")


cdef inline Wire *_core(Transport transport) noexcept nogil:
    return <Wire *> transport.wire


cdef void _shut(Transport transport, int64_t timeout_ns) noexcept:
    with nogil:
        # Nobody rings any more once the thread is gone.
        _core(transport).close(timeout_ns)
        transport.receiver.attach(NULL, NULL)


cdef str _describe(shared_ptr[Peer] &peer):
    if peer.get() == NULL:
        return "the peer"
    return f"{_text(peer.get().name)} at {_text(peer.get().address())}"


cdef str _why(shared_ptr[Peer] &peer):
    if peer.get() == NULL:
        return "it was disconnected"
    return _text(peer.get().why()) or "nothing was heard of it yet"


# The I/O thread calls the receiver until __dealloc__ has ended it: the collector must not clear it before.
@cython.no_gc_clear
cdef class Transport:
    """See transport.pyi."""

    def __cinit__(self, config, Receiver receiver not None):
        cdef Config c = _config(config)
        cdef int listener = _listen(config)
        cdef int fault
        c.port = port_of(listener)
        self._config = config
        self.receiver = receiver
        self.address = Address(config.name, config.advertise_host or config.host, c.port, config.incarnation)
        self.wire = <wire_t *> new Wire(c, _table(receiver), listener)
        fault = _core(self).start()
        if fault != 0:
            raise UserError(f"cannot start the transport of {config.name}: {strerror(fault).decode()}")
        receiver.attach(<waker_t> credit_available, <void *> self.wire)

    def __dealloc__(self):
        cdef Wire *wire
        if self.wire != NULL:
            _shut(self, 0)
            wire = _core(self)
            del wire

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self, timeout_s: float = 5.0) -> None:
        cdef int64_t timeout_ns = _ns(timeout_s, "timeout_s")
        _shut(self, timeout_ns)

    # ---- peers

    def connect(self, peer) -> None:
        cdef vector[SocketAddress] addresses
        cdef string name = peer.name.encode()
        cdef string host = peer.host.encode()
        cdef int port = peer.port
        cdef uint64_t incarnation = peer.incarnation
        cdef string fault
        if not 1 <= port <= 65535:
            raise UserError(f"{peer.name} cannot be at port {port}: ports are 1 to 65535")
        with nogil:
            fault = resolve(host, port, False, &addresses)
        if not fault.empty():
            raise UserError(f"{peer.name} cannot be reached at {peer.host}: {_text(fault)}")
        with nogil:
            _core(self).connect(name, host, port, incarnation, addresses)

    def disconnect(self, name: str) -> None:
        cdef string raw = name.encode()
        with nogil:
            _core(self).disconnect(raw)

    def wait_connected(self, name: str, timeout_s: float) -> None:
        cdef shared_ptr[Peer] peer = _core(self).peer(self.peer_number(name))
        cdef int64_t deadline_ns = deadline_in(timeout_s)
        cdef int outcome = 2
        if peer.get() != NULL:
            with nogil:
                outcome = peer.get().wait_open(deadline_ns)
        if outcome == 2:
            raise PeerLost(f"{_describe(peer)} is lost: {_why(peer)}")
        if outcome == 1:
            raise DeadlineExceeded(
                f"waited {timeout_s:g} s for a connection to {_describe(peer)}: {_why(peer)}"
            )

    def peers(self):
        cdef vector[PeerView] views
        cdef PeerView v
        with nogil:
            views = view_peers(_core(self)[0])
        cdef int64_t now = monotonic_ns()
        return [
            PeerState(
                name=_text(v.name), address=_text(v.address), incarnation=v.incarnation, connected=v.connected,
                connecting=v.connecting, gave_up=_text(v.gave_up), inbound=v.inbound,
                heard_age_s=None if v.heard_ns == 0 else max(now - v.heard_ns, 0) / 1e9,
                progress=<uint64_t> v.progress, reading_paused=v.reading_paused, frames_out=v.frames_out,
                bytes_out=v.bytes_out, frames_in=v.frames_in, bytes_in=v.bytes_in, queued_bytes=v.queued_bytes,
                credit_bytes=v.credit_bytes, stalled_sends=v.stalled,
            )
            for v in views
        ]

    # ---- data

    def send(self, peer: str, frame: Frame, timeout_s: float) -> None:
        cdef Frame sent = frame
        cdef int64_t number = self.peer_number(peer)
        cdef int64_t since = monotonic_ns()
        cdef int64_t deadline_ns = deadline_in(timeout_s)
        cdef int fault
        with nogil:
            fault = self.send_frame(number, &sent.header, sent.payload, deadline_ns)
        if fault != SEND_OK:
            self.raise_fault(fault, number, &sent.header, (monotonic_ns() - since) / 1e9)

    def abort_stream(self, shuffle: bytes, map: int, epoch: int, attempt: int) -> None:
        cdef Uid uid = _uid(shuffle)
        cdef StreamKey stream = StreamKey(map, epoch, attempt)
        with nogil:
            _core(self).abort_stream(uid, stream)

    def close_shuffle(self, shuffle: bytes) -> None:
        cdef Uid uid = _uid(shuffle)
        with nogil:
            _core(self).close_shuffle(uid)

    # ---- control

    def send_control(self, peer: str, payload: bytes) -> None:
        cdef int64_t number = self.peer_number(peer)
        cdef const char *data = payload
        cdef size_t size = len(payload)
        cdef int fault
        with nogil:
            fault = _core(self).send_control(number, data, size)
        if fault == 0:
            return
        if fault == 4:
            raise Cancelled(f"the transport of {self._config.name} is closed")
        if fault == 5:
            raise UserError(f"a control message of {size} bytes is longer than the "
                            f"{self._config.limits.max_control_bytes} that are allowed")
        cdef shared_ptr[Peer] to = _core(self).peer(number)
        if fault == 1:
            raise PeerLost(f"{_describe(to)} does not take its control messages: the queue is full "
                           f"({self._config.limits.control_queue_bytes} bytes)")
        raise PeerLost(f"{_describe(to)} is lost: {_why(to)}")

    def drain(self):
        cdef deque[Event] events
        with nogil:
            events = drain_events(_core(self)[0])
        cdef size_t i
        return [_event(events[i]) for i in range(events.size())]

    def fileno(self) -> int:
        return _core(self).event_fd()

    def set_progress(self, progress: int) -> None:
        _core(self).progress.store(<int64_t> <uint64_t> progress)

    def stats(self):
        cdef Wire *wire = _core(self)
        cdef Counters *c = &wire.counters
        return {
            "frames_in": c.frames_in.load(), "frames_out": c.frames_out.load(),
            "bytes_in": c.bytes_in.load(), "bytes_out": c.bytes_out.load(),
            "messages_in": c.messages_in.load(), "messages_out": c.messages_out.load(),
            "connections_accepted": c.accepted.load(), "connections_opened": c.opened.load(),
            "connections_lost": c.lost.load(),
            "credit_stalls": c.stalls.load(), "credit_stall_s": c.stall_ns.load() / 1e9,
            "credit_granted_bytes": wire.granter().granted_total.load(),
            "credit_returned_bytes": wire.granter().returned.load(),
            "credit_recalls": wire.granter().recalls.load(),
            "events_dropped": c.events_dropped.load(),
            "refused_frames": {
                **{FAULT_NAMES[i]: count_fault(c[0], i) for i in range(1, len(FAULT_NAMES))},
                **{VERDICT_NAMES[i]: count_verdict(c[0], i) for i in range(1, len(VERDICT_NAMES))},
            },
            "refused_hellos": {REFUSAL_NAMES[i]: count_refusal(c[0], i) for i in range(1, len(REFUSAL_NAMES))},
        }

    # ---- for native callers

    cdef int64_t peer_number(self, str name) except -1:
        cdef int64_t number = _core(self).number_of(<string> name.encode())
        if number < 0:
            known = ", ".join(sorted(state.name for state in self.peers())) or "none"
            raise UserError(f"no peer is named {name!r}: the known peers are {known}")
        return number

    cdef int send_frame(self, int64_t peer, const frame_header_t *header, buffer_t *payload,
                        int64_t deadline_ns) noexcept nogil:
        return _core(self).send(peer, header, payload, deadline_ns)

    cdef raise_fault(self, int fault, int64_t peer, const frame_header_t *header, double waited_s):
        cdef shared_ptr[Peer] to = _core(self).peer(peer)
        cdef int verdict = VERDICT_UNKNOWN
        cdef uint64_t length = header.length
        shuffle = uuid.UUID(bytes=(<char *> header.shuffle)[:16])
        stream = f"map {header.map} attempt ({header.epoch}, {header.attempt}) of shuffle {shuffle}"
        who = _describe(to)
        if fault == SEND_DEADLINE:
            raise DeadlineExceeded(f"waited {waited_s:.3g} s for credit from {who} for {length} bytes of {stream}")
        if fault == SEND_LOST:
            raise PeerLost(f"{who} is lost, and {stream} with it: {_why(to)}")
        if fault == SEND_REJECTED:
            if to.get() != NULL:
                verdict = to.get().verdict_of(Uid(header.shuffle), StreamKey(header[0]))
            raise Fenced(f"{who} does not take {stream} ({VERDICT_NAMES[verdict]}): begin another attempt")
        if fault == SEND_CANCELLED:
            raise Cancelled(f"{stream} was aborted while it was sent to {who}")
        if fault == SEND_CLOSED:
            raise Cancelled(f"the transport of {self._config.name} is closed")
        if fault == SEND_TOO_LARGE:
            raise UserError(f"a frame of {length} bytes of {stream} is larger than {who} takes: make smaller frames")
        if fault == SEND_NO_PEER:
            raise PeerLost(f"the peer of {stream} was disconnected")
        raise PeerError(f"sending to {who} failed with code {fault}")
