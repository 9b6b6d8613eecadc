"""One attempt to send rows: streams to owners, and their commit, whole or not at all."""

import time
from dataclasses import dataclass, field

from shuffle_worker._native.frame import Frame, Stream
from shuffle_worker.errors import Cancelled, DeadlineExceeded, Fenced, OutcomeUnknown, PeerLost, ShuffleError
from shuffle_worker.service import messages
from shuffle_worker.service.calls import Calls
from shuffle_worker.service.holdings import Holdings
from shuffle_worker.service.messages import Decided, Done, Owner, Promise, StreamName
from shuffle_worker.service.node import Node

LEAST_WAIT_S = 0.001


@dataclass(frozen=True)
class Ways:
    """How this member reaches owners, itself among them."""

    node: Node
    calls: Calls
    holdings: Holdings


class Deadline:
    """When a call must have ended."""

    __slots__ = ("at", "timeout_s")

    def __init__(self, timeout_s: float) -> None:
        self.timeout_s = timeout_s
        self.at = time.monotonic() + timeout_s

    def left_s(self) -> float:
        return max(LEAST_WAIT_S, self.at - time.monotonic())


@dataclass
class Attempt:
    """Numbers frames for each owner. Ends with `commit` or `abandon`."""

    ways: Ways
    name: StreamName
    streams: dict[Owner, Stream] = field(default_factory=dict)

    def push(self, owner: Owner, frame: Frame, deadline: Deadline) -> None:
        """Hand a frame to its owner. :raises ShuffleError: nothing of the attempt is committed then."""
        stream = self.streams.get(owner)
        if stream is None:
            name = self.name
            stream = Stream(name.uid, self.ways.node.incarnation, name.map, name.epoch, name.attempt)
            self.streams[owner] = stream
            self.ways.calls.reach(owner.name)
        stream.stamp(frame, messages.GENERATION)
        self.ways.node.push(owner.name, frame, deadline.left_s())

    @property
    def rows(self) -> int:
        return sum(stream.rows for stream in self.streams.values())

    @property
    def bytes(self) -> int:
        return sum(stream.payload_bytes for stream in self.streams.values())

    def commit_one(self, deadline: Deadline) -> None:
        """For one owner at most, who decides by itself.

        :raises OutcomeUnknown: it did not answer. :raises ShuffleError: it was not committed.
        """
        for owner, stream in self.streams.items():
            promise = _promise(stream)
            if owner.name == self.ways.node.name:
                self.ways.holdings.commit_here(self.name, promise)
                continue
            request = messages.Commit(self.name, promise)
            try:
                self.ways.calls.ask(owner.name, request, deadline.left_s(), Done)
            except (DeadlineExceeded, PeerLost, Cancelled) as error:
                raise OutcomeUnknown(f"{error}: it may have been committed or not") from error

    def commit_all(self, registrar: str, deadline: Deadline) -> int:
        """For any number of owners: all are prepared, then the registrar chooses. The attempt that counts.

        :raises OutcomeUnknown: the registrar did not answer. :raises ShuffleError: it was not committed.
        """
        self._prepare(deadline)
        decide = messages.Decide(self.name, tuple(self.streams))
        try:
            decided = self.ways.calls.ask(registrar, decide, deadline.left_s(), Decided)
        except (DeadlineExceeded, PeerLost, Cancelled) as error:
            raise OutcomeUnknown(f"{error}: it may have been committed or not") from error
        return decided.attempt

    def _prepare(self, deadline: Deadline) -> None:
        asked = []
        for owner, stream in self.streams.items():
            if owner.name == self.ways.node.name:
                self.ways.holdings.commit_here(self.name, _promise(stream), prepare=True)
            else:
                asked.append((owner.name, messages.Commit(self.name, _promise(stream), prepare=True)))
        for outcome in self.ways.calls.ask_all(asked, deadline.left_s()):
            if isinstance(outcome, ShuffleError):
                raise outcome

    def abandon(self) -> None:
        """Have owners drop what they got, as far as they can be reached. What was committed stays."""
        for owner in self.streams:
            if owner.name == self.ways.node.name:
                try:
                    self.ways.holdings.discard(self.name)
                except Fenced:
                    continue  # committed
            else:
                self.ways.calls.tell(owner.name, messages.Discard(self.name))


def _promise(stream: Stream) -> Promise:
    return Promise(stream.frames, stream.rows, stream.payload_bytes, stream.crc_sum, stream.key_digest)
