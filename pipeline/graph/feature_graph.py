"""A TensorFlow graph from stored features to outputs: a saved one, or one that was just traced.

Imports no TensorFlow: it is given the graph.
"""

from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from typing import Any, NamedTuple

from ..formats.features import Feature

RAGGED = "RaggedTensor, a list of any length: bring it to one length with text.pad"  # as an output
_DECODERS = {"DecodeJpeg", "DecodePng", "DecodeRaw"}


class Source(NamedTuple):
    """What a placeholder stands for: a feature, and of a list of any length one of its parts.

    Attributes:
      feature: The feature's name.
      part: 0 the indices, 1 the values, 2 the shape of a sparse tensor; None for the whole feature.
    """

    feature: str
    part: int | None = None


class FeatureGraph:
    """Operations by what they depend on.

    Args:
      graph: The tf.Graph.
      inputs: The name of a placeholder's operation to what it stands for.
      features: The features of a prepared example.
    """

    def __init__(self, graph: Any, inputs: Mapping[str, Source], features: Mapping[str, Feature]) -> None:
        self.graph = graph
        self.inputs = inputs
        self.features = features
        self._dependencies: dict[str, frozenset[str]] = {}

    def dependencies(self, operation: Any) -> frozenset[str]:
        """The features that an operation depends on, directly or not."""

        def compute(each: Any) -> frozenset[str]:
            if each.name in self.inputs:
                return frozenset([self.inputs[each.name].feature])
            before = {self._dependencies[tensor.op.name] for tensor in each.inputs}
            return next(iter(before)) if len(before) == 1 else frozenset().union(*before)

        features: frozenset[str] = remember(self._dependencies, operation, _producers, compute)
        return features

    def decoded(self, operation: Any) -> str | None:
        """The pixel feature whose decoding an operation completes, or None.

        The loop that decodes is the one that `analysis.preprocessing.decode_pixels` traces.
        """
        if operation.type != "TensorListStack":
            return None
        loop = operation.inputs[0].op
        if loop.type not in ("StatelessWhile", "While"):
            return None
        sources = self.dependencies(loop)
        name = next(iter(sources)) if len(sources) == 1 else ""
        if name not in self.features or not self.features[name].is_pixels:
            return None
        kinds = {node.op for node in self._functions[loop.get_attr("body").name].node_def}
        return None if _DECODERS.isdisjoint(kinds) else name

    @cached_property
    def _functions(self) -> dict[str, Any]:
        return {entry.signature.name: entry for entry in self.graph.as_graph_def().library.function}


def _producers(operation: Any) -> Iterable[Any]:
    return (tensor.op for tensor in operation.inputs)


def remember(
    results: dict[str, Any], last: Any, before: Callable[[Any], Iterable[Any]], compute: Callable[[Any], Any]
) -> Any:
    """Computes something of an operation or tensor from that of others; without recursion, since chains are long.

    Args:
      results: Name to result, of those that were computed; gets the new ones.
      last: An operation or a tensor.
      before: Which others need their results first.
      compute: The result, once these have theirs.

    Returns:
      The result of the last one.
    """
    waiting = [last]
    while waiting:
        current = waiting[-1]
        if current.name in results:
            waiting.pop()
        elif missing := [each for each in before(current) if each.name not in results]:
            waiting += missing
        else:
            results[current.name] = compute(waiting.pop())
    return results[last.name]
