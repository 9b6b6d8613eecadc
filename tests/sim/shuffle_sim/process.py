"""One simulated process: the real machines, a shell that carries out their effects with delays, and model stores."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from shuffle_sim.stores import ROW_BYTES, DataFrame, SimStore, digest, group_of, row_of

from shuffle_worker.cluster.members import Member
from shuffle_worker.protocol import effects, events, messages
from shuffle_worker.protocol.coordinator import Coordinator
from shuffle_worker.protocol.effects import Effect
from shuffle_worker.protocol.events import Event
from shuffle_worker.protocol.order import Order
from shuffle_worker.protocol.participant import Participant
from shuffle_worker.protocol.values import Attempt, Fault, Plan, Sent, Split, Staged, StreamCounts

if TYPE_CHECKING:
    from shuffle_sim.world import World

Machine = Coordinator | Participant
FRAME_ROWS = 3


@dataclass(slots=True)
class _Pushing:
    """A map attempt under way in the shell."""

    cancelled: bool = False


class Process:
    def __init__(self, world: "World", index: int, incarnation: int) -> None:
        self.world = world
        self.index = index
        self.incarnation = incarnation
        self.member = Member(f"worker-{index}", incarnation, "10.0.0.1", 7000 + index)
        self.alive = True
        self.paused_until = 0.0
        self.progress = 0
        self.participant = Participant(world.uid, incarnation, world.timers)
        self.coordinator: Coordinator | None = None
        self.store = SimStore(self._on_complete, self._on_broken)
        self._pushing: dict[Attempt, _Pushing] = {}
        self._tick_at: dict[int, float] = {}
        self._carry_out: dict[type[Effect], Callable[[Machine, Any], None]] = {
            effects.Send: lambda _, e: self.world.network.send(self, e.message),
            effects.Note: lambda _, e: self.world.note(self, e.text),
            effects.MakePlan: self._make_plan,
            effects.SaveManifest: self._save,
            effects.Publish: self._publish,
            effects.RemoveStaging: lambda _m, _e: self.world.on_remove_staging(self),
            effects.AdoptPlan: self._adopt_plan,
            effects.FenceStreams: lambda _, e: self.store.fence(e.epoch, e.keep),
            effects.PlaceGroups: lambda _, e: self.store.place(e.groups, e.generation),
            effects.DropGroups: lambda _, e: self.store.drop(e.groups),
            effects.StartMap: self._start_map,
            effects.CancelMap: self._cancel_map,
            effects.ExpectStream: lambda _, e: self.store.expect(e.map, e.attempt, e.frames),
            effects.WinStream: self._win,
            effects.DiscardStream: lambda _, e: self.store.discard(e.map, e.attempt),
            effects.SealGroups: self._seal,
            effects.ForgetShuffle: lambda _m, _e: self.store.forget(),
            effects.CloseShuffle: self._close,
        }

    # ---- events in, effects out

    def dispatch(self, machine: Machine, event: Event) -> None:
        """Now, or when the process is no longer paused; never once it is dead."""
        world = self.world
        if not self.alive:
            return
        if self.paused_until > world.now:
            world.at(self.paused_until, self.dispatch, machine, event)
            return
        if isinstance(machine, Coordinator) and machine is not self.coordinator:
            return
        found = machine.on_event(world.now, event)
        if world.tracing:
            world.trace(self, f"{type(machine).__name__} <- {event}")
        world.check.on_effects(machine, event, found)
        for effect in found:
            if world.tracing:
                world.trace(self, f"    -> {effect}")
            self._carry_out[type(effect)](machine, effect)
        self._schedule_tick(machine)

    def later(self, machine: Machine, event: Event, least_s: float = 0.001, most_s: float = 0.05) -> None:
        self.world.after(self.world.rng.uniform(least_s, most_s), self.dispatch, machine, event)

    def _schedule_tick(self, machine: Machine) -> None:
        deadline = machine.next_deadline()
        world = self.world
        if deadline is None:
            return
        known = self._tick_at.get(id(machine), 0.0)
        if not world.now < known <= deadline:
            when = max(deadline, world.now + 0.001)
            self._tick_at[id(machine)] = when
            world.at(when, self._tick, machine, when)

    def _tick(self, machine: Machine, when: float) -> None:
        if self._tick_at.get(id(machine)) != when:
            return
        self._tick_at[id(machine)] = 0.0
        if isinstance(machine, Coordinator):
            self.dispatch(machine, events.Heard(self.world.network.beats(self)))
        self.dispatch(machine, events.Tick())

    def receive(self, message: messages.AnyMessage) -> None:
        if isinstance(message, messages.FROM_MEMBER):
            if self.coordinator is not None:
                self.dispatch(self.coordinator, events.Received(message))
        else:
            self.dispatch(self.participant, events.Received(message))

    def peer_down(self, member: int, refused: bool) -> None:
        self.dispatch(self.participant, events.PeerDown(member, refused))
        if self.coordinator is not None:
            self.dispatch(self.coordinator, events.PeerDown(member, refused))

    def coordinate(self, order: Order) -> None:
        """The supervisor's call. An older order than the one in force is refused, the same one changes nothing."""
        if not self.alive:
            return
        if self.paused_until > self.world.now:
            self.world.at(self.paused_until, self.coordinate, order)
            return
        if self.coordinator is None or order.epoch > self.coordinator.order.epoch:
            self.coordinator = Coordinator(order)
            self.dispatch(self.coordinator, events.Begin())

    # ---- a coordinator's effects

    def _make_plan(self, machine: Machine, _effect: effects.MakePlan) -> None:
        scenario, world = self.world.scenario, self.world
        rows = tuple(len(world.rows_of(map)) if scenario.rows_known else -1 for map in range(scenario.maps))
        serial = world.serial()
        plan = Plan(b"plan %d" % serial, rows, scenario.groups, 1, scenario.durable, b"")
        self.later(machine, events.PlanMade(plan), 0.01, 0.3)

    def _save(self, machine: Machine, effect: effects.SaveManifest) -> None:
        self.world.storage.manifests[effect.digest] = effect.manifest
        self.later(machine, events.ManifestSaved(effect.digest))

    def _publish(self, machine: Machine, effect: effects.Publish) -> None:
        self.world.after(self.world.rng.uniform(0.01, 0.5), self._finish_publish, machine, effect)

    def _finish_publish(self, machine: Machine, effect: effects.Publish) -> None:
        if not self.alive:
            return
        if self.paused_until > self.world.now:
            self.world.at(self.paused_until, self._finish_publish, machine, effect)
            return
        self.world.check.before_publish(self, effect)
        if self.world.storage.publish(effect.digest):
            self.world.check.after_publish()
            self.later(machine, events.Published(effect.digest))
        else:
            fault = Fault("OutputError", "staged files are missing")
            self.later(machine, events.PublishFailed(effect.digest, fault))

    # ---- a participant's effects

    def _adopt_plan(self, machine: Machine, effect: effects.AdoptPlan) -> None:
        self.later(machine, events.PlanStored(effect.plan.digest))

    def _start_map(self, _machine: Machine, effect: effects.StartMap) -> None:
        pushing = self._pushing[effect.attempt] = _Pushing()
        slow = 1.0 if not self.world.chance(0.03) else 4.0 if self.world.scenario.slowness > 1.0 else 20.0
        delay_s = self.world.rng.uniform(0.005, 0.2) * slow * self.world.scenario.slowness
        self.world.after(delay_s, self._push, effect, pushing)

    def _push(self, effect: effects.StartMap, pushing: _Pushing) -> None:
        """Read the split, send all its frames."""
        world, scenario = self.world, self.world.scenario
        if pushing.cancelled or not self.alive:
            return
        if self.paused_until > world.now:
            world.at(self.paused_until, self._push, effect, pushing)
            return
        self.progress += 1
        if world.chance(scenario.map_failure):
            fault = Fault("DiskFull", "a simulated failure")
            self.later(self.participant, events.MapBroke(effect.map, effect.attempt, fault))
            return
        rows = world.rows_of(effect.map)
        by_owner: dict[int, list[DataFrame]] = {}
        for group, generation in enumerate(effect.placement.generations):
            if generation not in effect.generations:
                continue
            frames = by_owner.setdefault(effect.placement.owners[group], [])
            mine = tuple(row for row in rows if group_of(row, scenario.groups) == group)
            for start in range(0, len(mine), FRAME_ROWS):
                part = mine[start : start + FRAME_ROWS]
                frames.append(DataFrame(effect.map, effect.attempt, len(frames), group, generation, part))
        sent: list[Sent] = []
        for owner, frames in by_owner.items():
            total = sum(len(frame.rows) for frame in frames)
            sum_of = sum(digest(frame.rows) for frame in frames) % (1 << 64)
            sent.append(Sent(owner, StreamCounts(len(frames), total, total * ROW_BYTES, sum_of ^ 1, sum_of)))
            if not world.network.push(self, owner, frames):
                fault = Fault("PeerLost", f"cannot push to {owner}", owner)
                self.later(self.participant, events.MapBroke(effect.map, effect.attempt, fault))
                return
        split = Split(len(rows), digest(rows), b"", len(rows) * ROW_BYTES)
        self.later(self.participant, events.MapPushed(effect.map, effect.attempt, tuple(sent), split))

    def _cancel_map(self, _machine: Machine, effect: effects.CancelMap) -> None:
        pushing = self._pushing.pop(effect.attempt, None)
        if pushing is not None:
            pushing.cancelled = True

    def take_frame(self, frame: DataFrame) -> None:
        if not self.alive:
            return
        if self.paused_until > self.world.now:
            self.world.at(self.paused_until, self.take_frame, frame)
            return
        self.progress += 1
        self.store.deliver(frame)

    def _on_complete(self, map: int, attempt: Attempt, counts: StreamCounts) -> None:
        self.later(self.participant, events.StreamReached(map, attempt, counts), 0.0005, 0.01)

    def _on_broken(self, map: int, attempt: Attempt) -> None:
        fault = Fault("Corrupted", "a frame is missing")
        self.later(self.participant, events.StreamBroken(map, attempt, fault), 0.0005, 0.01)

    def _win(self, machine: Machine, effect: effects.WinStream) -> None:
        if self.store.win(effect.map, effect.attempt):
            self.later(machine, events.StreamWon(effect.map, effect.attempt), 0.0001, 0.005)
        else:
            fault = Fault("Corrupted", "frames are gone")
            self.later(machine, events.WinFailed(effect.map, effect.attempt, fault), 0.0001, 0.005)

    def _seal(self, _machine: Machine, effect: effects.SealGroups) -> None:
        self.store.seal(effect.groups)
        for group in effect.groups:
            self.world.after(
                self.world.rng.uniform(0.01, 0.3) * self.world.scenario.slowness, self._write, group, effect.generation
            )

    def _write(self, group: int, generation: int) -> None:
        """Write one sealed group, if it is still held."""
        world = self.world
        if not self.alive or self.store.groups.get(group) != generation:
            return
        if self.paused_until > world.now:
            world.at(self.paused_until, self._write, group, generation)
            return
        self.progress += 1
        if world.chance(world.scenario.seal_failure):
            fault = Fault("Corrupted", "a segment does not match its checksum")
            self.later(self.participant, events.GroupBroke(group, generation, fault))
            return
        rows = self.store.rows[group]
        if rows and world.chance(world.scenario.silent_loss):
            world.silent_losses += 1
            rows = rows[1:]
        record = world.storage.stage(self.incarnation, group, generation, rows)
        staged = Staged(group, generation, len(rows), digest(rows), b"", len(rows) * ROW_BYTES, record)
        self.later(self.participant, events.GroupStaged(staged))

    def _close(self, _machine: Machine, _effect: effects.CloseShuffle) -> None:
        self.store.close()
        for pushing in self._pushing.values():
            pushing.cancelled = True
        self.world.storage.remove(self.incarnation)


def rows_of_split(map: int, version: int, rows: int) -> tuple[int, ...]:
    return tuple(row_of(map, version, index) for index in range(rows))
