"""Sends rows to one partition, or to all by the rule of the shuffle. A send is one commit, a writer one of many."""

import itertools
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import pyarrow as pa

from shuffle_worker._native.frame import Frame
from shuffle_worker.errors import Cancelled, DeadlineExceeded, Fenced, OutcomeUnknown, UserError
from shuffle_worker.service import messages
from shuffle_worker.service.attempt import Attempt, Deadline, Ways
from shuffle_worker.service.codec import Encoder, open_arrow
from shuffle_worker.service.directory import Directory, Known
from shuffle_worker.service.keyed import Scatterers
from shuffle_worker.service.membership import MembershipService
from shuffle_worker.service.messages import Owner, StreamName
from shuffle_worker.service.stats import Counters

LAST_U32 = (1 << 32) - 1
ATTEMPTS_PER_MEMBER = 1 << 16


@dataclass(frozen=True)
class Outbound:
    """What sends are made of."""

    ways: Ways
    directory: Directory
    membership: MembershipService
    encoder: Encoder
    scatterers: Scatterers
    counters: Counters


class Sender:
    """Sends of one member. Thread-safe."""

    def __init__(self, outbound: Outbound) -> None:
        self._out = outbound
        self._sends = itertools.count()
        self._lock = threading.Lock()
        self._writers: dict[tuple[bytes, int], int] = {}

    def send_partition(self, shuffle_id: str, partition: int, data: Any, target: str, timeout_s: float) -> None:
        deadline = Deadline(timeout_s)
        schema, batches = open_arrow(data)

        def send() -> None:
            with self._outcome(shuffle_id, deadline):
                known = self._out.directory.known(shuffle_id, deadline.left_s())
                attempt = self._attempt(known, messages.EPOCH_SEND)
                with _abandoned_on_error(attempt):
                    push_partition(self._out, attempt, Rows(known, schema, batches), (partition, target), deadline)
                    attempt.commit_one(deadline)
                self._out.counters.add_sent(shuffle_id, attempt.rows, attempt.bytes)

        self._again_if_new(shuffle_id, batches, send)

    def send_batch(self, shuffle_id: str, data: Any, timeout_s: float) -> None:
        deadline = Deadline(timeout_s)
        schema, batches = open_arrow(data)

        def send() -> None:
            with self._outcome(shuffle_id, deadline):
                known = self._out.directory.known(shuffle_id, deadline.left_s())
                attempt = self._attempt(known, messages.EPOCH_BATCH)
                with _abandoned_on_error(attempt):
                    rows = Rows(known, schema, batches)
                    push_scattered(self._out, attempt, rows, deadline)
                    self._commit(attempt, deadline)
                self._out.counters.add_sent(shuffle_id, attempt.rows, attempt.bytes)

        self._again_if_new(shuffle_id, batches, send)

    def _commit(self, attempt: Attempt, deadline: Deadline) -> None:
        if len(attempt.streams) <= 1:
            attempt.commit_one(deadline)
        else:
            attempt.commit_all(self._out.membership.registrar, deadline)

    def _attempt(self, known: Known, epoch: int) -> Attempt:
        number = next(self._sends)
        if number > LAST_U32:
            raise UserError("this member has sent 2^32 times: start a new one")
        name = StreamName(known.info.uid, self._out.membership.number, epoch, number)
        return Attempt(self._out.ways, name)

    def _again_if_new(self, shuffle_id: str, batches: Iterable[pa.RecordBatch], send: Callable[[], None]) -> None:
        """Send; once more if the shuffle that is known here was closed and its id is another's now."""
        try:
            send()
        except (Fenced, Cancelled):
            timeout_s = self._out.ways.node.settings.timers.connect_s
            before = self._out.directory.known(shuffle_id, timeout_s)
            self._out.directory.forget(shuffle_id)
            now = self._out.directory.known(shuffle_id, timeout_s)
            if now.info.sealed:
                raise UserError(f"the shuffle {shuffle_id!r} is sealed: it takes no more rows") from None
            if now.info.uid == before.info.uid or not isinstance(batches, (tuple, list)):
                raise
            send()

    @contextmanager
    def _outcome(self, shuffle_id: str, deadline: Deadline) -> Iterator[None]:
        try:
            yield
        except DeadlineExceeded as error:
            raise OutcomeUnknown(
                f"no word of a send to {shuffle_id!r} within {deadline.timeout_s:g} s ({error}): it may have been "
                "committed or not; use a writer to send again without counting twice"
            ) from error

    def writer(self, shuffle_id: str, map_id: int, timeout_s: float) -> "Writer":
        """A new attempt of a map."""
        if isinstance(map_id, bool) or not isinstance(map_id, int) or not 0 <= map_id <= LAST_U32:
            raise UserError(f"a map id is a whole number of 0..{LAST_U32}, not {map_id!r}")
        known = self._out.directory.known(shuffle_id, timeout_s)
        with self._lock:
            number = self._writers.get((known.info.uid, map_id), 0)
            self._writers[known.info.uid, map_id] = number + 1
        member = self._out.membership.number
        if number >= ATTEMPTS_PER_MEMBER or member >= ATTEMPTS_PER_MEMBER:
            raise UserError(f"map {map_id} of {shuffle_id!r} was attempted {number} times here: give it another id")
        name = StreamName(known.info.uid, map_id, messages.EPOCH_WRITER, member * ATTEMPTS_PER_MEMBER + number)
        return Writer(self._out, known, Attempt(self._out.ways, name), timeout_s)


@dataclass(frozen=True)
class Rows:
    """What to send, and to which shuffle."""

    known: Known
    schema: pa.Schema
    batches: Iterable[pa.RecordBatch]


def push_partition(out: Outbound, attempt: Attempt, rows: Rows, to: tuple[int, str], deadline: Deadline) -> None:
    """Push rows to one partition, of one member if `to` names it."""
    partition, target = to
    group = rows.known.group(partition)
    owner = out.directory.owners(rows.known, (group,), target, rows.schema, deadline.left_s())[0]
    for batch in rows.batches:
        for frame in out.encoder.frames(rows.schema, batch, group):
            attempt.push(owner, frame, deadline)


def push_scattered(out: Outbound, attempt: Attempt, rows: Rows, deadline: Deadline) -> None:
    """Push rows to the partitions that the shuffle's rule gives them."""
    groups = range(rows.known.info.groups)
    owners = out.directory.owners(rows.known, groups, "", rows.schema, deadline.left_s())
    with out.scatterers.lease(rows.known, rows.schema) as scatterer:
        for batch in rows.batches:
            _push_all(attempt, owners, scatterer.push(batch), deadline)
        _push_all(attempt, owners, scatterer.flush(), deadline)


def _push_all(attempt: Attempt, owners: Sequence[Owner], frames: Iterable[Frame], deadline: Deadline) -> None:
    for frame in frames:
        attempt.push(owners[frame.group], frame, deadline)


@contextmanager
def _abandoned_on_error(attempt: Attempt) -> Iterator[None]:
    try:
        yield
    except BaseException:
        attempt.abandon()
        raise


class Writer:
    """Many writes, one commit: exactly once under retries, as long as every retry has the same map id.

    A context manager: commits at the end, abandons on an exception. Not thread-safe.
    """

    def __init__(self, outbound: Outbound, known: Known, attempt: Attempt, timeout_s: float) -> None:
        self._out = outbound
        self._known = known
        self._attempt = attempt
        self._timeout_s = timeout_s
        self._scatterer: Any = None
        self._owners: Sequence[Owner] = ()
        self._lease: Any = None
        self._ended = False

    def write(self, data: Any) -> None:
        """Partition rows by the shuffle's rule and push them. Nothing can be read before `commit`."""
        schema, batches = open_arrow(data)
        deadline = self._begin()
        if self._scatterer is None:
            self._open_scatterer(schema, deadline)
        elif not self._known.schema.equals(schema):  # type: ignore[union-attr]
            self._out.directory.owners(self._known, (), "", schema, deadline.left_s())
        with self._outcome():
            for batch in batches:
                _push_all(self._attempt, self._owners, self._scatterer.push(batch), deadline)

    def write_partition(self, partition: int, data: Any, target: str = "") -> None:
        """Push rows to one partition (of one member, if `target` names it)."""
        schema, batches = open_arrow(data)
        deadline = self._begin()
        with self._outcome():
            push_partition(self._out, self._attempt, Rows(self._known, schema, batches), (partition, target), deadline)

    def commit(self) -> bool:
        """Make everything written readable, at once. False: an earlier attempt of this map counts, and not this one.

        :raises OutcomeUnknown: no answer in time: write it again under the same map id.
        """
        deadline = self._begin()
        with self._outcome():
            if self._scatterer is not None:
                _push_all(self._attempt, self._owners, self._scatterer.flush(), deadline)
            chosen = self._attempt.commit_all(self._out.membership.registrar, deadline)
        self._end()
        if chosen != self._attempt.name.attempt:
            self._attempt.abandon()
            return False
        self._out.counters.add_sent(self._known.info.id, self._attempt.rows, self._attempt.bytes)
        return True

    def abandon(self) -> None:
        """Drop everything written. Nothing to do after an end."""
        if not self._ended:
            self._end()
            self._attempt.abandon()

    def __enter__(self) -> "Writer":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._ended:
            return
        if kind is not None:
            self.abandon()
            return
        try:
            self.commit()
        except BaseException:
            self.abandon()
            raise

    def _begin(self) -> Deadline:
        if self._ended:
            raise UserError("this writer has ended: open another one with the same map id")
        return Deadline(self._timeout_s)

    def _open_scatterer(self, schema: pa.Schema, deadline: Deadline) -> None:
        with self._outcome():
            groups = range(self._known.info.groups)
            self._owners = self._out.directory.owners(self._known, groups, "", schema, deadline.left_s())
            self._lease = self._out.scatterers.lease(self._known, schema, self._attempt.name.map)
            self._scatterer = self._lease.__enter__()

    def _end(self) -> None:
        self._ended = True
        if self._lease is not None:
            self._lease.__exit__(None, None, None)

    @contextmanager
    def _outcome(self) -> Iterator[None]:
        try:
            yield
        except DeadlineExceeded as error:
            raise OutcomeUnknown(
                f"no word of map {self._attempt.name.map} of {self._known.info.id!r} within {self._timeout_s:g} s "
                f"({error}): write it again under the same map id"
            ) from error
