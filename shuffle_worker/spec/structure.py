"""Holds a raw manifest against the model's types and reports every unknown, missing and mistyped field.

msgspec stops at the first fault; this walk goes on, and knows nothing of ShuffleJobs: it reads the types. As on a
Kubernetes API server, a null stands for a field left out and 64.0 for 64.
"""

import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from msgspec import inspect

from shuffle_worker.errors import InternalError
from shuffle_worker.spec.problems import Problem, did_you_mean, nearest, quoted

_INT64_MIN, _UINT64_MAX = -(1 << 63), (1 << 64) - 1


def check_structure(value: object, type_: type, at: str = "") -> tuple[Any, list[Problem]]:
    """The value as `msgspec.convert(.., type_)` takes it, and all that is wrong with it. With problems, the value
    holds what was right."""
    walk = _Walk(type_)
    cleaned = walk.check(value, inspect.type_info(type_), at)
    return cleaned, walk.problems


class _Walk:
    def __init__(self, root: type) -> None:
        self.problems: list[Problem] = []
        self._root = root

    def check(self, value: Any, expected: inspect.Type, at: str, means: str = "") -> Any:
        """The value in clean form; what does not fit is reported and comes back as it is. `means` is a pattern in
        words, which the model keeps in `Meta(extra={"means": ..})`."""
        match expected:
            case inspect.Metadata(type=inner, extra=extra):
                return self.check(value, inner, at, (extra or {}).get("means", ""))
            case inspect.AnyType():
                return value
            case inspect.UnionType(types=types):
                fitting = [type_ for type_ in types if _fits(value, type_)]
                return self.check(value, fitting[0], at) if fitting else self._mistyped(value, expected, at)
        if not _fits(value, expected):
            return self._mistyped(value, expected, at)
        match expected:
            case inspect.StructType():
                return self._struct(value, expected, at)
            case inspect.DictType(value_type=inner):
                self._length(value, expected, at)
                return {key: self.check(item, inner, _member(at, key)) for key, item in value.items()}
            case inspect.VarTupleType(item_type=inner):
                if not self._length(value, expected, at):
                    return value
                return [self.check(item, inner, f"{at}[{index}]") for index, item in enumerate(value)]
            case inspect.EnumType() | inspect.LiteralType():
                self._choice(value, _choices(expected), at)
            case inspect.StrType(pattern=pattern):
                if self._length(value, expected, at) and pattern and not re.fullmatch(pattern, value):
                    self._report(at, f"{quoted(value)} is not allowed", f"write {means or pattern}")
            case inspect.IntType(ge=least, le=most):
                value = int(value)
                if not (_INT64_MIN if least is None else least) <= value <= (_UINT64_MAX if most is None else most):
                    self._report(at, f"{value} is out of range", f"expected {_describe(expected)}")
        return value

    def _struct(self, value: Mapping[str, Any], expected: inspect.StructType, at: str) -> dict[str, Any]:
        fields = {field.encode_name: field for field in expected.fields}
        cleaned = {}
        guessed = set()
        for name, item in value.items():
            if name in fields and item is not None:
                cleaned[name] = self.check(item, fields[name].type, _member(at, name))
            elif name not in fields and expected.forbid_unknown_fields:
                guessed.add(nearest(name, [known for known in fields if known not in value]))
                self._unknown(name, list(fields), at)
        for name, field in fields.items():
            if field.required and value.get(name) is None and name not in guessed:
                self._report(_member(at, name), "missing", f"expected {_describe(field.type)}")
        return cleaned

    def _unknown(self, name: str, known: list[str], at: str) -> None:
        homes = [home for home in _homes(self._root).get(name, ()) if home != at]
        if homes and nearest(name, known) is None:
            remedy = f"it belongs to {' or '.join(home or 'the top level' for home in homes[:2])}"
        else:
            remedy = did_you_mean(name, known, "the fields here are")
        self._report(_member(at, name), "unknown field", remedy)

    def _choice(self, value: str, choices: list[str], at: str) -> None:
        if value in choices:
            return
        if len(choices) == 1:
            self._report(at, f"{quoted(value)} is not {choices[0]}", f"write {choices[0]}")
            return
        guess = nearest(value, choices)
        remedy = f"did you mean {guess}?" if guess else "write one of these"
        self._report(at, f"{quoted(value)} is not one of {', '.join(choices)}", remedy)

    def _length(self, value: Any, expected: Any, at: str) -> bool:
        least, most, count = expected.min_length, expected.max_length, len(value)
        one, many = ("character", "characters") if isinstance(value, str) else ("entry", "entries")
        if least is not None and count < least:
            self._report(at, "empty", f"expected at least {least} {one if least == 1 else many}")
        elif most is not None and count > most:
            self._report(at, f"has {count} {many}", f"expected at most {most}")
        else:
            return True
        return False

    def _mistyped(self, value: Any, expected: inspect.Type, at: str) -> Any:
        wanted = _describe(expected)
        remedy = f"expected {wanted}"
        kinds = {type(_plain(type_)) for type_ in _alternatives(expected)}
        if isinstance(value, bool) and kinds & {inspect.StrType, inspect.EnumType}:
            words = "y, yes, on and true" if value else "n, no, off and false"
            remedy = f"expected {wanted}; YAML reads {words} without quotes as booleans, so quote it"
        elif isinstance(value, int | float) and inspect.StrType in kinds:
            remedy = f"expected {wanted}, so quote it"
        elif isinstance(value, str) and inspect.VarTupleType in kinds:
            remedy = f"expected a list, so write [{quoted(value)}]"
        elif isinstance(value, str) and kinds & {inspect.IntType, inspect.BoolType}:
            remedy = f"expected {wanted}, without quotes"
        self._report(at, f"{_kind(value)} does not fit", remedy)
        return value

    def _report(self, at: str, fault: str, remedy: str) -> None:
        self.problems.append(Problem(at, fault, remedy))


def _member(at: str, name: str) -> str:
    if not re.fullmatch(r"\w+", name):
        return f"{at}[{quoted(name)}]"
    return f"{at}.{name}" if at else name


def _plain(type_: inspect.Type) -> inspect.Type:
    while isinstance(type_, inspect.Metadata):
        type_ = type_.type
    return type_


def _alternatives(type_: inspect.Type) -> tuple[inspect.Type, ...]:
    type_ = _plain(type_)
    return tuple(map(_plain, type_.types)) if isinstance(type_, inspect.UnionType) else (type_,)


def _fits(value: object, type_: inspect.Type) -> bool:
    """Whether the value is of the right kind; bounds are not looked at."""
    match _plain(type_):
        case inspect.AnyType():
            return True
        case inspect.NoneType():
            return value is None
        case inspect.BoolType():
            return isinstance(value, bool)
        case inspect.IntType():
            whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
            return whole and not isinstance(value, bool)
        case inspect.FloatType():
            return isinstance(value, int | float) and not isinstance(value, bool)
        case inspect.StrType() | inspect.EnumType() | inspect.LiteralType():
            return isinstance(value, str)
        case inspect.StructType() | inspect.DictType():
            return isinstance(value, Mapping)
        case inspect.VarTupleType():
            return isinstance(value, list | tuple)
        case other:
            raise InternalError(f"the manifest's model uses a type that its checks do not know: {other}")


def _choices(type_: inspect.Type) -> list[str]:
    if isinstance(type_, inspect.EnumType):
        return [str(member.value) for member in type_.cls]
    if isinstance(type_, inspect.LiteralType):
        return [str(value) for value in type_.values]
    return []


def _describe(type_: inspect.Type) -> str:
    """What a field takes, in words."""
    type_ = _plain(type_)
    match type_:
        case inspect.BoolType():
            return "true or false"
        case inspect.IntType(ge=least, le=most):
            return "a whole number" if least is None else f"a whole number from {least} to {most or _UINT64_MAX}"
        case inspect.FloatType():
            return "a number"
        case inspect.StrType():
            return "text"
        case inspect.EnumType() | inspect.LiteralType():
            return " or ".join(_choices(type_))
        case inspect.StructType(fields=fields):
            needed = [field.encode_name for field in fields if field.required]
            return f"an object with {', '.join(needed or [field.encode_name for field in fields])}"
        case inspect.DictType():
            return "an object"
        case inspect.VarTupleType():
            return "a list"
        case inspect.UnionType(types=types):
            return " or ".join(_describe(each) for each in types if not isinstance(_plain(each), inspect.NoneType))
        case _:
            return "a value"


def _kind(value: object) -> str:
    """What was found, in words."""
    match value:
        case None:
            return "null"
        case bool():
            return f"the boolean {quoted(value)}"
        case int() | float():
            return f"the number {quoted(value)}"
        case str():
            return f"the text {quoted(value)}"
        case list() | tuple():
            return "a list"
        case Mapping():
            return "an object"
        case _:
            return f"a {type(value).__name__}"


@cache
def _homes(root: type) -> dict[str, tuple[str, ...]]:
    """Where each field name of the model lives."""
    homes: dict[str, list[str]] = {}
    for name, home in _fields_of(inspect.type_info(root), ""):
        homes.setdefault(name, []).append(home)
    return {name: tuple(places) for name, places in homes.items()}


def _fields_of(type_: inspect.Type, at: str) -> Iterator[tuple[str, str]]:
    for each in _alternatives(type_):
        if isinstance(each, inspect.VarTupleType):
            yield from _fields_of(each.item_type, f"{at}[]")
        elif isinstance(each, inspect.StructType):
            for field in each.fields:
                yield field.encode_name, at
                yield from _fields_of(field.type, _member(at, field.encode_name))
