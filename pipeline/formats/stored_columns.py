"""Columns of many stored examples as Arrow has them: what `example_writer.encode` was given, its floats as float32.

No Python object is made for a row, but for one that lists several strings, or holds its features in another order.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from . import example_columns, example_reader
from .example_columns import Bools, Integers, Spans
from .features import Feature


def decode(
    records: bytes, starts: Integers, ends: Integers, stored: Mapping[str, Feature], columns: pa.Schema
) -> pa.RecordBatch:
    """Some columns of records without pixels; a list without items is missing.

    Args:
      records: Bytes that hold serialized tf.train.Examples.
      starts: int64 [rows], where each begins in them.
      ends: int64 [rows], where it ends.
      stored: All features that the records hold: single values, or lists of any length.
      columns: Which columns, and their types: int64, float64, strings or bytes, or large lists of these.

    Raises:
      ValueError: a record is no tf.train.Example.
    """
    spans, fits = example_columns.find_in(records, starts, ends, stored)
    arrays = {}
    for name in columns.names:
        arrays[name], right = _column(spans[name], stored[name])
        fits &= right
    batch = _cast(arrays, columns)
    if fits.all():
        return batch
    others = np.flatnonzero(~fits)
    parsed = [example_reader.parse(records[starts[row] : ends[row]]) for row in others.tolist()]
    values = {name: [value_of(stored[name], row.get(name)) for row in parsed] for name in columns.names}
    order = np.arange(len(batch))
    order[others] = len(batch) + np.arange(len(others))
    both = pa.Table.from_batches([batch, pa.RecordBatch.from_pydict(values, columns)])
    (ordered,) = both.combine_chunks().take(pa.array(order)).combine_chunks().to_batches()
    return ordered


def _cast(arrays: Mapping[str, pa.Array], columns: pa.Schema) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([arrays[column.name].cast(column.type) for column in columns], schema=columns)


def _column(spans: Spans, feature: Feature) -> tuple[pa.Array, Bools]:
    """A column of a feature's values, and for each row whether it holds what it should."""
    all_right = np.ones(len(spans.starts), bool)
    if feature.dtype == "string":
        strings = _strings(spans)
        if not feature.shape:
            return strings, all_right
        bounds = np.concatenate([[0], np.cumsum(spans.present)])
        return _to_lists(strings.drop_null(), bounds, spans.present), all_right
    if feature.shape:
        items, bounds, right = example_columns.list_items(spans, feature)
        return _to_lists(pa.array(_wide(items)), bounds, spans.present), right
    numbers, right = example_columns.values(spans, feature, 0)
    return pa.array(_wide(numbers), mask=~spans.present), right


def _wide(numbers: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Numbers in the type that a column of them has."""
    return numbers.astype(np.float64) if numbers.dtype.kind == "f" else numbers


def _strings(spans: Spans) -> pa.Array:
    content, bounds = example_columns.gather(spans)
    missing = np.packbits(spans.present, bitorder="little")
    buffers = [pa.py_buffer(missing), pa.py_buffer(bounds.astype(np.int64)), pa.py_buffer(content)]
    return pa.Array.from_buffers(pa.large_binary(), len(spans.starts), buffers)


def _to_lists(items: pa.Array, bounds: Integers, present: Bools) -> pa.Array:
    return pa.LargeListArray.from_arrays(pa.array(bounds, pa.int64()), items, mask=pa.array(~present))


def value_of(feature: Feature, stored: example_reader.Value | None) -> Any:
    """One stored value as a column takes it: a scalar, or the items of a list or an array; None: it is missing."""
    if stored is None:
        return None
    kind, content = stored
    items: Sequence[Any]
    if feature.dtype == "int64":
        items = example_reader.integers(content).tolist()
    elif feature.dtype == "float32":
        items = example_reader.floats(content).tolist()
    else:
        items = example_reader.strings(content) if kind == example_reader.STRINGS else [bytes(content)]
    return items if feature.shape else items[0]
