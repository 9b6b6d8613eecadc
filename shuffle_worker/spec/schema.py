"""The model as JSON Schema, and as the structural schema that a CustomResourceDefinition takes. Pure."""

from typing import Any

import msgspec

from shuffle_worker.errors import InternalError
from shuffle_worker.spec.model import JobSpec, ShuffleJob
from shuffle_worker.spec.status import JobStatus

_LIST_BY_TYPE = {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]}


def json_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of a manifest, with `$defs`, for editors."""
    return msgspec.json.schema(ShuffleJob)


def spec_schema() -> dict[str, Any]:
    """`.spec` as a structural schema: no references, no nulls, every node with a type."""
    return _inlined(JobSpec)


def status_schema() -> dict[str, Any]:
    """`.status` as a structural schema."""
    schema = _inlined(JobStatus)
    schema["properties"]["conditions"].update(_LIST_BY_TYPE)
    return schema


def _inlined(type_: type) -> dict[str, Any]:
    (root,), components = msgspec.json.schema_components([type_], ref_template="{name}")
    return _structural(root, components)


def _structural(node: dict[str, Any], components: dict[str, Any]) -> dict[str, Any]:
    """One node, with what it refers to put in its place."""
    if "$ref" in node:
        # What is said where a type is used counts more than what its class says.
        node = {**components[node["$ref"]], **{key: value for key, value in node.items() if key != "$ref"}}
    if "anyOf" in node:
        return _union(node, components)
    result = {key: node[key] for key in _KEPT if node.get(key) not in (None, [])}
    if "enum" in node:
        result["type"] = "string"
    if "properties" in node:
        result["properties"] = {name: _structural(part, components) for name, part in node["properties"].items()}
    if "items" in node:
        result["items"] = _structural(node["items"], components)
    if isinstance(node.get("additionalProperties"), dict):
        result["additionalProperties"] = _structural(node["additionalProperties"], components)
        if not node["additionalProperties"]:
            del result["additionalProperties"]
            result["x-kubernetes-preserve-unknown-fields"] = True
    if "type" not in result and "x-kubernetes-preserve-unknown-fields" not in result:
        raise InternalError(f"a node of the model's schema has no type: {node}")
    if node.get("type") == "integer":
        result["format"] = "int64"
    default = node.get("default")
    if isinstance(default, str | int | float):
        result["default"] = default
    return result


_KEPT = (
    *("type", "description", "enum", "required", "pattern"),
    *("minimum", "maximum", "minLength", "maxLength", "minItems", "maxItems", "maxProperties"),
)


def _union(node: dict[str, Any], components: dict[str, Any]) -> dict[str, Any]:
    """`X or null` is X, which may be left out. Any other union has no structural form: the API server keeps it as it
    is and the worker checks it."""
    choices = [choice for choice in node["anyOf"] if choice != {"type": "null"}]
    described = {"description": node["description"]} if "description" in node else {}
    if len(choices) == 1:
        return _structural({**choices[0], **described}, components)
    return {**described, "x-kubernetes-preserve-unknown-fields": True}
