"""What `features` returned, checked on its graph before any work: a row for every example, in a shape that is known."""

from collections.abc import Iterable, Mapping
from typing import Any

import tensorflow as tf

from ..errors import RequestError

_FROM_LISTS = ("RaggedTensorToTensor", "SparseToDense")  # as wide as the longest list of the batch


def check(inputs: Mapping[str, Any], outputs: Mapping[str, Any]) -> None:
    """Checks a trace of `features`.

    Args:
      inputs: The tensors that it was given, of batches of any size.
      outputs: Output name to a tensor, or a sparse or ragged one.

    Raises:
      RequestError: an output has not a row for every example, or is as wide as the batch happens to be.
    """
    given = {tensor.op.name for tensor in _parts(inputs)}
    for name, output in outputs.items():
        sources = _placeholders(_parts(output))
        if output.shape.rank and output.shape[0] is not None:
            raise _no_rows(name, f"{output.shape[0]} rows in every batch")
        if not sources & given:
            raise _no_rows(name, "a tensor that depends on no input")
        if isinstance(output, tf.Tensor) and not output.shape[1:].is_fully_defined():
            _check_sizes(name, output, sources <= given)


def _no_rows(name: str, found: str) -> RequestError:
    return RequestError(
        f"Recipe(features=...): expected a row for every example in {name!r}, found {found}; to use a constant or an "
        "analyzer's result, compute with it and an input"
    )


def _check_sizes(name: str, output: tf.Tensor, is_final: bool) -> None:
    """Checks a dense output; a size that only statistics tell is known in the graph that is saved."""
    if is_final or _origin(output).type in _FROM_LISTS:
        raise RequestError(
            f"Recipe(features=...): expected a tensor of one size for every batch as {name!r}, found the shape "
            f"{['batch', *output.shape[1:]] if output.shape.rank else 'unknown'}; use text.pad(tokens, length) for "
            "lists, or tf.ensure_shape"
        )


def _origin(tensor: tf.Tensor) -> tf.Operation:
    """The operation from which a tensor has its unknown size."""
    while True:
        wide = (each for each in tensor.op.inputs if each.shape.rank == tensor.shape.rank)
        before = next((each for each in wide if not each.shape[1:].is_fully_defined()), None)
        if before is None:
            return tensor.op
        tensor = before


def _parts(value: Any) -> list[tf.Tensor]:
    return list(tf.nest.flatten(value, expand_composites=True))


def _placeholders(tensors: Iterable[tf.Tensor]) -> set[str]:
    """The names of the placeholders that tensors depend on: inputs, statistics, what analyzers find, tables."""
    found: set[str] = set()
    seen: set[str] = set()
    ahead = [tensor.op for tensor in tensors]
    while ahead:
        operation = ahead.pop()
        if operation.name in seen:
            continue
        seen.add(operation.name)
        if operation.type in ("Placeholder", "PlaceholderWithDefault"):
            found.add(operation.name)
        ahead.extend(tensor.op for tensor in operation.inputs)
    return found
