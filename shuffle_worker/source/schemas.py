"""Schemas of several files that are read as one. Pure."""

import difflib
from collections.abc import Sequence

import pyarrow as pa

from shuffle_worker.errors import InputError
from shuffle_worker.nesting import map_type


def strip(schema: pa.Schema) -> pa.Schema:
    """Names and types alone. Metadata goes, for it differs from writer to writer and says nothing of the rows; so does
    the width of dictionary codes, which holds for one file's dictionary only."""
    return pa.schema([pa.field(each.name, normal_type(each.type), each.nullable) for each in schema])


def normal_type(type_: pa.DataType) -> pa.DataType:
    """Dictionary columns get codes of 32 bits. Dictionaries within nested types become plain: no writer keeps them."""
    if pa.types.is_dictionary(type_):
        return pa.dictionary(pa.int32(), map_type(type_.value_type, _plain), type_.ordered)
    return map_type(type_, _plain)


def _plain(type_: pa.DataType) -> pa.DataType:
    return map_type(type_.value_type, _plain) if pa.types.is_dictionary(type_) else type_


def merge(found: Sequence[tuple[str, pa.Schema]]) -> pa.Schema:
    """The one schema of all files, given as (path, schema). A column may be empty in any if it may be in one.

    :raises InputError: names the file and the column that differ, and how.
    """
    first_path, first = found[0]
    for path, other in found[1:]:
        _check_same(first, other, path, first_path)
    nullable = [any(schema.field(n).nullable for _, schema in found) for n in range(len(first))]
    return pa.schema([field.with_nullable(may) for field, may in zip(first, nullable, strict=True)])


def _check_same(first: pa.Schema, other: pa.Schema, other_path: str, first_path: str) -> None:
    remedy = "files that are shuffled together need one schema"
    for column in first:
        if column.name not in other.names:
            raise InputError(f"{other_path} has no column {column.name!r}, which {first_path} has: {remedy}")
        found = other.field(other.names.index(column.name))
        if found.type != column.type:
            raise InputError(
                f"column {column.name!r} is {found.type} in {other_path} and {column.type} in {first_path}: {remedy}"
            )
    for name in other.names:
        if name not in first.names:
            raise InputError(f"{other_path} has a column {name!r}, which {first_path} has not: {remedy}")
    for number, (one, two) in enumerate(zip(first.names, other.names, strict=True)):
        if one != two:
            raise InputError(f"column {number} is {two!r} in {other_path} and {one!r} in {first_path}: {remedy}")


def project(schema: pa.Schema, columns: Sequence[str] | None, path: str) -> pa.Schema:
    """The chosen columns in the chosen order. :raises InputError: one is missing or ambiguous, or there is none."""
    doubled = sorted({name for name in schema.names if schema.names.count(name) > 1})
    if doubled:
        raise InputError(f"{path} has more than one column named {doubled[0]!r}: rename them, so that one can be meant")
    if not schema.names:
        raise InputError(f"{path} has no columns: there is nothing to shuffle")
    if columns is None:
        return schema
    for name in columns:
        if name not in schema.names:
            near = difflib.get_close_matches(name, schema.names, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(schema.names[:8])}"
            raise InputError(f"spec.source.columns: {path} has no column {name!r}: {hint}")
    return pa.schema([schema.field(name) for name in columns])


def conform(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """The columns of `schema`, in its order. Dictionaries at the top stay, whatever the schema says: they are a layout
    that all later stages take."""
    columns, fields = [], []
    for field in schema:
        column = batch.column(batch.schema.get_field_index(field.name))
        if column.type != field.type and not pa.types.is_dictionary(column.type):
            column = column.cast(field.type)
        columns.append(column)
        fields.append(field.with_type(column.type))
    if len(fields) == batch.num_columns and batch.schema.equals(pa.schema(fields)):
        return batch
    return pa.RecordBatch.from_arrays(columns, schema=pa.schema(fields))
