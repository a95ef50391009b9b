"""The portable form as it is written: of graphs that are saved without Beam, against the SavedModel."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from penstock.pipeline import portable
from penstock.pipeline.features import Feature
from penstock.pipeline.load.graph import Graph, NotPortableError
from penstock.pipeline.load.savedmodel import SavedGraph

FEATURES = {
    "x": Feature("number", "float32", ()),
    "k": Feature("number", "int64", ()),
    "s": Feature("text", "string", ()),
    "v": Feature("number", "float32", (3,)),
}
BATCH: dict[str, np.ndarray] = {
    "x": np.array([-1.5, 0.0, 2.0, np.nan, np.inf], np.float32),
    "k": np.array([0, -3, 7, -(2**63), 4]),
    "s": np.array([b"a", b"b", b"", b"?", b"a"], object),
    "v": np.array([[1, 2, 3], [3, 1, 2], [0, -1, 5], [np.nan, 0, 0], [-np.inf, 1, np.inf]], np.float32),
}

Features = Callable[[Mapping[str, Any]], dict[str, Any]]


def _save(folder: Path, features: Features, table: Any = None) -> SavedGraph:
    """A SavedModel like those that tf.Transform writes."""
    specs = {
        name: tf.TensorSpec([None, *feature.shape], feature.dtype, name=name) for name, feature in FEATURES.items()
    }
    module = tf.Module()
    module.table = table
    module.transform_fn = tf.function(features).get_concrete_function(specs)
    tf.saved_model.save(module, str(folder / "transform_fn"))
    return SavedGraph(str(folder), FEATURES)


def _dtypes(saved: SavedGraph) -> dict[str, str]:
    return {name: tensor.dtype.name for name, tensor in saved.outputs.items()}


def _open(folder: Path, content: Mapping[str, Any]) -> Graph:
    return Graph(json.loads(json.dumps(content)), lambda path: (folder / path).read_bytes())


def _export(folder: Path, features: Features, table: Any = None) -> tuple[SavedGraph, dict[str, Any]]:
    saved = _save(folder, features, table)
    return saved, portable.export(saved, _dtypes(saved))


def test_a_long_chain_of_constants_is_exported_at_once(tmp_path: Path) -> None:
    def features(inputs: Mapping[str, Any]) -> dict[str, Any]:
        factor = tf.identity(tf.constant(1.0))
        for _ in range(100):  # without a memory of what was seen, 2 to the power of 100 steps
            factor = factor * factor
        return {"y": inputs["x"] * factor}

    _, content = _export(tmp_path, features)
    assert [entry["op"] for entry in content["operations"]] == ["Mul"]


def test_a_tables_size_is_a_constant(tmp_path: Path) -> None:
    table = tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer(["a", "b"], tf.constant([0, 1], tf.int64)), -1)

    def features(inputs: Mapping[str, Any]) -> dict[str, Any]:
        found = table.lookup(inputs["s"])
        return {"y": tf.where(found < 0, table.size() + 1, found)}

    _, content = _export(tmp_path, features, table)
    assert [entry["op"] for entry in content["operations"]] == ["LookupTableFindV2", "Less", "SelectV2"]
    graph = _open(tmp_path, content)
    host = graph.run_host(BATCH)
    assert all(value.shape == (5,) for value in host.values())
    assert graph.run_device(host)["y"].tolist() == [0, 1, 3, 3, 0]
