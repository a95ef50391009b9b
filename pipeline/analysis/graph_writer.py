"""Writes the transform graph, at the commit."""

import json
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import tensorflow as tf
import tensorflow_transform as tft
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel
from tensorflow.python.eager import wrap_function
from tensorflow.python.trackable import resource
from tensorflow_transform import annotators, graph_context, graph_tools, impl_helper, schema_inference
from tensorflow_transform.tf_metadata import dataset_metadata, metadata_io

from ..formats.features import Feature
from ..prepare.summaries import Summaries
from ..storage import files
from .preprocessing import Tensors, make_preprocessing_fn
from .schema import example_schema, stored_specs
from .statistics import KnownStatistics
from .trace import Analysis

if TYPE_CHECKING:
    from .phases import Results


def write(analysis: Analysis, summaries: Summaries, graph_path: str, temp_path: str) -> tf.Module:
    """Writes the graph of a `features` without tft's analyzers, in tf.Transform's layout.

    Args:
      analysis: The recipe's `features`, and the features that it is applied to.
      summaries: The merged summaries of the statistics' split, from which `inputs.statistics` answers.
      graph_path: The folder that `tft.TFTransformOutput` will open.
      temp_path: Where vocabularies are written; the graph takes its copies from there.

    Returns:
      What was saved: `transform_fn`, and the tables that it looks values up in.
    """
    statistics = KnownStatistics(analysis.features, summaries, temp_path)
    function = make_preprocessing_fn(analysis.features_fn, analysis.features, lambda _: statistics)
    files.remove(graph_path)  # of an attempt that was killed
    annotations: list[dict[str, Any]] = []

    def annotated(stored: Tensors) -> Tensors:
        outputs = function(stored)
        annotations.append(_annotations(outputs))
        return outputs

    # As `impl_helper.analyze_in_place` does, which traces once more for the annotations.
    module = tf.Module()
    context = graph_context.TFGraphContext(module_to_export=module, temp_dir=None, evaluated_replacements=None)
    _trace_into(module, impl_helper.get_traced_transform_fn(annotated, stored_specs(analysis.features), context))
    tf.saved_model.save(module, files.join(graph_path, tft.TFTransformOutput.TRANSFORM_FN_DIR), signatures={})
    schema = schema_inference.infer_feature_schema_v2(
        module.transform_fn.structured_outputs, lambda: _evaluate(module.transform_fn, annotations[-1]), True
    )
    metadata_io.write_metadata(
        dataset_metadata.DatasetMetadata(schema), files.join(graph_path, tft.TFTransformOutput.TRANSFORMED_METADATA_DIR)
    )
    return module


def _trace_into(module: tf.Module, function: Any) -> None:
    """Traces a function without arguments, and gives a module all that must be saved with it.

    As `saved_transform_io_v2.trace_and_update_module` does, which then copies the graph, operation by operation, to
    leave out what no output needs.
    """
    resources, objects, variables = resource.ResourceTracker(), annotators.ObjectTracker(), []

    def created(creator: Any, **options: Any) -> Any:
        variables.append(creator(**options))
        return variables[-1]

    with (
        resource.resource_tracker_scope(resources),
        annotators.object_tracker_scope(objects),
        tf.variable_creator_scope(created),
    ):
        module.transform_fn = function.get_concrete_function()
    module.created_variables = variables
    module.resources = resources.resources
    module.trackable_objects = objects.trackable_objects
    paths = module.transform_fn.graph.get_collection(tf.compat.v1.GraphKeys.ASSET_FILEPATHS)
    module.assets = [tf.saved_model.Asset(path) for path in paths]


def _annotations(outputs: Tensors) -> dict[str, Any]:
    """What was said of the outputs while they were traced, as tensors: ranges of integers, protos, sparse shapes.

    As the function of `schema_inference.get_traced_metadata_fn` gives it.
    """
    graph = tf.compat.v1.get_default_graph()
    names = schema_inference._get_tensor_value_to_key_map(outputs)
    ranges = schema_inference._get_schema_overrides(
        graph,
        names,
        schema_inference._TF_METADATA_TENSOR_COLLECTION,
        [schema_inference._TF_METADATA_TENSOR_MIN_COLLECTION, schema_inference._TF_METADATA_TENSOR_MAX_COLLECTION],
    )
    protos = schema_inference._get_schema_overrides(
        graph,
        names,
        schema_inference._TF_METADATA_EXTRA_ANNOTATION,
        [
            schema_inference._TF_METADATA_EXTRA_ANNOTATION_TYPE_URL,
            schema_inference._TF_METADATA_EXTRA_ANNOTATION_PROTO,
        ],
        schema_inference._TF_METADATA_EXTRA_ANNOTATION_GLOBAL,
    )
    shapes = schema_inference._get_sparse_output_annotations_v2(graph, names)
    annotations = {**ranges, **protos, schema_inference._METADATA_SPARSE_OUTPUT_OVERRIDES_FIELD: [shapes]}
    return dict(tf.nest.map_structure(tf.convert_to_tensor, annotations))


def _evaluate(concrete: Any, annotations: dict[str, Any]) -> dict[str, Any]:
    """The values of annotations, which depend on no input."""
    if not tf.nest.flatten(annotations):
        return annotations
    holder = wrap_function.VariableHolder(share_variables=True)
    return dict(wrap_function.WrappedFunction(concrete.graph, holder).prune([], annotations)())


def write_analyzed(analysis: Analysis, results: "Results", graph_path: str, temp_path: str) -> None:
    """Writes the graph of a `features` with tft's analyzers, in tf.Transform's layout.

    Args:
      analysis: The recipe's `features`, and the features that it is applied to.
      results: What all of its analyzers gave.
      graph_path: The folder that `tft.TFTransformOutput` will open.
      temp_path: Where vocabularies are written; the graph takes its copies from there.
    """
    from .phases import TracedFeatures, replacements  # imports Beam's and tf.Transform's analyzers: half a second

    files.remove(graph_path)  # of an attempt that was killed
    traced = TracedFeatures(analysis, results, temp_path)
    saved_model = files.join(graph_path, tft.TFTransformOutput.TRANSFORM_FN_DIR)
    impl_helper.trace_and_write_v2_saved_model(
        saved_model,
        analysis.preprocessing_fn(),
        stored_specs(analysis.features),
        temp_path,
        graph_tools.get_analyzers_fingerprint(traced.graph, traced.inputs),
        replacements(results, temp_path),
        None,
        None,
    )
    metadata_path = files.join(graph_path, tft.TFTransformOutput.TRANSFORMED_METADATA_DIR)
    os.rename(files.join(saved_model, impl_helper.METADATA_DIR_NAME), metadata_path)
    if assets := annotators.get_asset_annotations(traced.graph):
        content = json.dumps(assets).encode()
        files.write_bytes(files.join(metadata_path, tft.TFTransformOutput.ASSET_MAP), content)


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
