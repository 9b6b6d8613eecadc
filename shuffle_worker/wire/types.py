"""The transport's vocabulary: its limits, addresses, what it reports of peers, and the events it queues. Pure values.

An event is a fact about one connection. Whether a member is dead is for the coordinator to say, never for these.
"""

from typing import Literal

import msgspec

Role = Literal["data", "control"]
Reason = Literal[
    "refused", "reset", "timeout", "closed", "rejected_hello", "protocol", "corrupt", "replaced", "gave_up"
]
Verdict = Literal["taken", "duplicate", "fenced", "gap", "unknown", "no_memory", "too_large"]


class Address(msgspec.Struct, frozen=True):
    """Where a peer listens, and which start of it is meant (0: whichever is there)."""

    name: str
    host: str
    port: int
    incarnation: int = 0


class TransportLimits(msgspec.Struct, frozen=True):
    """What a peer or a stranger can make this process hold or wait for."""

    window_bytes: int = 8 << 20
    """Credit that one connection may have out for one shuffle, if memory allows."""
    max_frame_bytes: int = 256 << 20
    max_control_bytes: int = 16 << 20
    control_queue_bytes: int = 64 << 20
    """Control messages held for one peer: unsent (then send_control raises) or not drained (then reading stops)."""
    max_connections: int = 1024
    max_strangers: int = 64
    """Connections that have not been welcomed yet; the oldest makes room."""
    max_shuffles: int = 4096
    """Shuffles with credit on one connection."""
    hello_timeout_s: float = 5.0
    connect_timeout_s: float = 10.0
    """How long a lost or refused connection is tried again before the peer is given up."""
    user_timeout_s: float = 60.0
    """Bytes that the other side takes no notice of for so long end a connection (TCP_USER_TIMEOUT).

    Longer than a coordinator takes to declare a member dead: a process that is merely stopped keeps its connections.
    """
    heartbeat_s: float = 1.0


class TransportConfig(msgspec.Struct, frozen=True):
    """Who this process is and where it listens."""

    name: str
    incarnation: int
    host: str = "127.0.0.1"
    port: int = 0
    advertise_host: str = ""
    """The host that peers are told to connect to; `host` when empty."""
    tokens: tuple[str, ...] = ()
    """The first is shown to peers, all are accepted from them. Empty: nobody has to prove anything."""
    limits: TransportLimits = TransportLimits()


class PeerState(msgspec.Struct, frozen=True):
    """What is known of one incarnation of a peer. Times are ages in seconds, None: never."""

    name: str
    address: str
    incarnation: int
    connected: bool
    """Both of our connections to it are welcomed."""
    connecting: bool
    gave_up: str
    """Why no connection is tried any more, or an empty string."""
    inbound: int
    """Connections from it to us."""
    heard_age_s: float | None
    progress: int
    reading_paused: bool
    """Its control messages wait for `drain`; its heartbeats are then not heard either."""
    frames_out: int
    bytes_out: int
    frames_in: int
    bytes_in: int
    queued_bytes: int
    """Frames handed over by send and not yet written to the socket."""
    credit_bytes: int
    """What may be sent to it now, over all shuffles."""
    stalled_sends: int
    """Threads that wait for credit from it now."""


class Connected(msgspec.Struct, frozen=True):
    """A control connection was welcomed; `address` is where the peer listens."""

    peer: str
    incarnation: int
    address: str
    inbound: bool


class Lost(msgspec.Struct, frozen=True):
    """A connection ended or could not be made. `gave_up` comes last, when nothing more will be tried."""

    peer: str
    incarnation: int
    address: str
    role: Role
    inbound: bool
    reason: Reason
    what: str


class Rejected(msgspec.Struct, frozen=True):
    """The owner did not take a frame; further sends of that stream fail. `stream` None: of the whole shuffle.

    A stream is (map, epoch, attempt).
    """

    peer: str
    incarnation: int
    shuffle: bytes
    stream: tuple[int, int, int] | None
    verdict: Verdict


class HelloRejected(msgspec.Struct, frozen=True):
    """Somebody knocked at our door and was not let in."""

    address: str
    what: str


class Heartbeat(msgspec.Struct, frozen=True):
    """The latest progress counter heard from a peer; one for each peer and drain at most."""

    peer: str
    incarnation: int
    progress: int


class Message(msgspec.Struct, frozen=True):
    """A control message."""

    peer: str
    incarnation: int
    payload: bytes


Event = Connected | Lost | Rejected | HelloRejected | Heartbeat | Message
