"""Divides a portable graph between host and device.

The host does what a device cannot: strings and look-ups, and numbers that need 64 bits, which JAX makes 32 unless told
otherwise, and many a device lacks. Of integers it is known what they can be: those that fit 32 bits stay.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from ..formats.decode import Array

LOOKUP = "LookupTableFindV2"


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
_COUNTS = {"Bucketize", "LowerBound", "Shape", "StringToHashBucketFast", "UpperBound"}
_ARITHMETIC = {"Add", "AddV2", "Mul", "Sub"}
# What gives some of the integers that it takes, or 0 or 1.
_MOVES = {
    *("Cast", "CheckNumerics", "ConcatV2", "EnsureShape", "ExpandDims", "GatherV2", "Identity", "Max", "Maximum"),
    *("Min", "Minimum", "OneHot", "OnesLike", "Pack", "Reshape", "SelectV2", "Squeeze", "StopGradient"),
    *("StridedSlice", "Transpose", "ZerosLike"),
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
    rest. Shapes do not travel, since batches do: what takes the shape of a value that only the host has is the host's,
    and other shapes are computed on both sides.

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
    for node in nodes:
        if node.kind == "Shape" or shapes.issuperset(node.inputs):
            shapes.add(node.output)
            if not host_only.isdisjoint(node.inputs):
                host_only.add(node.output)
    needed: set[str] = set()
    host: list[Node] = []
    for node in reversed(nodes):
        if node.output in needed or node.kind == LOOKUP or not host_only.isdisjoint({*node.inputs, node.output}):
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


def _name(dtype: np.dtype[Any]) -> str:
    return "string" if dtype.hasobject else dtype.name


def _fits(dtype: str, values: ValueRange | None) -> bool:
    """Whether a device without 64-bit numbers can hold values of a dtype and, for integers, a range."""
    if dtype in ("int64", "uint64"):
        return values is not None and INT32.holds(values)
    return dtype not in ("string", "float64")


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
        result = _result(node.kind, [argument for argument in arguments if argument]) if all(arguments) else None
        if node.kind in _COUNTS:
            result = INT32
        ranges[node.output] = result if result and possible and possible.holds(result) else possible
    return {name: values for name, values in ranges.items() if values}


def _of_dtype(dtype: str) -> ValueRange | None:
    if dtype == "bool":
        return ValueRange(0, 1)
    if dtype == "string" or np.dtype(dtype).kind not in "iu":
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
