"""Whether a batch fits a shuffle's schema, said in a sentence that names the column. Pure; reads no values."""

import pyarrow as pa


def schema_fault(shuffle_id: str, fixed: pa.Schema, given: pa.Schema) -> str:
    """Why rows of `given` cannot join rows of `fixed`, or an empty string. Metadata does not matter."""
    if fixed.equals(given):
        return ""
    place = f"the shuffle {shuffle_id!r}, whose first batch fixed its schema"
    for position, field in enumerate(fixed):
        if position >= len(given):
            return f"column {field.name!r} ({field.type}) is missing: {place} has it"
        other = given.field(position)
        if other.name != field.name:
            return f"column {position} is {other.name!r}, and {field.name!r} in {place}"
        if other.type != field.type:
            return f"column {field.name!r} is {other.type}, and {field.type} in {place}: cast it"
        if other.nullable != field.nullable:
            word = {True: "nullable", False: "not nullable"}
            return f"column {field.name!r} is {word[other.nullable]}, and {word[field.nullable]} in {place}: cast it"
    if len(given) > len(fixed):
        return f"column {given.field(len(fixed)).name!r} is not in {place}"
    return ""
