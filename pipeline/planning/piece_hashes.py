"""A hash of all that is known of each piece of a plan, by which it is told whether a base has stored what became of it.

A piece is a reference or a range, as `PlannedUnits.kept` gives it. Its hash is the sum of its columns', each of which
depends on the column's name; strings are hashed once for each that differs, numbers are mixed.
"""

import hashlib
from collections.abc import Iterable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..splitmix import GOLDEN_GAMMA, mix64

_LEFT_OUT = "number"  # of a range: it depends on what else is in the input
_WORDS = np.dtype(">u8")
_FLOATS = (pa.float16(), pa.float32(), pa.float64())


def hash_pieces(pieces: pa.RecordBatch, splits: Iterable[str]) -> np.ndarray:
    """A hash of each piece: uint64 [pieces, 2]. Equal pieces in a unit of the same splits have equal ones.

    Args:
      pieces: The pieces.
      splits: The splits of their unit.
    """
    hashes = np.zeros((2, len(pieces)), np.uint64)
    hashes += _salt("\0".join(["splits", *splits]))[:, None]
    for name in pieces.schema.names:
        if name != _LEFT_OUT:
            hashes += _hash(pieces.column(name), name)
    return np.ascontiguousarray(mix64(hashes).T)


def are_versioned(pieces: pa.RecordBatch) -> np.ndarray:
    """Whether something beside its size tells if a piece's content is what it was: bool [pieces]."""
    if "version" in pieces.schema.names:  # ranges
        return _is_told(pieces["version"])
    versioned = _has_version(pieces, "etag", "modified")
    if "mask_key" in pieces.schema.names:
        versioned &= _has_version(pieces, "mask_etag", "mask_modified") | np.asarray(pieces["mask_key"].is_null())
    return versioned


def _has_version(pieces: pa.RecordBatch, etag: str, modified: str) -> np.ndarray:
    """Whether references have an ETag or a time of change."""
    told = _is_told(pieces[etag])
    if modified in pieces.schema.names:
        told |= np.asarray(pc.fill_null(pc.not_equal(pieces[modified], 0.0), False))
    return told


def _is_told(strings: pa.Array) -> np.ndarray:
    told: np.ndarray = np.array(pc.fill_null(pc.not_equal(strings, ""), False))
    return told


def _hash(values: pa.Array, name: str) -> np.ndarray:
    """What each value of a column adds: uint64 [2, values]."""
    kind, salt = values.type, _salt(name)
    if pa.types.is_null(kind):
        return np.broadcast_to(_salt(f"{name}?")[:, None], (2, len(values)))
    if pa.types.is_struct(kind):
        parts = zip(kind, values.flatten(), strict=True)
        hashes = sum((_hash(part, f"{name}/{field.name}") for field, part in parts), start=_zeros(len(values)))
    elif pa.types.is_list(kind) or pa.types.is_large_list(kind):
        hashes = _hash_lists(values, name)
    elif pa.types.is_integer(kind) or pa.types.is_boolean(kind):
        bits = np.asarray(pc.fill_null(values.cast(pa.int64()), 0)).view(np.uint64)
        hashes = mix64(bits + salt[:, None])
    elif kind in _FLOATS:
        bits = np.asarray(pc.fill_null(values.cast(pa.float64()), 0.0)).view(np.uint64)
        hashes = mix64(bits + salt[:, None])
    else:
        hashes = _hash_strings(values, name)
    if values.null_count:
        hashes[:, np.asarray(values.is_null())] = _salt(f"{name}?")[:, None]
    return hashes


def _hash_strings(values: pa.Array, name: str) -> np.ndarray:
    """The hashes of strings and bytes, and of all else by its text; each that differs is hashed once."""
    is_bytes = pa.types.is_binary(values.type) or pa.types.is_large_binary(values.type)
    encoded = (values if is_bytes else values.cast(pa.large_string())).dictionary_encode()
    begun = hashlib.blake2b(_salt(name).tobytes(), digest_size=16)
    digests = []
    for value in encoded.dictionary.cast(pa.large_binary()).to_pylist():
        each = begun.copy()
        each.update(value)
        digests.append(each.digest())
    digests.append(bytes(16))  # for what is missing
    words = np.frombuffer(b"".join(digests), _WORDS).reshape(-1, 2).T.astype(np.uint64)
    return words[:, np.asarray(encoded.indices.fill_null(len(digests) - 1))]


def _hash_lists(values: pa.Array, name: str) -> np.ndarray:
    """The hashes of lists: sums over their values, each mixed with its place."""
    lengths = np.asarray(pc.fill_null(pc.list_value_length(values), 0)).astype(np.int64)
    items = values.flatten()  # without those of missing lists
    begins = np.concatenate([[0], np.cumsum(lengths)])
    places = np.arange(len(items), dtype=np.uint64) - np.repeat(begins[:-1], lengths).astype(np.uint64)
    hashes = mix64(_hash(items, f"{name}[]") + (places + np.uint64(1)) * np.uint64(GOLDEN_GAMMA))
    sums = np.concatenate([np.zeros((2, 1), np.uint64), np.cumsum(hashes, axis=1, dtype=np.uint64)], axis=1)
    return mix64(sums[:, begins[1:]] - sums[:, begins[:-1]] + mix64(lengths.astype(np.uint64) + _salt(name)[:, None]))


def _zeros(count: int) -> np.ndarray:
    return np.zeros((2, count), np.uint64)


def _salt(name: str) -> np.ndarray:
    """Two words that follow from a name: uint64 [2]."""
    digest = hashlib.blake2b(name.encode(), digest_size=16).digest()
    return np.frombuffer(digest, _WORDS).astype(np.uint64)
