"""What the phases of a coordinator share."""

from dataclasses import dataclass, field

from shuffle_worker.protocol.census import Census
from shuffle_worker.protocol.order import Order
from shuffle_worker.protocol.values import Fault, Outcome, Plan
from shuffle_worker.protocol.voice import Voice


@dataclass(slots=True)
class Context:
    order: Order
    voice: Voice
    census: Census
    plan: Plan | None = None
    outcome: tuple[Outcome, Fault | None] | None = None
    """How the job is to end, once a phase has decided it."""
    unfit: list[tuple[int, str]] = field(default_factory=list)
    """Members that a phase wants declared lost, with causes: the coordinator does it after the event."""

    def fail(self, kind: str, sentence: str) -> None:
        """The first verdict counts."""
        if self.outcome is None:
            self.outcome = (Outcome.FAILED, Fault(kind, sentence))

    def fail_with(self, fault: Fault) -> None:
        if self.outcome is None:
            self.outcome = (Outcome.FAILED, fault)
