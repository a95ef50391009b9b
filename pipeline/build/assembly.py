"""Puts units of images together from what a base has stored, and from what is prepared."""

import itertools
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import TYPE_CHECKING, Any

from ..prepare.chunk import Chunk
from ..prepare.images import ImagePreparer, ImageWorker
from ..sources.listing import Reference
from .base import BaseGeneration
from .restatement import Restatement, images_notes, restate_images
from .stored_images import StoredImages

if TYPE_CHECKING:
    from ..analysis.phases import UnitReducer


class Assembler:
    """Gives units of images that are, in part, stored in a base."""

    def __init__(self, base: BaseGeneration, preparer: ImagePreparer, threads: int) -> None:
        """Reads nothing.

        Args:
          base: The base.
          preparer: How images are prepared, and those of the base were.
          threads: How many images are decoded at a time, where stored pixels must be counted.
        """
        self._base = base
        self._preparer = preparer
        self._pool = ThreadPoolExecutor(threads, "count")
        self._stored: dict[int, StoredImages] = {}  # of the last unit: those of the next one are many of them

    def close(self) -> None:
        """Ends the threads."""
        self._open((), "")
        self._pool.shutdown()

    def chunks(
        self,
        worker: ImageWorker,
        splits: Collection[str],
        references: Sequence[Reference],
        bases: Sequence[int | None],
    ) -> Iterator[Chunk]:
        """The chunks of a unit, in the order of its references: as `ImageWorker.chunks` gives them of all of them.

        Args:
          worker: Prepares those that are not stored.
          splits: The unit's split.
          references: What it holds.
          bases: The base's unit that has what became of each; None: nothing is stored of it.

        Raises:
          PenstockError: the base is not there any more, or is damaged.
        """
        (split,) = splits
        self._open({number for number in bases if number is not None}, split)
        sources = [self._source(number, reference.key) for reference, number in zip(references, bases, strict=True)]
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
        journal = self._base.journal(number)
        if split != self._preparer.statistics.split:
            return Restatement({}, None, images_notes(journal))
        with closing(StoredImages(self._base, number, split, self._preparer)) as stored:
            histograms = stored.histograms(stored.written(stored.keys), self._pool)
            return restate_images(stored, journal, reducer, histograms)

    def _open(self, numbers: Collection[int], split: str) -> None:
        """Opens units of the base, and closes all others."""
        for number in self._stored.keys() - set(numbers):
            self._stored.pop(number).close()
        for number in numbers:
            if number not in self._stored:
                self._stored[number] = StoredImages(self._base, number, split, self._preparer)

    def _source(self, number: int | None, key: str) -> StoredImages | None:
        """Where it is stored what became of a reference; None: it is to be prepared."""
        if number is None:
            return None
        stored = self._stored[number]
        return stored if stored.is_told_apart and stored.has(key) else None


def _take(
    parts: Iterator[tuple[Chunk, list[dict[str, Any]]]], count: int
) -> Iterator[tuple[Chunk, list[dict[str, Any]]]]:
    """The first parts, of so many references."""
    while count > 0:
        part = next(parts)
        count -= part[0].read
        yield part
