"""Stored features as tensorflow_metadata and tf.Transform describe them, for traces, analyzers and the saved graph."""

from collections.abc import Mapping

import tensorflow as tf
from tensorflow_metadata.proto.v0 import schema_pb2
from tensorflow_transform import impl_helper
from tensorflow_transform.tf_metadata import schema_utils

from ..formats import decode
from ..formats.features import Feature

_TYPES = {"int64": schema_pb2.INT, "float32": schema_pb2.FLOAT, "string": schema_pb2.BYTES}
_DEFAULTS = {"int64": "int_value", "float32": "float_value", "string": "bytes_value"}  # fields of default_value


def example_schema(features: Mapping[str, Feature]) -> schema_pb2.Schema:
    """How prepared examples are parsed, as a tensorflow_metadata schema."""
    schema = schema_pb2.Schema()
    for name, feature in features.items():
        _add(schema, name, feature)
    return schema


def _add(schema: schema_pb2.Schema, name: str, feature: Feature) -> None:
    dtype = "string" if feature.is_pixels else feature.dtype
    schema.feature.add(name=name, type=_TYPES[dtype])
    tensor = schema.tensor_representation_group[""].tensor_representation[name]
    if None in feature.shape:
        tensor.varlen_sparse_tensor.column_name = name
        return
    tensor.dense_tensor.column_name = name
    tensor.dense_tensor.shape.SetInParent()
    for size in () if feature.is_pixels else feature.shape:
        tensor.dense_tensor.shape.dim.add(size=size)
    if feature.optional:
        setattr(tensor.dense_tensor.default_value, _DEFAULTS[dtype], decode.missing(feature))


def stored_specs(features: Mapping[str, Feature]) -> dict[str, tf.TypeSpec]:
    """What a preprocessing_fn is traced with: feature name to the type of a batch of stored values."""
    spec = schema_utils.schema_as_feature_spec(example_schema(features)).feature_spec
    return dict(impl_helper.get_type_specs_from_feature_specs(spec))
