"""Each fence, count check and precondition, taken away in turn. The simulator must notice.

A mutation replaces attributes of the machines while it lasts. Some fences stand behind others and are not here: taking
one away alone breaks nothing, which is what the second is for (a coordinator's deafness to lost members, for one).
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

from shuffle_sim.stores import SimStore

from shuffle_worker.protocol import finishing, gathering, recovery, working
from shuffle_worker.protocol.coordinator import Coordinator
from shuffle_worker.protocol.finishing import Offer
from shuffle_worker.protocol.mapper import Mapper
from shuffle_worker.protocol.messages import FROM_COORDINATOR, End, Join, Prepared, Running
from shuffle_worker.protocol.order import Phase
from shuffle_worker.protocol.owner import Owner
from shuffle_worker.protocol.participant import Participant
from shuffle_worker.protocol.values import Attempt, StreamState
from shuffle_worker.protocol.working import Working

Patch = tuple[object, str, Any]


@contextlib.contextmanager
def applied(name: str) -> Iterator[None]:
    """The machines under this mutation."""
    with contextlib.ExitStack() as stack:
        for target, attribute, replacement in MUTATIONS[name]():
            stack.enter_context(mock.patch.object(target, attribute, replacement))
        yield


def _old_epochs_are_obeyed() -> list[Patch]:
    def on_coordinator(self: Any, message: Any) -> None:
        if isinstance(message, End):
            self._on_end(message)
        elif self._ended is None and not self._left:
            self._from_coordinator[type(message)](message)

    return [(Participant, "_on_coordinator", on_coordinator)]


def _any_join_binds() -> list[Patch]:
    def on_join(self: Any, message: Any) -> None:
        if (message.epoch, message.sender) != (self._voice.epoch, self._coordinator):
            self._bind(message)
            self._membership = message.membership
        original(self, message)

    original = Participant._on_join
    return [(Participant, "_on_join", on_join)]


def _second_coordinator_of_an_epoch_binds() -> list[Patch]:
    def on_join(self: Any, message: Any) -> None:
        if message.epoch == self._voice.epoch:
            self._coordinator = self.mapper.coordinator = self.owner.coordinator = message.sender
        original(self, message)

    original = Participant._on_join
    return [(Participant, "_on_join", on_join)]


def _target_incarnation_is_ignored() -> list[Patch]:
    def on_received(self: Any, event: Any) -> None:
        message = event.message
        if isinstance(message, FROM_COORDINATOR) and message.target != self._voice.incarnation:
            if not self._voice.epoch:
                self._voice.epoch = message.epoch
                self._coordinator = self.mapper.coordinator = self.owner.coordinator = message.sender
            if isinstance(message, Join):
                self._on_join(message)
            else:
                self._on_coordinator(message)
            return
        original(self, event)

    original = Participant._on_received
    return [(Participant, "_on_received", on_received)]


def _winners_are_not_adopted() -> list[Patch]:
    def adopt(found: Any, joined: Any, _owners: Any) -> None:
        found.losers = [
            (member, each.map, each.attempt)
            for member, message in joined.items()
            for each in message.streams
            if not each.won
        ]

    return [(recovery, "_adopt", adopt)]


def _prepared_somewhere_is_enough_at_hand_over() -> list[Patch]:
    def adopt(found: Any, joined: Any, owners: Any) -> None:
        class Everybody(dict[int, set[int]]):
            def __getitem__(self, _key: int) -> set[int]:
                return set()

        original(found, joined, Everybody(owners))

    original = recovery._adopt
    return [(recovery, "_adopt", adopt)]


def _late_attempts_may_win() -> list[Patch]:
    def on_map_prepared(self: Any, message: Any) -> None:
        if message.attempt not in self.maps.live and message.map < self.maps.maps:
            generations = frozenset(self.placement.generations)
            self.maps.win(message.map, message.attempt, ())
            owners = self.placement.owners_of(generations)
            self._tell_winner(owners, message.map, message.attempt, tuple(sorted(generations)))
        original(self, message)

    original = Working.on_map_prepared
    return [(Working, "on_map_prepared", on_map_prepared)]


def _attempts_survive_the_loss_of_their_owner() -> list[Patch]:
    def give_up(self: Any, live: Any) -> None:
        if live.member in self._context.census.ready():
            return
        original(self, live)

    original = Working._give_up
    return [(Working, "_give_up", give_up)]


def _frames_are_not_counted() -> list[Patch]:
    """Neither by the owner, when it prepares, nor by the store, when a winner goes through."""

    def on_fin(self: Any, message: Any) -> None:
        original(self, message)
        stream = self._streams.get((message.map, message.attempt))
        if stream is not None and stream.state is StreamState.EXPECTED:
            stream.state = StreamState.PREPARED
            self._voice.tell(message.sender, Prepared, message.map, message.attempt)

    def win(self: Any, map: int, attempt: Attempt) -> bool:
        stream = self.streams.get((map, attempt))
        if stream is not None:
            stream.broken, stream.expected = False, stream.received
        return original_win(self, map, attempt)

    original, original_win = Owner.on_fin, SimStore.win
    return [(Owner, "on_fin", on_fin), (SimStore, "win", win)]


def _attempt_names_are_used_again() -> list[Patch]:
    def on_run(self: Any, message: Any) -> None:
        if self._placement is None or self._placement.version < message.version:
            return
        epoch, self._voice.epoch = self._voice.epoch, message.attempt.epoch
        before, self._voice.tell = self._voice.tell, lambda *_: None
        try:
            original(self, message)
        finally:
            self._voice.epoch, self._voice.tell = epoch, before
        self._voice.tell(message.sender, Running, message.map, message.attempt)

    original = Mapper.on_run
    return [(working, "Attempt", lambda _epoch, number: Attempt(1 << 16, number)), (Mapper, "on_run", on_run)]


def _one_owner_is_enough() -> list[Patch]:
    def on_prepared(self: Any, message: Any) -> None:
        task = self._tasks.get(message.attempt)
        if task is not None:
            task.waiting = {message.sender}
        original(self, message)

    original = Mapper.on_prepared
    return [(Mapper, "on_prepared", on_prepared)]


def _sealed_before_all_winners_are_here() -> list[Patch]:
    def seal(self: Any, generation: int) -> None:
        self._won_counts[generation] = self._maps
        original(self, generation)

    original = Owner._seal_if_complete
    return [(Owner, "_seal_if_complete", seal)]


def _older_tables_are_taken() -> list[Patch]:
    def on_place(self: Any, message: Any) -> None:
        if self._plan is not None and message.placement.plan == self._plan.digest:
            self.mapper.on_place(message.placement)
            self.owner.on_place(message.placement)
            self._voice.tell(message.sender, working.Placed, message.placement.version)

    return [(Participant, "_on_place", on_place)]


def _publishes_without_the_record() -> list[Patch]:
    def on_saved(self: Any, digest: str) -> None:
        original(self, digest)
        self.phase = Phase.PUBLISHING
        self._act()

    original = Offer.on_saved
    return [(Offer, "on_saved", on_saved)]


def _fails_after_it_has_offered() -> list[Patch]:
    def on_failed(self: Any) -> bool:
        return self._farewell is None

    def advance(self: Any) -> None:
        offer = self._offer
        if offer is not None and offer.phase is Phase.PREPARED and len(self._census.live()) < len(list(self._census)):
            self._context.fail("PeerLost", "a member is lost")
            offer.phase = Phase.RUNNING
        original(self)

    original = Coordinator._advance
    return [(Coordinator, "_may_fail", property(on_failed)), (Coordinator, "_advance", advance)]


def _sums_are_not_checked() -> list[Patch]:
    return [
        (finishing, "_sums_agree", lambda *_: True),
        (Owner, "_sums_agree", lambda _self: True),
    ]


def _generations_are_used_again() -> list[Patch]:
    return [
        (working, "first_version", lambda _epoch: 7),
        (gathering, "first_version", lambda _epoch: 7),
    ]


def _splits_need_not_agree() -> list[Patch]:
    return [(Working, "_agrees", lambda self, map, split: self.maps.agree(map, split) or True)]


MUTATIONS: dict[str, Callable[[], list[Patch]]] = {
    function.__name__.strip("_"): function
    for function in (
        _old_epochs_are_obeyed,
        _any_join_binds,
        _second_coordinator_of_an_epoch_binds,
        _target_incarnation_is_ignored,
        _winners_are_not_adopted,
        _prepared_somewhere_is_enough_at_hand_over,
        _late_attempts_may_win,
        _attempts_survive_the_loss_of_their_owner,
        _frames_are_not_counted,
        _attempt_names_are_used_again,
        _one_owner_is_enough,
        _sealed_before_all_winners_are_here,
        _older_tables_are_taken,
        _publishes_without_the_record,
        _fails_after_it_has_offered,
        _sums_are_not_checked,
        _generations_are_used_again,
        _splits_need_not_agree,
    )
}
