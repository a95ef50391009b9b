"""Reads a portable transform graph, and runs it by its operations, one after the other, in the arrays' own framework.

It has two parts, the host's and the device's, which `placement` tells apart. `executor` runs it faster, on NumPy arrays
alone. For the format see `exporter`.
"""

import base64
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from ..errors import PenstockError, RequestError
from ..formats.decode import Array
from .backends import NUMPY, backend_of
from .operations import HOST_OPERATIONS, OPERATIONS
from .placement import LOOKUP, Node, ValueRange, split, value_range
from .string_operations import compile_expression

FILE = "portable.json"  # in the folder of the transform graph
FORMAT = 1
INPUT = "input:"  # before the name of a feature, in the id of its value


class NotPortableError(PenstockError):
    """The transform graph has an operation that only TensorFlow can do, or that a newer penstock wrote."""


class LookupTable:
    """A look-up table: keys to values."""

    def __init__(self, keys: Sequence[Any], values: Sequence[Any], dtype: str) -> None:
        self._entries = dict(zip(keys, values, strict=True))
        self._dtype = np.dtype(object if dtype == "string" else dtype)

    @property
    def keys(self) -> list[Any]:
        """All keys."""
        return list(self._entries)

    @property
    def range(self) -> ValueRange | None:
        """The range of the values, where they are integers."""
        if self._dtype.kind not in "iub":
            return None
        return value_range(np.fromiter(self._entries.values(), self._dtype, len(self._entries)))

    def find(self, keys: Any, default: Array) -> Array:
        """The values of keys, [*keys.shape]; `default` for those that are not there."""
        keys = np.asarray(keys)
        get, other = self._entries.get, default.item() if default.ndim == 0 else default
        values = np.empty(keys.size, self._dtype)
        values[:] = [get(key, other) for key in keys.ravel().tolist()]
        return values.reshape(keys.shape)


class PortableGraph:
    """A portable graph.

    Attributes:
      inputs: The decoded features that the outputs depend on.
      outputs: Output name to the id of its value.
      host: The operations that only a host can do, and those that they need.
      device: The operations that it needs to come from there to the outputs.
      constants: Id to value.
      between: Name to id of what the device's part takes: inputs, and values that the host's part computes.
    """

    def __init__(self, content: Mapping[str, Any], read_asset: Callable[[str], bytes]) -> None:
        if content["format"] > FORMAT:
            raise NotPortableError(
                f"expected a portable graph of format {FORMAT}, found {content['format']}; install a newer penstock, "
                "or use ds.tf(...), which runs the saved graph itself"
            )
        _check_portable(content)
        nodes = [
            Node(entry["op"], tuple(entry["inputs"]), entry["output"], entry["dtype"], entry["attributes"])
            for entry in content["operations"]
        ]
        for node in nodes:
            if node.kind in _EXPRESSIONS:  # one that takes forever is refused before it meets a string
                compile_expression(node.attributes, _EXPRESSIONS[node.kind])
        self.constants = {name: decode_array(entry) for name, entry in content["constants"].items()}
        self._tables = {name: _table(entry, read_asset) for name, entry in content["tables"].items()}
        self.outputs = {name: entry["value"] for name, entry in content["outputs"].items()}
        self._dtypes = {name: entry["dtype"] for name, entry in content["outputs"].items()}
        dtypes = {INPUT + name: entry["dtype"] for name, entry in content["inputs"].items()}
        ranges = {name: _range(entry, self._tables[name]) for name, entry in content["tables"].items()}
        self.host, self.device = split(nodes, dtypes, self.constants, ranges)
        used = {name for node in nodes for name in node.inputs} | set(self.outputs.values())
        self.inputs = tuple(name for name in content["inputs"] if INPUT + name in used)
        self._strings = {
            name
            for name in self.inputs
            if content["inputs"][name]["dtype"] == "string" and None not in content["inputs"][name]["shape"]
        }
        self.between = self._cut()
        self._taken = {name for node in self.device for name in node.inputs}

    def _cut(self) -> dict[str, str]:
        """What the device's part takes, by the names of inputs and outputs where these are the values."""
        on_device = {node.output for node in self.device}
        needed = {name for node in self.device for name in node.inputs} | set(self.outputs.values())
        ids = [name for name in sorted(needed) if name not in on_device and name not in self.constants]
        inputs = {name.removeprefix(INPUT): name for name in ids if name.startswith(INPUT)}
        names = {value: name for name, value in self.outputs.items() if name not in inputs}
        return {**inputs, **{names.get(name, name): name for name in ids if not name.startswith(INPUT)}}

    def run_host(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """The host's part: decoded features in, what the device's part takes out.

        Raises:
          RequestError: a feature is not there, or is not what it should be.
        """
        _expect(self.inputs, batch, "the decoded features that `transform.inputs` names")
        given = {
            INPUT + name: _as_bytes(name, batch[name]) if name in self._strings else batch[name] for name in self.inputs
        }
        values = self.run(self.host, given)
        return {name: _contiguous(values[value]) for name, value in self.between.items()}

    def run_device(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """The device's part: what the host's part computed in, the graph's outputs out.

        Raises:
          RequestError: something that it computes with is not there. What goes through may be left out, as strings are.
        """
        taken = [name for name, value in self.between.items() if value in self._taken]
        _expect(taken, batch, "what the host's part computed")
        values = self.run(self.device, {value: batch[name] for name, value in self.between.items() if name in batch})
        with np.errstate(all="ignore"):
            return {
                name: self._as_given(values[value], self._dtypes[name])
                for name, value in self.outputs.items()
                if value in values
            }

    def strings(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """The outputs that no device can hold, strings: what the host's part computed in, these out by their names."""
        names = {value: name for name, value in self.between.items()}
        ids = {name: value for name, value in self.outputs.items() if self._dtypes[name] == "string"}
        return {name: batch[names[value]] for name, value in ids.items() if value in names}

    def run(self, nodes: Sequence[Node], values: Mapping[str, Any]) -> dict[str, Any]:
        """Runs some nodes: given values by their ids in, these, the constants and the nodes' out."""
        values = {**self.constants, **values}
        for node in nodes:
            arguments = [values[name] for name in node.inputs]
            if node.kind == LOOKUP:
                values[node.output] = self.look_up(node, *arguments)
                continue
            if node.kind in HOST_OPERATIONS:
                with np.errstate(all="ignore"):
                    values[node.output] = HOST_OPERATIONS[node.kind](NUMPY, node.attributes, *arguments)
                continue
            backend = backend_of(arguments)
            like = next((value for value in arguments if not isinstance(value, np.ndarray | np.generic)), None)
            if like is not None and node.kind in _OPERATORS:
                arguments = [
                    backend.constant(value, like) if isinstance(value, np.ndarray | np.generic) else value
                    for value in arguments
                ]
            with np.errstate(all="ignore"):  # as TensorFlow: in silence
                values[node.output] = backend.hide_from_optimizer(
                    OPERATIONS[node.kind](backend, node.attributes, *arguments)
                )
        return values

    def look_up(self, node: Node, keys: Any, default: Array) -> Array:
        """Runs a node that reads a table."""
        return self._tables[node.attributes["table"]].find(keys, default)

    def keys(self, node: Node) -> list[Any]:
        """What is in the table that a node reads."""
        return self._tables[node.attributes["table"]].keys

    def _as_given(self, value: Any, dtype: str) -> Any:
        if dtype == "string":
            return value
        return backend_of([value]).cast(value, dtype)


# Regular expressions, and whether what matches is replaced.
_EXPRESSIONS = {"StaticRegexFullMatch": False, "StaticRegexReplace": True}
KINDS = {*OPERATIONS, *HOST_OPERATIONS, LOOKUP}
# Those that are computed by the arrays' own operators, which want arrays of one framework.
_OPERATORS = {
    *("Add", "AddN", "AddV2", "Sub", "Mul", "RealDiv", "DivNoNan", "FloorDiv", "FloorMod", "SquaredDifference", "Pow"),
    *("Equal", "NotEqual", "Greater", "GreaterEqual", "Less", "LessEqual", "LogicalAnd", "LogicalOr"),
    *("MatMul", "BatchMatMulV2", "BitwiseAnd", "BitwiseOr", "BitwiseXor"),
}


def _expect(names: Iterable[str], batch: Mapping[str, Any], what: str) -> None:
    if lacking := [name for name in names if name not in batch]:
        raise RequestError(f"expected a batch of {what}, found one without {lacking}; it has {sorted(batch)}")


def _contiguous(value: Any) -> Any:
    """An array in the order of memory, which PyTorch asks for: one that was reversed is not."""
    return np.require(value, requirements="C") if isinstance(value, np.ndarray) else value


def _as_bytes(name: str, values: Any) -> Any:
    """Strings as an array of bytes objects, as tables and constants have them; a framework's own tensor stays."""
    if not isinstance(values, np.ndarray | list | tuple):
        return values
    array = np.asarray(values, object)
    items = [item.encode() if isinstance(item, str) else item for item in array.ravel().tolist()]
    if others := [item for item in items if not isinstance(item, bytes)]:
        raise RequestError(f"feature {name!r}: expected strings, as bytes or str, found {others[0]!r}")
    strings = np.empty(len(items), object)
    strings[:] = items
    return strings.reshape(array.shape)


def decode_array(entry: Mapping[str, Any]) -> Array:
    """A constant of a portable graph; strings become bytes objects."""
    if entry["dtype"] == "string":
        values = np.empty(len(entry["data"]), object)
        values[:] = [base64.b64decode(item) for item in entry["data"]]
        return values.reshape(entry["shape"])
    dtype = np.dtype(entry["dtype"])
    array = np.frombuffer(base64.b64decode(entry["data"]), dtype.newbyteorder("<"))
    return array.astype(dtype).reshape(entry["shape"])


def _table(entry: Mapping[str, Any], read_asset: Callable[[str], bytes]) -> LookupTable:
    if "asset" in entry:
        keys = read_asset(entry["asset"]).removesuffix(b"\n").split(b"\n")
        return LookupTable(keys, range(len(keys)), "int64")
    return LookupTable(
        decode_array(entry["keys"]).tolist(), decode_array(entry["values"]).tolist(), entry["values"]["dtype"]
    )


def _range(entry: Mapping[str, Any], table: LookupTable) -> ValueRange | None:
    """The range of a table's values: also where a vocabulary's file is not there, as in a Keras layer."""
    return ValueRange(0, max(0, entry["size"] - 1)) if "asset" in entry else table.range


def _check_portable(content: Mapping[str, Any]) -> None:
    unknown = sorted({entry["op"] for entry in content.get("operations", [])} - KINDS)
    obstacles: dict[str, list[str]] = {kind: [] for kind in unknown}
    obstacles |= {entry["op"]: entry["outputs"] for entry in content["unsupported"]}
    if obstacles:
        reasons = "; ".join(f"{kind} (for {', '.join(names) or 'some'})" for kind, names in obstacles.items())
        raise NotPortableError(
            f"expected a transform graph of operations that work without TensorFlow, found {reasons}; use ds.tf(...), "
            "which runs the saved graph itself, or features=False, or change the recipe's `features`"
        )
