"""Cuts what is to be read into units: references by split, ranges of a table with all splits in every unit.

Neither the number of workers nor how fast they are has a part in it, so that the same input gives the same shards
wherever it is prepared. How long an image takes is estimated from its bytes.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import RequestError
from ..formats.paths import ShardName
from ..sources.listing import RecordRange
from ..splits.hashing import hash64
from .plan_file import Unit

SHARD_BYTES = 64 << 20  # few enough files for millions of examples, small enough to redo
SCAN_BYTES = 64 << 20  # of text that one task scans for rows: less than a second of work
_LEAST_SHARD_BYTES = 4 << 20
_UNITS = 256  # enough for 32 workers to have 8 each; beyond it units are as large as shards should be
_UNIT_SECONDS = 10  # of one core, estimated; shorter units are not worth their beginning and end
_EXAMPLE_NS, _BYTE_NS = 200_000, 25  # of an image: decoding, resizing and encoding photos on one core
_COUNTED_SECONDS = 60  # where all takes no longer, units of equal numbers are as good as of equal times
_LARGEST, _MEAN = 9, 5  # of units that become smaller: the first takes 9/5 of the mean, the last 1/5
_TAPERED_RANGES = 32  # units of a table, from which on they become smaller


def reference_nanoseconds(examples: int, size: int) -> int:
    """About how long so many images of so many bytes in all take on one core."""
    return examples * _EXAMPLE_NS + size * _BYTE_NS


@dataclass(frozen=True)
class SplitTotals:
    """What a split holds.

    Attributes:
      examples: How many examples.
      input_bytes: The bytes of their payloads.
      labels: How many examples have each label.
    """

    examples: int
    input_bytes: int
    labels: Mapping[str, int]

    @property
    def nanoseconds(self) -> int:
        """About how long its examples take on one core."""
        return reference_nanoseconds(self.examples, self.input_bytes)

    @property
    def seconds(self) -> float:
        """About how long its examples take on one core."""
        return self.nanoseconds / 1e9

    @property
    def is_small(self) -> bool:
        """Whether it is done so soon that units of equal numbers are as good as any."""
        return self.seconds <= _COUNTED_SECONDS


def count_units(
    splits: Mapping[str, SplitTotals], shards: int | Mapping[str, int] | None, example_bytes: float
) -> dict[str, int]:
    """How many units each split becomes.

    As many as are asked for; else 64 MiB a shard at most, or less where there would be too few units for many workers.

    Args:
      splits: The splits.
      shards: How many shards a split gets: one number, or by split; None decides by size and time.
      example_bytes: The mean bytes of a prepared example.

    Raises:
      RequestError: `shards` names a split that is not there, or leaves one out.
    """
    if isinstance(shards, Mapping) and shards.keys() != splits.keys():
        raise RequestError(
            f"Recipe(shards=...): expected a number for each split of {sorted(splits)}, found {sorted(shards)}"
        )
    counts = {}
    for split, totals in splits.items():
        if shards is None:
            size = totals.examples * example_bytes
            finer = min(_UNITS, totals.seconds / _UNIT_SECONDS, size / _LEAST_SHARD_BYTES)
            largest = 1 if totals.is_small else _LARGEST / _MEAN
            count = max(math.ceil(size * largest / SHARD_BYTES), math.floor(finer))
        else:
            count = shards[split] if isinstance(shards, Mapping) else shards
        counts[split] = max(1, min(count, totals.examples))
    return counts


def taper(total: int, count: int) -> list[int]:
    """Where so many parts of a total begin, but for the first, if each is smaller than the one before.

    Their sizes fall evenly from 9/5 of the mean to 1/5. So there are large and small ones for any number of workers:
    what is left when some have nothing to do any more is small. Of equal parts, those that are left over when each
    worker has had as many as the others take as long again as a whole one.
    """
    rise, fall, scale = _LARGEST, _LARGEST - _MEAN, _MEAN
    return [total * (rise * part * count - fall * part * part) // (scale * count * count) for part in range(1, count)]


class SplitCut:
    """Where a split that is read in its order is cut into units: of estimated times that fall evenly (`taper`).

    Where their number was asked for, of equal times; where the whole takes a minute at most, of equal numbers.
    """

    def __init__(self, totals: SplitTotals, count: int, tapered: bool) -> None:
        """Begins at the split's first example.

        Args:
          totals: What the split holds.
          count: How many units it becomes, of one example at least.
          tapered: Whether units become smaller.
        """
        self._examples, self._count = totals.examples, count
        self._by_number = totals.is_small
        total = totals.examples if self._by_number else totals.nanoseconds
        equal = [unit * total // count for unit in range(1, count)]
        begins = taper(total, count) if tapered and not self._by_number else equal
        self._begins = np.array(begins, np.int64)
        self._row, self._cost, self._lead = 0, 0, 0

    def units(self, sizes: np.ndarray) -> np.ndarray:
        """The unit of each of the next examples, from 0.

        Args:
          sizes: int64 [examples], the bytes of their payloads.

        Returns:
          int64 [examples].
        """
        costs = np.ones(len(sizes), np.int64) if self._by_number else _EXAMPLE_NS + _BYTE_NS * sizes
        ends = self._cost + np.cumsum(costs)
        rows = self._row + np.arange(len(sizes))
        units = np.searchsorted(self._begins, ends - costs, "right")
        # No unit is empty: each example is in the last one's unit or the next, and enough remain for those to come.
        leads = np.minimum(np.minimum.accumulate(units - rows), self._lead)
        units = np.maximum(rows + leads, self._count - (self._examples - rows))
        self._row += len(sizes)
        self._cost, self._lead = int(ends[-1]), int(leads[-1])
        return units


def cut_scans(ranges: Iterable[RecordRange]) -> list[tuple[Unit, list[RecordRange]]]:
    """Groups nominal ranges, in their order, into the tasks that scan them."""
    groups: list[list[RecordRange]] = []
    size = SCAN_BYTES
    for record_range in ranges:
        if size >= SCAN_BYTES:
            groups.append([])
            size = 0
        groups[-1].append(record_range)
        size += record_range.size
    return [
        (Unit(number, {}, -1, sum(record_range.size for record_range in group)), group)
        for number, group in enumerate(groups)
    ]


def cut_ranges(
    ranges: Sequence[RecordRange],
    splits: Sequence[str],
    shards: int | None,
    output_bytes: float,
    seed: int | None,
    suffix: tuple[str, bool],
    tapered: bool,
) -> list[tuple[Unit, list[RecordRange]]]:
    """Groups ranges into units: every unit holds all splits, and becomes one shard of each.

    Args:
      ranges: All ranges of the source.
      splits: The splits' names.
      shards: How many units; None: 64 MiB of prepared rows each at most, which a worker holds in memory.
      output_bytes: About how many bytes all rows have once they are prepared.
      seed: Ranges from all over the source come together in a unit, by this seed; None keeps their order.
      suffix: The shards' format, and whether they are compressed.
      tapered: Whether units become smaller, where they are many and their number was not asked for.
    """
    ordered = list(ranges)
    if seed is not None:
        ordered.sort(
            key=lambda record_range: (
                hash64(f"{record_range.key}:{record_range.begin}", f"range{seed}"),
                record_range.key,
                record_range.begin,
            )
        )
    begins = range_begins(len(ordered), shards, output_bytes, tapered)
    count = len(begins)
    groups = [ordered[begin:end] for begin, end in zip(begins, [*begins[1:], len(ordered)], strict=True)]
    units = []
    for index, group in enumerate(groups):
        names = {split: ShardName(split, index, count, suffix[1], suffix[0]) for split in splits}
        known = all(record_range.rows >= 0 for record_range in group)
        examples = sum(record_range.rows for record_range in group) if known else -1
        units.append((Unit(index, names, examples, sum(record_range.size for record_range in group)), group))
    return units


def range_begins(ranges: int, shards: int | None, output_bytes: float, tapered: bool) -> list[int]:
    """Where each unit of ranges begins.

    Args:
      ranges: How many ranges there are.
      shards: As for `cut_ranges`.
      output_bytes: As for `cut_ranges`.
      tapered: As for `cut_ranges`.
    """
    count = shards if shards is not None else math.ceil(output_bytes / SHARD_BYTES)
    tapered = tapered and shards is None and count >= _TAPERED_RANGES
    if tapered:
        count = math.ceil(count * _LARGEST / _MEAN)
    count = max(1, min(count, ranges))
    equal = [-(-unit * ranges // count) for unit in range(1, count)]
    # No unit is empty: each begins behind the one before, and with enough ranges left for those to come.
    begins = [0]
    for unit, begin in enumerate(taper(ranges, count) if tapered else equal, 1):
        begins.append(min(max(begin, begins[-1] + 1), ranges - (count - unit)))
    return begins


def cut_new_references(sizes: np.ndarray, example_bytes: float) -> np.ndarray:
    """The unit of each of some references that come to a split: int64 [references], from 0.

    Args:
      sizes: int64 [references], the bytes of their payloads.
      example_bytes: The mean bytes of a prepared example.
    """
    totals = SplitTotals(len(sizes), int(sizes.sum()), {})
    (count,) = count_units({"": totals}, None, example_bytes).values()
    return SplitCut(totals, count, tapered=True).units(sizes)


def cut_new_ranges(sizes: np.ndarray, output_share: float, tapered: bool) -> np.ndarray:
    """The unit of each of some ranges that come to a table: int64 [ranges], from 0.

    Args:
      sizes: int64 [ranges], their bytes.
      output_share: The bytes of prepared rows, by those of ranges.
      tapered: As for `cut_ranges`.
    """
    begins = range_begins(len(sizes), None, output_share * float(sizes.sum()), tapered)
    return np.searchsorted(np.array(begins[1:], np.int64), np.arange(len(sizes)), "right")
