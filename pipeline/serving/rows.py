"""A raw row's way to the columns that training sees, as TensorFlow operations: what reading and `prepare` do, again."""

import base64
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, NamedTuple

import pyarrow as pa
import tensorflow as tf

from ..formats.example_format import MISSING_VALUES
from ..sources.column_types import FLOAT32_MAX, numbers_among
from .floats import narrow, widen

_FILTERS = ("columns.where", "keep")  # leave rows out and change none
DTYPES = {"int64": tf.int64, "double": tf.float64, "string": tf.string, "binary": tf.string}  # of raw columns
_STORED = {tf.float64: tf.float32, tf.int32: tf.int64, tf.bool: tf.int64}  # what shards have instead
_CASTS = {
    "int64": tf.int64, "int32": tf.int32, "bool": tf.bool,
    "float64": tf.float64, "double": tf.float64, "float32": tf.float32, "float": tf.float32,
}  # fmt: skip
_ARROW = {
    tf.int64: pa.int64(), tf.int32: pa.int32(), tf.bool: pa.bool_(), tf.float64: pa.float64(),
    tf.float32: pa.float32(), tf.string: pa.binary(),
}  # fmt: skip
_EXACT = {tf.float64: 2**53, tf.float32: 2**24}  # up to here every whole number is one of these


class Column(NamedTuple):
    """A batch of a column's values.

    Attributes:
      values: [batch]; they mean nothing where they are missing or not valid.
      missing: bool [batch].
      valid: bool [batch], whether a run would take the row, as far as this column says.
    """

    values: tf.Tensor
    missing: tf.Tensor
    valid: tf.Tensor


ColumnsFunction = Callable[[dict[str, Any]], dict[str, Any]]


def obstacles(prepare: Mapping[str, Any], names: Collection[str] | None = None) -> list[str]:
    """What of reading and `prepare` cannot be done to raw rows in TensorFlow, in words.

    Args:
      prepare: The manifest's entry.
      names: The raw columns that matter; None: all.
    """
    kinds = {name: kind for name, kind in prepare["columns"].items() if names is None or name in names}
    reading = {name: prepare.get("reading", {}).get(name, {}) for name in kinds}
    untold = ", ".join(repr(name) for name, rules in reading.items() if not rules)
    reasons = [f"a column of {kind} ({name!r})" for name, kind in kinds.items() if kind not in DTYPES]
    reasons += [f"the reading of {untold}, which the manifest does not tell: make the dataset anew"] if untold else []
    differing = [name for name in kinds if "tables" in reading[name]]
    reasons += [f"{name!r}, which the tables of a Union read differently" for name in differing]
    known = {name: _Known(kind, reading[name]) for name, kind in kinds.items()}
    for step in prepare["steps"]:
        needed = None if names is None else {*names, *known}
        if "touches" in step and needed is not None and needed.isdisjoint(step["touches"]):
            continue
        if "python" in step:
            reasons.append(f"{step['python']}, which is Python")
        elif step["step"] in _ON_NAMES:
            known = _ON_NAMES[step["step"]](step["arguments"])(known)
        elif step["step"] == "columns.fill":
            reasons += _unfillable(step["arguments"], known)
        elif step["step"] == "columns.cast":
            reasons += _uncastable(step["arguments"], known)
            types = step["arguments"]["types"]
            known |= {name: known[name]._replace(kind=kind) for name, kind in types.items() if name in known}
        elif step["step"] not in _FILTERS:
            reasons.append(f"{step['step']}, which has no TensorFlow operation")
    return reasons


class _Known(NamedTuple):
    """What is known of a column before any value of it is: its type now, and how its raw values are read."""

    kind: str
    rules: Mapping[str, Any]

    @property
    def is_text(self) -> bool:
        return self.kind in ("string", "binary")

    @property
    def has_nan(self) -> bool:
        """Whether it may hold NaN, which training tells from a missing value and a request cannot."""
        return self.rules.get("nonfinite") == "keep" and _CASTS.get(self.kind, tf.int64).is_floating


def _unfillable(arguments: Mapping[str, Any], known: Mapping[str, _Known]) -> Iterator[str]:
    for name, value in arguments["values"].items():
        call = f"columns.fill({{{name!r}: {_value(value)!r}}})"
        if name not in known:
            continue
        if isinstance(value, Mapping) and "python" in value:
            yield f"{call}: no text and no number"
        elif known[name].is_text and "" not in known[name].rules.get("missing", [""]):
            yield f"{call}: an empty text is a value in training, and a missing one in a request; fill it in `features`"
        elif known[name].has_nan:
            yield f"{call}: nonfinite='keep' makes NaN a value in training, and a request has it for a missing one"


def _uncastable(arguments: Mapping[str, Any], known: Mapping[str, _Known]) -> Iterator[str]:
    for name, kind in arguments["types"].items():
        call = f"columns.cast({{{name!r}: {kind!r}}})"
        if name in known and (known[name].is_text or kind not in _CASTS):
            yield f"{call}: only numbers to numbers"
        elif name in known and kind == "bool" and known[name].has_nan:
            yield f"{call}: nonfinite='keep' makes NaN true in training, and a request has it for a missing value"


def missing_value(dtype: tf.DType) -> Any:
    """What stands for a missing value in a batch."""
    return MISSING_VALUES["float32" if dtype.is_floating else dtype.name]


def parsing(dtype: tf.DType) -> Any:
    """How a raw column is parsed from a tf.train.Example, which holds floats as float32."""
    stored = _STORED.get(dtype, dtype)
    return tf.io.FixedLenFeature([], stored, missing_value(stored))


def pipeline(prepare: Mapping[str, Any]) -> Callable[[Mapping[str, tf.Tensor]], tuple[dict[str, tf.Tensor], tf.Tensor]]:
    """A function from raw columns, name to [batch], to those that the graph's features are made of.

    Steps without a TensorFlow operation are left out: `obstacles` says where they matter. Raw values are of DTYPES, or
    float32 for float64. The function's second result, bool [batch], or [] where there are no columns, is false for rows
    that a run would quarantine.
    """
    steps = [_STEPS[step["step"]](step["arguments"]) for step in prepare["steps"] if step.get("step") in _STEPS]

    def run(raw: Mapping[str, tf.Tensor]) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
        columns = {name: _read(values, prepare["reading"][name]) for name, values in raw.items()}
        valid = _all_valid(columns)
        for step in steps:
            columns = step(columns)
            valid &= _all_valid(columns)  # of columns, too, that a later step drops
        return {name: _as_stored(column) for name, column in columns.items()}, valid

    return run


def _all_valid(columns: Mapping[str, Column]) -> tf.Tensor:
    valid = tf.constant(True)
    for column in columns.values():
        valid &= column.valid
    return valid


def _read(values: tf.Tensor, rules: Mapping[str, Any]) -> Column:
    """What the source does to a value: blanks around it, what stands for a missing one, what is no finite number."""
    tokens: list[Any] = [token.encode() for token in rules["missing"]]
    if values.dtype == tf.string:
        values = tf.strings.regex_replace(values, r"^[ \t]+|[ \t]+$", "") if rules["strip"] else values
        missing = values == b""
    else:
        values = widen(values) if values.dtype == tf.float32 else values
        tokens = list(numbers_among(tuple(rules["missing"]), _ARROW[values.dtype]).values())
        missing = tf.math.is_nan(values) if values.dtype.is_floating else values == tf.int64.min
    for token in tokens:
        missing |= values == tf.constant(token, values.dtype)
    valid = tf.ones_like(missing)
    if rules.get("nonfinite", "keep") != "keep":
        finite = tf.abs(values) <= FLOAT32_MAX
        if rules["nonfinite"] == "quarantine":
            valid = finite | missing
        missing |= ~finite
    return Column(values, missing, valid)


def _as_stored(column: Column) -> tf.Tensor:
    """A column as shards have it."""
    values = _converted(column.values, _STORED.get(column.values.dtype, column.values.dtype))
    return tf.where(column.missing, tf.constant(missing_value(values.dtype), values.dtype), values)


def _value(stored: Any) -> Any:
    """The bytes, or the float, that `transforms.step.as_json` stored; all else as it is."""
    if isinstance(stored, Mapping) and "base64" in stored:
        return base64.b64decode(stored["base64"])
    return float(stored["float"]) if isinstance(stored, Mapping) and "float" in stored else stored


def _select(arguments: Mapping[str, Any]) -> ColumnsFunction:
    return lambda columns: {name: columns[name] for name in arguments["names"] if name in columns}


def _drop(arguments: Mapping[str, Any]) -> ColumnsFunction:
    return lambda columns: {name: column for name, column in columns.items() if name not in arguments["names"]}


def _rename(arguments: Mapping[str, Any]) -> ColumnsFunction:
    new = arguments["names"]
    return lambda columns: {new.get(name, name): column for name, column in columns.items()}


def _fill(arguments: Mapping[str, Any]) -> ColumnsFunction:
    filling = {name: _value(value) for name, value in arguments["values"].items() if value is not None}

    def fill(name: str, column: Column) -> Column:
        value = pa.scalar(filling[name], _ARROW[column.values.dtype]).as_py()
        filled = tf.where(column.missing, tf.constant(value, column.values.dtype), column.values)
        return Column(filled, tf.zeros_like(column.missing), column.valid)

    return lambda columns: columns | {name: fill(name, columns[name]) for name in filling if name in columns}


def _cast_columns(arguments: Mapping[str, Any]) -> ColumnsFunction:
    kinds = arguments["types"]

    return lambda columns: columns | {name: _cast(columns[name], kinds[name]) for name in kinds if name in columns}


def _cast(column: Column, kind: str) -> Column:
    """A column as another type, as Arrow casts it: a value that would become another one is not valid."""
    values, dtype = column.values, _CASTS[kind]
    fits = tf.ones_like(column.missing)
    if dtype.is_integer and values.dtype.is_floating:
        fits = (values >= dtype.min) & (values < -float(dtype.min)) & (tf.floor(values) == values)
    elif dtype.is_integer and values.dtype == tf.int64:
        fits = (values >= dtype.min) & (values <= dtype.max)
    elif dtype.is_floating and values.dtype.is_integer and _EXACT[dtype] < values.dtype.max:
        fits = (values >= -_EXACT[dtype]) & (values <= _EXACT[dtype])
    values = tf.where(column.missing | ~fits, tf.zeros_like(values), values)
    return Column(_converted(values, dtype), column.missing, column.valid & (fits | column.missing))


def _converted(values: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
    """Values that fit another type, in it."""
    if dtype == tf.bool and values.dtype != tf.bool:
        return values != 0
    exactly = {(tf.float64, tf.float32): narrow, (tf.float32, tf.float64): widen}.get((values.dtype, dtype))
    return exactly(values) if exactly else tf.cast(values, dtype)


_ON_NAMES: dict[str, Callable[[Mapping[str, Any]], ColumnsFunction]] = {
    "columns.select": _select,
    "columns.drop": _drop,
    "columns.rename": _rename,
}
_STEPS: dict[str, Callable[[Mapping[str, Any]], ColumnsFunction]] = {
    **_ON_NAMES,
    "columns.fill": _fill,
    "columns.cast": _cast_columns,
}
