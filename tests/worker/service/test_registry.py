"""The registrar's book decides once."""

import pytest

from shuffle_worker.cluster.members import Member
from shuffle_worker.errors import Fenced, ShuffleLost, UserError
from shuffle_worker.service.messages import EPOCH_BATCH, EPOCH_WRITER, Info, Owner, StreamName
from shuffle_worker.service.registry import Entry, Registry
from shuffle_worker.spec.model import ShuffleType

A, B, C = (Owner(name, number) for number, name in enumerate("abc", 1))
ALL = [A, B, C]


def entered(partitions: int = 6) -> tuple[Registry, Entry]:
    registry = Registry()
    registry.create(Info("s", b"u" * 16, ShuffleType.HASH, partitions))
    return registry, registry.entry("s")


def test_creating_twice_is_once_by_uid_and_refused_by_id() -> None:
    registry, entry = entered()
    assert registry.create(entry.info) == entry.info
    with pytest.raises(UserError, match="exists already"):
        registry.create(Info("s", b"v" * 16, ShuffleType.HASH, 6))


def test_partitions_are_placed_evenly_and_stay() -> None:
    registry, entry = entered()
    registry.claim(entry, [0], Member("b", 2, "", 0), ALL, ALL)
    registry.claim(entry, range(6), None, ALL, ALL)
    assert entry.owners[0] == B
    assert [list(entry.owners.values()).count(owner) for owner in ALL] == [2, 2, 2]
    placed = dict(entry.owners)
    registry.claim(entry, range(6), None, ALL, [A])
    assert entry.owners == placed


def test_silent_members_get_nothing_new() -> None:
    registry, entry = entered()
    registry.claim(entry, range(6), None, ALL, [A, C])
    assert set(entry.owners.values()) == {A, C}


def test_an_owner_that_is_gone_is_a_loss_and_not_replaced() -> None:
    registry, entry = entered()
    registry.claim(entry, range(6), None, ALL, ALL)
    lost = next(group for group, owner in entry.owners.items() if owner == B)
    with pytest.raises(ShuffleLost, match=f"partition {lost} of 's' was held by b, which is gone"):
        registry.claim(entry, [lost], None, [A, C], [A, C])
    restarted = Owner("b", 99)
    with pytest.raises(ShuffleLost, match="held by b, which is gone"):
        registry.claim(entry, [lost], Member("b", 99, "", 0), [A, C, restarted], ALL)


def test_what_no_owner_confirmed_can_be_given_to_another() -> None:
    registry, entry = entered()
    registry.claim(entry, [0, 1], Member("b", 2, "", 0), ALL, ALL)
    entry.placed.add(1)
    registry.release(entry, [0, 1])
    assert entry.owners == {1: B}


def test_one_attempt_of_a_map_is_chosen_and_every_batch_is_its_own() -> None:
    registry, entry = entered()
    first, second = (StreamName(entry.info.uid, 7, EPOCH_WRITER, attempt) for attempt in (1, 2))
    assert registry.decide(entry, first, (A, B)).attempt == 1
    assert registry.decide(entry, second, (A, C)).attempt == 1
    registry.settle(entry, first)
    assert registry.decide(entry, second, (A, C)).told
    for attempt in (1, 2):
        batch = StreamName(entry.info.uid, 7, EPOCH_BATCH, attempt)
        assert registry.decide(entry, batch, (A,)).attempt == attempt
        registry.settle(entry, batch)
    assert list(entry.decisions) == [first.decision], "batches need no memory once they are told"


def test_a_sealed_shuffle_decides_nothing_new_and_repeats_what_it_decided() -> None:
    registry, entry = entered()
    known = StreamName(entry.info.uid, 1, EPOCH_WRITER, 1)
    registry.decide(entry, known, (A,))
    entry.sealing = True
    assert registry.decide(entry, known, (A,)).attempt == 1
    with pytest.raises(UserError, match="is sealed"):
        registry.decide(entry, StreamName(entry.info.uid, 2, EPOCH_WRITER, 1), (A,))
    with pytest.raises(UserError, match="is sealed"):
        registry.claim(entry, [0], None, ALL, ALL)


def test_a_closed_shuffle_is_unknown_by_id_and_fenced_by_uid() -> None:
    registry, entry = entered()
    registry.close("s")
    with pytest.raises(UserError, match="no shuffle 's' exists: create it first; the known are none"):
        registry.entry("s")
    with pytest.raises(Fenced):
        registry.entry_of(entry.info.uid)
