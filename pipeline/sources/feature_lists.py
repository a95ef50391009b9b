"""The feature lists of tf.train.SequenceExample, which become columns of lists."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..errors import RequestError
from ..formats.example_format import LONGEST_VARINT
from .row_errors import RowError

COLUMN = "\x01feature_lists"  # no name of a feature: what holds the feature lists until they are columns
_FEATURES, _FEATURE_LISTS = 0x0A, 0x12  # tags of Protocol Buffers' wire format


def has_feature_lists(record: bytes) -> bool:
    """Whether a record is a SequenceExample with feature lists; without them it is the same as an Example."""
    place = 0
    while place < len(record) and record[place] == _FEATURES:
        length = shift = 0
        place += 1
        while place < len(record) and shift < 7 * LONGEST_VARINT:
            byte = record[place]
            length |= (byte & 0x7F) << shift
            place, shift = place + 1, shift + 7
            if byte < 0x80:
                break
        place += length
    return place < len(record) and record[place] == _FEATURE_LISTS


def unpack(batch: pa.RecordBatch, uri: str) -> pa.RecordBatch:
    """Decoded SequenceExamples with each feature list as a column beside the features: a list of steps, each a list.

    Raises:
      RequestError: a feature list has the name of a feature.
    """
    packed = batch.column(batch.schema.get_field_index(COLUMN))
    features = [name for name in batch.schema.names if name != COLUMN]
    columns = {name: batch.column(name) for name in features}
    for index, field in enumerate(packed.type):
        if field.name in columns:
            raise RequestError(
                f"{uri}: expected other names of feature lists than of context features, found {field.name!r} for "
                "both; rename one"
            )
        lists = packed.field(index)
        if pa.types.is_null(field.type.value_type):  # no step has a value
            steps = pa.nulls(len(lists.values), pa.large_list(pa.null()))
            lists = pa.LargeListArray.from_arrays(lists.offsets, steps)
        columns[field.name] = lists
    return pa.RecordBatch.from_arrays(list(columns.values()), names=list(columns))


def is_feature_list(kind: pa.DataType) -> bool:
    """Whether a column of `unpack` is a feature list."""
    return bool(pa.types.is_large_list(kind) and pa.types.is_large_list(kind.value_type))


def flatten(lists: pa.Array, name: str, errors: dict[int, RowError]) -> pa.Array:
    """A feature list of each example, a list of steps of one value each, as a list of values.

    Args:
      lists: large_list<large_list<T>>.
      name: The feature list's, for messages.
      errors: Takes the examples with a step that has no value, or several, by position.
    """
    rows, counts = _wrong_steps(lists)
    for row, count in zip(rows.tolist(), counts.tolist(), strict=True):
        message = f"expected one value in each step of the feature list {name!r}, found {count}"
        errors.setdefault(row, RowError("wrong_type", f"{message}; leave it out with columns=..."))
    if len(rows):
        fits = np.ones(len(lists), bool)
        fits[rows] = False
        lists = pc.if_else(pa.array(fits), lists, pa.scalar(None, lists.type))
    lengths = pc.fill_null(pc.list_value_length(lists), 0).to_numpy(zero_copy_only=False)
    offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]), pa.int64())
    mask = pc.is_null(lists) if lists.null_count else None
    return pa.LargeListArray.from_arrays(offsets, lists.flatten().flatten(), mask=mask)


def _wrong_steps(lists: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """The rows of the steps that have not one value, and how many these have."""
    counts = pc.fill_null(pc.list_value_length(lists.flatten()), 0).to_numpy(zero_copy_only=False)
    wrong = np.flatnonzero(counts != 1)
    return pc.list_parent_indices(lists).to_numpy(zero_copy_only=False)[wrong], counts[wrong]
