"""The portable form as it is written: of graphs that are saved without Beam, against the SavedModel."""

import importlib
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from penstock.pipeline.graph import exporter
from penstock.pipeline.graph.operations import OPERATIONS
from penstock.pipeline.graph.portable import NotPortableError

from .saved_graphs import BATCH, Features, dtypes, export, open_graph, save, tensors


def test_a_long_chain_of_constants_is_exported_at_once(tmp_path: Path) -> None:
    def features(inputs: Mapping[str, Any]) -> dict[str, Any]:
        factor = tf.identity(tf.constant(1.0))
        for _ in range(100):  # without a memory of what was seen, 2 to the power of 100 steps
            factor = factor * factor
        return {"y": inputs["x"] * factor}

    _, content = export(tmp_path, features)
    assert [entry["op"] for entry in content["operations"]] == ["Mul"]


def test_a_long_chain_of_operations_is_exported(tmp_path: Path) -> None:
    def features(inputs: Mapping[str, Any]) -> dict[str, Any]:
        x = inputs["k"]
        for _ in range(2000):
            x = x + 1
        return {"y": x}

    _, content = export(tmp_path, features)
    assert len(content["operations"]) == 2000
    graph = open_graph(tmp_path, content)
    assert graph.run_device(graph.run_host(BATCH))["y"][:3].tolist() == [2000, 1997, 2007]


def test_a_tables_size_is_a_constant(tmp_path: Path) -> None:
    table = tf.lookup.StaticHashTable(
        tf.lookup.KeyValueTensorInitializer(["a", "b"], tf.constant([0, 1], tf.int64)), -1
    )

    def features(inputs: Mapping[str, Any]) -> dict[str, Any]:
        found = table.lookup(inputs["s"])
        return {"y": tf.where(found < 0, table.size() + 1, found)}

    _, content = export(tmp_path, features, table)
    assert [entry["op"] for entry in content["operations"]] == ["LookupTableFindV2", "Less", "SelectV2"]
    graph = open_graph(tmp_path, content)
    host = graph.run_host(BATCH)
    assert all(value.shape == (5,) for value in host.values())
    assert graph.run_device(host)["y"].tolist() == [0, 1, 3, 3, 0]


def _edges(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """What frameworks do in ways of their own."""
    x, k, v = inputs["x"], inputs["k"], inputs["v"]
    boundaries = tf.constant([[0.0, 1.0, 2.0], [1.0, 2.0, 9.0], [-5.0, 0.0, 0.5]])
    return {
        "sign": tf.sign(x),
        "sign_of_integers": tf.sign(tf.cast(v > 0, tf.int32) - 1),
        "floor_div": x // 0.1,
        "floor_mod": tf.math.floormod(tf.where(tf.math.is_finite(x), x, 5.5), -2.0),
        "reversed": v[..., ::-1],
        "reversed_by_two": v[:, 2:0:-2],
        "reversed_and_new": v[:, tf.newaxis, ::-1],
        "reversed_to_nothing": v[:, 0:2:-1],
        "last": v[:, -1],
        "gathered": tf.gather(v, [2, 0], axis=-1),
        "summed_over_nothing": tf.reduce_sum(v, axis=[]),
        "largest": tf.reduce_max(v, axis=1),
        "buckets": tf.raw_ops.Bucketize(input=x, boundaries=[0.0, 1.0]),
        "left": tf.searchsorted([0.0, 1.0, 2.0], x),
        "right": tf.searchsorted([0.0, 1.0, 2.0], x, side="right"),
        "rows_left": tf.transpose(tf.searchsorted(boundaries, tf.transpose(v))),
        "rows_right": tf.transpose(tf.searchsorted(boundaries, tf.transpose(v), side="right")),
        "maximum": tf.maximum(x, 0.0),
        "text": tf.strings.as_string(k),
        "from_text": tf.cast(tf.equal(tf.strings.as_string(k), "-3"), tf.int32),
        "small_text": tf.strings.as_string(tf.cast(v > 0, tf.int8)),
    }


@pytest.mark.parametrize(
    "framework",
    [
        "numpy",
        "tensorflow",
        pytest.param("torch", marks=pytest.mark.extras("torch")),
        pytest.param("jax", marks=pytest.mark.extras("jax")),
    ],
)
def test_edges_are_as_in_tensorflow(tmp_path: Path, framework: str) -> None:
    module = importlib.import_module(framework)
    saved, content = export(tmp_path, _edges)
    assert content["unsupported"] == []
    expected = {name: value.numpy() for name, value in saved.on_stored(tensors(BATCH)).items()}
    graph = open_graph(tmp_path, content)
    host = {name: value for name, value in graph.run_host(BATCH).items() if value.dtype != object}
    if framework == "jax":
        found = module.jit(graph.run_device)(host)
    else:
        convert = {"numpy": np.asarray, "tensorflow": tf.constant}.get(framework) or module.from_numpy
        found = graph.run_device({name: convert(value) for name, value in host.items()})
    strings = {name for name, value in expected.items() if value.dtype == object}
    assert found.keys() == expected.keys() - strings
    whole = {**graph.run_host(BATCH), **found}
    for name, value in expected.items():
        np.testing.assert_array_equal(np.asarray(whole[name]), value, name)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda inputs: tf.gather(inputs["v"], tf.zeros_like(inputs["v"], tf.int32), batch_dims=1), "batch_dims"),
        (lambda inputs: tf.reduce_mean(tf.cast(inputs["v"], tf.int32), axis=1), "Mean of integers"),
        (lambda inputs: tf.strings.regex_replace(inputs["s"], "x*", "-"), "'x\\*' \\(it matches the empty text"),
        (lambda inputs: tf.strings.regex_replace(inputs["s"], "(?i)x", "-"), "it has a flag"),
        (lambda inputs: tf.strings.regex_replace(inputs["s"], "[z-a]", "-"), "it is none: bad character range"),
        (lambda inputs: tf.strings.regex_replace(inputs["s"], b"\xff", "-"), "pattern that is no UTF-8"),
        (lambda inputs: tf.strings.join([inputs["s"]] * 2, b"\xff"), "StringJoin with a separator that is no UTF-8"),
        (lambda inputs: tf.strings.unicode_script(tf.cast(inputs["k"], tf.int32)), "UnicodeScript"),
        (lambda inputs: tf.cond(inputs["x"][0] > 0, lambda: inputs["x"], lambda: inputs["x"] + 1), "control flow"),
    ],
)
def test_what_only_tensorflow_can_do_is_named(tmp_path: Path, make: Callable[..., Any], reason: str) -> None:
    _, content = export(tmp_path, lambda inputs: {"y": make(inputs), "x": inputs["x"]})
    [entry] = content["unsupported"]
    assert re.search(reason, entry["op"])
    assert entry["outputs"] == ["y"]
    assert list(content["outputs"]) == ["x"]
    with pytest.raises(NotPortableError, match=reason):
        open_graph(tmp_path, content)


def _examples() -> list[bytes]:
    """The batch as it is stored; a value that is missing is left out."""
    rows = []
    for x, k, s, v in zip(*(values.tolist() for values in BATCH.values()), strict=True):
        example = tf.train.Example()
        feature = example.features.feature
        feature["x"].float_list.value.append(x)
        feature["k"].int64_list.value.append(k)
        feature["s"].bytes_list.value.append(s)
        feature["v"].float_list.value.extend(v)
        rows.append(example.SerializeToString())
    return rows


def _written(folder: Path, features: Features) -> dict[str, Any]:
    saved = save(folder, features)
    expected = {name: value.numpy() for name, value in saved.on_stored(tensors(BATCH)).items()}
    differences = exporter.write(saved, dtypes(saved), _examples(), expected)
    content: dict[str, Any] = json.loads((folder / "portable.json").read_text())
    assert len(differences) == len(content["unsupported"])
    return content


def test_what_is_written_does_the_same(tmp_path: Path) -> None:
    def features(inputs: Mapping[str, Any]) -> dict[str, Any]:
        arithmetic = (inputs["x"] * 0.1) * 0.3 / 3.0  # which TensorFlow rewrites
        return {**_edges(inputs), "s": inputs["s"], "arithmetic": arithmetic, "mean": tf.reduce_mean(inputs["v"], 1)}

    content = _written(tmp_path, features)
    assert content["unsupported"] == []
    assert content["outputs"].keys() >= {"arithmetic", "mean", "sign"}


def test_what_differs_is_not_portable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(OPERATIONS, "Exp", lambda backend, _, value: value * 1.001)
    content = _written(tmp_path, lambda inputs: {"y": tf.exp(inputs["v"]), "x": inputs["x"]})
    assert content["unsupported"] == [{"op": "what differs without TensorFlow", "outputs": ["y"]}]
    with pytest.raises(NotPortableError, match=r"what differs without TensorFlow \(for y\)"):
        open_graph(tmp_path, content)


def test_what_depends_on_the_other_examples_of_a_batch_is_not_portable(tmp_path: Path) -> None:
    def features(inputs: Mapping[str, Any]) -> dict[str, Any]:
        k = tf.cast(inputs["k"] % 5, tf.float32)
        return {"centered": k - tf.reduce_mean(k), "x": inputs["x"]}

    content = _written(tmp_path, features)
    assert content["unsupported"] == [{"op": "what depends on the other examples of a batch", "outputs": ["centered"]}]


def test_what_fails_is_not_portable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise ValueError("no such thing")

    monkeypatch.setitem(OPERATIONS, "Exp", fail)
    content = _written(tmp_path, lambda inputs: {"y": tf.exp(inputs["v"]), "x": inputs["x"]})
    assert content["unsupported"] == [{"op": "what fails without TensorFlow: no such thing", "outputs": ["x", "y"]}]
