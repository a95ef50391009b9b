"""What float32 does to a column of floats: whole parts that become others, and values that become equal."""

import numpy as np
import pyarrow as pa

from ..formats.column_notes import COLLAPSED, ROUNDED, ColumnNote, Notes

_WHOLE = 2.0**24  # up to here every whole number is a float32
_SORTED = 1 << 16  # values of a batch that are looked at for equal ones: among more, chance alone makes many equal


def rounding_notes(batch: pa.RecordBatch) -> Notes:
    """What becomes of a batch's columns of float64, or of lists of it, once they are stored as float32."""
    notes: dict[tuple[str, str], ColumnNote] = {}
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        is_list = pa.types.is_list(column.type) or pa.types.is_large_list(column.type)
        items = column.flatten() if is_list else column
        if not pa.types.is_float64(items.type):
            continue
        values = items.drop_null().to_numpy()
        values = values[np.isfinite(values)]
        if len(values):
            notes[ROUNDED, name] = _rounded(values)
            notes[COLLAPSED, name] = _collapsed(values[:_SORTED])
    return notes


def _rounded(values: np.ndarray) -> ColumnNote:
    """How many values, float64 [n], are another whole number as float32."""
    changed = values[(np.abs(values) >= _WHOLE) & (np.trunc(values) != _as_float32(values))]
    return ColumnNote(len(changed), len(values), _example(changed[0]) if len(changed) else "")


def _collapsed(values: np.ndarray) -> ColumnNote:
    """How many different values, of finite float64 [n], are equal to the next smaller one as float32."""
    different = np.unique(values)
    stored = _as_float32(different)
    equal = np.flatnonzero(stored[1:] == stored[:-1])
    example = ""
    if len(equal):
        one, other = different[equal[0]], different[equal[0] + 1]
        example = f"{float(one)!r} and {float(other)!r}"
    return ColumnNote(len(equal), len(different), example)


def _as_float32(values: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        return values.astype(np.float32).astype(np.float64)


def _example(value: np.float64) -> str:
    return f"{float(value)!r} as {float(np.float32(value)):.1f}"
