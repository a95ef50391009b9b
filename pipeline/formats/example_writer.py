"""Columns to tf.train.Examples, vectorized: the wire format written by Arrow and NumPy, without an object per row.

What has no columns, an image's values, is written one example at a time, by `serialize`.

The bytes are those of protobuf's deterministic serialization, with the entries in the order of their names' bytes;
tfx_bsl's encoder promises no order, holds the interpreter's lock, and reaches 68,000 census rows a second, this one
three million. For the format see `example_format`.
"""

import functools
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from . import example_reader
from .example_format import BYTES, ENTRY, FEATURES, FLOATS, INTEGERS, ITEMS, KINDS, NAME, VALUE, tag
from .features import Feature, is_string

_REPEATED = 8  # where a value occurs so often on average, each distinct one is encoded once
_COMBINED = 16  # and so often, a combination of values of columns that follow each other
_FEW = 64  # distinct values that are encoded one by one, since later batches hold them too
_HEAD = 1024  # values that show whether a column's values repeat at all
_TABLED = 1 << 16  # bytes up to which lengths are looked up in a table


def with_dictionaries(batch: pa.RecordBatch) -> pa.RecordBatch:
    """A batch whose columns of strings and of int64 are dictionaries where values repeat: each is worked on once."""
    columns = [_dictionary(column) if _is_discrete(column.type) else column for column in batch.columns]
    return pa.RecordBatch.from_arrays(columns, names=batch.schema.names)


def concat_batches(batches: Sequence[pa.RecordBatch]) -> pa.RecordBatch:
    """Batches of the same columns as one, whether these are dictionaries in each or not.

    Args:
      batches: As `with_dictionaries` gives them; one at least.
    """
    columns = []
    for parts in zip(*(batch.columns for batch in batches), strict=True):
        if len({pa.types.is_dictionary(part.type) for part in parts}) > 1:
            parts = tuple(part.dictionary_decode() if pa.types.is_dictionary(part.type) else part for part in parts)
        columns.append(pa.concat_arrays(parts))
    return pa.RecordBatch.from_arrays(columns, names=batches[0].schema.names)


def _is_discrete(kind: pa.DataType) -> bool:
    return bool(pa.types.is_int64(kind) or is_string(kind))


def _dictionary(column: pa.Array) -> pa.Array:
    """A column as a dictionary where its values repeat, else as it is."""
    head = column[:_HEAD]
    if len(column) > 2 * _HEAD and 16 * len(head.unique()) > 15 * _HEAD:
        return column
    encoded = column.dictionary_encode()
    return encoded if _REPEATED * len(encoded.dictionary) <= len(column) else column


def encode(batch: pa.RecordBatch, features: Mapping[str, Feature]) -> pa.LargeBinaryArray:
    """The rows of a batch as serialized tf.train.Examples.

    Args:
      batch: Columns of int64, float64 or float32, string or binary, dictionaries of strings or integers, or lists of
        any of these but dictionaries. A missing value has no entry.
      features: The columns to take, and what they are.
    """
    return RowEncoder(batch, features).encode(slice(None))


@dataclass(frozen=True)
class _Column:
    """A column whose values are encoded one by one."""

    name: str
    kind: int
    values: pa.Array

    def encode(self, rows: slice | np.ndarray) -> pa.LargeBinaryArray:
        return _entries_of(self.name, self.kind, _select(self.values, rows))


@dataclass(frozen=True)
class _Repeated:
    """Columns that follow each other, by their distinct values, or combinations of values.

    Attributes:
      codes: int32 [rows], each row's position in `entries`.
      entries: What stands for each.
    """

    codes: np.ndarray
    entries: list[bytes]

    def encode(self, rows: slice | np.ndarray) -> pa.LargeBinaryArray:
        return self._array.take(pa.array(self.codes[rows]))

    @functools.cached_property
    def _array(self) -> pa.LargeBinaryArray:
        return pa.array(self.entries, pa.large_binary())

    def combine(self, other: "_Repeated") -> "_Repeated | None":
        """This and what follows as one; None where their combinations are many."""
        rows, count = len(self.codes), len(other.entries)
        most = len(self.entries) * count
        if most > 4 * rows:
            return None
        codes = self.codes * np.int32(count) + other.codes
        occur = np.flatnonzero(np.bincount(codes, minlength=most))
        if _COMBINED * len(occur) > rows:
            return None
        positions = np.zeros(most, np.int32)
        positions[occur] = np.arange(len(occur))
        ones, others = np.divmod(occur, count)
        pairs = zip(ones.tolist(), others.tolist(), strict=True)
        return _Repeated(positions[codes], [self.entries[one] + other.entries[at] for one, at in pairs])


class RowEncoder:
    """Writes rows of a batch as serialized tf.train.Examples, in any order.

    What depends on values that repeat is made once, when it begins: then a row's bytes are put together from a few
    parts, and nothing is copied to bring rows into an order.
    """

    def __init__(self, batch: pa.RecordBatch, features: Mapping[str, Feature]) -> None:
        """Takes columns; for the arguments see `encode`."""
        self._parts: list[_Column | _Repeated] = []
        for name in sorted(features, key=str.encode):
            part = _part(name, KINDS[features[name].dtype], batch.column(name))
            last = self._parts[-1] if self._parts else None
            both = last.combine(part) if isinstance(last, _Repeated) and isinstance(part, _Repeated) else None
            self._parts[-1 if both else len(self._parts) :] = [both or part]

    def encode(self, rows: slice | np.ndarray) -> pa.LargeBinaryArray:
        """Some rows, by their positions, in the order in which these are given."""
        entries = [part.encode(rows) for part in self._parts]
        lengths = np.sum([_lengths(each) for each in entries], axis=0)
        return _join(_by_length(lengths, lambda length: _head(FEATURES, length)), *entries)


def _part(name: str, kind: int, column: pa.Array) -> _Column | _Repeated:
    """A column, by its distinct values where they repeat."""
    if pa.types.is_integer(column.type) or is_string(column.type):
        column = _dictionary(column)
    if not pa.types.is_dictionary(column.type):
        return _Column(name, kind, column)
    distinct = column.dictionary
    if len(distinct) > _FEW:
        entries = _entries_of(name, kind, distinct).to_pylist()
    else:
        entries = [_entry(name, kind, value) for value in distinct.to_pylist()]
    codes = column.indices
    if codes.null_count:
        codes = codes.fill_null(len(entries))
        entries.append(b"")
    return _Repeated(np.asarray(codes), entries)


def _select(column: pa.Array, rows: slice | np.ndarray) -> pa.Array:
    return column[rows] if isinstance(rows, slice) else column.take(pa.array(rows))


def serialize(values: Mapping[str, Any], features: Mapping[str, Feature]) -> bytes:
    """One tf.train.Example with the given stored values; equal values give equal bytes.

    Args:
      values: Feature name to stored value, None where it is missing; pixels are encoded already.
      features: What each is.
    """
    parts: list[bytes] = []
    for name in sorted(features, key=str.encode):
        if values[name] is not None:
            parts += _entry_parts(name, features[name], values[name])
    return b"".join([_head(FEATURES, sum(map(len, parts))), *parts]) if parts else b""


def select(record: bytes | memoryview, names: Collection[str]) -> bytes:
    """A serialized tf.train.Example with some of its features alone: what `serialize` gives of these.

    Args:
      record: What `serialize` gave of all.
      names: The features.

    Raises:
      ValueError: it is no such message; or IndexError.
    """
    position, end = example_reader.enter(record, 0, FEATURES) if record else (0, 0)
    entries = []
    while position < end:
        begin = position
        name, _, position = example_reader.read_entry(record, begin)
        if name in names:
            entries.append(record[begin:position])
    content = b"".join(entries)
    return _head(FEATURES, len(content)) + content if entries else b""


def _entry_parts(name: str, feature: Feature, value: Any) -> list[bytes]:
    """A value, or a list or array of values, as an entry of the feature map, in parts: pixels are copied once."""
    if feature.dtype == "int64":
        items = np.asarray(value, np.int64).ravel().tolist()
        return _prefixed(name, INTEGERS, [b"".join(_varint(item % (1 << 64)) for item in items)])
    if feature.dtype == "float32":
        with np.errstate(over="ignore"):
            return _prefixed(name, FLOATS, [np.ravel(value).astype("<f4").tobytes()])
    payload: list[bytes] = []
    for item in value if None in feature.shape else [value]:
        string = item.encode() if isinstance(item, str) else item
        payload += (_head(ITEMS, len(string)), string)
    return _prefixed(name, BYTES, payload)


def _prefixed(name: str, kind: int, payload: list[bytes]) -> list[bytes]:
    return [_prefix(name.encode(), kind, sum(map(len, payload))), *payload]


def _entries_of(name: str, kind: int, column: pa.Array) -> pa.LargeBinaryArray:
    """A column as entries of the feature map; empty, or null, where the value is missing."""
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
    return b"".join(_prefixed(name, kind, [payload]))


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
    if int(lengths.max(initial=0)) > _TABLED:
        encoded = pa.array(lengths).dictionary_encode()
        return pa.array(map(make, encoded.dictionary.to_pylist()), pa.large_binary()).take(encoded.indices)
    counts = np.bincount(lengths)
    occur = np.flatnonzero(counts)
    positions = np.zeros(len(counts), np.int32)
    positions[occur] = np.arange(len(occur))
    return pa.array(map(make, occur.tolist()), pa.large_binary()).take(pa.array(positions[lengths]))


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
