"""Batches' memory, used again once nobody refers to it: paging in fresh memory costs as much as filling it."""

import math
import sys
from typing import Any

import numpy as np

from ..formats.decode import Array
from .locks import ProcessLock

_ALIGNED = 64  # bytes: then TensorFlow and JAX take an array as it is, without a copy
_SPARE = 4  # buffers of a size that are kept while nobody needs them
_CALLS = 8  # after so many, one more that nobody needs is given up: who needed many at once may need them again
_SMALL = 1 << 17  # bytes: less comes from the allocator's own pools


def _references_of_unused() -> int:
    """The references of an array that only a list refers to; how calls count depends on the interpreter."""
    pool = [np.empty(0)]
    return sys.getrefcount(pool[0])


class Buffers:
    """Makes arrays, and hands the memory of earlier ones out again when they and all views of them are gone.

    A view, a tensor made by torch.from_numpy or a DLPack capsule refers to the buffer, so that it is not touched
    while they live. It pickles empty.
    """

    def __init__(self) -> None:
        self._lock = ProcessLock()
        self._unused = _references_of_unused()
        self._buffers: dict[int, list[Array]] = {}
        self._calls = 0

    def __reduce__(self) -> tuple[Any, ...]:
        return Buffers, ()

    def empty(self, shape: tuple[int, ...], dtype: Any) -> Array:
        """An array with arbitrary content.

        Args:
          shape: Its shape.
          dtype: Its dtype.
        """
        dtype = np.dtype(dtype)
        size = math.prod(shape) * dtype.itemsize
        if size < _SMALL or dtype.hasobject:
            small: Array = np.empty(shape, dtype)
            return small
        with self._lock:
            known = self._buffers.setdefault(size, [])
            free = [position for position in range(len(known)) if sys.getrefcount(known[position]) == self._unused]
            position = free[0] if free else len(known)
            self._calls += 1
            if self._calls % _CALLS == 0 and len(free) > _SPARE:
                del known[free[-1]]
            if position == len(known):
                known.append(np.empty(size + _ALIGNED, np.uint8))
            start = -known[position].ctypes.data % _ALIGNED
            array: Array = known[position][start : start + size].view(dtype).reshape(shape)
            return array
