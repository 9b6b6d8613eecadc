"""Who is in the service: joining, leaving, heartbeats, and connections to members, made when first needed.

The first member is the registrar: it alone changes the list, numbers the members and declares one dead. A member whose
process is gone is dead at once (its connection broke and a new one is refused); a silent one after `dead_s`.
"""

import itertools
import logging
import time
from collections.abc import Callable

from shuffle_worker.cluster.members import ClusterCoordinator, Member, Membership
from shuffle_worker.errors import Fenced, PeerError, PeerLost, ShuffleError, UserError
from shuffle_worker.service import messages
from shuffle_worker.service.addresses import door_of, split_address
from shuffle_worker.service.calls import Calls, Reply
from shuffle_worker.service.messages import Done, Joined
from shuffle_worker.service.node import Node
from shuffle_worker.wire.types import Connected, Event, Heartbeat, Lost

log = logging.getLogger(__name__)

LEAVE_S = 1.0
FAREWELL_S = 0.05
UNREACHABLE = ("refused", "rejected_hello", "gave_up")
DOOR_S = 2.0
"""A connection to somebody who is no member yet is kept so long."""


class MembershipService:
    """This member's view of the list; the registrar's is the list. Runs on the loop, except where said."""

    def __init__(self, node: Node, cluster: ClusterCoordinator) -> None:
        self._node = node
        self._cluster = cluster
        self._addresses: dict[str, Member] = {}
        self._callers: dict[str, Member] = {}
        """Who connected to us, member or not: they want answers."""
        self._numbers: dict[tuple[str, int], int] = {}
        self._next_number = itertools.count()
        self._calls: Calls | None = None
        self._on_change: list[Callable[[], None]] = []
        self._stopped = False
        self.registrar = node.name
        """Who keeps the list and the book."""
        self.number = 0
        """Names this member's streams; never given to another member."""

    @property
    def is_registrar(self) -> bool:
        return self.registrar == self._node.name

    def on_change(self, function: Callable[[], None]) -> None:
        self._on_change.append(function)

    def start(self, calls: Calls, timeout_s: float, join: str | None) -> None:
        """Begin a list of one's own, or enter that of the member at `join`; on the caller's thread.

        :raises UserError: the address is wrong, or the name is taken. :raises PeerError: nobody answers there.
        """
        self._calls = calls
        calls.serve(messages.MembersChanged, self._on_members)
        self._node.serve_events(self._on_event)
        if join is None:
            calls.serve(messages.Join, self._on_join)
            calls.serve(messages.Leave, self._on_leave)
            self._node.loop.ask(lambda: self._join(self._node.member))
            self._node.loop.call(self._tick)
        else:
            self._enter(calls, timeout_s, *split_address(join))

    def _enter(self, calls: Calls, timeout_s: float, host: str, port: int) -> None:
        door = door_of(host, port)
        self._node.connect(Member(door, 0, host, port))
        try:
            self._node.transport.wait_connected(door, timeout_s)
            joined = calls.ask(door, messages.Join(self._node.member), timeout_s, Joined)
        except PeerError as error:
            raise PeerLost(f"cannot join the shuffle service at {door}: {error}") from None
        finally:
            self._node.disconnect(door)
        self.registrar, self.number = joined.registrar.name, joined.number
        self._addresses[joined.registrar.name] = joined.registrar
        self._node.loop.ask(lambda: self._adopt(joined.membership))
        self._node.connect(joined.registrar)
        self._node.transport.wait_connected(self.registrar, timeout_s)

    def reach(self, name: str, again: bool = False) -> None:
        """See to it that there is, or soon will be, a connection to a member; from any thread.

        `again`: also when it was given up before. A name may be an address, for who is no member yet.
        """
        if name == self._node.name:
            return
        if self._node.peer(name) is not None:
            if again:
                self._node.reconnect(name)
            return
        member = self._addresses.get(name) or self._callers.get(name)
        if member is not None:
            self._node.connect(member)
        elif ":" in name:
            self._node.connect(Member(name, 0, *split_address(name)))
            loop = self._node.loop
            loop.call(lambda: loop.call_at(time.monotonic() + DOOR_S, lambda: self._node.disconnect(name)))

    def members(self) -> Membership:
        return self._cluster.membership()

    def leave(self) -> None:
        """Say good-bye to the registrar; on the caller's thread. Nothing depends on its arrival."""
        self._stopped = True
        if self.is_registrar or self._calls is None:
            return
        try:
            self._calls.ask(self.registrar, messages.Leave(self._node.member), LEAVE_S, Done)
        except ShuffleError as error:
            log.info("left without a word of the registrar: %s", error)

    # the registrar
    def _join(self, member: Member) -> int:
        self._cluster.join(member, time.monotonic())
        key = (member.name, member.incarnation)
        if key not in self._numbers:
            self._numbers[key] = next(self._next_number)
        return self._numbers[key]

    def _on_join(self, request: messages.Join, reply: Reply) -> Joined:
        member = request.member
        if reply.sender != (member.name, member.incarnation):
            raise Fenced(f"{reply.sender[0]} cannot join as {member.name}")
        for known in self._cluster.membership().members:
            if known.name == member.name and known.incarnation != member.incarnation and self._is_alive(known):
                raise UserError(f"a member named {member.name!r} is in the service already: choose another name")
        self._addresses[member.name] = member
        before = self._cluster.version
        number = self._join(member)
        if self._cluster.version != before:
            self._announce()
        return Joined(self._node.member, number, self._cluster.membership())

    def _is_alive(self, member: Member) -> bool:
        if member.name == self._node.name:
            return True
        return any(
            peer.name == member.name and peer.incarnation == member.incarnation and (peer.connected or peer.inbound > 0)
            for peer in self._node.transport.peers()
        )

    def _on_leave(self, request: messages.Leave, reply: Reply) -> None:
        reply(Done())
        # The connection goes with the member, the answer should go first.
        self._node.loop.call_at(time.monotonic() + FAREWELL_S, lambda: self._remove(request.member, "it left"))

    def _remove(self, member: Member, why: str) -> None:
        try:
            self._cluster.leave(member.name, member.incarnation)
        except (Fenced, UserError):
            return  # it was removed before, or another incarnation took its place
        log.info("%s is no member any more: %s", member.name, why)
        self._announce()

    def _announce(self) -> None:
        membership = self._cluster.membership()
        if self._calls is not None:
            for member in membership.members:
                if member.name != self._node.name:
                    self._calls.tell(member.name, messages.MembersChanged(membership))
        self._changed(membership)

    def _tick(self) -> None:
        """Heartbeats are heard by the transport; here they only become news of members that went silent."""
        if self._stopped:
            return
        now = time.monotonic()
        self._cluster.heartbeat(self._node.name, self._node.incarnation, now)
        dead = self._cluster.expire(now)
        for member in dead:
            log.warning("%s was silent for %g s and is no member any more", member.name, self._cluster.dead_s)
        if dead:
            self._announce()
        self._node.loop.call_at(now + self._node.settings.timers.heartbeat_s, self._tick)

    # all members
    def _on_members(self, news: messages.MembersChanged, reply: Reply) -> None:
        if reply.sender[0] == self.registrar and not self.is_registrar:
            self._adopt(news.membership)
        reply(Done())

    def _adopt(self, membership: Membership) -> None:
        if membership.version > self._cluster.version:
            self._cluster.adopt(membership, time.monotonic())
            self._changed(membership)

    def _changed(self, membership: Membership) -> None:
        living = {member.name: member for member in membership.members}
        for name, member in list(self._addresses.items()):
            if living.get(name) != member and name != self.registrar:
                del self._addresses[name]
                self._gone(member, "it left, or was declared dead")
        self._addresses.update(living)
        for function in self._on_change:
            function()

    def _gone(self, member: Member, why: str) -> None:
        if self._calls is not None:
            self._calls.fail_peer(member.name, why)
        if self._node.peer(member.name) == member:
            self._node.disconnect(member.name)

    def _on_event(self, event: Event) -> None:
        if isinstance(event, Connected) and event.inbound:
            host, port = split_address(event.address)
            self._callers[event.peer] = Member(event.peer, event.incarnation, host, port)
        if isinstance(event, (Heartbeat, Connected)) and self.is_registrar:
            self._heard(event.peer, event.incarnation)
        elif isinstance(event, Lost) and not event.inbound and event.reason in UNREACHABLE:
            self._on_refused(event)

    def _heard(self, name: str, incarnation: int) -> None:
        members = self._cluster.membership().members
        if any(member.name == name and member.incarnation == incarnation for member in members):
            self._cluster.heartbeat(name, incarnation, time.monotonic())

    def _on_refused(self, event: Lost) -> None:
        """Nobody listens where a member was: its process is gone."""
        member = self._addresses.get(event.peer)
        if member is None or member.incarnation != event.incarnation:
            return
        if self.is_registrar:
            self._remove(member, event.what)
        elif event.peer == self.registrar:
            self._gone(member, f"it kept the book of this service: {event.what}")
        elif self._calls is not None:
            self._calls.fail_peer(event.peer, event.what)
