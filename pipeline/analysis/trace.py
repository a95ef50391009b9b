"""What a recipe's `features` needs of the data, and the analysis by tf.Transform where it uses tft's analyzers.

Where `features` asks `inputs.statistics` alone, the units' summaries have all the answers, and nothing is analyzed: the
commit writes the graph (see `graph`). tft's own analyzers see RecordBatches that hold real values only in the columns
that they depend on, and our statistics beside them as encoded summaries.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import apache_beam as beam
import tensorflow as tf
from tensorflow_transform import analyzer_nodes, graph_tools, impl_helper, nodes

from ..errors import RequestError, in_words
from ..formats.features import Feature
from ..prepare.summaries import SummarySpec
from . import outputs as traced_outputs
from .batcher import Batcher, adapter_config
from .requests import RecordingStatistics, RequestedStatistics, StatisticRequest
from .tensors import SUMMARIES, Tensors, UserFn, preprocessing_fn, stored_specs

LIGHT_BATCH = 1000  # examples in a batch where no pixels are in it
PIXEL_BATCH = 64


@dataclass(frozen=True)
class Analysis:
    """What the analyzers of a recipe need.

    Attributes:
      user_fn: The recipe's `features`; None passes everything through.
      features: The features of a prepared example.
      requests: The statistics that `features` asks `inputs.statistics` for.
      phases: How many passes over the data tft's analyzers take: 2 where one works on the output of another, 0 where
        there are none.
      columns: The features whose values these analyzers depend on.
      outputs: Output name to the dtype that `features` gave it; the graph widens what tf.Transform cannot describe.
    """

    user_fn: UserFn | None
    features: Mapping[str, Feature]
    requests: tuple[StatisticRequest, ...]
    phases: int
    columns: tuple[str, ...]
    outputs: Mapping[str, str]

    @property
    def batch_size(self) -> int:
        """How many examples make a batch."""
        return PIXEL_BATCH if any(self.features[name].is_pixels for name in self.columns) else LIGHT_BATCH

    @property
    def summary_specs(self) -> tuple[SummarySpec, ...]:
        """The summaries that the analyzers need."""
        return tuple(dict.fromkeys(request.summary_spec for request in self.requests))

    def batcher(self) -> Batcher:
        """Packs what the analyzers need."""
        return Batcher(self.features, self.columns, self.summary_specs, self.batch_size)


def trace(user_fn: UserFn | None, features: Mapping[str, Feature]) -> Analysis:
    """Traces the recipe's `features` and says what its analyzers need.

    Raises:
      RequestError: `features` raises, or returns something else than a dict of tensors with a row for every example.
    """
    dtypes: dict[str, str] = {}
    recording = RecordingStatistics(features)
    try:
        graph, inputs, outputs = _trace(user_fn, features, lambda _: recording, dtypes)
    except RequestError:
        raise
    except Exception as error:  # whatever the user's function raises
        raise RequestError(
            f"Recipe(features=...): the function failed: {in_words(error, user_fn)}; it was given tensors of "
            f"{_summary(features)}"
        ) from error
    traced_outputs.check(inputs, outputs)
    analysis = Analysis(user_fn, features, tuple(recording.requests), 0, (), dtypes)
    if not graph.get_collection(analyzer_nodes.TENSOR_REPLACEMENTS):
        return analysis
    graph, inputs, outputs = _trace(user_fn, features, _deferred(analysis))
    # tft.get_analyze_input_columns would trace once more, and says nothing about phases
    visitor = graph_tools.SourcedTensorsVisitor()
    for sink in graph.get_collection(analyzer_nodes.TENSOR_REPLACEMENTS):
        nodes.Traverser(visitor).visit_value_node(sink.future)
    needed = graph_tools.get_dependent_inputs(graph, inputs, list(visitor.sourced_tensors))
    columns = tuple(name for name in features if name in needed)
    return replace(analysis, phases=_count_phases(graph, inputs, outputs), columns=columns)


def _trace(
    user_fn: UserFn | None,
    features: Mapping[str, Feature],
    statistics: Callable[[Tensors], RequestedStatistics],
    dtypes: dict[str, str] | None = None,
) -> tuple[tf.Graph, Any, Any]:
    """The graph of `features`, its inputs and its outputs."""
    function = preprocessing_fn(user_fn, features, statistics, dtypes)
    specs = stored_specs(features, analysis=True)
    traced: tuple[tf.Graph, Any, Any] = impl_helper.trace_preprocessing_function(
        function, specs, use_tf_compat_v1=False
    )
    return traced


def _deferred(analysis: Analysis) -> Callable[[Tensors], RequestedStatistics]:
    """Answers what `features` asked for by analyzers; makes none where it asked for nothing."""
    if not analysis.requests:
        return lambda _: RecordingStatistics(analysis.features)
    from .analyzers import DeferredStatistics  # half a second, for those who need it

    return lambda raw: DeferredStatistics(analysis.features, raw[SUMMARIES], analysis.requests)


def _summary(features: Mapping[str, Feature]) -> str:
    return ", ".join(f"{name} {feature.dtype} {['batch', *feature.shape]}" for name, feature in features.items())


def _count_phases(graph: tf.Graph, inputs: Mapping[str, Any], outputs: Mapping[str, Any]) -> int:
    from tensorflow_transform.beam import analysis_graph_builder, beam_nodes

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
    """Runs tft's analyzers over RecordBatches and writes the transform graph; yields its path, once."""

    def __init__(self, analysis: Analysis, graph_path: str, temp_path: str) -> None:
        super().__init__()
        self._analysis = analysis
        self._graph_path = graph_path
        self._temp_path = temp_path

    def expand(self, batches: beam.PCollection) -> beam.PCollection:
        import tensorflow_transform.beam as tft_beam
        from tensorflow_transform.beam.tft_beam_io import transform_fn_io

        features = self._analysis.features
        function = preprocessing_fn(self._analysis.user_fn, features, _deferred(self._analysis))
        with tft_beam.Context(temp_dir=self._temp_path, use_deep_copy_optimization=True):
            transform_fn = (batches, adapter_config(features)) | "Analyze" >> tft_beam.AnalyzeDataset(function)
            # (SavedModel path, metadata)
            written = transform_fn | "WriteGraph" >> transform_fn_io.WriteTransformFn(self._graph_path)
        return written | "GraphPath" >> beam.Map(lambda _: self._graph_path)  # str
