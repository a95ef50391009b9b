"""Nominal ranges in one process: resolved here, or sampled. Where there are many, workers scan them (`build/scan`)."""

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from .listing import RecordRange
from .record_source import DelimitedSource, RecordSource
from .row_boundaries import Dialect
from .row_scan import RangeScan, resolve, sample_range, scan_range


def row_dialect(source: RecordSource, record_range: RecordRange) -> Dialect:
    """How a range's text is cut into fields."""
    assert isinstance(source, DelimitedSource), f"{source!r} listed nominal ranges"
    return source.row_dialect(record_range)


def scan(source: RecordSource, record_range: RecordRange) -> RangeScan:
    """Scans a nominal range.

    Raises:
      PenstockError: the file cannot be read, or became shorter.
    """
    return scan_range(record_range, row_dialect(source, record_range))


def sample(source: RecordSource, record_range: RecordRange) -> RecordRange | None:
    """The range itself; of a nominal one what surely are rows, whose numbers are not known, or None.

    Raises:
      PenstockError: the file cannot be read, or became shorter.
    """
    if not record_range.is_nominal:
        return record_range
    rows = sample_range(record_range, row_dialect(source, record_range))
    return None if rows is None else replace(rows, first_row=0, first_line=1)


def resolve_in_turn(source: RecordSource, ranges: Sequence[RecordRange]) -> Iterator[RecordRange]:
    """The ranges that hold rows, one after the other; no more is read than the next one takes.

    Raises:
      PenstockError: a file cannot be read, or became shorter.
    """
    for group in by_file(ranges):
        if not group[0].is_nominal:
            yield from group
            continue
        dialect, scans, given = row_dialect(source, group[0]), list[RangeScan](), 0
        while len(scans) < len(group):
            further = max(1, len(scans))
            scans += [scan(source, record_range) for record_range in group[len(scans) : len(scans) + further]]
            resolved = resolve(group[: len(scans)], scans, dialect, complete=len(scans) == len(group))
            yield from resolved[given:]
            given = len(resolved)


def resolve_all(source: RecordSource, ranges: Sequence[RecordRange], threads: int) -> list[RecordRange]:
    """All ranges that hold rows; reads all of the nominal ones' files.

    Args:
      source: Listed the ranges.
      ranges: All of them, by file and then by position.
      threads: How many to scan at a time.

    Raises:
      PenstockError: a file cannot be read, or became shorter.
    """
    resolved: list[RecordRange] = []
    with ThreadPoolExecutor(threads) as pool:
        for group in by_file(ranges):
            if group[0].is_nominal:
                scans = list(pool.map(lambda record_range: scan(source, record_range), group))
                group = resolve(group, scans, row_dialect(source, group[0]))
            resolved += group
    return resolved


def by_file(ranges: Iterable[RecordRange]) -> Iterator[list[RecordRange]]:
    """Nominal ranges file by file; others one by one."""
    group: list[RecordRange] = []
    for record_range in ranges:
        if group and (not record_range.is_nominal or record_range.begin == record_range.file_begin):
            yield group
            group = []
        group.append(record_range)
        if not record_range.is_nominal:
            yield group
            group = []
    if group:
        yield group
