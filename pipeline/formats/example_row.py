"""Decodes one example: for images, and for random access, where NumPy on the bytes of many does not pay off.

Penstock writes a record's entries in the order of their names (`example_writer`), and most are short: then the bytes
before a value are one of a few, which a dictionary knows. All other entries are left to `example_reader`. For the
format see `example_format`.
Measured on the census, 15 columns: 7 us a row; `example_reader` takes 60. On photos with a key and a label, without
decoding: 4 us a record; `example_reader` takes 7.
"""

import math
import struct
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from . import example_reader
from .example_format import BYTES, ENTRY, FEATURES, FLOATS, INTEGERS, ITEMS, KINDS, LONGEST_VARINT, NAME, VALUE, tag
from .features import Feature

# Of a record, the value between two positions.
Convert: TypeAlias = Callable[[bytes, int, int], Any]
_LONGEST = 127  # bytes of an entry whose length takes one byte
_FLOAT = struct.Struct("<f")


class _Entry(NamedTuple):
    """How one feature is read.

    Attributes:
      name: The feature's.
      prefix: The bytes before its values, all of one length.
      lengths: Those that are known, each with the bytes of the value after it.
      convert: What becomes of the value; None: it is not asked for.
    """

    name: str
    prefix: int
    lengths: Mapping[bytes, int]
    convert: Convert | None


class RowDecoder:
    """Decodes records one at a time.

    Args:
      features: The features that it decodes, by name.
      stored: All features that the records hold.
      defaults: What stands for a missing value, of those that may be missing.
      general: Decodes a value as `example_reader` finds it, of a feature by its name; of pixels, or leaves it so.
    """

    def __init__(
        self,
        features: Mapping[str, Feature],
        stored: Mapping[str, Feature],
        defaults: Mapping[str, Any],
        general: Callable[[str, example_reader.Value], Any],
    ) -> None:
        self._defaults = defaults
        self._general = general
        self._names = list(features)
        self._entries = [_entry(name, stored[name], name in features) for name in sorted(stored, key=str.encode)]

    def decode(self, record: bytes) -> dict[str, Any] | None:
        """One example: feature name to value.

        Args:
          record: A serialized tf.train.Example.

        Returns:
          None: it has other features, or another order, or lacks a value: `example_reader` reads it, or says why not.

        Raises:
          ValueError: it is no such message; or IndexError.
        """
        position, end = example_reader.enter(record, 0, FEATURES)
        if end != len(record):
            return None
        values: dict[str, Any] = dict.fromkeys(self._names)
        for name, prefix, lengths, convert in self._entries:
            start = position + prefix
            length = lengths.get(record[position:start])
            if length is not None:
                position = start + length
                if position > end:
                    return None
                if convert:
                    values[name] = convert(record, start, position)
                continue
            span = None
            if position < end:
                here, found, after = example_reader.read_entry(record, position)
                if here == name:
                    span, position = found, after
            if name not in values:
                continue
            if span is not None:
                values[name] = self._general(name, (span.kind, memoryview(record)[span.start : span.stop]))
            elif name in self._defaults:
                default = self._defaults[name]
                values[name] = default.copy() if isinstance(default, np.ndarray) else default
            else:
                return None
        return values if position == end else None


def _entry(name: str, feature: Feature, is_read: bool) -> _Entry:
    if feature.is_pixels:  # no two are of one length
        return _Entry(name, 0, {}, None)
    kind = KINDS[feature.dtype]
    lengths: list[int] = []
    convert: Convert = _string
    if kind == BYTES and feature.shape == ():
        lengths = list(range(_LONGEST))
    elif kind == INTEGERS and feature.shape == ():
        lengths, convert = list(range(1, LONGEST_VARINT + 1)), _integer
    elif kind == FLOATS and None not in feature.shape:
        lengths = [4 * math.prod(size or 0 for size in feature.shape)]
        convert = _float if feature.shape == () else _floats(feature)
    prefixes = {}
    for length in lengths:
        items = bytes([tag(ITEMS), length])
        values = bytes([tag(kind), length + len(items)]) + items
        entry = bytes([tag(NAME), len(name.encode())]) + name.encode() + bytes([tag(VALUE), length + len(values)])
        if len(entry) + len(values) + length > _LONGEST:
            break
        prefixes[bytes([tag(ENTRY), len(entry) + len(values) + length]) + entry + values] = length
    return _Entry(name, len(next(iter(prefixes), b"")), prefixes, convert if is_read else None)


def _string(record: bytes, start: int, stop: int) -> bytes:
    return record[start:stop]


def _integer(record: bytes, start: int, stop: int) -> np.int64:
    if stop - start == 1 and record[start] < 128:
        return np.int64(record[start])
    numbers = example_reader.integers(memoryview(record)[start:stop])
    if len(numbers) != 1:
        raise ValueError(f"expected one integer, found {len(numbers)}")
    return np.int64(numbers[0])


def _float(record: bytes, start: int, stop: int) -> np.float32:
    return np.float32(_FLOAT.unpack_from(record, start)[0])


def _floats(feature: Feature) -> Convert:
    def convert(record: bytes, start: int, stop: int) -> np.ndarray:
        return np.frombuffer(record, "<f4", (stop - start) // 4, start).reshape(feature.pixel_shape).copy()

    return convert
