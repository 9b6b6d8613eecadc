"""What this member owns of shuffles: places groups, makes streams readable once they are whole, wakes readers.

Thread-safe. It never asks anybody: requests come from senders and the registrar through `owner.py`, or straight from
a sender in this process.
"""

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from shuffle_worker._native.store import Notice, Store
from shuffle_worker.errors import Corrupted, Fenced, PeerError, ShuffleError, UserError
from shuffle_worker.service.messages import EPOCH_SEND, GENERATION, Info, Promise, StreamName

Outcome = Callable[[ShuffleError | None], None]


@dataclass
class Held:
    """What is owned of one shuffle. Counts are of what can be read."""

    info: Info
    groups: set[int] = field(default_factory=set)
    sealed: bool = False
    rows: int = 0
    bytes: int = 0
    frames: int = 0
    changes: int = 0
    """Grows with every stream that becomes readable, and with the seal."""
    prepared: dict[tuple[int, int, int], set[int]] = field(default_factory=dict)
    """By decision: attempts that are whole and wait for it."""


class Holdings:
    """All shuffles of which this member owns something."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._held: dict[bytes, Held] = {}
        self._changed = threading.Condition()
        self._waiting: dict[tuple[bytes, int, int, int], tuple[Promise, bool, list[Outcome]]] = {}
        self._parked: dict[bytes, list[Callable[[], None]]] = {}

    # placement
    def place(self, info: Info, groups: Iterable[int]) -> None:
        """Own these groups from now on. :raises Fenced: the shuffle was closed."""
        numbers = list(groups)
        with self._changed:
            held = self._held.get(info.uid)
            if held is None:
                self._store.open_shuffle(info.uid, EPOCH_SEND)
                held = self._held[info.uid] = Held(info)
            self._store.place_all(info.uid, numbers, GENERATION)
            held.groups.update(numbers)

    def all_held(self) -> list[Held]:
        return list(self._held.copy().values())

    # streams
    def commit(self, stream: StreamName, promise: Promise, prepare: bool, on_outcome: Outcome) -> None:
        """Make a stream readable (`prepare`: only note it) as soon as all of it is here; on the loop.

        `on_outcome` may be called before this returns. The same stream again has the same outcome.
        """
        with self._changed:
            fault = self._begin(stream, promise, prepare, on_outcome)
        if fault is not False:
            on_outcome(fault)

    def commit_here(self, stream: StreamName, promise: Promise, prepare: bool = False) -> None:
        """The same for a sender in this process, whose frames are in the store already; from any thread."""
        with self._changed:
            fault = self._settle(stream, promise, prepare)
        if fault is not None:
            raise fault

    def _begin(self, stream: StreamName, promise: Promise, prepare: bool, on_outcome: Outcome) -> Any:
        """None or an error once it is decided; False while frames are missing."""
        held = self._held.get(stream.uid)
        if held is None:
            return Fenced(f"the shuffle {stream.uid.hex()} is not held here: it was closed, or never placed")
        counts = self._store.counts(stream.uid, stream.map, stream.epoch, stream.attempt)
        if promise.frames == 0 or (counts is not None and counts.frames >= promise.frames):
            return self._settle(stream, promise, prepare)
        if held.sealed:
            return _too_late(held.info)
        key = (stream.uid, stream.map, stream.epoch, stream.attempt)
        waiting = self._waiting.get(key)
        if waiting is not None:
            waiting[2].append(on_outcome)
            return False
        self._waiting[key] = (promise, prepare, [on_outcome])
        try:
            self._store.expect(*key, promise.frames)
        except Fenced as error:
            del self._waiting[key]
            return error
        return False

    def _settle(self, stream: StreamName, promise: Promise, prepare: bool) -> ShuffleError | None:
        """All frames are here: compare what was promised, then win. The lock is held."""
        held = self._held.get(stream.uid)
        if held is None:
            return Fenced(f"the shuffle {stream.uid.hex()} was closed")
        if promise.frames == 0:
            return None
        counts = self._store.counts(stream.uid, stream.map, stream.epoch, stream.attempt)
        if counts is None:
            return Fenced(f"attempt {stream.attempt} of map {stream.map} was discarded")
        seen = (counts.frames, counts.rows, counts.bytes, counts.crc_sum, counts.value_sum)
        if seen != (promise.frames, promise.rows, promise.bytes, promise.crc_sum, promise.value_sum):
            return Corrupted(f"the sender promised {promise}, and {counts} arrived of {stream}")
        if counts.state == "won":
            return None
        if held.sealed:
            return _too_late(held.info)
        if prepare:
            held.prepared.setdefault(stream.decision, set()).add(stream.attempt)
            return None
        return self._win(held, stream)

    def win(self, stream: StreamName) -> None:
        """The registrar chose this attempt of a writer's map: it becomes readable, the others are dropped."""
        with self._changed:
            held = self._held.get(stream.uid)
            if held is None:
                raise Fenced(f"the shuffle {stream.uid.hex()} is not held here")
            counts = self._store.counts(stream.uid, stream.map, stream.epoch, stream.attempt)
            fault = None if counts is not None and counts.state == "won" else self._win(held, stream)
            for attempt in held.prepared.pop(stream.decision, set()) - {stream.attempt}:
                self._store.discard(stream.uid, stream.map, stream.epoch, attempt)
        if fault is not None:
            raise fault

    def _win(self, held: Held, stream: StreamName) -> ShuffleError | None:
        counts = self._store.counts(stream.uid, stream.map, stream.epoch, stream.attempt)
        try:
            self._store.win(stream.uid, stream.map, stream.epoch, stream.attempt)
        except ShuffleError as error:
            return error
        if counts is not None:
            held.rows += counts.rows
            held.bytes += counts.bytes
            held.frames += counts.frames
        self._tell_readers(held)
        return None

    def discard(self, stream: StreamName) -> None:
        """Drop an attempt that did not win. :raises Fenced: it has won."""
        with self._changed:
            held = self._held.get(stream.uid)
            if held is not None:
                held.prepared.get(stream.decision, set()).discard(stream.attempt)
                self._store.discard(stream.uid, stream.map, stream.epoch, stream.attempt)
        self._end_waits(lambda key: key == (stream.uid, stream.map, stream.epoch, stream.attempt), "it was discarded")

    def on_notice(self, notice: Notice) -> None:
        """The store says that a stream is whole or broken; on the loop."""
        key = (notice.shuffle, notice.map, notice.epoch, notice.attempt)
        waiting = self._waiting.pop(key, None)
        if waiting is None:
            return
        promise, prepare, outcomes = waiting
        with self._changed:
            fault: ShuffleError | None
            if notice.kind == "broken":
                fault = PeerError(f"frames of map {notice.map} were lost on the way: send it again")
            else:
                fault = self._settle(StreamName(*key), promise, prepare)
        for outcome in outcomes:
            outcome(fault)

    # seal and end
    def seal(self, uid: bytes) -> None:
        """Nothing more becomes readable; on the loop. Idempotent."""
        with self._changed:
            held = self._held.get(uid)
            if held is None:
                raise Fenced(f"the shuffle {uid.hex()} is not held here")
            if not held.sealed:
                self._store.seal(uid)
                held.sealed = True
                self._tell_readers(held)
        self._end_waits(lambda key: key[0] == uid, _too_late(held.info))

    def forget(self, uid: bytes) -> None:
        """The shuffle is closed: free all of it; on the loop. Idempotent."""
        with self._changed:
            held = self._held.pop(uid, None)
            self._store.close_shuffle(uid)
            if held is not None:
                self._tell_readers(held)
        self._end_waits(lambda key: key[0] == uid, "the shuffle was closed")

    def _end_waits(self, which: Callable[[tuple[bytes, int, int, int]], bool], why: str | ShuffleError) -> None:
        for key in [key for key in self._waiting.copy() if which(key)]:
            for outcome in self._waiting.pop(key)[2]:
                outcome(why if isinstance(why, ShuffleError) else Fenced(f"attempt {key[3]} of map {key[1]}: {why}"))

    # readers
    def state(self, uid: bytes) -> tuple[int, bool]:
        """(changes, sealed): ask before looking, so that nothing is missed. :raises Fenced: not held here."""
        held = self._held.get(uid)
        if held is None:
            raise Fenced(f"the shuffle {uid.hex()} is not held here: it was closed")
        return held.changes, held.sealed

    def wait_change(self, uid: bytes, seen: int, deadline: float) -> bool:
        """Wait until something changed after `seen`; False when the deadline passed first."""
        with self._changed:
            while (held := self._held.get(uid)) is not None and held.changes == seen:
                left_s = deadline - time.monotonic()
                if left_s <= 0:
                    return False
                self._changed.wait(left_s)
        return True

    def park(self, uid: bytes, seen: int, resume: Callable[[], None]) -> None:
        """Call `resume` at the next change after `seen`, which may have been already; from any thread."""
        with self._changed:
            held = self._held.get(uid)
            if held is not None and held.changes == seen:
                self._parked.setdefault(uid, []).append(resume)
                return
        resume()

    def unpark(self, uid: bytes, resume: Callable[[], None]) -> bool:
        """Whether it was still parked; then it is not called any more."""
        with self._changed:
            parked = self._parked.get(uid, [])
            if resume in parked:
                parked.remove(resume)
                return True
        return False

    def _tell_readers(self, held: Held) -> None:
        held.changes += 1
        self._changed.notify_all()
        for resume in self._parked.pop(held.info.uid, []):
            resume()


def _too_late(info: Info) -> UserError:
    return UserError(f"the shuffle {info.id!r} is sealed: it takes no more rows")
