"""The API's own description, from the table of operations: OpenAPI 3.1. Pure."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from starlette.requests import Request


@dataclass(frozen=True)
class Operation:
    """One method on one path: what it takes, what it answers, who serves it."""

    method: str
    path: str
    summary: str
    serve: Callable[[Request, Any], Any]
    body: type | None = None
    answer: type | None = None
    open: bool = False  # served without a token: probes only


def describe(operations: Sequence[Operation], title: str, version: str) -> dict[str, Any]:
    """The OpenAPI document of these operations."""
    types = [type_ for operation in operations for type_ in (operation.body, operation.answer) if type_ is not None]
    schemas, components = msgspec.json.schema_components(types, ref_template="#/components/schemas/{name}")
    schema_of = dict(zip(map(id, types), schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        entry: dict[str, Any] = {
            "summary": operation.summary,
            "operationId": f"{operation.method.lower()}{re.sub(r'[^a-zA-Z0-9]+', '_', operation.path)}",
            "parameters": [
                {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
                for name in re.findall(r"{(\w+)}", operation.path)
            ],
            "responses": {
                "200": {
                    "description": "done",
                    **({"content": _json(schema_of[id(operation.answer)])} if operation.answer else {}),
                },
                "default": {"description": "refused: `error` says why", "content": _json(_ERROR)},
            },
        }
        if operation.body is not None:
            entry["requestBody"] = {"required": True, "content": _json(schema_of[id(operation.body)])}
        if operation.open:
            entry["security"] = []
        paths.setdefault(operation.path, {})[operation.method.lower()] = entry
    return {
        "openapi": "3.1.0",
        "info": {"title": title, "version": version},
        "security": [{"token": []}],
        "paths": paths,
        "components": {"schemas": components, "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}},
    }


_ERROR = {"type": "object", "required": ["error"], "properties": {"error": {"type": "string"}}}


def _json(schema: dict[str, Any]) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}
