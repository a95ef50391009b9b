"""The stored records of a split: random access to the shards, wherever they are, with checksums."""

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate
from typing import Any, TypeAlias

import google_crc32c
import numpy as np

from ..errors import DamagedRecordError, DatasetError
from ..formats.tfrecord import FOOTER_SIZE, HEADER_SIZE, mask_crc
from ..storage import files
from .block_cache import BlockCache
from .open_files import OpenFiles
from .shard_files import MOST, Bytes, Integers, Item, OpenShards, Result, ShardFile, ShardSource, in_time, side_by_side

# The positions, among the numbers that were asked for, of the examples that cannot be given, and why.
Damage: TypeAlias = dict[int, Exception]
READ_ERRORS = (DatasetError, OSError)  # that concern some examples and not others


@dataclass(frozen=True)
class Places:
    """Where pieces of a split are.

    Attributes:
      shards: The shard of each.
      begins: Where it begins there.
      ends: Where it ends.
      errors: Why some shards cannot be read.
    """

    shards: Integers
    begins: Integers
    ends: Integers
    errors: Mapping[int, Exception] = field(default_factory=dict)


class ShardRecords:
    """The records of a split, by their number in the order of storage. Shards are opened when they are first read.

    It pickles: another process opens the files again.

    Args:
      shards: Their files.
      open_files: Keeps them open; None: for these records alone.
      cache: Where blocks of them are kept, if they are in a store; None: nowhere.
    """

    def __init__(
        self, shards: Sequence[ShardFile], open_files: OpenFiles | None = None, cache: BlockCache | None = None
    ) -> None:
        self.shards = tuple(shards)
        self.cache = cache
        self._starts = list(accumulate((shard.records for shard in shards), initial=0))
        self._open = OpenShards(self.shards, OpenFiles() if open_files is None else open_files, cache)

    def __reduce__(self) -> tuple[Any, ...]:
        return ShardRecords, (self.shards, None, self.cache)

    def __len__(self) -> int:
        return self._starts[-1]

    @property
    def sizes(self) -> tuple[int, ...]:
        """Records in each shard."""
        return tuple(shard.records for shard in self.shards)

    def locate(self, number: int) -> tuple[ShardFile, int]:
        """The shard that a record is in, and its number there."""
        shard = bisect_right(self._starts, number) - 1
        return self.shards[shard], number - self._starts[shard]

    def __getitem__(self, number: int) -> bytes:
        """A record's bytes, checked.

        Args:
          number: From 0 to len - 1.

        Raises:
          DamagedRecordError: the record is damaged.
          DatasetError: its shard cannot be read.
        """
        shard, start, stop = self._find(number)
        source = self._open.source(shard)
        record, footer = source.frame(start, stop)
        if _is_whole(google_crc32c.value(record), footer):
            return record
        if source.forget(start, stop):
            record, footer = source.frame(start, stop)
        self._check(number, google_crc32c.value(record), footer)
        return record

    def read(self, numbers: Sequence[int]) -> tuple[list[bytes], Damage]:
        """Many records' bytes, checked; those that are near each other are read together.

        Args:
          numbers: From 0 to len - 1, in any order.

        Returns:
          The records, b"" for those that cannot be given; and which those are.
        """
        records, damage = [b""] * len(numbers), Damage()
        indices = np.asarray(numbers, np.int64)
        order = np.argsort(indices, kind="stable")
        shards = self.shards_of(indices[order])
        jobs = [(shard, order[shards == shard]) for shard in np.unique(shards).tolist()]

        def read(job: tuple[int, Integers]) -> Damage:
            return self._read_shard(job[0], indices[job[1]], job[1].tolist(), records)

        for part in self._way(shard for shard, _ in jobs)(read, jobs):
            damage |= part
        return records, damage

    def each(self, numbers: Sequence[int]) -> Iterator[tuple[int, bytes | Exception]]:
        """Records' bytes, checked, in the order of storage, each read when it is asked for, if that is fast.

        So what takes it finds it in the processor's cache: 32 images of 20 kB that are read together are not.

        Args:
          numbers: From 0 to len - 1, in any order.

        Yields:
          A position in `numbers`, and the record, or why it cannot be given.
        """
        if not self._is_random_access:
            records, damage = self.read(numbers)
            yield from ((position, damage.get(position, record)) for position, record in enumerate(records))
            return
        order = sorted(range(len(numbers)), key=numbers.__getitem__)
        yield from zip(order, in_time(lambda position: self._try(numbers[position]), order), strict=True)

    @cached_property
    def _is_random_access(self) -> bool:
        """Whether all shards are on local disks, and not compressed."""
        return not any(shard.compressed or not files.is_local(shard.uri) for shard in self.shards)

    def _try(self, number: int) -> bytes | Exception:
        try:
            return self[number]
        except READ_ERRORS as error:
            return error

    def _way(self, shards: Iterable[int]) -> Callable[[Callable[[Item], Result], Sequence[Item]], Iterable[Result]]:
        """How some shards are read: where each takes much memory, one after the other."""
        there = [self.shards[shard] for shard in shards]
        if any(shard.compressed for shard in there):
            return map
        return in_time if all(files.is_local(shard.uri) for shard in there) else side_by_side

    def _read_shard(self, shard: int, numbers: Integers, positions: list[int], records: list[bytes]) -> Damage:
        """Reads records of one shard, in the order of storage, to some positions of `records`."""
        try:
            source = self._open.source(shard)
            starts, stops = self.bounds(shard, numbers)
            damaged = _read_sorted(source, starts, stops, positions, records)
            if damaged and all(source.forget(int(starts[place]), int(stops[place])) for place in damaged):
                again = _read_sorted(
                    source, starts[damaged], stops[damaged], [positions[place] for place in damaged], records
                )
                damaged = [damaged[place] for place in again]
            return {positions[place]: self._damaged(int(numbers[place])) for place in damaged}
        except READ_ERRORS as error:
            if files.is_local(self.shards[shard].uri):
                return dict.fromkeys(positions, error)
            return {
                position: self.unread(int(number), error) for position, number in zip(positions, numbers, strict=True)
            }

    def pieces(self, numbers: Integers, most: int) -> tuple[Integers, Integers]:
        """The records that some examples are, all of them, sorted, and where in `numbers` each comes first."""
        return np.unique(numbers, return_index=True)

    def places(self, pieces: Integers) -> Places:
        """Where records are; reads the indexes of their shards, side by side."""
        shards = self.shards_of(pieces)
        return Places(shards, *self._open.places(shards, pieces - np.asarray(self._starts)[shards]))

    def shards_of(self, numbers: Integers) -> Integers:
        """The numbers of the shards that records are in."""
        return np.searchsorted(self._starts, numbers, "right") - 1

    def bounds(self, shard: int, numbers: Integers) -> tuple[Integers, Integers]:
        """Where the frames of records in a shard begin and end, from its beginning. Errors as for `source`."""
        offsets = np.asarray(self._open.offsets(shard))
        inside = numbers - self._starts[shard]
        return offsets[inside], offsets[inside + 1]

    def source(self, shard: int) -> ShardSource:
        """A shard's content.

        Raises:
          DatasetError: the shard or its index is missing or damaged.
        """
        return self._open.source(shard)

    def size(self, number: int) -> int:
        """A record's bytes, without its frame."""
        _, start, stop = self._find(number)
        return stop - start - HEADER_SIZE - FOOTER_SIZE

    def read_into(self, jobs: Sequence[tuple[int, Sequence[Bytes]]]) -> Iterator[tuple[int, Exception | None]]:
        """Reads records and their footers, not checked, into uint8 arrays, those of a shard one after the other.

        Args:
          jobs: Numbers of records, from 0 to len - 1, and for each the arrays that it goes to, one after the other:
            contiguous, together of the record's size and FOOTER_SIZE.

        Yields:
          A position in `jobs`, as soon as its record is there, and why not, where it cannot be read.
        """
        by_shard: dict[int, list[tuple[int, int, Sequence[Bytes]]]] = {}
        for position, (number, parts) in enumerate(jobs):
            try:
                shard, start, _ = self._find(number)
            except READ_ERRORS as error:
                yield position, error
                continue
            by_shard.setdefault(shard, []).append((position, start + HEADER_SIZE, parts))
        for shard, in_shard in by_shard.items():
            done = 0
            try:
                for _ in self._open.source(shard).fill_each([(start, parts) for _, start, parts in in_shard]):
                    yield in_shard[done][0], None
                    done += 1
            except READ_ERRORS as error:
                yield from ((position, error) for position, _, _ in in_shard[done:])

    @contextmanager
    def named(self, number: int) -> Iterator[None]:
        """Turns the ValueError of decoding a record into a DamagedRecordError that says which record it is."""
        try:
            yield
        except ValueError as error:
            raise self.undecodable(number, error) from error

    def undecodable(self, number: int, error: ValueError) -> DamagedRecordError:
        """The error that says which record cannot be decoded."""
        shard, inside = self.locate(number)
        return DamagedRecordError(f"{shard.uri}: record {inside}: {error}; run `penstock verify`")

    def _find(self, number: int) -> tuple[int, int, int]:
        """The shard of a record, and where in it the record begins and ends."""
        shard = bisect_right(self._starts, number) - 1
        inside = number - self._starts[shard]
        offsets = self._open.offsets(shard)
        return shard, offsets[inside], offsets[inside + 1]

    def _check(self, number: int, crc: int, footer: bytes) -> None:
        # The length before the record is not read: a wrong offset shows in the checksum, too.
        if not _is_whole(crc, footer):
            raise self._damaged(number)

    def unread(self, number: int, error: Exception) -> DatasetError:
        """The error that says which record cannot be read."""
        if isinstance(error, DatasetError):
            return error
        shard, inside = self.locate(number)
        reason = str(error) or type(error).__name__  # a time-out may have no words
        return DatasetError(f"{shard.uri}: record {inside}, example {number} of its split, cannot be read: {reason}")

    def _damaged(self, number: int) -> DamagedRecordError:
        shard, inside = self.locate(number)
        return DamagedRecordError(f"{shard.uri}: record {inside} is damaged or truncated; run `penstock verify`")


def _is_whole(crc: int, footer: bytes) -> bool:
    return bool(mask_crc(crc) == int.from_bytes(footer, "little"))


def _read_sorted(
    source: ShardSource, starts: Integers, stops: Integers, positions: Sequence[int], records: list[bytes]
) -> list[int]:
    """Reads frames of one shard into `records`, at some positions; returns which of these hold damaged ones.

    The frames are sorted. Their checksums are compared all at once: the records of a table are short.
    """
    footers: list[bytes] = []
    taken: list[bytes] = []
    groups = merge_ranges(starts, stops, source.gap)
    bounds = [(int(starts[first]), int(stops[last - 1])) for first, last in groups]
    ends = (stops - FOOTER_SIZE).tolist()
    begins = (starts + HEADER_SIZE).tolist()
    for (first, last), (base, _), content in zip(groups, bounds, source.ranges(bounds), strict=True):
        for begin, end in zip(begins[first:last], ends[first:last], strict=True):
            taken.append(content[begin - base : end - base])
            footers.append(content[end - base : end - base + FOOTER_SIZE])
    for position, record in zip(positions, taken, strict=True):
        records[position] = record
    crcs = np.fromiter(map(google_crc32c.value, taken), np.uint64, len(taken))
    expected = mask_crc(crcs).astype("<u4").tobytes()
    if b"".join(footers) == expected:
        return []
    damaged = [at for at, footer in enumerate(footers) if footer != expected[FOOTER_SIZE * at :][:FOOTER_SIZE]]
    for place in damaged:
        records[positions[place]] = b""
    return damaged


def merge_ranges(starts: Integers, stops: Integers, gap: int, most: int = MOST) -> list[tuple[int, int]]:
    """Which sorted ranges of bytes are read together.

    Args:
      starts: Where each begins.
      stops: Where each ends.
      gap: The bytes between two that are read along with them, at most.
      most: The bytes of what is read together, unless one range has more.

    Returns:
      (first, last + 1) of each group.

    >>> merge_ranges(np.array([0, 10, 95]), np.array([10, 20, 99]), gap=50)
    [(0, 2), (2, 3)]
    """
    groups: list[tuple[int, int]] = []
    breaks = np.flatnonzero(starts[1:] - stops[:-1] > gap) + 1
    firsts, lasts = np.concatenate([[0], breaks]), np.concatenate([breaks, [len(starts)]])
    long = stops[lasts - 1] - starts[firsts] > most if len(starts) else np.zeros(1, bool)
    for first, last, is_long in zip(firsts.tolist(), lasts.tolist(), long.tolist(), strict=True):
        while is_long and first < last:
            end = max(first + 1, int(np.searchsorted(stops[:last], starts[first] + most, "right")))
            groups.append((first, end))
            first = end
        if first < last:
            groups.append((first, last))
    return groups
