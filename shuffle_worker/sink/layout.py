"""Row groups in the layout that an encoder takes, from batches as they came off the wire. Pure.

The *logical* schema is the plan's, what readers of a file get back. The *stored* one has the same values in the layout
handed to the encoder: a column that came as dictionaries stays one, whatever its logical type.
"""

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from shuffle_worker.nesting import map_type

CODES = pa.int32()


def stored_schema(logical: pa.Schema, came: pa.Schema) -> pa.Schema:
    """What an encoder is handed, given the schema of the first batch that came."""
    return pa.schema([_stored_field(field, came.field(field.name).type) for field in logical])


def plain_schema(logical: pa.Schema) -> pa.Schema:
    """The stored schema of a file without rows."""
    return pa.schema([field.with_type(_value_type(field.type)) for field in logical])


def row_group(batches: Sequence[pa.RecordBatch], stored: pa.Schema) -> pa.Table:
    """One table of all rows; each dictionary column has one dictionary."""
    columns = []
    for field in stored:
        chunks = [batch.column(batch.schema.get_field_index(field.name)) for batch in batches]
        columns.append(_dictionary(chunks, field.type) if pa.types.is_dictionary(field.type) else _plain(chunks, field))
    return pa.Table.from_arrays(columns, schema=stored)


def gatherable_schema(stored: pa.Schema) -> pa.Schema:
    """The layout of the same values from which rows can be taken in any order, however much text there is."""
    return pa.schema([field.with_type(_gatherable(field.type)) for field in stored])


def _gatherable(type_: pa.DataType) -> pa.DataType:
    return type_ if pa.types.is_dictionary(type_) else map_type(type_, _without_views)


def _without_views(type_: pa.DataType) -> pa.DataType:
    types = pa.types
    if types.is_string_view(type_) or types.is_string(type_):
        return pa.large_string()
    if types.is_binary_view(type_) or types.is_binary(type_):
        return pa.large_binary()
    return type_.value_type if types.is_run_end_encoded(type_) else type_


def _stored_field(field: pa.Field, came: pa.DataType) -> pa.Field:
    if pa.types.is_dictionary(came):
        return field.with_type(pa.dictionary(CODES, _value_type(came)))
    return field.with_type(_value_type(field.type))


def _value_type(type_: pa.DataType) -> pa.DataType:
    """Of a dictionary that of its values; of these, views become plain: dictionaries of views cannot be united."""
    if not pa.types.is_dictionary(type_):
        return type_
    type_ = type_.value_type
    if pa.types.is_string_view(type_):
        return pa.string()
    return pa.binary() if pa.types.is_binary_view(type_) else type_


def _plain(chunks: Sequence[pa.Array], field: pa.Field) -> pa.ChunkedArray:
    return pa.chunked_array([cast(chunk, field.type) for chunk in chunks], field.type)


def cast(chunk: pa.Array, type_: pa.DataType) -> pa.Array:
    """The same values in a type that is not a dictionary."""
    if chunk.type == type_:
        return chunk
    if pa.types.is_dictionary(chunk.type):
        return cast(chunk.dictionary_decode(), type_)
    if pa.types.is_run_end_encoded(chunk.type) and not pa.types.is_run_end_encoded(type_):
        return cast(pc.run_end_decode(chunk), type_)
    if isinstance(type_, pa.BaseExtensionType):
        return pa.ExtensionArray.from_storage(type_, cast(chunk, type_.storage_type))
    if isinstance(chunk.type, pa.BaseExtensionType):
        return cast(chunk.storage, type_)
    return chunk.cast(type_)


def _dictionary(chunks: Sequence[pa.Array], type_: pa.DictionaryType) -> pa.ChunkedArray:
    """Every frame brings a dictionary of its own; mostly they are alike."""
    coded = [chunk if pa.types.is_dictionary(chunk.type) else chunk.dictionary_encode() for chunk in chunks]
    first = coded[0].dictionary
    alike = all(chunk.dictionary.equals(first) for chunk in coded[1:])
    values = [cast(first, type_.value_type)] * len(coded) if alike else None
    widened = [
        pa.DictionaryArray.from_arrays(
            chunk.indices.cast(CODES), values[0] if values else cast(chunk.dictionary, type_.value_type)
        )
        for chunk in coded
    ]
    column = pa.chunked_array(widened, type_)
    return column if alike else column.unify_dictionaries()
