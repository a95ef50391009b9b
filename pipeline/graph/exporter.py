"""The portable form of a transform graph: a short list of operations that needs no TensorFlow to run.

`transform_graph/portable.json`, beside the SavedModel, which stays the truth:

    format       1
    inputs       decoded features: name -> dtype, shape (without the batch)
    outputs      name -> {"value": id, "dtype": as the recipe's `features` gave it}
    constants    id -> dtype, shape, data (base64, little-endian); all that depends on no input is computed here, once
    tables       id -> {"asset": path below transform_graph/, "size": lines, each a key}, or {"keys", "values"}
    operations   [{"op", "inputs": [id], "output": id, "dtype", "attributes"}], in an order that can be run
    unsupported  [{"op", "outputs"}]: what only TensorFlow can do; then there are no outputs and no operations

An id is an input's name with "input:" before it, or "c0", "t0". The operations mean what TensorFlow's of the same name
mean; `graph/operations.py` has those that run without it. `portable.PortableGraph` reads the file.
"""

import base64
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from ..formats.decode import Decoder, allocate
from ..storage import files
from .executor import CompiledGraph
from .operations import OPERATIONS
from .placement import LOOKUP
from .portable import FILE, INPUT, PortableGraph
from .savedmodel import SavedGraph

_SIZE = "LookupTableSizeV2"
_PLAIN = [-1, b"", -1, False, False]  # width, fill, precision, scientific, shortest


def write(
    graph: SavedGraph, outputs: Mapping[str, str], examples: Sequence[bytes], expected: Mapping[str, np.ndarray]
) -> list[str]:
    """Writes the portable form beside a SavedModel, where it does the same to some examples.

    Args:
      graph: The SavedModel.
      outputs: Output name to the dtype that the recipe's `features` gave it.
      examples: Serialized tf.train.Examples.
      expected: What the SavedModel makes of them, as one batch.

    Returns:
      What it does otherwise, in words: then the graph counts as not portable.
    """
    content = export(graph, outputs)
    differences = [] if content["unsupported"] else _compare(content, graph, examples, expected)
    if differences:
        content = {"format": content["format"], "inputs": content["inputs"], "unsupported": differences}
    files.write_bytes(files.join(graph.path, FILE), (json.dumps(content, indent=1, sort_keys=True) + "\n").encode())
    return [f"{', '.join(entry['outputs'])}: {entry['op']}" for entry in differences]


def export(graph: SavedGraph, outputs: Mapping[str, str]) -> dict[str, Any]:
    """The content of portable.json; see `write`."""
    return _Exporter(graph).export(outputs)


def _compare(
    content: Mapping[str, Any], graph: SavedGraph, examples: Sequence[bytes], expected: Mapping[str, np.ndarray]
) -> list[dict[str, Any]]:
    """What `unsupported` has to say of a portable graph that makes something else of some examples than the saved one.

    It is run on all of them at once, and on each alone: loaders divide a batch among threads.
    """
    try:
        portable = PortableGraph(content, lambda path: files.read_bytes(files.join(graph.path, path)))
        decoder = Decoder({name: graph.features[name] for name in portable.inputs}, graph.features)
        batch = allocate(decoder.features, len(examples))
        for row, example in enumerate(examples):
            decoder.write(example, batch, row)
        compiled = CompiledGraph(portable, False, {name: values[:1] for name, values in batch.items()})
        together, alone = (compiled.allocate(len(examples), batch, np.empty) for _ in range(2))
        compiled.into(batch, together)
        for row in range(len(examples)):
            compiled.into(*({name: values[row : row + 1] for name, values in part.items()} for part in (batch, alone)))
    except Exception as error:  # whatever it is, TensorFlow can still do it
        return [{"op": f"what fails without TensorFlow: {error}", "outputs": sorted(content["outputs"])}]
    different = [name for name, value in sorted(together.items()) if not _agree(value, expected[name])]
    mixing = [
        name for name, value in sorted(alone.items()) if name not in different and not _agree(value, together[name])
    ]
    return [
        {"op": op, "outputs": names}
        for op, names in (
            ("what differs without TensorFlow", different),
            ("what depends on the other examples of a batch", mixing),
        )
        if names
    ]


def _agree(values: np.ndarray, expected: np.ndarray) -> bool:
    """Whether values are the same; floats in about five digits of the largest.

    TensorFlow rewrites a saved graph's arithmetic before it runs it (x / 3 becomes x * (1 / 3)), and adds in an order
    of its own; an operation that means something else is further off.
    """
    if values.shape != expected.shape or values.dtype.kind != "f":
        return np.array_equal(values, expected)
    references = expected.astype(values.dtype)
    tolerance = max(1e-5, 8 * float(np.finfo(values.dtype).eps))
    largest = np.max(np.abs(references), initial=0, where=np.isfinite(references))
    return np.allclose(values, references, tolerance, tolerance * float(largest), equal_nan=True)


class _Exporter:
    """Walks a graph from its outputs to the decoded features."""

    def __init__(self, graph: SavedGraph) -> None:
        self._graph = graph
        self._features = graph.features
        self._values: dict[str, str] = {}  # tensor name -> id
        self._folded: dict[str, tf.Tensor] = {}  # id -> tensor that depends on no input
        self._table_readers: dict[str, bool] = {}  # operation name -> whether it depends on a table's entries
        self._operations: list[dict[str, Any]] = []
        self._tables: dict[str, dict[str, Any]] = {}

    def export(self, dtypes: Mapping[str, str]) -> dict[str, Any]:
        """The content of portable.json, with outputs of these dtypes; without any where one has no portable form."""
        head = {
            "format": 1,
            "inputs": {
                name: {"dtype": feature.dtype, "shape": list(feature.shape)} for name, feature in self._features.items()
            },
        }
        unsupported: dict[str, list[str]] = {}
        outputs = {}
        for name, tensor in sorted(self._graph.outputs.items()):
            if not isinstance(tensor, tf.Tensor):
                unsupported.setdefault(type(tensor).__name__, []).append(name)
                continue
            tensor = _unwidened(tensor, dtypes[name])
            for kind in self._obstacles(tensor):
                unsupported.setdefault(kind, []).append(name)
            if not unsupported:
                outputs[name] = {"value": self._value(tensor), "dtype": dtypes[name]}
        if unsupported:
            return head | {"unsupported": [{"op": kind, "outputs": names} for kind, names in unsupported.items()]}
        return head | {
            "outputs": outputs,
            "constants": self._constants(),
            "tables": self._tables,
            "operations": self._operations,
            "unsupported": [],
        }

    def _is_constant(self, tensor: tf.Tensor) -> bool:
        return (
            tensor.dtype != tf.resource and not self._graph.dependencies(tensor.op) and not self._reads_table(tensor.op)
        )

    def _reads_table(self, operation: tf.Operation) -> bool:
        """Whether an operation depends on a table's entries; how many there are is known without reading them."""
        if operation.name not in self._table_readers:
            sources = () if operation.type == _SIZE else operation.inputs
            reads = operation.type == LOOKUP or any(self._reads_table(tensor.op) for tensor in sources)
            self._table_readers[operation.name] = reads
        return self._table_readers[operation.name]

    def _obstacles(self, tensor: tf.Tensor) -> Iterable[str]:
        """The kinds of operations behind a tensor that have no portable form."""
        kinds: dict[str, None] = {}
        seen: set[str] = set()
        waiting = [tensor]
        while waiting:
            current = waiting.pop()
            operation = current.op
            if operation.name in seen or self._is_constant(current) or self._graph.decoded(operation):
                continue
            seen.add(operation.name)
            if operation.name in self._graph.inputs:
                name = self._graph.inputs[operation.name]
                if name not in self._features or self._features[name].is_pixels:
                    kinds[f"use of {name!r} other than decoded"] = None
            elif operation.type == LOOKUP:
                waiting.extend(operation.inputs[1:])
            elif obstacle := _obstacle(operation):
                kinds[obstacle] = None
            else:
                waiting.extend(operation.inputs)
        return kinds

    def _value(self, tensor: tf.Tensor) -> str:
        """A tensor's id; adds the operations that make it."""
        if tensor.name not in self._values:
            self._values[tensor.name] = self._make(tensor)
        return self._values[tensor.name]

    def _make(self, tensor: tf.Tensor) -> str:
        """Adds a tensor as an input, a constant or the operation that computes it; gives its id."""
        operation = tensor.op
        if operation.name in self._graph.inputs:
            return f"{INPUT}{self._graph.inputs[operation.name]}"
        if decoded := self._graph.decoded(operation):
            return f"{INPUT}{decoded}"
        if self._is_constant(tensor):
            name = f"c{len(self._folded)}"
            self._folded[name] = tensor
            return name
        if operation.type == "Identity":
            return self._value(operation.inputs[0])
        attributes = _attributes(operation)
        arguments = list(operation.inputs)
        if operation.type == LOOKUP:
            attributes = {"table": self._table(arguments.pop(0))}
        entry = {
            "op": operation.type,
            "inputs": [self._value(argument) for argument in arguments],
            "output": f"t{len(self._operations)}",  # after the operations of its inputs
            "dtype": tensor.dtype.name,
            "attributes": attributes,
        }
        self._operations.append(entry)
        return str(entry["output"])

    def _table(self, handle: tf.Tensor) -> str:
        resource = self._graph.captured[handle.name]
        keys_type, values_type = _table_types(handle)
        keys, values = tf.raw_ops.LookupTableExportV2(table_handle=resource, Tkeys=keys_type, Tvalues=values_type)
        keys, values = keys.numpy(), values.numpy()
        order = np.argsort(values, kind="stable") if values.dtype != object else np.argsort(keys, kind="stable")
        keys, values = keys[order], values[order]
        name = f"v{handle.name.partition(':')[0]}"
        self._tables[name] = self._asset(keys, values) or {"keys": _encode(keys), "values": _encode(values)}
        return name

    def _asset(self, keys: np.ndarray, values: np.ndarray) -> dict[str, Any] | None:
        """The vocabulary file that has the keys as its lines, where the values count them."""
        if values.dtype == object or not np.array_equal(values, np.arange(len(values))):
            return None
        content = b"".join(key + b"\n" for key in keys) if keys.dtype == object else None
        for info in files.list_folder(files.join(self._graph.path, "transform_fn", "assets")):
            if content is not None and files.read_bytes(info.uri) == content:
                return {"asset": info.uri[len(self._graph.path.rstrip("/")) + 1 :], "size": len(keys)}
        return None

    def _constants(self) -> dict[str, Any]:
        if not self._folded:
            return {}
        graph = self._graph.function.graph
        feed = {name: value.numpy() for name, value in self._graph.captured.items() if value.dtype != tf.resource}
        for operation in graph.get_operations():
            if operation.type == _SIZE:
                table = self._graph.captured[operation.inputs[0].name]
                feed[operation.outputs[0].name] = tf.raw_ops.LookupTableSizeV2(table_handle=table).numpy()
        with tf.compat.v1.Session(graph=graph) as session:
            values = session.run(self._folded, feed_dict=feed)
        return {name: _encode(np.asarray(value)) for name, value in values.items()}


def _obstacle(operation: tf.Operation) -> str | None:
    """What of an operation has no portable form; None where it has one."""
    kind = operation.type
    if kind not in OPERATIONS:
        return str(kind)
    if kind == "StringToHashBucketFast" and operation.get_attr("num_buckets") > 1:
        return "StringToHashBucketFast of several buckets"
    if kind == "GatherV2" and operation.get_attr("batch_dims"):
        return "GatherV2 with batch_dims"
    if kind == "Mean" and not operation.inputs[0].dtype.is_floating:
        return "Mean of integers"
    if kind == "AsString" and not _is_plain(operation):
        return "AsString of other than integers, or with a format"
    return None


def _is_plain(operation: tf.Operation) -> bool:
    """Whether it writes integers without any padding."""
    options = ("width", "fill", "precision", "scientific", "shortest")
    return operation.inputs[0].dtype.is_integer and [operation.get_attr(name) for name in options] == _PLAIN


def _unwidened(tensor: tf.Tensor, dtype: str) -> tf.Tensor:
    """An output before `analysis.preprocessing` cast it to a dtype that tf.Transform can describe, if it did."""
    operation = tensor.op
    while operation.type == "Identity":
        operation = operation.inputs[0].op
    if operation.type == "Cast" and operation.inputs[0].dtype.name == dtype != tensor.dtype.name:
        return operation.inputs[0]
    return tensor


def _table_types(handle: tf.Tensor) -> tuple[tf.DType, tf.DType]:
    find = next(operation for operation in handle.consumers() if operation.type == LOOKUP)
    return find.get_attr("Tin"), find.get_attr("Tout")


def _attributes(operation: tf.Operation) -> dict[str, Any]:
    attributes: dict[str, Any] = {}
    for name in operation.node_def.attr:
        if not name.startswith("_"):
            value = operation.get_attr(name)
            attributes[name] = value.name if isinstance(value, tf.DType) else value
    return {name: value for name, value in attributes.items() if isinstance(value, str | int | float | bool | list)}


def _encode(array: np.ndarray) -> dict[str, Any]:
    """An array as JSON: numbers as base64 of their little-endian bytes, strings as a list of base64."""
    if array.dtype.kind in "OS":
        data: Any = [base64.b64encode(item).decode() for item in array.ravel().tolist()]
        return {"dtype": "string", "shape": list(array.shape), "data": data}
    little = array.astype(array.dtype.newbyteorder("<"))
    return {
        "dtype": str(array.dtype),
        "shape": list(array.shape),
        "data": base64.b64encode(little.tobytes()).decode(),
    }
