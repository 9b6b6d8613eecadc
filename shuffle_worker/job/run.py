"""One job in one process: the shell around its participant, and around its coordinator where this process has it.

Runs on the control loop. Events go in, effects come out and are carried out here or handed to the pools; what takes
long happens on their threads and comes back as an event. It decides nothing.
"""

import logging
import time
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass

from shuffle_worker.cluster.members import Member
from shuffle_worker.errors import InternalError, PeerLost, ShuffleError
from shuffle_worker.job.context import JobContext, adopt
from shuffle_worker.job.mapping import MapPool, MapTask
from shuffle_worker.job.model import LocalFigures
from shuffle_worker.job.planning import Planner
from shuffle_worker.job.publishing import publish, read_records
from shuffle_worker.job.sinking import SinkPool
from shuffle_worker.job.view import Measured
from shuffle_worker.protocol import effects, events, messages
from shuffle_worker.protocol.coordinator import Coordinator
from shuffle_worker.protocol.messages import encode_message
from shuffle_worker.protocol.participant import Participant
from shuffle_worker.protocol.values import Attempt, Fault, StreamCounts, Timers, fault_of
from shuffle_worker.service.node import Node
from shuffle_worker.sink.open import open_output
from shuffle_worker.store.views import Notice

log = logging.getLogger(__name__)

CHANNEL = ord("J")


@dataclass(frozen=True)
class Pools:
    """The threads that jobs of this process share."""

    maps: MapPool
    sinks: SinkPool
    background: Executor


class JobRun:
    """Carries a job's machines. Every method runs on the control loop unless it says otherwise."""

    def __init__(
        self, uid: bytes, node: Node, pools: Pools, timers: Timers, on_change: Callable[[bytes], None]
    ) -> None:
        self.uid = uid
        self.participant = Participant(uid, node.incarnation, timers)
        self.coordinator: Coordinator | None = None
        self._planner: Planner | None = None
        self._node = node
        self._pools = pools
        self._on_change = on_change
        self._context: JobContext | None = None
        self._members: dict[int, Member] = {}
        self._tick_at = float("inf")
        self._closed = False
        self._undecided: dict[tuple[int, Attempt], frozenset[int]] = {}
        self._measured = Measured()
        self._bytes_wire = 0
        self._spilled_before = node.store.stats()["spilled_bytes_total"]
        self._participant_effects: dict[type, Callable[..., None]] = {
            effects.AdoptPlan: self._adopt_plan,
            effects.FenceStreams: self._fence_streams,
            effects.PlaceGroups: self._place_groups,
            effects.DropGroups: self._drop_groups,
            effects.StartMap: self._start_map,
            effects.CancelMap: self._cancel_map,
            effects.ExpectStream: self._expect_stream,
            effects.WinStream: self._win_stream,
            effects.DiscardStream: self._discard_stream,
            effects.SealGroups: self._seal_groups,
            effects.ForgetShuffle: self._forget_shuffle,
            effects.CloseShuffle: self._close_shuffle,
        }
        self._coordinator_effects: dict[type, Callable[..., None]] = {
            effects.MakePlan: self._make_plan,
            effects.SaveManifest: self._save_manifest,
            effects.Publish: self._publish,
            effects.RemoveStaging: self._remove_staging,
        }
        node.serve_notices(uid, self._on_notice)

    @property
    def over(self) -> bool:
        """Whether nothing of the job goes on here: what is left of it is its last status."""
        idle = self.participant.ended is not None or self._context is None
        return idle and (self.coordinator is None or self.coordinator.phase.final)

    def measured(self) -> Measured:
        """What the coordinator's process knows of the job beyond its machine's figures."""
        context, coordinator = self._context, self.coordinator
        if context is not None and coordinator is not None:
            records = read_records(coordinator.manifest) if coordinator.manifest else []
            self._measured = Measured(
                partitions=context.plan.partitions,
                bytes_in=context.bytes_in,
                partition_rows=tuple(record.rows for record in records),
                files=len(records),
            )
        return self._measured

    def local_figures(self) -> LocalFigures:
        """What this process alone did for the job."""
        if self._context is not None:
            self._bytes_wire = self._context.wire_bytes
        spilled = self._node.store.stats()["spilled_bytes_total"] - self._spilled_before
        return LocalFigures(self._bytes_wire, spilled)

    # ---- events in

    def coordinate(self, coordinator: Coordinator, planner: Planner) -> None:
        """Take the coordinator's part; an older epoch's is dropped."""
        self.coordinator = coordinator
        self._planner = planner
        self.to_coordinator(events.Begin())

    def know(self, members: tuple[Member, ...]) -> None:
        """Connect to members, and remember where they are."""
        for member in members:
            self._members[member.incarnation] = member
            self._node.connect(member)

    def to_participant(self, event: events.Event) -> None:
        self._carry_out(self.participant.on_event(time.monotonic(), event), self._participant_effects)

    def to_coordinator(self, event: events.Event) -> None:
        if self.coordinator is not None:
            self._carry_out(self.coordinator.on_event(time.monotonic(), event), self._coordinator_effects)
            self._on_change(self.uid)

    def later(self, event: events.Event) -> None:
        """Give an event to the participant; from any thread."""
        self._node.loop.call(lambda: None if self._closed else self._take(event))

    def _take(self, event: events.Event) -> None:
        if isinstance(event, events.MapPushed):
            owners = frozenset(sent.owner for sent in event.sent if sent.counts.frames)
            self._undecided[event.map, event.attempt] = owners
        self.to_participant(event)

    def decided(self, message: messages.Decided) -> None:
        """The coordinator has answered for this attempt: what becomes of its frames is not our care any more."""
        self._undecided.pop((message.map, message.attempt), None)

    def lost_connection(self, owner: int, what: str) -> None:
        """Frames on their way to an owner may be gone: attempts that sent some and are not decided have failed."""
        broken = [name for name, owners in self._undecided.items() if owner in owners]
        for map_, attempt in broken:
            del self._undecided[map_, attempt]
            self.to_participant(events.MapBroke(map_, attempt, Fault("PeerLost", what, owner)))

    def _later_to_coordinator(self, event: events.Event, coordinator: Coordinator) -> None:
        def give() -> None:
            if self.coordinator is coordinator:
                self.to_coordinator(event)

        self._node.loop.call(give)

    def _on_notice(self, notice: Notice) -> None:
        attempt = Attempt(notice.epoch, notice.attempt)
        if notice.kind == "complete":
            counts = self._node.store.counts(self.uid, notice.map, notice.epoch, notice.attempt)
            if counts is not None:
                got = StreamCounts(counts.frames, counts.rows, counts.bytes, counts.crc_sum, counts.value_sum)
                self.to_participant(events.StreamReached(notice.map, attempt, got))
        elif notice.kind == "disk_full":
            log.error("disk full: %s", notice.detail)
        else:
            self.to_participant(events.StreamBroken(notice.map, attempt, Fault("PeerLost", notice.detail)))

    # ---- effects out

    def _carry_out(self, todo: list[effects.Effect], table: dict[type, Callable[..., None]]) -> None:
        for effect in todo:
            if isinstance(effect, effects.Send):
                self._send(effect)
            elif isinstance(effect, effects.Note):
                log.info("%s", effect.text, extra={"fields": {"job": self.uid.hex()}})
            else:
                table[type(effect)](effect)
        self._set_timer()

    def _send(self, effect: effects.Send) -> None:
        target = effect.message.target
        name = self._node.name if target == self._node.incarnation else None
        if name is None:
            member = self._members.get(target)
            if member is None:
                log.warning("a message for the unknown incarnation %016x was dropped", target)
                return
            name = member.name
        self._node.tell(name, CHANNEL, encode_message(effect.message))

    def _set_timer(self) -> None:
        deadlines = [self.participant.next_deadline()]
        if self.coordinator is not None:
            deadlines.append(self.coordinator.next_deadline())
        wanted = min((when for when in deadlines if when is not None), default=float("inf"))
        if wanted < self._tick_at and not self._closed:
            self._tick_at = wanted
            self._node.loop.call_at(wanted, self._tick)

    def _tick(self) -> None:
        self._tick_at = float("inf")
        if not self._closed:
            self.to_participant(events.Tick())
            self.to_coordinator(events.Tick())

    def _in_background(
        self,
        work: Callable[[], events.Event],
        give: Callable[[events.Event], None],
        failed: Callable[[Fault], events.Event],
    ) -> None:
        """Run `work` on another thread; its event, or that of its fault, is given to a machine."""

        def run() -> None:
            try:
                event = work()
            except ShuffleError as error:
                event = failed(fault_of(error))
            except Exception as error:
                log.exception("a step of job %s failed", self.uid.hex())
                event = failed(Fault(InternalError.__name__, f"{type(error).__name__}: {error}"))
            give(event)

        self._pools.background.submit(run)

    # ---- of the participant

    def _adopt_plan(self, effect: effects.AdoptPlan) -> None:
        digest = effect.plan.digest

        def work() -> events.Event:
            self._context = adopt(self.uid, effect.plan, self._node, self._members)
            self._pools.sinks.open(self._context, self.later)
            return events.PlanStored(digest)

        self._in_background(work, self.later, lambda fault: events.PlanRefused(digest, fault))

    def _fence_streams(self, effect: effects.FenceStreams) -> None:
        if self._context is None:
            return
        store = self._node.store
        store.fence(self.uid, effect.epoch)
        keep = set(effect.keep)
        for map_, epoch, number, _counts in store.streams(self.uid):
            if epoch < effect.epoch and (map_, Attempt(epoch, number)) not in keep:
                store.discard(self.uid, map_, epoch, number)

    def _place_groups(self, effect: effects.PlaceGroups) -> None:
        self._pools.sinks.place(self.uid, effect.groups, effect.generation)
        self._node.store.place_all(self.uid, effect.groups, effect.generation)

    def _drop_groups(self, effect: effects.DropGroups) -> None:
        for group in effect.groups:
            self._node.store.drop_group(self.uid, group)
        self._pools.sinks.drop(self.uid, effect.groups)

    def _start_map(self, effect: effects.StartMap) -> None:
        assert self._context is not None
        self._pools.maps.start(MapTask(self._context, effect, self.later))

    def _cancel_map(self, effect: effects.CancelMap) -> None:
        self._undecided.pop((effect.map, effect.attempt), None)
        self._pools.maps.cancel(self.uid, effect.map, effect.attempt)

    def _expect_stream(self, effect: effects.ExpectStream) -> None:
        self._node.store.expect(self.uid, effect.map, effect.attempt.epoch, effect.attempt.number, effect.frames)

    def _win_stream(self, effect: effects.WinStream) -> None:
        try:
            self._node.store.win(self.uid, effect.map, effect.attempt.epoch, effect.attempt.number)
        except ShuffleError as error:
            self.to_participant(events.WinFailed(effect.map, effect.attempt, fault_of(error)))
        else:
            self.to_participant(events.StreamWon(effect.map, effect.attempt))

    def _discard_stream(self, effect: effects.DiscardStream) -> None:
        if self._context is not None:
            self._node.store.discard(self.uid, effect.map, effect.attempt.epoch, effect.attempt.number)

    def _seal_groups(self, effect: effects.SealGroups) -> None:
        self._node.store.seal(self.uid, effect.groups)
        self._pools.sinks.sealed(self.uid, effect.groups)

    def _forget_shuffle(self, _effect: effects.ForgetShuffle) -> None:
        """Struck: nothing that is held counts any more, but files that were reported stay."""
        store = self._node.store
        self._pools.maps.cancel_job(self.uid)
        for map_, epoch, number, counts in store.streams(self.uid):
            if counts.state != "won":
                store.discard(self.uid, map_, epoch, number)
        groups = tuple(ready.group for ready in store.ready(self.uid))
        for group in groups:
            store.drop_group(self.uid, group)
        self._pools.sinks.drop(self.uid, groups)

    def _close_shuffle(self, _effect: effects.CloseShuffle) -> None:
        """Free what this process holds of the job; a plan stored later opens it anew."""
        context, self._context = self._context, None
        self._pools.maps.cancel_job(self.uid)
        self._node.transport.close_shuffle(self.uid)
        self._node.store.close_shuffle(self.uid)
        if context is not None:
            self._pools.background.submit(self._pools.sinks.close_job, context)

    # ---- of the coordinator

    def _make_plan(self, _effect: effects.MakePlan) -> None:
        planner = self._planner
        assert planner is not None
        self._for_coordinator(lambda: events.PlanMade(planner.make(self.uid)), events.PlanFailed)

    def _save_manifest(self, effect: effects.SaveManifest) -> None:
        def work() -> events.Event:
            self._opened().output.save_manifest(effect.digest, effect.manifest)
            return events.ManifestSaved(effect.digest)

        self._for_coordinator(work, lambda fault: events.SaveFailed(effect.digest, fault))

    def _publish(self, effect: effects.Publish) -> None:
        def work() -> events.Event:
            publish(self._opened(), effect.digest, effect.manifest)
            return events.Published(effect.digest)

        self._for_coordinator(work, lambda fault: events.PublishFailed(effect.digest, fault))

    def _opened(self) -> JobContext:
        if self._context is None:
            raise PeerLost("this worker has not opened the job's output yet")
        return self._context

    def _for_coordinator(self, work: Callable[[], events.Event], failed: Callable[[Fault], events.Event]) -> None:
        coordinator = self.coordinator
        assert coordinator is not None
        self._in_background(work, lambda event: self._later_to_coordinator(event, coordinator), failed)

    def _remove_staging(self, _effect: effects.RemoveStaging) -> None:
        assert self._planner is not None
        output = open_output(self._planner.job.spec.sink, self.uid, self._node.incarnation)
        self._pools.background.submit(output.remove_staging)

    def close(self) -> None:
        """Forget the job."""
        self._closed = True
        self._node.forget_notices(self.uid)
        if self._context is not None:
            self._close_shuffle(effects.CloseShuffle())
