"""The full-pass statistics: the only module that knows tf.Transform.

The analyzers see RecordBatches that hold real values only in the columns that they depend on; the rest is placeholders.
Pixels reach them as histograms: integer counts, which sum to the same result whatever the order or the batches.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import tensorflow as tf
import tensorflow_transform.beam as tft_beam
from tensorflow_transform import analyzer_nodes, graph_tools, impl_helper, nodes
from tensorflow_transform.beam import analysis_graph_builder, beam_nodes
from tensorflow_transform.beam.tft_beam_io import transform_fn_io
from tensorflow_transform.tf_metadata import schema_utils
from tfx_bsl.coders.example_coder import ExamplesToRecordBatchDecoder
from tfx_bsl.tfxio import tf_example_record

from ..transforms.inputs import Inputs
from .errors import RequestError
from .features import Feature

_HISTOGRAM = "/histogram"  # "image/histogram" is what the analyzers get of the pixels of "image"
_GRAPH_DTYPES = (tf.string, tf.int64, tf.float32)  # all that tf.Transform's metadata can describe
LIGHT_BATCH = 1000  # examples in a batch where no pixels are in it
PIXEL_BATCH = 64

Tensors = Mapping[str, Any]


def histogram_shape(feature: Feature) -> tuple[int, int] | None:
    """[channels, 256] where the feature's pixels are counted, else None."""
    return (feature.shape[-1], 256) if feature.is_pixels and feature.dtype == "uint8" else None


@dataclass(frozen=True)
class Analysis:
    """What the analyzers of a recipe need.

    Attributes:
      features: The features of a prepared example.
      columns: The features whose values the analyzers depend on.
      histograms: The features whose histograms they depend on.
      phases: How many passes over the data they take: 2 where one works on the output of another.
      outputs: Output name to the dtype that `features` gave it; the graph widens what tf.Transform cannot describe.
    """

    features: Mapping[str, Feature]
    columns: tuple[str, ...]
    histograms: tuple[str, ...]
    phases: int
    outputs: Mapping[str, str]

    @property
    def batch_size(self) -> int:
        """How many examples make a batch."""
        return PIXEL_BATCH if any(self.features[name].is_pixels for name in self.columns) else LIGHT_BATCH


def example_spec(features: Mapping[str, Feature]) -> dict[str, tf.io.FixedLenFeature]:
    """How tf.io.parse_example reads a prepared example."""
    return {
        name: tf.io.FixedLenFeature(
            [] if feature.is_pixels else list(feature.shape),
            tf.string if feature.is_pixels else tf.as_dtype(feature.dtype),
        )
        for name, feature in features.items()
    }


def _analysis_spec(features: Mapping[str, Feature]) -> dict[str, tf.io.FixedLenFeature]:
    histograms = {
        name + _HISTOGRAM: tf.io.FixedLenFeature([shape[0] * shape[1]], tf.int64)
        for name, feature in features.items()
        if (shape := histogram_shape(feature))
    }
    return example_spec(features) | histograms


def decode_pixels(encoded: tf.Tensor, feature: Feature) -> tf.Tensor:
    """Decodes a batch of stored pixels in the graph: the same values that Pillow gives.

    Args:
      encoded: string [batch].
      feature: What they are.

    Returns:
      uint8 or uint16 [batch, height, width, channels].
    """
    dtype, channels = tf.as_dtype(feature.dtype), feature.shape[-1]

    def decode(content: tf.Tensor) -> tf.Tensor:
        if feature.encoding == "jpeg":
            pixels = tf.io.decode_jpeg(content, channels, fancy_upscaling=True, dct_method="INTEGER_ACCURATE")
        elif feature.encoding == "png":
            pixels = tf.io.decode_png(content, channels, dtype)
        else:
            pixels = tf.reshape(tf.io.decode_raw(content, dtype), feature.shape)
        return tf.ensure_shape(pixels, feature.shape)

    return tf.map_fn(decode, encoded, fn_output_signature=tf.TensorSpec(feature.shape, dtype))


def preprocessing_fn(
    user_fn: Callable[[Inputs], Tensors] | None,
    features: Mapping[str, Feature],
    dtypes: dict[str, str] | None = None,
) -> Callable[[Tensors], Tensors]:
    """The recipe's `features` as tf.Transform wants it: stored values in, outputs of dtypes it can describe out.

    Args:
      user_fn: The recipe's `features`; None passes everything through.
      features: The features of a prepared example.
      dtypes: Is filled with each output's own dtype, where it is given.
    """

    def run(raw: Tensors) -> Tensors:
        inputs = Inputs(
            {
                name: decode_pixels(raw[name], feature) if feature.is_pixels else raw[name]
                for name, feature in features.items()
            },
            histograms={name: raw[name + _HISTOGRAM] for name in features if name + _HISTOGRAM in raw},
        )
        outputs = dict(inputs) if user_fn is None else user_fn(inputs)
        if not isinstance(outputs, Mapping) or not outputs:
            raise RequestError(
                f"Recipe(features=...): expected a function that returns a dict of tensors, found {outputs!r}"
            )
        if dtypes is not None:
            dtypes.update({name: tensor.dtype.name for name, tensor in outputs.items()})
        return {name: _widen(name, tensor) for name, tensor in outputs.items()}

    return run


def _widen(name: str, tensor: Any) -> Any:
    if tensor.dtype in _GRAPH_DTYPES:
        return tensor
    if tensor.dtype.is_integer or tensor.dtype.is_bool:
        return tf.cast(tensor, tf.int64)
    if tensor.dtype.is_floating:
        return tf.cast(tensor, tf.float32)
    raise RequestError(f"Recipe(features=...): {name!r} is {tensor.dtype.name}, expected text, integers or reals")


def trace(user_fn: Callable[[Inputs], Tensors] | None, features: Mapping[str, Feature]) -> Analysis:
    """Traces the recipe's `features` and says what its analyzers need.

    Raises:
      RequestError: `features` raises, or returns something else than a dict of tensors.
    """
    dtypes: dict[str, str] = {}
    specs = {
        name: tf.TensorSpec([None, *spec.shape], spec.dtype) for name, spec in _analysis_spec(features).items()
    }
    try:
        graph, inputs, outputs = impl_helper.trace_preprocessing_function(
            preprocessing_fn(user_fn, features, dtypes), specs, use_tf_compat_v1=False
        )
    except RequestError:
        raise
    except Exception as error:  # whatever the user's function raises
        raise RequestError(
            f"Recipe(features=...): the function failed on tensors of {_summary(features)}: "
            f"{type(error).__name__}: {error}"
        ) from error
    # tft.get_analyze_input_columns would trace a second time, and says nothing about phases
    sinks = graph.get_collection(analyzer_nodes.TENSOR_REPLACEMENTS)
    visitor = graph_tools.SourcedTensorsVisitor()
    for sink in sinks:
        nodes.Traverser(visitor).visit_value_node(sink.future)
    needed = graph_tools.get_dependent_inputs(graph, inputs, list(visitor.sourced_tensors)) if sinks else {}
    return Analysis(
        features=features,
        columns=tuple(name for name in features if name in needed),
        histograms=tuple(name for name in features if name + _HISTOGRAM in needed),
        phases=_count_phases(graph, inputs, outputs),
        outputs=dtypes,
    )


def _summary(features: Mapping[str, Feature]) -> str:
    return ", ".join(f"{name} {feature.dtype} {['batch', *feature.shape]}" for name, feature in features.items())


def _count_phases(graph: tf.Graph, inputs: Tensors, outputs: Tensors) -> int:
    future, _, leaves = analysis_graph_builder.build(graph, inputs, outputs)
    phases = {0}

    def visit(node: nodes.ValueNode) -> None:
        definition = node.parent_operation.operation_def
        if isinstance(definition, beam_nodes.ApplySavedModel):
            phases.add(definition.phase)
        for parent in node.parent_operation.inputs:
            visit(parent)

    for node in (future, *leaves):
        visit(node)
    return max(phases) + 1


def adapter_config(features: Mapping[str, Feature]) -> Any:
    """How tf.Transform reads the batches: tfx_bsl's TensorAdapterConfig."""
    schema = schema_utils.schema_from_feature_spec(_analysis_spec(features))
    return tf_example_record.TFExampleBeamRecord(physical_format="inmem", schema=schema).TensorAdapterConfig()


class Batcher:
    """Collects what the analyzers need of serialized examples, and packs it into RecordBatches."""

    def __init__(self, analysis: Analysis) -> None:
        self._analysis = analysis
        self._schema = adapter_config(analysis.features).arrow_schema
        columns = {name: analysis.features[name] for name in analysis.columns}
        self._decoder = (
            ExamplesToRecordBatchDecoder(
                schema_utils.schema_from_feature_spec(example_spec(columns)).SerializeToString()
            )
            if columns
            else None
        )
        self._examples: list[bytes] = []
        self._histograms: dict[str, np.ndarray] = {}

    def add(self, serialized: bytes, histograms: Mapping[str, np.ndarray]) -> pa.RecordBatch | None:
        """Takes one example; returns a batch when one is full."""
        self.add_histograms(histograms)
        if self._decoder is None:
            return None
        self._examples.append(serialized)
        return self.flush() if len(self._examples) >= self._analysis.batch_size else None

    def add_histograms(self, histograms: Mapping[str, np.ndarray]) -> None:
        """Takes counts of pixels alone."""
        for name in self._analysis.histograms:
            if name in histograms:
                self._histograms[name] = self._histograms.get(name, 0) + histograms[name]

    def flush(self) -> pa.RecordBatch | None:
        """Packs what is left; None where nothing is."""
        if not self._examples and not self._histograms:
            return None
        rows = len(self._examples) or 1
        decoded = self._decoder.DecodeBatch(self._examples) if self._decoder and self._examples else None
        columns = []
        for column in self._schema:
            name = column.name.removesuffix(_HISTOGRAM)
            if decoded is not None and column.name in self._analysis.columns:
                columns.append(decoded.column(decoded.schema.get_field_index(column.name)).cast(column.type))
            else:
                width = _width(self._analysis.features[name], column.name.endswith(_HISTOGRAM))
                values = np.zeros(rows * width, np.int64)
                if column.name.endswith(_HISTOGRAM) and name in self._histograms:
                    values[:width] = self._histograms[name].ravel()  # the first row carries the batch's sum
                columns.append(_lists(values, rows, width, column.type))
        self._examples, self._histograms = [], {}
        return pa.RecordBatch.from_arrays(columns, schema=self._schema)


def _width(feature: Feature, histogram: bool) -> int:
    if histogram:
        return 256 * feature.shape[-1]
    return 1 if feature.is_pixels else int(np.prod(feature.shape))


def _lists(values: np.ndarray, rows: int, width: int, arrow_type: pa.DataType) -> pa.Array:
    """A list column with `width` values a row; zeros stand for empty bytes where the column holds bytes."""
    item = arrow_type.value_type
    flat = pa.array([b""] * len(values), item) if pa.types.is_large_binary(item) else pa.array(values).cast(item)
    return pa.LargeListArray.from_arrays(pa.array(np.arange(rows + 1) * width), flat).cast(arrow_type)


class AnalyzeAndWriteGraph(beam.PTransform):
    """Runs the analyzers over RecordBatches and writes the transform graph; yields the graph's path, once."""

    def __init__(
        self,
        user_fn: Callable[[Inputs], Tensors] | None,
        analysis: Analysis,
        graph_path: str,
        temp_path: str,
    ) -> None:
        super().__init__()
        self._user_fn = user_fn
        self._analysis = analysis
        self._graph_path = graph_path
        self._temp_path = temp_path

    def expand(self, batches: beam.PCollection) -> beam.PCollection:
        features = self._analysis.features
        with tft_beam.Context(temp_dir=self._temp_path, use_deep_copy_optimization=True):
            transform_fn = (batches, adapter_config(features)) | "Analyze" >> tft_beam.AnalyzeDataset(
                preprocessing_fn(self._user_fn, features)
            )
            # (SavedModel path, metadata)
            written = transform_fn | "WriteGraph" >> transform_fn_io.WriteTransformFn(self._graph_path)
        return written | "GraphPath" >> beam.Map(lambda _: self._graph_path)
