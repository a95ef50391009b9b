"""What the ids that a transform graph gives stand for: without TensorFlow, by asking the graph."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..errors import RequestError
from ..formats.features import Feature
from .placement import LOOKUP, Node
from .portable import INPUT, PortableGraph


def names_of_ids(
    graph: PortableGraph, output: str, features: Mapping[str, Feature], values: Mapping[str, Sequence[bytes]]
) -> list[str]:
    """The values that an output's ids stand for.

    The graph is run on every value that its look-ups know, or, where there is none, that the feature is known to have.

    Args:
      graph: The graph.
      output: An output that depends on one string or integer.
      features: The stored features.
      values: Of stored features, all values that are known.

    Returns:
      The value of each id from 0 to the last one that a value has; "" for an id that none has.

    Raises:
      RequestError: there is no such output, or its numbers are no ids of one value each.
    """
    if output not in graph.outputs:
        raise RequestError(f"vocabulary: expected one of the outputs {sorted(graph.outputs)}, found {output!r}")
    nodes, inputs = _behind(graph, graph.outputs[output])
    if len(inputs) != 1 or features[inputs[0]].shape != () or features[inputs[0]].dtype not in ("string", "int64"):
        raise RequestError(
            f"vocabulary: expected an output that depends on one string or integer, found {output!r}, which depends on "
            f"{', '.join(inputs) or 'nothing'}"
        )
    name = inputs[0]
    keys = [key for node in nodes if node.kind == LOOKUP for key in graph.keys(node)] or list(values.get(name, ()))
    given = _as_input(keys, features[name].dtype)
    ids = np.asarray(graph.run(nodes, {INPUT + name: given})[graph.outputs[output]]) if len(given) else np.zeros(0)
    if ids.dtype.kind not in "iub" or ids.shape != given.shape:
        raise RequestError(f"vocabulary: expected an output of ids, found {output!r}, which has no look-up of {name!r}")
    names: dict[int, str] = {}
    for value, number in zip(given.tolist(), ids.tolist(), strict=True):
        word = value.decode(errors="backslashreplace") if isinstance(value, bytes) else str(value)
        if names.setdefault(int(number), word) != word:
            raise RequestError(
                f"vocabulary: expected an id for each value, found {number} in {output!r} for {names[number]!r} and "
                f"{word!r}"
            )
    return [names.get(number, "") for number in range(max(names, default=-1) + 1)]


def _behind(graph: PortableGraph, value: str) -> tuple[list[Node], list[str]]:
    """The operations that a value depends on, in order, and the names of the inputs."""
    nodes: dict[str, Node] = {node.output: node for node in (*graph.host, *graph.device)}
    needed, ahead = set[str](), [value]
    while ahead:
        name = ahead.pop()
        if name not in needed:
            needed.add(name)
            ahead += nodes[name].inputs if name in nodes else ()
    inputs = sorted(name.removeprefix(INPUT) for name in needed if name.startswith(INPUT))
    return [node for output, node in nodes.items() if output in needed], inputs


def _as_input(keys: Sequence[Any], dtype: str) -> np.ndarray:
    if dtype == "string":
        strings = np.empty(len(keys), object)
        strings[:] = keys
        return strings
    return np.array([int(key) for key in keys], np.int64)
