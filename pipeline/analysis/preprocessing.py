"""Wraps a recipe's `features` as the preprocessing_fn that tf.Transform traces: stored values in, outputs out."""

from collections.abc import Callable, Mapping
from typing import Any

import tensorflow as tf

from ...transforms.inputs import Inputs, Statistics
from ..formats import decode
from ..formats.features import Feature
from . import outputs as checks

_GRAPH_DTYPES = (tf.string, tf.int64, tf.float32)  # all that tf.Transform's metadata can describe

Tensors = Mapping[str, Any]
FeaturesFn = Callable[[Inputs], Tensors]


def make_preprocessing_fn(
    features_fn: FeaturesFn | None,
    features: Mapping[str, Feature],
    make_statistics: Callable[[Tensors], Statistics],
) -> Callable[[Tensors], Tensors]:
    """The recipe's `features` as a preprocessing_fn; outputs of other dtypes are widened to int64 or float32.

    Args:
      features_fn: The recipe's `features`; None passes everything through.
      features: The features of a prepared example.
      make_statistics: Makes `inputs.statistics` from the stored values.
    """

    def preprocessing_fn(stored: Tensors) -> Tensors:
        outputs = call_features(features_fn, features, stored, make_statistics(stored))
        return {name: _widen(tensor) for name, tensor in outputs.items()}

    return preprocessing_fn


def call_features(
    features_fn: FeaturesFn | None, features: Mapping[str, Feature], stored: Tensors, statistics: Statistics
) -> Tensors:
    """Calls the recipe's `features` on a batch of stored values; returns its outputs in their own dtypes.

    Args:
      features_fn: The recipe's `features`; None passes everything through.
      features: The features of a prepared example.
      stored: Feature name to the batch's stored values: encoded pixels, sparse tensors for lists of any length.
      statistics: `inputs.statistics`.

    Raises:
      RequestError: it returned something else than a dict of tensors.
    """
    inputs = _inputs(features, stored, statistics)
    outputs = dict(inputs) if features_fn is None else features_fn(inputs)
    checks.check_types(outputs)
    return outputs


def _inputs(features: Mapping[str, Feature], stored: Tensors, statistics: Statistics) -> Inputs:
    values: dict[str, Any] = {}
    missing: dict[str, Any] = {}
    for name, feature in features.items():
        value = stored[name]
        if feature.is_pixels:
            value = decode_pixels(value, feature)
        elif None in feature.shape:
            value = tf.RaggedTensor.from_sparse(value)
        elif feature.optional:
            is_float = feature.dtype == "float32"
            missing[name] = tf.math.is_nan(value) if is_float else value == decode.missing(feature)
            if feature.dtype == "int64":
                value = tf.where(missing[name], tf.zeros_like(value), value)
        values[name] = value
    return Inputs(values, missing, statistics)


def decode_pixels(encoded: tf.Tensor, feature: Feature) -> tf.Tensor:
    """Decodes a batch of stored pixels in the graph: the same values that Pillow gives.

    Args:
      encoded: string [batch].
      feature: The pixels' size, dtype and encoding.

    Returns:
      uint8 or uint16 [batch, height, width, channels].
    """
    dtype, channels = tf.as_dtype(feature.dtype), feature.shape[-1]

    def decode_one(content: tf.Tensor) -> tf.Tensor:
        if feature.encoding == "jpeg":
            pixels = tf.io.decode_jpeg(content, channels, fancy_upscaling=True, dct_method="INTEGER_ACCURATE")
        elif feature.encoding == "png":
            pixels = tf.io.decode_png(content, channels, dtype)
        else:
            pixels = tf.reshape(tf.io.decode_raw(content, dtype), feature.shape)
        return tf.ensure_shape(pixels, feature.shape)

    return tf.map_fn(decode_one, encoded, fn_output_signature=tf.TensorSpec(feature.shape, dtype))


def _widen(tensor: Any) -> Any:
    if tensor.dtype in _GRAPH_DTYPES:
        return tensor
    return tf.cast(tensor, tf.float32 if tensor.dtype.is_floating else tf.int64)
