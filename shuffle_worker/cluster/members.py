"""The member list of a cluster: who is in it, as which incarnation, heard when. Pure; the caller brings the clock.

A member's name may come back with another incarnation after a restart; what the old incarnation held is then lost, and
nothing that names it is believed any more. Every change makes a new membership version.
"""

from dataclasses import dataclass, field

import msgspec

from shuffle_worker.errors import Fenced, UserError


class Member(msgspec.Struct, frozen=True):
    """One process that can hold partitions. `host`:`port` is where its transport listens."""

    name: str
    incarnation: int
    host: str
    port: int

    @property
    def address(self) -> str:
        return f"{self.host}:{self.port}"


class Membership(msgspec.Struct, frozen=True):
    """The list at one version; lists of a higher version replace those of a lower one."""

    version: int
    members: tuple[Member, ...]


@dataclass
class _Seen:
    member: Member
    heard_at: float
    drained: bool = False


@dataclass
class ClusterCoordinator:
    """Keeps the list; answers who may be given partitions."""

    suspect_s: float = 5.0
    dead_s: float = 15.0
    version: int = 0
    _seen: dict[str, _Seen] = field(default_factory=dict)

    def join(self, member: Member, now: float) -> Membership:
        """Enter or re-enter the list. The same incarnation again changes nothing."""
        seen = self._seen.get(member.name)
        if seen is None or seen.member != member:
            self._seen[member.name] = _Seen(member, now)
            self.version += 1
        else:
            seen.heard_at = now
        return self.membership()

    def leave(self, name: str, incarnation: int) -> Membership:
        """Leave the list. An incarnation that has been replaced cannot take its successor with it."""
        self._current(name, incarnation)
        del self._seen[name]
        self.version += 1
        return self.membership()

    def heartbeat(self, name: str, incarnation: int, now: float) -> Membership:
        """Note that a member lives. :raises Fenced: it is not, or no longer, the one in the list."""
        self._current(name, incarnation).heard_at = now
        return self.membership()

    def drain(self, name: str) -> Membership:
        """Give the member no new partitions."""
        seen = self._known(name)
        if not seen.drained:
            seen.drained = True
            self.version += 1
        return self.membership()

    def adopt(self, membership: Membership, now: float) -> None:
        """Take over a list made by the cluster's first member, if it is newer than ours."""
        if membership.version > self.version:
            self.version = membership.version
            self._seen = {member.name: _Seen(member, now) for member in membership.members}

    def expire(self, now: float) -> list[Member]:
        """Remove and return who has been silent for `dead_s`."""
        dead = [seen.member for seen in self._seen.values() if now - seen.heard_at >= self.dead_s]
        for member in dead:
            del self._seen[member.name]
            self.version += 1
        return dead

    def membership(self) -> Membership:
        return Membership(self.version, tuple(seen.member for seen in self._seen.values()))

    def eligible(self, now: float) -> list[Member]:
        """Who may be given new partitions: neither draining nor suspect."""
        return [
            seen.member for seen in self._seen.values() if not seen.drained and now - seen.heard_at < self.suspect_s
        ]

    def member(self, name: str) -> Member:
        """:raises UserError: no such member; the message lists the known."""
        return self._known(name).member

    def _known(self, name: str) -> _Seen:
        seen = self._seen.get(name)
        if seen is None:
            known = ", ".join(sorted(self._seen)) or "none"
            raise UserError(f"no member is named {name!r}: the known members are {known}")
        return seen

    def _current(self, name: str, incarnation: int) -> _Seen:
        seen = self._known(name)
        if seen.member.incarnation != incarnation:
            raise Fenced(
                f"member {name} is incarnation {seen.member.incarnation:016x}, and {incarnation:016x} is an older one: "
                "join again"
            )
        return seen
