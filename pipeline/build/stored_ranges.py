"""Reads what a base has stored of some ranges of a unit of a table, as if they were prepared again.

Rows are copied as they are stored. Columns are decoded where statistics need them that are not kept by range.
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
from ..prepare import range_totals
from ..prepare.chunk import Chunk, SplitExamples
from ..prepare.summaries import summarize
from ..prepare.tables import TablePreparer
from ..sources.quarantine import FilteredExample, QuarantinedExample
from .base import BaseGeneration
from .record_buffer import BatchBuffer, take_parts
from .stored_images import hashes_of
from .stored_rows import StoredRows

_ROWS = 1 << 15  # that are taken at a time

Integers = npt.NDArray[np.int64]


class StoredRanges:
    """What became of some ranges of a base's unit."""

    def __init__(self, base: BaseGeneration, number: int, preparer: TablePreparer, places: Sequence[int]) -> None:
        """Reads what is known of the ranges beside their rows.

        Args:
          base: The base.
          number: The unit.
          preparer: How its rows were prepared.
          places: The places of all ranges that will be asked for, among those of the unit.

        Raises:
          PenstockError: the base is not there any more, or is damaged.
        """
        journal = base.journal(number)
        self._preparer = preparer
        self._totals = range_totals.decode(base.read(journal.range_totals)) if journal.range_totals else []
        lines = base.read(journal.quarantine).splitlines() if journal.quarantine else []
        self._quarantined = [QuarantinedExample(**json.loads(line)) for line in lines]
        lines = base.read(journal.filtered_list).splitlines() if journal.filtered_list else []
        self._filtered = [FilteredExample(**json.loads(line)) for line in lines]
        self._quarantined_begins = _begins(totals.quarantined for totals in self._totals)
        self._filtered_begins = _begins(totals.listed for totals in self._totals)
        hashes = hashes_of(base, journal)
        self._splits = {
            split: _SplitRows(
                StoredRows(base, journal, split, preparer),
                preparer,
                hashes.filter(pc.equal(hashes["split"], split)).drop_columns("split"),
                _begins(totals.written[split] for totals in self._totals),
                places,
            )
            for split in journal.shards
        }

    def close(self) -> None:
        """Gives up what waits."""
        for rows in self._splits.values():
            rows.close()

    def chunks(self, numbers: Mapping[int, int]) -> Iterator[Chunk]:
        """The chunks of some ranges: as `TableWorker.chunks` gives them.

        Args:
          numbers: The ranges' places in the unit, in their order, to their numbers in the plan.

        Raises:
          PenstockError: what is stored is damaged.
        """
        chunk = Chunk()
        for place, number in numbers.items():
            totals = replace(self._totals[place], number=number)
            chunk.ranges.append(totals)
            chunk.filtered += totals.filtered
            chunk.quarantined += self._quarantined[_between(self._quarantined_begins, place)]
            chunk.filtered_examples += self._filtered[_between(self._filtered_begins, place)]
        yield chunk
        for split, rows in self._splits.items():
            for examples in rows.take(list(numbers)):
                yield self._chunk(split, examples)

    def _chunk(self, split: str, examples: SplitExamples) -> Chunk:
        """A chunk of rows of a split, with what statistics and analyzers need of them."""
        chunk = Chunk({split: examples})
        statistics, specs = self._preparer.statistics, self._preparer.unit_specs
        names = [name for spec in specs for name in (spec.column, spec.key) if name]
        if split == statistics.split and (names or statistics.columns):
            batch = self._splits[split].decode(examples, list(dict.fromkeys([*names, *statistics.columns])))
            chunk.summaries = summarize(with_dictionaries(batch), specs)
            if statistics.columns:
                chunk.analyzed = batch.select(list(statistics.columns))
        return chunk


class _SplitRows:
    """The rows that some ranges have in the shard of a split."""

    def __init__(
        self, stored: StoredRows, preparer: TablePreparer, hashes: pa.Table, begins: Integers, places: Sequence[int]
    ) -> None:
        """Reads nothing.

        Args:
          stored: The rows of the whole unit.
          preparer: How they were prepared.
          hashes: Their hashes, in the order in which they were prepared.
          begins: int64 [ranges + 1], where the rows of each range begin in that order, and where the last ones end.
          places: The places of all ranges that will be asked for.
        """
        self._stored = stored
        self._hashes = hashes.combine_chunks()
        self._begins = begins
        self._places = places
        self._positions = preparer.positions_of(self._hashes["key"].combine_chunks())
        self._waiting: BatchBuffer | None = None

    def close(self) -> None:
        """Gives up the rows that wait."""
        if self._waiting:
            self._waiting.close()

    def take(self, places: Sequence[int]) -> Iterator[SplitExamples]:
        """The rows of some ranges as they are stored, many at a time, in the order in which they were prepared.

        Raises:
          PenstockError: the base is not there any more, or is damaged.
        """
        rows = self._rows_of(places)
        if not len(rows):
            return
        begin = 0
        table, where = self._asked
        for part in take_parts(table, where[rows], _ROWS):
            chosen = rows[begin : begin + len(part)]
            begin += len(part)
            (hashes,) = self._hashes.take(pa.array(chosen)).combine_chunks().to_batches()
            (batch,) = part.combine_chunks().to_batches()
            positions = None if self._positions is None else self._positions[chosen]
            yield SplitExamples(self._stored.examples_of(batch), positions, hashes=hashes)

    def decode(self, examples: SplitExamples, names: Sequence[str]) -> pa.RecordBatch:
        """Columns of some rows that `take` gave."""
        return self._stored.decode(examples.examples, names)

    def _rows_of(self, places: Sequence[int]) -> Integers:
        """The rows of some ranges, by the order in which all were prepared: int64 [rows]."""
        bounds = [(int(self._begins[place]), int(self._begins[place + 1])) for place in places]
        return np.concatenate([np.zeros(0, np.int64), *(np.arange(begin, end) for begin, end in bounds)])

    @cached_property
    def _asked(self) -> tuple[pa.Table, Integers]:
        """All rows that will be asked for, as they are stored; and where in the table each row of the unit is."""
        count = int(self._begins[-1])
        in_shard = np.arange(count)
        if self._positions is not None:
            in_shard[np.argsort(self._positions, kind="stable")] = np.arange(count)
        chosen = np.zeros(count, bool)
        chosen[in_shard[self._rows_of(self._places)]] = True
        for batch in self._stored.as_stored(chosen):
            self._waiting = self._waiting or BatchBuffer(batch.schema)
            self._waiting.append(batch)
        assert self._waiting
        return self._waiting.table(), (np.cumsum(chosen) - 1)[in_shard]


def _begins(counts: Iterable[int]) -> Integers:
    """Where the items of each range begin, and where the last ones end: int64 [ranges + 1]."""
    return np.cumsum([0, *counts])


def _between(begins: Integers, place: int) -> slice:
    """The items of a range."""
    return slice(int(begins[place]), int(begins[place + 1]))
