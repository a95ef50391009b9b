"""A sample of the input for a first try: `--limit N` takes N examples from all over it, by a hash and not by place."""

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import pyarrow as pa

from ..errors import PenstockError, RequestError
from ..sources import nominal
from ..sources.listing import RecordRange
from ..sources.record_source import RecordSource, first_rows, row_numbers, stream_rows
from ..sources.references import ReferenceTable
from ..sources.table_schema import TableSchema
from ..splits.hashing import hash64
from ..splits.rules import ByGlob, ByPath, Splits

_SPREAD = 32  # ranges from which the rows of a split are taken, where that many hold enough


def describe(limit: int, total: int = -1) -> str:
    """The warning that comes with a sample of so many examples, of a total (-1: nobody counted)."""
    of = f" of {total:,}" if total >= 0 else ""
    return (
        f"limited to {limit:,}{of} examples: this is a sample for a first try, and so are its statistics and "
        "vocabularies; run again without --limit to make the whole dataset"
    )


def share_out(limit: int, sizes: Mapping[str, int]) -> dict[str, int]:
    """How many examples of a sample each split gets: its share, but one at least where it has any.

    Args:
      limit: How many examples the sample has.
      sizes: Split name to its size, in examples or anything else.

    Raises:
      RequestError: the sample is smaller than the number of splits.
    """
    filled = {name: size for name, size in sizes.items() if size}
    if limit < len(filled):
        raise RequestError(f"--limit: expected an example for each of the {len(filled)} splits, found {limit}")
    total = sum(filled.values())
    exact = {name: limit * size / total for name, size in filled.items()}
    shares = {name: max(1, int(share)) for name, share in exact.items()}
    while (excess := sum(shares.values()) - limit) != 0:
        step = -1 if excess > 0 else 1
        movable = [name for name in shares if step > 0 or shares[name] > 1]
        shares[max(movable, key=lambda name: step * (exact[name] - shares[name]))] += step
    return {name: shares.get(name, 0) for name in sizes}


def limit_references(table: ReferenceTable, limit: int, examples: Mapping[str, int], by_key: bool) -> str:
    """Forgets all references but a sample: of each split its share, the first ones in the order of a hash.

    Of those that are left out, as many stay as belong to such a sample.

    Args:
      table: The references, with a table `placed`.
      limit: How many examples to take.
      examples: Split name to how many it has, in the order of their numbers.
      by_key: Whether places are missing, for splits are in the order of their keys.

    Returns:
      A warning.

    Raises:
      RequestError: the limit is smaller than the number of splits.
    """
    total = sum(examples.values())
    if not total:
        return describe(limit, total)  # whoever counts the splits says why there are none
    shares = share_out(min(limit, total), examples)
    placed, order = ("placed JOIN files USING (rid)", "md5(key), key") if by_key else ("placed", "place")
    parts = [
        f"(SELECT rid FROM {placed} ANTI JOIN left_out USING (rid) WHERE number = {number} ORDER BY {order} "
        f"LIMIT {min(shares[name], examples[name])})"
        for number, name in enumerate(examples)
    ]
    reasons = table.database.rows("SELECT stage, code, count(*) FROM left_out GROUP BY stage, code ORDER BY code")
    table.database.run(f"CREATE TABLE chosen AS {' UNION ALL '.join(parts)}")
    for stage, code, count in reasons:
        table.database.run(
            "INSERT INTO chosen SELECT rid FROM left_out JOIN files USING (rid) WHERE stage IS NOT DISTINCT FROM ? "
            "AND left_out.code = ? ORDER BY md5(files.key), files.key LIMIT ?",
            stage,
            code,
            count * min(limit, total) // total,
        )
    for name in ("placed", "left_out", "files"):
        table.database.run(f"CREATE OR REPLACE TABLE {name} AS SELECT * FROM {name} SEMI JOIN chosen USING (rid)")
    quarantined = {code: count for stage, code, count in reasons if stage is not None}
    unusable = ", ".join(f"{code} {count:,}" for code, count in quarantined.items())
    return describe(limit, total) + (f"; of all, the plan would quarantine {unusable}" if unusable else "")


def limit_ranges(
    source: RecordSource, schema: TableSchema, ranges: Sequence[RecordRange], rule: Splits, limit: int
) -> tuple[list[RecordRange], dict[int, int], list[str]]:
    """A sample of ranges, and how many of its first rows are taken of each.

    Where a file's name decides on the split of its rows, each split gets the share that its files have of the bytes.

    Args:
      source: Listed the ranges, and reads those whose rows nobody has counted.
      schema: The columns that it reads.
      ranges: All ranges.
      rule: The recipe's split rule.
      limit: How many rows to take.

    Returns:
      The ranges in their order, with numbers; these numbers to the rows that are taken; and warnings.

    Raises:
      RequestError: a range cannot be read, or the limit is smaller than the number of splits.
    """
    groups: dict[str, list[RecordRange]] = {}
    splits = [""] * len(ranges)
    if isinstance(rule, ByPath | ByGlob):
        splits = [name or "" for name in rule.assign(pa.array([each.key for each in ranges], pa.string())).to_pylist()]
    for name, record_range in zip(splits, ranges, strict=True):
        groups.setdefault(name, []).append(record_range)
    if len(groups) > 1:
        groups.pop("", None)  # files in no split
    shares = share_out(limit, {name: max(1, sum(each.size for each in group)) for name, group in groups.items()})
    chosen: list[tuple[RecordRange, int]] = []
    try:
        for name, group in groups.items():
            chosen += _take(source, schema, group, shares[name])
    except RequestError:
        raise
    except PenstockError as error:
        raise RequestError(str(error)) from error
    positions = {(each.uri, each.key, each.source): at for at, each in enumerate(ranges)}
    chosen.sort(key=lambda pair: (positions[pair[0].uri, pair[0].key, pair[0].source], pair[0].begin))
    warnings = [describe(limit)]
    if any(each.is_nominal for each in ranges):
        warnings.append(
            "rows of large text files are named by the bytes near which they stand, since nobody counted those before "
            "them: their keys, and their splits where a hash decides, are not those of a run without --limit"
        )
    numbered = [replace(each, number=number) for number, (each, _) in enumerate(chosen)]
    return numbered, {number: rows for number, (_, rows) in enumerate(chosen)}, warnings


def _take(
    source: RecordSource, schema: TableSchema, ranges: Iterable[RecordRange], limit: int
) -> list[tuple[RecordRange, int]]:
    """Ranges in the order of a hash, and equal numbers of rows of each as far as they have them: so many in all."""
    ordered = sorted(ranges, key=lambda each: (hash64(f"{each.key}:{each.begin}", "limit"), each.key, each.begin))
    taken: dict[int, tuple[RecordRange, int]] = {}  # by the place in this order
    opened, left = list(range(len(ordered))), limit
    while left and opened:
        share = -(-left // min(len(opened), _SPREAD))
        still_open = []
        for at in opened:
            if not left:
                break
            known = taken.get(at)
            record_range, before = known or (_whole_rows(source, ordered[at]), 0)
            if record_range is None:  # nothing in it is a row for certain
                continue
            asked = before + min(share, left)
            rows = _count(source, schema, record_range, asked)
            if rows:
                taken[at] = record_range, rows
            left -= rows - before
            if rows == asked:
                still_open.append(at)
        opened = still_open
    return list(taken.values())


def _whole_rows(source: RecordSource, record_range: RecordRange) -> RecordRange | None:
    """A range that can be read: of a nominal one the rows in its midst, numbered from where they begin."""
    rows = nominal.sample(source, record_range)
    return replace(rows, first_row=rows.begin, first_line=-1) if rows and record_range.is_nominal else rows


def _count(source: RecordSource, schema: TableSchema, record_range: RecordRange, limit: int) -> int:
    """How many rows a range has, those that do not fit included, up to a limit."""
    if record_range.rows >= 0:
        return min(record_range.rows, limit)
    parts = first_rows(stream_rows(source, record_range, schema), limit)
    with contextlib.closing(parts):
        return min(limit, sum(len(row_numbers(part)) for part in parts))
