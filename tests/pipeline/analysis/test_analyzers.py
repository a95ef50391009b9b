"""tf.Transform's analyzers, reduced unit by unit, against tf.Transform's own run of them in Beam."""

import itertools
import math
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf
import tensorflow_transform as tft
import tensorflow_transform.beam as tft_beam
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from tensorflow_transform import analyzer_nodes, nodes
from tensorflow_transform.beam.tft_beam_io import transform_fn_io
from tfx_bsl.tfxio.tensor_adapter import TensorAdapter

from penstock.pipeline import PenstockError, RequestError
from penstock.pipeline.analysis import graph_writer
from penstock.pipeline.analysis.batcher import adapter_config
from penstock.pipeline.analysis.phases import PhaseReducer, decode_results, encode_results, evaluate
from penstock.pipeline.analysis.trace import Analysis, trace
from penstock.pipeline.formats.features import Feature

ROWS = 600
FEATURES = {
    "x": Feature("number", "float32", ()),
    "y": Feature("number", "float32", ()),
    "n": Feature("number", "int64", ()),
    "key": Feature("text", "string", ()),
    "text": Feature("text", "string", ()),
}


def table() -> pa.RecordBatch:
    generator = np.random.default_rng(5)
    texts = [" ".join(f"w{word}" for word in generator.zipf(1.6, 5) % 40) for _ in range(ROWS)]
    columns = {
        "x": pa.array(generator.normal(1e3, 3, ROWS), pa.float32()),
        "y": pa.array(generator.exponential(2, ROWS), pa.float32()),
        "n": pa.array(generator.integers(-20, 20, ROWS), pa.int64()),
        "key": [f"k{number}" for number in generator.integers(0, 4, ROWS)],
        "text": texts,
    }
    return pa.RecordBatch.from_pydict(columns)


class Longest(beam.PTransform):
    """Of all strings the longest, and how many there are."""

    def expand(self, batches: beam.PCollection) -> Any:
        lengths = batches | beam.FlatMap(lambda batch: [len(text) for text in batch[0]])
        return (
            lengths | "Longest" >> beam.CombineGlobally(max) | "Long" >> beam.Map(np.int64),
            lengths | "Count" >> beam.combiners.Count.Globally() | "Many" >> beam.Map(np.int64),
        )


def numbers(inputs: Any) -> dict[str, Any]:
    x, y, n, key = inputs["x"], inputs["y"], inputs["n"], inputs["key"]
    vectors = tf.stack([x, y, tf.cast(n, tf.float32)], 1)
    counted, counts = tft.histogram(n, categorical=True)
    keys, per_key = tft.count_per_key(key)
    return {
        "z": tft.scale_to_z_score(x),
        "unit": tft.scale_to_0_1(y),
        "sum": tft.sum(n) + 0 * n,
        "size": tft.size(n) + 0 * n,
        "least": tft.min(vectors, reduce_instance_dims=False) + 0 * vectors,
        "bucket": tft.bucketize(y, 4),
        "weighted": tf.searchsorted(tft.quantiles(y, 4, 0.01, weights=x)[0], y, "right"),
        "elementwise": tft.scale_to_z_score(vectors, elementwise=True),
        "pca": tf.matmul(vectors, tft.pca(vectors, 2, tf.float32)),
        "covariance": tf.matmul(vectors, tft.covariance(vectors, tf.float32)),
        "gaussian": tft.scale_to_gaussian(y),
        "z_by_key": tft.scale_to_z_score_per_key(x, key),
        "unit_by_key": tft.scale_to_0_1_per_key(y, key),
        "z_by_file": tft.scale_to_z_score_per_key(x, key, key_vocabulary_filename="keys"),
        "bucket_by_key": tft.bucketize_per_key(y, key, 3),
        "histogram": tf.reduce_sum(counts) + 0 * n + counted[0],
        "per_key": tf.reduce_max(per_key) + 0 * n + tf.cast(tf.size(keys), tf.int64),
        "z_of_z": tft.scale_to_z_score(tft.scale_to_z_score(x) ** 2),
    }


def tokens(inputs: Any) -> dict[str, Any]:
    words = tf.strings.split(inputs["text"]).to_sparse()
    n, key = inputs["n"], inputs["key"]
    ids = tft.compute_and_apply_vocabulary(words, vocab_filename="words")
    label = tf.cast(n > 0, tf.int64)
    ones = tf.ones_like(inputs["x"])
    tft.vocabulary(key, vocab_filename="shuffled", fingerprint_shuffle=True)
    tft.vocabulary(words, vocab_filename="frequencies", store_frequency=True, frequency_threshold=9)
    tft.vocabulary(words, vocab_filename="top", top_k=7, store_frequency=True)
    tft.vocabulary(words, vocab_filename="covered", top_k=3, coverage_top_k=2, key_fn=lambda word: word[-1:])
    tft.vocabulary(key, vocab_filename="weights", weights=inputs["y"], store_frequency=True)
    tft.vocabulary(key, vocab_filename="informative", labels=label, store_frequency=True)
    tft.vocabulary(key, vocab_filename="adjusted", labels=label, use_adjusted_mutual_info=True, min_diff_from_avg=0)
    tft.vocabulary(key, vocab_filename="both", labels=label, weights=ones, store_frequency=True)
    tft.vocabulary(key, vocab_filename="compressed", file_format="tfrecord_gzip")
    tft.vocabulary(key, vocab_filename="empty", frequency_threshold=10**6)
    tft.vocabulary(key, vocab_filename="negative", weights=-inputs["y"], store_frequency=True)
    tft.vocabulary(key, vocab_filename="reserved", reserved_tokens=["k2", "other"])
    tft.experimental.approximate_vocabulary(words, 90, vocab_filename="approximate", store_frequency=True)
    tft.experimental.approximate_vocabulary(words, 90, vocab_filename="approximate2", reserved_tokens=["w0"])
    longest, many = tft.experimental.ptransform_analyzer([inputs["text"]], Longest(), [tf.int64] * 2, [[], []])
    size = tft.experimental.get_vocabulary_size_by_name("words")
    return {
        "number": tft.compute_and_apply_vocabulary(n, top_k=5, vocab_filename="numbers"),
        "tfidf": tft.tfidf(ids, size + 1)[1],
        "longest": longest + many + 0 * n,
        "rare": tft.mean(tf.cast(ids.values, tf.float32)) + 0 * inputs["x"],  # waits for the vocabulary
    }


def units(count: int) -> list[pa.RecordBatch]:
    batch = table()
    ends = [round(math.sqrt(number / count) * ROWS) for number in range(count + 1)]
    return [batch.slice(start, end - start) for start, end in itertools.pairwise(ends)]


def analyzed(analysis: Analysis, path: Path, parts: list[pa.RecordBatch]) -> str:
    """The graph that comes of parts that are reduced each for itself; none of them shares a folder with another."""
    results: Any = {}
    for phase in range(analysis.phases):
        contents = []
        for part in parts:
            columns = analysis.columns if phase else analysis.first_columns
            reducer = PhaseReducer(analysis, decode_results(encode_results(results)), columns)
            unit = reducer.start()
            for start in range(0, len(part), 70):
                unit.add(part.slice(start, 70).select(list(columns)))
            contents.append(unit.finish())
            reducer.close()
        reads = [partial(bytes, content) for content in contents]
        results = evaluate(analysis, results, reads, iter(contents), {}, str(path / f"phase{phase}"))
    graph_writer.write_analyzed(analysis, results, str(path / "graph"), str(path / "temporary"))
    return str(path / "graph")


def analyzed_by_beam(analysis: Analysis, path: Path, parts: list[pa.RecordBatch]) -> str:
    batches = [batch for part in parts for batch in stored(analysis, part)]
    with (
        beam.Pipeline(runner=FnApiRunner()) as pipeline,
        tft_beam.Context(temp_dir=str(path / "beam"), use_deep_copy_optimization=True),
    ):
        data = pipeline | beam.Create(batches)
        transform = (data, adapter_config(FEATURES)) | tft_beam.AnalyzeDataset(analysis.preprocessing_fn())
        _ = transform | transform_fn_io.WriteTransformFn(str(path / "reference"))
    return str(path / "reference")


def stored(analysis: Analysis, part: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    batcher = analysis.batcher(tuple(FEATURES))
    yield from batcher.add(part)
    yield from batcher.flush()


def apply(graph: str, analysis: Analysis) -> dict[str, Any]:
    (batch,) = stored(analysis, table())
    features = TensorAdapter(adapter_config(FEATURES)).ToBatchTensors(batch)
    return dict(tft.TFTransformOutput(graph).transform_features_layer()(features))


@pytest.mark.slow
@pytest.mark.parametrize("features", [numbers, tokens])
def test_every_analyzer_gives_what_it_gives_in_beam(tmp_path: Path, features: Callable[[Any], dict[str, Any]]):
    analysis = trace(features, FEATURES)
    ours = analyzed(analysis, tmp_path, units(3))
    theirs = analyzed_by_beam(analysis, tmp_path, units(3))
    outputs, expected = apply(ours, analysis), apply(theirs, analysis)
    assert outputs.keys() == expected.keys()
    for name, value in expected.items():
        if isinstance(value, tf.SparseTensor):
            np.testing.assert_array_equal(outputs[name].indices, value.indices, name)
            value, outputs[name] = value.values, outputs[name].values
        np.testing.assert_allclose(outputs[name], value, rtol=1e-4, atol=1e-4, err_msg=name)
    mine, other = tft.TFTransformOutput(ours), tft.TFTransformOutput(theirs)
    assert mine.transformed_metadata.schema == other.transformed_metadata.schema
    for path in sorted(Path(theirs).glob("transform_fn/assets/*")):
        name = path.name.removesuffix(".tfrecord.gz")
        assert mine.vocabulary_by_name(name) == other.vocabulary_by_name(name), name
        assert mine.vocabulary_size_by_name(name) == other.vocabulary_size_by_name(name)


def test_analyzers_in_another_order_elsewhere_are_told(tmp_path: Path):
    """As where a recipe iterates over a set: the names of analyzers stand for other columns in another process."""

    def scaled(*names: str) -> Analysis:
        return trace(lambda inputs: {name: tft.scale_to_z_score(inputs[name]) for name in names}, FEATURES)

    reducer = PhaseReducer(scaled("x", "y"), {}, ("x", "y"))
    unit = reducer.start()
    unit.add(table().select(["x", "y"]))
    content = unit.finish()
    reducer.close()
    with pytest.raises(PenstockError, match=r"call tft\.\* in the same order in every process"):
        evaluate(scaled("y", "x"), {}, [partial(bytes, content)], iter([content]), {}, str(tmp_path))


def test_accumulators_do_not_depend_on_the_chunks(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("penstock.pipeline.analysis.trace.TABLE_BATCH", 100)

    def features(inputs: Any) -> dict[str, Any]:
        return {"x": tft.scale_to_z_score(inputs["x"]), "y": tft.bucketize(inputs["y"], 4)}

    reducer = PhaseReducer(trace(features, FEATURES), {}, ("x", "y"))
    contents = set()
    for size in (ROWS, 1, 70, 230):
        unit = reducer.start()
        for start in range(0, ROWS, size):
            unit.add(table().slice(start, size).select(["x", "y"]))
        contents.add(unit.finish())
    reducer.close()
    assert len(contents) == 1


def test_values_that_features_cannot_take_are_told():
    def features(inputs: Any) -> dict[str, Any]:
        return {"x": tft.scale_to_z_score(tf.strings.to_number(inputs["key"]))}

    reducer = PhaseReducer(trace(features, FEATURES), {}, ("key",))
    unit = reducer.start()
    unit.add(table().select(["key"]))
    with pytest.raises(PenstockError, match=r"where tft.\* needs them: StringToNumberOp could not .*: k\d"):
        unit.finish()
    reducer.close()


def test_an_analyzer_that_nobody_knows_is_refused():
    class Unknown(analyzer_nodes.CacheableCombineMerge):
        pass

    def features(inputs: Any) -> dict[str, Any]:
        source = analyzer_nodes.get_input_tensors_value_nodes([inputs["x"]])
        future = nodes.apply_operation(Unknown, source, combiner=None)
        info = analyzer_nodes.TensorInfo(tf.float32, [], None)
        return {"x": inputs["x"] + analyzer_nodes.bind_future_as_tensor(future, info)}

    with pytest.raises(RequestError, match="expected an analyzer of tft"):
        trace(features, FEATURES)
