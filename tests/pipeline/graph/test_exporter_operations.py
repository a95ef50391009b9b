"""Every operation that has a portable form, and every helper of ours, against the SavedModel."""

import importlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf

from penstock.pipeline.analysis import graph_writer, trace
from penstock.pipeline.formats.features import Feature
from penstock.pipeline.graph import exporter
from penstock.pipeline.graph.executor import CompiledGraph
from penstock.pipeline.graph.portable import PortableGraph
from penstock.pipeline.graph.savedmodel import SavedGraph
from penstock.pipeline.prepare.summaries import summarize
from penstock.transforms import categorical, dates, numeric, text

from .saved_graphs import Features, export, open_graph, tensors

STORED = {
    "x": Feature("number", "float32", ()),
    "k": Feature("number", "int64", ()),
    "s": Feature("text", "string", ()),
    "v": Feature("number", "float32", (3,)),
    "l": Feature("number", "int64", (None,)),
    "w": Feature("text", "string", (None,)),
}
TEXTS = [
    "a",
    "b",
    "a b",
    "Zürich 12, x",
    "x-1 y_2",
    "",
    "12",
    "  Foo\tBÄR\u00a0\u0391Σ ",
    "12.50 EUR",
    "b" * 100,
    "日本 語",
]
# How many units in the last place the functions of NumPy, PyTorch and JAX may be away from TensorFlow's.
ULPS = {
    **dict.fromkeys(("reciprocal", "erf", "expm1", "l2", "rsqrt", "softmax", "log_softmax", "softplus", "sigmoid"), 8),
    **dict.fromkeys(("sin", "cos", "tan", "sinh", "cosh", "arcsin", "arctan", "atan2", "power", "deviation"), 4),
    **dict.fromkeys(("mean_of_list", "deviation_of_list"), 8),
    **dict.fromkeys(("matmul", "matmul_transposed"), 64),  # sums of what has either sign
}


def _batch(rows: int = 60) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(0)
    lists, words = np.empty(rows, object), np.empty(rows, object)
    lists[:] = [generator.integers(0, 9, generator.integers(0, 6)) for _ in range(rows)]
    strings = np.array([string.encode() for string in TEXTS], object)
    words[:] = [generator.choice(strings, generator.integers(0, 4)) for _ in range(rows)]
    return {
        "x": (generator.normal(size=rows) * 3).astype(np.float32),
        "k": generator.integers(-50, 50, rows),
        "s": np.array([TEXTS[row % len(TEXTS)].encode() for row in range(rows)], object),
        "v": generator.normal(size=(rows, 3)).astype(np.float32),
        "l": lists,
        "w": words,
    }


def _numbers(inputs: Mapping[str, Any]) -> dict[str, Any]:
    x, k, v = inputs["x"], inputs["k"], inputs["v"]
    return {
        "power": tf.pow(tf.abs(v), 1.5),
        "rsqrt": tf.math.rsqrt(tf.abs(v) + 0.1),
        "reciprocal": tf.math.reciprocal(v),
        "divided": tf.math.divide_no_nan(v, tf.nn.relu(v)),
        "sin": tf.sin(x),
        "cos": tf.cos(x),
        "tan": tf.tan(v),
        "sinh": tf.sinh(v),
        "cosh": tf.cosh(v),
        "arcsin": tf.asin(v / 10.0),
        "arctan": tf.atan(v),
        "atan2": tf.atan2(v, v[:, ::-1]),
        "expm1": tf.math.expm1(v),
        "erf": tf.math.erf(v),
        "round": tf.round(v * 2.0),
        "infinite": tf.math.is_inf(v / 0.0),
        "relu": tf.nn.relu(v),
        "relu6": tf.nn.relu6(v * 9.0),
        "softmax": tf.nn.softmax(v),
        "log_softmax": tf.nn.log_softmax(v),
        "softplus": tf.nn.softplus(v),
        "l2": tf.math.l2_normalize(v, axis=1),
        "deviation": tf.math.reduce_std(v, axis=1),
        "clipped": tf.clip_by_value(v, -0.5, 0.5),
        "any": tf.reduce_any(v > 0, axis=1),
        "all": tf.reduce_all(v > 0, axis=1, keepdims=True),
        "product": tf.reduce_prod(v, axis=1),
        "matmul": tf.matmul(v, tf.ones([3, 2])),
        "matmul_transposed": tf.matmul(v, tf.constant([[1.0, 2.0, 3.0]]), transpose_b=True),
        "sum_of_several": tf.add_n([v, v * 2.0, v]),
        "split": tf.split(v, 3, axis=1)[1],
        "split_by_sizes": tf.split(v, [1, 2], axis=1)[1],
        "unstacked": tf.unstack(v, axis=1)[2],
        "slice": tf.slice(v, [0, 1], [-1, 2]),
        "reversed": tf.reverse(v, [-1]),
        "tiled": tf.tile(v, [1, 2]),
        "padded": tf.pad(v, [[0, 0], [1, 2]], constant_values=7.0),
        "filled": tf.fill(tf.shape(x), 1.5) + x,
        "broadcast": tf.broadcast_to(x[:, tf.newaxis], [tf.shape(x)[0], 4]),
        "counted": tf.range(3, dtype=tf.float32) * v,
        "cumulated": tf.cumsum(v, axis=1),
        "cumulated_back": tf.cumsum(v, axis=1, exclusive=True, reverse=True),
        "cumulated_product": tf.math.cumprod(v, axis=1),
        "place_of_largest": tf.argmax(v, axis=1),
        "largest_two": tf.math.top_k(v, 2)[0],
        "places": tf.math.top_k(v, 2)[1],
        "sorted": tf.sort(v, axis=1),
        "bits": tf.bitwise.bitwise_or(tf.bitwise.bitwise_and(k, 12), 1),
        "truncated": tf.raw_ops.TruncateDiv(x=k, y=tf.constant(7, tf.int64)),
        "size": tf.zeros_like(k) + tf.size(v, tf.int64) // tf.size(x, tf.int64),
        "chosen": tf.where(x > 1.0, x, tf.where(x < -1.0, -x, tf.ones_like(x))),
        "nth": tf.gather_nd(v, tf.stack([tf.range(tf.shape(k)[0]), tf.cast(k % 3, tf.int32)], axis=1)),
        "hot": tf.one_hot(k % 4, 4),
    }


def _strings(inputs: Mapping[str, Any]) -> dict[str, Any]:
    x, k, s = inputs["x"], inputs["k"], inputs["s"]
    return {
        "lower": tf.strings.lower(s, encoding="utf-8"),
        "lower_bytes": tf.strings.lower(s),
        "upper": tf.strings.upper(s, encoding="utf-8"),
        "stripped": tf.strings.strip(s),
        "joined": tf.strings.join([s, tf.strings.as_string(k)], "_"),
        "reduced": tf.strings.reduce_join(tf.stack([s, s], 1), axis=1, separator="|"),
        "length": tf.strings.length(s),
        "characters": tf.strings.length(s, unit="UTF8_CHAR"),
        "start": tf.strings.substr(s, 0, 2),
        "start_of_text": tf.strings.substr(s, 0, 3, unit="UTF8_CHAR"),
        "fast": tf.strings.to_hash_bucket_fast(s, 1000),
        "fast_63_bits": tf.strings.to_hash_bucket_fast(s, 2**63 - 1),
        "strong": tf.strings.to_hash_bucket_strong(s, 1000, [1, 2**62]),
        "replaced": tf.strings.regex_replace(s, r"\d+(\.\d+)?", r"<\0\1>"),
        "words": tf.strings.regex_replace(s, r"[^\pL\pM\pN]+", " "),
        "matched": tf.strings.regex_full_match(s, r"[a-z ]+"),
        "floats": tf.strings.as_string(x),
        "floats_short": tf.strings.as_string(x, shortest=True),
        "floats_wide": tf.strings.as_string(x, width=12, precision=3, fill="0"),
        "integers_wide": tf.strings.as_string(k, width=5, fill="0"),
        "truth": tf.strings.as_string(k > 0),
        "number": tf.strings.to_number(tf.strings.as_string(x)),
        "whole_number": tf.strings.to_number(tf.strings.as_string(k), tf.int64),
        "is_one_of": tf.reduce_any(s[:, tf.newaxis] == tf.constant(["a", "12"]), axis=1),
        "chosen": tf.where(k > 0, s, tf.constant("-")),
        "first_words": tf.strings.split(s).to_tensor("", shape=[None, 2]),
        "parts": tf.strings.split(s, " ", maxsplit=1).to_tensor("?", shape=[None, 3]),
        "bytes": tf.strings.bytes_split(s).to_tensor(shape=[None, 4]),
    }


def _lists(inputs: Mapping[str, Any]) -> dict[str, Any]:
    numbers, strings, words = inputs["l"], inputs["w"], tf.strings.split(inputs["s"])
    ids = tf.strings.to_hash_bucket_fast(strings, 50)
    floats = tf.cast(numbers, tf.float32)
    return {
        "padded": text.pad(numbers, 4, -1),
        "padded_strings": text.pad(strings, 2),
        "hashed": text.pad(ids + 1, 3),
        "ngrams": text.pad(text.ngrams(words, [1, 2]), 5),
        "bag": text.bag_of_words(ids, 50),
        "bag_of_some": text.bag_of_words(tf.ragged.boolean_mask(numbers, numbers < 5), 5),
        "length": numbers.row_lengths(),
        "sum": tf.reduce_sum(numbers, axis=1),
        "largest": tf.reduce_max(numbers, axis=1),
        "smallest": tf.reduce_min(floats, axis=1),
        "product": tf.reduce_prod(numbers, axis=1),
        "mean_of_list": tf.reduce_mean(floats, axis=1),
        "deviation_of_list": tf.math.reduce_std(floats, axis=1),
        "any": tf.reduce_any(numbers > 7, axis=1),
        "first": numbers[:, :1].to_tensor(-1, shape=[None, 1])[:, 0],
        "longer": tf.concat([numbers, numbers], axis=1).to_tensor(shape=[None, 7]),
        "nested": tf.ragged.stack([numbers, numbers * 2], axis=1).to_tensor(-1, shape=[None, 2, 3]),
        "gathered": tf.gather(tf.constant([1.5, 2.5, 3.5] * 3), numbers).to_tensor(shape=[None, 5]),
        "sparse_sum": tf.sparse.reduce_sum(numbers.to_sparse(), axis=1),
    }


def _frameworks() -> list[Any]:
    return [
        "numpy",
        "tensorflow",
        pytest.param("torch", marks=pytest.mark.extras("torch")),
        pytest.param("jax", marks=pytest.mark.extras("jax")),
    ]


def _on(framework: str, graph: PortableGraph, batch: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """All outputs: the device's part by a framework."""
    module = importlib.import_module(framework)
    host = graph.run_host(batch)
    numbers = {name: value for name, value in host.items() if value.dtype != object}
    convert = {"numpy": np.asarray, "tensorflow": tf.constant, "jax": np.asarray}.get(framework) or module.from_numpy
    run = module.jit(graph.run_device) if framework == "jax" else graph.run_device
    device = run({name: convert(value) for name, value in numbers.items()})
    return {**host, **{name: np.asarray(value) for name, value in device.items()}}


def _narrowed(values: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """With the integers of 32 bits that JAX has, unless it is told otherwise."""
    return {name: value.astype(np.int32) if value.dtype == np.int64 else value for name, value in values.items()}


def _assert_same(values: Mapping[str, np.ndarray], expected: Mapping[str, np.ndarray]) -> None:
    for name, reference in expected.items():
        value = np.asarray(values[name])
        assert value.dtype == reference.dtype, name
        if reference.dtype.kind == "f":
            differ = ~((value == reference) | (np.isnan(value) & np.isnan(reference)))
            apart = np.testing.assert_array_max_ulp(value[differ], reference[differ], np.inf)
            assert np.max(apart, initial=0) <= ULPS.get(name, 0), name
        else:
            np.testing.assert_array_equal(value, reference, name)


@pytest.mark.parametrize("framework", _frameworks())
@pytest.mark.parametrize("features", [_numbers, _strings, _lists])
def test_operations_are_as_in_tensorflow(tmp_path: Path, features: Features, framework: str) -> None:
    saved, content = export(tmp_path, features, stored=STORED)
    assert content["unsupported"] == []
    batch = _batch()
    expected = {name: value.numpy() for name, value in saved.on_stored(tensors(batch)).items()}
    graph = open_graph(tmp_path, content)
    values = _on(framework, graph, batch)
    if framework == "jax":
        values, expected = _narrowed(values), _narrowed(expected)
    _assert_same(values, expected)
    if framework == "numpy":
        _assert_alone(graph, batch, expected)


def _assert_alone(graph: PortableGraph, batch: Mapping[str, np.ndarray], expected: Mapping[str, np.ndarray]) -> None:
    """Each example by itself gives what the whole batch gives."""
    rows = len(batch["k"])
    compiled = CompiledGraph(graph, False, {name: values[:1] for name, values in batch.items()})
    out = compiled.allocate(rows, dict(batch), np.empty)
    for row in range(rows):
        compiled.into(*({name: values[row : row + 1] for name, values in part.items()} for part in (batch, out)))
    _assert_same(out, expected)


COLUMNS = {
    "x": Feature("number", "float32", (), optional=True),
    "k": Feature("number", "int64", (), optional=True),
    "s": Feature("text", "string", (), optional=True),
}


def _helpers(inputs: Any) -> dict[str, Any]:
    words = text.words(text.lower(inputs["s"]))
    ids = tf.strings.to_hash_bucket_fast(words, 100)
    return {
        "by_key": numeric.standardize_by_key(inputs, "x", "s"),
        "by_integer": numeric.standardize_by_key(inputs, "x", "k", missing="keep"),
        "standardize": numeric.standardize(inputs, "k", clip=1.0),
        "min_max": numeric.min_max(inputs, "x", clip=True),
        "robust": numeric.robust_scale(inputs, "x"),
        "bucketize": numeric.bucketize(inputs, "x", 3),
        "log": numeric.log(inputs, "k", 1.0),
        "clip": numeric.clip(inputs, "x", 0, 1),
        "fill": numeric.fill_missing(inputs, "x", "median"),
        "is_missing": numeric.is_missing(inputs, "s"),
        "frequency": categorical.frequency(inputs, "s"),
        "vocabulary": categorical.vocabulary(inputs, "s", oov_buckets=3, top_k=2),
        "vocabulary_of_integers": categorical.vocabulary(inputs, "k", min_count=2),
        "one_hot": categorical.one_hot(categorical.vocabulary(inputs, "s"), 4),
        "hash_bucket": categorical.hash_bucket(inputs["s"], 7),
        "hash_bucket_of_integers": categorical.hash_bucket(inputs["k"], 7),
        "cyclical": dates.cyclical(inputs, "k", 12, start=1),
        "pad": text.pad(words, 5),
        "ngrams": text.pad(text.ngrams(words, [1, 2]), 5),
        "bag_of_words": text.bag_of_words(ids, 100),
    }


def _graph_of_helpers(folder: Path) -> tuple[SavedGraph, PortableGraph]:
    analysis = trace.trace(_helpers, COLUMNS)
    columns = {name: pa.array(_batch()[name]) for name in COLUMNS}
    batch = pa.record_batch({**columns, "s": columns["s"].cast(pa.string())})
    graph_path = str(folder / "graph")
    graph_writer.write(analysis, summarize(batch, analysis.summary_specs), graph_path, str(folder / "temporary"))
    graph_writer.finish(graph_path, str(folder / "temporary"), "generation", COLUMNS)
    saved = SavedGraph(graph_path, COLUMNS)
    content = exporter.export(saved, analysis.outputs)
    assert content["unsupported"] == []
    return saved, PortableGraph(json.loads(json.dumps(content)), lambda path: (folder / "graph" / path).read_bytes())


@pytest.mark.parametrize("framework", _frameworks())
def test_all_our_helpers_have_a_portable_form(tmp_path: Path, framework: str) -> None:
    saved, graph = _graph_of_helpers(tmp_path)
    batch = {name: values for name, values in _batch().items() if name in COLUMNS}
    batch["x"][3], batch["k"][4], batch["s"][7] = np.nan, -(2**63), "ungesehen ß".encode()
    expected = {name: value.numpy() for name, value in saved.on_stored(tensors(batch)).items()}
    values = _on(framework, graph, batch)
    _assert_same({name: np.asarray(values[name]).astype(expected[name].dtype) for name in expected}, expected)
    if framework == "numpy":
        _assert_alone(graph, batch, expected)
