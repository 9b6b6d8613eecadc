"""Rules of single machines that the simulator meets rarely, or not by name."""

import pytest

from shuffle_worker import errors
from shuffle_worker.cluster.members import Member, Membership
from shuffle_worker.protocol import effects, events, messages
from shuffle_worker.protocol.census import Census, Standing
from shuffle_worker.protocol.coordinator import Coordinator
from shuffle_worker.protocol.gathering import Gathering
from shuffle_worker.protocol.messages import Message
from shuffle_worker.protocol.order import Order, Phase
from shuffle_worker.protocol.participant import Participant
from shuffle_worker.protocol.placement import first_placement, moved, spread
from shuffle_worker.protocol.recovery import recover
from shuffle_worker.protocol.values import (
    NOBODY,
    Attempt,
    CommitRecord,
    EndKind,
    Fault,
    Limits,
    Placement,
    Plan,
    Split,
    Staged,
    StreamCounts,
    StreamReport,
    Timers,
    first_version,
)

UID = b"0123456789abcdef"
A, B, C = 101, 102, 103
MEMBERS = tuple(Member(f"worker-{n}", incarnation, "127.0.0.1", 7000 + n) for n, incarnation in enumerate((A, B, C)))
PLAN = Plan(b"plan", (10, -1), 4)
SPLIT = Split(10, 7)


def sent(found: list[effects.Effect]) -> list[Message]:
    return [effect.message for effect in found if isinstance(effect, effects.Send)]


def order(
    *, members: int = 2, limits: Limits | None = None, commit: CommitRecord | None = None, epoch: int = 1
) -> Order:
    return Order(UID, epoch, A, Membership(1, MEMBERS[:members]), commit, limits or Limits(), Timers())


def joined(member: int, **holds: object) -> messages.Joined:
    empty = {
        "plan": b"",
        "plan_epoch": 0,
        "placement": None,
        "streams": (),
        "staged": (),
        "ended": None,
        "fault": None,
    }
    return messages.Joined(UID, 1, member, A, **{**empty, **holds})  # type: ignore[arg-type]


def begun(**options: object) -> Coordinator:
    coordinator = Coordinator(order(**options))  # type: ignore[arg-type]
    coordinator.on_event(1.0, events.Begin())
    return coordinator


# ---- placement


def test_groups_are_spread_evenly_and_move_only_when_they_must() -> None:
    table = first_placement(first_version(1), b"plan", 10, [A, B, C])
    assert sorted(table.owners.count(member) for member in (A, B, C)) == [3, 3, 4]
    after = moved(table, first_version(1) + 1, table.groups_of(B), [A, C])
    assert after.owners.count(A) == after.owners.count(C) == 5
    for group in range(10):
        stayed = table.owners[group] != B
        assert (after.owners[group] == table.owners[group]) is stayed
        assert (after.generations[group] == table.generations[group]) is stayed


def test_spread_takes_the_least_loaded() -> None:
    assert spread([7, 8, 9], [A, B], {A: 2}) == {7: B, 8: B, 9: A}


def test_versions_of_two_epochs_never_meet() -> None:
    assert first_version(2) - first_version(1) == 1 << 16
    with pytest.raises(errors.InternalError):
        first_version(0)
    with pytest.raises(errors.InternalError):
        first_version(1 << 16)


# ---- who is dead


def census(*members: int) -> Census:
    found = Census(A, Timers())
    for member in MEMBERS:
        if member.incarnation in members:
            found.add(0.0, member)
            found.set_standing(member.incarnation, Standing.READY)
    return found


def test_silence_first_costs_tasks_then_life() -> None:
    members = census(A, B)
    assert members.fit(4.9, ()) == [A, B]
    assert members.fit(5.0, ()) == [A]
    assert members.doomed(14.9, ()) == []
    assert [member for member, _ in members.doomed(15.0, ())] == [B]


def test_a_refusal_needs_two_witnesses_or_all_there_are() -> None:
    members = census(A, B, C)
    members.report(0.0, A, C, refused=True)
    assert members.doomed(0.1, ()) == []
    members.report(0.2, B, C, refused=True)
    assert [member for member, _ in members.doomed(0.3, ())] == [C]
    pair = census(A, B)
    pair.report(0.0, A, B, refused=True)
    assert [member for member, _ in pair.doomed(0.1, ())] == [B]


def test_the_coordinators_own_member_is_not_voted_out() -> None:
    members = census(A, B)
    members.report(0.0, B, A, refused=True)
    assert members.doomed(0.1, ()) == []
    assert members.fit(0.1, ()) == [A]


def test_alive_without_progress_is_slow_and_only_the_first_of_many_is_given_up() -> None:
    members = census(A, B, C)
    for second in range(1, 303):
        for member in (A, B, C):
            members.beat(float(second), member, 1 if member == B else min(second, 2))
    assert members.fit(302.0, (B, C)) == [A]
    assert [member for member, _ in members.doomed(302.0, (B, C))] == [B]
    assert members.doomed(303.0, (C,)) == []


def test_a_coordinator_that_stood_still_blames_nobody() -> None:
    coordinator = begun()
    found = coordinator.on_event(61.0, events.Tick())
    assert not any(isinstance(effect, effects.Note) for effect in found)
    assert coordinator.phase is Phase.JOINING
    for second in range(62, 78):
        coordinator.on_event(float(second), events.Tick())
    assert "silent" in coordinator.status().members[1].cause


# ---- hand-over


def test_a_member_that_was_aborted_ends_the_job_for_the_next_coordinator() -> None:
    coordinator = begun()
    coordinator.on_event(1.1, events.Received(joined(A)))
    fault = Fault("InputError", "a.parquet is corrupt")
    found = coordinator.on_event(1.2, events.Received(joined(B, ended=EndKind.ABORTED, fault=fault)))
    assert [type(message) for message in sent(found)] == [messages.End, messages.End]
    for member in (A, B):
        coordinator.on_event(1.3, events.Received(messages.Ended(UID, 1, member, A)))
    assert (coordinator.phase, coordinator.status().fault) == (Phase.FAILED, fault)


def test_a_recorded_commit_is_published_without_a_plan() -> None:
    coordinator = begun(commit=CommitRecord(1, "abc"), epoch=2)
    reply = [messages.Joined(UID, 2, member, A, b"", 0, None, (), (), None, None) for member in (A, B)]
    coordinator.on_event(1.1, events.Received(reply[0]))
    found = coordinator.on_event(1.2, events.Received(reply[1]))
    assert effects.Publish("abc", None) in found
    coordinator.on_event(1.3, events.Cancel(2, "too late"))
    assert coordinator.phase is Phase.PUBLISHING


def test_the_plan_of_the_newest_table_counts() -> None:
    old = Placement(first_version(1) + 5, b"old", (A,), (first_version(1),))
    new = Placement(first_version(2), b"new", (B,), (first_version(2),))
    holders = [
        joined(A, plan=b"old", plan_epoch=3, placement=old),
        joined(B, plan=b"new", plan_epoch=1, placement=new),
        joined(C, plan=b"none", plan_epoch=1),
    ]
    assert max(holders, key=Gathering._allegiance).plan == b"new"


def stream(map: int, number: int, *, won: bool, generations: tuple[int, ...] = (65536,)) -> StreamReport:
    return StreamReport(map, Attempt(1, number), generations, won, SPLIT, 5, 40)


def table(*owners: int) -> Placement:
    return Placement(65536, b"plan", owners, (65536,) * len(owners))


def test_a_winner_known_to_one_owner_is_adopted_before_one_that_is_prepared_everywhere() -> None:
    placement = table(A, A, B, B)
    found = recover(
        PLAN,
        {
            A: joined(A, placement=placement, streams=(stream(0, 1, won=False), stream(0, 2, won=True))),
            B: joined(B, placement=placement, streams=(stream(0, 1, won=False), stream(0, 2, won=False))),
        },
    )
    assert [(each.attempt, each.tell) for each in found.adoptions] == [(Attempt(1, 2), (B,))]
    assert sorted(found.losers) == [(A, 0, Attempt(1, 1)), (B, 0, Attempt(1, 1))]
    assert found.fault is None


def test_prepared_at_some_owners_is_not_enough() -> None:
    placement = table(A, A, B, B)
    found = recover(
        PLAN,
        {A: joined(A, placement=placement, streams=(stream(0, 1, won=False),)), B: joined(B, placement=placement)},
    )
    assert found.adoptions == []
    assert found.losers == [(A, 0, Attempt(1, 1))]


def test_prepared_at_every_owner_that_is_left_wins() -> None:
    placement = table(A, A, B, C)
    reports = {member: joined(member, placement=placement, streams=(stream(0, 1, won=False),)) for member in (A, B)}
    found = recover(PLAN, reports)
    assert found.moving == {3}
    assert [each.attempt for each in found.adoptions] == [Attempt(1, 1)]


def test_an_owner_without_the_winners_stream_loses_its_groups() -> None:
    placement = table(A, A, B, B)
    found = recover(
        PLAN, {A: joined(A, placement=placement, streams=(stream(0, 1, won=True),)), B: joined(B, placement=placement)}
    )
    assert found.moving == {2, 3}


def test_staged_groups_count_only_at_their_generation_and_owner() -> None:
    kept = Staged(3, 60000, 1, 1)
    placement = Placement(65536, b"plan", (A, A, B, NOBODY), (65536, 65536, 65536, 60000), (kept,), (SPLIT, SPLIT))
    found = recover(
        PLAN,
        {
            A: joined(A, placement=placement, staged=(Staged(0, 65536, 1, 1), Staged(1, 60000, 1, 1))),
            B: joined(B, placement=placement, staged=(Staged(0, 65536, 9, 9),)),
        },
    )
    assert found.staged == {0: Staged(0, 65536, 1, 1), 3: kept}


def test_two_winners_seen_at_hand_over_end_the_job() -> None:
    placement = table(A, A, B, B)
    found = recover(
        PLAN,
        {
            A: joined(A, placement=placement, streams=(stream(0, 1, won=True),)),
            B: joined(B, placement=placement, streams=(stream(0, 2, won=True),)),
        },
    )
    assert found.fault is not None
    assert found.fault.kind == "InternalError"


# ---- a coordinator that works


def working(limits: Limits | None = None) -> Coordinator:
    """Two members have joined, keep the plan and its table; maps 0 and 1 run."""
    coordinator = begun(limits=limits or Limits(slots=1))
    for member in (A, B):
        coordinator.on_event(1.1, events.Received(joined(member)))
    coordinator.on_event(1.2, events.PlanMade(PLAN))
    for member in (A, B):
        coordinator.on_event(1.3, events.Received(messages.Planned(UID, 1, member, A, PLAN.digest, None)))
    for member in (A, B):
        coordinator.on_event(1.4, events.Received(messages.Placed(UID, 1, member, A, first_version(1))))
    assert coordinator.status().maps_running == 2
    return coordinator


def test_no_map_runs_before_every_member_has_the_table() -> None:
    coordinator = begun()
    for member in (A, B):
        coordinator.on_event(1.1, events.Received(joined(member)))
    coordinator.on_event(1.2, events.PlanMade(PLAN))
    for member in (A, B):
        coordinator.on_event(1.3, events.Received(messages.Planned(UID, 1, member, A, PLAN.digest, None)))
    found = coordinator.on_event(1.4, events.Received(messages.Placed(UID, 1, A, A, first_version(1))))
    assert sent(found) == []


def test_a_split_that_differs_from_its_plan_fails_the_job_by_name() -> None:
    coordinator = working()
    prepared = messages.MapPrepared(UID, 1, A, A, 0, Attempt(1, 0), Split(11, 7), 11, 88)
    coordinator.on_event(1.5, events.Received(prepared))
    status = coordinator.status()
    assert status.fault is not None
    assert status.fault.kind == "InputError"
    assert "changed while it was read" in status.fault.sentence


@pytest.mark.parametrize(("kind", "fails"), [("InputError", True), ("DiskFull", False)])
def test_the_users_fault_fails_at_once_and_others_run_again(kind: str, fails: bool) -> None:
    coordinator = working()
    failed = messages.MapFailed(UID, 1, A, A, 0, Attempt(1, 0), Fault(kind, "no"))
    coordinator.on_event(1.5, events.Received(failed))
    assert (coordinator.phase is Phase.ENDING) is fails
    if not fails:
        found = coordinator.on_event(2.1, events.Tick())
        assert [message.attempt for message in sent(found) if isinstance(message, messages.Run)] == [Attempt(1, 2)]


def test_failures_over_the_limit_fail_the_job() -> None:
    coordinator = working(Limits(slots=1, backoff_limit=0))
    failed = messages.MapFailed(UID, 1, A, A, 0, Attempt(1, 0), Fault("DiskFull", "disk full on /spill/0"))
    coordinator.on_event(1.5, events.Received(failed))
    fault = coordinator.status().fault
    assert fault is not None
    assert "backoffLimit 0" in fault.sentence
    assert "disk full on /spill/0" in fault.sentence


def test_only_the_last_member_lost_ends_the_job_and_names_who_was_lost() -> None:
    coordinator = working(Limits(slots=1, min_members=2))
    coordinator.on_event(1.5, events.PeerDown(B, refused=True))
    fault = coordinator.status().fault
    assert fault is not None
    assert fault.kind == "PeerLost"
    assert "worker-1 (127.0.0.1:7001)" in fault.sentence


def test_a_lost_owner_costs_only_its_groups_and_is_struck_when_it_speaks() -> None:
    coordinator = working()
    found = coordinator.on_event(1.5, events.PeerDown(B, refused=True))
    table = next(message.placement for message in sent(found) if isinstance(message, messages.Place))
    assert table.owners == (A, A, A, A)
    assert table.generations == (65536, 65536, 65537, 65537)
    prepared = messages.MapPrepared(UID, 1, B, A, 1, Attempt(1, 1), SPLIT, 10, 80)
    found = coordinator.on_event(1.6, events.Received(prepared))
    assert [type(message) for message in sent(found)] == [messages.Strike]


def test_a_superseded_coordinator_does_nothing_any_more() -> None:
    coordinator = working()
    coordinator.on_event(1.5, events.Received(messages.Superseded(UID, 1, B, A, 2, B)))
    assert coordinator.phase is Phase.SUPERSEDED
    assert coordinator.on_event(9.0, events.Tick()) == []
    assert coordinator.next_deadline() is None


def test_the_deadline_names_itself() -> None:
    coordinator = working(Limits(slots=1, deadline_s=2.0))
    coordinator.on_event(2.0, events.Tick())
    coordinator.on_event(3.5, events.Tick())
    fault = coordinator.status().fault
    assert fault is not None
    assert "activeDeadlineSeconds" in fault.sentence


# ---- a participant


def bound(epoch: int = 1, coordinator: int = A) -> Participant:
    participant = Participant(UID, B, Timers())
    join = messages.Join(UID, epoch, coordinator, B, Membership(1, MEMBERS), Timers())
    participant.on_event(1.0, events.Received(join))
    return participant


def test_older_epochs_and_second_coordinators_are_refused_and_told_so() -> None:
    participant = bound(epoch=3)
    for message in (
        messages.Join(UID, 2, C, B, Membership(9, ()), Timers()),
        messages.Join(UID, 3, C, B, Membership(9, ()), Timers()),
        messages.Ping(UID, 2, A, B),
        messages.End(UID, 3, C, B, EndKind.ABORTED, None),
    ):
        found = sent(participant.on_event(2.0, events.Received(message)))
        assert found == [messages.Superseded(UID, message.epoch, B, message.sender, 3, A)]
    assert (participant.epoch, participant.coordinator, participant.ended) == (3, A, None)


def test_other_jobs_and_other_incarnations_are_not_for_us() -> None:
    participant = bound()
    assert participant.on_event(2.0, events.Received(messages.Seal(b"x" * 16, 1, A, B, 65536))) == []
    assert participant.on_event(2.0, events.Received(messages.Seal(UID, 1, A, C, 65536))) == []


def test_fresh_is_obeyed_once() -> None:
    """A second copy of the message that came late must not throw away what was placed since."""
    participant = bound()
    store = messages.StorePlan(UID, 1, A, B, PLAN, True)
    participant.on_event(1.1, events.Received(store))
    participant.on_event(1.2, events.PlanStored(PLAN.digest))
    placement = table(B, B, B, B)
    participant.on_event(1.3, events.Received(messages.Place(UID, 1, A, B, Membership(1, MEMBERS), placement)))
    found = participant.on_event(1.4, events.Received(store))
    assert [type(message) for message in sent(found)] == [messages.Planned]
    assert participant.placement == placement


def test_a_member_that_hears_no_coordinator_forgets_the_job() -> None:
    participant = bound()
    deadline = participant.next_deadline()
    assert deadline == 1.0 + Timers().orphan_s
    found = participant.on_event(deadline, events.Tick())
    assert effects.ForgetShuffle() in found
    found = participant.on_event(deadline + 1, events.Received(messages.Ping(UID, 1, A, B)))
    assert [type(message) for message in sent(found)] == [messages.Leaving]


def test_a_struck_member_takes_part_again_at_the_next_epoch() -> None:
    participant = bound()
    participant.on_event(2.0, events.Received(messages.Strike(UID, 1, A, B)))
    join = messages.Join(UID, 2, C, B, Membership(2, MEMBERS), Timers())
    found = sent(participant.on_event(3.0, events.Received(join)))
    assert [type(message) for message in found] == [messages.Joined]


def test_the_end_is_acknowledged_again_and_told_to_a_later_coordinator() -> None:
    participant = bound()
    end = messages.End(UID, 1, A, B, EndKind.RELEASED, None)
    assert effects.CloseShuffle() in participant.on_event(2.0, events.Received(end))
    assert sent(participant.on_event(2.1, events.Received(end))) == [messages.Ended(UID, 1, B, A)]
    join = messages.Join(UID, 2, C, B, Membership(2, MEMBERS), Timers())
    reply = sent(participant.on_event(3.0, events.Received(join)))[0]
    assert isinstance(reply, messages.Joined)
    assert reply.ended is EndKind.RELEASED


def test_an_owner_that_waits_for_frames_is_given_time_and_a_silent_one_is_not() -> None:
    for waits, fails_at in ((False, 60.0), (True, 210.0)):
        participant = bound()
        participant.on_event(1.0, events.Received(messages.StorePlan(UID, 1, A, B, PLAN, False)))
        participant.on_event(1.0, events.PlanStored(PLAN.digest))
        place = messages.Place(UID, 1, A, B, Membership(1, MEMBERS), table(C, C, C, C))
        participant.on_event(1.0, events.Received(place))
        participant.on_event(1.0, events.Received(messages.Run(UID, 1, A, B, 0, Attempt(1, 0), 65536, (65536,))))
        participant.on_event(1.0, events.MapPushed(0, Attempt(1, 0), (), SPLIT))
        failed_at = 0.0
        for second in range(2, 400):
            found = participant.on_event(float(second), events.Tick())
            if any(isinstance(message, messages.MapFailed) for message in sent(found)):
                failed_at = float(second)
                break
            if waits:
                participant.on_event(float(second), events.Received(messages.Waiting(UID, 1, C, B, 0, Attempt(1, 0))))
        assert fails_at <= failed_at <= fails_at + 2.0


def test_an_owner_asked_again_says_that_it_waits() -> None:
    participant = bound()
    participant.on_event(1.0, events.Received(messages.StorePlan(UID, 1, A, B, PLAN, False)))
    participant.on_event(1.0, events.PlanStored(PLAN.digest))
    place = messages.Place(UID, 1, A, B, Membership(1, MEMBERS), table(B, B, B, B))
    participant.on_event(1.0, events.Received(place))
    counts = StreamCounts(2, 10, 80, 5, 7)
    fin = messages.Fin(UID, 1, C, B, 0, Attempt(1, 0), 65536, (65536,), counts, SPLIT)
    assert participant.on_event(1.1, events.Received(fin)) == [effects.ExpectStream(0, Attempt(1, 0), 2)]
    again = sent(participant.on_event(1.2, events.Received(fin)))
    assert [type(message) for message in again] == [messages.Waiting]
    less = sent(participant.on_event(1.3, events.StreamReached(0, Attempt(1, 0), StreamCounts(2, 9, 72, 5, 6))))
    assert isinstance(less[0], messages.FinRefused)
    assert less[0].fault.kind == "Corrupted"
    refused = sent(participant.on_event(1.4, events.Received(fin)))
    assert isinstance(refused[0], messages.FinRefused)
