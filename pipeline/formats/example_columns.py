"""Decodes many examples without pixels at once: NumPy works on the bytes of all records, an entry after the other.

Penstock writes a record's entries in the order of their names (`example_writer`), so that in all records the same
entry comes next, or is missing. A record in which it does not is left to `example_reader`, which reads any order. For
the format see `example_format`.
Measured on the census, 15 columns: 2 us a row; `example_reader` takes 60.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view

from .distinct import representatives
from .example_format import ENTRY, FEATURES, ITEMS, KINDS, LONGEST_VARINT, NAME, VALUE, tag
from .features import Feature

Bools: TypeAlias = npt.NDArray[np.bool_]
Bytes: TypeAlias = npt.NDArray[np.uint8]
Integers: TypeAlias = npt.NDArray[np.int64]

_WORDS = 6  # of eight bytes: of longer strings few are equal
_MASKS = np.array([(1 << 8 * size) - 1 for size in range(9)], np.uint64)  # the first so many bytes of a word
_PADDING = 16  # bytes after the last record, so that looking ahead needs no care


@dataclass(frozen=True)
class Spans:
    """Where the values of one feature are.

    Attributes:
      data: All records in a row.
      content: uint8, the same bytes.
      present: bool [rows], whether a record has a value.
      starts: int64 [rows], where it begins: the bytes of a string, the packed values of numbers.
      stops: int64 [rows], where it ends.
    """

    data: bytes
    content: Bytes
    present: Bools
    starts: Integers
    stops: Integers


def find(records: Sequence[bytes], stored: Mapping[str, Feature]) -> tuple[dict[str, Spans], Bools]:
    """Where the values of each stored feature are in each record.

    Args:
      records: Serialized tf.train.Examples.
      stored: All features that they hold.

    Returns:
      The spans, and for each record whether it holds these features, each of its dtype, and nothing else.
    """
    ends = np.cumsum(np.fromiter(map(len, records), np.int64, len(records)))
    starts = np.concatenate([[0], ends[:-1]])
    return find_in(b"".join(records), starts, ends, stored)


def find_in(
    records: bytes, starts: Integers, ends: Integers, stored: Mapping[str, Feature]
) -> tuple[dict[str, Spans], Bools]:
    """As `find`, of records that lie in some bytes, with others between them perhaps.

    Args:
      records: The bytes.
      starts: int64 [rows], where each record begins.
      ends: int64 [rows], where it ends.
      stored: All features that they hold.
    """
    data = records + bytes(_PADDING)
    content = np.frombuffer(data, np.uint8)
    position, inside, fits = _enter(content, starts, FEATURES)
    fits &= inside == ends
    spans: dict[str, Spans] = {}
    for name in sorted(stored, key=str.encode):
        span, position, right = _entry(content, position, ends, name.encode(), KINDS[stored[name].dtype])
        spans[name] = Spans(data, content, *span)
        fits &= right
    return spans, fits & (position == ends)


def _entry(
    content: Bytes, position: Integers, ends: Integers, name: bytes, kind: int
) -> tuple[tuple[Bools, Integers, Integers], Integers, Bools]:
    """Where the values of one feature are, the positions after its entries, and whether these are as expected.

    The first are `present`, `starts` and `stops` of its `Spans`.
    Where the name at a position is another one, the feature is missing, and the position stays.
    """
    entry, entry_end, is_entry = _enter(content, position, ENTRY)
    key, key_end, is_key = _enter(content, entry, NAME)
    here = is_entry & is_key & (key_end - key == len(name)) & (position < ends)
    letters = content.take(key[:, None] + np.arange(len(name)), mode="clip")
    here &= (letters == np.frombuffer(name, np.uint8)).all(axis=1)
    value, value_end, is_value = _enter(content, key_end, VALUE)
    items, items_end, is_kind = _enter(content, value, kind)
    item, item_end, is_item = _enter(content, items, ITEMS)
    filled = here & (value < value_end)
    present = filled & (items < items_end)
    right = is_value & (value_end == entry_end)
    right &= ~filled | (is_kind & (items_end == value_end))
    right &= ~present | (is_item & (item_end == items_end))
    return (present, item, item_end), np.where(here, entry_end, position), right | ~here


def _enter(content: Bytes, position: Integers, number: int) -> tuple[Integers, Integers, Bools]:
    """Where the content of the length-delimited fields at some positions begins and ends; whether it is this field."""
    right: Bools = content.take(position, mode="clip") == tag(number)
    length, start = _varints(content, position + 1)
    return start, start + length, right


def _varints(content: Bytes, position: Integers) -> tuple[Integers, Integers]:
    """The varints at some positions, in two's complement, and the positions after them."""
    byte = content.take(position, mode="clip")
    value = (byte & 127).astype(np.int64)
    position = position + 1
    unfinished = np.flatnonzero(byte > 127)
    for place in range(1, LONGEST_VARINT):
        if not len(unfinished):
            break
        byte = content.take(position[unfinished], mode="clip")
        value[unfinished] |= (byte & 127).astype(np.int64) << 7 * place
        position[unfinished] += 1
        unfinished = unfinished[byte > 127]
    return value, position


def values(spans: Spans, feature: Feature, missing: Any) -> tuple[npt.NDArray[Any], Bools]:
    """A feature's values.

    Args:
      spans: Where they are.
      feature: What they are: one value, as many in every row, or a list of any length.
      missing: What stands where a value is missing; a list is empty there.

    Returns:
      [rows, *shape], with an array as every element for lists; and for each row whether it holds as many as expected.
    """
    if None in feature.shape:
        return _lists(spans, feature)
    if feature.dtype == "string":
        return _strings(spans, missing), np.ones(len(spans.starts), bool)
    shape = tuple(size or 0 for size in feature.shape)
    count = math.prod(shape)
    if feature.dtype == "float32":
        numbers: npt.NDArray[Any] = _windows(spans.content, spans.starts, 4 * count).view("<f4")
        right = spans.stops - spans.starts == 4 * count
    else:
        numbers = np.empty((len(spans.starts), count), np.int64)
        position = spans.starts
        for column in range(count):
            numbers[:, column], position = _varints(spans.content, position)
        right = position == spans.stops
    if not spans.present.all():
        numbers[~spans.present] = missing
    return numbers.reshape(-1, *shape), right | ~spans.present


def _windows(content: Bytes, starts: Integers, size: int) -> Bytes:
    """uint8 [rows, size]: the bytes from some positions on; arbitrary where they would go beyond the end."""
    if size > len(content):
        return np.zeros((len(starts), size), np.uint8)
    windows: Bytes = sliding_window_view(content, size)[np.minimum(starts, len(content) - size)]
    return windows


def _strings(spans: Spans, missing: Any) -> npt.NDArray[Any]:
    """Strings as bytes objects, of which those that are equal are mostly one object."""
    starts, stops = spans.starts, np.where(spans.present, spans.stops, spans.starts)
    same = _equal_strings(spans.content, starts, stops - starts)
    chosen = slice(None) if same is None else np.flatnonzero(same == np.arange(len(same)))
    bounds = zip(starts[chosen].tolist(), stops[chosen].tolist(), strict=True)
    strings = np.empty(len(starts), object)
    strings[chosen] = [spans.data[start:stop] for start, stop in bounds]
    if same is not None:
        strings = strings[same]
    if not spans.present.all():
        strings[~spans.present] = missing
    return strings


def _equal_strings(content: Bytes, starts: Integers, lengths: Integers) -> npt.NDArray[np.intp] | None:
    """For each string the row of an equal one (see `distinct.representatives`); None where that takes longer.

    Of each string eight bytes at a time are looked at, with zeros beyond its end.
    """
    count = -(-int(lengths.max(initial=0)) // 8)
    if count > _WORDS or len(content) < 8:
        return None
    words = [lengths.astype(np.uint64)]
    for start in range(0, 8 * count, 8):
        word = _windows(content, starts + start, 8).view("<u8")[:, 0]
        words.append(word & _MASKS[np.clip(lengths - start, 0, 8)])
    return representatives(words)


def gather(spans: Spans) -> tuple[Bytes, Integers]:
    """The bytes of all values, one after the other, and where those of each row begin, and the last ones end."""
    lengths = np.where(spans.present, spans.stops - spans.starts, 0)
    bounds = np.concatenate([[0], np.cumsum(lengths)])
    return spans.content[np.arange(bounds[-1]) + np.repeat(spans.starts - bounds[:-1], lengths)], bounds


def list_items(spans: Spans, feature: Feature) -> tuple[npt.NDArray[Any], Integers, Bools]:
    """The items of lists of numbers, of all rows.

    Returns:
      float32 or int64 [items]; where those of each row begin, and the last ones end: int64 [rows + 1]; and for each
      row whether it holds whole numbers.
    """
    packed, before = gather(spans)
    lengths = np.diff(before)
    if feature.dtype == "float32":
        numbers: npt.NDArray[Any] = packed[: len(packed) // 4 * 4].view("<f4")
        return numbers, before // 4, lengths % 4 == 0
    last = np.flatnonzero(packed < 128)
    numbers, _ = _varints(packed, np.concatenate([[0], last[:-1] + 1]) if len(last) else last)
    return numbers, np.searchsorted(last, before), np.isin(before[1:] - 1, last) | (lengths == 0)


def _lists(spans: Spans, feature: Feature) -> tuple[npt.NDArray[Any], Bools]:
    """Lists of numbers, or of strings: those with more than one string are left to `example_reader`.

    Such a list does not end where its first string does: `find` has said that the record does not fit.
    """
    rows = len(spans.starts)
    lists = np.empty(rows, object)
    if feature.dtype == "string":
        for row, string in enumerate(_strings(spans, None).tolist()):
            lists[row] = np.array([] if string is None else [string], object)
        return lists, np.ones(rows, bool)
    numbers, bounds, right = list_items(spans, feature)
    for row, (start, stop) in enumerate(zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True)):
        lists[row] = numbers[start:stop]
    return lists, right
