"""Schemas of several files that are read as one. Pure."""

import difflib
from collections.abc import Sequence

import pyarrow as pa

from shuffle_worker.errors import InputError


def strip(schema: pa.Schema) -> pa.Schema:
    """Without metadata, which differs from writer to writer and says nothing of the rows."""
    return pa.schema([pa.field(each.name, each.type, each.nullable) for each in schema])


def check_same(first: pa.Schema, other: pa.Schema, other_path: str, first_path: str) -> None:
    """:raises InputError: names the file and the column that differ."""
    if first.equals(other):
        return
    for column in first:
        if column.name not in other.names:
            raise InputError(f"{other_path} has no column {column.name!r}, which {first_path} has")
        found = other.field(column.name)
        if found.type != column.type:
            raise InputError(
                f"column {column.name!r} is {found.type} in {other_path} and {column.type} in {first_path}: "
                "files that are shuffled together need one schema"
            )
        if found.nullable != column.nullable:
            one, two = ("nullable", "not null") if found.nullable else ("not null", "nullable")
            raise InputError(f"column {column.name!r} is {one} in {other_path} and {two} in {first_path}")
    for name in other.names:
        if name not in first.names:
            raise InputError(f"{other_path} has a column {name!r}, which {first_path} has not")
    raise InputError(f"the columns of {other_path} stand in another order than those of {first_path}")


def project(schema: pa.Schema, columns: Sequence[str] | None, path: str) -> pa.Schema:
    """The chosen columns in the chosen order. :raises InputError: one is missing, doubled, or ambiguous."""
    doubled = sorted({name for name in schema.names if schema.names.count(name) > 1})
    if doubled:
        raise InputError(f"{path} has more than one column named {doubled[0]!r}")
    if columns is None:
        return schema
    for name in columns:
        if name not in schema.names:
            near = difflib.get_close_matches(name, schema.names, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(schema.names[:8])}"
            raise InputError(f"spec.source.columns: {path} has no column {name!r}: {hint}")
    return pa.schema([schema.field(name) for name in columns])
