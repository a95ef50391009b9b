"""Writes the transform graph: in the pipeline where `features` uses tft's analyzers, otherwise at the commit."""

import os
from collections.abc import Mapping

import apache_beam as beam
import tensorflow_transform as tft
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel
from tensorflow_transform import impl_helper
from tensorflow_transform.tf_metadata import dataset_metadata, metadata_io

from ..formats.features import Feature
from ..prepare.summaries import Summaries
from ..storage import files
from .batcher import adapter_config
from .preprocessing import make_preprocessing_fn
from .schema import example_schema, stored_specs
from .statistics import KnownStatistics
from .trace import Analysis


def places(scratch: str) -> tuple[str, str]:
    """Where in a local folder the analysis writes the transform graph, and where its temporary files are."""
    return files.join(scratch, "transform_graph"), files.join(scratch, "tmp")


class AnalyzeAndWriteGraph(beam.PTransform):
    """Runs tft's analyzers over RecordBatches and writes the transform graph into a local folder; yields its path."""

    def __init__(self, analysis: Analysis, scratch: str) -> None:
        super().__init__()
        self._analysis = analysis
        self._graph_path, self._temp_path = places(scratch)

    def expand(self, batches: beam.PCollection) -> beam.PCollection:
        import tensorflow_transform.beam as tft_beam
        from tensorflow_transform.beam.tft_beam_io import transform_fn_io

        function = self._analysis.preprocessing_fn()
        with tft_beam.Context(temp_dir=self._temp_path, use_deep_copy_optimization=True):
            dataset = (batches, adapter_config(self._analysis.features))
            transform_fn = dataset | "Analyze" >> tft_beam.AnalyzeDataset(function)
            # (SavedModel path, metadata)
            written = transform_fn | "WriteGraph" >> transform_fn_io.WriteTransformFn(self._graph_path)
        return written | "GraphPath" >> beam.Map(lambda _: self._graph_path)  # str


def write(analysis: Analysis, summaries: Summaries, graph_path: str, temp_path: str) -> None:
    """Writes the graph of a `features` without tft's analyzers, in tf.Transform's layout; the commit calls it.

    Args:
      analysis: The recipe's `features`, and the features that it is applied to.
      summaries: The merged summaries of the statistics' split, from which `inputs.statistics` answers.
      graph_path: The folder that `tft.TFTransformOutput` will open.
      temp_path: Where vocabularies are written; the graph takes its copies from there.
    """
    statistics = KnownStatistics(analysis.features, summaries, temp_path)
    function = make_preprocessing_fn(analysis.features_fn, analysis.features, lambda _: statistics)
    files.remove(graph_path)  # of an attempt that was killed
    impl_helper.analyze_in_place(function, False, None, stored_specs(analysis.features), graph_path)


def finish(graph_path: str, temp_path: str, generation: str, features: Mapping[str, Feature]) -> None:
    """Completes what tf.Transform wrote, and removes what differs between two runs of one job.

    A vocabulary's table is named after the temporary file that it was read from. Tables are shared by name within a
    process, so two graphs with one name would share one table: the generation's id takes the folder's place. The
    fingerprint contains a random id; TensorFlow loads the graph without it.

    Args:
      graph_path: The folder that `tft.TFTransformOutput` opens.
      temp_path: tf.Transform's temporary folder.
      generation: The generation's id.
      features: The features of a prepared example; their schema is written where TFTransformOutput looks for it.
    """
    saved_model = files.join(graph_path, tft.TFTransformOutput.TRANSFORM_FN_DIR)
    uri = files.join(saved_model, "saved_model.pb")
    model = SavedModel.FromString(files.read_bytes(uri))
    for meta_graph in model.meta_graphs:
        graph = meta_graph.graph_def
        for node in (*graph.node, *(node for function in graph.library.function for node in function.node_def)):
            name = node.attr["shared_name"].s if "shared_name" in node.attr else b""
            if temp_path.encode() in name:
                node.attr["shared_name"].s = b"%s/%s" % (generation.encode(), os.path.basename(name))
    files.write_bytes(uri, model.SerializeToString(deterministic=True))
    files.remove(files.join(saved_model, "fingerprint.pb"))
    metadata_io.write_metadata(
        dataset_metadata.DatasetMetadata(example_schema(features)),
        files.join(graph_path, tft.TFTransformOutput.RAW_METADATA_DIR),
    )
