"""One process's share of the data plane: buffers, budget, store, transport, and the control loop between them.

It moves frames and messages and routes what comes back; what they mean is for its users: the service and the jobs.
"""

import logging
from collections.abc import Callable

from shuffle_worker._native.budget import Budget, Permit
from shuffle_worker._native.buffer import BufferPool
from shuffle_worker._native.frame import Frame
from shuffle_worker._native.store import Store
from shuffle_worker._native.transport import Transport
from shuffle_worker.cluster.members import Member
from shuffle_worker.errors import AdmissionError, Fenced, PeerLost
from shuffle_worker.quantity import format_bytes
from shuffle_worker.service.loop import ControlLoop
from shuffle_worker.service.memory import resident_bytes
from shuffle_worker.settings import LOOPBACK, Settings
from shuffle_worker.store.directories import SpillDirectories
from shuffle_worker.store.limits import StoreLimits
from shuffle_worker.store.views import Notice
from shuffle_worker.wire.types import Address, Event, Message, TransportConfig, TransportLimits

log = logging.getLogger(__name__)

# Beyond what was resident at the start: the interpreter's own growth, thread stacks, allocator slack.
SLACK_BYTES = 24 << 20
LEAST_BUDGET_BYTES = 64 << 20
# Of the budget: above HIGH frames are spilled, until LOW is reached.
HIGH = 0.85
LOW = 0.75
# One part of so many is for the partitioners of map threads.
STAGING_SHARE = 8

VERDICT_TAKEN = 0
VERDICT_DUPLICATE = 1

MessageHandler = Callable[[str, int, bytes], None]
EventHandler = Callable[[Event], None]
NoticeHandler = Callable[[Notice], None]


class Node:
    """Owns the native parts. Handlers run on the control loop; everything else may be called from any thread."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.name = settings.name
        self.incarnation = settings.incarnation
        self.baseline_bytes = resident_bytes()
        self.limit_bytes = self._budget_bytes()
        self.pool = BufferPool(self.limit_bytes // 4)
        # Staging is malloc's, not the pool's: it is set aside rather than accounted.
        accounted_bytes = self.limit_bytes - self.limit_bytes // STAGING_SHARE
        permits = settings.map_threads + settings.sink_threads
        self.budget = Budget(self.pool, accounted_bytes, HIGH, LOW, permits=permits)
        self.directories = SpillDirectories(settings.spill_dirs, settings.cluster_uid, settings.incarnation)
        limits = StoreLimits(disk_reserve_bytes=settings.spill_reserve_bytes)
        self.store = Store(self.budget, limits, [str(path) for path in self.directories.paths])
        self.transport = Transport(self._transport_config(), self.store)
        self.loop = ControlLoop(f"control-{settings.name}")
        self._channels: dict[int, MessageHandler] = {}
        self._event_handlers: list[EventHandler] = []
        self._notice_handlers: dict[bytes, NoticeHandler] = {}
        self._peers: dict[str, Member] = {}
        self.loop.watch(self.transport.fileno(), self._on_transport)
        self.loop.watch(self.store.fileno(), self._on_store)
        self.loop.start()

    def _budget_bytes(self) -> int:
        left = self.settings.memory_bytes - self.baseline_bytes - SLACK_BYTES
        if left < LEAST_BUDGET_BYTES:
            raise AdmissionError(
                f"{format_bytes(self.settings.memory_bytes)} of memory is too little for a worker: "
                f"{format_bytes(self.baseline_bytes)} are in use before any data, and at least "
                f"{format_bytes(LEAST_BUDGET_BYTES + SLACK_BYTES)} more are needed: raise the memory limit"
            )
        return left

    def _transport_config(self) -> TransportConfig:
        timers = self.settings.timers
        return TransportConfig(
            name=self.name,
            incarnation=self.incarnation,
            host=self.settings.data_host,
            port=self.settings.data_port,
            advertise_host=self.settings.advertise_host,
            tokens=self.settings.tokens,
            limits=TransportLimits(
                window_bytes=self.window_bytes,
                heartbeat_s=timers.heartbeat_s,
                connect_timeout_s=timers.connect_s,
                user_timeout_s=timers.dead_s,
            ),
        )

    @property
    def window_bytes(self) -> int:
        """What one connection may have under way for one shuffle, and a good size of the largest frames."""
        return max(1 << 20, min(8 << 20, self.limit_bytes // 32))

    @property
    def member(self) -> Member:
        """This process as others reach it."""
        address = self.transport.address
        return Member(self.name, self.incarnation, address.host, address.port)

    @property
    def on_loopback(self) -> bool:
        """Whether all members are on this machine."""
        return self.settings.reachable_host in LOOPBACK

    # who is out there
    def connect(self, member: Member) -> None:
        """Begin to connect to a member (nothing for ourselves); control messages to it may then be sent."""
        if member.name != self.name and self._peers.get(member.name) != member:
            # In this order: another thread that finds the peer may send to it at once.
            self.transport.connect(Address(member.name, member.host, member.port, member.incarnation))
            self._peers[member.name] = member

    def disconnect(self, name: str) -> None:
        if self._peers.pop(name, None) is not None:
            self.transport.disconnect(name)

    def peer(self, name: str) -> Member | None:
        """The member to which messages for that name go."""
        return self._peers.get(name)

    def reconnect(self, name: str) -> None:
        """Try a peer that was given up anew; nothing for one that is connected or being tried."""
        member = self._peers.get(name)
        if member is not None:
            self.transport.connect(Address(member.name, member.host, member.port, member.incarnation))

    # control messages
    def serve_channel(self, channel: int, handler: MessageHandler) -> None:
        """Give messages of this channel (the first byte) to `handler(sender, incarnation, message)`."""
        self._channels[channel] = handler

    def tell(self, to: str, channel: int, message: bytes) -> None:
        """Send at most once; a message that cannot be sent is lost, as on any network: senders repeat what matters."""
        payload = bytes((channel,)) + message
        if to == self.name:
            self.loop.call(lambda: self._on_message(self.name, self.incarnation, payload))
            return
        try:
            self.transport.send_control(to, payload)
        except PeerLost as error:
            log.debug("a control message to %s was lost: %s", to, error)

    def serve_events(self, handler: EventHandler) -> None:
        """Give everything else that the transport reports to `handler` as well."""
        self._event_handlers.append(handler)

    def serve_notices(self, shuffle: bytes, handler: NoticeHandler) -> None:
        """Give the store's notices of this shuffle to `handler`."""
        self._notice_handlers[shuffle] = handler

    def forget_notices(self, shuffle: bytes) -> None:
        self._notice_handlers.pop(shuffle, None)

    # frames
    def push(self, owner: str, frame: Frame, timeout_s: float) -> None:
        """Hand a sealed frame to its owner: the store here, or the transport.

        :raises PeerLost, DeadlineExceeded, DiskFull: :raises Fenced: the owner does not take this stream.
        """
        if owner != self.name:
            self.transport.send(owner, frame, timeout_s)
            return
        verdict = self.store.put(frame, timeout_s)
        if verdict not in (VERDICT_TAKEN, VERDICT_DUPLICATE):
            raise Fenced(f"this worker takes no frame of attempt ({frame.epoch}, {frame.attempt}): verdict {verdict}")

    def permit(self, size: int, what: str, *, sink: bool = False) -> Permit:
        """Memory for a codec that allocates on its own; waits for it."""
        return self.store.permit(size, self.settings.timers.send_s, what, sink)

    def close(self) -> None:
        """End the loop, the transport, the store; remove this incarnation's spill directories."""
        self.loop.stop()
        self.transport.close()
        self.store.close()
        self.directories.close()

    # on the loop
    def _on_transport(self) -> None:
        for event in self.transport.drain():
            if isinstance(event, Message):
                self._on_message(event.peer, event.incarnation, event.payload)
            else:
                for handler in self._event_handlers:
                    handler(event)

    def _on_message(self, sender: str, incarnation: int, payload: bytes) -> None:
        handler = self._channels.get(payload[0]) if payload else None
        if handler is None:
            log.warning("a message of an unknown channel from %s was dropped", sender)
            return
        handler(sender, incarnation, payload[1:])

    def _on_store(self) -> None:
        for notice in self.store.notices():
            handlers = [self._notice_handlers.get(notice.shuffle)] if any(notice.shuffle) else []
            for handler in handlers or list(self._notice_handlers.values()):
                if handler is not None:
                    handler(notice)
