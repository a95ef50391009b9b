"""Stable 64-bit hashes of keys and rows, and the splits that follow from them.

A hash depends on the text and the salt alone: not on Python's hash seed, the machine, or what else is in the input.
"""

import hashlib
from collections.abc import Mapping

import numpy as np
import pyarrow as pa

from ..splitmix import GOLDEN_GAMMA, mix64

_RANGE = 1 << 64


def hash64(text: str, salt: str) -> int:
    """A uniform 64-bit integer for `text`: BLAKE2b (RFC 7693), 8 bytes, big-endian, personalised by `salt`.

    Different salts (16 bytes of UTF-8 at most) give independent hashes of the same text.
    """
    digest = hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=8, person=salt.encode())
    return int.from_bytes(digest.digest(), "big")


def hash_keys(keys: pa.Array, salt: str) -> np.ndarray:
    """`hash64` of each of many strings: uint64 [keys]."""
    begun = hashlib.blake2b(digest_size=8, person=salt.encode())
    digests = []
    for key in keys.cast(pa.binary()).to_pylist():
        each = begun.copy()  # a third faster than to begin each
        each.update(key)
        digests.append(each.digest())
    return np.frombuffer(b"".join(digests), ">u8").astype(np.uint64)


def hash_rows(key: str, numbers: np.ndarray, salt: str) -> np.ndarray:
    """A uniform 64-bit integer for each row of a file: SplitMix64, seeded with the file's hash.

    Args:
      key: The file's key.
      numbers: int64 [rows], the rows' numbers in the file.
      salt: As for `hash64`.

    Returns:
      uint64 [rows].
    """
    steps = (numbers.astype(np.uint64) + np.uint64(1)) * np.uint64(GOLDEN_GAMMA)
    return mix64(np.uint64(hash64(key, salt)) + steps)


def split_bounds(fractions: Mapping[str, float]) -> list[tuple[str, int]]:
    """Upper bounds of each split's interval of the 64-bit hash range, in the order given; the last one is 2**64.

    A key keeps its split as long as the fractions stay: whatever is added to the input moves nothing.

    Raises:
      ValueError: a fraction is not positive, or they do not sum to 1.
    """
    total = sum(fractions.values())
    if not fractions or any(not fraction > 0 for fraction in fractions.values()) or abs(total - 1) > 1e-9:
        raise ValueError(f"expected positive fractions that sum to 1, found {dict(fractions)} (sum {total:g})")
    bounds, cumulative = [], 0.0
    for name, fraction in fractions.items():
        cumulative += fraction
        bounds.append((name, round(cumulative * _RANGE)))
    bounds[-1] = (bounds[-1][0], _RANGE)
    return bounds


def pick_splits(hashes: np.ndarray, fractions: Mapping[str, float]) -> np.ndarray:
    """The split in whose interval each hash is.

    Args:
      hashes: uint64 [examples].
      fractions: As for `split_bounds`.

    Returns:
      int64 [examples], positions in the order of `fractions`.
    """
    bounds = np.array([upper for _, upper in split_bounds(fractions)[:-1]], np.uint64)  # the last one is no uint64
    return np.searchsorted(bounds, hashes, "right").astype(np.int64)
