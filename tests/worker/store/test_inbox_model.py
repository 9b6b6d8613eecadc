"""The inbox against a model of a page: order, duplicates, gaps, fences, wins, discards, generations, seals.

The store under test spills all the while, as its memory is small, so that nothing here depends on where a frame is.
"""

import tempfile
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from shuffle_worker.errors import Fenced, InternalError

UID = bytes(range(16))
MIB = 1 << 20
TAKEN, DUPLICATE, FENCED, GAP, UNKNOWN = range(5)

# Most of what is drawn is in order, or nothing would ever be taken.
groups = st.integers(0, 2)
names = st.tuples(st.integers(0, 2), st.sampled_from([0, 0, 0, 0, 0, -1]), st.integers(0, 1))  # epoch: from the newest
wrongs = st.integers(0, 15).map({7: -1, 11: 1}.get).map(lambda drawn: drawn or 0)
seldom = st.integers(0, 9).map(lambda drawn: drawn == 7)  # not a value that shrinking or mutation favours
Name = tuple[int, int, int]


@dataclass
class Group:
    generation: int
    sealed: bool = False
    queue: list[tuple[Name, int]] = field(default_factory=list)


@dataclass
class Stream:
    state: str = "open"
    frames: int = 0
    bytes: int = 0
    expected: int | None = None
    waiting: list[tuple[int, int]] = field(default_factory=list)  # (group, number)


class InboxMachine(RuleBasedStateMachine):
    def __init__(self, bench_type: Any, seen: dict[str, int]) -> None:
        super().__init__()
        self.seen = seen
        self.place = tempfile.TemporaryDirectory()
        self.bench = bench_type(2 * MIB, [Path(self.place.name)], high=0.1, low=0.05, batch_bytes=MIB // 4)
        self.store = self.bench.store
        self.epoch = 0
        self.closed = False
        self.groups: dict[int, Group] = {}
        self.streams: dict[Name, Stream] = {}
        self.discarded: set[Name] = set()
        self.notices: list[tuple[str, Name]] = []

    def teardown(self) -> None:
        stats = self.store.stats()
        for key in self.seen:
            self.seen[key] += stats[key]
        self.bench.close()
        self.place.cleanup()

    @initialize()
    def open(self) -> None:
        self.store.open_shuffle(UID, 1)
        self.epoch = 1
        for group in range(3):
            self.store.place(UID, group, 1)
            self.groups[group] = Group(1)

    def named(self, drawn: Name) -> Name:
        return (drawn[0], max(self.epoch + drawn[1], 0), drawn[2])

    @rule(group=groups, change=wrongs, really=seldom)
    def place_group(self, group: int, change: int, really: bool) -> None:
        if not really and group in self.groups:
            return
        held = self.groups.get(group)
        generation = max((held.generation if held else 1) + change, 0)
        if self.closed or (held is not None and generation < held.generation):
            with pytest.raises(Fenced):
                self.store.place(UID, group, generation)
            return
        self.store.place(UID, group, generation)
        if held is None or generation > held.generation:
            self.forget_group(group)
            self.groups[group] = Group(generation)

    @rule(group=groups, really=seldom)
    def drop(self, group: int, really: bool) -> None:
        if not really:
            return
        self.store.drop_group(UID, group)
        self.forget_group(group)

    def forget_group(self, group: int) -> None:
        self.groups.pop(group, None)
        for stream in self.streams.values():
            stream.waiting = [each for each in stream.waiting if each[0] != group]

    @rule(change=wrongs)
    def fence(self, change: int) -> None:
        epoch = max(self.epoch + change, 0)
        if self.closed or epoch < self.epoch:
            with pytest.raises(Fenced):
                self.store.fence(UID, epoch)
        else:
            self.store.fence(UID, epoch)
            self.epoch = epoch

    def verdict(self, name: Name, group: int, generation: int, number: int) -> int:
        if self.closed or name[1] < self.epoch or name in self.discarded:
            return FENCED
        stream = self.streams.get(name)
        if stream is not None and stream.state == "broken":
            return GAP
        if stream is not None and number < stream.frames:
            return DUPLICATE
        held = self.groups.get(group)
        if (stream is not None and stream.state == "won") or held is None:
            return FENCED
        if held.generation != generation or held.sealed:
            return FENCED
        return TAKEN if number == (stream.frames if stream else 0) else GAP

    @rule(
        drawn=names,
        sent=st.lists(st.tuples(groups, wrongs, wrongs), min_size=1, max_size=6),
        size=st.sampled_from([70_000, 150_000, 100, 0]),
        waits=st.booleans(),
    )
    def send(self, drawn: Name, sent: list[tuple[int, int, int]], size: int, waits: bool) -> None:
        for group, older, shift in sent:
            generation = max((self.groups[group].generation if group in self.groups else 1) + older, 0)
            self.send_one(self.named(drawn), group, generation, shift, size, waits)

    def send_one(self, name: Name, group: int, generation: int, shift: int, size: int, waits: bool) -> None:
        stream = self.streams.get(name)
        number = max((stream.frames if stream else 0) + shift, 0)
        map, epoch, attempt = name
        frame = self.bench.frame(number, group, size, map=map, epoch=epoch, attempt=attempt, generation=generation)
        expected = self.verdict(name, group, generation, number)
        assert (self.store.put(frame, 10.0) if waits else self.store.offer(frame)) == expected
        if expected == TAKEN:
            stream = self.streams.setdefault(name, Stream())
            stream.frames += 1
            stream.bytes += size
            stream.waiting.append((group, number))
            if stream.frames == stream.expected:
                self.notices.append(("complete", name))
        elif expected == GAP and (stream is None or stream.state == "open"):
            stream = self.streams.setdefault(name, Stream())
            stream.state = "broken"
            stream.waiting.clear()
            self.notices.append(("broken", name))

    @rule(drawn=names, more=st.sampled_from([0, 0, 1, 2]))
    def expect(self, drawn: Name, more: int) -> None:
        name = self.named(drawn)
        stream = self.streams.get(name)
        frames = (stream.frames if stream else 0) + more
        if self.closed or name in self.discarded or (stream is None and name[1] < self.epoch):
            with pytest.raises(Fenced):
                self.store.expect(UID, *name, frames)
            return
        self.store.expect(UID, *name, frames)
        stream = self.streams.setdefault(name, Stream())
        stream.expected = frames
        if stream.state == "broken":
            self.notices.append(("broken", name))
        elif stream.frames >= frames:
            self.notices.append(("complete", name))

    @rule(drawn=names)
    def win(self, drawn: Name) -> None:
        name = self.named(drawn)
        stream = self.streams.get(name)
        short = stream is not None and stream.expected not in (None, stream.frames)
        if stream is None or stream.state == "broken" or (short and stream.state == "open"):
            with pytest.raises(Fenced):
                self.store.win(UID, *name)
        elif any(self.groups[group].sealed for group, _ in stream.waiting):
            with pytest.raises(InternalError):
                self.store.win(UID, *name)
        else:
            self.store.win(UID, *name)
            for group, number in stream.waiting:
                self.groups[group].queue.append((name, number))
            stream.waiting.clear()
            stream.state = "won"

    @rule(drawn=names)
    def discard(self, drawn: Name) -> None:
        name = self.named(drawn)
        stream = self.streams.get(name)
        if self.closed or (stream is not None and stream.state == "won"):
            with pytest.raises(Fenced):
                self.store.discard(UID, *name)
            return
        self.store.discard(UID, *name)
        self.streams.pop(name, None)
        self.discarded.add(name)

    @rule(group=groups, really=seldom)
    def seal(self, group: int, really: bool) -> None:
        if not really:
            return
        if group not in self.groups:
            with pytest.raises(Fenced):
                self.store.seal(UID, [group])
        else:
            self.store.seal(UID, [group])
            self.groups[group].sealed = True

    def check(self, frames: list[Any], expected: list[tuple[Name, int]]) -> None:
        assert [((each.map, each.epoch, each.attempt), each.number) for each in frames] == expected
        for each in frames:
            assert bytes(each) == self.bench.content(each.map, each.epoch, each.attempt, each.number, len(each))
            assert each.verify() == 0

    @rule(group=groups, max_bytes=st.sampled_from([1, 100_000, MIB]))
    def take(self, group: int, max_bytes: int) -> None:
        if group not in self.groups:
            with pytest.raises(Fenced):
                self.store.take(UID, group, max_bytes, 1.0, wait=False)
            return
        frames = self.store.take(UID, group, max_bytes, 10.0, wait=False)
        queue = self.groups[group].queue
        assert bool(frames) == bool(queue)
        self.check(frames, queue[: len(frames)])
        del queue[: len(frames)]

    @rule(group=groups)
    def read(self, group: int) -> None:
        if group in self.groups:
            taken = sum(1 for _ in self.groups[group].queue)
            frames = self.store.peek(UID, group, 0, MIB)
            assert len(frames) <= taken
            self.check(frames, self.groups[group].queue[: len(frames)])

    @precondition(lambda self: len(self.streams) > 4)
    @rule(really=seldom)
    def close(self, really: bool) -> None:
        if not really:
            return
        self.store.close_shuffle(UID)
        self.closed = True
        self.groups.clear()
        self.streams.clear()
        self.discarded.clear()

    @invariant()
    def tells_what_arrived(self) -> None:
        found = {(map, epoch, attempt): counts for map, epoch, attempt, counts in self.store.streams(UID)}
        assert {name: (each.state, each.frames, each.bytes, each.expected) for name, each in found.items()} == {
            name: (each.state, each.frames, each.bytes, each.expected) for name, each in self.streams.items()
        }

    @invariant()
    def tells_what_is_ready(self) -> None:
        rows: dict[int, int] = defaultdict(int)
        for number, group in self.groups.items():
            rows[number] += 10 * len(group.queue)
        assert {each.group: each.rows for each in self.store.ready(UID) if each.rows} == {
            number: count for number, count in rows.items() if count
        }

    @invariant()
    def tells_what_was_waited_for(self) -> None:
        told = [(each.kind, (each.map, each.epoch, each.attempt)) for each in self.store.notices()]
        assert told == self.notices
        self.notices.clear()

    @invariant()
    def accounts_for_every_byte(self) -> None:
        stats = self.store.stats()
        held = sum(len(each.waiting) for each in self.streams.values())
        assert stats["frames"] == held + sum(len(each.queue) for each in self.groups.values())
        assert self.budget_peak() <= 2 * MIB

    def budget_peak(self) -> int:
        return self.bench.budget.peak_bytes


def test_inbox_keeps_its_rules(bench_type: Any) -> None:
    seen = dict.fromkeys(("spilled_frames_total", "read_back_bytes_total", "duplicates", "fenced", "gaps"), 0)
    run_state_machine_as_test(
        lambda: InboxMachine(bench_type, seen),
        settings=settings(
            max_examples=60,
            stateful_step_count=60,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            derandomize=True,
        ),
    )
    assert all(seen.values()), f"the schedules were too tame: {seen}"
