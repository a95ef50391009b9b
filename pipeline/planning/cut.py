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
        return self.examples * _EXAMPLE_NS + self.input_bytes * _BYTE_NS

    @property
    def seconds(self) -> float:
        """About how long its examples take on one core."""
        return self.nanoseconds / 1e9


def count_units(
    splits: Mapping[str, SplitTotals], shards: int | Mapping[str, int] | None, example_bytes: float
) -> dict[str, int]:
    """How many units each split becomes.

    As many as are asked for; else about 64 MiB a shard, or less where there would be too few units for many workers.

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
            count = max(math.ceil(size / SHARD_BYTES), math.floor(finer))
        else:
            count = shards[split] if isinstance(shards, Mapping) else shards
        counts[split] = max(1, min(count, totals.examples))
    return counts


class SplitCut:
    """Where a split that is read in its order is cut into units: each of about the same estimated time.

    Where the whole takes a minute at most, units have the same number of examples instead.
    """

    def __init__(self, totals: SplitTotals, count: int) -> None:
        """Begins at the split's first example.

        Args:
          totals: What the split holds.
          count: How many units it becomes, of one example at least.
        """
        self._examples, self._count = totals.examples, count
        self._by_number = totals.seconds <= _COUNTED_SECONDS
        total = totals.examples if self._by_number else totals.nanoseconds
        self._begins = np.array([unit * total // count for unit in range(1, count)], np.int64)
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
) -> list[tuple[Unit, list[RecordRange]]]:
    """Groups ranges into units: every unit holds all splits, and becomes one shard of each.

    Args:
      ranges: All ranges of the source.
      splits: The splits' names.
      shards: How many units; None: about 64 MiB of prepared rows each, which a worker holds in memory.
      output_bytes: About how many bytes all rows have once they are prepared.
      seed: Ranges from all over the source come together in a unit, by this seed; None keeps their order.
      suffix: The shards' format, and whether they are compressed.
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
    count = shards if shards is not None else math.ceil(output_bytes / SHARD_BYTES)
    count = max(1, min(count, len(ordered)))
    groups: list[list[RecordRange]] = [[] for _ in range(count)]
    for number, record_range in enumerate(ordered):
        groups[number * count // len(ordered)].append(record_range)
    units = []
    for index, group in enumerate(groups):
        names = {split: ShardName(split, index, count, suffix[1], suffix[0]) for split in splits}
        known = all(record_range.rows >= 0 for record_range in group)
        examples = sum(record_range.rows for record_range in group) if known else -1
        units.append((Unit(index, names, examples, sum(record_range.size for record_range in group)), group))
    return units
