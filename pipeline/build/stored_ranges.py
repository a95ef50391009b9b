"""Reads what a base has stored of some ranges of a unit of a table, as if they were prepared again.

Rows are copied as they are stored. Columns are decoded where statistics need them that are not kept by range: of the
rows of other ranges, where what is known of all can do without these, and else of those that are asked for.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ..formats.example_writer import with_dictionaries
from ..prepare import range_totals, summaries
from ..prepare.chunk import Chunk, SplitExamples
from ..prepare.summaries import Summaries, SummarySpec, summarize
from ..prepare.tables import TablePreparer
from ..sources.quarantine import FilteredExample, QuarantinedExample
from .base import BaseGeneration
from .record_buffer import BatchBuffer, take_parts
from .stored_rows import StoredRows

_ROWS = 1 << 15  # that are taken at a time

Integers = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


class StoredRanges:
    """What became of some ranges of a base's unit."""

    def __init__(self, base: BaseGeneration, number: int, preparer: TablePreparer, places: Sequence[int]) -> None:
        """Reads what is known of the ranges beside their rows.

        Args:
          base: The base.
          number: The unit.
          preparer: How its rows were prepared.
          places: The places of the ranges that are asked for, among those of the unit.

        Raises:
          PenstockError: the base is not there any more, or is damaged.
        """
        self._base = base
        self._journal = journal = base.journal(number)
        self._preparer = preparer
        self._places = places
        self._totals = range_totals.decode(base.read(journal.range_totals)) if journal.range_totals else []
        lines = base.read(journal.quarantine).splitlines() if journal.quarantine else []
        self._quarantined = [QuarantinedExample(**json.loads(line)) for line in lines]
        lines = base.read(journal.filtered_list).splitlines() if journal.filtered_list else []
        self._filtered = [FilteredExample(**json.loads(line)) for line in lines]
        self._quarantined_begins = _begins(totals.quarantined for totals in self._totals)
        self._filtered_begins = _begins(totals.listed for totals in self._totals)
        hashes = base.hashes(journal)
        self._splits = {
            split: _SplitRows(
                StoredRows(base, journal, split, preparer),
                preparer,
                hashes.filter(pc.equal(hashes["split"], split)).drop_columns("split"),
                _begins(totals.written[split] for totals in self._totals),
            )
            for split in journal.shards
        }

    def outcomes(self, numbers: Mapping[int, int]) -> Chunk:
        """What became of some ranges, without their rows: these have their hashes alone.

        Args:
          numbers: The ranges' places in the unit, in their order, to their numbers in the plan.
        """
        chunk = Chunk()
        for place, number in numbers.items():
            totals = replace(self._totals[place], number=number)
            chunk.ranges.append(totals)
            chunk.filtered += totals.filtered
            chunk.quarantined += self._quarantined[_between(self._quarantined_begins, place)]
            chunk.filtered_examples += self._filtered[_between(self._filtered_begins, place)]
        for split, rows in self._splits.items():
            for hashes in rows.hashes(numbers):
                chunk.splits[split] = SplitExamples((), hashes=hashes)
        return chunk

    def analyzed(self, places: Iterable[int]) -> Iterator[Chunk]:
        """What tft's analyzers read of some ranges, in the order in which they were prepared.

        Raises:
          PenstockError: what is stored is damaged.
        """
        statistics = self._preparer.statistics
        if statistics.columns and statistics.split in self._splits:
            for batch in self._splits[statistics.split].in_order(statistics.columns, places):
                yield Chunk(analyzed=batch)

    def rows(self, places: Sequence[int], has_positions: bool) -> Iterator[Chunk]:
        """The rows of some ranges, in the order in which they are stored.

        Args:
          places: The ranges.
          has_positions: Whether other rows come between them.

        Raises:
          PenstockError: what is stored is damaged.
        """
        for split, rows in self._splits.items():
            for examples in rows.of(places, has_positions):
                yield Chunk({split: examples})

    def summaries(self) -> Summaries:
        """What is known of the columns of all ranges that are asked for, but for what is kept by range.

        Raises:
          PenstockError: what is stored is damaged.
        """
        specs, split = self._preparer.unit_specs, self._preparer.statistics.split
        if not specs or split not in self._splits:
            return {}
        rows = self._splits[split]
        asked = rows.chosen(self._places)
        known: Summaries = {}
        if self._journal.summaries and 2 * np.count_nonzero(asked) > len(asked):
            of_all = summaries.decode(self._base.read(self._journal.summaries))
            whole = [spec for spec in specs if spec in of_all]
            others = rows.summarize(~asked, whole)
            rests = {spec: summaries.without(of_all[spec], others.get(spec)) for spec in whole}
            known = {spec: rest for spec, rest in rests.items() if rest is not None}
        return summaries.merge(known, rows.summarize(asked, [spec for spec in specs if spec not in known]))

    def close(self) -> None:
        """Gives up what waits."""
        for rows in self._splits.values():
            rows.close()


class _SplitRows:
    """The rows that the ranges of a unit have in the shard of a split."""

    def __init__(self, stored: StoredRows, preparer: TablePreparer, hashes: pa.Table, begins: Integers) -> None:
        """Reads nothing.

        Args:
          stored: Reads the shard.
          preparer: How the rows were prepared.
          hashes: Their hashes, in the order in which they were prepared.
          begins: int64 [ranges + 1], where the rows of each range begin in that order, and where the last ones end.
        """
        self._stored = stored
        self._preparer = preparer
        self._hashes = hashes.combine_chunks()
        self._places = np.repeat(np.arange(len(begins) - 1), np.diff(begins))
        self._waiting: BatchBuffer | None = None

    def close(self) -> None:
        """Gives up the columns that wait."""
        if self._waiting:
            self._waiting.close()

    def hashes(self, places: Iterable[int]) -> list[pa.RecordBatch]:
        """The hashes of the rows of some ranges, in the order in which they were prepared: one batch, or none."""
        chosen = pa.array(np.isin(self._places, list(places)))
        batches: list[pa.RecordBatch] = self._hashes.filter(chosen).combine_chunks().to_batches()
        return batches

    def chosen(self, places: Iterable[int]) -> Bools:
        """Which rows are those of some ranges: bool [rows], as they are stored."""
        return np.isin(self._places, list(places))[self._order]

    def of(self, places: Sequence[int], has_positions: bool) -> Iterator[SplitExamples]:
        """The rows of some ranges, in the order in which they are stored; see `StoredRanges.rows`."""
        chosen, begin = self.chosen(places), 0
        positions = self._positions[self._order] if has_positions and self._positions is not None else None
        for batch in self._stored.as_stored():
            part = slice(begin, begin + len(batch))
            begin = part.stop
            kept = batch.filter(pa.array(chosen[part]))
            if len(kept):
                yield SplitExamples(
                    self._stored.examples_of(kept), None if positions is None else positions[part][chosen[part]]
                )

    def in_order(self, names: Sequence[str], places: Iterable[int]) -> Iterator[pa.RecordBatch]:
        """Columns of the rows of some ranges, in the order in which they were prepared."""
        if self._waiting is None:
            for batch in self._stored.batches(names):
                self._waiting = self._waiting or BatchBuffer(batch.schema)
                self._waiting.append(batch)
        rows = np.isin(self._places, list(places))
        if self._waiting and rows.any():
            in_shard = np.empty(len(rows), np.int64)
            in_shard[self._order] = np.arange(len(rows))
            for part in take_parts(self._waiting.table(), in_shard[rows], _ROWS):
                yield from part.to_batches()

    def summarize(self, chosen: Bools, specs: Sequence[SummarySpec]) -> Summaries:
        """The summaries of some rows: bool [rows], as they are stored."""
        names = list(dict.fromkeys(name for spec in specs for name in (spec.column, spec.key) if name))
        merged: Summaries = {}
        begin = 0
        for batch in self._stored.as_stored() if names and chosen.any() else ():
            some = batch.filter(pa.array(chosen[begin : begin + len(batch)]))
            begin += len(batch)
            if len(some):
                columns = with_dictionaries(self._stored.decode(some, names))
                merged = summaries.merge(merged, summarize(columns, specs))
        return merged

    @cached_property
    def _positions(self) -> npt.NDArray[np.uint64] | None:
        """By what the rows are sorted where they are stored, in the order in which they were prepared."""
        return self._preparer.positions_of(self._hashes["key"].combine_chunks())

    @cached_property
    def _order(self) -> Integers:
        """Which of the rows, in the order in which they were prepared, is where in the shard: int64 [rows]."""
        if self._positions is None:
            return np.arange(len(self._places))
        return np.argsort(self._positions, kind="stable")


def _begins(counts: Iterable[int]) -> Integers:
    """Where the items of each range begin, and where the last ones end: int64 [ranges + 1]."""
    return np.cumsum([0, *counts])


def _between(begins: Integers, place: int) -> slice:
    """The items of a range."""
    return slice(int(begins[place]), int(begins[place + 1]))
