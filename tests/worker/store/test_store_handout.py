"""The hand-out to the sink: readiness, leases, ends, deadlines; and many threads at once."""

import os
import select
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from shuffle_worker.errors import Cancelled, DeadlineExceeded, Fenced, InternalError

UID = bytes(range(16))
MIB = 1 << 20


def test_take_waits_for_a_winner(bench: Any, in_thread: Callable[..., Any]) -> None:
    made = bench()
    made.open()
    taken = in_thread(lambda: made.store.take(UID, 0, MIB, 10.0))
    made.store.offer(made.frame(0))
    assert made.store.take(UID, 0, MIB, 10.0, wait=False) == []
    made.store.win(UID, 0, 1, 0)
    assert [frame.number for frame in taken()] == [0]


def test_take_ends_at_the_seal_and_at_its_deadline(bench: Any, in_thread: Callable[..., Any]) -> None:
    made = bench()
    made.open(groups=2)
    with pytest.raises(DeadlineExceeded, match=f"group 1 of shuffle {UID.hex()}"):
        made.store.take(UID, 1, MIB, 0.02)
    taken = in_thread(lambda: made.store.take(UID, 1, MIB, 10.0))
    made.store.seal(UID, [1])
    assert taken() == []


def test_take_ends_when_the_store_or_shuffle_is_closed(bench: Any, in_thread: Callable[..., Any]) -> None:
    made = bench()
    made.open()
    made.open(uid=b"n" * 16)
    taken = in_thread(lambda: made.store.take(UID, 0, MIB, 20.0))
    other = in_thread(lambda: made.store.take_ready(b"n" * 16, MIB, 20.0))
    made.store.close_shuffle(UID)
    with pytest.raises(Fenced):
        taken()
    made.store.close()
    with pytest.raises(Cancelled):
        other()
    with pytest.raises(Cancelled):
        made.store.offer(made.frame(0))


def test_closed_shuffle_stays_closed(bench: Any) -> None:
    made = bench()
    frame = made.frame(0)
    assert made.store.offer(frame) == 4
    made.open()
    assert made.store.offer(frame) == 0
    assert made.store.shuffles() == [UID]
    made.store.close_shuffle(UID)
    assert made.store.offer(frame) == 2
    with pytest.raises(Fenced, match="the shuffle was closed"):
        made.store.open_shuffle(UID, 2)


def test_tombstones_are_bounded(bench: Any) -> None:
    made = bench(tombstones=3)
    made.open()
    for map in range(5):
        made.store.discard(UID, map, 1, 0)
    assert [made.store.offer(made.frame(0, map=map)) for map in range(5)] == [0, 0, 2, 2, 2]


def test_group_is_ready_at_its_rows_or_its_seal(bench: Any) -> None:
    made = bench()
    made.open(groups=2, ready_rows=25)
    for number in range(4):
        made.store.offer(made.frame(number, group=1 if number == 3 else 0))
    made.store.win(UID, 0, 1, 0)
    taken = made.store.take_ready(UID, MIB, 1.0)
    assert (taken.group, [frame.number for frame in taken.frames], taken.last) == (0, [0, 1, 2], False)
    assert not made.store.wait_ready(UID, 0.02)
    with pytest.raises(DeadlineExceeded):
        made.store.take_ready(UID, MIB, 0.02)
    made.store.seal(UID)
    assert made.store.wait_ready(UID, 1.0)
    taken = made.store.take_ready(UID, MIB, 1.0)
    assert (taken.group, len(taken.frames), taken.last) == (1, 1, True)


def test_the_group_with_most_bytes_goes_first_to_one_taker_only(bench: Any) -> None:
    made = bench()
    made.open(groups=3)
    for number, (group, size) in enumerate([(0, 500), (1, 5000), (2, 300), (1, 100)]):
        made.store.offer(made.frame(number, group, size))
    made.store.win(UID, 0, 1, 0)
    assert made.store.take_ready(UID, 1, 1.0).group == 1
    assert made.store.take_ready(UID, 1, 1.0).group == 0, "group 1 is leased, though it has more"
    made.store.release_group(UID, 1)
    made.store.seal(UID)
    taken = made.store.take_ready(UID, 1, 1.0)
    assert (taken.group, taken.last) == (2, True)
    taken = made.store.take_ready(UID, MIB, 1.0)
    assert (taken.group, taken.last, taken.frames[0].number) == (1, True, 3)
    assert not made.store.wait_ready(UID, 0.01), "group 0 is sealed but leased"
    made.store.release_group(UID, 0)
    assert made.store.take_ready(UID, MIB, 1.0) == (0, [], True)
    assert made.store.take_ready(UID, MIB, 1.0) is None


def test_seal_comes_after_the_last_winner(bench: Any) -> None:
    made = bench()
    made.open()
    made.store.offer(made.frame(0))
    made.store.seal(UID)
    with pytest.raises(InternalError, match="after its group was sealed"):
        made.store.win(UID, 0, 1, 0)


def test_notices_wake_the_control_loop(bench: Any) -> None:
    made = bench()
    made.open()
    poll = select.poll()
    poll.register(made.store.fileno(), select.POLLIN)
    made.store.expect(UID, 0, 1, 0, 2)
    made.store.offer(made.frame(0))
    assert poll.poll(0) == []
    made.store.offer(made.frame(1))
    assert poll.poll(1000) != []
    (notice,) = made.store.notices()
    assert (notice.kind, notice.shuffle, notice.map, notice.epoch, notice.attempt) == ("complete", UID, 0, 1, 0)
    assert poll.poll(0) == []


def test_bad_arguments_are_refused(bench: Any) -> None:
    made = bench()
    made.open()
    with pytest.raises(ValueError, match="16 bytes"):
        made.store.win(b"short", 0, 1, 0)
    other = bench()
    with pytest.raises(InternalError, match="pool"):
        made.store.offer(other.frame(0))
    with pytest.raises(Fenced, match="is not placed here"):
        made.store.take(UID, 9, MIB, 1.0)
    with pytest.raises(ValueError, match="negative"):
        made.store.peek(UID, 0, -1, MIB)


def test_every_frame_arrives_once_under_many_threads(bench: Any) -> None:
    """Mappers put, some attempts are discarded, sinks take, spill runs; sums of checksums agree at the end."""
    made = bench(limit_bytes=12 * MIB, disks=2, batch_bytes=MIB, segment_bytes=2 * MIB)
    groups, mappers, frames = 7, 3, 60
    made.open(groups=groups, ready_rows=40)
    sent, failures = [], []
    received: list[tuple[int, int, int, int]] = []
    lock = threading.Lock()

    def run(call: Callable[..., None], *arguments: int) -> threading.Thread:
        def guarded() -> None:
            try:
                call(*arguments)
            except BaseException as error:  # noqa: BLE001 - raised again in the test
                failures.append(error)

        thread = threading.Thread(target=guarded)
        thread.start()
        return thread

    def mapper(map: int) -> None:
        for attempt in range(2):
            for number in range(frames):
                frame = made.frame(number, number % groups, 150_000 + 7 * number, map=map, attempt=attempt)
                assert made.store.put(frame, 20.0) == 0
                if attempt == 1:
                    with lock:
                        sent.append((map, attempt, number, frame.payload_crc))
            if attempt == 0:
                made.store.discard(UID, map, 1, 0)
        made.store.win(UID, map, 1, 1)

    def sink() -> None:
        while (taken := made.store.take_ready(UID, 400_000, 20.0)) is not None:
            for frame in taken.frames:
                assert frame.verify() == 0
                assert frame.group == taken.group
                with lock:
                    received.append((frame.map, frame.attempt, frame.number, frame.payload_crc))
                del frame
            made.store.release_group(UID, taken.group)
            del taken

    def reader() -> None:
        while made.store.stats()["frames"] or (not failures and any(each.is_alive() for each in mapping)):
            for group in range(groups):
                assert all(frame.verify() == 0 for frame in made.store.peek(UID, group, 0, MIB))

    mapping = [run(mapper, map) for map in range(mappers)]
    sinking = [run(sink) for _ in range(2)] + [run(reader)]
    for thread in mapping:
        thread.join(60)
    made.store.seal(UID)
    for thread in sinking:
        thread.join(60)
    assert not failures
    assert sorted(received) == sorted(sent)
    order: dict[tuple[int, int], int] = {}
    for map, _, number, _ in received:
        assert number > order.get((map, number % groups), -1), "order within a group and map"
        order[map, number % groups] = number
    assert made.store.stats()["frames"] == 0


def test_fork_free_descriptors(bench: Any) -> None:
    made = bench()
    assert not os.get_inheritable(made.store.fileno())
    begun = time.monotonic()
    made.store.close()
    made.store.close()
    assert time.monotonic() - begun < 2
