"""Which rows of a column are equal: what is computed for one of them holds for the others.

Strings of a table repeat: a category has a few values in thousands of rows.
"""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from ..splitmix import GOLDEN_GAMMA, mix64

Rows: TypeAlias = npt.NDArray[np.intp]
Words: TypeAlias = npt.NDArray[np.uint64]

_ROUNDS = 3  # in which equal rows are looked for; few are left, each of which stands for itself


def representatives(words: Sequence[Words]) -> Rows:
    """For each row an equal one, which stands for itself; not always the same one for all rows that are equal.

    Args:
      words: uint64 [rows] each: rows are equal where all of these are.

    Returns:
      intp [rows], numbers of rows.

    >>> representatives([np.array([7, 7, 7], np.uint64)])
    array([2, 2, 2])
    """
    hashes = words[0]
    for word in words[1:]:
        hashes = mix64(hashes) ^ word
    rows = np.arange(len(hashes))
    bits = max(8, len(hashes).bit_length() + 1)
    chosen, left = rows.copy(), rows
    for number in range(_ROUNDS):
        if not len(left):
            break
        # two that differ may meet in a slot of the table, but hardly in those of all rounds
        slots = hashes[left] * np.uint64((GOLDEN_GAMMA + 2 * number) % 2**64) >> np.uint64(64 - bits)
        table = np.empty(1 << bits, np.intp)
        table[slots] = left
        others = table[slots]
        equal = words[0][others] == words[0][left]
        for word in words[1:]:
            equal &= word[others] == word[left]
        chosen[left[equal]] = others[equal]
        left = left[~equal]
    return chosen


def addresses(objects: npt.NDArray[Any]) -> Words:
    """Where the objects of an array are in memory, uint64 [rows]: equal for those that are one; a view of the array."""
    interface = {**objects.__array_interface__, "typestr": np.dtype(np.uint64).str, "descr": [("", "<u8")]}
    return np.asarray(SimpleNamespace(__array_interface__=interface, owner=objects))
