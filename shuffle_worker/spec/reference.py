"""Writes the manifest's reference from the model: `python -m shuffle_worker.spec.reference > docs/manifest.md`."""

import sys
from collections.abc import Iterator
from typing import Any

import msgspec

from shuffle_worker.spec.keytypes import known_key_types
from shuffle_worker.spec.model import ShuffleJob
from shuffle_worker.spec.status import JobStatus

_HEAD = """\
# The ShuffleJob manifest

<!-- Written by `python -m shuffle_worker.spec.reference > docs/manifest.md`. Change the model, not this file. -->

`shufflectl run -f JOB.yaml` and `kubectl apply -f JOB.yaml` take the same object. `shufflectl validate -f JOB.yaml`
says everything that is wrong with one. YAML is read as kubectl reads it: `y`, `n`, `yes`, `no`, `on` and `off` without
quotes are booleans, so a column with such a name is quoted.

```yaml
apiVersion: shuffle-operator.dev/v1alpha1
kind: ShuffleJob
metadata:
  name: lineitem-by-order
spec:
  source:
    parquet:
      paths: ["data/lineitem/*.parquet"]
  shuffle:
    type: Hash
    keys: [l_orderkey]
    partitions: 64
  sink:
    parquet:
      path: out/lineitem
```
"""
_STATUS_HEAD = """\
# Status

What `shufflectl run --output json` prints and `.status` of the custom resource holds. 64-bit digests are text of 16
hexadecimal digits, 128-bit ones of 32.
"""


def reference() -> str:
    """The whole document."""
    parts = [_HEAD, *_tables(ShuffleJob), _key_types(), _STATUS_HEAD, *_tables(JobStatus, root="status")]
    return "\n".join(part.rstrip("\n") + "\n" for part in parts)


def _tables(type_: type, root: str = "") -> Iterator[str]:
    """One table for each object, in the order of a manifest; an object that two fields hold is told once."""
    (start,), objects = msgspec.json.schema_components([type_], ref_template="{name}")
    waiting, told = [(root, start["$ref"])], set()
    while waiting:
        path, name = waiting.pop(0)
        if name in told:
            continue
        told.add(name)
        node = objects[name]
        yield f"## {path or name}\n\n{node.get('description', '')}\n"
        yield _table(node, objects)
        waiting[:0] = [
            (".".join(filter(None, (path, field))) + ("[]" if is_list else ""), found)
            for field, schema in node["properties"].items()
            for found, is_list in _objects_in(schema, objects)
        ]


def _table(node: dict[str, Any], objects: dict[str, Any]) -> str:
    rows = ["| field | takes | default | |", "|---|---|---|---|"]
    for field, schema in node["properties"].items():
        default = "required" if field in node.get("required", ()) else _default(schema)
        rows.append(f"| `{field}` | {_takes(schema, objects)} | {default} | {_cell(schema.get('description', ''))} |")
    return "\n".join(rows) + "\n"


def _takes(schema: dict[str, Any], objects: dict[str, Any]) -> str:
    """The kind of value, with its bounds."""
    if "$ref" in schema:
        target = objects[schema["$ref"]]
        return _takes(target, objects) if "enum" in target else "object"
    if "anyOf" in schema:
        kinds = [_takes(choice, objects) for choice in schema["anyOf"] if choice != {"type": "null"}]
        return " or ".join(dict.fromkeys(kinds))
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    kind = schema.get("type", "any value")
    if kind == "array":
        return f"list of {_takes(schema['items'], objects)}{_bounds(schema, 'minItems', 'maxItems')}"
    names = {"string": "text", "integer": "whole number", "boolean": "true or false"}
    return f"{names.get(kind, kind)}{_bounds(schema, 'minimum', 'maximum')}"


def _bounds(schema: dict[str, Any], least: str, most: str) -> str:
    if least in schema and most in schema:
        return f" ({schema[least]}..{schema[most]})"
    if most in schema:
        return f" (up to {schema[most]})"
    return f" (from {schema[least]})" if least in schema else ""


def _default(schema: dict[str, Any]) -> str:
    value = schema.get("default")
    return f"`{msgspec.json.encode(value).decode()}`" if isinstance(value, str | int | float) and value != "" else ""


def _objects_in(schema: dict[str, Any], objects: dict[str, Any]) -> Iterator[tuple[str, bool]]:
    """The objects that a field holds, and whether in a list."""
    if "$ref" in schema and "properties" in objects[schema["$ref"]]:
        yield schema["$ref"], False
    for choice in schema.get("anyOf", ()):
        yield from _objects_in(choice, objects)
    if isinstance(schema.get("items"), dict):
        yield from ((name, True) for name, _ in _objects_in(schema["items"], objects))


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _key_types() -> str:
    names = ", ".join(f"`{name}`" for name in known_key_types())
    return f"## Key types\n\n`keys[].as` takes {names}; a decimal of other digits, a timestamp with a zone.\n"


if __name__ == "__main__":
    sys.stdout.write(reference())
