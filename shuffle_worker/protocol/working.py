"""A coordinator's main phase: places groups, hands out maps, chooses winners, has groups sealed, mends losses. Pure.

- Attempts start only when every ready member has acknowledged the newest table.
- Of a map's attempts the first that is prepared at every owner wins, for all generations it covers; the others are
  discarded. An attempt covers what was pending for its map when it started; if an owner of that is lost first, it is
  given up and the map runs again, for what is pending then.
- A generation that every map has won is sealed at its owners.
- Groups of a lost owner get a new owner and the next table's version as generation; only they are pending again. Staged
  groups on shared storage outlive their owner.
"""

from collections.abc import Iterable

from shuffle_worker.protocol.census import Standing
from shuffle_worker.protocol.context import Context
from shuffle_worker.protocol.effects import Note
from shuffle_worker.protocol.map_table import Live, MapTable
from shuffle_worker.protocol.messages import (
    Decided,
    Discard,
    GroupsLost,
    GroupsLostSeen,
    GroupStagedMsg,
    Joined,
    MapFailed,
    MapPrepared,
    Place,
    Placed,
    Progress,
    Run,
    Seal,
    StagedSeen,
    Winner,
)
from shuffle_worker.protocol.placement import first_placement, moved, with_figures
from shuffle_worker.protocol.recovery import Adoption, recover
from shuffle_worker.protocol.values import (
    NOBODY,
    Attempt,
    Fault,
    Placement,
    Plan,
    Split,
    Staged,
    first_version,
)

MOST_BACKOFF_DOUBLINGS = 6
BLAMED_FACTOR = 4
"""Failures that blame another member may be this many times `backoff_limit` + 1: its loss explains most of them."""


class Working:
    def __init__(self, context: Context, plan: Plan) -> None:
        self._context = context
        self._plan = plan
        self.maps = MapTable(plan.maps)
        self.staged: list[Staged | None] = [None] * plan.groups
        self.unstaged = plan.groups
        self.placement = Placement(0, plan.digest, (), ())
        self._placed: set[int] = set()
        """Members that acknowledged the newest table."""
        self._next_version = first_version(context.order.epoch)
        self._next_attempt = 0
        self._sealed: set[int] = set()
        self._running: dict[int, int] = {}
        self.tasks_rerun = 0
        self.attempts_failed = 0
        self.blamed_failures = 0
        self.retries = 0
        self._durations = (0, 0.0)

    @property
    def done(self) -> bool:
        return self.unstaged == 0

    # ---- begin

    def begin(self, joined: dict[int, Joined]) -> None:
        """From what members hold, or from nothing."""
        context = self._context
        found = recover(self._plan, joined)
        for owner, map, attempt in found.losers:
            self._discard((owner,), map, attempt)
        if found.fault is not None:
            context.fail_with(found.fault)
            return
        if found.placement is None:
            members = context.census.ready()
            self._take_table(first_placement(self._version(), self._plan.digest, self._plan.groups, members))
            return
        context.voice.do(Note(f"resumes: {len(found.adoptions)} winners, {len(found.staged)} staged groups"))
        for map, split in enumerate(found.placement.splits):
            self.maps.agree(map, split)
        self.tasks_rerun = found.placement.tasks_rerun
        self.placement = found.placement
        for group, staged in found.staged.items():
            self._note_staged(group, staged)
        for adoption in found.adoptions:
            self._adopt(adoption)
        self._move(found.moving)

    def _adopt(self, adoption: Adoption) -> None:
        if not self._agrees(adoption.map, adoption.report.split):
            return
        self.maps.win(adoption.map, adoption.attempt, adoption.generations)
        self._count_sent(adoption.map, adoption.rows, adoption.payload_bytes)
        self._tell_winner(adoption.tell, adoption.map, adoption.attempt, adoption.report.generations)

    # ---- placement

    def _version(self) -> int:
        version = self._next_version
        self._next_version += 1
        if self._next_version >= first_version(self._context.order.epoch) + (1 << 16):
            self._context.fail("InternalError", "an epoch has used up its placement tables")
        return version

    def _move(self, groups: Iterable[int], kept: Iterable[Staged] = (), avoid: int = NOBODY) -> None:
        """Make the next table, with new owners for these groups; give up attempts that sent to the old ones."""
        context = self._context
        moving = set(groups)
        members = [member for member in context.census.ready() if member != avoid] or context.census.ready()
        if not members:
            context.fail("PeerLost", f"no member is left to take over groups ({context.census.losses()})")
            return
        for group in moving:
            if self.staged[group] is not None:
                self.staged[group] = None
                self.unstaged += 1
        touched = {self.placement.generations[group] for group in moving}
        for live in [each for each in self.maps.live.values() if not touched.isdisjoint(each.generations)]:
            self._give_up(live)
        table = moved(self.placement, self._version(), moving, members, tuple(kept))
        self._take_table(with_figures(table, self.maps.splits, self.tasks_rerun))

    def _take_table(self, placement: Placement) -> None:
        self.placement = placement
        self._need()
        self._placed.clear()
        for member in self._context.census.ready():
            self._place(member)
        self._seal()

    def _need(self) -> None:
        generations = zip(self.placement.owners, self.placement.generations, self.staged, strict=True)
        self.maps.need({generation for owner, generation, staged in generations if owner != NOBODY and staged is None})

    def _place(self, member: int) -> None:
        context = self._context
        context.voice.ask(member, ("place",), Place, context.order.membership, self.placement)

    def on_placed(self, message: Placed) -> None:
        if message.version == self.placement.version:
            self._context.voice.settle(message.sender, ("place",))
            self._placed.add(message.sender)

    def on_ready(self, member: int) -> None:
        """A member that came later: it may map at once, and own what others lose."""
        self._place(member)

    # ---- maps

    def busy(self) -> set[int]:
        """Members of which progress is expected."""
        busy = {live.member for live in self.maps.live.values()}
        for owner, generation, staged in zip(
            self.placement.owners, self.placement.generations, self.staged, strict=True
        ):
            if staged is None and generation in self._sealed:
                busy.add(owner)
        busy.discard(NOBODY)
        return busy

    def assign(self) -> None:
        """Give maps to members that have a free slot."""
        context = self._context
        now = context.voice.now
        self.maps.promote(now)
        if self.done or not self._placed.issuperset(context.census.ready()):
            return
        slots = context.order.limits.slots
        fit = context.census.fit(now, self._running.keys())
        while fit:
            member = min(fit, key=lambda each: self._running.get(each, 0))
            if self._running.get(member, 0) >= slots:
                return
            map = self.maps.next_ready(now)
            if map is None:
                map = self._straggler(member) if context.order.limits.speculate else None
                if map is None:
                    return
            self._run(map, member)

    def _run(self, map: int, member: int) -> None:
        context = self._context
        pending = self.maps.pending(map)
        attempt = Attempt(context.order.epoch, self._next_attempt)
        self._next_attempt += 1
        owners = self.placement.owners_of(pending)
        if self.maps.failures[map] or self.maps.attempts(map):
            self.retries += 1
        self.maps.start(Live(map, attempt, member, pending, owners, context.voice.now))
        if not self._running.get(member):
            context.census.give_work(context.voice.now, member)
        self._running[member] = self._running.get(member, 0) + 1
        version = self.placement.version
        context.voice.ask(member, ("run", attempt.number), Run, map, attempt, version, tuple(sorted(pending)))

    def _straggler(self, idle: int) -> int | None:
        """A map whose only attempt has taken more than twice the mean, on another member."""
        count, total_s = self._durations
        if count == 0:
            return None
        late = self._context.voice.now - 2 * total_s / count
        found = [
            live
            for live in self.maps.live.values()
            if live.started_at < late and live.member != idle and len(self.maps.attempts(live.map)) == 1
        ]
        return min(found, key=lambda live: live.started_at).map if found else None

    def on_running(self, member: int, attempt: Attempt) -> None:
        self._context.voice.settle(member, ("run", attempt.number))

    def on_progress(self, message: Progress) -> None:
        live = self.maps.live.get(message.attempt)
        if live is not None and live.member == message.sender:
            live.rows = message.rows
            self.on_running(message.sender, message.attempt)

    def on_map_prepared(self, message: MapPrepared) -> None:
        """The choice: the first that is prepared everywhere wins."""
        context = self._context
        self.on_running(message.sender, message.attempt)
        live = self.maps.live.get(message.attempt)
        if live is None or live.member != message.sender or live.map != message.map:
            won = message.map < self.maps.maps and message.attempt in self.maps.won[message.map].values()
            context.voice.tell(message.sender, Decided, message.map, message.attempt, won)
            return
        if not self._agrees(live.map, message.split):
            return
        self._end(live)
        count, total_s = self._durations
        self._durations = (count + 1, total_s + context.voice.now - live.started_at)
        if self.maps.ever_won[live.map]:
            self.tasks_rerun += 1
        self._count_sent(live.map, message.rows, message.payload_bytes)
        for other in self.maps.attempts(live.map):
            self._give_up(other)
        self.maps.win(live.map, live.attempt, live.generations)
        self._tell_winner(live.owners, live.map, live.attempt, tuple(sorted(live.generations)))
        context.voice.tell(message.sender, Decided, live.map, live.attempt, True)
        self.maps.enqueue(live.map)
        self._seal()

    def _count_sent(self, map: int, rows: int, payload_bytes: int) -> None:
        before = self.maps.sent[map]
        self.maps.sent[map] = (before[0] + rows, before[1] + payload_bytes)

    def _tell_winner(self, owners: Iterable[int], map: int, attempt: Attempt, generations: tuple[int, ...]) -> None:
        for owner in owners:
            key = ("winner", map, attempt.epoch, attempt.number)
            self._context.voice.ask(owner, key, Winner, map, attempt, generations)

    def on_won(self, owner: int, map: int, attempt: Attempt) -> None:
        self._context.voice.settle(owner, ("winner", map, attempt.epoch, attempt.number))

    def _agrees(self, map: int, split: Split) -> bool:
        """Whether the attempt saw what the plan and other attempts saw; else the job fails."""
        expected = self._plan.map_rows[map]
        if expected not in (-1, split.rows):
            sentence = (
                f"split {map} changed while it was read: it has {split.rows} rows, and had {expected} when planned"
            )
        elif not self.maps.agree(map, split):
            sentence = f"split {map} changed while it was read: two attempts saw different rows"
        else:
            return True
        self._context.fail("InputError", sentence)
        return False

    def on_map_failed(self, message: MapFailed) -> None:
        context = self._context
        self.on_running(message.sender, message.attempt)
        context.voice.tell(message.sender, Decided, message.map, message.attempt, False)
        live = self.maps.live.get(message.attempt)
        if live is None or live.member != message.sender:
            return
        fault = message.fault
        self._end(live)
        self._discard(live.owners, live.map, live.attempt)
        if fault.blames != NOBODY and fault.blames != message.sender:
            context.census.report(context.voice.now, message.sender, fault.blames, refused=False)
        self._count_failure(fault, f"map {live.map} on {context.census.address(message.sender)}")
        self.maps.failures[live.map] += 1
        doublings = min(self.maps.failures[live.map] - 1, MOST_BACKOFF_DOUBLINGS)
        self.maps.enqueue(live.map, context.voice.now + context.order.timers.backoff_s * (1 << doublings))

    def _count_failure(self, fault: Fault, what: str) -> None:
        """Against the job's limit; those that blame another member count apart, since its loss is no failure."""
        context = self._context
        limit = context.order.limits.backoff_limit
        self.attempts_failed += 1
        context.voice.do(Note(f"{what} failed: {fault.sentence}"))
        if not fault.retryable:
            context.fail_with(Fault(fault.kind, f"{what}: {fault.sentence}"))
            return
        if fault.blames != NOBODY:
            self.blamed_failures += 1
        own = self.attempts_failed - self.blamed_failures
        if own > limit or self.blamed_failures > (limit + 1) * BLAMED_FACTOR:
            sentence = (
                f"{self.attempts_failed} attempts failed (backoffLimit {limit}); the last, {what}: {fault.sentence}"
            )
            context.fail(fault.kind, sentence)

    def _give_up(self, live: Live) -> None:
        """Not a failure: it was overtaken by a winner or a loss."""
        self._end(live)
        self._discard({*live.owners, live.member}, live.map, live.attempt)
        self.maps.enqueue(live.map)

    def _end(self, live: Live) -> None:
        self.maps.end(live)
        self._running[live.member] -= 1
        if not self._running[live.member]:
            del self._running[live.member]
        self._context.voice.settle(live.member, ("run", live.attempt.number))

    def _discard(self, members: Iterable[int], map: int, attempt: Attempt) -> None:
        context = self._context
        for member in members:
            if context.census.standing(member) is Standing.READY:
                context.voice.ask(member, ("discard", attempt.epoch, attempt.number), Discard, map, attempt)

    def on_discarded(self, member: int, attempt: Attempt) -> None:
        self._context.voice.settle(member, ("discard", attempt.epoch, attempt.number))

    # ---- groups

    def _seal(self) -> None:
        """Ask the owners of every generation that all maps have won."""
        context = self._context
        for generation in self.maps.complete():
            if generation in self._sealed:
                continue
            self._sealed.add(generation)
            for owner in self.placement.owners_of(frozenset((generation,))):
                context.voice.ask(owner, ("seal", generation), Seal, generation)
                context.census.give_work(context.voice.now, owner)

    def on_sealing(self, owner: int, generation: int) -> None:
        self._context.voice.settle(owner, ("seal", generation))

    def sealed_groups(self) -> int:
        pairs = zip(self.placement.owners, self.placement.generations, strict=True)
        return sum(owner == NOBODY or generation in self._sealed for owner, generation in pairs)

    def on_group_staged(self, message: GroupStagedMsg) -> None:
        context = self._context
        staged = message.staged
        context.voice.tell(message.sender, StagedSeen, staged.group, staged.generation)
        if not self._owns(message.sender, staged.group, staged.generation):
            return
        if self.maps.missing(staged.generation):
            who = context.census.address(message.sender)
            context.fail("InternalError", f"{who} sealed group {staged.group} before all maps had won")
            return
        self._note_staged(staged.group, staged)

    def _note_staged(self, group: int, staged: Staged) -> None:
        if self.staged[group] is None:
            self.unstaged -= 1
        self.staged[group] = staged

    def on_groups_lost(self, message: GroupsLost) -> None:
        """An owner cannot deliver some of its groups: others take them."""
        context = self._context
        context.voice.tell(message.sender, GroupsLostSeen, message.generation, message.groups)
        groups = [group for group in message.groups if self._owns(message.sender, group, message.generation)]
        if groups:
            self._count_failure(message.fault, f"group {groups[0]} on {context.census.address(message.sender)}")
            self._move(groups, avoid=message.sender)

    def _owns(self, member: int, group: int, generation: int) -> bool:
        placement = self.placement
        return group < len(placement.owners) and (placement.owners[group], placement.generations[group]) == (
            member,
            generation,
        )

    # ---- loss

    def on_lost(self, member: int) -> None:
        """Its attempts run again elsewhere; its groups move, except those that are staged for good."""
        for live in [each for each in self.maps.live.values() if each.member == member]:
            self._give_up(live)
        self._placed.discard(member)
        groups = self.placement.groups_of(member)
        kept: list[Staged] = []
        if self._plan.durable:
            kept = [staged for staged in (self.staged[group] for group in groups) if staged is not None]
        staying = {staged.group for staged in kept}
        if groups:
            self._move([group for group in groups if group not in staying], kept)
