"""A raw row's way to the columns that training sees, as TensorFlow operations: what reading and `prepare` do, again."""

from collections.abc import Callable, Mapping
from typing import Any

import tensorflow as tf

Columns = dict[str, tf.Tensor]
Step = Callable[[Columns], Columns]
FILTERING = ("columns.Where", "outcome.Keep")  # leave rows out and change none
DTYPES = {"int64": tf.int64, "double": tf.float32, "string": tf.string, "binary": tf.string}  # as shards have them
_NUMBERS = ("int64", "int32", "float64", "double", "float32", "float", "bool")


def obstacles(prepare: Mapping[str, Any]) -> list[str]:
    """What of a table recipe's `prepare` cannot be done in TensorFlow, in words.

    Args:
      prepare: The manifest's entry.
    """
    found = [f"a column of {kind} ({name!r})" for name, kind in prepare["columns"].items() if kind not in DTYPES]
    text = [name for name, kind in prepare["columns"].items() if kind in ("string", "binary")]
    for step in prepare["steps"]:
        if "python" in step:
            found.append(f"{step['python']}, which is Python")
        elif step["step"] == "columns.Cast":
            for name, kind in step["arguments"]["types"]:
                if kind not in _NUMBERS or name in text:
                    found.append(f"columns.cast({{{name!r}: {kind!r}}}): only numbers to numbers")
        elif step["step"] not in (*_STEPS, *FILTERING):
            found.append(f"{step['step']}, which has no TensorFlow operation")
    return found


def missing_value(dtype: tf.DType) -> Any:
    """What stands for a missing value in a batch."""
    return {tf.int64: tf.int64.min, tf.float32: float("nan"), tf.string: b""}[dtype]


def is_missing(values: tf.Tensor) -> tf.Tensor:
    """Where a batch has a missing value."""
    return tf.math.is_nan(values) if values.dtype.is_floating else values == missing_value(values.dtype)


def pipeline(prepare: Mapping[str, Any]) -> Step:
    """A function from raw columns, name to [batch], to those that the graph's features are made of."""
    steps = [_STEPS[step["step"]](step["arguments"]) for step in prepare["steps"] if step["step"] not in FILTERING]

    def run(columns: Columns) -> Columns:
        columns = {name: _read(name, values, prepare["reading"]) for name, values in columns.items()}
        for step in steps:
            columns = step(columns)
        return columns

    return run


def _read(name: str, values: tf.Tensor, reading: Mapping[str, Any]) -> tf.Tensor:
    """What the source does to a value: blanks around it, what stands for a missing one, what is no finite number."""
    if values.dtype == tf.string:
        stripped = tf.strings.strip(values) if reading.get("strip") else values
        for token in reading.get("missing", ()):
            stripped = tf.where(stripped == token.encode(), b"", stripped)
        return stripped
    policies = reading.get("nonfinite", "missing")
    policy = policies if isinstance(policies, str) else policies.get(name, policies.get("*", "missing"))
    if values.dtype.is_floating and policy == "missing":
        return tf.where(tf.math.is_finite(values), values, missing_value(values.dtype))
    return values


def _select(arguments: Mapping[str, Any]) -> Step:
    return lambda columns: {name: columns[name] for name in arguments["names"] if name in columns}


def _drop(arguments: Mapping[str, Any]) -> Step:
    return lambda columns: {name: values for name, values in columns.items() if name not in arguments["names"]}


def _rename(arguments: Mapping[str, Any]) -> Step:
    new = dict(arguments["names"])
    return lambda columns: {new.get(name, name): values for name, values in columns.items()}


def _fill(arguments: Mapping[str, Any]) -> Step:
    filling = dict(arguments["values"])

    def fill(columns: Columns) -> Columns:
        return {
            name: tf.where(is_missing(values), tf.constant(filling[name], values.dtype), values)
            if name in filling
            else values
            for name, values in columns.items()
        }

    return fill


def _cast(arguments: Mapping[str, Any]) -> Step:
    kinds = dict(arguments["types"])

    def cast(columns: Columns) -> Columns:
        return {name: _to(values, kinds[name]) if name in kinds else values for name, values in columns.items()}

    return cast


def _to(values: tf.Tensor, kind: str) -> tf.Tensor:
    wanted = tf.float32 if kind in ("float64", "double", "float32", "float") else tf.int64
    cast = tf.cast(values != 0, tf.int64) if kind == "bool" else tf.cast(values, wanted)
    return tf.where(is_missing(values), tf.constant(missing_value(wanted), wanted), cast)


_STEPS: dict[str, Callable[[Mapping[str, Any]], Step]] = {
    "columns.Select": _select,
    "columns.Drop": _drop,
    "columns.Rename": _rename,
    "columns.Fill": _fill,
    "columns.Cast": _cast,
}
