"""What a worker's HTTP API offers. Each operation hands over to the JobManager, the ClusterCoordinator or the service.

Blocking is allowed here: operations run on a thread of their own, and every call they make has a deadline.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID

import msgspec
from starlette.requests import Request

from shuffle_worker.api.app import NotFound, Plain
from shuffle_worker.api.openapi import Operation
from shuffle_worker.cluster.members import ClusterCoordinator, Member, Membership
from shuffle_worker.errors import PeerError, UserError
from shuffle_worker.job.manager import JobManager
from shuffle_worker.job.model import CancelOrder, CommitOrder, ConcludeOrder, JobOrder, JobView, LocalFigures
from shuffle_worker.metrics import CONTENT_TYPE, Metrics
from shuffle_worker.service.service import ShuffleService
from shuffle_worker.service.stats import ShuffleStats


class Health(msgspec.Struct, frozen=True, rename="camel"):
    """Who answers, and whether it can take partitions."""

    name: str
    incarnation: str
    ready: bool
    reason: str = ""


class MemberRef(msgspec.Struct, frozen=True):
    incarnation: int


class JobList(msgspec.Struct, frozen=True):
    """Jobs that changed after `since`; ask with `?since=<version>` next time."""

    version: int
    jobs: list[JobView]


class ShuffleList(msgspec.Struct, frozen=True):
    shuffles: list[ShuffleStats]


@dataclass(frozen=True)
class Served:
    """The parts of a worker that its API shows."""

    service: ShuffleService
    cluster: ClusterCoordinator
    jobs: JobManager
    metrics: Metrics
    stopping: Callable[[], bool]


def operations(worker: Served) -> list[Operation]:
    """The table of operations; `openapi.json` is made from it."""

    def health(_request: Request, _body: None) -> Health:
        reason = "shutting down" if worker.stopping() else worker.service.fault()
        return Health(worker.service.name, f"{worker.service.incarnation:016x}", not reason, reason)

    def ready(request: Request, body: None) -> Health:
        answer = health(request, body)
        if not answer.ready:
            raise PeerError(f"{answer.name} takes no partitions: {answer.reason}")
        return answer

    def members(_request: Request, _body: None) -> Membership:
        return worker.service.ask(worker.cluster.membership)

    def join(_request: Request, body: Member) -> Membership:
        return worker.service.ask(lambda: worker.cluster.join(body, time.monotonic()))

    def leave(request: Request, body: MemberRef) -> Membership:
        name = request.path_params["name"]
        return worker.service.ask(lambda: worker.cluster.leave(name, body.incarnation))

    def heartbeat(request: Request, body: MemberRef) -> Membership:
        name = request.path_params["name"]
        return worker.service.ask(lambda: worker.cluster.heartbeat(name, body.incarnation, time.monotonic()))

    def submit(request: Request, body: JobOrder) -> JobView:
        if body.uid != request.path_params["uid"]:
            raise UserError(f"the body names job {body.uid}, the path {request.path_params['uid']}")
        return worker.jobs.submit(body)

    def jobs(request: Request, _body: None) -> JobList:
        since = request.query_params.get("since", "0")
        if not since.isdecimal():
            raise UserError(f"since: expected a version such as 0, got {since!r}")
        return JobList(*worker.jobs.changed(int(since)))

    def job(request: Request, _body: None) -> JobView:
        view = worker.jobs.view(_uid(request))
        if view is None:
            raise NotFound(f"no job {request.path_params['uid']} is coordinated here")
        return view

    def commit(request: Request, body: CommitOrder) -> JobView:
        return worker.jobs.commit(_uid(request), body)

    def cancel(request: Request, body: CancelOrder) -> JobView:
        return worker.jobs.cancel(_uid(request), body)

    def conclude(request: Request, body: ConcludeOrder) -> JobView:
        return worker.jobs.conclude(_uid(request), body.epoch)

    def figures(request: Request, _body: None) -> LocalFigures:
        return worker.jobs.local_figures(_uid(request))

    def shuffles(_request: Request, _body: None) -> ShuffleList:
        return ShuffleList(worker.service.list_shuffles())

    def metrics(_request: Request, _body: None) -> Plain:
        return Plain(worker.metrics.render(), CONTENT_TYPE)

    return [
        Operation("GET", "/healthz", "Whether the process lives", health, answer=Health, open=True),
        Operation("GET", "/readyz", "Whether it can take partitions", ready, answer=Health, open=True),
        Operation("GET", "/metrics", "Figures for Prometheus", metrics),
        Operation("GET", "/v1/members", "The member list", members, answer=Membership),
        Operation("POST", "/v1/members", "Join the list", join, Member, Membership),
        Operation("DELETE", "/v1/members/{name}", "Leave the list", leave, MemberRef, Membership),
        Operation("POST", "/v1/members/{name}/heartbeat", "Say that it lives", heartbeat, MemberRef, Membership),
        Operation("GET", "/v1/jobs", "Jobs that changed since a version", jobs, answer=JobList),
        Operation("PUT", "/v1/jobs/{uid}", "Coordinate a job at an epoch", submit, JobOrder, JobView),
        Operation("GET", "/v1/jobs/{uid}", "One job", job, answer=JobView),
        Operation("POST", "/v1/jobs/{uid}/commit", "Publish exactly this manifest", commit, CommitOrder, JobView),
        Operation("POST", "/v1/jobs/{uid}/cancel", "End a job without output", cancel, CancelOrder, JobView),
        Operation("POST", "/v1/jobs/{uid}/conclude", "Remove what is left of it", conclude, ConcludeOrder, JobView),
        Operation("GET", "/v1/jobs/{uid}/figures", "What this worker did for it", figures, answer=LocalFigures),
        Operation("GET", "/v1/shuffles", "Shuffles held here", shuffles, answer=ShuffleList),
    ]


def _uid(request: Request) -> UUID:
    try:
        return UUID(request.path_params["uid"])
    except ValueError:
        raise UserError(f"{request.path_params['uid']!r} is not a job's UID") from None
