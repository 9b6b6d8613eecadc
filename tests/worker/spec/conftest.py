"""A right manifest, to be made wrong."""

import copy
from collections.abc import Callable
from typing import Any

import pytest

RIGHT: dict[str, Any] = {
    "apiVersion": "shuffle-operator.dev/v1alpha1",
    "kind": "ShuffleJob",
    "metadata": {"name": "by-order"},
    "spec": {
        "source": {"parquet": {"paths": ["data/lineitem/*.parquet"]}},
        "shuffle": {"type": "Hash", "keys": ["l_orderkey"], "partitions": 64},
        "sink": {"parquet": {"path": "out/lineitem"}},
    },
}


@pytest.fixture
def manifest() -> dict[str, Any]:
    return copy.deepcopy(RIGHT)


@pytest.fixture
def change() -> Callable[[dict[str, Any], dict[str, Any]], dict[str, Any]]:
    """Sets values at dotted paths (`spec.shuffle.keys.0`); `None` removes what is there."""

    def apply(document: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
        for path, value in changes.items():
            *parents, last = (int(part) if part.isdigit() else part for part in path.split("."))
            node: Any = document
            for parent in parents:
                node = node[parent] if isinstance(node, list) else node.setdefault(parent, {})
            if value is None:
                del node[last]
            else:
                node[last] = value
        return document

    return apply
