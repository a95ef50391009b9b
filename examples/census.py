"""UCI Adult ("census income"): wide features of people, and whether they earn more than 50,000 dollars a year."""

from dataclasses import replace

import tensorflow as tf

from penstock import Csv, Recipe, by_glob
from penstock.transforms import categorical, numeric

NUMBERS = ("age", "capital-gain", "capital-loss", "hours-per-week")
CATEGORIES = (
    "workclass", "education", "marital-status", "occupation", "relationship", "race", "sex", "native-country",
)  # fmt: skip


def features(inputs):
    outputs = {name: numeric.standardize(inputs, name) for name in NUMBERS}
    outputs |= {
        name: categorical.vocabulary(inputs, name) for name in CATEGORIES
    }  # `?` is a missing value: it gets its own id
    outputs["age-bucket"] = numeric.bucketize(inputs, "age", 10)
    outputs["label"] = tf.cast(inputs["classification"] == ">50K", tf.int64)
    return outputs


recipe = Recipe(source=Csv("adult.data"), features=features, splits={"train": 1.0})

# `census.py:evaluated` also reads the test file, to evaluate a model that is trained on the rest
evaluated = replace(
    recipe,
    source=Csv(["adult.data", "adult.test"]),
    splits=by_glob({"train": "adult.data", "test": "adult.test"}),
)
