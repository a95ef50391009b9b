"""The raw columns' schema: as tensorflow_metadata writes it, and what changed from one run to the next."""

from typing import Any

import pyarrow as pa

from ..errors import DatasetError

_KINDS = {"int64": "INT", "float64": "FLOAT", "string": "BYTES", "binary": "BYTES"}
_TYPES = {"INT": pa.int64(), "FLOAT": pa.float64(), "BYTES": pa.binary()}


def to_text(schema: pa.Schema) -> str:
    """A tensorflow_metadata Schema in protobuf text form.

    A scalar column has the value count 1; a list has none. A string column, unlike a binary one, has a string domain.
    """
    from google.protobuf import text_format
    from tensorflow_metadata.proto.v0 import schema_pb2

    message = schema_pb2.Schema()
    for field in schema:
        is_list = pa.types.is_list(field.type)
        kind = field.type.value_type if is_list else field.type
        feature = message.feature.add(name=field.name)
        feature.type = schema_pb2.FeatureType.Value(_KINDS[_name(kind)])
        if not is_list:
            feature.value_count.min = feature.value_count.max = 1
        if pa.types.is_string(kind):
            feature.string_domain.SetInParent()
    text: str = text_format.MessageToString(message)
    return text


def from_text(text: str) -> pa.Schema:
    """The schema that `to_text` wrote.

    Raises:
      DatasetError: it is no tensorflow_metadata Schema, or has a feature that is no column.
    """
    from google.protobuf import text_format
    from tensorflow_metadata.proto.v0 import schema_pb2

    try:
        message: Any = text_format.Parse(text, schema_pb2.Schema())
    except text_format.ParseError as error:
        raise DatasetError(
            f"expected a tensorflow_metadata Schema as text, found: {error}; make the dataset again"
        ) from error
    fields = []
    for feature in message.feature:
        name = schema_pb2.FeatureType.Name(feature.type)
        if name not in _TYPES:
            raise DatasetError(f"feature {feature.name!r}: expected INT, FLOAT or BYTES, found {name}")
        kind = pa.string() if feature.HasField("string_domain") else _TYPES[name]
        is_scalar = feature.value_count.max == 1
        fields.append(pa.field(feature.name, kind if is_scalar else pa.list_(kind)))
    return pa.schema(fields)


def compare(old: pa.Schema, new: pa.Schema) -> list[str]:
    """What changed, a sentence a column: new ones, missing ones, and new types; the order of columns does not count."""
    said = [f"missing column {field.name!r} ({_name(field.type)})" for field in old if field.name not in new.names]
    said += [f"new column {field.name!r} ({_name(field.type)})" for field in new if field.name not in old.names]
    for field in new:
        if field.name in old.names and (before := old.field(field.name).type) != field.type:
            said.append(f"new type of column {field.name!r}: {_name(field.type)}, was {_name(before)}")
    return said


def _name(kind: pa.DataType) -> str:
    if pa.types.is_list(kind):
        return f"list<{_name(kind.value_type)}>"
    return "float64" if pa.types.is_float64(kind) else str(kind)
