"""Map attempts on threads: read a split, partition it, hand its frames to their owners, count what FIN will promise.

No decisions: what to run comes from the machines, and how it ended goes back to them as an event.
"""

import logging
import queue
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from shuffle_worker._native.frame import Frame, Stream
from shuffle_worker.errors import Cancelled, InternalError, PeerLost, ShuffleError
from shuffle_worker.job.context import JobContext, Scatter
from shuffle_worker.metrics import Metrics
from shuffle_worker.protocol.effects import StartMap
from shuffle_worker.protocol.events import Event, MapBroke, MapProgressed, MapPushed
from shuffle_worker.protocol.values import Attempt, Fault, Sent, Split, StreamCounts, fault_of
from shuffle_worker.service.node import Node

log = logging.getLogger(__name__)

PROGRESS_S = 0.25
# Mappers wait for the sink from this share of the budget on; spilling begins above it.
CATCH_UP_SHARE = 0.6
CATCH_UP_S = 0.01
Report = Callable[[Event], None]


@dataclass
class MapTask:
    """One attempt, from StartMap to MapPushed or MapBroke. `report` takes events from any thread."""

    context: JobContext
    order: StartMap
    report: Report
    cancelled: threading.Event = field(default_factory=threading.Event)

    @property
    def key(self) -> tuple[bytes, int, Attempt]:
        return (self.context.uid, self.order.map, self.order.attempt)


class MapPool:
    """`threads` map threads of one process, serving all of its jobs in the order in which tasks came."""

    def __init__(self, node: Node, metrics: Metrics, threads: int) -> None:
        self._node = node
        self._metrics = metrics
        self._tasks: queue.SimpleQueue[MapTask | None] = queue.SimpleQueue()
        self._under_way: dict[tuple[bytes, int, Attempt], MapTask] = {}
        self._lock = threading.Lock()
        self._threads = [
            threading.Thread(target=self._serve, name=f"map-{number}", daemon=True) for number in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    def start(self, task: MapTask) -> None:
        with self._lock:
            self._under_way[task.key] = task
        self._tasks.put(task)

    def cancel(self, uid: bytes, map_: int, attempt: Attempt) -> None:
        """End an attempt, waiting or running; its event is not sent any more."""
        with self._lock:
            task = self._under_way.get((uid, map_, attempt))
        if task is not None:
            task.cancelled.set()
            self._node.transport.abort_stream(uid, map_, attempt.epoch, attempt.number)

    def cancel_job(self, uid: bytes) -> None:
        with self._lock:
            tasks = [task for task in self._under_way.values() if task.context.uid == uid]
        for task in tasks:
            self.cancel(uid, task.order.map, task.order.attempt)

    def close(self, timeout_s: float) -> None:
        """Cancel everything and end the threads."""
        with self._lock:
            tasks = list(self._under_way.values())
        for task in tasks:
            self.cancel(*task.key)
        for _ in self._threads:
            self._tasks.put(None)
        deadline = time.monotonic() + timeout_s
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def _serve(self) -> None:
        while (task := self._tasks.get()) is not None:
            if not task.cancelled.is_set():
                event = self._run(task)
                if not task.cancelled.is_set():
                    task.report(event)
            with self._lock:
                self._under_way.pop(task.key, None)

    def _run(self, task: MapTask) -> Event:
        order = task.order
        attempt = MapAttempt(self._node, self._metrics, task)
        try:
            pushed = attempt.run()
        except Cancelled as error:
            self._metrics.map_tasks.labels("cancelled").inc()
            return MapBroke(order.map, order.attempt, fault_of(error))
        except ShuffleError as error:
            self._metrics.map_tasks.labels("failed").inc()
            return MapBroke(order.map, order.attempt, fault_of(error, attempt.blames))
        except Exception as error:
            log.exception("map %d attempt %s failed", order.map, order.attempt)
            self._metrics.map_tasks.labels("failed").inc()
            sentence = f"map {order.map} failed for a reason that is not the input's: {type(error).__name__}: {error}"
            return MapBroke(order.map, order.attempt, Fault(InternalError.__name__, sentence))
        self._metrics.map_tasks.labels("pushed").inc()
        return pushed


class MapAttempt:
    """One run of one split."""

    def __init__(self, node: Node, metrics: Metrics, task: MapTask) -> None:
        self._node = node
        self._metrics = metrics
        self._task = task
        self._context = task.context
        self._placement = task.order.placement
        self._timeout_s = node.settings.timers.send_s
        self._told_at = 0.0
        attempt = task.order.attempt
        self._streams = {
            owner: Stream(task.context.uid, node.incarnation, task.order.map, attempt.epoch, attempt.number)
            for owner in self._placement.owners_of(task.order.generations)
        }
        self.blames = 0

    def run(self) -> MapPushed:
        """Push everything. :raises ShuffleError: why it could not; `blames` is then the owner, if it is one's fault."""
        order = self._task.order
        scatter = self._context.scatter(order.map, self._covered())
        for batch in scatter.batches(self._metrics.read_seconds):
            if self._task.cancelled.is_set():
                raise Cancelled(f"map {order.map} attempt {order.attempt} was cancelled")
            self._let_sink_catch_up()
            self._send_all(scatter.push(batch))
            self._progress(scatter)
        self._send_all(scatter.flush())
        own = self._node.incarnation
        self._context.count_wire(sum(stream.payload_bytes for owner, stream in self._streams.items() if owner != own))
        sent = tuple(Sent(owner, _counts(stream)) for owner, stream in self._streams.items())
        return MapPushed(order.map, order.attempt, sent, _split(scatter))

    def _covered(self) -> frozenset[int] | None:
        """The groups to send; None when it is all."""
        generations = self._placement.generations
        groups = frozenset(g for g, generation in enumerate(generations) if generation in self._task.order.generations)
        return None if len(groups) == len(generations) else groups

    def _let_sink_catch_up(self) -> None:
        """Wait while memory fills up and row groups are ready to be written: what is spilled meanwhile would only have
        to be read back. Returns in any case in the end: the store's own limits hold without this."""
        node, context = self._node, self._context
        deadline = time.monotonic() + self._timeout_s
        while (
            not context.at_seal
            and node.budget.used_bytes > CATCH_UP_SHARE * node.budget.limit_bytes
            and any(group.rows >= context.ready_rows for group in node.store.ready(context.uid))
            and not self._task.cancelled.wait(CATCH_UP_S)
            and time.monotonic() < deadline
        ):
            pass

    def _send_all(self, frames: Iterator[Frame]) -> None:
        """The kernel works as frames are taken from it."""
        while True:
            with self._metrics.partition_seconds.time():
                frame = next(frames, None)
            if frame is None:
                return
            for addressed in self._context.addressed(frame):
                self._send(addressed)

    def _send(self, frame: Frame) -> None:
        group = frame.group
        owner = self._placement.owners[group]
        self._streams[owner].stamp(frame, self._placement.generations[group])
        try:
            with self._metrics.send_seconds.time():
                self._node.push(self._context.name_of(owner), frame, self._timeout_s)
        except PeerLost:
            self.blames = owner
            raise

    def _progress(self, scatter: Scatter) -> None:
        now = time.monotonic()
        if now - self._told_at >= PROGRESS_S:
            self._told_at = now
            self._task.report(MapProgressed(self._task.order.map, self._task.order.attempt, scatter.rows))


def _counts(stream: Stream) -> StreamCounts:
    return StreamCounts(stream.frames, stream.rows, stream.payload_bytes, stream.crc_sum, stream.key_digest)


def _split(scatter: Scatter) -> Split:
    return Split(scatter.rows, scatter.key_digest, scatter.row_digest, scatter.memory_bytes)
