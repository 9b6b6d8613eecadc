"""A model of the job's supervisor: keeps the record, names coordinators, records the commit before it tells it.

The record is what survives; calls and answers may be lost or late, and it may call too early: then an old coordinator
still runs and knows nothing of it.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from shuffle_worker.cluster.members import Membership
from shuffle_worker.protocol import events
from shuffle_worker.protocol.order import Order, Phase, Status
from shuffle_worker.protocol.values import CommitRecord

if TYPE_CHECKING:
    from shuffle_sim.process import Process
    from shuffle_sim.world import World

POLL_S = 0.3
SILENCE_S = 5.0


@dataclass
class Record:
    epoch: int = 0
    coordinator: int = 0
    commit: CommitRecord | None = None
    cancelled: bool = False
    final: Status | None = None


class SimSupervisor:
    def __init__(self, world: "World") -> None:
        self._world = world
        self.record = Record()
        self._heard_at = 0.0
        self._membership = 0
        self._coordinator: Process | None = None

    def begin(self) -> None:
        self.appoint()
        self._world.after(POLL_S, self._poll)

    def appoint(self, double: bool = False) -> None:
        """Name a coordinator at the next epoch, among the processes that seem alive. `double`: name two, by mistake."""
        world = self._world
        alive = [process for process in world.processes if process.alive]
        if not alive or self.record.final is not None:
            return
        chosen = world.rng.sample(alive, min(len(alive), 2 if double else 1))
        self.record.epoch += 1
        self.record.coordinator = chosen[0].incarnation
        self._coordinator = chosen[0]
        self._heard_at = world.now
        self._membership += 1
        members = tuple(process.member for process in alive)
        for process in chosen:
            order = Order(
                world.uid,
                self.record.epoch,
                process.incarnation,
                Membership(self._membership, members),
                self.record.commit,
                world.scenario.limits,
                world.timers,
            )
            world.trace(None, f"supervisor: epoch {self.record.epoch} is given to {process.member.name}")
            self._call(lambda process=process, order=order: process.coordinate(order))  # type: ignore[misc]

    def grow(self) -> None:
        """Tell the coordinator of everybody that runs now."""
        self._membership += 1
        members = tuple(process.member for process in self._world.processes if process.alive)
        self._tell(events.MembersChanged(Membership(self._membership, members)))

    def cancel(self) -> None:
        if self.record.commit is None:
            self.record.cancelled = True

    def _poll(self) -> None:
        world, process = self._world, self._coordinator
        if self.record.final is not None:
            return
        world.after(POLL_S, self._poll)
        if world.now - self._heard_at > SILENCE_S or (process is not None and not process.alive):
            self.appoint()
            return
        if process is not None:
            self._call(lambda: self._ask(process))

    def _ask(self, process: "Process") -> None:
        """The request has arrived."""
        world = self._world
        if process.alive and process.paused_until <= world.now and process.coordinator is not None:
            coordinator = process.coordinator
            status = coordinator.status()
            self._call(lambda: self._answer(process, status))

    def _answer(self, process: "Process", status: Status) -> None:
        """The answer has arrived. What is not of the recorded epoch is of no interest."""
        record = self.record
        if status.epoch != record.epoch or process.incarnation != record.coordinator or record.final is not None:
            return
        self._heard_at = self._world.now
        if status.phase is Phase.SUPERSEDED:
            self.appoint()
        elif status.phase.final:
            record.final = status
            self._tell(events.Concluded(record.epoch))
        elif record.cancelled and record.commit is None:
            self._tell(events.Cancel(record.epoch, "the user asked for it"))
        elif status.phase is Phase.PREPARED:
            if record.commit is None:
                record.commit = CommitRecord(record.epoch, status.prepared)
                self._world.trace(None, f"supervisor: records the commit {record.commit}")
            if record.commit.epoch == record.epoch:
                self._tell(events.Commit(record.commit))

    def _tell(self, event: events.Event) -> None:
        process, epoch = self._coordinator, self.record.epoch

        def deliver() -> None:
            coordinator = process.coordinator if process is not None else None
            if process is not None and coordinator is not None and coordinator.order.epoch == epoch:
                process.dispatch(coordinator, event)

        self._call(deliver)

    def _call(self, function: object) -> None:
        """One way of a call over the network."""
        world, scenario = self._world, self._world.scenario
        if world.chance(scenario.loss):
            return
        delay = world.rng.uniform(*scenario.delay)
        if world.chance(scenario.late):
            delay += world.rng.uniform(0, scenario.late_by)
        world.after(delay, function)
