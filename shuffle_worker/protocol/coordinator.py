"""The coordinator of one job: the only one that chooses winners and declares members lost. Pure.

    Gathering -> Working -> Offer -> Farewell          (each in its module)

What it decides is decided for its epoch. It listens to messages of this epoch, addressed to its incarnation, from
members it has not declared lost; others are struck. When any member says that it is bound to another coordinator, this
one stops for good and does nothing any more. Until it learns of that it can do no harm: members refuse it, and only the
supervisor's record of *its* manifest lets it publish.

The memory of the job is in its members: a coordinator keeps nothing that `Joined` does not bring back.
"""

from collections.abc import Callable
from typing import Any

from shuffle_worker.protocol import events, messages
from shuffle_worker.protocol.census import Census, Standing
from shuffle_worker.protocol.context import Context
from shuffle_worker.protocol.effects import Effect, Note
from shuffle_worker.protocol.events import Event
from shuffle_worker.protocol.figures import figures_of, view_members
from shuffle_worker.protocol.finishing import Farewell, Offer
from shuffle_worker.protocol.gathering import Gathering
from shuffle_worker.protocol.messages import Message
from shuffle_worker.protocol.order import Order, Phase, Status
from shuffle_worker.protocol.values import Fault, Outcome
from shuffle_worker.protocol.voice import Voice
from shuffle_worker.protocol.working import Working


class Coordinator:
    """`on_event(now, event)`: first Begin, then what the shell hears. `status()` at any time."""

    def __init__(self, order: Order) -> None:
        timers = order.timers
        self.order = order
        self._voice = Voice(order.uid, order.host, order.epoch, timers)
        self._census = Census(order.host, timers)
        self._context = Context(order, self._voice, self._census)
        self._gathering = Gathering(self._context)
        self._working: Working | None = None
        self._offer: Offer | None = None
        self._farewell: Farewell | None = None
        self._superseded = ""
        self._began_at = 0.0
        self._last_at = 0.0
        self._pinged_at = 0.0
        self._judged_at = 0.0
        self._on_event: dict[type[Event], Callable[[Any], None]] = {
            events.Begin: self._on_begin,
            events.Tick: self._on_tick,
            events.Received: self._on_received,
            events.Heard: self._on_heard,
            events.PeerDown: self._on_peer_down,
            events.PlanMade: lambda e: self._gathering.on_plan_made(e.plan),
            events.PlanFailed: lambda e: self._context.fail_with(e.fault),
            events.Commit: self._on_commit,
            events.Cancel: self._on_cancel,
            events.MembersChanged: self._on_members_changed,
            events.Published: self._on_published,
            events.ManifestSaved: self._on_manifest_saved,
            events.SaveFailed: self._on_offer_failed,
            events.PublishFailed: self._on_offer_failed,
            events.Concluded: self._on_concluded,
        }
        self._on_message: dict[type[Message], Callable[[Any], None]] = {
            messages.Joined: self._on_joined,
            messages.PlanCopy: self._gathering.on_plan_copy,
            messages.Planned: self._on_planned,
            messages.Leaving: self._on_leaving,
            messages.PeerReport: self._on_peer_report,
            messages.Ended: self._on_ended,
        }

    # ---- for the shell

    @property
    def phase(self) -> Phase:
        if self._superseded:
            return Phase.SUPERSEDED
        if self._farewell is not None:
            return self._farewell.phase
        if self._offer is not None:
            return self._offer.phase
        return Phase.RUNNING if self._working is not None else self._gathering.phase

    @property
    def manifest(self) -> bytes | None:
        """Of the output that is or was offered to the supervisor; None while there is none."""
        return self._offer.manifest if self._offer is not None else None

    def on_event(self, now: float, event: Event) -> list[Effect]:
        self._voice.now = now
        self._notice_own_pause(now)
        if not self._superseded:
            self._on_event[type(event)](event)
            self._advance()
        return self._voice.take()

    def next_deadline(self) -> float | None:
        """When a Tick is wanted; None: never."""
        if self.phase.final:
            return None
        wanted = [self._judged_at + self.order.timers.retry_s]
        due = self._voice.next_due()
        delayed = self._working.maps.next_delayed() if self._working is not None else None
        wanted += [each for each in (due, delayed) if each is not None]
        return min(wanted)

    # ---- events

    def _on_begin(self, _event: events.Begin) -> None:
        self._began_at = self._pinged_at = self._judged_at = self._voice.now
        for member in self.order.membership.members:
            self._census.add(self._voice.now, member)
        self._gathering.begin()

    def _on_tick(self, _event: events.Tick) -> None:
        voice, timers = self._voice, self.order.timers
        for member, key in voice.repeat():
            if key[0] != "end" and self._census.standing(member) is not Standing.LOST:
                self._lose(member, f"it beats, but has not answered {key[0]} for {timers.answer_s:g} s")
        if voice.now - self._pinged_at >= timers.ping_s:
            self._pinged_at = voice.now
            for member in self._census.live():
                voice.tell(member, messages.Ping)
        self._judge()
        if self._offer is not None:
            self._offer.tick()
        if self._farewell is not None:
            self._farewell.tick()
        limit_s = self.order.limits.deadline_s
        if limit_s is not None and voice.now - self._began_at >= limit_s and self._may_fail:
            self._context.fail(
                "DeadlineExceeded", f"the job has not ended within {limit_s:g} s (activeDeadlineSeconds)"
            )

    def _on_heard(self, event: events.Heard) -> None:
        for member, progress in event.beats:
            self._census.beat(self._voice.now, member, progress)

    def _on_peer_down(self, event: events.PeerDown) -> None:
        self._census.report(self._voice.now, self.order.host, event.member, event.refused)
        self._judge()

    def _on_commit(self, event: events.Commit) -> None:
        if self._offer is not None and self._farewell is None:
            self._offer.commit(event.record)
        else:
            self._voice.do(Note(f"ignored a commit of {event.record.digest}: nothing is offered"))

    def _on_cancel(self, event: events.Cancel) -> None:
        publishing = self._offer is not None and self._offer.phase is Phase.PUBLISHING
        if event.epoch != self.order.epoch or publishing or self.order.commit is not None:
            self._voice.do(Note("ignored a cancellation: of another epoch, or after the commit"))
        elif self._context.outcome is None:
            self._context.outcome = (Outcome.CANCELLED, Fault("Cancelled", event.reason))

    def _on_members_changed(self, event: events.MembersChanged) -> None:
        if event.membership.version <= self.order.membership.version or self._farewell is not None:
            return
        self._context.order = self.order = _with_membership(self.order, event)
        listed = {member.incarnation for member in event.membership.members}
        for incarnation in self._census.live():
            if incarnation not in listed:
                self._lose(incarnation, "it is not in the member list any more")
        for member in event.membership.members:
            if member.incarnation not in self._census and self._offer is None:
                self._census.add(self._voice.now, member)
                self._gathering.ask(member.incarnation)

    def _on_concluded(self, event: events.Concluded) -> None:
        if self._farewell is not None and event.epoch == self.order.epoch:
            self._farewell.conclude()

    def _on_published(self, event: events.Published) -> None:
        if self._offer is not None:
            self._offer.on_published(event.digest)

    def _on_manifest_saved(self, event: events.ManifestSaved) -> None:
        if self._offer is not None:
            self._offer.on_saved(event.digest)

    def _on_offer_failed(self, event: events.SaveFailed | events.PublishFailed) -> None:
        if self._offer is not None:
            self._offer.on_failed(event.digest, event.fault)

    # ---- messages

    def _on_received(self, event: events.Received) -> None:
        message = event.message
        voice = self._voice
        if message.uid != voice.uid or message.target != voice.incarnation or message.epoch != voice.epoch:
            return
        if isinstance(message, messages.Superseded):
            self._on_superseded(message)
            return
        standing = self._census.standing(message.sender)
        if standing is None or not isinstance(message, messages.FROM_MEMBER):
            return
        if standing is Standing.LOST:
            if self._farewell is None and not isinstance(message, messages.Leaving):
                voice.tell(message.sender, messages.Strike)
            return
        self._census.hear(voice.now, message.sender)
        handler = self._on_message.get(type(message))
        if handler is not None:
            handler(message)
        elif self._working is not None and self._farewell is None:
            self._on_working(self._working, message)

    def _on_working(self, working: Working, message: Message) -> None:
        """What is about maps and groups. After the offer no group moves any more, but questions are still answered."""
        match message:
            case messages.Placed():
                working.on_placed(message)
            case messages.Running():
                working.on_running(message.sender, message.attempt)
            case messages.Progress():
                working.on_progress(message)
            case messages.MapPrepared():
                working.on_map_prepared(message)
            case messages.MapFailed():
                working.on_map_failed(message)
            case messages.Won():
                working.on_won(message.sender, message.map, message.attempt)
            case messages.Discarded():
                working.on_discarded(message.sender, message.attempt)
            case messages.Sealing():
                working.on_sealing(message.sender, message.generation)
            case messages.GroupStagedMsg():
                working.on_group_staged(message)
            case messages.GroupsLost():
                if self._offer is None:
                    working.on_groups_lost(message)

    def _on_superseded(self, message: messages.Superseded) -> None:
        own = (self.order.epoch, self.order.host)
        if (message.bound_epoch, message.coordinator) != own and message.bound_epoch >= self.order.epoch:
            self._superseded = f"epoch {message.bound_epoch} has another coordinator"
            self._voice.settle_all()
            self._voice.do(Note(f"stops: {self._superseded}"))

    def _on_joined(self, message: messages.Joined) -> None:
        if self._farewell is None:
            self._gathering.on_joined(message)

    def _on_planned(self, message: messages.Planned) -> None:
        if self._gathering.on_planned(message) and self._working is not None:
            self._working.on_ready(message.sender)

    def _on_leaving(self, message: messages.Leaving) -> None:
        self._lose(message.sender, f"it left: {message.reason}")

    def _on_peer_report(self, message: messages.PeerReport) -> None:
        self._census.report(self._voice.now, message.sender, message.member, message.refused)
        self._judge()

    def _on_ended(self, message: messages.Ended) -> None:
        if self._farewell is not None:
            self._farewell.on_ended(message.sender)

    # ---- losses

    def _judge(self) -> None:
        self._judged_at = self._voice.now
        busy = self._working.busy() if self._working is not None and self._offer is None else set()
        for member, cause in self._census.doomed(self._voice.now, busy):
            self._lose(member, cause)

    def _lose(self, member: int, cause: str) -> None:
        """Declare a member lost, and let the phase mend it."""
        if self._census.standing(member) is Standing.LOST:
            return
        self._census.lose(member, cause)
        self._voice.settle_target(member)
        self._voice.do(Note(f"lost {self._census.address(member)}: {cause}"))
        if self._farewell is not None:
            self._farewell.on_ended(member)
            return
        self._voice.tell(member, messages.Strike)
        if self._offer is not None and (self._offer.phase is not Phase.RUNNING or self._durable):
            return
        self._offer = None
        self._gathering.on_lost(member)
        if self._working is not None:
            self._working.on_lost(member)
        least = self.order.limits.min_members
        if len(self._census.live()) < max(1, least):
            self._context.fail("PeerLost", f"fewer than {max(1, least)} members are left: {self._census.losses()}")

    @property
    def _durable(self) -> bool:
        return self._context.plan is None or self._context.plan.durable

    @property
    def _may_fail(self) -> bool:
        """Whether a failure is this coordinator's to decide: not once the supervisor may have recorded a commit."""
        return self._farewell is None and (self._offer is None or self._offer.phase is Phase.RUNNING)

    def _notice_own_pause(self, now: float) -> None:
        """Ticks come every `retry_s`. If none came for long, this process stood still, and heard nobody meanwhile."""
        gap_s = now - self._last_at
        if self._last_at and gap_s > 2 * self.order.timers.retry_s:
            self._census.forgive(gap_s)
            self._voice.forgive(gap_s)
        self._last_at = now

    # ---- phases

    def _advance(self) -> None:
        """Go on to whatever the event has made possible."""
        for member, cause in self._context.unfit:
            self._lose(member, cause)
        self._context.unfit.clear()
        if self._farewell is not None or self._superseded:
            return
        if self._working is None and self._offer is None and self._context.outcome is None:
            self._advance_gathering()
        working = self._working
        if working is not None and self._offer is None and self._context.outcome is None:
            working.assign()
            if working.done and self._context.plan is not None:
                self._offer = Offer(self._context)
                self._offer.offer(self._context.plan, working.maps.splits, working.staged)
        outcome = self._context.outcome
        if outcome is None:
            return
        if outcome[0] is Outcome.FAILED and self._offer is not None and self._offer.phase is Phase.PREPARED:
            self._voice.do(Note(f"not failed, the commit may have been recorded: {outcome[1]}"))
            self._context.outcome = None
            return
        self._farewell = Farewell(self._context, *outcome)

    def _advance_gathering(self) -> None:
        gathering, context = self._gathering, self._context
        if gathering.phase is Phase.JOINING and self._census.live() and gathering.all_joined:
            if self.order.commit is not None:
                self._offer = Offer(context)
                self._offer.resume(self.order.commit)
                return
            ended = gathering.adopt_end()
            if ended is not None:
                outcome = Outcome.CANCELLED if ended.kind == "Cancelled" else Outcome.FAILED
                context.outcome = (outcome, ended)
                return
            gathering.choose_plan()
        if gathering.done and context.plan is not None:
            self._working = Working(context, context.plan)
            gathering.working = True
            self._working.begin(gathering.joined)

    # ---- status

    def status(self) -> Status:
        """The job as it is now. O(maps + groups)."""
        farewell, working = self._farewell, self._working
        fault = farewell.fault if farewell is not None else None
        base = {
            "phase": self.phase,
            "epoch": self.order.epoch,
            "message": self._superseded or (fault.sentence if fault is not None else self._doing()),
            "fault": fault,
            "members": view_members(self._voice.now, self._census, self._working),
            "prepared": self._offer.digest if self._offer and self._offer.phase is not Phase.RUNNING else "",
        }
        return Status(**base, **({} if working is None else figures_of(working)))  # type: ignore[arg-type]

    def _doing(self) -> str:
        waiting = [self._census.name(each) for each in self._census if self._census.standing(each) is Standing.JOINING]
        match self.phase:
            case Phase.JOINING:
                return f"waiting for {', '.join(waiting)} to join"
            case Phase.PLANNING:
                return "planning: reading metadata"
            case Phase.ADMITTING:
                return "members check that they can take part"
            case Phase.RUNNING if self._working is not None and self._offer is None:
                working = self._working
                return f"{working.maps.done()} of {working.maps.maps} maps done, {working.unstaged} groups to write"
            case Phase.RUNNING:
                return "the manifest is written"
            case Phase.PREPARED:
                return "waiting for the commit to be recorded"
            case phase:
                return str(phase)


def _with_membership(order: Order, event: events.MembersChanged) -> Order:
    return Order(order.uid, order.epoch, order.host, event.membership, order.commit, order.limits, order.timers)
