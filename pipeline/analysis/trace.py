"""Traces a recipe's `features` before a run: which statistics it asks for, and what tft's analyzers in it depend on.

`features` is traced several times, each time with another `inputs.statistics`:

1. Before the run, with `RecordingStatistics`: learns its requests and its outputs' dtypes, and checks its outputs.
2. Before the run, with `DeferredStatistics`, only if it uses tft's analyzers: learns their phases and columns.
3. Where units are reduced for these, and where their results are merged: with `DeferredStatistics`, for each phase.
4. At the commit, with `KnownStatistics`, or with all that was deferred. This trace is the graph that is saved.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import tensorflow as tf
from tensorflow_transform import analyzer_nodes, graph_tools, impl_helper, nodes

from ..errors import RequestError, in_words
from ..formats.features import Feature
from ..garbage import uncollected
from ..graph import obstacles
from ..graph.feature_graph import FeatureGraph, Source
from ..prepare.summaries import SummarySpec
from . import advice
from . import outputs as checks
from .batcher import Batcher
from .deferred_statistics import DeferredStatistics
from .preprocessing import FeaturesFn, Tensors, call_features, make_preprocessing_fn
from .requests import StatisticRequest
from .schema import stored_specs
from .statistics import RecordingStatistics, RequestedStatistics

LIGHT_BATCH = 1000  # examples in a batch without pixels
PIXEL_BATCH = 64
TABLE_BATCH = 1 << 14  # rows that come as columns
_SUMMED = 1 << 18  # values whose sum is the same for any number of TensorFlow's threads


@dataclass(frozen=True)
class Analysis:
    """What a recipe's `features` needs of the data.

    Attributes:
      features_fn: The recipe's `features`; None passes everything through.
      features: The features of a prepared example.
      requests: The statistics that `features` asks `inputs.statistics` for.
      phases: How many passes over the data tft's analyzers take: 2 where one works on the output of another, 0 where
        there are none.
      columns: The features whose values these analyzers depend on.
      first_columns: Those of them that the analyzers of the first pass depend on.
      outputs: Output name to the dtype that `features` gave it; the graph widens dtypes that tf.Transform cannot
        describe.
      zero_filled: Columns whose missing values these analyzers take for 0, of integers, or NaN, of floats: `features`
        gives them as they are, and looks at no `inputs.missing`.
      is_order_free: Whether all that these analyzers give has the same bits however the examples are ordered and
        grouped in units. True without any: what `inputs.statistics` gives always is so.
      warnings: What the author should know before the run.
    """

    features_fn: FeaturesFn | None
    features: Mapping[str, Feature]
    requests: tuple[StatisticRequest, ...]
    phases: int
    columns: tuple[str, ...]
    outputs: Mapping[str, str]
    first_columns: tuple[str, ...] = ()
    zero_filled: tuple[str, ...] = ()
    is_order_free: bool = True
    warnings: tuple[str, ...] = ()

    @property
    def summary_specs(self) -> tuple[SummarySpec, ...]:
        """The summaries that answer the requests."""
        return tuple(dict.fromkeys(request.summary_spec for request in self.requests))

    def batcher(self, columns: tuple[str, ...]) -> Batcher:
        """Packs a unit's examples for analyzers that depend on some columns; what is summed is the same everywhere."""
        chosen = [self.features[name] for name in columns]
        shapes = [feature.pixel_shape if feature.is_pixels else feature.shape for feature in chosen]
        summed = _SUMMED // max((math.prod(size or 1 for size in shape) for shape in shapes), default=1)
        most = PIXEL_BATCH if any(feature.is_pixels for feature in chosen) else LIGHT_BATCH
        return Batcher(self.features, columns, max(1, min(most, summed)), max(1, min(TABLE_BATCH, summed)))

    def preprocessing_fn(self) -> Callable[[Tensors], Tensors]:
        """`features` as tf.Transform traces it, with the statistics it asks for answered by analyzers."""
        return make_preprocessing_fn(self.features_fn, self.features, self._deferred_statistics)

    def _deferred_statistics(self, _: Tensors) -> RequestedStatistics:
        return DeferredStatistics(self.features, self.requests)


@uncollected()
def trace(features_fn: FeaturesFn | None, features: Mapping[str, Feature]) -> Analysis:
    """Traces the recipe's `features` and returns what it needs of the data.

    Args:
      features_fn: The recipe's `features`; None passes everything through.
      features: The features of a prepared example.

    Raises:
      RequestError: `features` raises, or returns something else than a dict of tensors with a row for every example.
    """
    recording = RecordingStatistics(features)
    try:
        graph, inputs, outputs = _trace(
            lambda stored: call_features(features_fn, features, stored, recording), features
        )
    except RequestError:
        raise
    except Exception as error:  # whatever the user's function raises
        raise RequestError(
            f"Recipe(features=...): the function failed: {in_words(error, features_fn)}; it was given tensors of "
            f"{_shapes_in_words(features)}"
        ) from error
    checks.check_rows(inputs, outputs)
    dtypes = {name: tensor.dtype.name for name, tensor in outputs.items()}
    traced = FeatureGraph(graph, _sources(inputs), features)
    warnings = advice.not_portable(obstacles.find_obstacles(traced, outputs))
    analysis = Analysis(features_fn, features, recording.requests, 0, (), dtypes, warnings=warnings)
    if not graph.get_collection(analyzer_nodes.TENSOR_REPLACEMENTS):
        return analysis
    # Imports Beam and tf.Transform's implementations of its analyzers: half a second.
    from .phases import is_order_free, split_in_phases

    graph, inputs, _ = _trace(analysis.preprocessing_fn(), features)
    try:
        phases = split_in_phases(graph, inputs)
    except ValueError as error:
        raise RequestError(f"Recipe(features=...): {error}") from error
    analyzed = _analyzed_tensors(graph.get_collection(analyzer_nodes.TENSOR_REPLACEMENTS))
    columns = _dependencies(features, graph, inputs, analyzed)
    return replace(
        analysis,
        phases=len(phases),
        columns=columns,
        is_order_free=is_order_free(phases),
        first_columns=_dependencies(features, graph, inputs, _analyzed_tensors(phases[0])),
        zero_filled=tuple(name for name in columns if _is_zero_filled(features[name], inputs[name], analyzed)),
    )


def _trace(
    preprocessing_fn: Callable[[Tensors], Tensors], features: Mapping[str, Feature]
) -> tuple[tf.Graph, Any, Any]:
    """The graph of a preprocessing_fn, to be looked at and not to be run, its inputs and its outputs."""
    graphs: list[tf.Graph] = []

    def in_graph(stored: Tensors) -> Tensors:
        graphs.append(tf.compat.v1.get_default_graph())
        return preprocessing_fn(stored)

    try:
        traced: tuple[tf.Graph, Any, Any] = impl_helper.trace_preprocessing_function(
            in_graph, stored_specs(features), use_tf_compat_v1=False
        )
    finally:  # also where `features` raises
        for graph in graphs:
            _remove_tables(graph)
    return traced


def _remove_tables(graph: Any) -> None:
    """Removes the lookup tables of a function's graph, which cannot be run any more, from TensorFlow.

    It keeps a table as long as the process lives, and gives it to whoever asks for its name. Of a vocabulary whose file
    is not known yet, the name follows from the order of tft's calls alone: the next `features` that is traced would get
    it, and fail where its keys have another dtype.
    """
    for tensor in graph.external_captures:
        if tensor.dtype == tf.resource:
            tf.raw_ops.DestroyResourceOp(resource=tensor, ignore_lookup_error=True)


def _shapes_in_words(features: Mapping[str, Feature]) -> str:
    return ", ".join(f"{name} {feature.dtype} {['batch', *feature.shape]}" for name, feature in features.items())


def _sources(inputs: Mapping[str, Any]) -> dict[str, Source]:
    """Operation name of a placeholder to the stored feature that it stands for."""
    sources: dict[str, Source] = {}
    for name, value in inputs.items():
        parts = tf.nest.flatten(value, expand_composites=True)
        for part, tensor in enumerate(parts):
            sources[tensor.op.name] = Source(name, part if len(parts) > 1 else None)
    return sources


def _analyzed_tensors(sinks: Iterable[Any]) -> list[tf.Tensor]:
    """The tensors that some analyzers are given."""
    visitor = graph_tools.SourcedTensorsVisitor()
    for sink in sinks:
        nodes.Traverser(visitor).visit_value_node(sink.future)
    return list(visitor.sourced_tensors)


def _dependencies(
    features: Iterable[str], graph: tf.Graph, inputs: Mapping[str, Any], tensors: list[tf.Tensor]
) -> tuple[str, ...]:
    """The features that some tensors depend on."""
    needed = graph_tools.get_dependent_inputs(graph, inputs, tensors)
    return tuple(name for name in features if name in needed)


def _is_zero_filled(feature: Feature, stored: Any, analyzed: Sequence[tf.Tensor]) -> bool:
    """Whether a column of numbers goes into analyzers with what stands for missing values, and nobody looked for these.

    Whoever does compares: with NaN, or as `inputs.missing` of integers does. That `preprocessing` puts 0 for a missing
    integer is no such look.
    """
    if not feature.optional or feature.shape or feature.dtype == "string":
        return False
    copies = [operation for operation in stored.consumers() if operation.type == "Identity"]  # tf.Transform makes one
    readers = [each for copy in copies for each in copy.outputs[0].consumers()] + stored.consumers()
    looks = {"IsNan", "IsFinite"} if feature.dtype != "int64" else {"Equal"}
    compared = {operation.name for operation in readers if operation.type in looks}
    filled = {operation.name for operation in readers if operation.type == "SelectV2"} if "Equal" in looks else set()
    return any(
        stored.op.name in reached and reached.isdisjoint(compared)
        for reached in (_behind(tensor.op, filled) for tensor in analyzed)
    )


def _behind(operation: tf.Operation, filled: set[str]) -> set[str]:
    """The names of the operations that one depends on; of those that fill in a 0, without their condition."""
    reached: set[str] = set()
    pending = [operation]
    while pending:
        current = pending.pop()
        if current.name not in reached:
            reached.add(current.name)
            pending += [tensor.op for tensor in current.inputs[1 if current.name in filled else 0 :]]
    return reached
