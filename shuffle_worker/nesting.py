"""Rebuilding nested Arrow types from changed parts. Pure."""

from collections.abc import Callable

import pyarrow as pa

Change = Callable[[pa.DataType], pa.DataType]


def map_type(type_: pa.DataType, change: Change) -> pa.DataType:
    """The type with `change` applied to what is not a list, struct or map, at any depth."""
    types = pa.types

    def part(field: pa.Field) -> pa.Field:
        return pa.field(field.name, map_type(field.type, change), field.nullable)

    if types.is_struct(type_):
        return pa.struct([part(type_.field(number)) for number in range(type_.num_fields)])
    if types.is_map(type_):
        return pa.map_(part(type_.key_field), part(type_.item_field), type_.keys_sorted)
    if types.is_fixed_size_list(type_):
        return pa.list_(part(type_.value_field), type_.list_size)
    for test, build in (
        (types.is_list, pa.list_),
        (types.is_large_list, pa.large_list),
        (types.is_list_view, pa.list_view),
        (types.is_large_list_view, pa.large_list_view),
    ):
        if test(type_):
            return build(part(type_.value_field))
    return change(type_)
