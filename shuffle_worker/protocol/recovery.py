"""What a new coordinator makes of its members' answers: adopts what was decided, decides what is ripe, drops the rest.

Pure.

- The newest placement table counts. Groups whose owner has not joined move; so do those of an owner without a table:
  it was struck and has forgotten them, and must not write the same generation again.
- A winner that any owner knows is adopted: its coordinator had found it prepared at every owner.
- Else an attempt that is prepared at every current owner of its generations wins.
- Every other stream is discarded, and its map runs again.

An owner takes a FIN only when its table is at least as new as the sender's, so the newest table among those who report
a stream is at least as new as the one it was sent by; and groups only ever leave a generation. Hence "every current
owner" is enough.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from shuffle_worker.protocol.messages import Joined
from shuffle_worker.protocol.values import NOBODY, Attempt, Fault, Placement, Plan, Staged, StreamReport

Name = tuple[int, Attempt]


@dataclass(slots=True)
class Adoption:
    """A winner of a map. `tell`: owners that have not been told yet."""

    map: int
    attempt: Attempt
    report: StreamReport
    generations: frozenset[int]
    """Those of the report that still have groups."""
    tell: tuple[int, ...]
    rows: int
    payload_bytes: int


@dataclass(slots=True)
class Recovered:
    """`placement` None: nothing was ever placed under this plan."""

    placement: Placement | None = None
    moving: set[int] = field(default_factory=set)
    staged: dict[int, Staged] = field(default_factory=dict)
    adoptions: list[Adoption] = field(default_factory=list)
    losers: list[tuple[int, int, Attempt]] = field(default_factory=list)
    """(owner, map, attempt) of streams to be discarded."""
    fault: Fault | None = None


def recover(plan: Plan, joined: Mapping[int, Joined]) -> Recovered:
    """`joined`: the answers of live members; holdings under another plan have been taken out."""
    tables = [message.placement for message in joined.values() if message.placement is not None]
    base = max((table for table in tables if table.plan == plan.digest), key=lambda table: table.version, default=None)
    if base is None:
        return Recovered(losers=_all_streams(joined))
    found = Recovered(base)
    found.staged = {staged.group: staged for staged in base.kept}
    for member, message in joined.items():
        for staged in message.staged:
            if (base.owners[staged.group], base.generations[staged.group]) == (member, staged.generation):
                found.staged[staged.group] = staged
    owners: dict[int, set[int]] = {}
    for group, (owner, generation) in enumerate(zip(base.owners, base.generations, strict=True)):
        if owner in joined and joined[owner].placement is not None:
            owners.setdefault(generation, set()).add(owner)
        elif owner != NOBODY:
            found.moving.add(group)
    _adopt(found, joined, owners)
    return found


def _all_streams(joined: Mapping[int, Joined]) -> list[tuple[int, int, Attempt]]:
    return [(member, each.map, each.attempt) for member, message in joined.items() for each in message.streams]


def _adopt(found: Recovered, joined: Mapping[int, Joined], owners: Mapping[int, set[int]]) -> None:
    held: dict[Name, dict[int, StreamReport]] = {}
    for member, message in joined.items():
        for report in message.streams:
            held.setdefault((report.map, report.attempt), {})[member] = report
    won: dict[tuple[int, int], Attempt] = {}
    decided: dict[Name, Adoption] = {}
    for name in sorted(held):
        if any(report.won for report in held[name].values()):
            decided[name] = _adoption(name, held[name], owners)
            _note_winner(found, won, decided[name])
            _move_where_missing(found, decided[name], held[name], owners)
    ripe = [_adoption(name, held[name], owners) for name in sorted(held) if name not in decided]
    for candidate in sorted(ripe, key=lambda each: (-len(each.generations), each.map, each.attempt)):
        name = (candidate.map, candidate.attempt)
        wanted = {owner for generation in candidate.generations for owner in owners[generation]}
        free = all((candidate.map, generation) not in won for generation in candidate.generations)
        if candidate.generations and free and wanted <= held[name].keys():
            decided[name] = candidate
            _note_winner(found, won, candidate)
    found.adoptions = list(decided.values())
    found.losers = [(member, *name) for name, reports in held.items() if name not in decided for member in reports]


def _adoption(name: Name, reports: Mapping[int, StreamReport], owners: Mapping[int, set[int]]) -> Adoption:
    report = next(iter(reports.values()))
    generations = frozenset(report.generations).intersection(owners)
    untold = tuple(sorted(member for member, each in reports.items() if not each.won))
    rows = sum(each.rows for each in reports.values())
    payload_bytes = sum(each.payload_bytes for each in reports.values())
    return Adoption(*name, report, generations, untold, rows, payload_bytes)


def _note_winner(found: Recovered, won: dict[tuple[int, int], Attempt], adoption: Adoption) -> None:
    for generation in adoption.generations:
        winner = won.setdefault((adoption.map, generation), adoption.attempt)
        if winner != adoption.attempt and found.fault is None:
            sentence = f"map {adoption.map} has two winners at generation {generation}, {winner} and {adoption.attempt}"
            found.fault = Fault("InternalError", sentence)


def _move_where_missing(
    found: Recovered, adoption: Adoption, reports: Mapping[int, StreamReport], owners: Mapping[int, set[int]]
) -> None:
    """An owner without the stream of a winner has broken its promise: its groups of these generations move."""
    base = found.placement
    assert base is not None
    for generation in adoption.generations:
        for owner in owners[generation] - reports.keys():
            groups = base.groups_of(owner, frozenset((generation,)))
            found.moving.update(groups)
            for group in groups:
                found.staged.pop(group, None)
