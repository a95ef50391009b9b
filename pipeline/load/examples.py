"""A split as a sequence: for PyTorch's map-style datasets, for Grain, and for looking at examples."""

import operator
from collections.abc import Sequence
from typing import Any, SupportsIndex, overload

import numpy as np

from ..errors import RequestError
from ..formats.decode import allocate
from ..graph.transform import Transform
from .reader import Reader, RecordReader
from .records import ShardRecords


class Examples:
    """Random access to a split's examples, decoded; it pickles."""

    def __init__(self, reader: Reader, transform: Transform, features: bool | str = False) -> None:
        self._reader = reader
        self._transform = transform
        self._features = features

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
        return self.__getitems__([operator.index(number)])[0]

    def __getitems__(self, numbers: list[int]) -> list[dict[str, Any]]:
        """Several examples; what PyTorch's DataLoader calls."""
        if not numbers:
            return []
        count = len(self)
        for number in numbers:
            if not -count <= number < count:
                raise IndexError(f"expected a number from {-count} to {count - 1}, found {number}")
        batch: dict[str, Any] = dict(allocate(self._reader.features, len(numbers)))
        self._reader.fill(batch, [number % count for number in numbers], 0)
        if self._features:
            batch = self._transform.host(batch)
        if self._features is True:
            batch = self._transform.device(batch)
        return [{name: values[row] for name, values in batch.items()} for row in range(len(numbers))]
