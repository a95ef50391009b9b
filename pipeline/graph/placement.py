"""Divides a portable graph between host and device.

The host does what a device cannot: strings and look-ups, and numbers that need 64 bits, which JAX makes 32 unless told
otherwise, and many a device lacks. Of integers it is known what they can be: those that fit 32 bits stay.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from ..formats.decode import Array
from .operations import HOST_OPERATIONS

LOOKUP = "LookupTableFindV2"
TUPLE = "tuple"  # the dtype of what an operation gives that has several outputs


@dataclass(frozen=True)
class Node:
    """One operation: its kind, the ids of its inputs, the id and the dtype of its output, its attributes."""

    kind: str
    inputs: tuple[str, ...]
    output: str
    dtype: str
    attributes: Mapping[str, Any]


class ValueRange(NamedTuple):
    """The smallest and the largest that integers can be."""

    low: int
    high: int

    def holds(self, other: "ValueRange") -> bool:
        """Whether all of another range is in this one."""
        return self.low <= other.low and other.high <= self.high


INT32 = ValueRange(-(2**31), 2**31 - 1)
# Counts of something that is in memory.
_COUNTS = {
    *("ArgMax", "ArgMin", "Bucketize", "LowerBound", "Rank", "Shape", "Size", "StringLength", "UpperBound", "Where"),
}
_HASHES = {"StringToHashBucketFast", "StringToHashBucketStrong"}
# What gives flat values of lists of any length, or something else than a row for every example.
_FLAT = {
    *("DenseBincount", "Fill", "ListParts", "RaggedGather", "RaggedRange", "RaggedTensorToSparse", "Range"),
    *("SegmentSum", "SparseReduceSumSparse", "StringNGrams", "StringSplit", "StringSplitV2", "Where"),
}
# What makes rows of them.
_TO_ROWS = {
    *("RaggedTensorToTensor", "ScatterNd", "SparseReduceSum", "SparseToDense"),
    *("UnsortedSegmentMax", "UnsortedSegmentMin", "UnsortedSegmentProd", "UnsortedSegmentSum"),
}
_SHAPES = {"Rank", "Shape", "Size"}
# Which arguments are values, of operations that also take indices or splits.
_VALUES = {"RaggedTensorToTensor": (1, 3), "SparseToDense": (2, 4)}
_ARITHMETIC = {"Add", "AddV2", "Mul", "Sub"}
# What gives some of the integers that it takes, or 0 or 1.
_MOVES = {
    *("BroadcastTo", "Cast", "CheckNumerics", "ClipByValue", "ConcatV2", "EnsureShape", "ExpandDims", "Fill"),
    *("GatherNd", "GatherV2", "Identity", "Max", "Maximum", "Min", "Minimum", "OneHot", "OnesLike", "Pack", "Pad"),
    *("PadV2", "RaggedTensorToTensor", "Relu", "Reshape", "ReverseV2", "SelectV2", "Slice", "SparseToDense", "Split"),
    *("SplitV", "Squeeze", "StopGradient", "StridedSlice", "Tile", "Transpose", "Unpack", "ZerosLike"),
}


def value_range(values: Array) -> ValueRange | None:
    """The range of an array's integers; None where it has none."""
    return ValueRange(int(values.min()), int(values.max())) if values.size and values.dtype.kind in "iub" else None


def split(
    nodes: Sequence[Node],
    inputs: Mapping[str, str],
    constants: Mapping[str, Array],
    tables: Mapping[str, ValueRange | None],
) -> tuple[list[Node], list[Node]]:
    """Divides a graph.

    The host does what takes or makes values that only it can hold, and all that this depends on; the device does the
    rest. Only it can hold what is no row for every example, as flat values of lists are. Shapes do not travel, since
    batches do: what takes the shape of a value that only the host has is the host's, and other shapes are computed on
    both sides.

    Args:
      nodes: In an order that can be run.
      inputs: Input id to dtype.
      constants: Id to value.
      tables: Name to the range of its values.

    Returns:
      The host's nodes, and the device's.
    """
    dtypes = {**inputs, **{name: _name(value.dtype) for name, value in constants.items()}}
    dtypes |= {node.output: node.dtype for node in nodes}
    ranges = _ranges(nodes, inputs, constants, tables)
    host_only = {name for name, dtype in dtypes.items() if not _fits(dtype, ranges.get(name))}
    shapes = set(constants)  # and what is computed from nothing else
    flat: set[str] = set()
    for node in nodes:
        is_shape = node.kind in _SHAPES or shapes.issuperset(node.inputs)
        if is_shape:
            shapes.add(node.output)
        if _is_flat(node, flat) or (is_shape and node.kind in HOST_OPERATIONS):
            flat.add(node.output)
        if node.output in flat or (is_shape and not host_only.isdisjoint(node.inputs)):
            host_only.add(node.output)
    needed: set[str] = set()
    host: list[Node] = []
    for node in reversed(nodes):
        is_hosts = node.kind == LOOKUP or node.kind in HOST_OPERATIONS
        if node.output in needed or is_hosts or not host_only.isdisjoint({*node.inputs, node.output}):
            host.append(node)
            needed.update(node.inputs)
    on_host = {node.output for node in host}
    needed = set()
    device: list[Node] = []
    for node in reversed(nodes):
        if node.output not in on_host or node.output in shapes & needed:
            device.append(node)
            needed.update(node.inputs)
    return host[::-1], device[::-1]


def _is_flat(node: Node, flat: set[str]) -> bool:
    """Whether a node gives something else than a row for every example."""
    return node.kind in _FLAT or (node.kind not in _TO_ROWS and not flat.isdisjoint(node.inputs))


def _name(dtype: np.dtype[Any]) -> str:
    return "string" if dtype.hasobject else dtype.name


def _fits(dtype: str, values: ValueRange | None) -> bool:
    """Whether a device without 64-bit numbers can hold values of a dtype and, for integers, a range."""
    if dtype in ("int64", "uint64"):
        return values is not None and INT32.holds(values)
    return dtype not in ("string", "float64", TUPLE)


def _ranges(
    nodes: Sequence[Node],
    inputs: Mapping[str, str],
    constants: Mapping[str, Array],
    tables: Mapping[str, ValueRange | None],
) -> dict[str, ValueRange]:
    """Id to range, of all integers and truth values."""
    ranges = {name: _of_dtype(dtype) for name, dtype in inputs.items()}
    ranges |= {name: value_range(value) for name, value in constants.items()}
    for node in nodes:
        possible = _of_dtype(node.dtype)
        arguments = [ranges.get(name) for name in node.inputs]
        if node.kind == LOOKUP:
            arguments[0] = tables[node.attributes["table"]]
        first, last = _VALUES.get(node.kind, (0, len(arguments)))
        result = _result(node.kind, [each for each in arguments[first:last] if each]) if all(arguments) else None
        if node.kind in _COUNTS:
            result = INT32
        elif node.kind in _HASHES:
            result = ValueRange(0, node.attributes["num_buckets"] - 1)
        ranges[node.output] = result if result and possible and possible.holds(result) else possible
    return {name: values for name, values in ranges.items() if values}


def _of_dtype(dtype: str) -> ValueRange | None:
    if dtype == "bool":
        return ValueRange(0, 1)
    if dtype in ("string", TUPLE) or np.dtype(dtype).kind not in "iu":
        return None
    limits = np.iinfo(dtype)
    return ValueRange(int(limits.min), int(limits.max))


def _result(kind: str, arguments: Sequence[ValueRange]) -> ValueRange | None:
    """The range of an operation's results from integers in some ranges; None where that is not known."""
    if kind in _ARITHMETIC:
        a, b = arguments
        if kind == "Mul":
            ends = [x * y for x in a for y in b]
            return ValueRange(min(ends), max(ends))
        return (
            ValueRange(a.low - b.high, a.high - b.low) if kind == "Sub" else ValueRange(a.low + b.low, a.high + b.high)
        )
    if kind in _MOVES or kind == LOOKUP:
        return ValueRange(min(0, *(values.low for values in arguments)), max(1, *(values.high for values in arguments)))
    return None
