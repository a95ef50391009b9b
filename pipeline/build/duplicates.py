"""Finds, in the pipeline and before any unit is made, which rows of a large table equal an earlier one.

Each unit's rows are prepared, and their hashes written, sorted by their first bits into partitions. Then each partition
is looked at alone, with what all units have in it: of equal rows the first in the input stays, the others are written
by unit, for the units to leave out. What crosses the engine is numbers; what is there from an earlier attempt stays.

Both files are numbers of 64 bits: first where each partition's, or each unit's, rows begin, and where the last ones
end; then the rows.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace

import numpy as np

from ..cores import cores
from ..formats import paths
from ..planning.duplicates import equal_an_earlier
from ..planning.plan_file import PlanReader
from ..prepare.fetch import RangeFetcher
from ..prepare.isolated_ranges import IsolatedRanges
from ..prepare.row_hashes import RowHashes
from ..prepare.shipping import Carrying
from ..prepare.tables import TablePreparer
from ..prepare.threads import ordered_map
from ..sources.listing import RecordRange
from ..storage import files
from .attempts import Attempts
from .journal import FinishedUnits
from .scan import ResolvedRanges
from .tasks import StageDoFn

_UNITS_PER_PARTITION = 16
_MOST_PARTITIONS = 256
_WORD = np.dtype("<u8")
_HASHED, _FOUND = 4, 2  # words of a row: two of its hash, its range's number and its own; the latter


@dataclass(frozen=True)
class DuplicateOptions(Carrying):
    """What a worker must know to find duplicates.

    Attributes:
      root: The generation's URI.
      preparer: Prepares the rows.
      units: How many units there are.
      threads: Ranges prepared at a time by one worker; None: as many as it has cores.
    """

    root: str
    preparer: TablePreparer
    units: int
    threads: int | None = 1

    @property
    def partitions(self) -> int:
        """Into how many parts the hashes are cut."""
        return min(_MOST_PARTITIONS, -(-self.units // _UNITS_PER_PARTITION))


class HashUnits(StageDoFn[DuplicateOptions]):
    """Writes the hashes of units' rows."""

    def setup(self) -> None:
        self._hasher: UnitHasher | None = None

    def teardown(self) -> None:
        if self._hasher:
            self._hasher.close()

    def do(self, numbers: Sequence[int]) -> int:
        if self._hasher is None:
            self._hasher = UnitHasher(self._options, self._run)
        for unit in numbers:
            self._hasher.hash(unit)
        return len(numbers)


class FindDuplicates(StageDoFn[DuplicateOptions]):
    """Writes the duplicates of partitions, when all units are hashed."""

    def do(self, numbers: Sequence[int]) -> int:
        for partition in numbers:
            find_duplicates(self._options, partition)
        return len(numbers)


def find_here(options: DuplicateOptions, run: str) -> None:
    """Finds all duplicates in this process."""
    with closing(UnitHasher(options, run)) as hasher:
        for unit in range(options.units):
            hasher.hash(unit)
    for partition in range(options.partitions):
        find_duplicates(options, partition)


class UnitHasher:
    """Writes the hashes of units' rows, but of those units that had them when it began."""

    def __init__(self, options: DuplicateOptions, run: str) -> None:
        """Lists what is there.

        Raises:
          OSError: it cannot be listed.
        """
        self._options = options
        options.preparer.use_joined(options.root)
        self._ranges, self._before = ResolvedRanges(options.root), FinishedUnits(options.root)
        self._attempts = Attempts(options.root, run, self._before)
        self._plan = PlanReader(files.join(options.root, paths.PLAN))
        self._isolated: IsolatedRanges | None = None

    def close(self) -> None:
        """Ends its processes."""
        self._plan.close()
        if self._isolated:
            self._isolated.close()

    def hash(self, unit: int) -> None:
        """Writes the hashes of a unit's rows.

        Raises:
          PenstockError: a range cannot be read or prepared.
        """
        if self._before.has_file(paths.unit_contents(unit)):
            return
        threads = self._options.threads or cores()
        with self._attempts.begin(paths.hashing_attempt(unit)) as is_suspect:
            if is_suspect and self._isolated is None:
                self._isolated = IsolatedRanges(self._options.preparer, threads, self._options.root)
            hashes = self._isolated.hashes if is_suspect and self._isolated else self._options.preparer.hashes
            pieces = self._plan.read(unit).pieces
            self._write(unit, self._ranges.resolve(pieces), hashes, threads)

    def _write(
        self, unit: int, ranges: Sequence[RecordRange], hashes: Callable[[RecordRange], RowHashes], threads: int
    ) -> None:
        """Writes the hashes of some ranges' rows, sorted into partitions."""
        options = self._options
        with ThreadPoolExecutor(threads, "hash") as pool, closing(RangeFetcher(threads)) as fetcher:
            fetched = fetcher.ahead(options.preparer.steps.fetch, ranges)
            parts = list(ordered_map(pool, lambda each: _hash_range(hashes, each), fetched, 2 * threads))
        rows = np.concatenate([np.zeros((0, _HASHED), _WORD), *parts])
        partitions = (rows[:, 0] >> np.uint64(32)) * np.uint64(options.partitions) >> np.uint64(32)
        order = np.argsort(partitions, kind="stable")
        uri = files.join(options.root, paths.unit_contents(unit))
        _write(uri, rows[order], np.searchsorted(partitions[order], np.arange(options.partitions + 1)))


def _hash_range(hashes: Callable[[RecordRange], RowHashes], record_range: RecordRange) -> np.ndarray:
    """The rows that a range stores: uint64 [rows, 4], two words of the hash, the range's number, the row's number."""
    numbers, words = hashes(record_range)
    rows = np.zeros((len(numbers), _HASHED), _WORD)
    rows[:, :2] = words
    rows[:, 2], rows[:, 3] = record_range.number, numbers
    return rows


def find_duplicates(options: DuplicateOptions, partition: int) -> None:
    """Writes the rows of a partition that equal an earlier one, by unit, unless that was done before.

    Raises:
      OSError: what the units wrote cannot be read.
    """
    uri = files.join(options.root, paths.duplicates(partition))
    if files.exists(uri):
        return
    uris = [files.join(options.root, paths.unit_contents(unit)) for unit in range(options.units)]
    parts = list(files.map_files(lambda each: _read(each, partition, options.partitions, _HASHED), uris))
    units = np.repeat(np.arange(options.units), [len(part) for part in parts])
    rows = np.concatenate(parts)
    order = np.lexsort((rows[:, 3], rows[:, 2]))  # as in the input
    found = order[equal_an_earlier(rows[order, :2])]
    found = found[np.argsort(units[found], kind="stable")]
    _write(uri, rows[found, 2:], np.searchsorted(units[found], np.arange(options.units + 1)))


def mark(options: DuplicateOptions, unit: int, ranges: Sequence[RecordRange]) -> list[RecordRange]:
    """A unit's ranges, with the rows that are to be left out.

    Raises:
      OSError: what was found cannot be read.
    """
    uris = [files.join(options.root, paths.duplicates(partition)) for partition in range(options.partitions)]
    found = np.concatenate(list(files.map_files(lambda each: _read(each, unit, options.units, _FOUND), uris)))
    found = found[np.lexsort((found[:, 1], found[:, 0]))]
    numbers = [record_range.number for record_range in ranges]
    begins, ends = (np.searchsorted(found[:, 0], numbers, side) for side in ("left", "right"))
    return [
        replace(record_range, duplicates=found[begin:end, 1].astype(np.int64).tobytes())
        for record_range, begin, end in zip(ranges, begins, ends, strict=True)
    ]


def _write(uri: str, rows: np.ndarray, begins: np.ndarray) -> None:
    files.write_bytes(uri, begins.astype(_WORD).tobytes() + rows.astype(_WORD).tobytes())


def _read(uri: str, part: int, parts: int, width: int) -> np.ndarray:
    """The rows of one of a file's parts: uint64 [rows, width]."""
    size, first = _WORD.itemsize, _WORD.itemsize * (parts + 1)
    begin, end = np.frombuffer(files.read_range(uri, size * part, size * (part + 2)), _WORD).tolist()
    content = files.read_range(uri, first + size * width * begin, first + size * width * end)
    return np.frombuffer(content, _WORD).reshape(-1, width)
