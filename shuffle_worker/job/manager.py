"""The jobs of one process: takes a supervisor's orders, routes messages to jobs, shows how they stand.

Knows neither Kubernetes nor where the members came from: they are given with each order.
"""

import logging
import time
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID

from shuffle_worker.cluster.members import Membership
from shuffle_worker.errors import Corrupted, Fenced, UserError
from shuffle_worker.job.mapping import MapPool
from shuffle_worker.job.model import CancelOrder, CommitOrder, JobOrder, JobView, LocalFigures
from shuffle_worker.job.planning import Planner
from shuffle_worker.job.run import CHANNEL, JobRun, Pools
from shuffle_worker.job.sinking import SinkPool
from shuffle_worker.job.sizing import Room
from shuffle_worker.job.view import JobClock, build_view
from shuffle_worker.metrics import Metrics
from shuffle_worker.protocol import events
from shuffle_worker.protocol.coordinator import Coordinator
from shuffle_worker.protocol.messages import FROM_MEMBER, Decided, Join, Place, decode_message
from shuffle_worker.protocol.order import Order
from shuffle_worker.protocol.values import CommitRecord, Limits, Timers
from shuffle_worker.service.service import ShuffleService
from shuffle_worker.settings import Settings
from shuffle_worker.spec.loader import parse_job
from shuffle_worker.wire.types import Event, Heartbeat, Lost

log = logging.getLogger(__name__)

MOST_OVER = 256


class JobManager:
    """Public methods may be called from any thread; the jobs themselves live on the control loop."""

    def __init__(self, service: ShuffleService, settings: Settings, metrics: Metrics) -> None:
        self._service = service
        self._node = service.node
        self._settings = settings
        self._metrics = metrics
        self._timers = machine_timers(settings)
        # One attempt more than there are threads: the next one is there when a thread becomes free.
        self._slots = settings.map_threads + 1
        self._pools = Pools(
            MapPool(self._node, metrics, settings.map_threads),
            SinkPool(self._node, metrics, settings.sink_threads),
            ThreadPoolExecutor(4, "background"),
        )
        self._runs: dict[bytes, JobRun] = {}
        self._clocks: dict[bytes, JobClock] = {}
        self._touched: dict[bytes, int] = {}
        self._version = 0
        self._node.serve_channel(CHANNEL, self._on_message)
        self._node.serve_events(self._on_event)

    # ---- orders of the supervisor

    def submit(self, order: JobOrder) -> JobView:
        """Coordinate this job at this epoch. The same order again changes nothing. :raises Fenced: an older epoch."""
        job = parse_job(order.manifest)
        room = Room(self._node.limit_bytes, len(order.members), self._settings.map_threads, self._slots)
        return self._service.ask(lambda: self._submit(order, Planner(job, room, self._node)))

    def commit(self, uid: UUID, order: CommitOrder) -> JobView:
        record = CommitRecord(order.epoch, order.digest)
        return self._service.ask(lambda: self._tell(uid, events.Commit(record)))

    def cancel(self, uid: UUID, order: CancelOrder) -> JobView:
        return self._service.ask(lambda: self._tell(uid, events.Cancel(order.epoch, order.reason)))

    def conclude(self, uid: UUID, epoch: int) -> JobView:
        """The supervisor has recorded the job's end: what is left of it may be removed."""
        return self._service.ask(lambda: self._tell(uid, events.Concluded(epoch)))

    def view(self, uid: UUID) -> JobView | None:
        return self._service.ask(lambda: self._view(uid.bytes))

    def changed(self, since: int) -> tuple[int, list[JobView]]:
        """The jobs coordinated here that changed after version `since`, and the version of now."""
        return self._service.ask(lambda: self._changed(since))

    def local_figures(self, uid: UUID) -> LocalFigures:
        """What this worker did for a job. :raises UserError: it has no part in it."""
        return self._service.ask(lambda: self._member_of(uid).local_figures())

    def shutdown(self, timeout_s: float) -> None:
        """Leave all jobs: map attempts end, what was unsealed here is redone elsewhere."""
        deadline = time.monotonic() + timeout_s
        self._service.ask(self._leave_all)
        self._pools.maps.close(max(0.0, deadline - time.monotonic()))
        self._pools.sinks.close(max(0.0, deadline - time.monotonic()))
        self._pools.background.shutdown(wait=True)  # what it does is bounded, and removing files is a part of it

    # ---- on the loop

    def _submit(self, order: JobOrder, planner: Planner) -> JobView:
        uid = UUID(order.uid).bytes
        run = self._run(uid)
        before = run.coordinator
        if before is not None and before.order.epoch >= order.epoch:
            if before.order.epoch == order.epoch:
                return self._require(uid)
            raise Fenced(f"job {order.uid} is at epoch {before.order.epoch} here, and {order.epoch} is an older one")
        run.know(order.members)
        spec = planner.job.spec
        commit = None if order.commit is None else CommitRecord(order.commit.epoch, order.commit.digest)
        coordinator = Coordinator(
            Order(
                uid=uid,
                epoch=order.epoch,
                host=self._node.incarnation,
                membership=Membership(order.membership_version, order.members),
                commit=commit,
                limits=Limits(
                    backoff_limit=spec.backoff_limit,
                    slots=self._slots,
                    deadline_s=spec.active_deadline_seconds,
                ),
                timers=self._timers,
            )
        )
        self._clocks.setdefault(uid, JobClock.start())
        run.coordinate(coordinator, planner)
        return self._require(uid)

    def _run(self, uid: bytes) -> JobRun:
        run = self._runs.get(uid)
        if run is None:
            self._forget_old()
            run = self._runs[uid] = JobRun(uid, self._node, self._pools, self._timers, self._changed_job)
        return run

    def _forget_old(self) -> None:
        """Jobs that are over stay to be asked about, but not for ever."""
        over = [uid for uid, run in self._runs.items() if run.over]
        for uid in over[: max(0, len(over) - MOST_OVER)]:
            self._runs.pop(uid).close()
            self._clocks.pop(uid, None)
            self._touched.pop(uid, None)

    def _member_of(self, uid: UUID) -> JobRun:
        run = self._runs.get(uid.bytes)
        if run is None:
            raise UserError(f"job {uid} is not known here")
        return run

    def _tell(self, uid: UUID, event: events.Event) -> JobView:
        run = self._runs.get(uid.bytes)
        if run is None or run.coordinator is None:
            raise UserError(f"job {uid} is not coordinated here")
        run.to_coordinator(event)
        return self._require(uid.bytes)

    def _changed_job(self, uid: bytes) -> None:
        self._version += 1
        coordinator = self._runs[uid].coordinator
        if coordinator is not None and coordinator.phase.final and self._clocks[uid].seconds is None:
            self._clocks[uid].stop()
            self._metrics.jobs.labels(coordinator.phase.value).inc()
        self._touched[uid] = self._version

    def _view(self, uid: bytes) -> JobView | None:
        run = self._runs.get(uid)
        if run is None or run.coordinator is None:
            return None
        return build_view(
            UUID(bytes=uid), run.coordinator.status(), self._clocks[uid], self._touched.get(uid, 0), run.measured()
        )

    def _require(self, uid: bytes) -> JobView:
        view = self._view(uid)
        assert view is not None
        return view

    def _changed(self, since: int) -> tuple[int, list[JobView]]:
        changed = [uid for uid, version in self._touched.items() if version > since]
        return self._version, [view for uid in changed if (view := self._view(uid)) is not None]

    def _on_message(self, sender: str, incarnation: int, payload: bytes) -> None:
        try:
            message = decode_message(payload)
        except Corrupted as error:
            log.warning("from %s: %s", sender, error)
            return
        if message.sender != incarnation or message.target != self._node.incarnation:
            log.warning("a message of %016x from %s is not for this incarnation", message.sender, sender)
            return
        received = events.Received(message)
        if isinstance(message, FROM_MEMBER):
            run = self._runs.get(message.uid)
            if run is not None:
                run.to_coordinator(received)
            return
        run = self._run(message.uid)
        if isinstance(message, Join | Place):
            run.know(message.membership.members)
        if isinstance(message, Decided):
            run.decided(message)
        run.to_participant(received)

    def _on_event(self, event: Event) -> None:
        if isinstance(event, Lost) and not event.inbound:
            down = events.PeerDown(event.incarnation, event.reason in ("refused", "rejected_hello", "gave_up"))
            for run in list(self._runs.values()):
                if event.role == "data":
                    run.lost_connection(event.incarnation, event.what)
                run.to_participant(down)
                run.to_coordinator(down)
        elif isinstance(event, Heartbeat):
            heard = events.Heard(((event.incarnation, event.progress),))
            for run in list(self._runs.values()):
                run.to_coordinator(heard)

    def _leave_all(self) -> None:
        for run in list(self._runs.values()):
            run.to_participant(events.LeaveAsked("the worker is shutting down"))


def machine_timers(settings: Settings) -> Timers:
    """The machines' timers, at the same scale as the transport's."""
    return Timers().scaled(settings.timers.dead_s / Timers().dead_s)
