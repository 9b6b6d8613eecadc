"""A member's mapper: runs attempts, tells owners what it sent, and the coordinator when all of them have it. Pure.

    RUNNING  --MapPushed-->  PUSHED (FIN to each owner)  --all Prepared-->  PREPARED (MapPrepared)  --Decided--> gone

It decides nothing. An attempt whose groups have moved is dropped here as soon as the new table is seen; the coordinator
has given it up already. All attempts end when a new coordinator binds the epoch: what was prepared at every owner
then wins through their reports, without its mapper.
"""

from dataclasses import dataclass, field

from shuffle_worker.protocol.effects import CancelMap, StartMap
from shuffle_worker.protocol.messages import (
    Decided,
    Discard,
    Fin,
    FinRefused,
    MapFailed,
    MapPrepared,
    Prepared,
    Progress,
    Run,
    Running,
    Waiting,
)
from shuffle_worker.protocol.values import Attempt, Fault, Placement, Sent, Split, StreamCounts
from shuffle_worker.protocol.voice import Key, Voice

NOTHING = StreamCounts(0, 0, 0, 0, 0)


@dataclass(slots=True)
class _Task:
    map: int
    attempt: Attempt
    generations: tuple[int, ...]
    groups: int
    """How many groups it covers."""
    owners: tuple[int, ...]
    waiting: set[int] = field(default_factory=set)
    """Owners that are not prepared yet, once pushed."""
    split: Split | None = None
    rows: int = 0
    payload_bytes: int = 0


class Mapper:
    """Attempts of one job on one member. Messages come through the participant, which has checked their fences."""

    def __init__(self, voice: Voice) -> None:
        self._voice = voice
        self.coordinator = 0
        self._placement: Placement | None = None
        self._tasks: dict[Attempt, _Task] = {}
        self._seen: set[Attempt] = set()
        self._coverage: dict[tuple[int, ...], tuple[int, tuple[int, ...]]] = {}

    @property
    def busy(self) -> bool:
        return bool(self._tasks)

    # ---- the coordinator's word

    def on_place(self, placement: Placement) -> None:
        """Take a newer table; drop attempts whose groups it moves."""
        self._placement = placement
        self._coverage.clear()
        for task in list(self._tasks.values()):
            if self._cover(task.generations)[0] != task.groups:
                self._drop(task)

    def on_run(self, message: Run) -> None:
        placement = self._placement
        if placement is None or placement.version < message.version or message.attempt.epoch != self._voice.epoch:
            return
        if message.attempt not in self._seen:
            self._seen.add(message.attempt)
            groups, owners = self._cover(message.generations)
            self._tasks[message.attempt] = _Task(message.map, message.attempt, message.generations, groups, owners)
            start = StartMap(message.map, message.attempt, placement, frozenset(message.generations))
            self._voice.do(start)
        self._voice.tell(message.sender, Running, message.map, message.attempt)

    def on_decided(self, message: Decided) -> None:
        for kind in ("prepared", "failed"):
            self._voice.settle(self.coordinator, (kind, *_name(message.attempt)))
        task = self._tasks.get(message.attempt)
        if task is not None:
            self._drop(task)

    def on_discard(self, message: Discard) -> None:
        self._seen.add(message.attempt)
        self._voice.settle(self.coordinator, ("failed", *_name(message.attempt)))
        task = self._tasks.get(message.attempt)
        if task is not None:
            self._drop(task)

    def drop_all(self) -> None:
        """A new epoch, or the end: no attempt goes on."""
        for task in list(self._tasks.values()):
            self._drop(task)
        self._seen.clear()
        self._coverage.clear()

    def forget(self) -> None:
        self.drop_all()
        self._placement = None

    # ---- what the shell did

    def on_progressed(self, map: int, attempt: Attempt, rows: int) -> None:
        if attempt in self._tasks:
            self._voice.tell(self.coordinator, Progress, map, attempt, rows)

    def on_pushed(self, attempt: Attempt, sent: tuple[Sent, ...], split: Split) -> None:
        task = self._tasks.get(attempt)
        if task is None or task.split is not None or self._placement is None:
            return
        counts = {each.owner: each.counts for each in sent}
        task.split = split
        task.rows = sum(each.rows for each in counts.values())
        task.payload_bytes = sum(each.payload_bytes for each in counts.values())
        task.waiting = set(task.owners)
        for owner in task.owners:
            self._voice.ask(
                owner,
                ("fin", *_name(attempt)),
                Fin,
                task.map,
                attempt,
                self._placement.version,
                task.generations,
                counts.get(owner, NOTHING),
                split,
            )
        self._finish_if_prepared(task)

    def on_broke(self, attempt: Attempt, fault: Fault) -> None:
        task = self._tasks.get(attempt)
        if task is not None:
            self._fail(task, fault)

    # ---- what owners answer

    def on_prepared(self, message: Prepared) -> None:
        self._voice.settle(message.sender, ("fin", *_name(message.attempt)))
        task = self._tasks.get(message.attempt)
        if task is not None and message.sender in task.waiting:
            task.waiting.discard(message.sender)
            self._finish_if_prepared(task)

    def on_waiting(self, message: Waiting) -> None:
        """Back-pressure is no fault: frames may wait long for room at their owner."""
        self._voice.extend(message.sender, ("fin", *_name(message.attempt)))

    def on_fin_refused(self, message: FinRefused) -> None:
        task = self._tasks.get(message.attempt)
        if task is not None and message.sender in task.waiting:
            self._fail(task, message.fault)

    def on_unanswered(self, owner: int, key: Key, who: str) -> None:
        """An owner has not answered FIN for `answer_s`, or has waited for frames for too long."""
        attempt = Attempt(int(key[1]), int(key[2]))
        task = self._tasks.get(attempt)
        if task is not None:
            sentence = (
                f"{who} neither has all frames of map {task.map}, attempt {attempt}, nor has it said for "
                f"{self._voice.timers.answer_s:g} s that it waits for them"
            )
            self._fail(task, Fault("DeadlineExceeded", sentence, owner))

    # ---- inside

    def _finish_if_prepared(self, task: _Task) -> None:
        if not task.waiting and task.split is not None:
            self._voice.ask(
                self.coordinator,
                ("prepared", *_name(task.attempt)),
                MapPrepared,
                task.map,
                task.attempt,
                task.split,
                task.rows,
                task.payload_bytes,
            )

    def _fail(self, task: _Task, fault: Fault) -> None:
        self._drop(task)
        name = ("failed", *_name(task.attempt))
        self._voice.ask(self.coordinator, name, MapFailed, task.map, task.attempt, fault)

    def _drop(self, task: _Task) -> None:
        del self._tasks[task.attempt]
        if task.split is None:
            self._voice.do(CancelMap(task.map, task.attempt))
        for owner in task.owners:
            self._voice.settle(owner, ("fin", *_name(task.attempt)))
        self._voice.settle(self.coordinator, ("prepared", *_name(task.attempt)))

    def _cover(self, generations: tuple[int, ...]) -> tuple[int, tuple[int, ...]]:
        """How many groups these generations have in the current table, and who owns them."""
        known = self._coverage.get(generations)
        if known is None and self._placement is not None:
            wanted = frozenset(generations)
            groups = sum(generation in wanted for generation in self._placement.generations)
            known = self._coverage[generations] = (groups, self._placement.owners_of(wanted))
        return known or (0, ())


def _name(attempt: Attempt) -> tuple[int, int]:
    return attempt.epoch, attempt.number
