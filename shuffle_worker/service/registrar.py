"""The registrar's side of the service: answers from its book, and sees to it that owners know what was decided.

Runs on the control loop of the service's first member. Nobody is told of an owner before that owner holds the
partition, nor of a winner before every owner of it has acknowledged.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from shuffle_worker.cluster.members import ClusterCoordinator
from shuffle_worker.errors import DeadlineExceeded, Fenced, PeerLost, ShuffleError, ShuffleLost, UserError
from shuffle_worker.service import messages
from shuffle_worker.service.calls import Calls, Outcome, Reply
from shuffle_worker.service.messages import Claimed, Decided, Done, Info, Located, Owner, StreamName
from shuffle_worker.service.node import Node
from shuffle_worker.service.registry import Entry, Registry, check_lives
from shuffle_worker.service.schemas import schema_fault

log = logging.getLogger(__name__)


@dataclass
class _Locating:
    """A reader that waits for a partition to get an owner."""

    group: int
    reply: Reply
    done: bool = False


@dataclass
class _Shuffle:
    """What is under way for one shuffle."""

    locating: list[_Locating] = field(default_factory=list)
    deciding: dict[tuple[int, int, int], list[Reply]] = field(default_factory=dict)
    sealing: list[Reply] = field(default_factory=list)
    schema: pa.Schema | None = None


class Registrar:
    """Serves what all members ask of the one that keeps the book."""

    def __init__(self, node: Node, calls: Calls, cluster: ClusterCoordinator, timeout_s: float) -> None:
        self._node = node
        self._calls = calls
        self._cluster = cluster
        self._timeout_s = timeout_s
        self._registry = Registry()
        self._under_way: dict[bytes, _Shuffle] = {}
        calls.serve(messages.Create, self._on_create)
        calls.serve(messages.Look, self._on_look)
        calls.serve(messages.Claim, self._on_claim)
        calls.serve(messages.Locate, self._on_locate)
        calls.serve(messages.Decide, self._on_decide)
        calls.serve(messages.Seal, self._on_seal)
        calls.serve(messages.Close, self._on_close)

    # the book
    def _on_create(self, request: messages.Create, _reply: Reply) -> Info:
        info = self._registry.create(request.info)
        self._under_way.setdefault(info.uid, _Shuffle())
        return info

    def _on_look(self, request: messages.Look, _reply: Reply) -> Info:
        return self._registry.entry(request.id).info

    def _living(self) -> list[Owner]:
        return [Owner(member.name, member.incarnation) for member in self._cluster.membership().members]

    def _eligible(self) -> list[Owner]:
        return [Owner(member.name, member.incarnation) for member in self._cluster.eligible(time.monotonic())]

    # owners
    def _on_claim(self, request: messages.Claim, reply: Reply) -> None:
        self._check_member(reply.sender)
        entry = self._registry.entry(request.id)
        target = self._cluster.member(request.target) if request.target else None
        self._check_schema(entry, request.schema)
        self._registry.claim(entry, request.groups, target, self._living(), self._eligible())
        self._registry.fix_schema(entry, request.schema)
        self._place(entry, request.groups, reply)

    def _check_member(self, sender: tuple[str, int]) -> None:
        if Owner(*sender) not in self._living():
            raise UserError(f"{sender[0]} is no member any more (it was silent, or another took its name): join again")

    def _check_schema(self, entry: Entry, schema: bytes) -> None:
        shuffle = self._under_way[entry.info.uid]
        if entry.info.schema and entry.info.schema != schema:
            if shuffle.schema is None:
                shuffle.schema = pa.ipc.read_schema(pa.py_buffer(entry.info.schema))
            fault = schema_fault(entry.info.id, shuffle.schema, pa.ipc.read_schema(pa.py_buffer(schema)))
            if fault:
                raise UserError(fault)

    def _place(self, entry: Entry, groups: tuple[int, ...], reply: Reply) -> None:
        """Have owners hold what they were given, then answer."""
        missing: dict[Owner, list[int]] = {}
        for group in groups:
            if group not in entry.placed:
                missing.setdefault(entry.owners[group], []).append(group)
        claimed = Claimed(entry.info, tuple(entry.owners[group] for group in groups))

        def placed(faults: list[ShuffleError]) -> None:
            for fault in faults:
                self._registry.release(entry, groups)
                reply(fault)
                return
            self._answer_locating(entry)
            reply(claimed)

        def one_placed(owner_groups: list[int]) -> Callable[[], None]:
            return lambda: entry.placed.update(owner_groups)

        requests = [
            (owner.name, messages.Place(entry.info, tuple(owned)), one_placed(owned))
            for owner, owned in missing.items()
        ]
        self._tell_all(requests, placed)

    def _tell_all(
        self, requests: list[tuple[str, Any, Callable[[], None]]], on_end: Callable[[list[ShuffleError]], None]
    ) -> None:
        """Ask several members; `on_end` takes the errors once all have answered or failed."""
        left = len(requests)
        faults: list[ShuffleError] = []

        def settle(on_done: Callable[[], None]) -> Outcome:
            def on_outcome(outcome: Any) -> None:
                nonlocal left
                left -= 1
                if isinstance(outcome, ShuffleError):
                    faults.append(outcome)
                else:
                    on_done()
                if left == 0:
                    on_end(faults)

            return on_outcome

        if not requests:
            on_end(faults)
        for to, request, on_done in requests:
            self._calls.start(to, request, self._timeout_s, settle(on_done))

    def _on_locate(self, request: messages.Locate, reply: Reply) -> Located | None:
        entry = self._registry.entry(request.id)
        if not 0 <= request.group < entry.info.groups:
            last = entry.info.partitions - 1
            raise UserError(f"partition {request.group} of {request.id!r} is out of range: it has 0..{last}")
        answer = self._located(entry, request.group)
        if answer is not None or request.wait_s <= 0:
            return answer or Located(entry.info, None)
        waiting = _Locating(request.group, reply)
        self._under_way[entry.info.uid].locating.append(waiting)

        def expire() -> None:
            if not waiting.done:
                waiting.done = True
                reply(Located(entry.info, None))

        self._node.loop.call_at(time.monotonic() + request.wait_s, expire)
        return None

    def _located(self, entry: Entry, group: int) -> Located | None:
        owner = entry.owners.get(group)
        if owner is not None and group in entry.placed:
            check_lives(entry.info, group, owner, self._living())
            return Located(entry.info, owner)
        return Located(entry.info, None) if entry.info.sealed else None

    def _answer_locating(self, entry: Entry) -> None:
        shuffle = self._under_way[entry.info.uid]
        waiting, shuffle.locating = shuffle.locating, []
        for each in waiting:
            if each.done:
                continue
            answer = self._located(entry, each.group)
            if answer is None:
                shuffle.locating.append(each)
            else:
                each.done = True
                each.reply(answer)

    # attempts at several owners
    def _on_decide(self, request: messages.Decide, reply: Reply) -> Decided | None:
        entry = self._registry.entry_of(request.stream.uid)
        decision = self._registry.decide(entry, request.stream, request.owners)
        if decision.told:
            return Decided(decision.attempt)
        deciding = self._under_way[entry.info.uid].deciding
        waiting = deciding.setdefault(request.stream.decision, [])
        waiting.append(reply)
        if len(waiting) == 1 and decision.attempt == request.stream.attempt:
            self._tell_winner(entry, request.stream, list(decision.owners))
        return None

    def _tell_winner(self, entry: Entry, stream: StreamName, owners: list[Owner]) -> None:
        """Tell owners until each has acknowledged, or is no member any more."""
        left = list(owners)

        def on_end(faults: list[ShuffleError]) -> None:
            living = self._living()
            again = [owner for owner in left if owner in living]
            if again and all(isinstance(fault, (DeadlineExceeded, PeerLost)) for fault in faults):
                log.warning("the winner of map %d of %s is told again to %s", stream.map, entry.info.id, again)
                at = time.monotonic() + 0.1
                self._node.loop.call_at(at, lambda: self._tell_winner(entry, stream, again))
                return
            self._end_decision(entry, stream, faults)

        def told(owner: Owner) -> Callable[[], None]:
            return lambda: left.remove(owner)

        self._tell_all([(owner.name, messages.Win(stream), told(owner)) for owner in owners], on_end)

    def _end_decision(self, entry: Entry, stream: StreamName, faults: list[ShuffleError]) -> None:
        self._registry.settle(entry, stream)
        shuffle = self._under_way.get(entry.info.uid)
        if shuffle is None:
            return
        outcome: Any = Decided(stream.attempt)
        if faults:
            sentence = f"map {stream.map} of {entry.info.id!r} was committed, but an owner of it is lost: {faults[0]}"
            outcome = ShuffleLost(sentence)
        for reply in shuffle.deciding.pop(stream.decision, []):
            reply(outcome)
        self._seal_if_quiet(entry, shuffle)

    # seal and close
    def _on_seal(self, request: messages.Seal, reply: Reply) -> Done | None:
        entry = self._registry.entry(request.id)
        if entry.info.sealed:
            return Done()
        entry.sealing = True
        shuffle = self._under_way[entry.info.uid]
        shuffle.sealing.append(reply)
        if len(shuffle.sealing) == 1:
            self._seal_if_quiet(entry, shuffle)
        return None

    def _seal_if_quiet(self, entry: Entry, shuffle: _Shuffle) -> None:
        """Once no winner is on its way any more: seal at the owners, then in the book."""
        if not shuffle.sealing or entry.undecided_told():
            return

        def on_end(faults: list[ShuffleError]) -> None:
            waiting, shuffle.sealing = shuffle.sealing, []
            for fault in faults:
                if not isinstance(fault, PeerLost):  # what is lost needs no seal
                    for reply in waiting:
                        reply(fault)
                    return
            self._registry.mark_sealed(entry)
            for reply in waiting:
                reply(Done())
            self._answer_locating(entry)

        owners = [owner for owner in entry.distinct_owners() if owner in self._living()]
        self._tell_all([(owner.name, messages.SealHere(entry.info.uid), _nothing) for owner in owners], on_end)

    def _on_close(self, request: messages.Close, reply: Reply) -> None:
        entry = self._registry.close(request.id)
        shuffle = self._under_way.pop(entry.info.uid)
        closed = Fenced(f"the shuffle {request.id!r} was closed")
        for waiting in [*shuffle.sealing, *(each for replies in shuffle.deciding.values() for each in replies)]:
            waiting(closed)
        for locating in shuffle.locating:
            if not locating.done:
                locating.done = True
                locating.reply(closed)
        for member in self._cluster.membership().members:
            self._calls.tell(member.name, messages.Closed(request.id, entry.info.uid))
        owners = [owner for owner in entry.distinct_owners() if owner in self._living()]
        requests = [(owner.name, messages.Forget(entry.info.uid), _nothing) for owner in owners]
        self._tell_all(requests, lambda _faults: reply(Done()))

    def on_members_changed(self) -> None:
        """Readers that wait for a partition of a member that is gone are told."""
        for entry in self._registry.entries():
            shuffle = self._under_way[entry.info.uid]
            for each in list(shuffle.locating):
                try:
                    self._located(entry, each.group)
                except ShuffleError as error:
                    each.done = True
                    each.reply(error)
            shuffle.locating = [each for each in shuffle.locating if not each.done]


def _nothing() -> None:
    pass
