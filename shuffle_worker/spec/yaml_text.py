"""YAML as kubectl reads it, into plain JSON values. No I/O.

kubectl reads manifests with Go's YAML 1.1 reader and sends JSON. A manifest must mean the same to PyYAML and to
kubectl, or what ran here would fail there. The differences: y and n are booleans there; 1:30 is text and 1e3 a number;
a date is text; every key is text; a key given twice is refused.
"""

import json
import math
import re
from collections.abc import Iterator
from typing import Any

import yaml

MAX_BYTES = 1_500_000  # an object in a cluster's store is not larger
_MAX_DEPTH = 64
_MAX_VALUES = 1_000_000  # counted after aliases: a few lines of them can stand for more than memory holds
_MERGE = "tag:yaml.org,2002:merge"
_BOOLEANS = {
    **dict.fromkeys(("y", "yes", "on", "true"), True),
    **dict.fromkeys(("n", "no", "off", "false"), False),
}


def read_documents(text: str, source: str) -> Iterator[Any]:
    """The documents of a YAML (or JSON) text. :raises yaml.YAMLError: not YAML, with line and column in `source`."""
    loader: Any = _Loader(text)
    loader.name = source
    try:
        while loader.check_data():
            document = loader.get_data()
            if _size(document) > _MAX_VALUES:
                raise yaml.MarkedYAMLError(problem=f"more than {_MAX_VALUES} values, aliases counted each time")
            yield document
    finally:
        loader.dispose()


def _size(document: Any) -> int:
    """Values in a document; stops counting above the limit."""
    count, waiting = 0, [document]
    while waiting and count <= _MAX_VALUES:
        value = waiting.pop()
        count += 1
        if isinstance(value, dict):
            waiting.extend(value.values())
        elif isinstance(value, list):
            waiting.extend(value)
    return count


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers = {}  # noqa: RUF012  none of PyYAML's own; the base class fixes the type

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.MarkedYAMLError(problem=f"nested deeper than {_MAX_DEPTH} levels", problem_mark=mark)
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def read_mapping(self, node: Any) -> dict[str, Any]:
        own = set()
        for key_node, _ in node.value:
            if key_node.tag == _MERGE:
                continue
            key = self._key(key_node)
            if key in own:
                raise _marked(f"the key {key!r} is given twice", key_node)
            own.add(key)
        self.flatten_mapping(node)  # what is merged in comes first, so that own keys replace it
        return {self._key(key): self.construct_object(value, deep=True) for key, value in node.value}

    def _key(self, node: Any) -> str:
        if not isinstance(node, yaml.ScalarNode):
            raise _marked("a key is not text", node)
        key = self.construct_object(node)
        return key if isinstance(key, str) else json.dumps(key)


def _marked(problem: str, node: Any) -> yaml.MarkedYAMLError:
    return yaml.constructor.ConstructorError(problem=problem, problem_mark=node.start_mark)


def _construct_map(loader: _Loader, node: Any) -> dict[str, Any]:
    return loader.read_mapping(node)


def _construct_list(loader: _Loader, node: Any) -> list[Any]:
    return loader.construct_sequence(node, deep=True)


def _construct_bool(_: _Loader, node: Any) -> bool:
    return _BOOLEANS[node.value.lower()]


def _construct_int(_: _Loader, node: Any) -> int:
    text = node.value.replace("_", "")
    sign, digits = (-1, text[1:]) if text.startswith("-") else (1, text.removeprefix("+"))
    if re.fullmatch(r"0[0-7]+", digits):
        return sign * int(digits, 8)
    try:
        return sign * int(digits, 0)
    except ValueError:
        raise _marked(f"{node.value!r} is not a number", node) from None


def _construct_float(_: _Loader, node: Any) -> float:
    value = float(node.value.replace("_", ""))
    if not math.isfinite(value):
        raise _marked(f"{node.value!r} is no number that JSON can hold", node)
    return value


def _construct_infinite(_: _Loader, node: Any) -> float:
    raise _marked(f"{node.value!r} is no number that JSON can hold", node)


def _refuse_tag(_: _Loader, node: Any) -> Any:
    raise _marked(f"the tag {node.tag} is not allowed", node)


_PLAIN = [
    ("null", "~nN\0", r"~|null|Null|NULL|"),
    ("bool", "yYnNtTfFoO", r"[yYnN]|yes|Yes|YES|no|No|NO|true|True|TRUE|false|False|FALSE|on|On|ON|off|Off|OFF"),
    ("int", "-+0123456789", r"[-+]?(0[bB][01_]+|0[xX][0-9a-fA-F_]+|0[oO][0-7_]+|0[0-7_]*|[1-9][0-9_]*)"),
    ("float", "-+.0123456789", r"[-+]?(\.[0-9]+|[0-9][0-9_]*(\.[0-9_]*)?)([eE][-+]?[0-9]+)?"),
    ("infinite", "-+.", r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"),
    ("merge", "<", r"<<"),
]
for _name, _first, _pattern in _PLAIN:
    _Loader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_name}", re.compile(f"(?:{_pattern})$"), [c.replace("\0", "") for c in _first]
    )
for _name, _constructor in {
    "map": _construct_map,
    "seq": _construct_list,
    "bool": _construct_bool,
    "int": _construct_int,
    "float": _construct_float,
    "infinite": _construct_infinite,
}.items():
    _Loader.add_constructor(f"tag:yaml.org,2002:{_name}", _constructor)
for _name in ("binary", "omap", "pairs", "set", "timestamp"):
    _Loader.add_constructor(f"tag:yaml.org,2002:{_name}", _refuse_tag)
