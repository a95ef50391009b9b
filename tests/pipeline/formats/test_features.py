from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from penstock.pipeline.formats.features import Feature, describe, serialize

PIXELS = np.zeros((4, 5, 3), np.uint8)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("image", Image.new("RGB", (5, 4)), Feature("image", "uint8", (4, 5, 3), "png")),
        ("depth", Image.new("L", (5, 4)), Feature("image", "uint8", (4, 5, 1), "png")),
        ("mask", Image.new("I;16", (5, 4)), Feature("mask", "uint16", (4, 5, 1), "png")),
        ("image", PIXELS, Feature("image", "uint8", (4, 5, 3), "png")),
        ("mask", PIXELS[:, :, 0], Feature("mask", "uint8", (4, 5, 1), "png")),
        ("x", PIXELS.astype(np.uint16)[:, :, :1], Feature("image", "uint16", (4, 5, 1), "png")),
        ("key", "a/b.jpg", Feature("key", "string", ())),
        ("label", "cat", Feature("label", "string", ())),
        ("label", 3, Feature("label", "int64", ())),
        ("text", np.str_("cat"), Feature("text", "string", ())),
        ("x", b"\xff", Feature("text", "string", ())),
        ("x", True, Feature("number", "int64", ())),
        ("x", 2**63 - 1, Feature("number", "int64", ())),
        ("x", np.uint8(3), Feature("number", "int64", ())),
        ("x", np.arange(6, dtype=np.uint8), Feature("number", "int64", (6,))),
        ("x", 1.5, Feature("number", "float32", ())),
        ("x", [1, 2.5], Feature("number", "float32", (2,))),
        ("x", np.zeros((2, 3), np.float64), Feature("number", "float32", (2, 3))),
        ("x", float("nan"), Feature("number", "float32", ())),
    ],
)
def test_values_are_described(name: str, value: Any, expected: Feature):
    assert describe(name, value, "png") == expected


@pytest.mark.parametrize(
    "value",
    [None, object(), {"a": 1}, {1}, ["a", "b"], [[1], [2, 3]], 2**63, 2**70, -(2**63) - 1, 1j, "a\udce9", 1e300],
)
def test_values_that_cannot_be_stored_are_refused(value: Any):
    with pytest.raises(ValueError, match=r"'x': expected|inhomogeneous"):
        describe("x", value, "png")


@pytest.mark.parametrize("name", ["", 3, None])
def test_names_must_be_text(name: Any):
    with pytest.raises(ValueError, match="name"):
        describe(name, 1, "png")


def test_serialized_examples_parse_in_tensorflow():
    values = {"image": b"\x89PNG", "text": "é", "n": np.int8(-3), "b": True, "v": [1, 2.5, 3]}
    values["m"] = np.arange(6).reshape(2, 3)
    described = {
        "image": Feature("image", "uint8", (4, 5, 3), "png"),
        "text": describe("text", "é", ""),
        "n": describe("n", values["n"], ""),
        "b": describe("b", values["b"], ""),
        "v": describe("v", values["v"], ""),
        "m": describe("m", values["m"], ""),
    }
    content = serialize(values, described)
    spec = {
        "image": tf.io.FixedLenFeature([], tf.string),
        "text": tf.io.FixedLenFeature([], tf.string),
        "n": tf.io.FixedLenFeature([], tf.int64),
        "b": tf.io.FixedLenFeature([], tf.int64),
        "v": tf.io.FixedLenFeature([3], tf.float32),
        "m": tf.io.FixedLenFeature([2, 3], tf.int64),
    }
    parsed = tf.io.parse_single_example(content, spec)
    assert parsed["image"] == b"\x89PNG"
    assert parsed["text"] == "é".encode()
    assert parsed["n"] == -3
    assert parsed["b"] == 1
    assert parsed["v"].numpy().tolist() == [1, 2.5, 3]
    assert parsed["m"].numpy().tolist() == [[0, 1, 2], [3, 4, 5]]


def test_equal_values_give_equal_bytes_whatever_their_order():
    described = {"b": Feature("number", "int64", ()), "a": Feature("text", "string", ())}
    one = serialize({"a": "x", "b": 1}, described)
    assert one == serialize({"b": 1, "a": "x"}, dict(reversed(described.items())))
    assert one != serialize({"b": 2, "a": "x"}, described)


def test_features_survive_the_manifest():
    import json

    for feature in (Feature("image", "uint8", (4, 5, 3), "jpeg"), Feature("label", "string", ())):
        assert Feature.from_json(json.loads(json.dumps(feature.to_json()))) == feature
