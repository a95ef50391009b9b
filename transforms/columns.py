"""Functions of whole batches, for the `prepare` of a table's recipe: the fast path.

    prepare=[columns.drop("id"), add_age, columns.where(lambda batch: pc.greater(batch["age"], 17), "under age")]

    @columns.vectorized
    def add_age(batch: pa.RecordBatch) -> pa.RecordBatch: ...

A function that `vectorized` marks gets a RecordBatch and returns one with as many rows, in the same order; one that it
doesn't mark gets one example, as a dict. Both may be in the same list.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from .check import expect
from .step import as_json, config_of

_TYPES = {
    "int64": pa.int64(),
    "int32": pa.int32(),
    "float64": pa.float64(),
    "float32": pa.float32(),
    "bool": pa.bool_(),
    "string": pa.string(),
    "binary": pa.binary(),
}


@dataclass(frozen=True)
class Vectorized:
    """Marks a function as one of batches. Made by `vectorized`, and by this module's own functions.

    Attributes:
      function: From a RecordBatch to a RecordBatch with as many rows, in the same order.
      name: What messages call it; empty: the function's own name.
    """

    function: Callable[[pa.RecordBatch], pa.RecordBatch]
    name: str = ""

    def __post_init__(self) -> None:
        expect(callable(self.function), "vectorized(function)", "a function of a RecordBatch", self.function)

    def __call__(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Applies the function."""
        return self.function(batch)


def vectorized(function: Callable[[pa.RecordBatch], pa.RecordBatch]) -> Vectorized:
    """Marks a function of `prepare` as one that takes and returns a RecordBatch; use it as a decorator.

    Raises:
      ValueError: it is no function.

    >>> @columns.vectorized
    ... def double(batch: pa.RecordBatch) -> pa.RecordBatch:
    ...     return columns.put(batch, "x", pc.multiply(batch["x"], 2))
    >>> double(pa.record_batch({"x": [1, 2]})).to_pydict()
    {'x': [2, 4]}
    """
    return Vectorized(function)


@dataclass(frozen=True)
class Where:
    """Leaves out the rows for which the predicate isn't true. Made by `where`.

    Attributes:
      predicate: From a RecordBatch to a boolean for each row.
      reason: What the rows that are left out are counted by.
    """

    step_id: ClassVar[str] = "columns.where"

    predicate: Callable[[pa.RecordBatch], Any]
    reason: str

    def __post_init__(self) -> None:
        expect(callable(self.predicate), "where(predicate)", "a function of a RecordBatch", self.predicate)
        expect(isinstance(self.reason, str) and bool(self.reason.strip()), "where(reason=...)", "a text", self.reason)

    def config(self) -> dict[str, Any]:
        """The arguments of `where`, by name."""
        return config_of(self)

    @property
    def null_reason(self) -> str:
        """What rows are counted by where the predicate gives null, as a comparison with a missing value does."""
        return f"{self.reason} (null)"

    def mask(self, batch: pa.RecordBatch) -> pa.BooleanArray:
        """Which rows are wanted: bool [rows], null where the predicate gives null.

        Raises:
          ValueError: the predicate returned something else than a boolean for each row.
        """
        mask = self.predicate(batch)
        if isinstance(mask, np.ndarray) and mask.ndim == 1:
            mask = pa.array(mask)
        if isinstance(mask, pa.ChunkedArray):
            mask = mask.combine_chunks()
        is_mask = isinstance(mask, pa.Array) and pa.types.is_boolean(mask.type) and len(mask) == len(batch)
        what = f"{len(mask)} of {mask.type}" if isinstance(mask, pa.Array) else repr(mask)
        expect(is_mask, f"where(..., {self.reason!r})", f"a predicate that returns {len(batch)} booleans", what)
        return mask


def where(predicate: Callable[[pa.RecordBatch], Any], reason: str) -> Where:
    """Keeps the rows for which the predicate is true; the others are counted under `reason` and left out.

    Args:
      predicate: A function from a RecordBatch to a boolean array with a value for each row, of Arrow or NumPy. A null,
        which a comparison with a missing value gives, isn't true: such rows are left out too, and counted apart, under
        the reason with " (null)" at its end. `pc.fill_null(..., True)` in the predicate keeps them.
      reason: Why the others are not wanted: the name of their count.

    Raises:
      ValueError: an argument is not what it should be.

    >>> step = columns.where(lambda batch: pc.greater(batch["age"], 17), "under age")
    >>> step.mask(pa.record_batch({"age": [31, 4, None]})).to_pylist()
    [True, False, None]
    """
    return Where(predicate, reason)


def select(*names: str) -> Vectorized:
    """Keeps these columns only, in this order.

    >>> columns.select("b", "a")(pa.record_batch({"a": [1], "b": [2], "c": [3]})).to_pydict()
    {'b': [2], 'a': [1]}
    """
    _expect_names("select", names)
    return Vectorized(_Select(names), f"columns.select({', '.join(map(repr, names))})")


@dataclass(frozen=True)
class _Select:
    step_id: ClassVar[str] = "columns.select"

    names: tuple[str, ...]

    def config(self) -> dict[str, Any]:
        """The arguments of `select`, by name."""
        return config_of(self)

    def __call__(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        return batch.select([_existing("select", name, batch) for name in self.names])


def drop(*names: str) -> Vectorized:
    """Leaves these columns out.

    >>> columns.drop("b")(pa.record_batch({"a": [1], "b": [2]})).to_pydict()
    {'a': [1]}
    """
    _expect_names("drop", names)
    return Vectorized(_Drop(names), f"columns.drop({', '.join(map(repr, names))})")


@dataclass(frozen=True)
class _Drop:
    step_id: ClassVar[str] = "columns.drop"

    names: tuple[str, ...]

    def config(self) -> dict[str, Any]:
        """The arguments of `drop`, by name."""
        return config_of(self)

    def __call__(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        return batch.drop_columns([_existing("drop", name, batch) for name in self.names])


def rename(names: Mapping[str, str]) -> Vectorized:
    """Gives columns other names.

    Args:
      names: Old name to new name; the other columns keep theirs.

    >>> columns.rename({"a": "b"})(pa.record_batch({"a": [1], "c": [2]})).to_pydict()
    {'b': [1], 'c': [2]}
    """
    _expect_names("rename", tuple(names))
    expect(len(set(names.values())) == len(names), "rename(names)", "new names that differ", dict(names))
    return Vectorized(_Rename(tuple(names.items())), f"columns.rename({dict(names)})")


@dataclass(frozen=True)
class _Rename:
    step_id: ClassVar[str] = "columns.rename"

    names: tuple[tuple[str, str], ...]

    def config(self) -> dict[str, Any]:
        """The arguments of `rename`, by name."""
        return {"names": dict(self.names)}

    def __call__(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        new = {_existing("rename", old, batch): name for old, name in self.names}
        renamed = [new.get(name, name) for name in batch.schema.names]
        expect(len(set(renamed)) == len(renamed), "rename(names)", "no name that another column has", dict(self.names))
        return batch.rename_columns(renamed)


def cast(types: Mapping[str, str | pa.DataType]) -> Vectorized:
    """Changes the types of columns; a value that doesn't fit its new type is an error of its row.

    Args:
      types: Name to type: an Arrow type, or one of "int64", "int32", "float64", "float32", "bool", "string", "binary".

    >>> columns.cast({"a": "float32"})(pa.record_batch({"a": [1, None]})).to_pydict()
    {'a': [1.0, None]}
    """
    _expect_names("cast", tuple(types))
    for kind in types.values():
        expect(isinstance(kind, pa.DataType) or kind in _TYPES, "cast(types)", f"types of Arrow or {[*_TYPES]}", kind)
    return Vectorized(_Cast(tuple(types.items())), f"columns.cast({dict(types)})")


@dataclass(frozen=True)
class _Cast:
    step_id: ClassVar[str] = "columns.cast"

    types: tuple[tuple[str, Any], ...]

    def config(self) -> dict[str, Any]:
        """The arguments of `cast`, by name."""
        return {"types": {name: str(kind) for name, kind in self.types}}

    def __call__(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        for name, kind in self.types:
            column = batch.column(_existing("cast", name, batch))
            batch = put(batch, name, column.cast(kind if isinstance(kind, pa.DataType) else _TYPES[kind]))
        return batch


def fill(values: Mapping[str, Any]) -> Vectorized:
    """Fills in missing values.

    Args:
      values: Name to what its missing values become. NaN isn't missing.

    >>> columns.fill({"a": 0})(pa.record_batch({"a": [1, None], "b": ["x", None]})).to_pydict()
    {'a': [1, 0], 'b': ['x', None]}
    """
    _expect_names("fill", tuple(values))
    return Vectorized(_Fill(tuple(values.items())), f"columns.fill({dict(values)})")


@dataclass(frozen=True)
class _Fill:
    step_id: ClassVar[str] = "columns.fill"

    values: tuple[tuple[str, Any], ...]

    def config(self) -> dict[str, Any]:
        """The arguments of `fill`, by name."""
        values = {name: value.as_py() if isinstance(value, pa.Scalar) else value for name, value in self.values}
        return {"values": as_json(values)}

    def __call__(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        for name, value in self.values:
            column = batch.column(_existing("fill", name, batch))
            batch = put(batch, name, pc.fill_null(column, pa.scalar(value, column.type)))
        return batch


def put(batch: pa.RecordBatch, name: str, values: Any) -> pa.RecordBatch:
    """The batch with a column replaced, or added at the end; for use in vectorized functions.

    Args:
      batch: Of n rows.
      name: The column's.
      values: [n], of Arrow or NumPy.

    >>> columns.put(pa.record_batch({"a": [1, 2]}), "b", np.array([0.5, 1.5])).to_pydict()
    {'a': [1, 2], 'b': [0.5, 1.5]}
    """
    if isinstance(values, pa.ChunkedArray):
        values = values.combine_chunks()
    values = values if isinstance(values, pa.Array) else pa.array(values)
    at = batch.schema.get_field_index(name)
    return batch.append_column(name, values) if at < 0 else batch.set_column(at, name, values)


def _existing(function: str, name: str, batch: pa.RecordBatch) -> str:
    expect(name in batch.schema.names, f"{function}({name!r})", f"one of the columns {batch.schema.names}", name)
    return name


def _expect_names(function: str, names: tuple[str, ...]) -> None:
    expect(
        bool(names) and all(isinstance(name, str) and name for name in names) and len(set(names)) == len(names),
        f"{function}(...)",
        "names of columns, each once",
        names,
    )
