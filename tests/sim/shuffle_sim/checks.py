"""The promises, checked at every step. A broken one raises Broken."""

from typing import TYPE_CHECKING

from shuffle_sim.stores import group_of

from shuffle_worker.protocol import effects, events, messages
from shuffle_worker.protocol.coordinator import Coordinator
from shuffle_worker.protocol.effects import Effect
from shuffle_worker.protocol.events import Event
from shuffle_worker.protocol.order import Phase
from shuffle_worker.protocol.participant import Participant
from shuffle_worker.protocol.values import Attempt

if TYPE_CHECKING:
    from shuffle_sim.process import Machine, Process
    from shuffle_sim.world import World


class Broken(AssertionError):
    """A promise of the protocol does not hold."""


class Checks:
    def __init__(self, world: "World") -> None:
        self._world = world
        self._winners: dict[tuple[int, int, int, int], Attempt] = {}
        self._bound: dict[int, tuple[int, int]] = {}

    def on_effects(self, machine: "Machine", event: Event, found: list[Effect]) -> None:
        if isinstance(machine, Coordinator):
            for effect in found:
                if isinstance(effect, effects.Send) and isinstance(effect.message, messages.Winner):
                    self._one_winner(effect.message)
        elif isinstance(event, events.Received):
            self._binds_forward(machine)
            self._old_changes_nothing(machine, event.message, found)

    def _binds_forward(self, machine: Participant) -> None:
        """Epochs only grow, and each is bound to one coordinator."""
        epoch, coordinator = self._bound.get(machine.incarnation, (0, 0))
        if machine.epoch != epoch or machine.coordinator != coordinator:
            if machine.epoch <= epoch:
                raise Broken(f"bound to {(machine.epoch, machine.coordinator)} after {(epoch, coordinator)}")
            self._bound[machine.incarnation] = (machine.epoch, machine.coordinator)

    def _one_winner(self, message: messages.Winner) -> None:
        for generation in message.generations:
            key = (message.epoch, message.sender, message.map, generation)
            winner = self._winners.setdefault(key, message.attempt)
            if winner != message.attempt:
                raise Broken(
                    f"map {message.map} has two winners at generation {generation}: {winner}, {message.attempt}"
                )

    def _old_changes_nothing(self, machine: Participant, message: messages.AnyMessage, found: list[Effect]) -> None:
        if message.target != machine.incarnation:
            foreign = True
        elif isinstance(message, messages.FROM_COORDINATOR):
            foreign = message.epoch < machine.epoch or message.sender != machine.coordinator
        else:
            foreign = message.epoch < machine.epoch
        if foreign:
            for effect in found:
                if not (isinstance(effect, effects.Send) and isinstance(effect.message, messages.Superseded)):
                    raise Broken(f"{type(message).__name__} of epoch {message.epoch} changed something: {effect}")

    def before_publish(self, process: "Process", effect: effects.Publish) -> None:
        record = self._world.supervisor.record
        if record.commit is None or record.commit.digest != effect.digest:
            raise Broken(f"{process.member.name} publishes {effect.digest}, and the record is {record.commit}")
        if record.cancelled:
            raise Broken("published after it was cancelled")

    def after_publish(self) -> None:
        """Every row of every split, of one version of each, once, in its group."""
        world = self._world
        assert world.storage.published is not None
        files = world.storage.published[1]
        if sorted(files) != list(range(world.scenario.groups)):
            raise Broken(f"published groups {sorted(files)} of {world.scenario.groups}")
        found: dict[int, list[int]] = {map: [] for map in range(world.scenario.maps)}
        for group, rows in files.items():
            for row in rows:
                if group_of(row, world.scenario.groups) != group:
                    raise Broken(f"row {row} is in group {group}")
                found[row // 10_000].append(row)
        for map, rows in found.items():
            versions = [list(world.rows_of(map, version)) for version in range(world.versions[map] + 1)]
            if sorted(rows) not in versions:
                raise Broken(f"split {map}: published {sorted(rows)}, and it has {versions}")

    def at_end(self) -> None:
        """The job is final: what was promised of each end."""
        world = self._world
        status = world.supervisor.record.final
        assert status is not None
        if status.phase is Phase.COMPLETE:
            if world.storage.published is None:
                raise Broken("complete, and nothing is published")
            return
        if world.storage.published is not None:
            raise Broken(f"{status.phase}, and the output is published: {status.message}")
        if status.phase is Phase.CANCELLED and not world.supervisor.record.cancelled:
            raise Broken("cancelled, and nobody asked for it")
        if status.phase is Phase.FAILED and not world.may_fail(status):
            raise Broken(f"failed without need: {status.message}")
        if not status.message:
            raise Broken("ended without a cause")
