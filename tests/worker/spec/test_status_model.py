"""The status as machines and people read it; both schemas that the custom resource takes."""

import json

import msgspec
import pytest

from shuffle_worker.spec.schema import json_schema, spec_schema, status_schema
from shuffle_worker.spec.status import (
    REFUSED,
    Condition,
    ConditionStatus,
    JobStatus,
    Phase,
    Stats,
    condition_of,
    digest64,
    digest128,
    percent,
    with_condition,
)


def condition(type_: str, status: str, at: str, reason: str = "Because") -> Condition:
    return Condition(type_, ConditionStatus(status), reason, last_transition_time=at)


def test_names_are_those_of_the_custom_resource():
    written = json.loads(msgspec.json.encode(JobStatus(stats=Stats(rows_in=1, bytes_spilled=2, tasks_rerun=3))))
    assert {"phase", "startTime", "completionTime", "mapTasks", "partitions", "stats", "conditions"} <= set(written)
    assert (written["stats"]["rowsIn"], written["stats"]["bytesSpilled"], written["stats"]["tasksRerun"]) == (1, 2, 3)


def test_a_newer_writers_fields_are_ignored():
    assert msgspec.json.decode(b'{"phase": "Running", "new": {}}', type=JobStatus).phase is Phase.RUNNING


def test_a_transition_that_did_not_happen_keeps_its_time():
    status = with_condition(JobStatus(), condition("Progressing", "True", "t1"))
    status = with_condition(status, condition("Progressing", "True", "t2", "Other"))
    kept = condition_of(status, "Progressing")
    assert (kept.last_transition_time, kept.reason) == ("t1", "Other")
    status = with_condition(status, condition("Progressing", "False", "t3"))
    assert condition_of(status, "Progressing").last_transition_time == "t3"
    assert len(with_condition(status, condition("Complete", "True", "t4")).conditions) == 2


def test_refused_is_what_the_user_can_mend():
    assert with_condition(JobStatus(), condition("Failed", "True", "t", REFUSED)).refused
    assert not with_condition(JobStatus(), condition("Failed", "True", "t", "Lost")).refused
    assert not JobStatus().refused


@pytest.mark.parametrize(("done", "total", "text"), [(0, 0, "0%"), (1, 3, "33%"), (999, 1000, "99%"), (3, 3, "100%")])
def test_percent_says_100_only_at_the_end(done, total, text):
    assert percent(done, total) == text


def test_digests_are_text_of_fixed_length():
    assert digest64((1 << 64) + 10) == "000000000000000a"
    assert digest128(1) == "0" * 31 + "1"


def nodes(schema):
    yield schema
    for part in schema.get("properties", {}).values():
        yield from nodes(part)
    for part in (schema.get("items"), schema.get("additionalProperties")):
        if isinstance(part, dict):
            yield from nodes(part)


@pytest.mark.parametrize("schema", [spec_schema(), status_schema()], ids=["spec", "status"])
def test_the_schemas_are_structural(schema):
    for node in nodes(schema):
        assert "$ref" not in node
        assert "anyOf" not in node
        assert "type" in node or node["x-kubernetes-preserve-unknown-fields"] is True
        assert node.get("required") != []


def test_bounds_and_descriptions_reach_the_schema():
    partitions = spec_schema()["properties"]["shuffle"]["properties"]["partitions"]
    assert (partitions["minimum"], partitions["maximum"]) == (1, 65_536)
    assert partitions["description"]
    assert status_schema()["properties"]["conditions"]["x-kubernetes-list-map-keys"] == ["type"]


def test_json_schema_refuses_unknown_fields():
    assert json_schema()["$defs"]["JobSpec"]["additionalProperties"] is False
