"""tf.Transform's analysis in phases: what of `features` can be computed from the data when, and from which results.

An analyzer that is given another's result waits for it. So the analysis has phases: in each, the units reduce their
batches for the analyzers whose turn it is (`PhaseReducer`), and their accumulators are merged, in the units' order, and
evaluated (`evaluate`). The results are all that the next phase needs, and after the last one the graph is written.
"""

import os
import re
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2
from tensorflow.python.eager import wrap_function
from tensorflow_transform import analyzer_nodes, graph_context, graph_tools, impl_helper, nodes, tf2_utils
from tensorflow_transform.saved import saved_transform_io_v2
from tfx_bsl.tfxio.tensor_adapter import TensorAdapter

from ..errors import PenstockError
from ..prepare.summaries import Summaries
from .accumulators import decode, encode
from .analyzers import Evaluator, Reduction, collect_reductions, single
from .batcher import Batcher, adapter_config
from .schema import stored_specs

if TYPE_CHECKING:
    from .trace import Analysis

_TRACING = threading.Lock()  # tf.Transform keeps what it traces in a global variable


@dataclass(frozen=True)
class AssetFile:
    """A file that an analyzer wrote: its path in the folder of all of them, and its content."""

    path: str
    content: bytes


# The name of an analyzer's tensor in the graph to its value: an encoded TensorProto, or a file.
Results = Mapping[str, bytes | AssetFile]


def encode_results(results: Results) -> bytes:
    """The bytes of results."""
    return encode(
        {
            name: ("file", value.path, value.content) if isinstance(value, AssetFile) else value
            for name, value in results.items()
        }
    )


def decode_results(content: bytes) -> Results:
    """Reads them back."""
    return {
        name: AssetFile(*value[1:]) if isinstance(value, tuple) else value for name, value in decode(content).items()
    }


def replacements(results: Results, folder: str) -> dict[str, tf.Tensor]:
    """The constants that take the place of analyzers' tensors, by these tensors' names in the graph.

    Args:
      results: What the analyzers gave.
      folder: A local folder, for their files.
    """
    constants = {}
    for name, value in results.items():
        if isinstance(value, AssetFile):
            path = os.path.join(folder, value.path)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "wb") as file:
                file.write(value.content)
            constants[name] = tf.constant(path)
        else:
            tensor = tensor_pb2.TensorProto.FromString(value)
            constants[name] = tf.constant(tf.make_ndarray(tensor), tensor.dtype)
    return constants


class TracedFeatures:
    """`features` in a graph of TensorFlow's, in which the results of some analyzers are constants.

    Attributes:
      graph: The graph.
      inputs: Its inputs, by the features' names.
    """

    def __init__(self, analysis: "Analysis", results: Results, folder: str) -> None:
        """Traces.

        Args:
          analysis: The recipe's `features`.
          results: What the analyzers of earlier phases gave.
          folder: A local folder for files that the graph reads, for as long as it is used.
        """
        context = graph_context.TFGraphContext(tf.Module(), folder, replacements(results, folder))
        function = impl_helper.get_traced_transform_fn(
            analysis.preprocessing_fn(), stored_specs(analysis.features), context
        )
        self._module = context.module_to_export  # keeps the graph's tables
        with _TRACING:
            self._function = saved_transform_io_v2.trace_and_update_module(
                self._module, function, "transform_fn", strip_control_dependencies=False
            )
        self.graph = self._function.graph
        self.inputs = tf2_utils.get_structured_inputs_from_func_graph(self.graph)

    def ready(self) -> list[Any]:
        """The tensors of those analyzers that are given nothing but what is known by now."""
        sinks = self.graph.get_collection(analyzer_nodes.TENSOR_REPLACEMENTS)
        return ready_sinks(self.graph, self.inputs, sinks, frozenset())

    def reductions(self, sinks: Iterable[Any]) -> dict[str, tuple[Reduction, Sequence[tf.Tensor], str]]:
        """The reductions of some analyzers by name, the tensors that each is given, and its label in this graph.

        The names tell the features that they depend on, besides what tf.Transform calls them: by the order in which
        `features` calls them, and in another process that may be another order.
        """
        reductions = collect_reductions(sink.future for sink in sinks)
        every = [tensor for _, tensors in reductions.values() for tensor in tensors]
        depend = dependencies(self.graph, self.inputs, every)
        named = {}
        for label, (reduction, tensors) in reductions.items():
            sources = sorted({name for tensor in tensors for name in depend[tensor.name]})
            named[f"{label} of {', '.join(sources)}"] = reduction, tensors, label
        return named

    def fetch(self, tensors: Iterable[tf.Tensor]) -> Callable[[Mapping[str, Any]], dict[str, np.ndarray]]:
        """A function from a batch of stored values to the values of some of the graph's tensors, by their names."""
        by_name = {tensor.name: tensor for tensor in tensors}
        wrapped = wrap_function.WrappedFunction(self.graph, wrap_function.VariableHolder(share_variables=True))
        pruned = wrapped.prune(
            self._function.inputs, list(by_name.values()), input_signature=self._function.structured_input_signature
        )

        def call(stored: Mapping[str, Any], _keep: TracedFeatures = self) -> dict[str, np.ndarray]:
            return {name: value.numpy() for name, value in zip(by_name, pruned(stored), strict=True)}

        return call


def dependencies(
    graph: tf.Graph, inputs: Mapping[str, Any], tensors: Iterable[tf.Tensor]
) -> dict[str, tuple[str, ...]]:
    """The names of the features that each of some tensors depends on, by the tensors' names."""
    sinks = graph.get_collection(analyzer_nodes.ALL_REPLACEMENTS)
    of_graph = graph_tools.InitializableGraphAnalyzer(graph, inputs, [(sink.tensor, True) for sink in sinks])
    return {tensor.name: tuple(of_graph.get_dependent_inputs(tensor)) for tensor in tensors}


def ready_sinks(graph: tf.Graph, inputs: Mapping[str, Any], sinks: Sequence[Any], known: frozenset[int]) -> list[Any]:
    """The analyzers' tensors that can be computed next.

    Args:
      graph: The graph of `features`.
      inputs: Its inputs.
      sinks: The analyzers' tensors (`analyzer_nodes.TensorSink`).
      known: The positions of those whose values are known.
    """
    of_graph = graph_tools.InitializableGraphAnalyzer(
        graph, inputs, [(sink.tensor, position in known) for position, sink in enumerate(sinks)]
    )
    traverser = nodes.Traverser(_Readiness(of_graph))
    return [
        sink for position, sink in enumerate(sinks) if position not in known and traverser.visit_value_node(sink.future)
    ]


class _Readiness(nodes.Visitor):
    """Whether all tensors that an analyzer is given are known."""

    def __init__(self, graph: Any) -> None:
        self._graph = graph

    def visit(self, operation: Any, inputs: tuple[bool, ...]) -> tuple[bool, ...]:
        if isinstance(operation, analyzer_nodes.TensorSource):
            return (all(self._graph.ready_to_run(tensor) for tensor in operation.tensors),)
        outputs: int = operation.num_outputs
        return (all(inputs),) * outputs

    def validate_value(self, value: Any) -> None:
        pass


def is_order_free(phases: Iterable[Iterable[Any]]) -> bool:
    """Whether all that analyzers give has the same bits however the examples are ordered and grouped.

    Args:
      phases: The analyzers' tensors by phase, as of `split_in_phases`.
    """
    reductions = [collect_reductions(sink.future for sink in sinks).values() for sinks in phases]
    return all(
        reduction.is_order_free([tensor.dtype for tensor in tensors])
        for each in reductions
        for reduction, tensors in each
    )


def split_in_phases(graph: tf.Graph, inputs: Mapping[str, Any]) -> list[list[Any]]:
    """The analyzers' tensors by the phase in which they are computed.

    Raises:
      ValueError: an analyzer is unknown, or waits for itself.
    """
    sinks = graph.get_collection(analyzer_nodes.TENSOR_REPLACEMENTS)
    phases: list[list[Any]] = []
    known: frozenset[int] = frozenset()
    while len(known) < len(sinks):
        ready = ready_sinks(graph, inputs, sinks, known)
        if not ready:
            raise ValueError("expected analyzers that can be computed one after another, found some that never can")
        collect_reductions(sink.future for sink in ready)
        phases.append(ready)
        known |= {position for position, sink in enumerate(sinks) if any(sink is each for each in ready)}
    return phases


class PhaseReducer:
    """Reduces units for the analyzers of one phase. Traces `features` once, when the first batch comes."""

    def __init__(self, analysis: "Analysis", results: Results, columns: tuple[str, ...]) -> None:
        """Starts without a graph.

        Args:
          analysis: The recipe's `features`.
          results: What the analyzers of earlier phases gave.
          columns: The features that the analyzers of this phase depend on.
        """
        self._analysis = analysis
        self._results = results
        self._columns = columns
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    def start(self) -> "UnitReducer":
        """Begins a unit."""
        return UnitReducer(self, self._analysis.batcher(self._columns))

    def close(self) -> None:
        """Removes the graph's files."""
        if self._folder:
            self._folder.cleanup()

    def reductions(self) -> Mapping[str, tuple[Reduction, Sequence[str]]]:
        """The reductions by name, and the names of the tensors that each is given."""
        self._open()
        return self._reductions

    def values(self, batch: pa.RecordBatch) -> Mapping[str, np.ndarray]:
        """The values of the tensors that the analyzers are given, of one batch.

        Raises:
          PenstockError: `features` cannot be computed on the batch.
        """
        self._open()
        stored = self._adapter.ToBatchTensors(batch, produce_eager_tensors=True)
        try:
            return self._fetch(stored)
        except tf.errors.OpError as error:
            raise PenstockError(
                f"Recipe(features=...): the function failed on stored values, where tft.* needs them: {_cause(error)}; "
                "mend them in `prepare`, or in `features` before tft.*"
            ) from error

    def _open(self) -> None:
        if self._folder:
            return
        self._folder = tempfile.TemporaryDirectory(prefix="penstock-", ignore_cleanup_errors=True)
        traced = TracedFeatures(self._analysis, self._results, self._folder.name)
        reductions = traced.reductions(traced.ready())
        self._reductions = {
            name: (reduction, [tensor.name for tensor in tensors])
            for name, (reduction, tensors, _) in reductions.items()
        }
        self._fetch = traced.fetch(tensor for _, tensors, _ in reductions.values() for tensor in tensors)
        self._adapter = TensorAdapter(adapter_config(self._analysis.features))


def _cause(error: tf.errors.OpError) -> str:
    """What an operation said, out of all that TensorFlow says about where it is."""
    found = re.search(r"([^\n]+)\n\s*\[\[\{\{node", error.message)
    return found[1] if found else error.message


class UnitReducer:
    """Reduces the examples of one unit."""

    def __init__(self, phase: PhaseReducer, batcher: Batcher) -> None:
        self._phase = phase
        self._batcher = batcher
        self._accumulators: dict[str, Any] = {}

    def add(self, analyzed: Sequence[bytes] | pa.RecordBatch) -> None:
        """Takes what a chunk has for the analyzers (see `Chunk.analyzed`)."""
        self._take(self._batcher.add(analyzed))

    def finish(self) -> bytes:
        """The encoded accumulators of all that was added."""
        self._take(self._batcher.flush())
        if not self._accumulators:
            return encode({})
        reductions = self._phase.reductions()
        return encode({label: reductions[label][0].compact(value) for label, value in self._accumulators.items()})

    def _take(self, batches: Iterator[pa.RecordBatch]) -> None:
        for batch in batches:
            values = self._phase.values(batch)
            for label, (reduction, names) in self._phase.reductions().items():
                before = self._accumulators[label] if label in self._accumulators else reduction.create()
                self._accumulators[label] = reduction.add(before, tuple(values[name] for name in names))


def evaluate(
    analysis: "Analysis",
    results: Results,
    units: Sequence[Callable[[], bytes]],
    contents: Iterable[bytes],
    summaries: Summaries,
    folder: str,
) -> Results:
    """Merges the accumulators of a phase and computes what its analyzers give.

    Args:
      analysis: The recipe's `features`.
      results: What the analyzers of earlier phases gave.
      units: Read the encoded accumulators of each unit, in the units' order.
      contents: The same, read ahead.
      summaries: The merged summaries of the statistics' split.
      folder: A local folder; what it holds is not needed any more afterwards.

    Returns:
      The results of this phase and of those before it.

    Raises:
      PenstockError: the units' analyzers are not those that `features` has here, or there is no example.
    """
    traced = TracedFeatures(analysis, results, os.path.join(folder, "traced"))
    ready = traced.ready()
    reductions = traced.reductions(ready)
    merged: dict[str, Any] = {}
    for content in contents:
        for name, accumulator in decode(content).items():
            if name not in reductions:
                raise PenstockError(
                    f"Recipe(features=...): expected one of {sorted(reductions)}, found {name!r} in what a worker "
                    "analyzed; call tft.* in the same order in every process (do not iterate over a set), or give names"
                )
            merged[name] = reductions[name][0].merge(merged[name], accumulator) if name in merged else accumulator
    if reductions and not merged:
        raise PenstockError(
            "the split that statistics come from came out empty: every example of it was quarantined or filtered, and "
            "nothing is left for tft.* in `features`; nothing was committed"
        )
    written = os.path.join(folder, "written")
    names = {label: name for name, (_, _, label) in reductions.items()}
    traverser = nodes.Traverser(Evaluator(traced.graph, names, merged, units, summaries, written))
    computed = dict(results)
    for sink in ready:
        value = single(traverser.visit_value_node(sink.future))
        if sink.is_asset_filepath:
            path = os.fsdecode(np.asarray(value).item())
            with open(path, "rb") as file:
                computed[sink.tensor.name] = AssetFile(os.path.relpath(path, written), file.read())
        else:
            constant = tf.constant(value, sink.tensor.dtype)
            computed[sink.tensor.name] = tf.make_tensor_proto(constant).SerializeToString(deterministic=True)
    return computed
