"""The saved transform graph, applied to stored examples, or opened behind the decoding of its pixels.

Imports TensorFlow, and neither Beam nor tf.Transform.
"""

import os
import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import tensorflow as tf

from ..errors import DatasetError
from ..formats import decode
from ..formats.features import Feature
from ..storage import files
from .feature_graph import FeatureGraph, Source
from .graph_copy import copy_graph

# Operations whose result may be a float that others compute with, and the attribute that has its dtype.
_ARITHMETIC = {
    **dict.fromkeys(("Const", "Placeholder"), "dtype"),
    **dict.fromkeys(("Add", "AddV2", "AddN", "Sub", "Mul", "MulNoNan", "Div", "DivNoNan", "RealDiv", "Pow"), "T"),
    **dict.fromkeys(("Square", "SquaredDifference", "Sqrt", "Rsqrt", "Reciprocal", "Inv"), "T"),
    **dict.fromkeys(("Exp", "Expm1", "Log", "Log1p", "Sigmoid", "Tanh", "Sin", "Cos", "Softplus", "Erf"), "T"),
    **dict.fromkeys(("Sum", "Mean", "Prod", "MatMul", "BatchMatMulV2", "BiasAdd"), "T"),
}
Apply = Callable[[Mapping[str, Any]], dict[str, Any]]


@dataclass(frozen=True)
class SavedGraph:
    """A transform graph.

    Attributes:
      path: The folder that `tft.TFTransformOutput` opens.
      features: The features of a prepared example.
      trust: Whether it may do whatever it wants; else it is only run where it is known to be harmless.
      module: What was saved there, where this process did that: then it is not loaded.
    """

    path: str
    features: Mapping[str, Feature]
    trust: bool = False
    module: Any = None

    @cached_property
    def function(self) -> Any:
        """The graph as a concrete function: stored features, in the order of their names, in; outputs out."""
        return self.loaded.transform_fn

    @cached_property
    def loaded(self) -> Any:
        """What is in the file: it must live as long as the function, whose vocabularies it owns.

        It is loaded from a copy, which stays as long: an export takes the vocabularies' files from there.

        Raises:
          DatasetError: a file is missing or damaged, or the graph is not trusted and is not known to be harmless.
        """
        if self.module is not None:
            return self.module
        uri = files.join(self.path, "transform_fn")
        folder = tempfile.mkdtemp(prefix="penstock-graph-")
        weakref.finalize(self, _remove_copy, folder, os.getpid())
        copy_graph(uri, folder, self.trust)
        try:
            return tf.saved_model.load(folder)
        except Exception as error:  # whatever TensorFlow raises for a file that is damaged or not as it should be
            raise DatasetError(f"{uri}: TensorFlow cannot load it: {error}; run `penstock verify`") from error

    @cached_property
    def inputs(self) -> dict[str, Source]:
        """Operation name of a placeholder to what it stands for; a list of any length has three placeholders."""
        specs = self.function.structured_input_signature[0][0]
        sources: list[Source] = []
        for name in sorted(specs):
            parts = len(tf.nest.flatten(specs[name], expand_composites=True))
            sources += [Source(name)] if parts == 1 else [Source(name, part) for part in range(parts)]
        return {tensor.op.name: source for source, tensor in zip(sources, self.function.inputs, strict=False)}

    @cached_property
    def operations(self) -> FeatureGraph:
        """The graph's operations, and what they depend on."""
        return FeatureGraph(self.function.graph, self.inputs, self.features)

    @cached_property
    def outputs(self) -> dict[str, Any]:
        """Output name to tensor, or to a sparse or ragged one."""
        outputs = tf.nest.pack_sequence_as(
            self.function.structured_outputs, self.function.outputs, expand_composites=True
        )
        return dict(sorted(outputs.items()))

    @cached_property
    def captured(self) -> dict[str, Any]:
        """Tensor name of a placeholder to the constant or the table that it stands for."""
        placeholders = self.function.inputs[len(self.inputs) :]
        pairs = zip(placeholders, self.function.captured_inputs, strict=True)
        return {tensor.name: value for tensor, value in pairs}

    def _openings(self) -> Iterator[tuple[str, str]]:
        """Tensor name to feature: where decoded features go in."""
        for operation in self.function.graph.get_operations():
            if decoded := self.operations.decoded(operation):
                yield operation.outputs[0].name, decoded
        for operation, source in self.inputs.items():
            name = source.feature
            if source.part is None and name in self.features and not self.features[name].is_pixels:
                yield f"{operation}:0", name

    def _components(self, name: str) -> list[str]:
        """The tensors of the placeholders that a list of any length has: its indices, values and dense shape."""
        parts = {source: f"{operation}:0" for operation, source in self.inputs.items()}
        return [parts[Source(name, part)] for part in range(3) if Source(name, part) in parts]

    def on_stored(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """Applies the graph to stored features as tf.io.parse_example reads them; what only analyzers got is empty."""
        specs = self.function.structured_input_signature[0][0]
        rows = next(iter(batch.values())).shape[0]
        values = {name: batch[name] if name in batch else tf.fill([rows], "") for name in specs}
        return dict(self.function(values))

    def on_decoded(self, dtypes: Mapping[str, str]) -> Apply:
        """The graph as a function of decoded features.

        Args:
          dtypes: The outputs to give, and the dtype that each is cast to: the one that the recipe's `features` gave.

        Returns:
          A function from a batch, feature name to tensor (ragged for lists of any length), to the outputs; for use in
          tf.data and tf.function.
        """
        openings = dict(self._openings())
        lists = {name: self._components(name) for name, feature in self.features.items() if None in feature.shape}
        selected = {name: value for name, value in self.outputs.items() if name in dtypes}
        results = [tensor.name for tensor in tf.nest.flatten(selected, expand_composites=True)]
        definition = hide_from_optimizer(_cut(self.function.graph, openings, results), self.function.graph)
        there = {node.name for node in definition.node}

        def apply(batch: Mapping[str, Any]) -> dict[str, Any]:
            known = {tensor: batch[name] for tensor, name in openings.items() if name in batch}
            for name, components in lists.items():
                if name not in batch:
                    continue
                sparse = tf.nest.flatten(batch[name].to_sparse(), expand_composites=True)
                known.update(zip(components, sparse, strict=True))
            capture = tf.compat.v1.get_default_graph().capture
            captured = {tensor: capture(value) for tensor, value in self.captured.items()}
            given = {
                tensor: value for tensor, value in {**captured, **known}.items() if tensor.partition(":")[0] in there
            }
            tensors = tf.graph_util.import_graph_def(definition, given, return_elements=results, name="")
            for tensor, name in zip(tensors, results, strict=True):
                tensor.set_shape(self.function.graph.get_tensor_by_name(name).shape)
            outputs = tf.nest.pack_sequence_as(selected, tensors, expand_composites=True)
            rows = next(iter(batch.values())).shape[0]
            return {name: _of_rows(rows, tf.cast(value, dtypes[name])) for name, value in outputs.items()}

        unconverted: Apply = tf.autograph.experimental.do_not_convert(apply)
        return unconverted


def _remove_copy(folder: str, process: int) -> None:
    if os.getpid() == process:  # a forked process has no part in it
        shutil.rmtree(folder, ignore_errors=True)


def example_spec(features: Mapping[str, Feature]) -> dict[str, Any]:
    """How tf.io.parse_example reads a prepared example.

    Args:
      features: The features of a prepared example.

    Returns:
      Feature name to FixedLenFeature or, for lists of any length, VarLenFeature. Pixels come as stored: string [].
    """
    spec: dict[str, Any] = {}
    for name, feature in features.items():
        if feature.is_pixels:
            spec[name] = tf.io.FixedLenFeature([], tf.string)
        elif None in feature.shape:
            spec[name] = tf.io.VarLenFeature(tf.as_dtype(feature.dtype))
        else:
            default = decode.missing(feature) if feature.optional else None
            spec[name] = tf.io.FixedLenFeature(list(feature.shape), tf.as_dtype(feature.dtype), default)
    return spec


def parse_examples(features: Mapping[str, Feature], serialized: Sequence[bytes]) -> dict[str, Any]:
    """Stored features as a batch: dense tensors, and sparse ones for lists of any length.

    Args:
      features: The features of a prepared example.
      serialized: tf.train.Example protos, as they are in the shards.
    """
    return dict(tf.io.parse_example(tf.constant(list(serialized)), example_spec(features)))


def apply_to_examples(
    saved: SavedGraph, serialized: Sequence[bytes], missing: int | None = None
) -> dict[str, np.ndarray]:
    """Applies a transform graph to prepared examples, as the commit and `penstock verify` do to a few golden ones.

    Args:
      saved: The graph.
      serialized: tf.train.Example protos, as they are in the shards.
      missing: If given, numbers that are missing or NaN are replaced by it first.

    Returns:
      Output name to a batch of values; lists of any length are padded with 0 or b"".
    """
    parsed = parse_examples(saved.features, serialized)
    if missing is not None:
        parsed = {name: _replace_missing(value, missing) for name, value in parsed.items()}
    return {name: np.asarray(_dense(value)) for name, value in saved.on_stored(parsed).items()}


def _replace_missing(value: Any, replacement: int) -> Any:
    if not isinstance(value, tf.Tensor) or value.dtype == tf.string:
        return value
    is_missing = tf.math.is_nan(value) if value.dtype.is_floating else value == value.dtype.min
    return tf.where(is_missing, tf.cast(replacement, value.dtype), value)


def _dense(value: Any) -> Any:
    if isinstance(value, tf.SparseTensor):
        return tf.sparse.to_dense(value)
    return value.to_tensor() if isinstance(value, tf.RaggedTensor) else value


def _of_rows(rows: int | None, value: Any) -> Any:
    """An output that is known to have so many rows, where that is known."""
    if isinstance(value, tf.Tensor) and value.shape.rank:
        value.set_shape([rows, *value.shape[1:]])
    return value


def _cut(graph: Any, openings: Iterable[str], results: Iterable[str]) -> Any:
    """The part of a graph between some tensors and others.

    The rest is left out: what has a state, as a look-up has, runs wherever it is, and every output waits for all of it.
    """
    definition = graph.as_graph_def()
    last = {name.partition(":")[0] for name in results}
    opened = {tensor.partition(":")[0]: graph.get_tensor_by_name(tensor).dtype for tensor in openings}
    for node in definition.node:
        if node.name in last:
            data = [name for name in node.input if not name.startswith("^")]
            del node.input[:]
            node.input.extend(data)
        if node.name in opened:
            node.op = "Placeholder"
            node.ClearField("input")
            node.attr.clear()
            node.attr["dtype"].type = opened[node.name].as_datatype_enum
    by_name = {node.name: node for node in definition.node}
    needed: set[str] = set()
    ahead = list(last)
    while ahead:
        name = ahead.pop()
        if name not in needed:
            needed.add(name)
            ahead += [source.removeprefix("^").partition(":")[0] for source in by_name[name].input]
    kept = [node for node in definition.node if node.name in needed]
    del definition.node[:]
    definition.node.extend(kept)
    return definition


def hide_from_optimizer(definition: Any, graph: Any) -> Any:
    """A graph in which every float that arithmetic makes or takes is hidden from TensorFlow's graph optimizer.

    That one computes `x / 255 * 2 - 1` with a reciprocal, and constants among themselves first: other last bits than
    the operations give, one after the other. It looks through Identity, but not through PlaceholderWithDefault.
    """
    floats = {
        node.name: node.attr[_ARITHMETIC[node.op]].type
        for node in definition.node
        if node.op in _ARITHMETIC and tf.as_dtype(node.attr[_ARITHMETIC[node.op]].type).is_floating
    }
    for node in definition.node:
        for position, source in enumerate(node.input):
            if source.removesuffix(":0") in floats:
                node.input[position] = f"{source.removesuffix(':0')}/hidden"
    for name, dtype in floats.items():
        node = definition.node.add(name=f"{name}/hidden", op="PlaceholderWithDefault", input=[name])
        node.attr["dtype"].type = dtype
        node.attr["shape"].shape.CopyFrom(graph.get_tensor_by_name(f"{name}:0").shape.as_proto())
    return definition
