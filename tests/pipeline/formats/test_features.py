from typing import Any

import numpy as np
import pytest
from PIL import Image

from penstock.pipeline.formats.features import Feature, describe

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


def test_features_survive_the_manifest():
    import json

    for feature in (Feature("image", "uint8", (4, 5, 3), "jpeg"), Feature("label", "string", ())):
        assert Feature.from_json(json.loads(json.dumps(feature.to_json()))) == feature
