import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import tensorflow as tf

from penstock.transforms import numeric
from penstock.transforms.inputs import Inputs

from .tables import inputs, traced

RNG = np.random.default_rng(3)
AGES = pa.array(RNG.integers(17, 90, 1_000), mask=RNG.random(1_000) < 0.1)
FARES = pa.array(RNG.lognormal(3, 1, 1_000).astype(np.float32), mask=RNG.random(1_000) < 0.1)
NAMES = pa.array([f"n{number}" for number in RNG.integers(0, 7, 1_000)], mask=RNG.random(1_000) < 0.1)
TABLE = {"age": AGES, "fare": FARES, "name": NAMES}
NAN, INF = math.nan, math.inf


def column(*values: float | None) -> Inputs:
    return inputs({"x": pa.array(values, pa.float64() if any(isinstance(v, float) for v in values) else pa.int64())})


def as_pandas(values: pa.Array) -> "pd.Series[float]":
    return values.to_pandas().astype("float64")


@pytest.mark.parametrize("name", ["age", "fare"])
def test_standardize_agrees_with_pandas(name: str) -> None:
    values = as_pandas(TABLE[name])
    expected = ((values - values.mean()) / values.std(ddof=0)).fillna(0)
    np.testing.assert_allclose(numeric.standardize(inputs(TABLE), name), expected, rtol=1e-6, atol=1e-6)


def test_min_max_agrees_with_pandas_and_reaches_its_ends_exactly() -> None:
    values = as_pandas(FARES)
    expected = ((values - values.min()) / (values.max() - values.min()) * 2 - 1).to_numpy()
    actual = numeric.min_max(inputs(TABLE), "fare", -1, 1, missing="keep").numpy()
    np.testing.assert_allclose(actual, expected, rtol=1e-6, atol=1e-6)
    assert (np.nanmin(actual), np.nanmax(actual)) == (-1, 1)


def test_float64_statistics_of_what_is_stored_as_float32_reach_the_ends_too() -> None:
    values = pa.array([0.1, 0.7, 0.3])
    assert numeric.min_max(inputs({"x": values}), "x").numpy()[:2].tolist() == [0, 1]
    assert numeric.bucketize(inputs({"x": values}), "x", 3).numpy().tolist() == [1, 2, 2]


@pytest.mark.parametrize("name", ["age", "fare"])
@pytest.mark.parametrize("buckets", [2, 5, 10])
def test_bucketize_agrees_with_numpy(name: str, buckets: int) -> None:
    values = as_pandas(TABLE[name]).to_numpy()
    known = values[~np.isnan(values)]
    boundaries = np.quantile(known, np.arange(1, buckets) / buckets, method="inverted_cdf")
    expected = np.where(np.isnan(values), buckets, np.searchsorted(boundaries, values, side="right"))
    assert numeric.bucketize(inputs(TABLE), name, buckets).numpy().tolist() == expected.tolist()


def test_robust_scale_agrees_with_numpy() -> None:
    values = as_pandas(AGES)
    low, median, high = np.quantile(values.dropna(), [0.25, 0.5, 0.75], method="inverted_cdf")
    expected = ((values - median) / (high - low)).fillna(0)
    np.testing.assert_allclose(numeric.robust_scale(inputs(TABLE), "age"), expected, rtol=1e-6, atol=1e-6)


def test_standardize_by_key_agrees_with_pandas() -> None:
    table = pd.DataFrame({"fare": as_pandas(FARES), "name": NAMES.to_pandas()})
    groups = table.groupby("name")["fare"]
    mean = groups.transform("mean").fillna(table["fare"].mean())
    std = groups.transform(lambda values: values.std(ddof=0)).fillna(table["fare"].std(ddof=0))
    expected = ((table["fare"] - mean) / std).fillna(0)
    np.testing.assert_allclose(numeric.standardize_by_key(inputs(TABLE), "fare", "name"), expected, atol=1e-5)


def test_keys_that_training_never_saw_use_the_whole_columns_moments() -> None:
    training = {"x": pa.array([1.0, 3.0, 7.0, 7.0, None]), "key": pa.array(["a", "a", "b", "b", "c"])}
    given = {"x": pa.array([1.0, 9.0, 9.0, 9.0, 9.0]), "key": pa.array(["a", "b", "c", "new", None])}
    actual = numeric.standardize_by_key(inputs(given, training), "x", "key").numpy()
    whole = (9.0 - 4.5) / np.std([1.0, 3.0, 7.0, 7.0])
    np.testing.assert_allclose(actual, [-1, 2, whole, whole, whole], rtol=1e-6)  # key b is constant: divided by 1


def test_keys_may_be_integers_and_may_be_none_at_all() -> None:
    training = {"x": pa.array([1.0, 3.0, 10.0, 30.0]), "key": pa.array([7, 7, 11, 11])}
    assert numeric.standardize_by_key(inputs(training), "x", "key").numpy().tolist() == [-1, 1, -1, 1]
    nothing = {"x": pa.array([], pa.float64()), "key": pa.array([], pa.int64())}
    assert numeric.standardize_by_key(inputs(training, nothing), "x", "key").numpy().tolist() == [1, 3, 10, 30]


HELPERS: dict[str, Callable[[Inputs], Any]] = {
    "standardize": partial(numeric.standardize, name="x"),
    "standardize zero": partial(numeric.standardize, name="x", missing="zero", clip=2.0),
    "min_max": partial(numeric.min_max, name="x"),
    "robust_scale": partial(numeric.robust_scale, name="x"),
    "log": partial(numeric.log, name="x", offset=1.0),
    "fill_missing": partial(numeric.fill_missing, name="x", value="mean"),
    "by key": partial(numeric.standardize_by_key, name="x", key="key"),
}


@pytest.mark.parametrize("helper", HELPERS.values(), ids=HELPERS)
@pytest.mark.parametrize("odd", [[NAN], [INF], [-INF], [None], [NAN, INF, -INF, None]])
def test_what_is_not_finite_poisons_nothing(helper: Callable[[Inputs], Any], odd: list[float | None]) -> None:
    values = [1.0, 2.0, 4.0]
    with_odd = pa.array([*values, *odd], pa.float64())
    keys = pa.array(["a"] * len(with_odd))
    actual = helper(inputs({"x": with_odd, "key": keys})).numpy()
    clean = helper(inputs({"x": pa.array(values), "key": keys[:3]})).numpy()
    assert np.isfinite(actual).all()
    assert actual[:3].tolist() == clean.tolist()


@pytest.mark.parametrize("helper", HELPERS.values(), ids=HELPERS)
@pytest.mark.parametrize("training", [[], [None, None], [NAN, INF]])
def test_columns_without_any_value_give_finite_outputs(
    helper: Callable[[Inputs], Any], training: list[float | None]
) -> None:
    given = {"x": pa.array([1.0, None]), "key": pa.array(["a", "a"])}
    nothing = {"x": pa.array(training, pa.float64()), "key": pa.array(["a"] * len(training), pa.string())}
    assert np.isfinite(helper(inputs(given, nothing)).numpy()).all()


def test_constant_columns_are_declared() -> None:
    constant = column(0.1, 0.1, 0.1)
    np.testing.assert_allclose(numeric.standardize(constant, "x"), [0, 0, 0], atol=1e-8)
    assert numeric.min_max(constant, "x", 2, 3).numpy().tolist() == [2, 2, 2]
    assert numeric.bucketize(constant, "x", 3).numpy().tolist() == [2, 2, 2]
    assert numeric.robust_scale(column(5, 5, 5), "x").numpy().tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("missing", "expected"), [("mean", [-1.0, 1.0, 0.0]), ("zero", [-1.0, 1.0, -2.0]), ("keep", [-1.0, 1.0, NAN])]
)
def test_missing_values_become_what_was_asked_for(missing: numeric.Missing, expected: list[float]) -> None:
    for actual in (
        numeric.standardize(column(1, 3, None), "x", missing=missing),
        numeric.standardize(column(1.0, 3.0, NAN), "x", missing=missing),
        numeric.min_max(column(1, 3, None), "x", -1, 1, missing=missing),
    ):
        np.testing.assert_array_equal(actual, expected)


def test_clipping_is_in_standard_deviations_and_keeps_missing_values() -> None:
    actual = numeric.standardize(column(*[0.0] * 99, 100.0, None), "x", clip=3, missing="keep").numpy()
    np.testing.assert_array_equal(actual[99:], [3, NAN])
    training = {"x": pa.array([0.0, 10.0])}
    beyond = inputs({"x": pa.array([-5.0, 5.0, 20.0])}, training)
    assert numeric.min_max(beyond, "x").numpy().tolist() == [-0.5, 0.5, 2]
    assert numeric.min_max(beyond, "x", clip=True).numpy().tolist() == [0, 0.5, 1]


def test_float32_far_from_0_keeps_its_spread() -> None:
    values = (10_000 + RNG.normal(size=5_000)).astype(np.float32)
    given = inputs({"x": pa.array(values), "key": pa.array(["a"] * len(values))})
    for actual in (numeric.standardize(given, "x"), numeric.standardize_by_key(given, "x", "key")):
        assert np.std(actual.numpy().astype(np.float64)) == pytest.approx(1, rel=1e-6)


def test_log() -> None:
    given = column(0.0, 1.0, math.e, -2.0, None)
    np.testing.assert_allclose(numeric.log(given, "x"), [0, 0, 1, 0, 0], atol=1e-7)
    actual = numeric.log(given, "x", 1.0, undefined=-9)
    np.testing.assert_allclose(actual, [0, np.log(2), np.log1p(math.e), -9, -9], rtol=1e-6)
    assert numeric.log(column(1e-20), "x", 1.0).numpy()[0] == np.float32(1e-20)


def test_clip_and_fill_missing() -> None:
    given = column(-1.0, 5.0, None, INF)
    np.testing.assert_array_equal(numeric.clip(given, "x", 0, 2), [0, 2, NAN, NAN])
    np.testing.assert_array_equal(numeric.clip(given, "x", high=2), [-1, 2, NAN, NAN])
    np.testing.assert_array_equal(numeric.fill_missing(given, "x", "mean"), [-1, 5, 2, 2])
    np.testing.assert_array_equal(numeric.fill_missing(given, "x", "median"), [-1, 5, -1, -1])
    np.testing.assert_array_equal(numeric.fill_missing(given, "x", 0.5), [-1, 5, 0.5, 0.5])
    whole = numeric.fill_missing(column(4, None), "x", 7)
    assert (whole.dtype.name, whole.numpy().tolist()) == ("int64", [4, 7])
    assert numeric.fill_missing(column(4, None), "x", "mean").dtype.name == "float32"


def test_is_missing() -> None:
    assert numeric.is_missing(column(1.0, None, NAN, INF), "x").numpy().tolist() == [0, 1, 1, 1]
    assert numeric.is_missing(column(0, None), "x").numpy().tolist() == [0, 1]
    assert numeric.is_missing(inputs({"x": pa.array(["", None])}), "x").numpy().tolist() == [0, 1]


@pytest.mark.parametrize(
    "helper",
    [
        partial(numeric.standardize, name="age", clip=3.0),
        partial(numeric.standardize_by_key, name="fare", key="name"),
        partial(numeric.min_max, name="fare", clip=True),
        partial(numeric.robust_scale, name="age"),
        partial(numeric.bucketize, name="age", num_buckets=10),
        partial(numeric.log, name="fare"),
        partial(numeric.clip, name="fare", low=1),
        partial(numeric.fill_missing, name="age", value="median"),
        partial(numeric.is_missing, name="name"),
    ],
    ids=lambda helper: helper.func.__name__,
)
def test_a_traced_graph_gives_the_same_bits(helper: Any) -> None:
    given = inputs(TABLE)
    eager = helper(given)
    np.testing.assert_array_equal(traced(helper, given), eager.numpy())
    assert eager.shape == (1_000,)
    assert eager.dtype.name == ("int64" if helper.func in (numeric.bucketize, numeric.is_missing) else "float32")


def test_helpers_refuse_columns_that_features_made() -> None:
    given = inputs(TABLE)
    given["new"] = given["age"] * 2
    with pytest.raises(ValueError, match=r"standardize: expected .* a raw column.*'new' which `features` made"):
        numeric.standardize(given, "new")
    given["age"] = given["age"] * 2
    with pytest.raises(ValueError, match=r"bucketize: .*'age'.* replaced it.*tft\.bucketize"):
        numeric.bucketize(given, "age", 3)
    with pytest.raises(ValueError, match=r"min_max: .*found 'other'; use tft\.scale_by_min_max"):
        numeric.min_max(given, "other")
    with pytest.raises(ValueError, match="expected a column of numbers, found 'name' of string"):
        numeric.standardize(given, "name")
    with pytest.raises(ValueError, match="expected a key of text or integers, found 'fare' of float32"):
        numeric.standardize_by_key(inputs(TABLE), "age", "fare")
    with pytest.raises(ValueError, match="without statistics; pass on"):
        numeric.standardize(Inputs({"x": column(1.0)["x"]}), "x")


@pytest.mark.parametrize(
    "call",
    [
        lambda given: numeric.standardize(given, "x", missing="drop"),  # type: ignore[arg-type]
        lambda given: numeric.standardize(given, "x", clip=0),
        lambda given: numeric.min_max(given, "x", 1, 1),
        lambda given: numeric.bucketize(given, "x", 1),
        lambda given: numeric.bucketize(given, "x", 3, epsilon=0.0),
        lambda given: numeric.log(given, "x", NAN),
        lambda given: numeric.clip(given, "x"),
        lambda given: numeric.clip(given, "x", 2, 1),
        lambda given: numeric.fill_missing(given, "x", "mode"),  # type: ignore[arg-type]
        lambda given: numeric.fill_missing(given, "x", NAN),
        lambda given: numeric.robust_scale(given, "x", missing=None),  # type: ignore[arg-type]
    ],
)
def test_arguments_are_checked(call: Callable[[Inputs], object]) -> None:
    with pytest.raises(ValueError, match=r"expected .* found .*fix the recipe"):
        call(column(1.0, 2.0))


@pytest.mark.parametrize(
    "helper",
    [
        numeric.standardize,
        numeric.min_max,
        numeric.robust_scale,
        partial(numeric.bucketize, num_buckets=3),
        numeric.log,
        partial(numeric.clip, low=0),
        partial(numeric.fill_missing, value=0),
        partial(numeric.standardize_by_key, key="k"),
    ],
)
def test_columns_of_lists_are_refused_by_name(helper: Callable[..., Any]) -> None:
    given = Inputs({"l": tf.ragged.constant([[1.0], []]), "k": tf.constant(["a", "b"])})
    with pytest.raises(ValueError, match=r"expected a column with one number in a row, found 'l', a column of lists"):
        helper(given, "l")


def test_a_key_of_lists_is_refused_by_name() -> None:
    given = Inputs({"x": tf.constant([1.0, 2.0]), "l": tf.ragged.constant([["a"], []])})
    with pytest.raises(ValueError, match="expected a key for each row, found 'l', a column of lists"):
        numeric.standardize_by_key(given, "x", "l")
