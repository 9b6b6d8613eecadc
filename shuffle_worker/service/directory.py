"""What this member knows of shuffles: asked of the registrar once, kept until it changes. Thread-safe."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import pyarrow as pa

from shuffle_worker.errors import ShuffleError, ShuffleLost, UserError
from shuffle_worker.service import messages
from shuffle_worker.service.calls import Calls, Reply
from shuffle_worker.service.membership import MembershipService
from shuffle_worker.service.messages import Claimed, Done, Info, Located, Owner
from shuffle_worker.service.schemas import schema_fault
from shuffle_worker.spec.model import ShuffleType

T = TypeVar("T")


@dataclass
class Known:
    """One shuffle as this member knows it. Only what never changes is kept."""

    info: Info
    schema: pa.Schema | None = None
    owners: dict[int, Owner] = field(default_factory=dict)

    def group(self, partition: int) -> int:
        """The group that holds a partition. :raises UserError: out of range."""
        if isinstance(partition, bool) or not isinstance(partition, int):
            raise UserError(f"a partition is a whole number, not {partition!r}")
        if not 0 <= partition < self.info.partitions:
            last = self.info.partitions - 1
            raise UserError(f"partition {partition} of {self.info.id!r} is out of range: it has 0..{last}")
        return 0 if self.info.kind == ShuffleType.BROADCAST else partition


class Directory:
    """Asks the registrar, and remembers."""

    def __init__(self, calls: Calls, membership: MembershipService, on_closed: Callable[[str, bytes], None]) -> None:
        """`on_closed(id, uid)` is told of shuffles that any member closed; on the loop."""
        self._on_closed = on_closed
        self._calls = calls
        self._membership = membership
        self._known: dict[str, Known] = {}
        calls.serve(messages.Closed, self._hear_closed)
        membership.on_change(self._on_members)

    def _ask(self, request: object, timeout_s: float, expected: type[T]) -> T:
        return self._calls.ask(self._membership.registrar, request, timeout_s, expected)

    def create(self, info: Info, timeout_s: float) -> None:
        self._note(self._ask(messages.Create(info), timeout_s, Info))

    def known(self, shuffle_id: str, timeout_s: float) -> Known:
        """:raises UserError: no such shuffle; lists those that are."""
        known = self._known.get(shuffle_id)
        if known is None:
            known = self._note(self._ask(messages.Look(shuffle_id), timeout_s, Info))
        return known

    def all_known(self) -> list[Known]:
        return list(self._known.copy().values())

    def owners(
        self, known: Known, groups: Sequence[int], target: str, schema: pa.Schema, timeout_s: float
    ) -> Sequence[Owner]:
        """Who holds these groups, which they do from now on at the latest; `target` empty: whoever it is.

        :raises UserError: the schema, the target or a group is refused. :raises ShuffleLost: an owner is gone.
        """
        if known.schema is not None:
            if not known.schema.equals(schema):
                raise UserError(schema_fault(known.info.id, known.schema, schema))
            owners = [known.owners.get(group) for group in groups]
            if all(owner is not None and target in ("", owner.name) for owner in owners):
                return [owner for owner in owners if owner is not None]
        ipc = b"" if known.schema is not None else schema.serialize().to_pybytes()
        request = messages.Claim(known.info.id, tuple(groups), target, ipc or known.info.schema)
        claimed = self._ask(request, timeout_s, Claimed)
        known = self._note(claimed.info)
        known.owners.update(zip(groups, claimed.owners, strict=True))
        return claimed.owners

    def locate(self, known: Known, group: int, wait_s: float, timeout_s: float) -> tuple[Known, Owner | None]:
        """Who holds a group; None: nobody so far. Waits up to `wait_s` for somebody, or for the seal."""
        owner = known.owners.get(group)
        if owner is not None:
            return known, owner
        located = self._ask(messages.Locate(known.info.id, group, wait_s), timeout_s + wait_s, Located)
        known = self._note(located.info)
        if located.owner is not None:
            known.owners[group] = located.owner
        return known, located.owner

    def after_loss(self, known: Known, group: int, owner: Owner, deadline: float) -> None:
        """An owner did not answer: return if it may be tried again. :raises ShuffleLost: it is gone for good."""
        known.owners.pop(group, None)
        try:
            self.locate(known, group, 0.0, max(0.1, deadline - time.monotonic()))
        except ShuffleLost:
            raise
        except ShuffleError as error:
            if owner.name != self._membership.registrar:
                raise
            raise ShuffleLost(
                f"partition {group} of {known.info.id!r} was held by {owner.name}, which is gone: what was sent to it "
                "is lost"
            ) from error

    def seal(self, shuffle_id: str, timeout_s: float) -> None:
        self._ask(messages.Seal(shuffle_id), timeout_s, Done)

    def close(self, shuffle_id: str, timeout_s: float) -> None:
        self._ask(messages.Close(shuffle_id), timeout_s, Done)

    def forget(self, shuffle_id: str) -> None:
        """What is known turned out to be old."""
        self._known.pop(shuffle_id, None)

    def _note(self, info: Info) -> Known:
        known = self._known.get(info.id)
        if known is None or known.info.uid != info.uid:
            known = self._known[info.id] = Known(info)
        if info.schema and known.schema is None:
            known.schema = pa.ipc.read_schema(pa.py_buffer(info.schema))
        if (info.schema and not known.info.schema) or info.sealed:
            known.info = info
        return known

    # news, on the loop
    def _hear_closed(self, news: messages.Closed, reply: Reply) -> None:
        known = self._known.get(news.id)
        if known is None or known.info.uid == news.uid:  # else the id is another's already
            self._known.pop(news.id, None)
            self._on_closed(news.id, news.uid)
        reply(Done())

    def _on_members(self) -> None:
        living = {(member.name, member.incarnation) for member in self._membership.members().members}
        for known in self.all_known():
            for group, owner in list(known.owners.copy().items()):
                if (owner.name, owner.incarnation) not in living:
                    known.owners.pop(group, None)
