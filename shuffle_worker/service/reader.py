"""Reads partitions: from the store here, or from their owner in another process. Only what was committed, in order."""

import itertools
import secrets
import threading
import time
from collections.abc import Iterator

import pyarrow as pa

from shuffle_worker._native.frame import Frame
from shuffle_worker._native.store import Notice
from shuffle_worker.errors import DeadlineExceeded, Fenced, PeerError, PeerLost, UserError
from shuffle_worker.service import messages
from shuffle_worker.service.attempt import Deadline, Ways
from shuffle_worker.service.codec import decode
from shuffle_worker.service.directory import Directory, Known
from shuffle_worker.service.messages import EPOCH_SEND, GENERATION, Owner, ReadOut
from shuffle_worker.service.stats import Counters

LONGEST_POLL_S = 5.0
LOSS_PAUSE_S = 0.05


class Intake:
    """Where an owner in another process pushes what is read: a shuffle of the reader's own, gone when it ends."""

    def __init__(self, ways: Ways, group: int, owner: Owner) -> None:
        self._ways = ways
        self._owner = owner
        self._group = group
        self._turns = itertools.count()
        self._whole: dict[int, threading.Event] = {}
        self._broken: set[int] = set()
        self.uid = secrets.token_bytes(16)
        ways.node.store.open_shuffle(self.uid, EPOCH_SEND)
        ways.node.store.place(self.uid, group, GENERATION)
        ways.node.serve_notices(self.uid, self._on_notice)

    def close(self) -> None:
        self._ways.calls.tell(self._owner.name, messages.ReadEnd(self.uid))
        self._ways.node.forget_notices(self.uid)
        self._ways.node.store.close_shuffle(self.uid)

    def read(self, known: Known, position: int, wait_s: float, deadline: Deadline) -> tuple[list[Frame], bool]:
        """Frames from `position` on, and whether the partition ends there."""
        turn = next(self._turns)
        whole = self._whole[turn] = threading.Event()
        node = self._ways.node
        request = messages.Read(known.info.uid, self._group, position, node.window_bytes, wait_s, self.uid, turn)
        out = self._ways.calls.ask(self._owner.name, request, deadline.left_s() + wait_s, ReadOut)
        if out.frames:
            node.store.expect(self.uid, 0, EPOCH_SEND, turn, out.frames)
            if not whole.wait(deadline.left_s()):
                raise DeadlineExceeded(
                    f"waited {deadline.timeout_s:g} s for {out.frames} frames of partition {self._group} of "
                    f"{known.info.id!r} from {self._owner.name}"
                )
        del self._whole[turn]
        if turn in self._broken:
            raise PeerLost(f"frames from {self._owner.name} were lost on the way")
        return self._take(turn, out.frames, deadline), out.end

    def _take(self, turn: int, count: int, deadline: Deadline) -> list[Frame]:
        store = self._ways.node.store
        frames: list[Frame] = []
        if count:
            store.win(self.uid, 0, EPOCH_SEND, turn)
        while len(frames) < count:
            frames += store.take(self.uid, self._group, 1 << 40, deadline.left_s())
        return frames

    def _on_notice(self, notice: Notice) -> None:
        whole = self._whole.get(notice.attempt)
        if whole is not None:
            if notice.kind == "broken":
                self._broken.add(notice.attempt)
            whole.set()


class Reader:
    """Reads of one member. Thread-safe."""

    def __init__(self, ways: Ways, directory: Directory, counters: Counters) -> None:
        self._ways = ways
        self._directory = directory
        self._counters = counters

    def receive(self, shuffle_id: str, partition: int, timeout_s: float) -> list[pa.RecordBatch]:
        """What is committed now. :raises ShuffleLost: the only owner is gone."""
        deadline = Deadline(timeout_s)
        known = self._directory.known(shuffle_id, deadline.left_s())
        group = known.group(partition)
        known, owner = self._directory.locate(known, group, 0.0, deadline.left_s())
        if owner is None:
            return []
        batches: list[pa.RecordBatch] = []
        for frame in self._frames(known, group, owner, deadline, follow=False):
            batches.append(self._decoded(known, frame))
        return batches

    def open(self, shuffle_id: str, partition: int, timeout_s: float) -> pa.RecordBatchReader:
        """Batches as they are committed, until the seal. `timeout_s`: for the schema, and then for each batch."""
        deadline = Deadline(timeout_s)
        known = self._directory.known(shuffle_id, deadline.left_s())
        group = known.group(partition)
        owner: Owner | None = None
        while owner is None and not known.info.sealed:
            wait_s = min(LONGEST_POLL_S, deadline.left_s())
            known, owner = self._directory.locate(known, group, wait_s, self._answer_s())
            if owner is None and not known.info.sealed and time.monotonic() >= deadline.at:
                raise DeadlineExceeded(self._unsealed(known, partition, timeout_s))
        if owner is None:
            known, owner = self._directory.locate(known, group, 0.0, self._answer_s())
        schema = known.schema if known.schema is not None else pa.schema([])
        if owner is None:
            return pa.RecordBatchReader.from_batches(schema, iter(()))
        return pa.RecordBatchReader.from_batches(schema, self._follow(known, group, owner, timeout_s))

    def _answer_s(self) -> float:
        return self._ways.node.settings.timers.connect_s

    def _follow(self, known: Known, group: int, owner: Owner, timeout_s: float) -> Iterator[pa.RecordBatch]:
        for frame in self._frames(known, group, owner, Deadline(timeout_s), follow=True):
            yield self._decoded(known, frame)

    def _decoded(self, known: Known, frame: Frame) -> pa.RecordBatch:
        assert known.schema is not None  # a partition has an owner only once the schema is fixed
        batch = decode(frame, known.schema)
        self._counters.add_received(known.info.id, batch.num_rows, len(frame))
        return batch

    def _unsealed(self, known: Known, partition: int, timeout_s: float) -> str:
        return (
            f"waited {timeout_s:g} s for more of partition {partition} of {known.info.id!r}, or for its seal: "
            "call seal when all was sent"
        )

    # frames
    def _frames(self, known: Known, group: int, owner: Owner, deadline: Deadline, follow: bool) -> Iterator[Frame]:
        """Frames in order; with `follow` until the seal, `deadline.timeout_s` for each wait, else what there is."""
        try:
            if owner.name == self._ways.node.name:
                yield from self._local(known, group, deadline, follow)
            else:
                yield from self._remote(known, group, owner, deadline, follow)
        except Fenced as error:
            self._directory.forget(known.info.id)
            raise UserError(f"the shuffle {known.info.id!r} was closed: {error}") from error

    def _local(self, known: Known, group: int, deadline: Deadline, follow: bool) -> Iterator[Frame]:
        node, holdings, uid = self._ways.node, self._ways.holdings, known.info.uid
        position = 0
        while True:
            changes, sealed = holdings.state(uid)
            frames = node.store.peek(uid, group, position, node.window_bytes, deadline.left_s())
            position += len(frames)
            yield from frames
            if frames:
                deadline = Deadline(deadline.timeout_s) if follow else deadline
            elif sealed or not follow:
                return
            elif not holdings.wait_change(uid, changes, deadline.at):
                raise DeadlineExceeded(self._unsealed(known, group, deadline.timeout_s))

    def _remote(self, known: Known, group: int, owner: Owner, deadline: Deadline, follow: bool) -> Iterator[Frame]:
        intake = Intake(self._ways, group, owner)
        position = 0
        try:
            while True:
                wait_s = min(LONGEST_POLL_S, deadline.left_s()) if follow else 0.0
                try:
                    frames, end = intake.read(known, position, wait_s, deadline)
                except PeerLost as error:
                    self._lost(known, group, owner, deadline, error)
                    continue
                position += len(frames)
                yield from frames
                if end or not (frames or follow):
                    return
                if frames and follow:
                    deadline = Deadline(deadline.timeout_s)
                elif not frames and time.monotonic() >= deadline.at:
                    raise DeadlineExceeded(self._unsealed(known, group, deadline.timeout_s))
        finally:
            intake.close()

    def _lost(self, known: Known, group: int, owner: Owner, deadline: Deadline, error: PeerError) -> None:
        """:raises ShuffleLost: the owner is gone. Else it may be tried again, until the deadline."""
        if time.monotonic() >= deadline.at:
            raise error
        self._directory.after_loss(known, group, owner, deadline.at)
        time.sleep(LOSS_PAUSE_S)
