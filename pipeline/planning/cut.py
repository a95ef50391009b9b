"""Cuts what is to be read into units: references by split, ranges of a table with all splits in every unit."""

import math
from collections.abc import Iterable, Mapping, Sequence

from ..errors import RequestError
from ..formats.paths import ShardName
from ..sources.listing import RecordRange, Reference
from ..splits.hashing import hash64
from .plan_file import Unit

SHARD_BYTES = 64 << 20  # few enough files for millions of examples, small enough to redo
SCAN_BYTES = 64 << 20  # of text that one task scans for rows: less than a second of work


def cut_references(
    splits: Mapping[str, Sequence[Reference]],
    shards: int | Mapping[str, int] | None,
    example_bytes: float,
    gzip: bool,
) -> list[tuple[Unit, Sequence[Reference]]]:
    """Cuts each split into units of equal size, by the number of shards asked for or by about 64 MiB a shard.

    Args:
      splits: The examples by split.
      shards: How many shards a split gets: one number, or by split; None decides by size.
      example_bytes: The mean bytes of a prepared example, for deciding by size.
      gzip: Whether shards are compressed.

    Raises:
      RequestError: `shards` names a split that is not there, or leaves one out.
    """
    if isinstance(shards, Mapping) and shards.keys() != splits.keys():
        raise RequestError(
            f"Recipe(shards=...): expected a number for each split of {sorted(splits)}, found {sorted(shards)}"
        )
    units: list[tuple[Unit, Sequence[Reference]]] = []
    for split, references in splits.items():
        total = len(references)
        if shards is None:
            count = math.ceil(total * example_bytes / SHARD_BYTES)
        else:
            count = shards[split] if isinstance(shards, Mapping) else shards
        count = max(1, min(count, total))
        for shard in range(count):
            rows = references[shard * total // count : (shard + 1) * total // count]
            name = ShardName(split, shard, count, gzip)
            size = sum(reference.size for reference in rows)
            units.append((Unit(len(units), {split: name}, len(rows), size), rows))
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
