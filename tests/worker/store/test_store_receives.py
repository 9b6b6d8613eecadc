"""The store behind a real transport: credit holds the sender back, and every byte stays within the budget."""

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from shuffle_worker._native.transport import Transport
from shuffle_worker.errors import DeadlineExceeded, Fenced, PeerError
from shuffle_worker.wire.types import Rejected, TransportConfig

UID = bytes(range(16))
MIB = 1 << 20


@pytest.fixture
def pair(bench: Any) -> Iterator[Callable[..., tuple[Any, Any, Transport]]]:
    """pair(..): a bench that owns, one that sends, and the sender's transport, connected to the owner's."""
    with ExitStack() as stack:

        def make(**limits: Any) -> tuple[Any, Any, Transport]:
            owner, sender = bench(**limits), bench(limit_bytes=64 * MIB)
            there = stack.enter_context(Transport(TransportConfig("owner", 1), owner.store))
            here = stack.enter_context(Transport(TransportConfig("sender", 2), sender.store))
            here.connect(there.address)
            here.wait_connected("owner", 10.0)
            return owner, sender, here

        yield make


def wait_for(holds: Callable[[], Any], what: str) -> None:
    deadline = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline, f"waited 20 s for {what}"
        time.sleep(0.002)


def send_until_refused(transport: Transport, frames: Iterable[Any], timeout_s: float) -> tuple[PeerError | None, int]:
    """What ended it, and how many frames were taken before."""
    sent = 0
    for frame in frames:
        try:
            transport.send("owner", frame, timeout_s)
        except PeerError as error:
            return error, sent
        sent += 1
    return None, sent


@pytest.mark.parametrize("size", [700_000, 300, 6 * MIB // 5])
def test_five_times_the_limit_arrives_within_it(pair: Any, size: int) -> None:
    owner, sender, transport = pair(limit_bytes=16 * MIB)
    owner.open(groups=4)
    frames = min(80 * MIB // size, 3000)
    for number in range(frames):
        transport.send("owner", sender.frame(number, number % 4, size), 20.0)
    owner.store.expect(UID, 0, 1, 0, frames)
    wait_for(lambda: owner.store.counts(UID, 0, 1, 0).frames == frames, "every frame")
    stats = owner.store.stats()
    assert stats["peak_bytes"] <= 16 * MIB
    assert stats["spilled_frames_total"] > 0 or frames * max(size, 4096) < 12 * MIB
    owner.store.win(UID, 0, 1, 0)
    numbers = []
    for group in range(4):
        while taken := owner.store.take(UID, group, 2 * MIB, 10.0, wait=False):
            assert all(bytes(frame) == owner.content(0, 1, 0, frame.number, size) for frame in taken)
            numbers += [frame.number for frame in taken]
            del taken
    assert sorted(numbers) == list(range(frames))
    transport.close_shuffle(UID)
    wait_for(lambda: owner.budget.reserved_bytes == 0, "the credit to come back")


def test_paused_consumer_holds_the_sender_back_until_it_goes_on(pair: Any) -> None:
    owner, sender, transport = pair(limit_bytes=16 * MIB, directories=[], full_grace_s=60.0)
    owner.open()
    refusal, sent = send_until_refused(transport, (sender.frame(number, 0, MIB) for number in range(48)), 1.0)
    assert isinstance(refusal, DeadlineExceeded)
    assert 4 <= sent < 32
    assert owner.budget.peak_bytes <= 16 * MIB
    held = owner.store.counts(UID, 0, 1, 0).frames
    owner.store.discard(UID, 0, 1, 0)
    done = threading.Event()

    def go_on() -> None:
        transport.send("owner", sender.frame(0, 0, MIB, map=1), 20.0)
        done.set()

    thread = threading.Thread(target=go_on)
    thread.start()
    assert done.wait(20)
    thread.join(5)
    assert held > 0
    wait_for(lambda: owner.store.counts(UID, 1, 1, 0) is not None, "the frame of the next map")


def test_sender_waits_for_a_shuffle_to_be_opened_and_leaves_a_closed_one(pair: Any) -> None:
    owner, sender, transport = pair()
    with pytest.raises(DeadlineExceeded):
        transport.send("owner", sender.frame(0), 0.05)
    owner.open()
    transport.send("owner", sender.frame(0, map=1), 10.0)
    wait_for(lambda: owner.store.counts(UID, 1, 1, 0) is not None, "the frame")
    owner.store.close_shuffle(UID)
    frames = (sender.frame(number, map=1) for number in range(1, 100_000))
    refusal, _ = send_until_refused(transport, frames, 10.0)
    assert isinstance(refusal, Fenced)


def test_fenced_frame_is_rejected_to_its_sender(pair: Any) -> None:
    owner, sender, transport = pair()
    owner.open()
    transport.send("owner", sender.frame(0, generation=9), 10.0)
    events: list[Any] = []

    def rejected() -> list[Any]:
        events.extend(transport.drain())
        return [event for event in events if isinstance(event, Rejected)]

    wait_for(rejected, "the rejection")
    assert (rejected()[0].verdict, rejected()[0].stream) == ("fenced", (0, 1, 0))
