"""The saved graph is tf.Transform's own, though `features` is traced but once for it."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import tensorflow as tf
import tensorflow_transform as tft
from tensorflow_transform import impl_helper

from penstock.pipeline.analysis import graph_writer
from penstock.pipeline.analysis.preprocessing import make_preprocessing_fn
from penstock.pipeline.analysis.schema import stored_specs
from penstock.pipeline.analysis.statistics import KnownStatistics
from penstock.pipeline.analysis.trace import trace
from penstock.pipeline.formats.features import describe_columns
from penstock.pipeline.graph import exporter
from penstock.pipeline.graph.savedmodel import SavedGraph
from penstock.pipeline.prepare.summaries import summarize
from penstock.transforms import categorical, numeric

BATCH = pa.RecordBatch.from_pydict(
    {
        "n": pa.array([1, 2, None, 7]),
        "x": pa.array([0.5, None, 2.0, -1.0]),
        "s": pa.array(["b", "a", "b", None]),
        "l": pa.array([["a"], [], ["b", "a"], None], pa.large_list(pa.string())),
    }
)
FEATURES = describe_columns(BATCH.schema)


def features(inputs: Any) -> dict[str, Any]:
    return {
        "z": numeric.standardize(inputs, "x"),
        "bucket": numeric.bucketize(inputs, "n", 2),
        "applied": tft.apply_buckets(inputs["x"], tf.constant([[0.0, 1.0]])),
        "id": categorical.vocabulary(inputs, "s"),
        "ids": categorical.vocabulary(inputs, "l", oov_buckets=0),
        "hashed": tft.hash_strings(inputs["s"], 10),
        "list": inputs["l"],
        "words": tf.strings.split(inputs["s"]).to_sparse(),
        "text": inputs["s"],
    }


def examples_of_all_kinds() -> dict[str, Any]:
    return {
        "n": tf.constant([1, 2, -(2**63), 7]),
        "x": tf.constant([0.5, np.nan, 2.0, -np.inf]),
        "s": tf.constant(["b", "other", "", "a"]),
        "l": tf.ragged.constant([["a"], [], ["other", "a"], ["b"]]).to_sparse(),
    }


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_schema_and_outputs_are_those_of_tf_transform(tmp_path: Path):
    traces = []

    def counted(inputs: Any) -> dict[str, Any]:
        traces.append(inputs)
        return features(inputs)

    analysis = trace(counted, FEATURES)
    summaries = summarize(BATCH, analysis.summary_specs)
    del traces[:]
    graph_writer.write(analysis, summaries, str(tmp_path / "ours"), str(tmp_path / "assets"))
    assert len(traces) == 1
    statistics = KnownStatistics(FEATURES, summaries, str(tmp_path / "others"))
    function = make_preprocessing_fn(features, FEATURES, lambda _: statistics)
    impl_helper.analyze_in_place(function, False, None, stored_specs(FEATURES), str(tmp_path / "theirs"))
    ours, theirs = (files_of(tmp_path / name / "transformed_metadata") for name in ("ours", "theirs"))
    assert ours == theirs
    assert ours["schema.pbtxt"].count(b"is_categorical: true") == 2
    examples = examples_of_all_kinds()
    results = []
    for name in ("ours", "theirs"):
        loaded = tf.saved_model.load(str(tmp_path / name / "transform_fn"))
        values = tf.nest.flatten(loaded.transform_fn(examples), expand_composites=True)
        results.append([value.numpy().tolist() for value in values])
    assert results[0] == results[1]
    assert files_of(tmp_path / "ours/transform_fn/assets") == files_of(tmp_path / "theirs/transform_fn/assets")
    graph_writer.finish(str(tmp_path / "ours"), str(tmp_path / "assets"), "generation", FEATURES)
    output = tft.TFTransformOutput(str(tmp_path / "ours"))
    assert (output.vocabulary_by_name("s"), output.vocabulary_by_name("l")) == ([b"b", b"a"], [b"a", b"b"])
    assert (output.vocabulary_size_by_name("s"), output.vocabulary_size_by_name("l")) == (2, 2)


def test_what_was_saved_is_what_is_loaded(tmp_path: Path):
    analysis = trace(features, FEATURES)
    summaries = summarize(BATCH, analysis.summary_specs)
    path = str(tmp_path / "graph")
    module = graph_writer.write(analysis, summaries, path, str(tmp_path / "assets"))
    saved, loaded = SavedGraph(path, FEATURES, module=module), SavedGraph(path, FEATURES, trust=True)
    assert saved.loaded is module
    results = [graph.on_stored(examples_of_all_kinds()) for graph in (saved, loaded)]
    values = [[value.numpy().tolist() for value in tf.nest.flatten(result, True)] for result in results]
    assert values[0] == values[1]
    assert exporter.export(saved, analysis.outputs) == exporter.export(loaded, analysis.outputs)


def test_statistics_that_nothing_computes_with_are_not_in_the_graph(tmp_path: Path):
    def centered(inputs: Any) -> dict[str, Any]:
        return {"z": inputs["x"] - tf.cast(inputs.statistics.moments("x").mean, tf.float32)}

    analysis = trace(centered, FEATURES)
    summaries = summarize(BATCH, analysis.summary_specs)
    module = graph_writer.write(analysis, summaries, str(tmp_path / "graph"), str(tmp_path / "assets"))
    constants = [each for each in module.transform_fn.graph.get_operations() if each.type == "Const"]
    values = [tf.make_ndarray(each.get_attr("value")) for each in constants if each.get_attr("dtype") == tf.float64]
    assert values == [0.5]
