"""The portable form of a transform graph: a short list of operations that needs no TensorFlow to run.

`transform_graph/portable.json`, beside the SavedModel, which stays the truth:

    format       1
    inputs       decoded features: name -> dtype, shape (without the batch)
    outputs      name -> {"value": id, "dtype": as the recipe's `features` gave it}
    constants    id -> dtype, shape, data (base64, little-endian); all that depends on no input is computed here, once
    tables       id -> {"asset": path below transform_graph/, "size": lines, each a key}, or {"keys", "values"}
    operations   [{"op", "inputs": [id], "output": id, "dtype", "attributes"}], in an order that can be run
    unsupported  [{"op", "outputs"}]: what only TensorFlow can do; then batches are not made by this graph, and the
                 outputs that need it are left out; where it gives other values than TensorFlow, all of them are

An id is an input's name with "input:" before it, or "c0", "t0", "v0". The operations mean what TensorFlow's of the same
name mean; `graph/operations.py` has those that run without it. Where TensorFlow's gives several tensors, the
operation's value is all of them, of the dtype "tuple", and "Output" takes one ("Split" and "Unpack" give the one that
"output" names). "ListParts" makes a sparse tensor's parts of a feature that is a list of any length.
`portable.PortableGraph` reads the file.
"""

import base64
import json
from collections.abc import Mapping, Sequence, Set
from functools import cached_property
from typing import Any

import numpy as np
import tensorflow as tf

from ..formats.decode import Decoder, allocate
from ..storage import files
from .executor import CompiledGraph
from .feature_graph import remember
from .obstacles import SIZE, Portability, attributes, find_obstacles, has_several_outputs
from .placement import LOOKUP, TUPLE
from .portable import FILE, INPUT, PortableGraph
from .savedmodel import SavedGraph


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
    files.write_bytes(files.join(graph.path, FILE), (json.dumps(content, sort_keys=True) + "\n").encode())
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
        self._portability = Portability(graph.operations)
        self._values: dict[str, str] = {}  # tensor name -> id
        self._folded: dict[str, tf.Tensor] = {}  # id -> tensor that depends on no input
        self._tuples: dict[str, str] = {}  # name of an operation of several outputs, or of a list -> id
        self._operations: list[dict[str, Any]] = []
        self._tables: dict[str, dict[str, Any]] = {}

    def export(self, dtypes: Mapping[str, str]) -> dict[str, Any]:
        """The content of portable.json, with the outputs of these dtypes that have a portable form."""
        head = {
            "format": 1,
            "inputs": {
                name: {"dtype": feature.dtype, "shape": list(feature.shape)} for name, feature in self._features.items()
            },
        }
        tensors = {name: _unwidened(tensor, dtypes[name]) for name, tensor in self._graph.outputs.items()}
        unsupported = find_obstacles(self._graph.operations, tensors)
        left_out = {name for names in unsupported.values() for name in names}
        outputs = {
            name: {"value": remember(self._values, tensor, self._arguments, self._make), "dtype": dtypes[name]}
            for name, tensor in sorted(tensors.items())
            if name not in left_out
        }
        return head | {
            "outputs": outputs,
            "constants": self._constants(),
            "tables": self._tables,
            "operations": self._operations,
            "unsupported": [{"op": kind, "outputs": names} for kind, names in unsupported.items()],
        }

    def _is_source(self, tensor: tf.Tensor) -> bool:
        """Whether a tensor is an input or a constant."""
        operation = tensor.op
        return (
            operation.name in self._graph.inputs
            or self._graph.operations.decoded(operation) is not None
            or self._portability.is_constant(tensor)
        )

    def _arguments(self, tensor: tf.Tensor) -> Sequence[tf.Tensor]:
        """The tensors whose ids a tensor's operation needs."""
        if self._is_source(tensor):
            return ()
        return [each for each in tensor.op.inputs if each.dtype != tf.resource]

    def _make(self, tensor: tf.Tensor) -> str:
        """Adds a tensor as an input, a constant or the operation that computes it; gives its id."""
        operation = tensor.op
        if operation.name in self._graph.inputs:
            return self._input(tensor)
        if decoded := self._graph.operations.decoded(operation):
            return f"{INPUT}{decoded}"
        arguments = [self._values[each.name] for each in self._arguments(tensor)]
        if self._is_source(tensor):
            name = f"c{len(self._folded)}"
            self._folded[name] = tensor
            return name
        if operation.type == "Identity":
            return arguments[0]
        if operation.type == LOOKUP:
            return self._add(LOOKUP, arguments, tensor.dtype.name, {"table": self._table(operation.inputs[0])})
        if not has_several_outputs(operation):
            options = attributes(operation, tensor.value_index)
            return self._add(operation.type, arguments, tensor.dtype.name, options)
        if operation.name not in self._tuples:
            self._tuples[operation.name] = self._add(operation.type, arguments, TUPLE, attributes(operation))
        return self._output(self._tuples[operation.name], tensor, tensor.value_index)

    def _input(self, tensor: tf.Tensor) -> str:
        name, part = self._graph.inputs[tensor.op.name]
        if part is None:
            return f"{INPUT}{name}"
        if name not in self._tuples:
            options = {"dtype": "object" if self._features[name].dtype == "string" else self._features[name].dtype}
            self._tuples[name] = self._add("ListParts", [f"{INPUT}{name}"], TUPLE, options)
        return self._output(self._tuples[name], tensor, part)

    def _output(self, values: str, tensor: tf.Tensor, index: int) -> str:
        return self._add("Output", [values], tensor.dtype.name, {"index": index})

    def _add(self, kind: str, arguments: list[str], dtype: str, options: Mapping[str, Any]) -> str:
        """Adds an operation; gives the id of its value."""
        name = f"t{len(self._operations)}"  # after the operations of its inputs
        entry = {"op": kind, "inputs": arguments, "output": name, "dtype": dtype, "attributes": options}
        self._operations.append(entry)
        return name

    def _table(self, handle: tf.Tensor) -> str:
        if handle.name in self._values:
            return self._values[handle.name]
        resource = self._graph.captured[handle.name]
        keys_type, values_type = _table_types(handle)
        keys, values = tf.raw_ops.LookupTableExportV2(table_handle=resource, Tkeys=keys_type, Tvalues=values_type)
        keys, values = keys.numpy(), values.numpy()
        order = np.argsort(values, kind="stable") if values.dtype != object else np.argsort(keys, kind="stable")
        keys, values = keys[order], values[order]
        name = self._values[handle.name] = f"v{len(self._tables)}"
        self._tables[name] = self._asset(keys, values) or {"keys": _encode(keys), "values": _encode(values)}
        return name

    def _asset(self, keys: np.ndarray, values: np.ndarray) -> dict[str, Any] | None:
        """The vocabulary file that has the keys as its lines, where the values count them."""
        if keys.dtype != object or values.dtype == object or not np.array_equal(values, np.arange(len(values))):
            return None
        path = self._assets.get(b"".join(key + b"\n" for key in keys))
        return {"asset": path, "size": len(keys)} if path else None

    @cached_property
    def _assets(self) -> dict[bytes, str]:
        """The content of a vocabulary's file to its path below the graph's folder."""
        root = self._graph.path.rstrip("/")
        listed = files.list_folder(files.join(root, "transform_fn", "assets"))
        return {files.read_bytes(info.uri): info.uri[len(root) + 1 :] for info in reversed(listed)}

    def _constants(self) -> dict[str, Any]:
        constants = {
            name: _encode(tf.make_ndarray(tensor.op.get_attr("value")))
            for name, tensor in self._folded.items()
            if tensor.op.type == "Const"
        }
        return constants | self._computed(self._folded.keys() - constants.keys())

    def _computed(self, names: Set[str]) -> dict[str, Any]:
        """The constants that the graph computes from others."""
        if not names:
            return {}
        graph = self._graph.function.graph
        feed = {name: value.numpy() for name, value in self._graph.captured.items() if value.dtype != tf.resource}
        for operation in graph.get_operations():
            if operation.type == SIZE:
                table = self._graph.captured[operation.inputs[0].name]
                feed[operation.outputs[0].name] = tf.raw_ops.LookupTableSizeV2(table_handle=table).numpy()
        definition = graph.as_graph_def()
        for node in definition.node:  # a constant may wait for checks of the inputs
            data = [source for source in node.input if not source.startswith("^")]
            del node.input[:]
            node.input.extend(data)
        with tf.Graph().as_default() as constants:
            tf.graph_util.import_graph_def(definition, name="")
        with tf.compat.v1.Session(graph=constants) as session:
            values = session.run({name: self._folded[name].name for name in names}, feed_dict=feed)
        return {name: _encode(np.asarray(value)) for name, value in values.items()}


def _unwidened(tensor: Any, dtype: str) -> Any:
    """An output before `analysis.preprocessing` cast it to a dtype that tf.Transform can describe, if it did."""
    if not isinstance(tensor, tf.Tensor):
        return tensor
    operation = tensor.op
    while operation.type == "Identity":
        operation = operation.inputs[0].op
    if operation.type == "Cast" and operation.inputs[0].dtype.name == dtype != tensor.dtype.name:
        return operation.inputs[0]
    return tensor


def _table_types(handle: tf.Tensor) -> tuple[tf.DType, tf.DType]:
    find = next(operation for operation in handle.consumers() if operation.type == LOOKUP)
    return find.get_attr("Tin"), find.get_attr("Tout")


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
