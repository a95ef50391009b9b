"""The transform graph on disk: written, and finished so that every run of one job hashes it alike."""

import os
from collections.abc import Mapping

import tensorflow_transform as tft
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel
from tensorflow_transform import impl_helper
from tensorflow_transform.tf_metadata import dataset_metadata, metadata_io

from ..formats.features import Feature
from ..prepare.summaries import Summaries
from ..storage import files
from .requests import KnownStatistics
from .tensors import example_schema, preprocessing_fn, stored_specs
from .trace import Analysis


def write(analysis: Analysis, summaries: Summaries, graph_path: str, temp_path: str) -> None:
    """Writes the graph of a `features` that needs no analyzers of tft's, in tf.Transform's layout.

    Args:
      analysis: The recipe's `features`, and what it works on.
      summaries: Of the statistics' split: what `inputs.statistics` answers from.
      graph_path: The folder that `tft.TFTransformOutput` will open.
      temp_path: Where vocabularies are written, from where the graph takes its copies.
    """
    statistics = KnownStatistics(analysis.features, summaries, temp_path)
    function = preprocessing_fn(analysis.user_fn, analysis.features, lambda _: statistics)
    files.remove(graph_path)  # of an attempt that was killed
    impl_helper.analyze_in_place(function, False, None, stored_specs(analysis.features), graph_path)


def finish(graph_path: str, temp_path: str, generation: str, features: Mapping[str, Feature]) -> None:
    """Completes what tf.Transform wrote, and takes out what differs between two runs of one job.

    A vocabulary's table is named after the temporary file that it was read from. The name is shared in a process: two
    graphs with one name would share one table, so the generation's id takes the folder's place. The fingerprint has a
    random id in it; TensorFlow does without.

    Args:
      graph_path: The folder that `tft.TFTransformOutput` opens.
      temp_path: tf.Transform's temporary folder.
      generation: The generation's id.
      features: The features of a prepared example; how they are parsed is written where TFTransformOutput looks for it.
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
