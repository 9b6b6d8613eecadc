"""Which attempts of which map run, and which have won which generations. Pure; the coordinator's memory, not its will.

O(maps) and the attempts under way. A map is *pending* for the needed generations it has not won.
"""

import heapq
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from shuffle_worker.protocol.values import Attempt, Split


@dataclass(slots=True)
class Live:
    """An attempt under way."""

    map: int
    attempt: Attempt
    member: int
    generations: frozenset[int]
    owners: tuple[int, ...]
    started_at: float
    rows: int = 0


class MapTable:
    def __init__(self, maps: int) -> None:
        self.maps = maps
        self.splits: list[Split | None] = [None] * maps
        self.won: list[dict[int, Attempt]] = [{} for _ in range(maps)]
        """For each map: generation -> winner."""
        self.ever_won = bytearray(maps)
        self.failures = [0] * maps
        self.sent: list[tuple[int, int]] = [(0, 0)] * maps
        """Rows and bytes that winning attempts of the map sent."""
        self.live: dict[Attempt, Live] = {}
        self._of_map: dict[int, list[Live]] = {}
        self._needed: frozenset[int] = frozenset()
        self._missing: dict[int, int] = {}
        self._ready: deque[int] = deque()
        self._queued: set[int] = set()
        self._delayed: list[tuple[float, int]] = []

    # ---- what is needed

    def need(self, generations: Iterable[int]) -> None:
        """Maps have to win these generations from now on, and no others."""
        self._needed = frozenset(generations)
        self._missing = {
            generation: sum(generation not in won for won in self.won) for generation in sorted(self._needed)
        }
        for map in range(self.maps):
            self.enqueue(map)

    def pending(self, map: int) -> frozenset[int]:
        return self._needed.difference(self.won[map])

    def missing(self, generation: int) -> int:
        """How many maps have not won it; 0 for a generation that is not needed."""
        return self._missing.get(generation, 0)

    def complete(self) -> list[int]:
        """Needed generations that every map has won."""
        return [generation for generation, missing in self._missing.items() if missing == 0]

    def done(self) -> int:
        """Maps that have won all that is needed."""
        return sum(not self.pending(map) for map in range(self.maps)) if self._needed else self.maps

    # ---- the queue

    def enqueue(self, map: int, not_before: float | None = None) -> None:
        """Let the map run (again), unless nothing is pending, an attempt is under way or it is queued."""
        if map in self._queued or map in self._of_map or not self.pending(map):
            return
        self._queued.add(map)
        if not_before is None:
            self._ready.append(map)
        else:
            heapq.heappush(self._delayed, (not_before, map))

    def next_ready(self, now: float) -> int | None:
        """The next map to run, out of the queue."""
        self.promote(now)
        while self._ready:
            map = self._ready.popleft()
            self._queued.discard(map)
            if map not in self._of_map and self.pending(map):
                return map
        return None

    def promote(self, now: float) -> None:
        """Put maps whose delay is over at the end of the queue."""
        while self._delayed and self._delayed[0][0] <= now:
            self._ready.append(heapq.heappop(self._delayed)[1])

    def next_delayed(self) -> float | None:
        return self._delayed[0][0] if self._delayed else None

    # ---- attempts

    def start(self, live: Live) -> None:
        self.live[live.attempt] = live
        self._of_map.setdefault(live.map, []).append(live)

    def end(self, live: Live) -> None:
        del self.live[live.attempt]
        attempts = self._of_map[live.map]
        attempts.remove(live)
        if not attempts:
            del self._of_map[live.map]

    def attempts(self, map: int) -> list[Live]:
        return list(self._of_map.get(map, ()))

    def running(self) -> int:
        """Maps with an attempt under way."""
        return len(self._of_map)

    # ---- winners

    def win(self, map: int, attempt: Attempt, generations: Iterable[int]) -> list[int]:
        """Note a winner; the generations that every map has won thereby.

        The caller has made sure that none of them is won already.
        """
        complete = []
        for generation in generations:
            self.won[map][generation] = attempt
            if generation in self._missing:
                self._missing[generation] -= 1
                if self._missing[generation] == 0:
                    complete.append(generation)
        self.ever_won[map] = True
        return complete

    def agree(self, map: int, split: Split) -> bool:
        """Whether an attempt saw the split that earlier ones saw; the first one is noted."""
        known = self.splits[map]
        if known is None:
            self.splits[map] = split
            return True
        return (known.rows, known.key_digest, known.row_digest) == (split.rows, split.key_digest, split.row_digest)
