"""A network that loses, delays, reorders and duplicates, and can be cut in one or both directions.

Messages are addressed to a member's place, not to its incarnation: whoever runs there now receives them, as with a real
address. Frames of data keep their order between two places unless the scenario loses some.
"""

from typing import TYPE_CHECKING

from shuffle_sim.stores import DataFrame

from shuffle_worker.protocol import messages

if TYPE_CHECKING:
    from shuffle_sim.process import Process
    from shuffle_sim.world import World

REFUSED_AGAIN_S = 0.5


class Network:
    def __init__(self, world: "World") -> None:
        self._world = world
        self._cut_until: dict[tuple[int, int], float] = {}
        self._refused_at: dict[tuple[int, int], float] = {}
        self._data_until: dict[tuple[int, int], float] = {}

    def cut(self, source: int, target: int, until: float) -> None:
        self._cut_until[(source, target)] = max(until, self._cut_until.get((source, target), 0.0))

    def open(self, source: int, target: int) -> bool:
        return source == target or self._cut_until.get((source, target), 0.0) <= self._world.now

    def send(self, source: "Process", message: messages.AnyMessage) -> None:
        world, scenario, rng = self._world, self._world.scenario, self._world.rng
        place = world.place_of(message.target)
        if scenario.encode:
            message = messages.decode_message(messages.encode_message(message))
        if place == source.index:
            world.after(0.0001, self._arrive, source, place, message)
            return
        if not self.open(source.index, place):
            return
        if world.chance(scenario.loss):
            return
        for _ in range(2 if world.chance(scenario.duplicate) else 1):
            delay = rng.uniform(*scenario.delay)
            if world.chance(scenario.late):
                delay += rng.uniform(0, scenario.late_by)
            world.after(delay, self._arrive, source, place, message)

    def _arrive(self, source: "Process", place: int, message: messages.AnyMessage) -> None:
        target = self._world.processes[place]
        if not target.alive or target.incarnation != message.target:
            self._refuse(source, message.target)
        if target.alive:
            target.receive(message)

    def _refuse(self, source: "Process", incarnation: int) -> None:
        key = (source.incarnation, incarnation)
        now = self._world.now
        if source.alive and now - self._refused_at.get(key, -1.0) > REFUSED_AGAIN_S:
            self._refused_at[key] = now
            source.peer_down(incarnation, refused=True)

    def push(self, source: "Process", owner: int, frames: list[DataFrame]) -> bool:
        """Send frames in order; False when the owner is plainly not there."""
        world, scenario = self._world, self._world.scenario
        place = world.place_of(owner)
        target = world.processes[place]
        if not target.alive or target.incarnation != owner or not self.open(source.index, place):
            if not target.alive or target.incarnation != owner:
                self._refuse(source, owner)
            return False
        channel = (source.index, place)
        when = max(world.now, self._data_until.get(channel, 0.0))
        local = target is source
        for frame in frames:
            when += world.rng.uniform(0, 0.01)
            if local or not world.chance(scenario.data_loss):
                world.at(when, self._deliver, target, frame)
            if not local and world.chance(scenario.duplicate):
                world.at(when, self._deliver, target, frame)
        self._data_until[channel] = when
        return True

    @staticmethod
    def _deliver(target: "Process", frame: DataFrame) -> None:
        target.take_frame(frame)

    def beats(self, listener: "Process") -> tuple[tuple[int, int], ...]:
        """Heartbeats that reach this process now."""
        now = self._world.now
        return tuple(
            (process.incarnation, process.progress)
            for process in self._world.processes
            if process.alive and process.paused_until <= now and self.open(process.index, listener.index)
        )
