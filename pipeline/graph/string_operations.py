"""TensorFlow's operations on strings, in NumPy: arrays of bytes objects in, and out. The host's part.

Each is a function (backend, attributes, *arguments) -> value, as those of `operations` are; the backend is NumPy's.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from itertools import pairwise
from typing import Any

import numpy as np

from ..errors import RequestError
from ..formats.decode import Array
from . import regular_expressions
from .backends import Backend
from .hashing import fingerprint64, siphash

Attributes = Mapping[str, Any]

_NUMBER = re.compile(rb"[+-]?(?:(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?|inf|infinity|nan)", re.IGNORECASE)
_HEXADECIMAL = re.compile(rb"[+-]?0[xX][0-9a-fA-F]+")
_INTEGER = re.compile(rb"[+-]?\d+")
# Letters that got their other case after Unicode 13, which TensorFlow has: first and last code points.
_CASELESS = [
    (0x019B, 0x019B), (0x0264, 0x0264), (0x2C2F, 0x2C2F), (0x2C5F, 0x2C5F), (0xA7C0, 0xA7C1), (0xA7CB, 0xA7DC),
    (0x10570, 0x105BF), (0x10D50, 0x10D85), (0x16EA0, 0x16ED3),
]  # fmt: skip
_CASELESS_CODES = frozenset(code for first, last in _CASELESS for code in range(first, last + 1)) - {0xA7D2, 0xA7D4}


def _of_each(function: Callable[[bytes], Any], strings: Any, dtype: Any = object) -> Array:
    """An array of what a function makes of each string."""
    strings = np.asarray(strings, object)
    values = np.empty(strings.size, dtype)
    values[:] = [function(string) for string in strings.ravel().tolist()]
    return values.reshape(strings.shape)


def _strings(values: Any) -> Array:
    return np.asarray(values, object)


def object_array(strings: Sequence[bytes]) -> Array:
    """[n] bytes objects."""
    values = np.empty(len(strings), object)
    values[:] = strings
    return values


def change_case(string: bytes, change: Callable[[str], str]) -> bytes:
    """UTF-8 in another case, as TensorFlow's ICU has it: up to the first NUL, and U+FFFD for what is no UTF-8."""
    text = string.partition(b"\0")[0].decode("utf-8", "replace")
    if _CASELESS_CODES.isdisjoint(map(ord, text)):
        return change(text).encode()
    pieces = [[text[0]]]
    for before, character in pairwise(text):
        if (ord(before) in _CASELESS_CODES) == (ord(character) in _CASELESS_CODES):
            pieces[-1].append(character)
        else:
            pieces.append([character])
    words = ("".join(piece) for piece in pieces)
    return "".join(word if ord(word[0]) in _CASELESS_CODES else change(word) for word in words).encode()


def _case(of_bytes: Callable[[bytes], bytes], of_text: Callable[[str], str]) -> Any:
    def convert(_: Backend, attributes: Attributes, strings: Any) -> Array:
        if not attributes["encoding"]:
            return _of_each(of_bytes, strings)
        return _of_each(
            lambda each: of_bytes(each) if each.isascii() and b"\0" not in each else change_case(each, of_text), strings
        )

    return convert


def _hash_fast(_: Backend, attributes: Attributes, strings: Any) -> Array:
    return _hashes(fingerprint64, strings, attributes["num_buckets"])


def _hash_strong(_: Backend, attributes: Attributes, strings: Any) -> Array:
    first, second = attributes["key"]
    return _hashes(lambda each: siphash(each, (first, second)), strings, attributes["num_buckets"])


def _hashes(function: Callable[[Sequence[bytes]], Array], strings: Any, buckets: int) -> Array:
    strings = np.asarray(strings, object)
    hashes: Array = function(strings.ravel().tolist()) % np.uint64(buckets)
    return hashes.astype(np.int64).reshape(strings.shape)


def _join(_: Backend, attributes: Attributes, *parts: Any) -> Array:
    separator = attributes["separator"].encode()
    broadcast: list[Array] = list(np.broadcast_arrays(*(np.asarray(part, object) for part in parts)))
    rows = zip(*(part.ravel().tolist() for part in broadcast), strict=True)
    shape: tuple[int, ...] = broadcast[0].shape
    return object_array([separator.join(row) for row in rows]).reshape(shape)


def _reduce_join(_: Backend, attributes: Attributes, strings: Any, axes: Any) -> Array:
    strings, separator = _strings(strings), attributes["separator"].encode()
    order = [int(axis) % strings.ndim for axis in np.ravel(axes)]
    if not order:
        return _strings(strings)
    kept = [axis for axis in range(strings.ndim) if axis not in order]
    shape = [strings.shape[axis] for axis in kept]
    rows = strings.transpose(kept + order).reshape(int(np.prod(shape)), -1).tolist()
    joined: Array = object_array([separator.join(row) for row in rows])
    if attributes["keep_dims"]:
        shape = [1 if axis in order else size for axis, size in enumerate(strings.shape)]
    return joined.reshape(shape)


def _is_start(byte: int) -> bool:
    """Whether a byte begins a character of UTF-8."""
    return byte & 0xC0 != 0x80


def _length(_: Backend, attributes: Attributes, strings: Any) -> Array:
    if attributes["unit"] == "BYTE":
        return _of_each(len, strings, np.int32)
    return _of_each(lambda string: sum(map(_is_start, string)), strings, np.int32)


def _substring(_: Backend, attributes: Attributes, strings: Any, positions: Any, lengths: Any) -> Array:
    """So many bytes or characters from a position on; one below 0 counts from the end."""
    strings, positions, lengths = np.broadcast_arrays(np.asarray(strings, object), positions, lengths)
    values = []
    rows = zip(strings.ravel().tolist(), positions.ravel().tolist(), lengths.ravel().tolist(), strict=True)
    for string, position, length in rows:
        units = string if attributes["unit"] == "BYTE" else _characters(string)
        if not -len(units) <= position <= len(units):
            raise RequestError(
                f"tf.strings.substr: expected a position within {string!r}, found {position}; check `features`"
            )
        start = position + len(units) if position < 0 else position
        part = units[start : start + max(length, 0)]
        values.append(part if isinstance(part, bytes) else b"".join(part))
    return object_array(values).reshape(strings.shape)


def _characters(string: bytes) -> list[bytes]:
    starts = [index for index, byte in enumerate(string) if _is_start(byte) or not index]
    return [string[start:end] for start, end in zip(starts, [*starts[1:], len(string)], strict=False)]


def _full_match(_: Backend, attributes: Attributes, strings: Any) -> Array:
    pattern = compile_expression(attributes, False)
    return _of_each(lambda string: pattern.fullmatch(_decode(string)) is not None, strings, bool)


def _replace(_: Backend, attributes: Attributes, strings: Any) -> Array:
    pattern = compile_expression(attributes, True)
    write = regular_expressions.replacement(attributes["rewrite"], pattern.groups)
    count = 0 if attributes["replace_global"] else 1
    return _of_each(lambda each: pattern.sub(write, _decode(each), count).encode("utf-8", "surrogateescape"), strings)


def compile_expression(attributes: Attributes, replaced: bool) -> re.Pattern[str]:
    """The regular expression of an operation; what is replaced by it is not empty.

    Raises:
      ValueError: it is none that both TensorFlow and Python understand alike, in a bounded time.
    """
    ranges = tuple(sorted(attributes.get("classes", {}).items()))
    return regular_expressions.compiled(attributes["pattern"], ranges, replaced)


def _decode(string: bytes) -> str:
    return string.decode("utf-8", "surrogateescape")


def _to_number(_: Backend, attributes: Attributes, strings: Any) -> Array:
    """Numbers as TensorFlow reads them: decimal with blanks around it, and hexadecimal for floats."""
    dtype = np.dtype(attributes["out_type"])
    parse = _parse_integer if dtype.kind == "i" else _parse_float
    values = np.empty(np.size(strings), dtype)
    for index, string in enumerate(np.asarray(strings, object).ravel().tolist()):
        try:
            values[index] = parse(string.strip(), dtype)
        except (ValueError, OverflowError) as error:
            raise RequestError(
                f"tf.strings.to_number: expected a number of {dtype.name}, found {string!r}; check `features`"
            ) from error
    return values.reshape(np.shape(strings))


def _parse_integer(string: bytes, dtype: np.dtype[Any]) -> int:
    if not _INTEGER.fullmatch(string):
        raise ValueError
    return int(string)


def _parse_float(string: bytes, dtype: np.dtype[Any]) -> Any:
    """The nearest float: not by way of float64, which may lie half-way between two of float32."""
    if _HEXADECIMAL.fullmatch(string):
        return float.fromhex(string.decode())
    if not _NUMBER.fullmatch(string):
        raise ValueError
    exact = float(string)
    with np.errstate(over="ignore"):
        rounded = dtype.type(exact)
    if dtype != np.float32 or not np.isfinite(rounded) or float(rounded) == exact:
        return rounded
    other = np.nextafter(rounded, np.float32(np.inf if exact > float(rounded) else -np.inf))
    if exact - float(rounded) != float(other) - exact:
        return rounded
    written, middle = Decimal(string.decode()), Decimal(exact)
    return rounded if written == middle else max(rounded, other) if written > middle else min(rounded, other)


def _as_string(_: Backend, attributes: Attributes, numbers: Any) -> Array:
    """Numbers as C's printf writes them; truth values as words."""
    numbers = np.asarray(numbers)
    fill, width, precision = attributes.get("fill", ""), attributes.get("width", -1), attributes.get("precision", -1)
    if numbers.dtype.kind == "b":
        strings = ["true" if value else "false" for value in numbers.ravel().tolist()]
    elif numbers.dtype.kind in "iu" and not fill and width < 0:
        decimal: Array = numbers.astype(np.bytes_).astype(object)
        return decimal
    else:
        kind = "e" if attributes.get("scientific") else "g" if attributes.get("shortest") else "f"
        kind = "d" if numbers.dtype.kind in "iu" else f".{precision}{kind}" if precision > -1 else kind
        form = f"%{fill}{width if width > -1 else ''}{kind}"
        strings = [
            form % value if np.isfinite(value) else _nonfinite(value, fill, width) for value in numbers.ravel().tolist()
        ]
    return object_array([string.encode() for string in strings]).reshape(numbers.shape)


def _nonfinite(value: float, fill: str, width: int) -> str:
    """As printf writes NaN and infinity, which are never filled up with zeros: Python does that."""
    sign = "-" if np.signbit(value) else fill if fill in ("+", " ") else ""
    word = sign + ("nan" if np.isnan(value) else "inf")
    return word.ljust(width) if fill == "-" else word.rjust(width)


def split_rows(strings: Sequence[bytes], cut: Callable[[bytes], Sequence[bytes]]) -> tuple[Array, Array, Array]:
    """The parts of strings as a sparse tensor: int64 [parts, 2] rows and places, the parts, int64 [2] shape."""
    rows = [cut(string) for string in strings]
    lengths = np.fromiter(map(len, rows), np.int64, len(rows))
    starts = np.cumsum(lengths) - lengths
    owners = np.repeat(np.arange(len(rows)), lengths)
    places = np.arange(int(lengths.sum())) - starts[owners]
    parts = object_array([part for row in rows for part in row])
    return np.stack([owners, places], axis=1), parts, np.array([len(rows), lengths.max(initial=0)], np.int64)


def _split(_: Backend, attributes: Attributes, strings: Any, separator: Any) -> tuple[Array, ...]:
    mark, most = bytes(np.asarray(separator, object).item()) or None, attributes["maxsplit"]
    return split_rows(np.asarray(strings, object).tolist(), lambda string: string.split(mark, most))


def _split_into_bytes(_: Backend, attributes: Attributes, strings: Any, delimiter: Any) -> tuple[Array, ...]:
    return split_rows(
        np.asarray(strings, object).tolist(), lambda string: [string[at : at + 1] for at in range(len(string))]
    )


def _ngrams(_: Backend, attributes: Attributes, tokens: Any, splits: Any) -> tuple[Array, Array]:
    """Runs of tokens of each row, without padding: of each width those of the row, one width after the other."""
    tokens, separator = np.asarray(tokens, object).tolist(), attributes["separator"].encode()
    runs: list[bytes] = []
    ends = [0]
    for start, end in zip(splits[:-1].tolist(), splits[1:].tolist(), strict=True):
        before = len(runs)
        for width in attributes["ngram_widths"]:
            runs += [separator.join(tokens[at : at + width]) for at in range(start, end - width + 1)]
        if len(runs) == before and end > start and attributes["preserve_short_sequences"]:
            runs.append(separator.join(tokens[start:end]))
        ends.append(len(runs))
    return object_array(runs), np.array(ends, splits.dtype)


OPERATIONS: dict[str, Callable[..., Any]] = {
    "AsString": _as_string,
    "ReduceJoin": _reduce_join,
    "StaticRegexFullMatch": _full_match,
    "StaticRegexReplace": _replace,
    "StringJoin": _join,
    "StringLength": _length,
    "StringLower": _case(bytes.lower, str.lower),
    "StringNGrams": _ngrams,
    "StringSplit": _split_into_bytes,
    "StringSplitV2": _split,
    "StringStrip": lambda _, attributes, strings: _of_each(bytes.strip, strings),
    "StringToHashBucketFast": _hash_fast,
    "StringToHashBucketStrong": _hash_strong,
    "StringToNumber": _to_number,
    "StringUpper": _case(bytes.upper, str.upper),
    "Substr": _substring,
}
