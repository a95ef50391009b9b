"""The worked examples of `inputs.statistics` in docs/recipes.md give what they promise."""

import re
from typing import Any

import numpy as np
import pyarrow as pa
import tensorflow as tf
from helpers import REPOSITORY

from penstock.transforms import categorical

from .tables import inputs


def example(name: str) -> Any:
    """A function of docs/recipes.md."""
    blocks = re.findall(r"```python\n(.*?)```", (REPOSITORY / "docs" / "recipes.md").read_text(), re.DOTALL)
    names: dict[str, Any] = {"tf": tf, "categorical": categorical}
    exec(next(block for block in blocks if f"def {name}(" in block), names)
    return names[name]


def test_class_weights(tmp_path: Any) -> None:
    labels = ["cat"] * 6 + ["dog"] * 2 + ["owl"] * 1
    given = inputs(
        {"label": pa.array(["dog", "cat", "owl", "elk"])}, training={"label": pa.array(labels)}, folder=tmp_path
    )
    outputs = tf.function(lambda: example("class_weights")(given), autograph=False)()  # in a graph, as in a run
    assert outputs["label"].numpy().tolist() == [1, 0, 2, -1]
    np.testing.assert_allclose(outputs["weight"], [9 / (3 * 2), 9 / (3 * 6), 9 / (3 * 1), 0], rtol=1e-6)


def test_masks_without_the_ignored_class() -> None:
    masks = np.array([[[0, 0], [1, 255]], [[2, 0], [255, 255]]], np.uint8)[..., np.newaxis]
    outputs = example("without_ignored")(inputs({}, images={"mask": masks}))
    assert outputs["mask"].numpy().tolist() == [[[0, 0], [1, -1]], [[2, 0], [-1, -1]]]
    few, many = 5 / (3 * 1), 5 / (3 * 3)
    np.testing.assert_allclose(outputs["weight"], [[[many, many], [few, 0]], [[few, many], [0, 0]]], rtol=1e-6)
