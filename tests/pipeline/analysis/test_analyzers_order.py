"""Analyzers whose results have the same bits however examples are ordered, and grouped in batches and units."""

import itertools
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf
import tensorflow_transform as tft
from tensorflow_transform import analyzers

from penstock.pipeline.analysis.phases import PhaseReducer, Results, evaluate
from penstock.pipeline.analysis.trace import Analysis, trace
from penstock.pipeline.formats.features import Feature

ROWS = 300
MOST = np.iinfo(np.int64).max
FEATURES = {
    "x": Feature("number", "float32", ()),
    "y": Feature("number", "float32", ()),
    "n": Feature("number", "int64", ()),
    "top": Feature("number", "int64", ()),
    "key": Feature("text", "string", ()),
}


def table() -> pa.RecordBatch:
    """Among the floats both zeros, NaNs of both signs and infinite ones; among the integers the largest one."""
    generator = np.random.default_rng(3)
    x = generator.choice(np.array([0.0, -0.0, -1.5, np.inf, -np.inf], np.float32), ROWS)
    y = generator.choice(np.array([0.1, 1e8, 2.5], np.float32), ROWS)
    y[:2] = np.array([0x7FC00001, 0xFFC00000], np.uint32).view(np.float32)
    columns = {
        "x": pa.array(x),
        "y": pa.array(y),
        "n": pa.array(generator.integers(-(2**62), 2**62, ROWS)),
        "top": pa.array(generator.choice(np.array([MOST, MOST - 1, 5]), ROWS)),
        "key": [f"k{number}" for number in generator.zipf(1.5, ROWS) % 9],
    }
    return pa.RecordBatch.from_pydict(columns)


def order_free(inputs: Any) -> dict[str, Any]:
    x, n, top, key = inputs["x"], inputs["n"], inputs["top"], inputs["key"]
    counts, values = tft.histogram(n % 7, categorical=True)
    ids = tft.compute_and_apply_vocabulary(key, vocab_filename="keys")
    tft.vocabulary(key, vocab_filename="top", top_k=3, store_frequency=True)
    tft.vocabulary(key, vocab_filename="shuffled", fingerprint_shuffle=True)
    tft.vocabulary(n % 11, vocab_filename="numbers", frequency_threshold=20)
    tft.vocabulary(key, vocab_filename="covered", top_k=2, coverage_top_k=1, key_fn=lambda key: key[-1:])
    keys, per_key = tft.count_per_key(key)
    _, least, most = analyzers._min_and_max_per_key(top, key)
    finite = tf.where(tf.math.is_finite(x), x, 0.0)
    return {
        "least": tft.min(x) + tft.max(x) + 0 * x,
        "zero": tft.max(finite) + tft.min(finite) + 0 * x,
        "nan": inputs["y"] + tft.max(inputs["y"]),
        "each": tft.max(tf.stack([n, top], 1), reduce_instance_dims=False)[0] + n,
        "most": tft.max(top) + tft.min(top) + 0 * n,
        "by_key": tf.reduce_sum(least - most) + 0 * n,
        "sum": tft.sum(n) + tft.size(n) + 0 * n,
        "histogram": tf.reduce_sum(counts * values) + 0 * n,
        "per_key": tf.reduce_max(per_key) + tf.cast(tf.size(keys), tf.int64) + 0 * n,
        "phases": ids + tft.max(ids),
    }


ORDERED: dict[str, Callable[[Any], Any]] = {
    "mean": lambda inputs: tft.mean(inputs["x"]),
    "sum of floats": lambda inputs: tft.sum(inputs["y"]),
    "sum of few bits": lambda inputs: tft.sum(tf.cast(inputs["n"], tf.int32)),
    "quantiles": lambda inputs: tft.quantiles(inputs["x"], 4, 0.01)[0, 0],
    "covariance": lambda inputs: tft.covariance(tf.stack([inputs["x"], inputs["x"]], 1), tf.float32)[0, 0],
    "floats by key": lambda inputs: tft.scale_to_0_1_per_key(inputs["x"], inputs["key"]),
    "weights": lambda inputs: tft.compute_and_apply_vocabulary(inputs["key"], weights=inputs["x"]),
    "labels": lambda inputs: tft.compute_and_apply_vocabulary(inputs["key"], labels=inputs["n"] % 2),
    "approximate": lambda inputs: tft.experimental.approximate_vocabulary(inputs["key"], 3),
    "a later phase": lambda inputs: tft.mean(tft.compute_and_apply_vocabulary(inputs["key"])),
}


def results_of(analysis: Analysis, units: list[list[pa.RecordBatch]], folder: Path) -> Results:
    results: Results = {}
    for phase in range(analysis.phases):
        columns = analysis.columns if phase else analysis.first_columns
        reducer = PhaseReducer(analysis, results, columns)
        contents = []
        for parts in units:
            unit = reducer.start()
            for part in parts:
                unit.add(part.select(list(columns)))
            contents.append(unit.finish())
        reducer.close()
        results = evaluate(
            analysis, results, [partial(bytes, each) for each in contents], contents, {}, str(folder / f"{phase}")
        )
    return results


def test_the_order_and_the_groups_of_examples_change_no_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    analysis = trace(order_free, FEATURES)
    assert analysis.is_order_free
    assert analysis.phases == 2
    rows = table()
    expected = results_of(analysis, [[rows]], tmp_path / "whole")
    generator = np.random.default_rng(4)
    for number, batch in enumerate([1, 7, 64, 300]):
        monkeypatch.setattr("penstock.pipeline.analysis.trace.TABLE_BATCH", batch)
        shuffled = rows.take(pa.array(generator.permutation(ROWS)))
        ends = [0, *sorted(generator.integers(0, ROWS, 5)), ROWS]
        units = [[shuffled.slice(start, end - start)] for start, end in itertools.pairwise(ends)]
        assert results_of(analysis, units, tmp_path / f"{number}") == expected, batch


@pytest.mark.parametrize("name", ORDERED)
def test_analyzers_that_follow_the_order_claim_nothing(name: str):
    def features(inputs: Any) -> dict[str, Any]:
        value = ORDERED[name](inputs)
        return {"n": inputs["n"] + (tf.cast(tf.strings.length(value), tf.int64) if value.dtype == tf.string else 0)}

    assert not trace(features, FEATURES).is_order_free


def test_statistics_of_our_own_claim_it():
    def features(inputs: Any) -> dict[str, Any]:
        return {"x": inputs["x"] - tf.cast(inputs.statistics.moments("x").mean, tf.float32) + tft.max(inputs["x"])}

    assert trace(features, FEATURES).is_order_free
