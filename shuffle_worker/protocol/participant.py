"""One member's part in one job: binds the epoch, and passes on to its mapper and owner what the fences let through.

Fences, each of which the simulator removes in turn to see that it is needed:
- A message for another job or another incarnation of this process is not for us.
- An epoch is bound, by Join alone, to the first coordinator incarnation that uses it. Older epochs, and a second
  coordinator of the same one, are answered Superseded and change nothing.
- FIN and its answers count only between members bound to one epoch.
- An older placement table changes nothing.
- Who was struck, has left or has forgotten says Leaving until the next epoch, and holds nothing.
- After the end (released or aborted) nothing starts again; a later coordinator is told how it ended.
"""

from collections.abc import Callable
from typing import Any

from shuffle_worker.cluster.members import Membership
from shuffle_worker.protocol import events, messages
from shuffle_worker.protocol.effects import AdoptPlan, CloseShuffle, Effect, Note
from shuffle_worker.protocol.events import Event
from shuffle_worker.protocol.mapper import Mapper
from shuffle_worker.protocol.messages import Message
from shuffle_worker.protocol.owner import Owner
from shuffle_worker.protocol.values import EndKind, Fault, Placement, Plan, Timers
from shuffle_worker.protocol.voice import Voice


class Participant:
    """`on_event(now, event)`: Received of a coordinator's or a peer's message, and what the shell did."""

    def __init__(self, uid: bytes, incarnation: int, timers: Timers) -> None:
        """`timers` hold until a coordinator's Join brings the job's own."""
        self._voice = Voice(uid, incarnation, 0, timers)
        self.mapper = Mapper(self._voice)
        self.owner = Owner(self._voice)
        self._coordinator = 0
        self._membership = Membership(0, ())
        self._names: dict[int, str] = {}
        self._plan: Plan | None = None
        self._plan_epoch = 0
        self._adopting: Plan | None = None
        self._ended: EndKind | None = None
        self._fault: Fault | None = None
        self._left = ""
        self._heard_at = 0.0
        self._on_event: dict[type[Event], Callable[[Any], None]] = {
            events.Received: self._on_received,
            events.Tick: self._on_tick,
            events.PeerDown: self._on_peer_down,
            events.PlanStored: self._on_plan_stored,
            events.PlanRefused: self._on_plan_refused,
            events.MapProgressed: lambda e: self.mapper.on_progressed(e.map, e.attempt, e.rows),
            events.MapPushed: lambda e: self.mapper.on_pushed(e.attempt, e.sent, e.split),
            events.MapBroke: lambda e: self.mapper.on_broke(e.attempt, e.fault),
            events.StreamReached: lambda e: self.owner.on_reached(e.map, e.attempt, e.counts),
            events.StreamBroken: lambda e: self.owner.on_broken(e.map, e.attempt, e.fault),
            events.StreamWon: lambda e: self.owner.on_won(e.map, e.attempt),
            events.WinFailed: lambda e: self.owner.on_win_failed(e.map, e.attempt, e.fault),
            events.GroupStaged: lambda e: self.owner.on_staged(e.staged),
            events.GroupBroke: lambda e: self.owner.on_group_broke(e.group, e.generation, e.fault),
            events.LeaveAsked: self._on_leave_asked,
        }
        self._from_coordinator: dict[type[Message], Callable[[Any], None]] = {
            messages.FetchPlan: self._on_fetch_plan,
            messages.StorePlan: self._on_store_plan,
            messages.Place: self._on_place,
            messages.Run: self.mapper.on_run,
            messages.Decided: self.mapper.on_decided,
            messages.Winner: self.owner.on_winner,
            messages.Discard: self._on_discard,
            messages.Seal: self.owner.on_seal,
            messages.StagedSeen: self.owner.on_staged_seen,
            messages.GroupsLostSeen: self.owner.on_groups_lost_seen,
            messages.Strike: self._on_strike,
            messages.Ping: lambda _: None,
        }
        self._from_peer: dict[type[Message], Callable[[Any], None]] = {
            messages.Fin: self.owner.on_fin,
            messages.Prepared: self.mapper.on_prepared,
            messages.Waiting: self.mapper.on_waiting,
            messages.FinRefused: self.mapper.on_fin_refused,
        }

    # ---- for the shell

    @property
    def incarnation(self) -> int:
        return self._voice.incarnation

    @property
    def epoch(self) -> int:
        """The epoch this member is bound to; 0: none yet."""
        return self._voice.epoch

    @property
    def coordinator(self) -> int:
        """Incarnation of the coordinator this member is bound to; 0: none yet."""
        return self._coordinator

    @property
    def placement(self) -> Placement | None:
        return self.owner.placement

    @property
    def ended(self) -> EndKind | None:
        return self._ended

    @property
    def busy(self) -> bool:
        """Whether it maps or writes: then progress is expected of it."""
        return self.mapper.busy or self.owner.busy

    def on_event(self, now: float, event: Event) -> list[Effect]:
        self._voice.now = now
        handler = self._on_event.get(type(event))
        if handler is not None and (self._in_force or isinstance(event, events.Received | events.Tick)):
            handler(event)
        return self._voice.take()

    def next_deadline(self) -> float | None:
        """When a Tick is wanted; None: never, as things stand."""
        if not self._in_force:
            return None
        orphaned_at = self._heard_at + self._voice.timers.orphan_s
        due = self._voice.next_due()
        return orphaned_at if due is None else min(due, orphaned_at)

    @property
    def _in_force(self) -> bool:
        """Bound, and neither at the end nor gone."""
        return self._voice.epoch > 0 and self._ended is None and not self._left

    # ---- messages

    def _on_received(self, event: events.Received) -> None:
        message = event.message
        voice = self._voice
        if message.uid != voice.uid or message.target != voice.incarnation:
            return
        if isinstance(message, messages.Join):
            self._on_join(message)
        elif isinstance(message, messages.FROM_COORDINATOR):
            self._on_coordinator(message)
        elif isinstance(message, messages.FROM_PEER) and message.epoch == voice.epoch and self._in_force:
            self._from_peer[type(message)](message)

    def _on_coordinator(self, message: Message) -> None:
        voice = self._voice
        if message.epoch > voice.epoch:
            return  # its Join has not come yet
        if message.epoch < voice.epoch or message.sender != self._coordinator:
            self._refuse(message)
            return
        self._heard_at = voice.now
        if isinstance(message, messages.End):
            self._on_end(message)
        elif self._left:
            if not isinstance(message, messages.Strike):
                voice.tell(message.sender, messages.Leaving, self._left)
        elif self._ended is None:
            self._from_coordinator[type(message)](message)

    def _refuse(self, message: Message) -> None:
        """Tell a coordinator that it is one no longer. The head has its own epoch: it listens to no other."""
        voice = self._voice
        bound = voice.epoch
        voice.epoch = message.epoch
        voice.tell(message.sender, messages.Superseded, bound, self._coordinator)
        voice.epoch = bound

    def _on_join(self, message: messages.Join) -> None:
        voice = self._voice
        if message.epoch < voice.epoch or (message.epoch == voice.epoch and message.sender != self._coordinator):
            self._refuse(message)
            return
        self._heard_at = voice.now
        if message.epoch > voice.epoch:
            self._bind(message)
        if message.membership.version >= self._membership.version:
            self._take_membership(message.membership)
        if self._left:
            voice.tell(message.sender, messages.Leaving, self._left)
            return
        streams, staged = self.owner.reports()
        voice.tell(
            message.sender,
            messages.Joined,
            self._plan.digest if self._plan else b"",
            self._plan_epoch,
            self.owner.placement,
            streams,
            staged,
            self._ended,
            self._fault,
        )

    def _bind(self, message: messages.Join) -> None:
        """A new epoch: no attempt of an older one goes on, and no answer to an older coordinator is owed."""
        voice = self._voice
        self.mapper.drop_all()
        voice.settle_all()
        voice.epoch = message.epoch
        voice.timers = message.timers
        self._coordinator = self.mapper.coordinator = self.owner.coordinator = message.sender
        self._left = ""
        self._adopting = None
        self._membership = Membership(0, ())
        if self._ended is None:
            self.owner.on_epoch()

    def _take_membership(self, membership: Membership) -> None:
        self._membership = membership
        self._names = {each.incarnation: f"{each.name} ({each.address})" for each in membership.members}

    def _on_fetch_plan(self, message: messages.FetchPlan) -> None:
        held = self._plan is not None and self._plan.digest == message.digest
        self._voice.tell(message.sender, messages.PlanCopy, self._plan if held else None)

    def _on_store_plan(self, message: messages.StorePlan) -> None:
        plan = message.plan
        stored = self._plan is not None and self._plan.digest == plan.digest
        if stored and (not message.fresh or self._plan_epoch == self._voice.epoch):
            self._voice.tell(message.sender, messages.Planned, plan.digest, None)
            return
        if self._adopting is not None and self._adopting.digest == plan.digest:
            return  # its answer is under way
        if self._plan is not None or self.owner.placement is not None:
            self._forget()
        self._adopting = plan
        self._voice.do(AdoptPlan(plan))

    def _on_plan_stored(self, event: events.PlanStored) -> None:
        plan = self._adopting
        if plan is None or plan.digest != event.digest:
            return
        self._plan, self._plan_epoch, self._adopting = plan, self._voice.epoch, None
        self.owner.open(plan.maps)
        self._voice.tell(self._coordinator, messages.Planned, plan.digest, None)

    def _on_plan_refused(self, event: events.PlanRefused) -> None:
        if self._adopting is not None and self._adopting.digest == event.digest:
            self._adopting = None
            self._voice.tell(self._coordinator, messages.Planned, event.digest, event.fault)

    def _on_place(self, message: messages.Place) -> None:
        placement = message.placement
        if self._plan is None or placement.plan != self._plan.digest:
            return
        if message.membership.version >= self._membership.version:
            self._take_membership(message.membership)
        current = self.owner.placement
        if current is None or placement.version > current.version:
            self.mapper.on_place(placement)
            self.owner.on_place(placement)
            current = placement
        self._voice.tell(message.sender, messages.Placed, current.version)

    def _on_discard(self, message: messages.Discard) -> None:
        self.mapper.on_discard(message)
        self.owner.on_discard(message)

    # ---- ends

    def _on_end(self, message: messages.End) -> None:
        if self._ended is None:
            self._forget()
            self._ended, self._fault = message.kind, message.fault
            self._voice.do(CloseShuffle())
        self._voice.tell(message.sender, messages.Ended)

    def _on_strike(self, _message: messages.Strike) -> None:
        self._leave("it was declared lost")

    def _on_leave_asked(self, event: events.LeaveAsked) -> None:
        self._leave(event.reason)
        self._voice.tell(self._coordinator, messages.Leaving, event.reason)

    def _leave(self, reason: str) -> None:
        self._forget()
        self._left = reason
        self._voice.do(Note(f"left the job: {reason}"))

    def _forget(self) -> None:
        self.mapper.forget()
        self.owner.forget()
        self._voice.settle_all()
        self._plan, self._plan_epoch, self._adopting = None, 0, None

    # ---- time and peers

    def _on_tick(self, _event: events.Tick) -> None:
        if not self._in_force:
            return
        if self._voice.now - self._heard_at >= self._voice.timers.orphan_s:
            self._leave(f"no coordinator has spoken for {self._voice.timers.orphan_s:g} s")
            return
        for target, key in self._voice.repeat():
            if key[0] == "fin":
                self.mapper.on_unanswered(target, key, self._names.get(target, f"member {target:016x}"))

    def _on_peer_down(self, event: events.PeerDown) -> None:
        if event.member in self._names:
            self._voice.tell(self._coordinator, messages.PeerReport, event.member, event.refused)
