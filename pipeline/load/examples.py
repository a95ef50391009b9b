"""A split as a sequence: for PyTorch's map-style datasets, for Grain, and for looking at examples."""

import operator
from collections.abc import Sequence
from functools import cached_property
from typing import Any, Literal, SupportsIndex, overload

import numpy as np

from ..errors import RequestError
from ..formats.decode import Arrays, allocate
from ..graph.executor import CompiledGraph
from ..graph.transform import Transform
from .blocks import RowBlocks
from .buffers import Buffers
from .reader import Reader, RecordReader
from .records import Damage, ShardRecords


class Examples:
    """Random access to a split's examples, decoded; it pickles."""

    def __init__(self, reader: Reader, transform: Transform, features: bool | Literal["host"] = False) -> None:
        self._reader = reader
        self._transform = transform
        self._features = features
        self._buffers = Buffers()
        self._blocks = RowBlocks(len(reader), self._batch)

    def __reduce__(self) -> tuple[Any, ...]:
        return Examples, (self._reader, self._transform, self._features)

    @property
    def has_records(self) -> bool:
        """Whether the split is stored as records, and not as columns."""
        return isinstance(self._reader, RecordReader)

    @property
    def records(self) -> ShardRecords:
        """The stored records: a serialized tf.train.Example each.

        Raises:
          RequestError: the split is stored as columns.
        """
        if not isinstance(self._reader, RecordReader):
            raise RequestError("records: expected a split stored as TFRecord, found one stored as Parquet")
        return self._reader.records

    def __len__(self) -> int:
        return len(self._reader)

    def __repr__(self) -> str:
        return f"Examples({len(self)}, {list(self._reader.features)})"

    @overload
    def __getitem__(self, number: SupportsIndex) -> dict[str, Any]: ...
    @overload
    def __getitem__(self, number: Sequence[int] | slice) -> list[dict[str, Any]]: ...

    def __getitem__(self, number: SupportsIndex | Sequence[int] | slice) -> Any:
        """One example, feature name to array without a batch; or a list of examples, for several numbers or a slice.

        Raises:
          IndexError: there is no such example.
        """
        if isinstance(number, slice):
            return self.__getitems__(list(range(len(self))[number]))
        if isinstance(number, Sequence | np.ndarray):  # an array, too, has `__index__`
            return self.__getitems__([operator.index(item) for item in number])
        return self._one(operator.index(number))

    def _one(self, number: int) -> dict[str, Any]:
        self._check(number)
        if not self._features:
            return self._reader.example(number % len(self))
        return self._blocks.row(number % len(self)) if self._reader.batched else self.__getitems__([number])[0]

    def __getitems__(self, numbers: list[int]) -> list[dict[str, Any]]:
        """Several examples; what PyTorch's DataLoader calls."""
        if not numbers:
            return []
        for number in numbers:
            self._check(number)
        batch, damage = self._batch([number % len(self) for number in numbers])
        if damage:
            raise damage[min(damage)]
        return [{name: values[row] for name, values in batch.items()} for row in range(len(numbers))]

    def _batch(self, numbers: Sequence[int]) -> tuple[Arrays, Damage]:
        """Examples as a batch, and the positions of those that cannot be given."""
        stored = allocate(self._reader.features, len(numbers), self._buffers.empty)
        damage = self._reader.fill_intact(stored, numbers, 0)
        if not self._compiled or len(damage) == len(numbers):
            return stored, damage
        outputs = self._compiled.allocate(len(numbers), stored, self._buffers.empty)
        self._compiled.into(stored, outputs)
        return outputs, damage

    def _check(self, number: int) -> None:
        count = len(self)
        if not -count <= number < count:
            raise IndexError(f"expected a number from {-count} to {count - 1}, found {number}")

    @cached_property
    def _compiled(self) -> CompiledGraph | None:
        """The graph with its operations fused, as batches have it."""
        return self._transform.compiled(self._features, self._reader.sample()) if self._features else None
