"""Columns to tf.train.Examples, vectorized: the wire format written by Arrow and NumPy, without an object per row.

What has no columns, an image's values, is written one example at a time, by `serialize`.

The bytes are those of protobuf's deterministic serialization, with the entries in the order of their names' bytes;
tfx_bsl's encoder promises no order, holds the interpreter's lock, and reaches 68,000 census rows a second, this one a
million. For the format see `example_format`.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from .example_format import BYTES, ENTRY, FEATURES, FLOATS, INTEGERS, ITEMS, KINDS, NAME, VALUE, tag
from .features import Feature, is_string

_REPEATED = 8  # where a value occurs so often on average, each distinct one is encoded once
_FEW = 64  # distinct values that are encoded one by one, since later batches hold them too


def with_dictionaries(batch: pa.RecordBatch) -> pa.RecordBatch:
    """A batch whose columns of strings are dictionaries where values repeat: each distinct one is worked on once."""
    columns = [_dictionary(column) if is_string(column.type) else column for column in batch.columns]
    return pa.RecordBatch.from_arrays(columns, names=batch.schema.names)


def _dictionary(column: pa.Array) -> pa.Array:
    """A column as a dictionary where its values repeat, else as it is."""
    encoded = column.dictionary_encode()
    return encoded if _REPEATED * len(encoded.dictionary) <= len(column) else column


def encode(batch: pa.RecordBatch, features: Mapping[str, Feature]) -> pa.LargeBinaryArray:
    """The rows of a batch as serialized tf.train.Examples.

    Args:
      batch: Columns of int64, float64 or float32, string or binary, dictionaries of strings, or lists of any of these
        but dictionaries. A missing value has no entry.
      features: The columns to take, and what they are.
    """
    entries = [
        _entries(name, KINDS[features[name].dtype], batch.column(name)) for name in sorted(features, key=str.encode)
    ]
    joined = _join(*entries)
    return _join(_by_length(_lengths(joined), lambda length: _head(FEATURES, length)), joined)


def serialize(values: Mapping[str, Any], features: Mapping[str, Feature]) -> bytes:
    """One tf.train.Example with the given stored values; equal values give equal bytes.

    Args:
      values: Feature name to stored value, None where it is missing; pixels are encoded already.
      features: What each is.
    """
    entries = b"".join(
        _serialize_value(name, features[name], values[name])
        for name in sorted(features, key=str.encode)
        if values[name] is not None
    )
    return _head(FEATURES, len(entries)) + entries if entries else b""


def _serialize_value(name: str, feature: Feature, value: Any) -> bytes:
    """A value, or a list or array of values, as an entry of the feature map."""
    if feature.dtype == "int64":
        items = np.asarray(value, np.int64).ravel().tolist()
        return _prefix_payload(name, INTEGERS, b"".join(_varint(item % (1 << 64)) for item in items))
    if feature.dtype == "float32":
        with np.errstate(over="ignore"):
            return _prefix_payload(name, FLOATS, np.ravel(value).astype("<f4").tobytes())
    strings = [
        item.encode() if isinstance(item, str) else item for item in (value if None in feature.shape else [value])
    ]
    return _prefix_payload(name, BYTES, b"".join(_head(ITEMS, len(string)) + string for string in strings))


def _prefix_payload(name: str, kind: int, payload: bytes) -> bytes:
    return _prefix(name.encode(), kind, len(payload)) + payload


def _entries(name: str, kind: int, column: pa.Array) -> pa.LargeBinaryArray:
    """A column as entries of the feature map; empty, or null, where the value is missing."""
    if pa.types.is_integer(column.type) or is_string(column.type):
        column = _dictionary(column)
    if pa.types.is_dictionary(column.type):
        distinct = column.dictionary
        if len(distinct) > _FEW:
            return _entries_of(name, kind, distinct).take(column.indices)
        entries = [_entry(name, kind, value) for value in distinct.to_pylist()]
        return pa.array(entries, pa.large_binary()).take(column.indices)
    return _entries_of(name, kind, column)


def _entries_of(name: str, kind: int, column: pa.Array) -> pa.LargeBinaryArray:
    """As `_entries`, of each value by itself."""
    payloads = _payloads(kind, column)
    key = name.encode()
    prefixes = _by_length(_lengths(payloads), lambda length: _prefix(key, kind, length))
    if column.null_count:
        prefixes = pc.if_else(column.is_valid(), prefixes, pa.scalar(b"", pa.large_binary()))
    return _join(prefixes, payloads)


@functools.lru_cache(maxsize=1 << 14)
def _entry(name: str, kind: int, value: str | bytes | int) -> bytes:
    """The entry of one value, a string or an integer."""
    if isinstance(value, int):
        payload = _varint(value % (1 << 64))
    else:
        content = value.encode() if isinstance(value, str) else value
        payload = _head(ITEMS, len(content)) + content
    return _prefix_payload(name, kind, payload)


def _head(number: int, length: int) -> bytes:
    """What stands before the content, of so many bytes, of a length-delimited field."""
    return bytes([tag(number)]) + _varint(length)


def _prefix(key: bytes, kind: int, length: int) -> bytes:
    """What stands in an entry of the feature map before a list's payload, of so many bytes.

    A payload of strings has a head for each of them already; packed numbers have one head together, if there are any.
    """
    head = b"" if kind == BYTES or not length else _head(ITEMS, length)
    inner = _head(kind, len(head) + length) + head
    entry = _head(NAME, len(key)) + key + _head(VALUE, len(inner) + length) + inner
    return _head(ENTRY, len(entry) + length) + entry


def _payloads(kind: int, column: pa.Array) -> pa.LargeBinaryArray:
    """What each row's list holds, packed; empty where the value is missing."""
    if _is_list(column.type):
        column = column.fill_null(pa.scalar([], column.type)) if column.null_count else column
        bounds = np.asarray(column.offsets).astype(np.int64)
        items = _items(kind, column.values)
        starts = np.asarray(_offsets(items))[bounds]
        return _binary(starts, items.buffers()[2])
    return _items(kind, column)


def _items(kind: int, values: pa.Array) -> pa.LargeBinaryArray:
    """Each value as bytes, those of a missing one empty: a string with its head, numbers as they are packed."""
    if kind == BYTES:
        strings = values.cast(pa.large_binary())
        packed = _join(_by_length(_lengths(strings), lambda length: _head(ITEMS, length)), strings)
        if not values.null_count:
            return packed
        return pc.if_else(values.is_valid(), packed, pa.scalar(b"", pa.large_binary()))
    valid = np.asarray(values.is_valid()) if values.null_count else np.ones(len(values), bool)
    if kind == FLOATS:
        with np.errstate(over="ignore"):
            numbers = np.asarray(pc.fill_null(values, 0)).astype("<f4")
        content = numbers[valid].tobytes()
        return _binary(np.concatenate([[0], np.cumsum(4 * valid)]), pa.py_buffer(content))
    numbers = np.asarray(pc.fill_null(values, 0)).astype(np.int64).view(np.uint64)
    lengths = _varint_lengths(numbers)
    places = np.arange(lengths.max(initial=0))
    shifts = places.astype(np.uint64) * np.uint64(7)
    digits = ((numbers[:, None] >> shifts) & np.uint64(0x7F)).astype(np.uint8)
    digits |= np.where(places < lengths[:, None] - 1, 0x80, 0).astype(np.uint8)
    lengths = np.where(valid, lengths, 0)
    content = digits[places < lengths[:, None]].tobytes()
    return _binary(np.concatenate([[0], np.cumsum(lengths)]), pa.py_buffer(content))


def _varint_lengths(numbers: np.ndarray) -> np.ndarray:
    """How many bytes each uint64 takes as a varint: 1 to 10."""
    limits = np.uint64(1) << (np.arange(1, 10, dtype=np.uint64) * np.uint64(7))
    return np.searchsorted(limits, numbers, "right") + 1


def _by_length(lengths: np.ndarray, make: Callable[[int], bytes]) -> pa.LargeBinaryArray:
    """For each length what `make` gives for it; few lengths are distinct, so few calls are made."""
    encoded = pa.array(lengths).dictionary_encode()
    return pa.array(map(make, encoded.dictionary.to_pylist()), pa.large_binary()).take(encoded.indices)


def _join(*columns: pa.LargeBinaryArray) -> pa.LargeBinaryArray:
    joined = pc.binary_join_element_wise(
        *columns, pa.scalar(b"", pa.large_binary()), null_handling="replace", null_replacement=""
    )
    return joined.cast(pa.large_binary())


def _is_list(column_type: pa.DataType) -> bool:
    return bool(pa.types.is_list(column_type) or pa.types.is_large_list(column_type))


def _lengths(column: pa.LargeBinaryArray) -> np.ndarray:
    return np.asarray(pc.fill_null(pc.binary_length(column), 0))


def _offsets(column: pa.LargeBinaryArray) -> np.ndarray:
    return np.frombuffer(column.buffers()[1], np.int64, len(column) + 1, 8 * column.offset)


def _binary(offsets: np.ndarray, content: pa.Buffer) -> pa.LargeBinaryArray:
    buffer = pa.py_buffer(np.ascontiguousarray(offsets, np.int64))
    return pa.LargeBinaryArray.from_buffers(pa.large_binary(), len(offsets) - 1, [None, buffer, content])


def _varint(number: int) -> bytes:
    parts = bytearray()
    while number > 0x7F:
        parts.append(number & 0x7F | 0x80)
        number >>= 7
    parts.append(number)
    return bytes(parts)
