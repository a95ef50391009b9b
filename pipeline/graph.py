"""The transform graph on disk: finished, hashed alike by every run, and applied."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_transform as tft
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel
from tensorflow_transform.tf_metadata import dataset_metadata, metadata_io

from . import files, layout
from .features import Feature
from .tensors import example_schema


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
    saved_model = layout.join(graph_path, tft.TFTransformOutput.TRANSFORM_FN_DIR)
    uri = layout.join(saved_model, "saved_model.pb")
    model = SavedModel.FromString(files.read_bytes(uri))
    for meta_graph in model.meta_graphs:
        graph = meta_graph.graph_def
        for node in (*graph.node, *(node for function in graph.library.function for node in function.node_def)):
            name = node.attr["shared_name"].s if "shared_name" in node.attr else b""
            if temp_path.encode() in name:
                node.attr["shared_name"].s = b"%s/%s" % (generation.encode(), os.path.basename(name))
    files.write_bytes(uri, model.SerializeToString(deterministic=True))
    files.remove(layout.join(saved_model, "fingerprint.pb"))
    metadata_io.write_metadata(
        dataset_metadata.DatasetMetadata(example_schema(features)),
        layout.join(graph_path, tft.TFTransformOutput.RAW_METADATA_DIR),
    )


def apply(graph_path: str, serialized: Sequence[bytes], missing: int | None = None) -> dict[str, np.ndarray]:
    """Applies a written transform graph to prepared examples.

    Args:
      graph_path: The folder that `tft.TFTransformOutput` opens.
      serialized: tf.train.Example protos, as they lie in the shards.
      missing: Where given, what numbers that are missing or NaN become before.

    Returns:
      Output name to a batch of values; lists of any length are filled up with 0 or b"".
    """
    output = tft.TFTransformOutput(graph_path)
    parsed = tf.io.parse_example(tf.constant(list(serialized)), output.raw_feature_spec())
    if missing is not None:
        parsed = {name: _filled(value, missing) for name, value in parsed.items()}
    # analysis-only inputs (histograms) are not there, and not needed
    transformed = output.transform_raw_features(parsed, drop_unused_features=True)
    return {name: np.asarray(_dense(value)) for name, value in transformed.items()}


def _filled(value: Any, missing: int) -> Any:
    if not isinstance(value, tf.Tensor) or value.dtype == tf.string:
        return value
    absent = tf.math.is_nan(value) if value.dtype.is_floating else value == value.dtype.min
    return tf.where(absent, tf.cast(missing, value.dtype), value)


def _dense(value: Any) -> Any:
    if isinstance(value, tf.SparseTensor):
        return tf.sparse.to_dense(value)
    return value.to_tensor() if isinstance(value, tf.RaggedTensor) else value
