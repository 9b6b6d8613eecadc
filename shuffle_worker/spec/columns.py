"""What a manifest says of columns, held against the input's schema. The one module of `spec` that imports Arrow.

The source calls `column_problems` once it has read the schema; the planner takes boundaries from `typed_boundaries`.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa

from shuffle_worker.errors import InternalError
from shuffle_worker.spec.keytypes import DECIMAL, TIMESTAMP
from shuffle_worker.spec.model import HashFunction, JobSpec, Key, Shuffle, ShuffleType
from shuffle_worker.spec.problems import Problem, did_you_mean, quoted
from shuffle_worker.spec.rules import boundaries_out_of_order, order_problem

_AT_BOUNDARIES = "spec.shuffle.range.boundaries"
_UNREADABLE = (pa.ArrowException, AttributeError, TypeError, ValueError, OverflowError)
_SIMPLE = {"float32": pa.float32(), "float64": pa.float64(), "bool": pa.bool_()}
_ICEBERG_REFUSES = (pa.types.is_floating, pa.types.is_boolean, pa.types.is_unsigned_integer)


def arrow_type(name: str) -> pa.DataType:
    """The type that `keys[].as` names; the name passed `keytypes.is_key_type`."""
    if match := TIMESTAMP.fullmatch(name):
        return pa.timestamp(match[1], tz=match[2])
    if match := DECIMAL.fullmatch(name):
        return getattr(pa, f"decimal{match[1]}")(int(match[2]), int(match[3]))
    if "[" in name:
        base, unit = name.rstrip("]").split("[")
        return getattr(pa, base)(unit)
    if name in _SIMPLE:
        return _SIMPLE[name]
    try:
        return pa.type_for_alias(name)
    except ValueError:
        raise InternalError(f"a key type that Arrow does not know: {name}") from None


def column_problems(spec: JobSpec, schema: pa.Schema) -> list[Problem]:
    """All that is wrong with the columns that a job names, given the schema of its whole input."""
    problems = list(_unknown_columns(spec, schema))
    for index, key in enumerate(spec.shuffle.key_columns):
        if schema.get_field_index(key.name) >= 0:
            problems.extend(
                _key_problems(key, schema.field(key.name).type, spec.shuffle, f"spec.shuffle.keys[{index}]")
            )
    sort_at = f"spec.sink.{spec.sink.format}.sortBy"
    for index, sort_key in enumerate(spec.sink.files.sort_columns):
        if schema.get_field_index(sort_key.name) >= 0 and _is_nested(schema.field(sort_key.name).type):
            kind = schema.field(sort_key.name).type
            fault = f"the column {quoted(sort_key.name)} is {kind}, which has no order"
            problems.append(Problem(f"{sort_at}[{index}]", fault, "sort by a column of a plain type"))
    if not problems and spec.shuffle.type is ShuffleType.RANGE and spec.shuffle.boundaries is not None:
        problems.extend(_boundary_problems(spec.shuffle, schema))
    return problems


def key_types(shuffle: Shuffle, schema: pa.Schema) -> list[pa.DataType]:
    """The type of each key as it is hashed or compared: its cast, else the column's, dictionaries by their values."""
    return [_key_type(key, schema.field(key.name).type) for key in shuffle.key_columns]


def typed_boundaries(shuffle: Shuffle, schema: pa.Schema) -> list[pa.Array]:
    """One array for each key, of its type, with a value for each given boundary. Ask after `column_problems`."""
    columns = zip(*(shuffle.boundaries or ()), strict=True)
    return [
        _typed_values(list(values), type_) for values, type_ in zip(columns, key_types(shuffle, schema), strict=True)
    ]


def _unknown_columns(spec: JobSpec, schema: pa.Schema) -> Iterator[Problem]:
    source_at = f"spec.source.{spec.source.format}.columns"
    sort_at = f"spec.sink.{spec.sink.format}.sortBy"
    named = [(f"{source_at}[{index}]", name) for index, name in enumerate(spec.source.files.columns or ())]
    named += [(f"spec.shuffle.keys[{index}]", key.name) for index, key in enumerate(spec.shuffle.key_columns)]
    named += [(f"{sort_at}[{index}]", key.name) for index, key in enumerate(spec.sink.files.sort_columns)]
    for at, name in named:
        count = schema.names.count(name)
        if count == 0:
            fault = f"no column is named {quoted(name)}"
            yield Problem(at, fault, did_you_mean(name, schema.names, "the input has"))
        elif count > 1:
            fault = f"{count} columns are named {quoted(name)}"
            yield Problem(at, fault, "rename them in the input, so that one can be meant")


def _key_problems(key: Key, column: pa.DataType, shuffle: Shuffle, at: str) -> Iterator[Problem]:
    if _is_nested(column):
        fault = f"the column {quoted(key.name)} is {column}, which cannot be a key"
        yield Problem(at, fault, "use a column of a plain type, such as a field of it written as a column of its own")
        return
    type_ = _key_type(key, column)
    if key.cast is not None and not _can_cast(column, type_):
        yield Problem(
            f"{at}.as",
            f"the column {quoted(key.name)} is {column}, which does not cast to {type_}",
            "cast it to another type",
        )
    elif pa.types.is_null(type_):
        yield Problem(at, f"the column {quoted(key.name)} has no type: it holds nulls only", "cast it with `as`")
    elif shuffle.hash_function is HashFunction.ICEBERG and any(refuses(type_) for refuses in _ICEBERG_REFUSES):
        yield Problem(
            at, f"Iceberg does not bucket {type_} ({quoted(key.name)})", "cast it with `as`, to int64 or string"
        )


def _boundary_problems(shuffle: Shuffle, schema: pa.Schema) -> Iterator[Problem]:
    given = shuffle.boundaries or ()
    columns = []
    for index, (key, type_) in enumerate(zip(shuffle.key_columns, key_types(shuffle, schema), strict=True)):
        values = [boundary[index] for boundary in given]
        try:
            columns.append(_comparable(_typed_values(values, type_)))
        except _UNREADABLE:
            wrong = next((row for row, value in enumerate(values) if not _reads_as(value, type_)), 0)
            fault = f"{quoted(values[wrong])} is not a {type_}, as the key {quoted(key.name)} is"
            yield Problem(f"{_AT_BOUNDARIES}[{wrong}]", fault, "write it as the column's values are written")
            return
    rows = list(zip(*columns, strict=True))
    fault_at = boundaries_out_of_order(rows, [(key.order, key.nulls) for key in shuffle.key_columns])
    if fault_at:
        yield order_problem(_AT_BOUNDARIES, fault_at)


def _typed_values(values: Sequence[Any], type_: pa.DataType) -> pa.Array:
    """Values as YAML writes them, in Arrow's type: numbers must fit without loss, and what is neither number nor
    boolean is parsed from text."""
    given = [value for value in values if value is not None]
    if any(isinstance(value, bool) != pa.types.is_boolean(type_) for value in given if not isinstance(value, str)):
        raise TypeError("a boolean among others, or another among booleans")
    if _is_text(type_):
        if pa.types.is_string(type_) or pa.types.is_large_string(type_) or pa.types.is_string_view(type_):
            return pa.array(values, type_)
        return pa.array([None if value is None else value.encode() for value in values], type_)
    if pa.types.is_temporal(type_) and any(not isinstance(value, str) for value in given):
        raise TypeError("a time is written as text")
    if pa.types.is_time(type_):
        # Arrow parses times of a day only as part of a timestamp.
        moments = [None if value is None else f"1970-01-01 {value}" for value in values]
        return pa.array(moments, pa.string()).cast(pa.timestamp(type_.unit)).cast(type_)
    if pa.types.is_integer(type_) and any(isinstance(value, float) and not value.is_integer() for value in given):
        raise ValueError("a fraction among whole numbers")  # Arrow would cut it off
    if pa.types.is_decimal(type_) or any(isinstance(value, str) for value in given):
        return pa.array([None if value is None else str(value) for value in values], pa.string()).cast(type_)
    return pa.array(values, type_)


def _reads_as(value: Any, type_: pa.DataType) -> bool:
    if value is None:
        return True
    try:
        _typed_values([value], type_)
    except _UNREADABLE:
        return False
    return True


def _comparable(values: pa.Array) -> list[Any]:
    """Python values that order as the column does. Times come as integers, for datetime holds no nanoseconds; text
    compares by code points, which is the order of its bytes in UTF-8."""
    type_ = values.type
    if pa.types.is_date32(type_) or pa.types.is_time32(type_):
        values = values.cast(pa.int32())
    elif pa.types.is_temporal(type_):
        values = values.cast(pa.int64())
    result: list[Any] = values.to_pylist()
    return result


def _key_type(key: Key, column: pa.DataType) -> pa.DataType:
    if key.cast is not None:
        return arrow_type(key.cast)
    return column.value_type if pa.types.is_dictionary(column) else column


def _can_cast(column: pa.DataType, wanted: pa.DataType) -> bool:
    plain = column.value_type if pa.types.is_dictionary(column) else column
    try:
        pa.nulls(0, plain).cast(wanted)
    except pa.ArrowException:
        return False
    return True


def _is_nested(type_: pa.DataType) -> bool:
    if pa.types.is_dictionary(type_):
        return _is_nested(type_.value_type)
    return bool(pa.types.is_nested(type_) or pa.types.is_run_end_encoded(type_) or pa.types.is_interval(type_))


def _is_text(type_: pa.DataType) -> bool:
    tests = ("is_string", "is_large_string", "is_string_view", "is_binary", "is_large_binary", "is_binary_view")
    return any(getattr(pa.types, test)(type_) for test in (*tests, "is_fixed_size_binary"))
