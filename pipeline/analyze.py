"""The full-pass statistics, by tf.Transform.

The analyzers see RecordBatches that hold real values only in the columns that they depend on. Pixels reach them as
histograms and tables as summaries: exact, and the same whatever the order or the batches.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import apache_beam as beam
import tensorflow as tf
import tensorflow_transform.beam as tft_beam
from tensorflow_transform import analyzer_nodes, graph_tools, impl_helper, nodes
from tensorflow_transform.beam import analysis_graph_builder, beam_nodes
from tensorflow_transform.beam.tft_beam_io import transform_fn_io
from tfx_bsl.tfxio.tensor_adapter import TensorAdapter

from .batcher import Batcher, adapter_config
from .deferred import DeferredStatistics, RecordingStatistics, Request
from .errors import RequestError
from .features import Feature
from .summaries import Wanted
from .tensors import HISTOGRAM, UserFn, preprocessing_fn

LIGHT_BATCH = 1000  # examples in a batch where no pixels are in it
PIXEL_BATCH = 64


@dataclass(frozen=True)
class Analysis:
    """What the analyzers of a recipe need.

    Attributes:
      features: The features of a prepared example.
      columns: The features whose values the analyzers depend on.
      histograms: The features whose histograms they depend on.
      requests: The statistics of columns that `features` asks for.
      phases: How many passes over the data they take: 2 where one works on the output of another.
      outputs: Output name to the dtype that `features` gave it; the graph widens what tf.Transform cannot describe.
    """

    features: Mapping[str, Feature]
    columns: tuple[str, ...]
    histograms: tuple[str, ...]
    requests: tuple[Request, ...]
    phases: int
    outputs: Mapping[str, str]

    @property
    def batch_size(self) -> int:
        """How many examples make a batch."""
        return PIXEL_BATCH if any(self.features[name].is_pixels for name in self.columns) else LIGHT_BATCH

    @property
    def wanted(self) -> tuple[Wanted, ...]:
        """The summaries that the analyzers need."""
        return tuple(dict.fromkeys(request.wanted for request in self.requests))

    def batcher(self) -> Batcher:
        """Packs what the analyzers need."""
        return Batcher(self.features, self.columns, self.histograms, self.wanted, self.batch_size)


def trace(user_fn: UserFn | None, features: Mapping[str, Feature]) -> Analysis:
    """Traces the recipe's `features` and says what its analyzers need.

    Raises:
      RequestError: `features` raises, or returns something else than a dict of tensors.
    """
    dtypes: dict[str, str] = {}
    recorded: list[RecordingStatistics] = []

    def statistics(tensor: tf.Tensor) -> RecordingStatistics:
        recorded.append(RecordingStatistics(tensor, features))
        return recorded[-1]

    specs = TensorAdapter(adapter_config(features)).OriginalTypeSpecs()
    try:
        graph, inputs, outputs = impl_helper.trace_preprocessing_function(
            preprocessing_fn(user_fn, features, statistics, dtypes), specs, use_tf_compat_v1=False
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
        histograms=tuple(name for name in features if name + HISTOGRAM in needed),
        requests=tuple(recorded[-1].requests),
        phases=_count_phases(graph, inputs, outputs),
        outputs=dtypes,
    )


def _summary(features: Mapping[str, Feature]) -> str:
    return ", ".join(f"{name} {feature.dtype} {['batch', *feature.shape]}" for name, feature in features.items())


def _count_phases(graph: tf.Graph, inputs: Mapping[str, Any], outputs: Mapping[str, Any]) -> int:
    future, _, leaves = analysis_graph_builder.build(graph, inputs, outputs)
    phases = {0}
    seen = set()
    ahead = [future, *leaves]
    while ahead:
        operation = ahead.pop().parent_operation
        if id(operation) in seen:
            continue
        seen.add(id(operation))
        if isinstance(operation.operation_def, beam_nodes.ApplySavedModel):
            phases.add(operation.operation_def.phase)
        ahead.extend(operation.inputs)
    return max(phases) + 1


class AnalyzeAndWriteGraph(beam.PTransform):
    """Runs the analyzers over RecordBatches and writes the transform graph; yields the graph's path, once."""

    def __init__(self, user_fn: UserFn | None, analysis: Analysis, graph_path: str, temp_path: str) -> None:
        super().__init__()
        self._user_fn = user_fn
        self._analysis = analysis
        self._graph_path = graph_path
        self._temp_path = temp_path

    def expand(self, batches: beam.PCollection) -> beam.PCollection:
        features, requests = self._analysis.features, self._analysis.requests
        function = preprocessing_fn(
            self._user_fn, features, lambda tensor: DeferredStatistics(tensor, requests) if requests else None
        )
        with tft_beam.Context(temp_dir=self._temp_path, use_deep_copy_optimization=True):
            transform_fn = (batches, adapter_config(features)) | "Analyze" >> tft_beam.AnalyzeDataset(function)
            # (SavedModel path, metadata)
            written = transform_fn | "WriteGraph" >> transform_fn_io.WriteTransformFn(self._graph_path)
        return written | "GraphPath" >> beam.Map(lambda _: self._graph_path)
