"""Fills rows of batches with examples by their number: the one interface between loading and how a split is stored."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..formats.decode import Arrays, Decoder, allocate
from ..formats.features import Feature
from .raw import RawRecords, is_direct
from .records import ShardRecords


class Reader(ABC):
    """Reads a split's examples, from any thread.

    Args:
      features: What is read of each example.
      sizes: Examples in each shard.
      batched: Whether it reads many examples faster than one after the other.
      cache: Whether to keep decoded examples in memory.
    """

    def __init__(self, features: Mapping[str, Feature], sizes: Sequence[int], batched: bool, cache: bool) -> None:
        self.features = dict(features)
        self.sizes = tuple(sizes)
        self.batched = batched
        self._cache = allocate(features, len(self)) if cache else None
        self._cached = np.zeros(len(self) if cache else 0, bool)

    def __len__(self) -> int:
        return sum(self.sizes)

    @property
    def caches(self) -> bool:
        """Whether it keeps decoded examples."""
        return self._cache is not None

    def fill(self, arrays: Arrays, numbers: Sequence[int], first: int) -> None:
        """Writes the examples with the given numbers into the rows from `first` on.

        Args:
          arrays: What `allocate` returned for these features.
          numbers: From 0 to len - 1.
          first: The row of the first of them.

        Raises:
          DatasetError: an example is damaged, or not what the manifest says.
        """
        if self._cache is None:
            self.read(arrays, numbers, first)
            return
        new = [number for number in numbers if not self._cached[number]]
        if new:
            decoded = allocate(self.features, len(new))
            self.read(decoded, new, 0)
            for name, values in decoded.items():
                self._cache[name][new] = values
            self._cached[new] = True
        for name, array in arrays.items():
            np.take(self._cache[name], numbers, axis=0, out=array[first : first + len(numbers)], mode="clip")

    @abstractmethod
    def read(self, arrays: Arrays, numbers: Sequence[int], first: int) -> None:
        """As `fill`, from storage."""


class RecordReader(Reader):
    """Reads records. It pickles, without what it has cached.

    Args:
      records: Where they are.
      decoder: What is read of them.
      cache: Whether to keep decoded examples.
    """

    def __init__(self, records: ShardRecords, decoder: Decoder, cache: bool = False) -> None:
        super().__init__(decoder.features, records.sizes, decoder.batched, cache)
        self.records = records
        self._decoder = decoder
        self._raw = RawRecords(records, decoder) if any(map(is_direct, self.features.values())) else None

    def __reduce__(self) -> tuple[Any, ...]:
        return RecordReader, (self.records, self._decoder, self.caches)

    def read(self, arrays: Arrays, numbers: Sequence[int], first: int) -> None:
        if self.batched:
            records = [self.records[number] for number in numbers]
            for position in self._decoder.write_all(records, arrays, first):
                self._write(records[position], numbers[position], arrays, first + position)
            return
        if self._raw:
            self._raw.read(numbers, arrays, first)
            return
        for row, number in enumerate(numbers, first):
            self._write(self.records[number], number, arrays, row)

    def _write(self, record: bytes, number: int, arrays: Arrays, row: int) -> None:
        with self.records.named(number):
            self._decoder.write(record, arrays, row)
