"""How a machine speaks: builds messages with their head, asks again until answered, collects effects. Pure.

An unanswered message is sent again every `retry_s`; one that stays unanswered for `answer_s` is reported once, and the
machine decides what that means. Who answers that it needs longer gets up to half of `stuck_s`.
"""

from dataclasses import dataclass

from shuffle_worker.protocol.effects import Effect, Send
from shuffle_worker.protocol.messages import AnyMessage, Message
from shuffle_worker.protocol.values import Timers

Key = tuple[int | str, ...]
"""Names a question: the kind, then what tells it from others of its kind. One question for each (target, key)."""


@dataclass(slots=True)
class _Open:
    message: AnyMessage
    asked_at: float
    since: float
    due: float
    reported: bool = False


class Voice:
    """One machine's outgoing side. Set `now` before each event; take the effects after it."""

    def __init__(self, uid: bytes, incarnation: int, epoch: int, timers: Timers) -> None:
        self.uid = uid
        self.incarnation = incarnation
        self.epoch = epoch
        self.timers = timers
        self.now = 0.0
        self._effects: list[Effect] = []
        # All questions wait equally long and a repeated one moves to the end: the first is always the next one due.
        self._open: dict[tuple[int, Key], _Open] = {}

    def do(self, effect: Effect) -> None:
        self._effects.append(effect)

    def take(self) -> list[Effect]:
        """The effects since the last call."""
        effects, self._effects = self._effects, []
        return effects

    def tell(self, target: int, kind: type[Message], *fields: object) -> None:
        """Send once."""
        self.do(Send(self._build(target, kind, fields)))

    def ask(self, target: int, key: Key, kind: type[Message], *fields: object) -> None:
        """Send, and again until `settle(target, key)`. A question that is open already is replaced."""
        message = self._build(target, kind, fields)
        self._open.pop((target, key), None)
        self._open[(target, key)] = _Open(message, self.now, self.now, self.now + self.timers.retry_s)
        self.do(Send(message))

    def settle(self, target: int, key: Key) -> bool:
        """Answered, or of no interest any more. Whether it was open."""
        return self._open.pop((target, key), None) is not None

    def extend(self, target: int, key: Key) -> None:
        """Whom we asked lives and needs longer."""
        question = self._open.get((target, key))
        if question is not None and self.now - question.asked_at < self.timers.stuck_s / 2:
            question.since = self.now

    def settle_target(self, target: int) -> None:
        for name in [name for name in self._open if name[0] == target]:
            del self._open[name]

    def settle_all(self) -> None:
        self._open.clear()

    def repeat(self) -> list[tuple[int, Key]]:
        """Send again what is due; returns questions that have now been open for `answer_s`, each once."""
        overdue: list[tuple[int, Key]] = []
        while self._open:
            name, question = next(iter(self._open.items()))
            if question.due > self.now:
                break
            del self._open[name]
            self._open[name] = question
            question.due = self.now + self.timers.retry_s
            self.do(Send(question.message))
            if not question.reported and self.now - question.since >= self.timers.answer_s:
                question.reported = True
                overdue.append(name)
        return overdue

    def forgive(self, gap_s: float) -> None:
        """This process itself stood still for so long: nobody else is to blame."""
        for question in self._open.values():
            question.asked_at += gap_s
            question.since += gap_s

    def next_due(self) -> float | None:
        return next(iter(self._open.values())).due if self._open else None

    def _build(self, target: int, kind: type[Message], fields: tuple[object, ...]) -> AnyMessage:
        message: AnyMessage = kind(self.uid, self.epoch, self.incarnation, target, *fields)  # type: ignore[assignment]
        return message
