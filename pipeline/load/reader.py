"""Fills rows of batches with examples by their number: the one interface between loading and how a split is stored."""

import math
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ..formats.decode import Arrays, Decoder, allocate
from ..formats.features import Feature
from ..storage import files
from .ahead import Block, Part, Storage, Use, look_ahead
from .raw import RawRecords, is_direct
from .records import READ_ERRORS, Damage, ShardRecords
from .shard_files import Integers
from .staged import StagedRecords

_FEW = 32  # rows that are decoded faster one by one
_TRIED = 100  # examples, one of which can surely be read
# What an example of pixels takes beside other threads, in microseconds a byte, and what with the interpreter's lock.
_DECODING, _COPYING, _LOCKED = 1.7e-3, 0.28e-3, 40.0


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

    def threads(self, cores: int) -> int:
        """How many threads read examples fastest.

        A part of an example's time is spent beside other threads, on reading and decoding, and a part with the
        interpreter's lock. More threads than keep the lock busy are slower than fewer: they wait for it, wake up late,
        and find nothing of what it guards in their core's cache. On 16 cores, 16 threads gave JPEGs of 224x224 at two
        thirds of the rate of 6, and raw pixels at a third of the rate of 2.

        Rows of a table, in whose arrays everything is small, came fastest from 2 of up to 16. Pixels of no fixed size
        are taken for large ones.

        Args:
          cores: For how many there is a core.
        """
        pixels = [feature for feature in self.features.values() if feature.is_pixels]
        if any(None in feature.shape for feature in pixels):
            return cores
        beside = sum(_pixel_bytes(each) * (_COPYING if is_direct(each) else _DECODING) for each in pixels)
        return min(cores, max(2, 1 + round(beside / _LOCKED)))

    def fill(self, arrays: Arrays, numbers: Sequence[int], first: int, part: Part | None = None) -> None:
        """Writes the examples with the given numbers into the rows from `first` on.

        Args:
          arrays: What `allocate` returned for these features.
          numbers: From 0 to len - 1.
          first: The row of the first of them.
          part: What was fetched ahead of them.

        Raises:
          DamagedRecordError: an example is damaged, or not what the manifest says.
          DatasetError: a shard cannot be read.
        """
        damage = self.fill_intact(arrays, numbers, first, part)
        if damage:
            raise damage[min(damage)]

    def fill_intact(self, arrays: Arrays, numbers: Sequence[int], first: int, part: Part | None = None) -> Damage:
        """As `fill`, of all examples that can be read; the others' rows are like another row, so that a graph runs.

        Args:
          arrays: As for `fill`.
          numbers: As for `fill`.
          first: As for `fill`.
          part: As for `fill`.

        Returns:
          The positions in `numbers` of the others, and why. Where no example can be read, all rows are arbitrary.
        """
        damage = self._fill(arrays, numbers, first, part)
        intact = next((position for position in range(len(numbers)) if position not in damage), None)
        if intact is not None:
            for array in arrays.values():
                for position in damage:
                    array[first + position] = array[first + intact]
        return damage

    def example(self, number: int) -> dict[str, Any]:
        """One example: feature name to value, without a batch. Arguments and errors as for `fill`."""
        arrays = allocate(self.features, 1)
        self.fill(arrays, [number], 0)
        return {name: array[0] for name, array in arrays.items()}

    def sample(self) -> Arrays:
        """A batch of one example, the first that can be read: tells the shapes of what comes of it.

        Raises:
          DatasetError: none of the first can.
        """
        arrays = allocate(self.features, 1)
        damage = Damage()
        for number in range(min(_TRIED, len(self))):
            damage = self.fill_intact(arrays, [number], 0)
            if not damage:
                break
        if damage:
            raise damage[0]
        return arrays

    def _fill(self, arrays: Arrays, numbers: Sequence[int], first: int, part: Part | None) -> Damage:
        """As `fill_intact`, through the cache; arbitrary in the rows of the others."""
        if self._cache is None:
            return self.read(arrays, numbers, first, part)
        damaged = Damage()
        new = [number for number in numbers if not self._cached[number]]
        if new:
            decoded = allocate(self.features, len(new))
            damage = self.read(decoded, new, 0, part)
            damaged = {new[position]: error for position, error in damage.items()}
            intact = [position for position in range(len(new)) if position not in damage]
            kept = [new[position] for position in intact]
            for name, values in decoded.items():
                self._cache[name][kept] = values[intact]
            self._cached[kept] = True
        for name, array in arrays.items():
            np.take(self._cache[name], numbers, axis=0, out=array[first : first + len(numbers)], mode="clip")
        return {position: damaged[number] for position, number in enumerate(numbers) if number in damaged}

    @abstractmethod
    def read(self, arrays: Arrays, numbers: Sequence[int], first: int, part: Part | None = None) -> Damage:
        """As `fill_intact`, from storage; arbitrary in the rows of examples that cannot be read."""

    @property
    @abstractmethod
    def remote(self) -> Storage | None:
        """The split's shards, where it pays to read them ahead of batches; None: on a local disk it does not."""

    def ahead(self, blocks: Iterable[Block], use: Use) -> Generator[tuple[Block, Part | None]]:
        """Blocks of batches in their order, each with what was fetched ahead of it.

        Args:
          blocks: The blocks.
          use: How they come.
        """
        storage = self.remote
        if storage is None:
            return ((block, None) for block in blocks)
        return look_ahead(storage if self._cache is None else _NotCached(storage, self._cached), blocks, use)


def _pixel_bytes(feature: Feature) -> int:
    return math.prod(feature.pixel_shape) * np.dtype(feature.dtype).itemsize


class _NotCached:
    """A split's shards, of which only those pieces are read whose examples are not kept.

    Args:
      storage: The shards.
      cached: bool [examples], whether each is kept by now.
    """

    def __init__(self, storage: Storage, cached: npt.NDArray[np.bool_]) -> None:
        self._storage = storage
        self._cached = cached
        self.shards, self.places, self.source = storage.shards, storage.places, storage.source

    def pieces(self, numbers: Integers, most: int) -> tuple[Integers, Integers]:
        """See `Storage.pieces`."""
        return self._storage.pieces(numbers[~self._cached[numbers]], most)


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

    @property
    def remote(self) -> Storage | None:
        return None if all(files.is_local(shard.uri) for shard in self.records.shards) else self.records

    def read(self, arrays: Arrays, numbers: Sequence[int], first: int, part: Part | None = None) -> Damage:
        staged = None if part is None else StagedRecords(self.records, part)
        if self._raw and not self.batched:
            return self._raw.read(numbers, arrays, first, staged)
        source = staged or self.records
        damage = Damage()
        rest: Iterable[tuple[int, bytes | Exception]]
        if self.batched:
            records, damage = source.read(numbers)
            left = self._decoder.write_all(records, arrays, first) if len(records) > _FEW else range(len(records))
            rest = ((position, damage.get(position, records[position])) for position in left)
        else:
            rest = source.each(numbers)
        for position, record in rest:
            if isinstance(record, Exception):
                damage[position] = record
                continue
            try:
                self._decoder.write(record, arrays, first + position)
            except ValueError as error:
                damage[position] = self.records.undecodable(numbers[position], error)
            except READ_ERRORS as error:
                damage[position] = error
        return damage

    def example(self, number: int) -> dict[str, Any]:
        if self.caches or not self.batched:
            return super().example(number)
        with self.records.named(number):
            return self._decoder.decode(self.records[number])
