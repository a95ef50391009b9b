"""A hash of all that is stored of each row, by columns: equal rows have equal ones, on every machine.

Each value becomes two words of 64 bits that depend on its column, and a row's are the sums of its values'. So each
distinct string is hashed once, and numbers are not hashed but mixed: a tenth of what SHA-256 of the rows takes. That
different rows have the same 128 bits is as unlikely as with any hash of this length, unless somebody looks for such
rows on purpose.
"""

import hashlib
from collections.abc import Iterable, Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..formats.example_writer import encode
from ..formats.features import Feature
from ..splitmix import mix64

RowHashes = tuple[np.ndarray, np.ndarray]  # of rows that are stored: their numbers, int64 [rows]; `hash_contents`

_WORDS = np.dtype(">u8")


def concat_hashes(parts: Iterable[RowHashes]) -> RowHashes:
    """The hashes of all parts of a range."""
    numbers, hashes = [np.zeros(0, np.int64)], [np.zeros((0, 2), np.uint64)]
    for part_numbers, part_hashes in parts:
        numbers.append(part_numbers)
        hashes.append(part_hashes)
    return np.concatenate(numbers), np.concatenate(hashes)


def hash_contents(batch: pa.RecordBatch, features: Mapping[str, Feature]) -> np.ndarray:
    """The hashes of rows: uint64 [rows, 2].

    Args:
      batch: As for `example_writer.encode`. A column may be a dictionary in one batch and none in another: equal rows
        are equal all the same.
      features: The columns that count, and what they are.
    """
    hashes = np.zeros((2, len(batch)), np.uint64)
    lists = {name: feature for name, feature in features.items() if feature.shape}
    for name, feature in features.items():
        if name not in lists:
            hashes += _hash_column(name, feature, batch.column(name))
    if lists:
        hashes += _digest(b"", encode(batch.select(list(lists)), lists).to_pylist()).T
    return np.ascontiguousarray(hashes.T)


def _hash_column(name: str, feature: Feature, column: pa.Array) -> np.ndarray:
    """What each value of a column adds: uint64 [2, rows]."""
    salt = hashlib.blake2b(name.encode(), digest_size=16).digest()
    if feature.dtype == "string" and not pa.types.is_dictionary(column.type):
        column = column.dictionary_encode()
    if not pa.types.is_dictionary(column.type):
        hashes = _hash_values(salt, feature, column)
        if column.null_count:
            hashes[:, np.asarray(column.is_null())] = _digest(salt, [None]).T
        return hashes
    distinct = np.concatenate([_hash_values(salt, feature, column.dictionary), _digest(salt, [None]).T], axis=1)
    codes = column.indices.fill_null(len(column.dictionary))
    return np.take(distinct, np.asarray(codes), axis=1)


def _hash_values(salt: bytes, feature: Feature, values: pa.Array) -> np.ndarray:
    """A hash of each value, whatever a missing one gets: uint64 [2, values]."""
    if feature.dtype == "string":
        return _digest(salt, values.cast(pa.large_binary()).to_pylist()).T
    if feature.dtype == "float32":
        with np.errstate(over="ignore"):
            bits = np.asarray(pc.fill_null(values, 0)).astype(np.float32).view(np.uint32).astype(np.uint64)
    else:
        bits = np.asarray(pc.fill_null(values, 0)).astype(np.int64).view(np.uint64)
    return mix64(bits + np.frombuffer(salt, _WORDS).astype(np.uint64)[:, None])


def _digest(salt: bytes, values: Iterable[bytes | None]) -> np.ndarray:
    """A hash of each value, and of a missing one: uint64 [values, 2]."""
    digests = [hashlib.sha256(salt + (b"-" if value is None else b"+" + value)).digest() for value in values]
    words: np.ndarray = np.frombuffer(b"".join(digests), _WORDS).reshape(-1, 4)[:, :2].astype(np.uint64)
    return words
