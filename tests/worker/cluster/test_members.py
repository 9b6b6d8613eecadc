"""The member list: versions, incarnations, silence."""

import pytest

from shuffle_worker.cluster.members import ClusterCoordinator, Member, Membership
from shuffle_worker.errors import Fenced, UserError

A = Member("a", 1, "127.0.0.1", 1000)
B = Member("b", 2, "127.0.0.1", 2000)


def test_each_change_is_a_version_and_repeats_are_none() -> None:
    cluster = ClusterCoordinator()
    assert cluster.join(A, 0).version == 1
    assert cluster.join(A, 1).version == 1
    assert cluster.join(B, 1).members == (A, B)
    assert cluster.leave("a", 1).members == (B,)
    assert cluster.version == 3


def test_a_restart_replaces_and_the_old_incarnation_is_fenced() -> None:
    cluster = ClusterCoordinator()
    cluster.join(A, 0)
    again = Member("a", 7, "127.0.0.1", 1000)
    assert cluster.join(again, 1).members == (again,)
    with pytest.raises(Fenced, match="older one"):
        cluster.heartbeat("a", 1, 2)
    with pytest.raises(Fenced):
        cluster.leave("a", 1)
    assert cluster.member("a") == again


def test_silence_makes_suspect_then_dead() -> None:
    cluster = ClusterCoordinator(suspect_s=5, dead_s=15)
    cluster.join(A, 0)
    cluster.join(B, 0)
    cluster.heartbeat("b", 2, 10)
    assert cluster.eligible(10) == [B]
    assert cluster.expire(14.9) == []
    assert cluster.expire(15) == [A]
    assert cluster.membership().members == (B,)


def test_draining_gets_nothing_new() -> None:
    cluster = ClusterCoordinator()
    cluster.join(A, 0)
    version = cluster.drain("a").version
    assert cluster.drain("a").version == version
    assert cluster.eligible(0) == []


def test_an_older_list_changes_nothing() -> None:
    cluster = ClusterCoordinator()
    cluster.adopt(Membership(5, (A, B)), 0)
    cluster.adopt(Membership(4, ()), 0)
    assert cluster.membership() == Membership(5, (A, B))


def test_an_unknown_name_lists_the_known() -> None:
    cluster = ClusterCoordinator()
    cluster.join(B, 0)
    cluster.join(A, 0)
    with pytest.raises(UserError, match="no member is named 'c': the known members are a, b"):
        cluster.member("c")
