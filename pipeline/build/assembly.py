"""Puts units together from what a base has stored, and from what is prepared."""

import itertools
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING, Any

from ..planning.plan_file import StoredPlace, UnitInputs
from ..prepare.chunk import Chunk
from ..prepare.images import ImagePreparer, ImageWorker
from ..prepare.preparer import Worker
from ..prepare.tables import TablePreparer
from ..sources.listing import Reference
from .base import BaseGeneration
from .restatement import Restatement, images_notes, restate_images, restate_rows
from .stored_images import StoredImages
from .stored_ranges import StoredRanges

if TYPE_CHECKING:
    from ..analysis.phases import UnitReducer


class ImageAssembler:
    """Gives units of images that are, in part, stored in a base.

    Attributes:
      base: The base.
    """

    def __init__(self, base: BaseGeneration, preparer: ImagePreparer, threads: int) -> None:
        """Reads nothing.

        Args:
          base: The base.
          preparer: How images are prepared, and those of the base were.
          threads: How many images are decoded at a time, where stored pixels must be counted.
        """
        self.base = base
        self._preparer = preparer
        self._pool = ThreadPoolExecutor(threads, "count")
        self._stored: dict[int, StoredImages] = {}  # of the last unit: those of the next one are many of them

    def close(self) -> None:
        """Ends the threads."""
        self._open((), "")
        self._pool.shutdown()

    def chunks(self, worker: ImageWorker, splits: Collection[str], inputs: UnitInputs) -> Iterator[Chunk]:
        """The chunks of a unit, in the order of its references: as `ImageWorker.chunks` gives them of all of them.

        Args:
          worker: Prepares those that are not stored.
          splits: The unit's split.
          inputs: What it reads, and what of it is stored.

        Raises:
          PenstockError: the base is not there any more, or is damaged.
        """
        (split,) = splits
        references: list[Reference] = inputs.pieces
        self._open({stored.unit for stored in inputs.stored if stored}, split)
        sources = [self._source(each, reference.key) for reference, each in zip(references, inputs.stored, strict=True)]
        runs = [
            (source, [reference for reference, _ in run])
            for source, run in itertools.groupby(zip(references, sources, strict=True), key=lambda pair: pair[1])
        ]
        fresh = [run for source, run in runs if source is None]
        ends = set(itertools.accumulate(map(len, fresh)))
        prepared = worker.parts(split, list(itertools.chain.from_iterable(fresh)), ends)
        rows: list[dict[str, Any]] = []
        for source, run in runs:
            keys = [reference.key for reference in run]
            for chunk, summarized in source.parts(keys) if source else _take(prepared, len(run)):
                rows += summarized
                yield chunk
        yield from self._preparer.summarize_rows(split, rows)
        if split == self._preparer.statistics.split:
            keys_of: dict[StoredImages, list[str]] = {}
            for reference, source in zip(references, sources, strict=True):
                if source:
                    keys_of.setdefault(source, []).append(reference.key)
            for source, keys in keys_of.items():
                yield Chunk(summaries=source.histograms(source.written(keys), self._pool))

    def restate(self, number: int, splits: Collection[str], reducer: "UnitReducer | None") -> Restatement:
        """What a unit of the base's keeps for other statistics.

        Args:
          number: The base's unit.
          splits: Its split.
          reducer: Reduces it for tft's analyzers; None: there are none, or nothing for them.

        Raises:
          PenstockError: the base is not there any more, or is damaged.
        """
        (split,) = splits
        journal = self.base.journal(number)
        if split != self._preparer.statistics.split:
            return Restatement({}, None, images_notes(journal))
        with closing(StoredImages(self.base, number, split, self._preparer)) as stored:
            histograms = stored.histograms(stored.written(stored.keys), self._pool)
            return restate_images(stored, journal, reducer, histograms)

    def _open(self, numbers: Collection[int], split: str) -> None:
        """Opens units of the base, and closes all others."""
        for number in self._stored.keys() - set(numbers):
            self._stored.pop(number).close()
        for number in numbers:
            if number not in self._stored:
                self._stored[number] = StoredImages(self.base, number, split, self._preparer)

    def _source(self, stored: StoredPlace | None, key: str) -> StoredImages | None:
        """Where it is stored what became of a reference; None: it is to be prepared."""
        if stored is None:
            return None
        images = self._stored[stored.unit]
        return images if images.is_told_apart and images.has(key) else None


class RangeAssembler:
    """Gives units of ranges of a table that are, in part, stored in a base.

    Attributes:
      base: The base.
    """

    def __init__(self, base: BaseGeneration, preparer: TablePreparer) -> None:
        """Reads nothing.

        Args:
          base: The base.
          preparer: How rows are prepared, and those of the base were.
        """
        self.base = base
        self._preparer = preparer

    def close(self) -> None:
        """Has nothing to give up: what a unit is put together from is read for it alone."""

    def chunks(
        self, worker: Worker, splits: Collection[str], inputs: UnitInputs, resolve: Callable[[list[Any]], list[Any]]
    ) -> Iterator[Chunk]:
        """The chunks of a unit, in the order of its ranges.

        Args:
          worker: Prepares those that are not stored.
          splits: The unit's splits.
          inputs: What it reads, and what of it is stored.
          resolve: Finds the rows of nominal ranges.

        Raises:
          PenstockError: the base is not there any more, or is damaged.
        """
        places: dict[int, list[int]] = {}
        for each in inputs.stored:
            if each:
                places.setdefault(each.unit, []).append(each.place)
        with ExitStack() as stack:
            stored = {
                unit: stack.enter_context(closing(StoredRanges(self.base, unit, self._preparer, of_unit)))
                for unit, of_unit in places.items()
            }
            pairs = zip(inputs.stored, inputs.pieces, strict=True)
            runs = [
                (unit, list(run)) for unit, run in itertools.groupby(pairs, key=lambda pair: pair[0] and pair[0].unit)
            ]
            keeps_order = self._preparer.seed is None  # then rows are stored in the order of their ranges
            for unit, run in runs:
                if unit is None:
                    yield from worker.chunks(splits, resolve([record_range for _, record_range in run]))
                    continue
                numbers = {each.place: record_range.number for each, record_range in run if each}
                yield stored[unit].outcomes(numbers)
                yield from stored[unit].analyzed(numbers)
                if keeps_order:
                    yield from stored[unit].rows(list(numbers), has_positions=False)
            for unit, ranges in stored.items():
                if not keeps_order:
                    yield from ranges.rows(places[unit], has_positions=len(runs) > 1)
                yield Chunk(summaries=ranges.summaries())

    def restate(self, number: int, splits: Collection[str], reducer: "UnitReducer | None") -> Restatement:
        """What a unit of the base's keeps for other statistics; see `ImageAssembler.restate`."""
        return restate_rows(self.base, self.base.journal(number), self._preparer, reducer)


def _take(
    parts: Iterator[tuple[Chunk, list[dict[str, Any]]]], count: int
) -> Iterator[tuple[Chunk, list[dict[str, Any]]]]:
    """The first parts, of so many references."""
    while count > 0:
        part = next(parts)
        count -= part[0].read
        yield part
