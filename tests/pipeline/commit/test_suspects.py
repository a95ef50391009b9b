"""What a run warns of: values that statistics counted though they are missing, and what is the same everywhere."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_transform as tft

from penstock.pipeline.analysis.trace import trace
from penstock.pipeline.commit.suspects import constant_outputs
from penstock.pipeline.formats.features import Feature
from penstock.pipeline.graph.savedmodel import SavedGraph
from penstock.transforms import numeric

FEATURES = {
    "x": Feature("number", "float32", (), optional=True),
    "k": Feature("number", "int64", (), optional=True),
    "s": Feature("text", "string", (), optional=True),
}


@pytest.mark.parametrize(
    ("features", "expected"),
    [
        (lambda inputs: tft.scale_to_z_score(inputs["k"]), ("k",)),
        (lambda inputs: tft.scale_to_0_1(inputs["x"]), ("x",)),
        (lambda inputs: tft.bucketize(tf.cast(inputs["k"], tf.float32) + inputs["x"], 3), ("x", "k")),
        (lambda inputs: tft.compute_and_apply_vocabulary(inputs["s"]), ()),
        (lambda inputs: tft.scale_to_z_score(numeric.fill_missing(inputs, "k", 3)), ()),
        (lambda inputs: tft.scale_to_0_1(numeric.fill_missing(inputs, "x", "mean")), ()),
        (lambda inputs: tft.scale_to_0_1(tf.where(inputs.missing["x"], 0.0, inputs["x"])), ()),
        (lambda inputs: numeric.standardize(inputs, "k"), ()),
    ],
)
def test_missing_values_that_analyzers_count_are_known(features: Callable[..., Any], expected: tuple[str, ...]) -> None:
    assert trace(lambda inputs: {"y": features(inputs)}, FEATURES).zero_filled == expected


def _features(inputs: Any) -> dict[str, Any]:
    return {
        "age": tft.scale_to_z_score(inputs["age"]),
        "income": tft.scale_to_0_1(inputs["income"]),
        "filled": tft.scale_to_0_1(numeric.fill_missing(inputs, "income", 0)),
        "planet": numeric.standardize(inputs, "planet"),
        "town": inputs["town"],
        "by_town": tft.scale_to_z_score_per_key(inputs["age"], inputs["town"]),
    }


def test_a_run_warns_by_name(make: Callable[..., Any]) -> None:
    rows = ["10,1500.5,Ulm,3,9", ",,Ulm,3,9", "30,3500.5,Ulm,3,9", "50,4500.5,Ulm,3,9"]
    table = "age,income,town,planet,unused\n" + "\n".join(rows) + "\n"
    warnings = list(make({"t.csv": table}, features=_features, shuffle=None).manifest.warnings)
    assert warnings[0].startswith("not portable, so that only ds.tf")
    assert "'by_town' for StatelessIf (control flow" in warnings[0]
    assert [warning.partition(";")[0] for warning in warnings[1:]] == [
        "column 'age': 1 of 4 values in split 'train' are missing, and the tft.* functions in `features` count them "
        "as 0",
        "column 'income': 1 of 4 values in split 'train' are missing, and the tft.* functions in `features` count them "
        "as NaN",
        "column 'town': all 4 values in split 'train' are 'Ulm', which tells a model nothing",
        "column 'planet': all 4 values in split 'train' are 3, which tells a model nothing",
        "output 'income': it is 1.0 for all of the first 4 examples, though 'income' differs among them: look at what "
        "`features` computes it with",
    ]


def test_no_shard_is_read_without_a_suspect() -> None:
    outputs = {"y": np.arange(8.0), "z": np.array([[1, np.nan], [2, np.nan]])}
    assert constant_outputs(SavedGraph("/nowhere", FEATURES), outputs, "/nowhere") == []


def test_few_equal_flags_are_no_reason_to_warn(make: Callable[..., Any]) -> None:
    table = "x\n" + "\n".join(f"{number}.5" for number in range(20)) + "\n"
    made = make({"t.csv": table}, features=lambda inputs: {"flag": numeric.is_missing(inputs, "x")})
    assert made.manifest.warnings == ()
