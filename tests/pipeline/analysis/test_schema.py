"""Stored features as tensors: TensorFlow alone parses them as tf.Transform's metadata says."""

from typing import Any

import tensorflow as tf
from tensorflow_transform.tf_metadata import schema_utils

from penstock.pipeline.analysis.schema import example_schema
from penstock.pipeline.formats.features import Feature
from penstock.pipeline.graph.savedmodel import example_spec

FEATURES = {
    "image": Feature("image", "uint8", (4, 5, 3), "jpeg"),
    "key": Feature("text", "string", ()),
    "number": Feature("number", "float32", (), optional=True),
    "count": Feature("number", "int64", (), optional=True),
    "word": Feature("text", "string", (), optional=True),
    "matrix": Feature("tensor", "float32", (2, 3)),
    "tokens": Feature("text", "string", (None,), optional=True),
}


def comparable(entry: Any) -> tuple[Any, ...]:
    """Default values as text: NaN is not equal to itself, and tf.Transform decodes empty bytes."""
    if isinstance(entry, tf.io.VarLenFeature):
        return ("list", entry.dtype)
    return (list(entry.shape), entry.dtype, str(tf.compat.as_str_any(entry.default_value)))


def test_examples_are_parsed_as_the_schema_of_the_transform_graph_says():
    expected = schema_utils.schema_as_feature_spec(example_schema(FEATURES)).feature_spec
    assert {name: comparable(entry) for name, entry in example_spec(FEATURES).items()} == {
        name: comparable(entry) for name, entry in expected.items()
    }
