"""Services of several processes: sends really go there, and what cannot be done says why."""

import ast
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa
import pytest

from shuffle_worker import ShuffleConfig, ShuffleService
from shuffle_worker.errors import OutcomeUnknown, PeerError, ShuffleLost, UserError
from shuffle_worker.settings import Timers

Join = Callable[..., Any]
Fleet = tuple[ShuffleService, Any, Any]


@pytest.fixture
def fleet(three_members: Fleet) -> Iterator[Fleet]:
    """The same three members for many tests: each finds and leaves them without shuffles."""
    yield three_members
    for each in three_members[0].get_shuffle_stats().shuffles:
        three_members[0].close_shuffle(each)


def numbers(count: int, first: int = 0) -> pa.RecordBatch:
    return pa.record_batch({"id": pa.array(range(first, first + count), pa.int64())})


def ids(service: ShuffleService, shuffle: str, partition: int) -> list[int]:
    return [each for batch in service.receive_partitions(shuffle, partition) for each in batch.column(0).to_pylist()]


def wait_until(what: Callable[[], bool], timeout_s: float = 10) -> None:
    deadline = time.monotonic() + timeout_s
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_send_to_a_named_member_goes_there_over_the_wire(fleet: Fleet) -> None:
    service, *others = fleet
    other = others[0]
    assert service.members() == ["agent_0", "agent_1", "agent_2"]
    service.create_shuffle("s", "Hash", 4)
    service.send_partition("s", 0, numbers(1000), "agent_1")
    service.send_partition("s", 0, numbers(1000, 1000), "agent_1")
    service.send_partition("s", 1, numbers(3), "agent_0")
    stats = service.get_shuffle_stats()
    assert stats.total.rows_held == 3
    assert stats.wire_bytes_out > 2 * numbers(1000).nbytes
    assert other.ask("service.get_shuffle_stats().total.rows_held") == "2000"
    # Each reads what the other holds.
    assert ids(service, "s", 0) == list(range(2000))
    assert other.ask("rows(service.receive_partitions('s', 1))") == "[0, 1, 2]"
    assert ids(service, "s", 2) == []


def test_three_members_share_a_shuffle_by_key(fleet: Fleet) -> None:
    service, *others = fleet
    assert others[0].ask("service.create_shuffle('s', 'Hash', 9, partition_keys=['id'])") == "None"
    assert others[0].ask("service.send_batch('s', numbers(3000))") == "None"
    assert others[1].ask("service.send_batch('s', numbers(3000, 3000))") == "None"
    with service.writer("s", 5) as writer:
        writer.write(numbers(3000, 6000))
    held = [int(other.ask("service.list_shuffles()[0].partitions_held")) for other in others]
    assert held == [3, 3], "balanced"
    others[1].ask("service.seal('s')")
    read = [service.open_partition("s", p).read_all()["id"].to_pylist() for p in range(9)]
    assert sorted(each for partition in read for each in partition) == list(range(9000))
    assert others[0].ask("rows(service.open_partition('s', 4))") == repr(read[4])


def test_a_remote_reader_is_woken_by_sends_and_by_the_seal(fleet: Fleet) -> None:
    service, *others = fleet
    other = others[0]
    service.create_shuffle("s", "Hash", 1)
    other.tell("rows(service.open_partition('s', 0, timeout_s=20))")
    time.sleep(0.1)
    service.send_partition("s", 0, numbers(2))
    time.sleep(0.1)
    service.send_partition("s", 0, numbers(2, 2))
    service.seal("s")
    assert other._answer() == "[0, 1, 2, 3]"


@pytest.mark.parametrize("compression", ["None", "LZ4", "Zstd", "Snappy"])
def test_compression_changes_what_is_on_the_wire(service: ShuffleService, compression: str) -> None:
    batch = pa.record_batch({"id": pa.array([7] * 100_000)})
    service.create_shuffle("s", "Hash", 1)
    with ShuffleService("b", join=service.address, config=ShuffleConfig(compression=compression)) as other:
        other.send_partition("s", 0, batch, "agent_0")
        received = service.get_shuffle_stats().wire_bytes_in
    assert (received > 800_000) if compression == "None" else (received < 200_000)
    assert service.receive_partitions("s", 0) == [batch]


def test_more_than_memory_goes_through_a_remote_partition(
    service: ShuffleService, join_member: Join, tmp_path: object
) -> None:
    other = join_member(
        "agent_1", f"ShuffleConfig(memory_bytes=64 << 20, spill_dirs=({str(tmp_path)!r},), spill_reserve_bytes=0)"
    )
    service.create_shuffle("s", "Hash", 1)
    with service.writer("s", 0) as writer:
        for number in range(12):
            writer.write_partition(0, numbers(1 << 20, number << 20), "agent_1")
    assert int(other.ask("service.get_shuffle_stats().spilled_bytes")) > 24 << 20
    service.seal("s")
    expected = 0
    for batch in service.open_partition("s", 0):
        assert batch.column(0)[0].as_py() == expected
        expected += batch.num_rows
    assert expected == 12 << 20


def test_refusals_of_members(fleet: Fleet) -> None:
    service = fleet[0]
    service.create_shuffle("s", "Hash", 4)
    service.send_partition("s", 0, numbers(1), "agent_1")
    with pytest.raises(
        UserError, match="no member is named 'agent_9': the known members are agent_0, agent_1, agent_2"
    ):
        service.send_partition("s", 1, numbers(1), "agent_9")
    with pytest.raises(UserError, match="partition 0 of 's' is held by agent_1, as its first send said: send it there"):
        service.send_partition("s", 0, numbers(1), "agent_0")
    for taken in ("agent_0", "agent_1"):
        with pytest.raises(UserError, match=f"a member named '{taken}' is in the service already: choose another name"):
            ShuffleService(taken, join=service.address)
    assert service.members() == ["agent_0", "agent_1", "agent_2"]
    with pytest.raises(UserError, match="'nowhere' is not an address: expected host:port"):
        ShuffleService("x", join="nowhere")
    with pytest.raises(UserError, match="a member's name is 1 to 255 printable bytes without a colon"):
        ShuffleService("a:1")


def test_a_wrong_token_is_refused() -> None:
    with ShuffleService(config=ShuffleConfig(tokens=("right",))) as guarded:
        with pytest.raises(PeerError, match=r"cannot join .* the token is wrong"):
            ShuffleService("b", join=guarded.address, config=ShuffleConfig(tokens=("wrong",), timeout_s=2))
        with ShuffleService("c", join=guarded.address, config=ShuffleConfig(tokens=("right",))) as member:
            assert member.members() == ["agent_0", "c"]


def test_the_first_schema_counts_for_all_members(fleet: Fleet) -> None:
    service, *others = fleet
    other = others[0]
    service.create_shuffle("s", "Hash", 2)
    service.send_partition("s", 0, numbers(1))
    answer = other.ask("service.send_partition('s', 1, pa.record_batch({'id': ['x']}))")
    assert answer.startswith("UserError: column 'id' is string, and int64 in the shuffle 's'")


def test_a_shuffle_closed_by_another_member_and_made_anew_is_found(fleet: Fleet) -> None:
    service, *others = fleet
    other = others[0]
    service.create_shuffle("s", "Hash", 1)
    service.send_partition("s", 0, numbers(1), "agent_1")
    other.ask("service.close_shuffle('s')")
    other.ask("service.create_shuffle('s', 'Hash', 1)")
    service.send_partition("s", 0, numbers(2), "agent_1")
    assert ids(service, "s", 0) == [0, 1]
    assert other.ask("service.get_shuffle_stats().total.rows_held") == "2"


def test_a_close_frees_memory_at_every_member(service: ShuffleService) -> None:
    with ShuffleService("b", join=service.address) as other:
        members = (service, other)
        for round_ in range(30):
            service.create_shuffle(f"s{round_}", "Hash", 8, partition_keys=["id"])
            for member in members:
                member.send_batch(f"s{round_}", numbers(20_000))
                assert sum(len(ids(member, f"s{round_}", p)) for p in range(8)) in (20_000, 40_000)
            other.close_shuffle(f"s{round_}")
        wait_until(lambda: all(member.node.budget.snapshot()["reserved_bytes"] < 32 << 20 for member in members))
        assert all(member.get_shuffle_stats().total.rows_held == 0 for member in members)
        assert not any(member.node.store.shuffles() for member in members)
        assert not any(member._scatterers._kernels for member in members)


def test_senders_keep_their_order_and_nobody_disturbs_another(fleet: Fleet) -> None:
    service, *others = fleet
    other = others[0]
    service.create_shuffle("s", "Hash", 2)
    service.send_partition("s", 0, numbers(1, 999_999), "agent_1")
    other.tell("[service.send_partition('s', 0, numbers(1, 100_000 + n)) for n in range(200)]")

    def send(first: int) -> None:
        for number in range(200):
            service.send_partition("s", 0, numbers(1, first + number))

    threads = [threading.Thread(target=send, args=(first,)) for first in (200_000, 300_000)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    other._answer()
    got = ids(service, "s", 0)
    assert len(got) == 601
    for first in (100_000, 200_000, 300_000):
        assert [each for each in got if first <= each < first + 200] == list(range(first, first + 200))


# loss


def test_a_stopped_owner_leaves_the_outcome_unknown_and_a_retry_counts_once(
    service: ShuffleService, join_member: Join
) -> None:
    owner = join_member("agent_1")
    service.create_shuffle("s", "Hash", 2)
    service.send_partition("s", 0, numbers(1), "agent_1")

    def write(timeout_s: float) -> None:
        with service.writer("s", 3, timeout_s=timeout_s) as writer:
            writer.write_partition(0, numbers(10, 10))
            writer.write_partition(1, numbers(10, 20), "agent_0")

    owner.stop()
    started = time.monotonic()
    with pytest.raises(OutcomeUnknown, match=r"within 0.5 s .*write it again under the same map id"):
        write(0.5)
    with pytest.raises(OutcomeUnknown, match="may have been committed or not"):
        service.send_partition("s", 0, numbers(1, 1), timeout_s=0.5)
    assert time.monotonic() - started < 3
    owner.resume()
    write(10)
    write(10)
    assert ids(service, "s", 1) == list(range(20, 30))
    assert [each for each in ids(service, "s", 0) if each >= 10] == list(range(10, 20))


def test_a_registrar_that_stops_in_a_commit(service: ShuffleService) -> None:
    """The one that decides hears the first writer, and answers nobody for a while."""
    service.create_shuffle("s", "Hash", 2)
    with (
        ShuffleService("b", join=service.address, config=ShuffleConfig(timeout_s=0.5)) as other,
        ShuffleService("c", join=service.address, config=ShuffleConfig(timeout_s=20)) as third,
    ):
        service.send_partition("s", 0, numbers(1), "b", timeout_s=10)
        first, second = other.writer("s", 1), third.writer("s", 1)
        first.write_partition(0, numbers(5, 10))
        second.write_partition(0, numbers(5, 10))
        release = threading.Event()
        service.node.loop.call(lambda: release.wait(10))
        with pytest.raises(OutcomeUnknown, match="it may have been committed or not"):
            first.commit()
        release.set()
        assert second.commit() is False, "the first was decided all the same"
        assert ids(service, "s", 0) == [0, *range(10, 15)]


def test_a_killed_owner_is_a_lost_partition(service: ShuffleService, join_member: Join) -> None:
    owner, reader = join_member("agent_1"), join_member("agent_2")
    service.create_shuffle("s", "Hash", 4, partition_keys=["id"])
    service.send_partition("s", 0, numbers(1), "agent_1")
    service.send_partition("s", 1, numbers(1), "agent_0")
    assert reader.ask("rows(service.receive_partitions('s', 0))") == "[0]"
    owner.kill()
    lost = "partition 0 of 's' was held by agent_1, which is gone: what was sent to it is lost"
    with pytest.raises(ShuffleLost, match=lost):
        service.receive_partitions("s", 0)
    assert f"ShuffleLost: {lost}" in reader.ask("service.receive_partitions('s', 0)")
    with pytest.raises(ShuffleLost, match=lost):
        service.send_partition("s", 0, numbers(1))
    with pytest.raises(ShuffleLost, match=lost):
        service.send_batch("s", numbers(100))
    wait_until(lambda: service.members() == ["agent_0", "agent_2"])
    assert ids(service, "s", 1) == [0]
    service.seal("s")
    # The name may come back, as another incarnation: what it held does not.
    assert join_member("agent_1").started == "joined"
    with pytest.raises(ShuffleLost, match=lost):
        service.receive_partitions("s", 0)


def test_a_reader_that_waits_is_told_of_the_loss(service: ShuffleService, join_member: Join) -> None:
    owner = join_member("agent_1")
    service.create_shuffle("s", "Hash", 1)
    service.send_partition("s", 0, numbers(1), "agent_1")
    reader = service.open_partition("s", 0, timeout_s=20)
    reader.read_next_batch()
    threading.Timer(0.3, owner.kill).start()
    started = time.monotonic()
    with pytest.raises(ShuffleLost, match="agent_1"):
        reader.read_next_batch()
    assert time.monotonic() - started < 10


def test_a_silent_member_is_given_up(quick_timers: Timers, join_member: Join) -> None:
    with ShuffleService(config=ShuffleConfig(timers=quick_timers, timeout_s=10)) as service:
        owner = join_member("agent_1", "ShuffleConfig(timers=Timers(heartbeat_s=0.1))", to=service)
        service.create_shuffle("s", "Hash", 2)
        service.send_partition("s", 0, numbers(1), "agent_1")
        owner.stop()
        wait_until(lambda: service.members() == ["agent_0"])
        with pytest.raises(ShuffleLost, match="agent_1"):
            service.receive_partitions("s", 0)
        owner.resume()
        answer = owner.ask("service.send_partition('s', 1, numbers(1), 'agent_0')")
        assert answer.startswith("UserError: agent_1 is no member any more")


def test_a_member_that_leaves_is_gone_at_once(service: ShuffleService, join_member: Join) -> None:
    other = join_member("agent_1")
    service.create_shuffle("s", "Hash", 1)
    service.send_partition("s", 0, numbers(1), "agent_1")
    other.end()
    wait_until(lambda: service.members() == ["agent_0"])
    with pytest.raises(ShuffleLost, match="agent_1"):
        service.receive_partitions("s", 0)


def test_without_the_registrar_members_say_so() -> None:
    first = ShuffleService(config=ShuffleConfig(timeout_s=5))
    with ShuffleService("b", join=first.address, config=ShuffleConfig(timeout_s=5)) as second:
        second.create_shuffle("s", "Hash", 2)
        second.send_partition("s", 0, numbers(2), "b")
        second.send_partition("s", 1, numbers(2), "agent_0")
        first.shutdown()
        assert ids(second, "s", 0) == [0, 1], "what is held here is still read"
        with pytest.raises(ShuffleLost, match="partition 1 of 's' was held by agent_0, which is gone"):
            second.receive_partitions("s", 1)
        with pytest.raises(PeerError, match="agent_0"):
            second.create_shuffle("t", "Hash", 2)


def test_figures_are_those_that_metrics_describe(service: ShuffleService) -> None:
    from shuffle_worker.figures import DESCRIBED

    missing = [each.figure for each in DESCRIBED if each.figure not in service.figures()]
    assert missing == []
    assert ast.literal_eval(repr(service.figures()["disk_free_bytes"])) == {}
