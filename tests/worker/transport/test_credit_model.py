"""Credit against a model, over any sequence of needs, frames, returns, deaths and freed memory, without sockets.

Held: a sender never sees more credit than was reserved for it; what is reserved is what senders may still send; unspent
credit returns when a connection ends; and whoever waits is served, in order, once there is memory.
"""

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from shuffle_worker._native.buffer import BufferPool
from shuffle_worker._native.frame import HEADER_BYTES
from shuffle_worker._native.twin import MemoryReceiver, SocketlessWire

PAGE = 4096
WINDOW = 8 * PAGE
LIMIT = 40 * PAGE
SHUFFLES = (b"a" * 16, b"b" * 16)


class Sender:
    """What the sending side of one connection knows."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.credit = dict.fromkeys(SHUFFLES, 0)
        self.need: dict[bytes, int] = {}


class CreditMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.receiver = MemoryReceiver(BufferPool(0), LIMIT)
        self.wire = SocketlessWire(self.receiver, window_bytes=WINDOW, max_frame_bytes=LIMIT)
        self.senders: list[Sender] = []
        self.held: list[object] = []
        self.opened = 0

    # Given by the fixtures in other tests; a state machine has none.
    speaker = None

    @initialize()
    def begin(self) -> None:
        self.open()
        self.open()

    @precondition(lambda self: len(self.senders) < 5)
    @rule()
    def open(self) -> None:
        sender = Sender(self.wire.accept())
        self.opened += 1
        assert self.wire.feed(sender.number, self.speaker.hello(f"sender-{self.opened}"))
        assert self.wire.output(sender.number)
        self.senders.append(sender)

    @rule(index=st.integers(0, 9), shuffle=st.sampled_from(SHUFFLES), pages=st.integers(1, 24))
    def ask(self, index: int, shuffle: bytes, pages: int) -> None:
        """A frame waits: as the protocol says, only when credit is short of it."""
        sender = self.pick(index)
        if sender is None or sender.credit[shuffle] >= pages * PAGE:
            return
        sender.need[shuffle] = pages * PAGE
        self.say(sender, self.speaker.kinds.NEED, shuffle, pages * PAGE)

    @rule(index=st.integers(0, 9), shuffle=st.sampled_from(SHUFFLES), share=st.floats(0.01, 1), keep=st.booleans())
    def send(self, index: int, shuffle: bytes, share: float, keep: bool) -> None:
        sender = self.pick(index)
        if sender is None or sender.credit[shuffle] < PAGE:
            return
        size = max(int(sender.credit[shuffle] * share), 1)
        sender.credit[shuffle] -= max(size, PAGE)
        assert self.wire.feed(sender.number, self.speaker.frame(self.speaker.kinds.DATA, bytes(size), shuffle=shuffle))
        self.held.append(self.receiver.take(0))
        if not keep:
            self.held.pop()
        self.hear()
        if sender.credit[shuffle] < sender.need.get(shuffle, 0):
            # What was granted for the frame that waits went to another: ask again.
            self.say(sender, self.speaker.kinds.NEED, shuffle, sender.need[shuffle])

    @rule(index=st.integers(0, 9), shuffle=st.sampled_from(SHUFFLES))
    def give_back(self, index: int, shuffle: bytes) -> None:
        sender = self.pick(index)
        if sender is None or sender.credit[shuffle] == 0:
            return
        self.return_credit(sender, shuffle)

    @rule(index=st.integers(0, 9))
    def die(self, index: int) -> None:
        sender = self.pick(index)
        if sender is None:
            return
        self.senders.remove(sender)
        self.wire.end(sender.number)
        self.hear()

    @rule()
    def free_memory(self) -> None:
        self.held.clear()
        self.wire.advance(0.001)
        self.hear()

    @rule(seconds=st.floats(0, 0.1))
    def time_passes(self, seconds: float) -> None:
        self.wire.advance(seconds)
        self.hear()

    @invariant()
    def what_is_reserved_is_what_may_still_come(self) -> None:
        known = sum(sum(sender.credit.values()) for sender in self.senders)
        assert self.receiver.reserved_bytes == known
        for sender in self.senders:
            for shuffle in SHUFFLES:
                assert self.wire.outstanding(sender.number, shuffle) == sender.credit[shuffle]

    @invariant()
    def memory_is_never_promised_twice(self) -> None:
        # A buffer may be larger than its frame by less than as much again.
        assert self.receiver.reserved_bytes <= LIMIT

    def teardown(self) -> None:
        """Everyone who waits is served once memory is there and time passes."""
        self.held.clear()
        for _ in range(1000):
            self.wire.advance(0.05)
            self.hear()
            for sender in self.senders:
                for shuffle in SHUFFLES:
                    if shuffle in sender.need and sender.credit[shuffle] >= sender.need[shuffle]:
                        sender.credit[shuffle] -= (cost := sender.need.pop(shuffle))
                        frame = self.speaker.frame(self.speaker.kinds.DATA, bytes(cost), shuffle=shuffle)
                        assert self.wire.feed(sender.number, frame)
                        self.receiver.take(0)
                        self.hear()
            if not any(sender.need for sender in self.senders):
                break
        assert not any(sender.need for sender in self.senders), "somebody waits for ever"
        assert self.wire.waiting == 0
        for sender in self.senders:
            self.wire.end(sender.number)
        assert self.receiver.reserved_bytes == 0

    # ---- the senders' side of the protocol

    def pick(self, index: int) -> Sender | None:
        return self.senders[index % len(self.senders)] if self.senders else None

    def say(self, sender: Sender, kind: int, shuffle: bytes, value: int) -> None:
        assert self.wire.feed(sender.number, self.speaker.frame(kind, value=value, shuffle=shuffle))
        self.hear()

    def return_credit(self, sender: Sender, shuffle: bytes) -> None:
        value, sender.credit[shuffle] = sender.credit[shuffle], 0
        self.say(sender, self.speaker.kinds.CREDIT, shuffle, value)
        if shuffle in sender.need:
            self.say(sender, self.speaker.kinds.NEED, shuffle, sender.need[shuffle])

    def hear(self) -> None:
        """Take what the owner says to each sender."""
        for sender in list(self.senders):
            data = self.wire.output(sender.number)
            while data:
                frame, data = data[:HEADER_BYTES], data[HEADER_BYTES:]
                [(kind, value, _)] = self.speaker.parse(frame)
                assert kind == self.speaker.kinds.CREDIT
                shuffle = frame[8:24]
                if value:
                    sender.credit[shuffle] += value
                elif sender.credit[shuffle] and sender.credit[shuffle] < sender.need.get(shuffle, 1 << 62):
                    self.return_credit(sender, shuffle)


def test_credit(speaker):
    CreditMachine.speaker = speaker
    from hypothesis.stateful import run_state_machine_as_test

    run_state_machine_as_test(
        CreditMachine, settings=settings(max_examples=150, stateful_step_count=40, deadline=None, derandomize=True)
    )


def open_senders(speaker, wire, count):
    numbers = [wire.accept() for _ in range(count)]
    for place, number in enumerate(numbers):
        assert wire.feed(number, speaker.hello(f"s{place}"))
        wire.output(number)
    return numbers


def test_who_asked_first_is_served_first(speaker):
    receiver = MemoryReceiver(BufferPool(0), 0)
    wire = SocketlessWire(receiver, window_bytes=WINDOW, max_frame_bytes=LIMIT)
    numbers = open_senders(speaker, wire, 5)
    receiver.grant_answer = -1
    for number in numbers:
        assert wire.feed(number, speaker.frame(speaker.kinds.NEED, value=4 * PAGE))
    receiver.grant_answer = 0
    served = []
    for pages in range(4, 24, 4):
        receiver.set_limit(pages * PAGE)
        wire.advance(0.001)
        served += [number for number in numbers if wire.output(number)]
    assert served == numbers


def test_a_large_frame_is_not_overtaken_for_ever_by_small_ones(speaker):
    receiver = MemoryReceiver(BufferPool(0), 8 * PAGE)
    wire = SocketlessWire(receiver, window_bytes=2 * PAGE, max_frame_bytes=LIMIT)
    large, small = open_senders(speaker, wire, 2)
    assert wire.feed(small, speaker.frame(speaker.kinds.NEED, value=PAGE))
    assert speaker.parse(wire.output(small))[0][1] == 2 * PAGE
    assert wire.feed(large, speaker.frame(speaker.kinds.NEED, value=8 * PAGE))
    assert wire.output(large) == b""
    assert wire.feed(small, speaker.frame(speaker.kinds.DATA, bytes(2 * PAGE)))
    receiver.take(0)
    wire.advance(0.001)
    assert speaker.parse(wire.output(large)) == [(speaker.kinds.CREDIT, 8 * PAGE, b"")]


def test_more_than_was_granted_is_the_end(speaker):
    receiver = MemoryReceiver(BufferPool(0), LIMIT)
    wire = SocketlessWire(receiver, window_bytes=WINDOW, max_frame_bytes=LIMIT)
    [number] = open_senders(speaker, wire, 1)
    assert wire.feed(number, speaker.frame(speaker.kinds.NEED, value=PAGE))
    [(_, credit, _)] = speaker.parse(wire.output(number))
    frame = speaker.frame(speaker.kinds.DATA, bytes(credit + 1))
    assert not wire.feed(number, frame[:HEADER_BYTES])
    assert "more was sent than credit was granted for" in wire.reason(number)
    assert speaker.parse(wire.output(number))[0][0] == speaker.kinds.REFUSE
    assert receiver.reserved_bytes == 0
    assert receiver.frames == 0
