"""From stored features to the tensors that a recipe's `features` works on, in the graph."""

from collections.abc import Callable, Mapping
from typing import Any

import tensorflow as tf
from tensorflow_metadata.proto.v0 import schema_pb2
from tensorflow_transform import impl_helper
from tensorflow_transform.tf_metadata import schema_utils

from ...transforms.inputs import Inputs, Statistics
from ..errors import RequestError
from ..formats.features import Feature

SUMMARIES = "/summaries"  # what tf.Transform's analyzers get of ours: encoded in a few rows, nothing in the rest
_MISSING = {"int64": -(2**63), "float32": float("nan"), "string": b""}  # what parsing puts where a value is missing
_GRAPH_DTYPES = (tf.string, tf.int64, tf.float32)  # all that tf.Transform's metadata can describe
_TYPES = {"int64": schema_pb2.INT, "float32": schema_pb2.FLOAT, "string": schema_pb2.BYTES}

Tensors = Mapping[str, Any]
UserFn = Callable[[Inputs], Tensors]


def example_schema(features: Mapping[str, Feature], analysis: bool = False) -> schema_pb2.Schema:
    """How prepared examples are parsed, as tensorflow_metadata says it.

    Args:
      features: The features of a prepared example.
      analysis: Whether to add what only the analyzers get.
    """
    schema = schema_pb2.Schema()
    for name, feature in features.items():
        shape = () if feature.is_pixels else feature.shape
        dtype = "string" if feature.is_pixels else feature.dtype
        _add(schema, name, dtype, shape, feature.optional)
    if analysis:
        _add(schema, SUMMARIES, "string", (), True)
    return schema


def _add(schema: schema_pb2.Schema, name: str, dtype: str, shape: tuple[int | None, ...], optional: bool) -> None:
    schema.feature.add(name=name, type=_TYPES[dtype])
    tensor = schema.tensor_representation_group[""].tensor_representation[name]
    if None in shape:
        tensor.varlen_sparse_tensor.column_name = name
        return
    tensor.dense_tensor.column_name = name
    tensor.dense_tensor.shape.SetInParent()
    for size in shape:
        tensor.dense_tensor.shape.dim.add(size=size)
    if optional:
        field = {"int64": "int_value", "float32": "float_value", "string": "bytes_value"}[dtype]
        setattr(tensor.dense_tensor.default_value, field, _MISSING[dtype])


def stored_specs(features: Mapping[str, Feature], analysis: bool = False) -> dict[str, tf.TypeSpec]:
    """What `features` is traced with: name to the type of a batch of stored values.

    Args:
      features: The features of a prepared example.
      analysis: Whether to add what only tft's analyzers get.
    """
    spec = schema_utils.schema_as_feature_spec(example_schema(features, analysis)).feature_spec
    return dict(impl_helper.get_type_specs_from_feature_specs(spec))


def decode_pixels(encoded: tf.Tensor, feature: Feature) -> tf.Tensor:
    """Decodes a batch of stored pixels in the graph: the same values that Pillow gives.

    Args:
      encoded: string [batch].
      feature: What they are.

    Returns:
      uint8 or uint16 [batch, height, width, channels].
    """
    dtype, channels = tf.as_dtype(feature.dtype), feature.shape[-1]

    def decode(content: tf.Tensor) -> tf.Tensor:
        if feature.encoding == "jpeg":
            pixels = tf.io.decode_jpeg(content, channels, fancy_upscaling=True, dct_method="INTEGER_ACCURATE")
        elif feature.encoding == "png":
            pixels = tf.io.decode_png(content, channels, dtype)
        else:
            pixels = tf.reshape(tf.io.decode_raw(content, dtype), feature.shape)
        return tf.ensure_shape(pixels, feature.shape)

    return tf.map_fn(decode, encoded, fn_output_signature=tf.TensorSpec(feature.shape, dtype))


def preprocessing_fn(
    user_fn: UserFn | None,
    features: Mapping[str, Feature],
    statistics: Callable[[Tensors], Statistics],
    dtypes: dict[str, str] | None = None,
) -> Callable[[Tensors], Tensors]:
    """The recipe's `features` as tf.Transform wants it: stored values in, outputs of dtypes it can describe out.

    Args:
      user_fn: The recipe's `features`; None passes everything through.
      features: The features of a prepared example.
      statistics: Makes `inputs.statistics` of the stored values.
      dtypes: Is filled with each output's own dtype, where it is given.
    """

    def run(raw: Tensors) -> Tensors:
        inputs = _inputs(raw, features, statistics(raw))
        outputs = dict(inputs) if user_fn is None else user_fn(inputs)
        if not isinstance(outputs, Mapping) or not outputs:
            raise RequestError(
                f"Recipe(features=...): expected a function that returns a dict of tensors, found {outputs!r}"
            )
        for name, tensor in outputs.items():
            if not isinstance(name, str):
                raise RequestError(f"Recipe(features=...): expected the outputs' names as text, found {name!r}")
            if not hasattr(tensor, "dtype") or tensor.shape.rank == 0:
                raise RequestError(
                    f"Recipe(features=...): expected a tensor as {name!r}, a row for every example, found {tensor!r}"
                )
        if dtypes is not None:
            dtypes.update({name: tensor.dtype.name for name, tensor in outputs.items()})
        return {name: _widen(name, tensor) for name, tensor in outputs.items()}

    return run


def _inputs(raw: Tensors, features: Mapping[str, Feature], statistics: Statistics) -> Inputs:
    values: dict[str, Any] = {}
    missing: dict[str, Any] = {}
    for name, feature in features.items():
        value = raw[name]
        if feature.is_pixels:
            value = decode_pixels(value, feature)
        elif None in feature.shape:
            value = tf.RaggedTensor.from_sparse(value)
        elif feature.optional:
            missing[name] = tf.math.is_nan(value) if feature.dtype == "float32" else value == _MISSING[feature.dtype]
            if feature.dtype == "int64":
                value = tf.where(missing[name], tf.zeros_like(value), value)
        values[name] = value
    return Inputs(values, missing, statistics)


def _widen(name: str, tensor: Any) -> Any:
    if tensor.dtype in _GRAPH_DTYPES:
        return tensor
    if tensor.dtype.is_integer or tensor.dtype.is_bool:
        return tf.cast(tensor, tf.int64)
    if tensor.dtype.is_floating:
        return tf.cast(tensor, tf.float32)
    raise RequestError(f"Recipe(features=...): {name!r} is {tensor.dtype.name}, expected text, integers or reals")
