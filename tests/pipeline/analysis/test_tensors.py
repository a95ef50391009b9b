"""Stored features as tensors: what TensorFlow parses is what tf.Transform was told."""

from tensorflow_transform.tf_metadata import schema_utils

from penstock.pipeline.analysis.tensors import example_schema
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


def test_examples_are_parsed_as_the_schema_of_the_transform_graph_says():
    expected = schema_utils.schema_as_feature_spec(example_schema(FEATURES)).feature_spec
    assert {name: repr(each) for name, each in example_spec(FEATURES).items()} == {
        name: repr(each) for name, each in expected.items()
    }  # repr: NaN is not equal to itself
