"""Blocks of neighbouring rows that are kept, for those who ask for one row of a table at a time."""

from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np

from ..formats.decode import Arrays
from .locks import ProcessLock
from .records import Damage

# The rows with some numbers, and the positions of those that cannot be given.
Compute: TypeAlias = Callable[[Sequence[int]], tuple[Arrays, Damage]]

_ROWS = 256  # of a block: they take about as long as _ALONE rows alone
_ALONE = 6
_KEPT_BYTES = 1 << 28


class RowBlocks:
    """Gives rows one at a time, of which many together take little longer than one.

    A block is computed as a whole when more than a few of its rows were asked for: then no order costs more than twice
    what the best choice would have.

    Args:
      count: Rows there are.
      compute: Computes some of them.
    """

    def __init__(self, count: int, compute: Compute) -> None:
        self._count = count
        self._compute = compute
        self._lock = ProcessLock()
        self._asked: Counter[int] = Counter()
        self._kept: OrderedDict[int, tuple[Arrays, Damage]] = OrderedDict()

    def row(self, number: int) -> dict[str, Any]:
        """A row, name to value.

        Args:
          number: From 0 to count - 1.

        Raises:
          DatasetError: it cannot be read.
        """
        block, position = divmod(number, _ROWS)
        with self._lock:
            kept = self._kept.get(block)
            if kept:
                self._kept.move_to_end(block)
            else:
                self._asked[block] += 1
                alone = self._asked[block] <= _ALONE
        if not kept and alone:
            kept, position = self._compute([number]), 0
        elif not kept:
            kept = self._compute(range(block * _ROWS, min((block + 1) * _ROWS, self._count)))
            self._keep(block, kept)
        arrays, damage = kept
        if position in damage:
            raise damage[position]
        return {name: _own(values[position]) for name, values in arrays.items()}

    def _keep(self, block: int, rows: tuple[Arrays, Damage]) -> None:
        with self._lock:
            self._kept[block] = rows
            size = sum(map(_size, rows[0].values()))  # blocks are about equal
            while len(self._kept) > 1 and len(self._kept) * size > _KEPT_BYTES:
                self._asked.pop(self._kept.popitem(last=False)[0], None)


def _own(value: Any) -> Any:
    """A value that nobody else has: what is kept must not change."""
    return value.copy() if isinstance(value, np.ndarray) else value


def _size(values: np.ndarray) -> int:
    return sum(map(len, values.ravel().tolist())) if values.dtype.hasobject else values.nbytes
