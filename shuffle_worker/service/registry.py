"""The registrar's book: shuffles, who owns which of their partitions, which attempt of a map counts. Pure; no I/O.

The first member of a service keeps it. It decides only once: an owner, a schema and a winner never change.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import msgspec

from shuffle_worker.cluster.members import Member
from shuffle_worker.errors import Fenced, ShuffleLost, UserError
from shuffle_worker.protocol.placement import spread
from shuffle_worker.service.messages import EPOCH_WRITER, Info, Owner, StreamName


@dataclass
class Decision:
    """The attempt that counts for a map. `told`: every owner that lives has acknowledged it."""

    attempt: int
    owners: tuple[Owner, ...]
    told: bool = False


@dataclass
class Entry:
    """One shuffle."""

    info: Info
    owners: dict[int, Owner] = field(default_factory=dict)
    placed: set[int] = field(default_factory=set)
    """Groups whose owner has said that it holds them."""
    decisions: dict[tuple[int, int, int], Decision] = field(default_factory=dict)
    sealing: bool = False

    def distinct_owners(self) -> list[Owner]:
        return list(dict.fromkeys(self.owners.values()))

    def undecided_told(self) -> bool:
        """Whether a decision is still on its way to its owners."""
        return any(not decision.told for decision in self.decisions.values())


@dataclass
class Registry:
    """All shuffles of one service, by id."""

    _entries: dict[str, Entry] = field(default_factory=dict)
    _by_uid: dict[bytes, Entry] = field(default_factory=dict)

    def create(self, info: Info) -> Info:
        """Enter a shuffle. The same uid again changes nothing. :raises UserError: the id is taken."""
        entry = self._entries.get(info.id)
        if entry is None:
            entry = Entry(info)
            self._entries[info.id] = self._by_uid[info.uid] = entry
        elif entry.info.uid != info.uid:
            raise UserError(
                f"a shuffle {info.id!r} exists already ({entry.info.kind.value}, {entry.info.partitions} partitions): "
                "close it first, or choose another id"
            )
        return entry.info

    def entry(self, shuffle_id: str) -> Entry:
        """:raises UserError: there is none; the message lists the known."""
        entry = self._entries.get(shuffle_id)
        if entry is None:
            known = ", ".join(repr(each) for each in sorted(self._entries)) or "none"
            raise UserError(f"no shuffle {shuffle_id!r} exists: create it first; the known are {known}")
        return entry

    def entry_of(self, uid: bytes) -> Entry:
        """:raises Fenced: it was closed."""
        entry = self._by_uid.get(uid)
        if entry is None:
            raise Fenced(f"the shuffle {uid.hex()} was closed")
        return entry

    def entries(self) -> list[Entry]:
        return list(self._entries.values())

    def close(self, shuffle_id: str) -> Entry:
        entry = self.entry(shuffle_id)
        del self._entries[shuffle_id]
        del self._by_uid[entry.info.uid]
        return entry

    def fix_schema(self, entry: Entry, schema: bytes) -> None:
        """The first schema is the shuffle's; whether another is the same is for the caller to say."""
        if not entry.info.schema:
            entry.info = msgspec.structs.replace(entry.info, schema=schema)

    def claim(
        self,
        entry: Entry,
        groups: Sequence[int],
        target: Member | None,
        living: Sequence[Owner],
        eligible: Sequence[Owner],
    ) -> None:
        """Give every group an owner: the target, or of the eligible the one with the fewest. Owners it has stay.

        :raises UserError: a group is out of range, another member's, or the shuffle is sealed.
        :raises ShuffleLost: a group's owner is not a member any more.
        """
        info = entry.info
        if entry.sealing or info.sealed:
            raise UserError(f"the shuffle {info.id!r} is sealed: it takes no more rows")
        for group in groups:
            if not 0 <= group < info.groups:
                raise UserError(f"partition {group} of {info.id!r} is out of range: it has 0..{info.partitions - 1}")
            owner = entry.owners.get(group)
            if owner is not None:
                check_lives(info, group, owner, living)
                if target is not None and owner.name != target.name:
                    raise UserError(
                        f"partition {group} of {info.id!r} is held by {owner.name}, as its first send said: "
                        f"send it there, not to {target.name}"
                    )
        free = [group for group in groups if group not in entry.owners]
        if target is not None:
            entry.owners.update(dict.fromkeys(free, Owner(target.name, target.incarnation)))
        elif free:
            self._place(entry, free, sorted(eligible, key=lambda owner: owner.name))

    def _place(self, entry: Entry, groups: Sequence[int], eligible: Sequence[Owner]) -> None:
        if not eligible:
            raise ShuffleLost(f"no member can be given partitions of {entry.info.id!r}: all are silent")
        by_number = dict(enumerate(eligible))
        numbers = {owner: number for number, owner in by_number.items()}
        load: dict[int, int] = {}
        for owner in entry.owners.values():
            if owner in numbers:
                load[numbers[owner]] = load.get(numbers[owner], 0) + 1
        for group, number in spread(groups, list(by_number), load).items():
            entry.owners[group] = by_number[number]

    def release(self, entry: Entry, groups: Iterable[int]) -> None:
        """Forget owners that never said that they hold these groups."""
        for group in groups:
            if group not in entry.placed:
                entry.owners.pop(group, None)

    def decide(self, entry: Entry, stream: StreamName, owners: tuple[Owner, ...]) -> Decision:
        """The decision on a map: this attempt, unless there is one. :raises UserError: sealed before one was made."""
        decision = entry.decisions.get(stream.decision)
        if decision is None:
            if entry.sealing or entry.info.sealed:
                raise UserError(f"the shuffle {entry.info.id!r} is sealed: it takes no more rows")
            decision = entry.decisions[stream.decision] = Decision(stream.attempt, owners)
        return decision

    def settle(self, entry: Entry, stream: StreamName) -> None:
        """All owners know. What can come again only by its own name needs no memory."""
        decision = entry.decisions[stream.decision]
        decision.told = True
        if stream.epoch != EPOCH_WRITER:
            del entry.decisions[stream.decision]

    def mark_sealed(self, entry: Entry) -> None:
        entry.info = msgspec.structs.replace(entry.info, sealed=True)


def check_lives(info: Info, group: int, owner: Owner, living: Iterable[Owner]) -> None:
    """:raises ShuffleLost: the owner is gone, and with it what was pushed to it."""
    if owner not in living:
        raise ShuffleLost(
            f"partition {group} of {info.id!r} was held by {owner.name}, which is gone: what was sent to it is lost; "
            "close the shuffle and send it again under a new one"
        )
