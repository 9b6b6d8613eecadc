"""The worker's HTTP API, as a supervisor, a probe and Prometheus see it."""

from typing import Any
from uuid import uuid4

import pytest

MEMBER = {"name": "worker-9", "incarnation": 9, "host": "127.0.0.1", "port": 9}


def test_probes_need_no_token_and_name_the_worker(worker: Any) -> None:
    for path in ("/healthz", "/readyz"):
        status, answer = worker.ask("GET", path, token="wrong")
        assert status == 200
        assert answer["name"] == "worker-0"
        assert answer["ready"] is True


@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/members", "/v1/shuffles", "/metrics", "/openapi.json"])
def test_everything_else_wants_the_token(worker: Any, path: str) -> None:
    assert worker.ask("GET", path, token="wrong") == (
        401,
        {"error": "wrong token: send the cluster's token as `Authorization: Bearer ...`"},
    )
    assert worker.ask("GET", path, token="older-token")[0] == 200
    assert worker.ask("GET", path)[0] == 200


def test_the_description_names_every_operation(worker: Any) -> None:
    _, document = worker.ask("GET", "/openapi.json")
    assert document["openapi"].startswith("3.1")
    assert {"/healthz", "/readyz", "/metrics", "/v1/jobs/{uid}", "/v1/jobs/{uid}/cancel", "/v1/members"} <= set(
        document["paths"]
    )
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            assert operation["summary"], (method, path)
    body = document["paths"]["/v1/jobs/{uid}"]["put"]["requestBody"]["content"]["application/json"]["schema"]
    assert body["$ref"].rsplit("/", 1)[-1] in document["components"]["schemas"]


def test_members_join_beat_and_leave(worker: Any) -> None:
    _, before = worker.ask("GET", "/v1/members")
    status, joined = worker.ask("POST", "/v1/members", MEMBER)
    assert status == 200
    assert joined["version"] == before["version"] + 1
    assert MEMBER in joined["members"]
    assert worker.ask("POST", "/v1/members/worker-9/heartbeat", {"incarnation": 9})[0] == 200
    status, answer = worker.ask("POST", "/v1/members/worker-9/heartbeat", {"incarnation": 8})
    assert status == 409
    assert "older one" in answer["error"]
    assert worker.ask("DELETE", "/v1/members/worker-9", {"incarnation": 9})[0] == 200
    status, answer = worker.ask("DELETE", "/v1/members/worker-9", {"incarnation": 9})
    assert status == 422
    assert "the known members are" in answer["error"]


def test_what_is_not_there_is_said(worker: Any) -> None:
    uid = str(uuid4())
    assert worker.ask("GET", f"/v1/jobs/{uid}") == (404, {"error": f"no job {uid} is coordinated here"})
    assert worker.ask("GET", "/v1/jobs/nonsense")[1] == {"error": "'nonsense' is not a job's UID"}
    assert worker.ask("GET", "/v1/jobs?since=x")[1] == {"error": "since: expected a version such as 0, got 'x'"}
    assert worker.ask("POST", f"/v1/jobs/{uid}/cancel", {"epoch": 1})[0] == 422


def test_bodies_are_checked(worker: Any) -> None:
    status, answer = worker.ask("POST", "/v1/members", {"name": "x"})
    assert status == 422
    assert "incarnation" in answer["error"]
    status, answer = worker.ask("POST", "/v1/members", {**MEMBER, "name": "x" * (5 << 20)})
    assert status == 422
    assert "larger than" in answer["error"]


def test_a_wrong_manifest_is_refused_with_its_faults(worker: Any) -> None:
    uid = str(uuid4())
    order = {"uid": uid, "epoch": 1, "manifest": {"kind": "ShuffelJob"}, "members": []}
    status, answer = worker.ask("PUT", f"/v1/jobs/{uid}", order)
    assert status == 422
    assert "kind" in answer["error"]


def test_metrics_are_prometheus_text(worker: Any) -> None:
    status, text = worker.ask("GET", "/metrics")
    assert status == 200
    names = {line.split("{")[0].split(" ")[0] for line in text.splitlines() if line and not line.startswith("#")}
    assert {"shuffle_memory_used_bytes", "shuffle_spill_free_bytes", "shuffle_credit_stalls_total"} <= names
    assert {"shuffle_refused_frames_total", "shuffle_map_tasks_total", "shuffle_send_seconds_bucket"} - names <= {
        "shuffle_map_tasks_total"
    }
