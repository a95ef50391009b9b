"""Graphs that are saved without Beam, for tests: features of every kind, a batch of them, and the SavedModel."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from penstock.pipeline.formats.features import Feature
from penstock.pipeline.graph import exporter
from penstock.pipeline.graph.portable import PortableGraph
from penstock.pipeline.graph.savedmodel import SavedGraph

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


def save(folder: Path, features: Features, table: Any = None, stored: Mapping[str, Feature] = FEATURES) -> SavedGraph:
    """A SavedModel like those that tf.Transform writes."""
    specs = {
        name: tf.SparseTensorSpec([None, None], feature.dtype)
        if None in feature.shape
        else tf.TensorSpec([None, *feature.shape], feature.dtype, name=name)
        for name, feature in stored.items()
    }

    def function(tensors: Mapping[str, Any]) -> dict[str, Any]:
        ragged = {
            name: tf.RaggedTensor.from_sparse(value) if isinstance(value, tf.SparseTensor) else value
            for name, value in tensors.items()
        }
        return features(ragged)

    module = tf.Module()
    module.table = table
    module.transform_fn = tf.function(function, autograph=False).get_concrete_function(specs)
    tf.saved_model.save(module, str(folder / "transform_fn"))
    return SavedGraph(str(folder), stored, trust=True)


def dtypes(saved: SavedGraph) -> dict[str, str]:
    return {name: tensor.dtype.name for name, tensor in saved.outputs.items()}


def open_graph(folder: Path, content: Mapping[str, Any]) -> PortableGraph:
    return PortableGraph(json.loads(json.dumps(content)), lambda path: (folder / path).read_bytes())


def export(
    folder: Path, features: Features, table: Any = None, stored: Mapping[str, Feature] = FEATURES
) -> tuple[SavedGraph, dict[str, Any]]:
    saved = save(folder, features, table, stored)
    return saved, exporter.export(saved, dtypes(saved))


def tensors(batch: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """A batch as stored features: lists of any length become sparse tensors."""
    values: dict[str, Any] = {}
    for name, array in batch.items():
        is_lists = array.dtype == object and not isinstance(array[0], bytes)
        values[name] = tf.ragged.constant([each.tolist() for each in array]).to_sparse() if is_lists else array
        if is_lists and values[name].dtype == tf.int32:
            values[name] = tf.cast(values[name], tf.int64)
        if not is_lists:
            values[name] = tf.constant(array)
    return values
