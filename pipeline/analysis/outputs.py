"""Checks what `features` returned: a dict of tensors, each with a row for every example and a shape that is known.

The types are checked whenever `features` is called, rows and shapes once, on its first trace, before any work is done.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import tensorflow as tf

from ..errors import RequestError

_TENSORS = (tf.Tensor, tf.SparseTensor, tf.RaggedTensor)
_FROM_LISTS = ("RaggedTensorToTensor", "SparseToDense")  # as wide as the longest list of the batch


def check_types(outputs: Any) -> None:
    """Raises RequestError where outputs are not a dict of strings, integers or floats by name."""
    if not isinstance(outputs, Mapping) or not outputs:
        raise RequestError(
            f"Recipe(features=...): expected a function that returns a dict of tensors, found {outputs!r}"
        )
    for name, tensor in outputs.items():
        if not isinstance(name, str):
            raise RequestError(f"Recipe(features=...): expected the outputs' names as str, found {name!r}")
        if not isinstance(tensor, _TENSORS) or tensor.shape.rank == 0:
            raise RequestError(
                f"Recipe(features=...): expected a tensor as {name!r}, a row for every example, found {tensor!r}"
            )
        dtype = tensor.dtype
        if not (dtype.is_integer or dtype.is_floating or dtype.is_bool or dtype == tf.string):
            raise RequestError(
                f"Recipe(features=...): expected strings, integers or floats as {name!r}, found {dtype.name}; cast it"
            )


def check_rows(inputs: Mapping[str, Any], outputs: Mapping[str, Any]) -> None:
    """Checks the graph of `features`.

    Args:
      inputs: Its input tensors, of batches of any size.
      outputs: Output name to a tensor, or a sparse or ragged one.

    Raises:
      RequestError: an output does not have a row for every example, or is as wide as the batch happens to be.
    """
    input_names = {tensor.op.name for tensor in _parts(inputs)}
    for name, output in outputs.items():
        sources = _placeholders(_parts(output))
        if output.shape.rank and output.shape[0] is not None:
            raise _no_rows(name, f"{output.shape[0]} rows in every batch")
        if not sources & input_names:
            raise _no_rows(name, "a tensor that depends on no input")
        if isinstance(output, tf.Tensor) and not output.shape[1:].is_fully_defined():
            _check_sizes(name, output, sources <= input_names)


def _no_rows(name: str, found: str) -> RequestError:
    return RequestError(
        f"Recipe(features=...): expected a row for every example in {name!r}, found {found}; to use a constant or an "
        "analyzer's result, compute with it and an input"
    )


def _check_sizes(name: str, output: tf.Tensor, is_final: bool) -> None:
    """Checks a dense output; a size that depends on statistics only is known once the graph is saved."""
    if is_final or _origin(output).type in _FROM_LISTS:
        raise RequestError(
            f"Recipe(features=...): expected a tensor of one size for every batch as {name!r}, found the shape "
            f"{['batch', *output.shape[1:]] if output.shape.rank else 'unknown'}; use text.pad(tokens, length) for "
            "lists, or tf.ensure_shape"
        )


def _origin(tensor: tf.Tensor) -> tf.Operation:
    """The operation that gives a tensor its unknown size."""
    while True:
        wide = (each for each in tensor.op.inputs if each.shape.rank == tensor.shape.rank)
        before = next((each for each in wide if not each.shape[1:].is_fully_defined()), None)
        if before is None:
            return tensor.op
        tensor = before


def _parts(value: Any) -> list[tf.Tensor]:
    return list(tf.nest.flatten(value, expand_composites=True))


def _placeholders(tensors: Iterable[tf.Tensor]) -> set[str]:
    """The names of the placeholders that tensors depend on: inputs, statistics, analyzers' results, tables."""
    names: set[str] = set()
    seen: set[str] = set()
    pending = [tensor.op for tensor in tensors]
    while pending:
        operation = pending.pop()
        if operation.name in seen:
            continue
        seen.add(operation.name)
        if operation.type in ("Placeholder", "PlaceholderWithDefault"):
            names.add(operation.name)
        pending.extend(tensor.op for tensor in operation.inputs)
    return names
