"""Finds, in the pipeline and before any unit is made, where the rows of large text files begin; see `sources/row_scan`.

A plan then has nominal ranges. Each task scans some of them, and leaves a small file; one step puts these together to
a table: the rows that each range has, 48 bytes a range, from which units are read. What is there from an earlier
attempt is not made again.
"""

import itertools
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import astuple, dataclass, fields, replace
from typing import Any

import numpy as np
import pyarrow as pa

from ..cores import cores
from ..errors import PenstockError
from ..formats import paths
from ..planning import plan_file
from ..prepare.fetch import RangeFetcher
from ..prepare.shipping import Carrying
from ..prepare.threads import ordered_map
from ..sources import nominal
from ..sources.listing import RecordRange
from ..sources.record_source import RecordSource
from ..sources.row_scan import Outcome, RangeScan, fetch_window, resolve
from ..storage import files
from .tasks import StageDoFn

_RESOLVED = ("begin", "end", "first_row", "rows", "first_line")
_TABLE = pa.schema([(name, pa.int64()) for name in ("number", *_RESOLVED)])
_OUTCOMES = [each.name for each in fields(Outcome)]
_SCANS = pa.schema([(name, pa.int64()) for name in ("range", "range_lines", *_OUTCOMES)])
_READERS = 32  # of the tasks' files at a time


@dataclass(frozen=True)
class ScanOptions(Carrying):
    """What a worker must know to scan.

    Attributes:
      root: The generation's URI.
      source: Listed the ranges.
      tasks: How many there are.
      threads: Ranges scanned at a time by one worker; None: as many as it has cores.
    """

    root: str
    source: RecordSource
    tasks: int
    threads: int | None = 1

    @property
    def table(self) -> str:
        """The URI of the resolved ranges."""
        return files.join(self.root, paths.RESOLVED)


class ScanRanges(StageDoFn[ScanOptions]):
    """Scans the ranges of tasks."""

    def do(self, numbers: Sequence[int]) -> int:
        for task in numbers:
            scan_task(self._options, task)
        return len(numbers)


class ResolveRanges(StageDoFn[ScanOptions]):
    """Writes the table of resolved ranges, when all are scanned."""

    def do(self, numbers: Sequence[int]) -> int:
        if not files.exists(self._options.table):
            write_table(self._options)
        return len(numbers)


def scan_here(options: ScanOptions) -> None:
    """Scans and resolves all ranges in this process."""
    if files.exists(options.table):
        return
    for task in range(options.tasks):
        scan_task(options, task)
    write_table(options)


def scan_task(options: ScanOptions, task: int) -> None:
    """Scans the ranges of a task, unless that was done before.

    Raises:
      PenstockError: a file cannot be read, or became shorter.
    """
    uri = files.join(options.root, paths.scan(task))
    if files.exists(options.table) or files.exists(uri):
        return
    _, ranges = plan_file.read_unit(files.join(options.root, paths.NOMINAL), task)
    threads = options.threads or cores()
    with ThreadPoolExecutor(threads, "scan") as pool, closing(RangeFetcher(threads)) as fetcher:
        fetched = fetcher.ahead(fetch_window, ranges)
        scans = list(ordered_map(pool, lambda each: nominal.scan(options.source, each), fetched, 2 * threads))
    rows = [
        (position, scan.lines, *astuple(outcome)) for position, scan in enumerate(scans) for outcome in scan.outcomes
    ]
    columns = [pa.array(column, pa.int64()) for column in zip(*rows, strict=True)]
    _write(uri, pa.record_batch(columns, schema=_SCANS))


def read_scans(root: str, task: int) -> list[tuple[RecordRange, RangeScan]]:
    """The ranges of a task and what they hold."""
    _, ranges = plan_file.read_unit(files.join(root, paths.NOMINAL), task)
    rows = zip(*(column.to_pylist() for column in _read(files.join(root, paths.scan(task))).columns), strict=True)
    scans = []
    for _, group in itertools.groupby(rows, key=lambda row: row[0]):
        outcomes = list(group)
        scans.append(RangeScan(outcomes[0][1], tuple(Outcome(*row[2:]) for row in outcomes)))
    return list(zip(ranges, scans, strict=True))


def write_table(options: ScanOptions) -> None:
    """Puts the tasks' scans together, and writes the rows of each range.

    Raises:
      PenstockError: a file changed while it was scanned.
    """
    rows: list[tuple[int, ...]] = []
    for ranges, scans in _by_file(options):
        resolved = resolve(ranges, scans, nominal.row_dialect(options.source, ranges[0]))
        rows += [tuple(getattr(each, name) for name in _TABLE.names) for each in resolved]
    values = np.array(rows, np.int64).reshape(-1, len(_TABLE))
    columns = [pa.array(np.ascontiguousarray(column)) for column in values.T]
    _write(options.table, pa.record_batch(columns, schema=_TABLE))


def _by_file(options: ScanOptions) -> Iterator[tuple[list[RecordRange], list[RangeScan]]]:
    """All nominal ranges and what they hold, file by file."""
    with ThreadPoolExecutor(_READERS) as pool:
        parts = ordered_map(pool, lambda task: read_scans(options.root, task), range(options.tasks), 2 * _READERS)
        ranges: list[RecordRange] = []
        scans: list[RangeScan] = []
        for record_range, scan in itertools.chain.from_iterable(parts):
            if ranges and record_range.begin == record_range.file_begin:
                yield ranges, scans
                ranges, scans = [], []
            ranges.append(record_range)
            scans.append(scan)
    yield ranges, scans


class ResolvedRanges:
    """The table of resolved ranges, read when it is first needed."""

    def __init__(self, root: str) -> None:
        self._uri = files.join(root, paths.RESOLVED)
        self._columns: dict[str, np.ndarray] | None = None

    def resolve(self, pieces: Sequence[Any]) -> list[Any]:
        """What a unit is to read: nominal ranges with their rows, if they have any, and all else as it is."""
        resolved = (self._resolve(piece) if isinstance(piece, RecordRange) else piece for piece in pieces)
        return [piece for piece in resolved if piece is not None]

    def _resolve(self, record_range: RecordRange) -> RecordRange | None:
        if not record_range.is_nominal:
            return record_range
        if self._columns is None:
            batch = _read(self._uri)
            self._columns = {name: batch[name].to_numpy() for name in _TABLE.names}
        row = int(np.searchsorted(self._columns["number"], record_range.number))
        if row == len(self._columns["number"]) or self._columns["number"][row] != record_range.number:
            return None
        begin, end, first_row, rows, first_line = (int(self._columns[name][row]) for name in _RESOLVED)
        return replace(
            record_range,
            begin=begin,
            end=end,
            first_row=first_row,
            rows=rows,
            size=end - begin,
            first_line=first_line,
            file_begin=-1,
            file_end=-1,
        )


def _write(uri: str, batch: pa.RecordBatch) -> None:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, batch.schema) as writer:
        writer.write_batch(batch)
    files.write_bytes(uri, sink.getvalue().to_pybytes())


def _read(uri: str) -> pa.RecordBatch:
    try:
        return pa.ipc.open_file(files.read_bytes(uri)).get_batch(0)
    except (OSError, pa.ArrowException) as error:
        raise PenstockError(f"{uri}: expected what was found of the input's rows, found: {error}; run again") from error
