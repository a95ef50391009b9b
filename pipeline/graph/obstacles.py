"""Which operations of a TensorFlow graph have a portable form, and why others have none. Imports TensorFlow."""

from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

import numpy as np
import tensorflow as tf

from .feature_graph import RAGGED, FeatureGraph, remember
from .operations import HOST_OPERATIONS, OPERATIONS
from .placement import LOOKUP
from .regular_expressions import NotAlikeError, classes, compiled, replacement

SIZE = "LookupTableSizeV2"
_SINGLE = {"Split", "SplitV", "Unpack"}  # each of their outputs is an operation of its own
_ADVICE = {
    "StatelessIf": "control flow; numeric.standardize_by_key and categorical have none",
    "StatelessWhile": "control flow",
}


class Portability:
    """What is known of a graph's operations, each looked at once."""

    def __init__(self, graph: FeatureGraph) -> None:
        self._graph = graph
        self._table_readers: dict[str, bool] = {}

    def is_constant(self, tensor: tf.Tensor) -> bool:
        """Whether a tensor depends on no feature and on no table's entries, so that its value can be stored."""
        if tensor.dtype == tf.resource or self._graph.dependencies(tensor.op):
            return False
        return not remember(self._table_readers, tensor.op, _what_it_reads, self._reads_table)

    def _reads_table(self, operation: tf.Operation) -> bool:
        """Whether an operation depends on a table's entries; how many there are is known without reading them."""
        return operation.type == LOOKUP or any(self._table_readers[each.name] for each in _what_it_reads(operation))

    def obstacles(self, output: Any) -> list[str]:
        """What stands between an output, which may be a sparse or ragged tensor, and a portable form; in words."""
        if not isinstance(output, tf.Tensor):
            return [RAGGED.replace("RaggedTensor", type(output).__name__)]
        kinds: dict[str, None] = {}
        seen: set[str] = set()
        waiting = [output]
        while waiting:
            current = waiting.pop()
            operation = current.op
            if operation.name in seen or self.is_constant(current) or self._graph.decoded(operation):
                continue
            seen.add(operation.name)
            if operation.name in self._graph.inputs:
                name = self._graph.inputs[operation.name].feature
                if name not in self._graph.features or self._graph.features[name].is_pixels:
                    kinds[f"use of {name!r} other than decoded"] = None
            elif operation.type == LOOKUP:
                waiting.extend(operation.inputs[1:])
            elif obstacle := _obstacle(operation):
                kinds[obstacle] = None
            else:
                waiting.extend(operation.inputs)
        return list(kinds)


def find_obstacles(graph: FeatureGraph, outputs: Mapping[str, Any]) -> dict[str, list[str]]:
    """What has no portable form in a graph.

    Args:
      graph: The graph.
      outputs: Output name to tensor, or to a sparse or ragged one.

    Returns:
      What it is, in words, to the names of the outputs that need it.
    """
    portability = Portability(graph)
    unsupported: dict[str, list[str]] = {}
    for name, output in sorted(outputs.items()):
        for kind in portability.obstacles(output):
            unsupported.setdefault(kind, []).append(name)
    return unsupported


def _what_it_reads(operation: tf.Operation) -> Iterable[tf.Operation]:
    return () if operation.type in (SIZE, LOOKUP) else [tensor.op for tensor in operation.inputs]


def _obstacle(operation: tf.Operation) -> str | None:
    """What of an operation has no portable form; None where it has one."""
    kind = operation.type
    if kind in _ADVICE:
        return f"{kind} ({_ADVICE[kind]})"
    if kind not in OPERATIONS and kind not in HOST_OPERATIONS:
        return str(kind)
    if kind in HOST_OPERATIONS and (name := _binary_attribute(operation)):
        return f"{kind} with a {name} that is no UTF-8"
    if kind == "GatherV2" and operation.get_attr("batch_dims"):
        return "GatherV2 with batch_dims"
    if kind == "Mean" and not operation.inputs[0].dtype.is_floating:
        return "Mean of integers"
    if kind in ("StaticRegexReplace", "StaticRegexFullMatch"):
        return _obstacle_of_expression(operation)
    for attribute, values in _LIMITS.get(kind, {}).items():
        if (value := operation.get_attr(attribute)) not in values:
            return f"{kind} with {attribute}={_in_words(value)}"
    if kind in _NUMBERS_ONLY and operation.outputs[0].dtype == tf.string:
        return f"{kind} of strings"
    return None


def _binary_attribute(operation: tf.Operation) -> str | None:
    """The name of an attribute that JSON cannot hold: bytes that are no UTF-8; None where there is none."""
    for name in operation.node_def.attr:
        value = b"" if name.startswith("_") else operation.get_attr(name)
        if isinstance(value, bytes) and value.decode(errors="ignore").encode() != value:
            return str(name)
    return None


# The values that an attribute may have.
_LIMITS: dict[str, dict[str, tuple[Any, ...]]] = {
    "RaggedTensorToTensor": {
        "row_partition_types": ([b"ROW_SPLITS"], [b"ROW_SPLITS"] * 2, [b"FIRST_DIM_SIZE", b"VALUE_ROWIDS"])
    },
    "StringNGrams": {"left_pad": (b"",), "right_pad": (b"",)},
    "StringLower": {"encoding": (b"", b"utf-8")},
    "StringUpper": {"encoding": (b"", b"utf-8")},
    "StringSplit": {"skip_empty": (False,)},
    "TopKV2": {"sorted": (True,)},
}
_NUMBERS_ONLY = {"ScatterNd", "UnsortedSegmentMax", "UnsortedSegmentMin", "SegmentSum"}


def _obstacle_of_expression(operation: tf.Operation) -> str | None:
    """Why a regular expression may mean something else to Python."""
    pattern, replaced = operation.get_attr("pattern").decode(), operation.type == "StaticRegexReplace"
    try:
        expression = compiled(pattern, tuple(sorted(expression_classes(pattern).items())), replaced)
        if replaced:
            replacement(operation.get_attr("rewrite").decode(), expression.groups)
    except NotAlikeError as error:
        return f"the regular expression {pattern!r} ({error})"
    return None


def expression_classes(pattern: str) -> dict[str, str]:
    """The code points of each class of Unicode's that an expression names; see `regular_expressions.translate`."""
    return {name: _code_points(name) for name in classes(pattern)}


@cache
def _code_points(name: str) -> str:
    """The code points of a class as this TensorFlow's RE2 knows it: first and last ones, in hexadecimal; or none."""
    codes = np.concatenate([np.arange(0xD800), np.arange(0xE000, 0x110000)])
    try:
        inside = tf.strings.regex_full_match([chr(code).encode() for code in codes], rf"\p{{{name}}}").numpy()
    except tf.errors.InvalidArgumentError:
        return ""
    members = codes[inside]
    cuts = np.flatnonzero(np.diff(members) != 1)
    firsts, lasts = members[np.concatenate([[0], cuts + 1])], members[np.concatenate([cuts, [-1]])]
    return " ".join(f"{first:x}-{last:x}" for first, last in zip(firsts.tolist(), lasts.tolist(), strict=True))


def _in_words(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_in_words, value))}]"
    return repr(value.decode()) if isinstance(value, bytes) else str(value)


def attributes(operation: tf.Operation, output: int = 0) -> dict[str, Any]:
    """What a portable operation needs to know of one, as JSON has it.

    Args:
      operation: The operation.
      output: Which of its outputs is asked for, where each is an operation of its own.
    """
    entries: dict[str, Any] = {}
    for name in operation.node_def.attr:
        if not name.startswith("_"):
            value = operation.get_attr(name)
            if operation.type in HOST_OPERATIONS and not _is_default(operation, name, value):
                value = _decoded(value)
            entries[name] = value.name if isinstance(value, tf.DType) else value
    if operation.type in _SINGLE:
        entries["output"] = output
    if operation.type.startswith("StaticRegex") and (ranges := expression_classes(entries["pattern"])):
        entries["classes"] = ranges
    kept = {name: value for name, value in entries.items() if isinstance(value, str | int | float | bool | list | dict)}
    return kept


def _is_default(operation: tf.Operation, name: str, value: Any) -> bool:
    """Whether an attribute is left out: how integers are filled up, which they are not by default."""
    return operation.type == "AsString" and name == "fill" and not value


def _decoded(value: Any) -> Any:
    if isinstance(value, list):
        return [_decoded(item) for item in value]
    if isinstance(value, tf.DType):
        return value.name
    return value.decode() if isinstance(value, bytes) else value


def has_several_outputs(operation: tf.Operation) -> bool:
    """Whether an operation gives several tensors at once; its portable form gives a tuple then."""
    return len(operation.outputs) > 1 and operation.type not in _SINGLE
