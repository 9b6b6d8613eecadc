"""Who takes part, who is heard, who is suspect, slow or dead. Pure; the coordinator alone decides with it.

Two kinds of evidence that a member is dead:
- Its address refuses, or another incarnation answers there, as two members say (all others, if there are fewer).
- Silence for `dead_s`. Silence for `suspect_s` costs it new tasks only.
Alive without progress while it has work is *slow*: no new tasks; after `stuck_s` it counts as dead. When several are
stuck, only the one whose progress ended first is: the others may have been waiting for it.
A member that cannot reach another one gets no new tasks for `dead_s`; if none can reach it, it is dead.

A coordinator that stood still itself has not heard anybody: `forgive` moves all clocks by the gap.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from enum import StrEnum

from shuffle_worker.cluster.members import Member
from shuffle_worker.protocol.values import Timers

WITNESSES = 2


class Standing(StrEnum):
    JOINING = "joining"  # was asked to join
    JOINED = "joined"  # has answered
    READY = "ready"  # holds the plan
    LOST = "lost"  # declared dead, refused, or left; for this epoch


@dataclass(slots=True)
class _Seen:
    member: Member
    heard_at: float
    progressed_at: float
    standing: Standing = Standing.JOINING
    progress: int = -1
    cause: str = ""
    reports: dict[int, tuple[float, bool]] = field(default_factory=dict)
    """Who cannot reach it: reporter -> (when, refused)."""
    excluded_until: float = 0.0


class Census:
    def __init__(self, host: int, timers: Timers) -> None:
        self._host = host
        self._timers = timers
        self._seen: dict[int, _Seen] = {}

    # ---- who

    def add(self, now: float, member: Member) -> None:
        self._seen[member.incarnation] = _Seen(member, now, now)

    def __contains__(self, incarnation: int) -> bool:
        return incarnation in self._seen

    def __iter__(self) -> Iterator[int]:
        return iter(self._seen)

    def standing(self, incarnation: int) -> Standing | None:
        seen = self._seen.get(incarnation)
        return None if seen is None else seen.standing

    def set_standing(self, incarnation: int, standing: Standing) -> None:
        self._seen[incarnation].standing = standing

    def lose(self, incarnation: int, cause: str) -> None:
        seen = self._seen[incarnation]
        seen.standing, seen.cause = Standing.LOST, cause

    def live(self) -> list[int]:
        return [each for each, seen in self._seen.items() if seen.standing is not Standing.LOST]

    def ready(self) -> list[int]:
        return [each for each, seen in self._seen.items() if seen.standing is Standing.READY]

    def joining(self) -> bool:
        return any(seen.standing is Standing.JOINING for seen in self._seen.values())

    def name(self, incarnation: int) -> str:
        seen = self._seen.get(incarnation)
        return seen.member.name if seen else f"{incarnation:016x}"

    def address(self, incarnation: int) -> str:
        """For sentences: name and address."""
        seen = self._seen[incarnation]
        return f"{seen.member.name} ({seen.member.address})"

    def cause(self, incarnation: int) -> str:
        return self._seen[incarnation].cause

    def losses(self) -> str:
        """For sentences: every lost member with its cause."""
        lost = [seen for seen in self._seen.values() if seen.standing is Standing.LOST]
        return "; ".join(f"{seen.member.name} ({seen.member.address}): {seen.cause}" for seen in lost)

    # ---- evidence

    def hear(self, now: float, incarnation: int) -> None:
        """It spoke."""
        self._seen[incarnation].heard_at = now

    def beat(self, now: float, incarnation: int, progress: int) -> None:
        """Its heartbeat came with this progress counter."""
        seen = self._seen.get(incarnation)
        if seen is None:
            return
        seen.heard_at = now
        if progress != seen.progress:
            seen.progress = progress
            seen.progressed_at = now

    def give_work(self, now: float, incarnation: int) -> None:
        """It has something to do from now on: its progress counts from here."""
        self._seen[incarnation].progressed_at = now

    def report(self, now: float, reporter: int, incarnation: int, refused: bool) -> None:
        """`reporter` cannot reach it."""
        seen = self._seen.get(incarnation)
        if seen is None or reporter == incarnation or reporter not in self._seen:
            return
        seen.reports[reporter] = (now, refused)
        self._seen[reporter].excluded_until = now + self._timers.dead_s

    def forgive(self, gap_s: float) -> None:
        for seen in self._seen.values():
            seen.heard_at += gap_s
            seen.progressed_at += gap_s

    # ---- judgement

    def suspect(self, now: float, incarnation: int) -> bool:
        return incarnation != self._host and now - self._seen[incarnation].heard_at >= self._timers.suspect_s

    def slow(self, now: float, incarnation: int) -> bool:
        return now - self._seen[incarnation].progressed_at >= self._timers.slow_s

    def fit(self, now: float, busy: Collection[int]) -> list[int]:
        """Who may be given map tasks. `busy`: who has work, so that progress is expected of it."""
        return [
            incarnation
            for incarnation, seen in self._seen.items()
            if seen.standing is Standing.READY
            and not self.suspect(now, incarnation)
            and not (incarnation in busy and self.slow(now, incarnation))
            and seen.excluded_until <= now
        ]

    def doomed(self, now: float, busy: Collection[int]) -> list[tuple[int, str]]:
        """Members to be declared dead now, each with its cause."""
        timers = self._timers
        found: list[tuple[int, str]] = []
        stuck: list[tuple[float, int]] = []
        for incarnation, seen in self._seen.items():
            if seen.standing is Standing.LOST:
                continue
            if incarnation != self._host and now - seen.heard_at >= timers.dead_s:
                found.append((incarnation, f"silent for {now - seen.heard_at:.1f} s"))
            elif (cause := self._unreachable(now, incarnation, seen)) is not None:
                found.append((incarnation, cause))
            elif incarnation in busy and now - seen.progressed_at >= timers.stuck_s:
                stuck.append((seen.progressed_at, incarnation))
        if stuck:
            since, incarnation = min(stuck)
            found.append((incarnation, f"alive but without progress for {now - since:.0f} s"))
            for other in stuck:
                self._seen[other[1]].progressed_at = now
        return found

    def _unreachable(self, now: float, incarnation: int, seen: _Seen) -> str | None:
        if incarnation == self._host or not seen.reports:
            return None
        for reporter in [each for each, (at, _) in seen.reports.items() if now - at > self._timers.dead_s]:
            del seen.reports[reporter]
        others = [each for each in self.live() if each != incarnation]
        witnesses = [each for each in others if each in seen.reports]
        refused = [each for each in witnesses if seen.reports[each][1]]
        if len(refused) >= max(1, min(WITNESSES, len(others))):
            return f"its address refuses {' and '.join(self.name(each) for each in refused)}, or has a new process"
        if others and len(witnesses) == len(others):
            return f"nobody can reach it: {', '.join(self.name(each) for each in witnesses)} tried"
        return None
