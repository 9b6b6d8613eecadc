"""A seeded world: a virtual clock, processes, a network, a supervisor, faults. `run(seed)` plays one schedule."""

import heapq
import random
from collections.abc import Callable
from typing import Any

from shuffle_sim.checks import Broken, Checks
from shuffle_sim.network import Network
from shuffle_sim.process import Process, rows_of_split
from shuffle_sim.scenario import FAULTS_END_S, LIVENESS_S, TIMERS, Scenario, Strike, scenario
from shuffle_sim.stores import SharedStorage
from shuffle_sim.supervisor import SimSupervisor

from shuffle_worker.protocol.order import Phase, Status

MOST_STEPS = 100_000
SETTLE_S = 1.0


class World:
    def __init__(self, chosen: Scenario, tracing: bool = False) -> None:
        self.scenario = chosen
        self.timers = TIMERS
        self.uid = b"simulated job 16"
        self.rng = random.Random(chosen.seed)
        self.now = 1.0
        self.steps = 0
        self.tracing = tracing
        self.lines: list[str] = []
        self.versions = [0] * chosen.maps
        self.silent_losses = 0
        self.faults_on = True
        self._heap: list[tuple[float, int, Callable[..., object], tuple[Any, ...]]] = []
        self._serial = 0
        self._places: dict[int, int] = {}
        self.check = Checks(self)
        self.network = Network(self)
        self.storage = SharedStorage()
        self.processes = [self._start(index) for index in range(chosen.members)]
        self.supervisor = SimSupervisor(self)

    # ---- time

    def serial(self) -> int:
        self._serial += 1
        return self._serial

    def at(self, when: float, function: Callable[..., object], *arguments: Any) -> None:
        heapq.heappush(self._heap, (when, self.serial(), function, arguments))

    def after(self, delay_s: float, function: Any, *arguments: Any) -> None:
        self.at(self.now + delay_s, function, *arguments)

    def chance(self, probability: float) -> bool:
        """Whether a fault of this probability strikes now."""
        return probability > 0.0 and self.faults_on and self.rng.random() < probability

    def note(self, process: Process, text: str) -> None:
        """A machine's own words. Nothing hangs in this world, so nobody may be found hanging."""
        self.trace(process, text)
        if "without progress" in text:
            raise Broken(f"{process.member.name}: {text}")

    def trace(self, process: Process | None, text: str) -> None:
        if self.tracing:
            who = process.member.name if process is not None else "world"
            self.lines.append(f"{self.now:9.4f} {who:9} {text}")

    # ---- what is there

    def _start(self, index: int) -> Process:
        process = Process(self, index, self.rng.getrandbits(40) + 1)
        self._places[process.incarnation] = index
        return process

    def place_of(self, incarnation: int) -> int:
        return self._places[incarnation]

    def rows_of(self, map: int, version: int | None = None) -> tuple[int, ...]:
        chosen = self.versions[map] if version is None else version
        return rows_of_split(map, chosen, self.scenario.rows[map])

    def on_remove_staging(self, process: Process) -> None:
        if self.supervisor.record.final is None and self.storage.published is None:
            raise Broken(f"{process.member.name} removes staged files of a job that has not ended")
        self.storage.staged.clear()
        self.storage.manifests.clear()

    def may_fail(self, status: Status) -> bool:
        """Whether this scenario may end in a failure: a file changed, or nobody is left who knows the job's state."""
        fault = status.fault
        if fault is None:
            return False
        if fault.kind == "InputError":
            return any(self.versions)
        return self.silent_losses > 0 and fault.kind == "InternalError"

    # ---- faults

    def _strike(self, strike: Strike) -> None:
        process = self.processes[strike.target % len(self.processes)]
        self.trace(process, f"FAULT {strike.kind} {strike}")
        match strike.kind:
            case "crash":
                if sum(each.alive for each in self.processes) > 1:
                    process.alive = False
            case "restart":
                if not process.alive:
                    self.processes[process.index] = self._start(process.index)
            case "pause":
                process.paused_until = self.now + strike.duration
            case "block":
                self.network.cut(strike.target, strike.other, self.now + strike.duration)
                self.network.cut(strike.other, strike.target, self.now + strike.duration)
            case "oneway":
                self.network.cut(strike.target, strike.other, self.now + strike.duration)
            case "appoint":
                self.supervisor.appoint()
            case "double":
                self.supervisor.appoint(double=True)
            case "cancel":
                self.supervisor.cancel()
            case "change":
                self.versions[strike.target] += 1
            case "grow":
                self.supervisor.grow()

    def _end_faults(self) -> None:
        self.faults_on = False

    # ---- running

    def run(self) -> Status:
        """To the end of the job. :raises Broken: a promise does not hold, the bound on time among them."""
        strikes = self.scenario.strikes
        for strike in strikes:
            self.at(1.0 + strike.at, self._strike, strike)
        last = max(1.0 + strike.at + strike.duration for strike in strikes) if strikes else 1.0 + FAULTS_END_S
        self.at(last, self._end_faults)
        until = last + LIVENESS_S
        self.supervisor.begin()
        record = self.supervisor.record
        settled: float | None = None
        while self._heap:
            when, _, function, arguments = heapq.heappop(self._heap)
            self.now = max(self.now, when)
            if self.now > until:
                raise Broken(f"the job has not ended {LIVENESS_S:g} s after the last fault: {self._where()}")
            self.steps += 1
            if self.steps > MOST_STEPS:
                raise Broken(f"more than {MOST_STEPS} steps: {self._where()}")
            function(*arguments)
            if record.final is not None:
                settled = settled if settled is not None else self.now + SETTLE_S
                if self.now > settled:
                    break
        if record.final is None:
            raise Broken(f"nothing happens any more, and the job has not ended: {self._where()}")
        self.check.at_end()
        return record.final

    def _where(self) -> str:
        lines = [
            f"{process.member.name}: {process.coordinator.status().message}"
            for process in self.processes
            if process.coordinator is not None and process.coordinator.phase is not Phase.SUPERSEDED
        ]
        return "; ".join(lines)


def run(seed: int, tracing: bool = False) -> tuple[Status, World]:
    """Play one schedule. :raises Broken, AssertionError, ...: with the world as its `world` attribute."""
    world = World(scenario(seed), tracing)
    try:
        return world.run(), world
    except Exception as error:
        error.world = world  # type: ignore[attr-defined]
        raise
