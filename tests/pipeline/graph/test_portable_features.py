"""The portable graph against the SavedModel that it was made of, over the common features."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import differences

from penstock.pipeline.formats.features import Feature
from penstock.pipeline.graph.portable import NotPortableError, PortableGraph
from penstock.transforms import text

pytestmark = pytest.mark.slow

FEATURES = {
    "x": Feature("number", "float32", ()),
    "k": Feature("number", "int64", ()),
    "s": Feature("text", "string", ()),
    "v": Feature("number", "float32", (3,)),
}
# Outputs that another library's functions compute, and by how many units in the last place they may differ.
ULPS = {"log1p": 3, "sqrt": 1}


def _features(inputs: Mapping[str, Any]) -> dict[str, Any]:
    import tensorflow as tf
    import tensorflow_transform as tft

    x, k, s, v = inputs["x"], inputs["k"], inputs["s"], inputs["v"]
    words = text.words(tf.strings.join([s, tf.strings.as_string(k % 5), s], " "))
    ids = text.word_ids(words, top_k=6, name="words")
    return {
        "words": text.pad(ids + 1, 4),
        "bag": text.bag_of_words(ids, 7),
        "tfidf": text.tfidf(ids, 7),
        "buckets_of_unknown": tft.compute_and_apply_vocabulary(s, num_oov_buckets=3, top_k=2, vocab_filename="three"),
        "hash": tft.hash_strings(s, 100),
        "strong_hash": tft.hash_strings(s, 100, key=[1, 2]),
        "z_score": tft.scale_to_z_score(x),
        "z_score_elementwise": tft.scale_to_z_score(v, elementwise=True),
        "z_score_of_integers": tft.scale_to_z_score(tf.cast(k, tf.float32)),
        "unit": tft.scale_to_0_1(x),
        "range": tft.scale_by_min_max(x, -1.0, 1.0),
        "buckets": tft.bucketize(x, 4),
        "given_buckets": tft.apply_buckets(x, tf.constant([[0.0, 1.0, 2.0]])),
        "vocabulary": tft.compute_and_apply_vocabulary(s),
        "top": tft.compute_and_apply_vocabulary(s, top_k=2, default_value=99),
        "frequent": tft.compute_and_apply_vocabulary(s, frequency_threshold=2, vocab_filename="frequent"),
        "one_bucket": tft.compute_and_apply_vocabulary(s, num_oov_buckets=1, top_k=2, vocab_filename="one"),
        "one_hot": tf.one_hot(tft.compute_and_apply_vocabulary(s, vocab_filename="hot"), 5),
        "log1p": tf.math.log1p(tf.abs(x)),
        "sqrt": tf.sqrt(tf.abs(x)),
        "reshaped": tf.reshape(x, [-1, 1]),
        "stacked": tf.stack([x, x * 2.0], axis=1),
        "selected": tf.where(x > 1.0, x, tf.zeros_like(x)),
        "text": s,
        "integers": k * 2 + 1,
        "is_a": tf.cast(tf.equal(s, "a"), tf.int64),
        "sliced": v[:, 1:],
        "summed": tf.reduce_sum(v, axis=1),
    }


def _write(folder: Path, features: Callable[[Mapping[str, Any]], dict[str, Any]]) -> str:
    import tensorflow as tf
    import tensorflow_transform.beam as tft_beam
    from tensorflow_transform.beam.tft_beam_io import transform_fn_io
    from tensorflow_transform.tf_metadata import dataset_metadata, schema_utils

    spec = {
        name: tf.io.FixedLenFeature(list(feature.shape), tf.as_dtype(feature.dtype))
        for name, feature in FEATURES.items()
    }
    rows = [{name: values[row] for name, values in _batch(200).items()} for row in range(200)]
    metadata = dataset_metadata.DatasetMetadata(schema_utils.schema_from_feature_spec(spec))
    with tft_beam.Context(temp_dir=str(folder / "temporary")):
        function = (rows, metadata) | tft_beam.AnalyzeDataset(features)
        _ = function | transform_fn_io.WriteTransformFn(str(folder / "graph"))
    return str(folder / "graph")


def _batch(rows: int, seed: int = 0) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(seed)
    letters = generator.choice(list("abcde" if seed == 0 else "abcdefg"), rows)
    return {
        "x": (generator.normal(size=rows) * 3).astype(np.float32),
        "k": generator.integers(0, 100, rows),
        "s": np.array([letter.encode() for letter in letters], object),
        "v": generator.normal(size=(rows, 3)).astype(np.float32),
    }


@pytest.fixture(scope="module")
def graph_path(tmp_path_factory: pytest.TempPathFactory) -> str:
    return _write(tmp_path_factory.mktemp("portable"), _features)


@pytest.fixture(scope="module")
def graph(graph_path: str) -> PortableGraph:
    import tensorflow as tf

    from penstock.pipeline.graph import exporter
    from penstock.pipeline.graph.savedmodel import SavedGraph

    function = tf.saved_model.load(f"{graph_path}/transform_fn").transform_fn
    outputs = {name: spec.dtype.name for name, spec in function.structured_outputs.items()}
    content = json.loads(json.dumps(exporter.export(SavedGraph(graph_path, FEATURES), outputs)))
    assert content["unsupported"] == []
    return PortableGraph(content, lambda path: (Path(graph_path) / path).read_bytes())


@pytest.fixture(scope="module")
def expected(graph_path: str) -> dict[str, np.ndarray]:
    import tensorflow as tf

    function = tf.saved_model.load(f"{graph_path}/transform_fn").transform_fn
    inputs = {name: tf.constant(values) for name, values in _batch(500, 1).items()}
    return {name: value.numpy() for name, value in function(inputs).items()}


def _dtypes(arrays: Mapping[str, Any]) -> dict[str, np.dtype]:
    return {name: np.asarray(values).dtype for name, values in arrays.items()}


def _but_text(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What a device may hold."""
    return {name: values for name, values in arrays.items() if name != "text"}


def test_numpy(graph: PortableGraph, expected: dict[str, np.ndarray]) -> None:
    found = graph.run_device(graph.run_host(_batch(500, 1)))
    assert _dtypes(found) == _dtypes(expected)
    assert differences(found, expected, ULPS) == []


def test_tensorflow(graph: PortableGraph, expected: dict[str, np.ndarray]) -> None:
    import tensorflow as tf

    host = {name: tf.constant(values) for name, values in graph.run_host(_batch(500, 1)).items()}
    found = {name: value.numpy() for name, value in graph.run_device(host).items()}
    assert _dtypes(found) == _dtypes(expected)
    assert differences(found, expected) == []


@pytest.mark.extras("torch")
def test_torch(graph: PortableGraph, expected: dict[str, np.ndarray]) -> None:
    import torch

    host = graph.run_host(_batch(500, 1))
    tensors = {name: torch.from_numpy(values) for name, values in host.items() if values.dtype != object}
    found = {name: value.numpy() for name, value in graph.run_device(tensors).items()}
    assert _dtypes(found) == _dtypes(_but_text(expected))
    assert differences(found, _but_text(expected), ULPS) == []


@pytest.mark.extras("jax")
def test_jax_compiled(graph: PortableGraph, expected: dict[str, np.ndarray]) -> None:
    import jax

    assert not jax.config.jax_enable_x64
    arrays = {name: values for name, values in graph.run_host(_batch(500, 1)).items() if values.dtype != object}
    found = {name: np.asarray(value) for name, value in jax.jit(graph.run_device)(arrays).items()}
    expected = {name: value.astype(np.int32) if value.dtype == np.int64 else value for name, value in expected.items()}
    assert _dtypes(found) == _dtypes(_but_text(expected))
    # around 0, "range" is the difference of numbers near 1
    np.testing.assert_allclose(found.pop("range"), expected.pop("range"), rtol=0, atol=2**-23)
    inexact = ("z_score", "z_score_elementwise", "z_score_of_integers", "unit")
    assert differences(found, _but_text(expected), ULPS | dict.fromkeys(inexact, 1)) == []


def test_what_has_no_portable_form_is_named(tmp_path: Path) -> None:
    import tensorflow_transform as tft

    from penstock.pipeline.graph import exporter
    from penstock.pipeline.graph.savedmodel import SavedGraph

    def features(inputs: Mapping[str, Any]) -> dict[str, Any]:
        return {"z": tft.scale_to_z_score_per_key(inputs["x"], inputs["s"]), "k": inputs["k"]}

    path = _write(tmp_path, features)
    content = exporter.export(SavedGraph(path, FEATURES), {"z": "float32", "k": "int64"})
    [entry] = content["unsupported"]
    assert entry["outputs"] == ["z"]
    assert entry["op"].startswith("StatelessIf (control flow")
    with pytest.raises(NotPortableError, match=r"control flow.* \(for z\)"):
        PortableGraph(content, lambda path: b"")
