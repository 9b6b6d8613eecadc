"""Small exact models of an owner's store and of shared storage: every row is known by its number.

The store keeps the rules of the native inbox: a fence for epochs, numbered frames, generations of groups, tombstones.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import msgspec

from shuffle_worker.protocol.values import MASK64, Attempt, StreamCounts, decode_manifest

ROW_BYTES = 8


def row_of(map: int, version: int, index: int) -> int:
    return map * 10_000 + version * 1_000 + index


def group_of(row: int, groups: int) -> int:
    return (row * 2_654_435_761 >> 7) % groups


def digest(rows: tuple[int, ...] | list[int]) -> int:
    return sum(row * 0x9E3779B97F4A7C15 + 1 for row in rows) & MASK64


@dataclass(frozen=True, slots=True)
class DataFrame:
    map: int
    attempt: Attempt
    number: int
    group: int
    generation: int
    rows: tuple[int, ...]


@dataclass(slots=True)
class _Stream:
    frames: list[DataFrame] = field(default_factory=list)
    received: int = 0
    broken: bool = False
    won: bool = False
    expected: int | None = None
    rows: int = 0
    digest: int = 0


class SimStore:
    """One process's store. `on_complete` and `on_broken` are told of expected streams."""

    def __init__(
        self,
        on_complete: Callable[[int, Attempt, StreamCounts], None],
        on_broken: Callable[[int, Attempt], None],
    ) -> None:
        self._on_complete = on_complete
        self._on_broken = on_broken
        self.epoch = 0
        self.closed = False
        self.streams: dict[tuple[int, Attempt], _Stream] = {}
        self.discarded: set[tuple[int, Attempt]] = set()
        self.groups: dict[int, int] = {}
        self.sealed: set[int] = set()
        self.rows: dict[int, list[int]] = {}

    def deliver(self, frame: DataFrame) -> None:
        name = (frame.map, frame.attempt)
        if self.closed or frame.attempt.epoch < self.epoch or name in self.discarded:
            return
        stream = self.streams.get(name)
        received = stream.received if stream is not None else 0
        if stream is not None and (stream.broken or frame.number < received):
            return
        if self.groups.get(frame.group) != frame.generation or frame.group in self.sealed or (stream and stream.won):
            return
        if stream is None:
            stream = self.streams[name] = _Stream()
        if frame.number > received:
            self._break(name, stream)
            return
        stream.frames.append(frame)
        stream.received += 1
        stream.rows += len(frame.rows)
        stream.digest = (stream.digest + digest(frame.rows)) & MASK64
        self._tell(name, stream)

    def expect(self, map: int, attempt: Attempt, frames: int) -> None:
        name = (map, attempt)
        if name in self.discarded:
            self._on_broken(map, attempt)
            return
        stream = self.streams.setdefault(name, _Stream())
        stream.expected = frames
        self._tell(name, stream)

    def win(self, map: int, attempt: Attempt) -> bool:
        stream = self.streams.get((map, attempt))
        if stream is None or stream.broken or stream.received != stream.expected:
            return False
        if not stream.won:
            stream.won = True
            for frame in stream.frames:
                assert frame.group not in self.sealed, (
                    f"a winner of map {map} brings rows for sealed group {frame.group}"
                )
                self.rows[frame.group].extend(frame.rows)
            stream.frames.clear()
        return True

    def discard(self, map: int, attempt: Attempt) -> None:
        stream = self.streams.pop((map, attempt), None)
        assert stream is None or not stream.won, f"map {map}, attempt {attempt} has won here and was discarded"
        self.discarded.add((map, attempt))

    def fence(self, epoch: int, keep: tuple[tuple[int, Attempt], ...]) -> None:
        self.epoch = epoch
        for name, stream in list(self.streams.items()):
            if name[1].epoch < epoch and name not in keep and not stream.won:
                self.discard(*name)

    def place(self, groups: tuple[int, ...], generation: int) -> None:
        for group in groups:
            assert self.groups.get(group, 0) < generation, f"group {group} placed at an older generation"
            self.drop((group,))
            self.groups[group] = generation
            self.rows[group] = []

    def drop(self, groups: tuple[int, ...]) -> None:
        for group in groups:
            self.groups.pop(group, None)
            self.rows.pop(group, None)
            self.sealed.discard(group)
            for stream in self.streams.values():
                stream.frames = [frame for frame in stream.frames if frame.group != group]

    def seal(self, groups: tuple[int, ...]) -> None:
        self.sealed.update(groups)

    def forget(self) -> None:
        self.drop(tuple(self.groups))
        self.discarded.update(self.streams)
        self.streams.clear()

    def close(self) -> None:
        self.closed = True
        self.forget()

    def _break(self, name: tuple[int, Attempt], stream: _Stream) -> None:
        stream.broken = True
        stream.frames.clear()
        self._tell(name, stream)

    def _tell(self, name: tuple[int, Attempt], stream: _Stream) -> None:
        if stream.expected is None:
            return
        if stream.broken:
            self._on_broken(*name)
        elif stream.received == stream.expected:
            rows, total = stream.rows, stream.digest
            self._on_complete(*name, StreamCounts(stream.received, rows, rows * ROW_BYTES, total ^ 1, total))


class SharedStorage:
    """What members stage and what is published, outliving every process."""

    def __init__(self) -> None:
        self.staged: dict[tuple[int, int, int], tuple[int, ...]] = {}
        self.manifests: dict[str, bytes] = {}
        self.published: tuple[str, dict[int, tuple[int, ...]]] | None = None

    def stage(self, incarnation: int, group: int, generation: int, rows: list[int]) -> bytes:
        key = (incarnation, group, generation)
        assert key not in self.staged, f"a staged file is written twice: {key}"
        self.staged[key] = tuple(rows)
        return msgspec.msgpack.encode(key)

    def remove(self, incarnation: int) -> None:
        for key in [key for key in self.staged if key[0] == incarnation]:
            del self.staged[key]

    def publish(self, digest: str) -> bool:
        """True: the output with this digest is there."""
        if self.published is not None:
            assert self.published[0] == digest, "another manifest is published already"
            return True
        if digest not in self.manifests:
            return False
        files: dict[int, tuple[int, ...]] = {}
        for staged in decode_manifest(self.manifests[digest]):
            key = msgspec.msgpack.decode(staged.record, type=tuple[int, int, int])
            if key not in self.staged:
                return False
            files[staged.group] = self.staged[key]
        self.published = (digest, files)
        return True
