"""How a range of a table is prepared, and a unit of ranges: whole batches of rows in, and as they are stored out."""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ...transforms.columns import Vectorized, Where
from ...transforms.moments import Moments
from ..formats import paths
from ..formats.column_notes import merge
from ..formats.example_writer import concat_batches, with_dictionaries
from ..formats.features import LABEL, Feature, describe_columns
from ..sources.file_content import PartReader
from ..sources.join import JoinTable, joins_of
from ..sources.listing import RecordRange
from ..sources.quarantine import FORGOTTEN
from ..sources.record_source import RecordSource, Rows, first_rows, stream_rows, with_parts, without_rows
from ..sources.table_schema import TableSchema
from ..splits.columns import Strata, columns_of
from ..splits.hashing import hash_rows
from ..splits.rows import split_rows
from ..splits.rules import DUPLICATE, NOT_LISTED, Splits
from ..storage import files
from .chunk import Chunk, SplitExamples, content_hashes
from .fetch import RangeFetcher
from .isolated_ranges import IsolatedRanges
from .preparer import StatisticsSpec
from .range_totals import RangeTotals
from .rounding import rounding_notes
from .row_hashes import RowHashes, concat_hashes, hash_contents
from .steps import PreparedRows, apply_step, conform, quarantined
from .summaries import SummarySpec, summarize
from .threads import ordered_flat_map, ordered_map

_PART = 1 << 15  # rows that a thread prepares at a time, however many a range holds
_PART_BYTES = 32 << 20  # and of several ranges together, bytes of rows that are read


@dataclass(frozen=True)
class TableSteps:
    """Turns a range of a record file into rows with their splits, after the recipe's `prepare`.

    Attributes:
      source: Reads ranges.
      schema: The columns that it reads.
      functions: The recipe's `prepare`: functions of batches (`Vectorized`, `Where`) and of examples.
      rule: The recipe's split rule, fitted where it must be.
      splits: The splits' names.
      limits: The numbers of ranges to how many of their first rows are taken; empty: all rows of all ranges are.
    """

    source: RecordSource
    schema: TableSchema
    functions: Sequence[Callable[[Any], Any]]
    rule: Splits | Strata
    splits: tuple[str, ...]
    limits: Mapping[int, int] = field(default_factory=dict)

    @property
    def by_example(self) -> bool:
        """Whether a function works on one example at a time: then the values tell the columns and their types."""
        return not all(isinstance(function, Vectorized | Where) for function in self.functions)

    def fetch(self, record_range: RecordRange, reader: PartReader) -> RecordRange:
        """A range with what it takes of a file in a store; see `RangeFetcher`."""
        return with_parts(self.source, record_range, self.schema, reader)

    def read(self, record_range: RecordRange) -> Iterator[PreparedRows]:
        """The rows of a range as they are read, a part of the range at a time."""
        for rows in self._stream(record_range):
            yield from _cut(_unprepared(rows))

    def _stream(self, record_range: RecordRange) -> Iterator[Rows]:
        rows = stream_rows(self.source, record_range, self.schema)
        if record_range.forgotten:
            rows = (without_rows(part, np.frombuffer(record_range.forgotten, np.int64), FORGOTTEN) for part in rows)
        return first_rows(rows, self.limits[record_range.number]) if self.limits else rows

    def prepare_rows(self, record_range: RecordRange, rows: PreparedRows) -> PreparedRows:
        """Gives rows that were read their splits, and applies the functions.

        Raises:
          PenstockError: a function changed the rows in a way that it must not.
        """
        if self.splits_raw_rows:
            return self._apply_functions(self._split(rows, record_range), record_range)
        return self._split(self._apply_functions(rows, record_range), record_range)

    def prepare_first(self, record_range: RecordRange, limit: int | None = None) -> "FirstRows":
        """The first part of a range that holds rows, prepared.

        Args:
          record_range: The range.
          limit: How many rows to take; None takes all of the part.

        Raises:
          PenstockError: a function changed the rows in a way that it must not.
        """
        losses: list[PreparedRows] = []
        size = 0
        parts = self._stream(record_range)
        for rows in parts:
            size += record_range.size if rows.size is None else rows.size
            first = replace(rows, batch=rows.batch[:limit], numbers=rows.numbers[:limit])
            prepared = self.prepare_rows(record_range, _unprepared(first))
            losses.append(prepared)
            if len(prepared.batch):
                break
        rows_of_range = replace(
            prepared,
            quarantined=[example for part in losses for example in part.quarantined],
            filtered=sum((part.filtered for part in losses), Counter[str]()),
        )
        return FirstRows(rows_of_range, size, limit is None and next(parts, None) is None)

    def deciding(self, record_range: RecordRange) -> Iterator[PreparedRows]:
        """The rows of a range as the split rule sees them: raw, or with a column that `prepare` makes."""
        parts = self.read(record_range)
        return parts if self.splits_raw_rows else (self._apply_functions(rows, record_range) for rows in parts)

    @property
    def splits_raw_rows(self) -> bool:
        """Whether the rows' splits follow from their files and raw columns, and not from a column of `prepare`."""
        return all(name in self.schema.columns.names for name in columns_of(self.rule))

    def _apply_functions(self, rows: PreparedRows, record_range: RecordRange) -> PreparedRows:
        for function in self.functions:
            if not len(rows.batch):  # no function needs to know how to do without rows
                break
            rows = apply_step(function, rows, record_range)
        return rows

    def _split(self, rows: PreparedRows, record_range: RecordRange) -> PreparedRows:
        """Gives rows their splits; filters those that are in none, and quarantines those that can be in none."""
        if not len(rows.batch):
            return rows
        batch = rows.batch
        if self.by_example:  # examples of one range may all lack a column that others have
            for name in set(columns_of(self.rule)) - set(batch.schema.names):
                batch = batch.append_column(name, pa.nulls(len(batch), pa.string()))
        codes, errors = split_rows(self.rule, self.splits, record_range.key, batch, rows.numbers)
        inside = codes >= 0
        inside[list(errors)] = True
        rows.leave_out(~inside, NOT_LISTED, record_range)
        inside[list(errors)] = False
        rows.quarantined += [
            quarantined(record_range, rows, row, error.code, error.message, "split") for row, error in errors.items()
        ]
        rows = replace(rows, codes=codes)
        return rows if inside.all() else rows.keep(inside)


@dataclass(frozen=True)
class FirstRows:
    """The first rows of a range.

    Attributes:
      rows: The rows, prepared.
      size: About how many bytes of the range they were.
      complete: Whether they are all rows of the range.
    """

    rows: PreparedRows
    size: int
    complete: bool


@dataclass(frozen=True)
class TablePreparer:
    """How the ranges of a unit are prepared: a `Preparer`.

    Attributes:
      steps: How the rows of a range are prepared.
      stored_schema: The columns that every row is brought to; see `formats.features.stored_schema`.
      serialized: Whether rows are stored as tf.train.Examples, or as columns.
      seed: Of the order of rows; None keeps the order of the files.
      statistics: What statistics and analyzers need of the rows.
    """

    steps: TableSteps
    stored_schema: pa.Schema
    serialized: bool
    seed: int | None
    statistics: StatisticsSpec

    @cached_property
    def features(self) -> Mapping[str, Feature]:
        """What every stored row holds."""
        return describe_columns(self.stored_schema)

    @property
    def raw_schema(self) -> TableSchema:
        """The table's columns before `prepare`."""
        return self.steps.schema

    @property
    def functions(self) -> Sequence[Callable[[Any], Any]]:
        """The recipe's `prepare`."""
        return self.steps.functions

    @property
    def decode(self) -> None:
        """None: rows have no payload to decode."""
        return

    @property
    def encodings(self) -> dict[str, Any]:
        """Empty: no feature of a table is an image."""
        return {}

    def joins(self) -> Iterator[tuple[JoinTable, str]]:
        """The tables that are joined, with the hashes over their files."""
        return joins_of(self.steps.source, self.steps.schema)

    def use_joined(self, root: str) -> None:
        """Has joined tables be read from a generation, where a run keeps files of large ones."""
        for table, _ in self.joins():
            table.use_folder(files.join(root, paths.JOINED))

    def start(self, threads: int, root: str | None = None, isolated: bool = False) -> "TableWorker":
        """A worker that prepares so many ranges at a time; see `Preparer`."""
        return TableWorker(self, threads, IsolatedRanges(self, threads, root) if isolated else None)

    def __call__(self, record_range: RecordRange) -> Iterator[Chunk]:
        """The chunks of a range: one for each part in which it is read."""
        return (self.prepare_part(record_range, rows) for rows in self.read(record_range))

    def read(self, record_range: RecordRange) -> Iterator[PreparedRows]:
        """The rows of a range before they are prepared, in parts."""
        return self.steps.read(record_range)

    def prepare_part(self, record_range: RecordRange, rows: PreparedRows) -> Chunk:
        """The chunk of rows of a range, as `read` gives them."""
        return self.prepare_parts([(record_range, rows)])

    def prepare_parts(self, parts: Sequence[tuple[RecordRange, PreparedRows]]) -> Chunk:
        """One chunk of rows of some ranges, each prepared by itself."""
        chunk = Chunk()
        stored: list[tuple[str, PreparedRows]] = []
        totals = []
        for record_range, rows in parts:
            rows = self._to_stored(record_range, rows)
            if record_range.duplicates:
                is_first = ~np.isin(rows.numbers, np.frombuffer(record_range.duplicates, np.int64))
                rows.leave_out(~is_first, DUPLICATE, record_range)
                rows = rows.keep(is_first)
            chunk.quarantined += rows.quarantined
            chunk.filtered += rows.filtered
            chunk.filtered_examples += rows.filtered_examples
            part_totals = RangeTotals(
                record_range.number,
                quarantined=len(rows.quarantined),
                filtered=Counter(rows.filtered),
                listed=len(rows.filtered_examples),
                notes=merge(rows.notes, rounding_notes(rows.batch)),
            )
            chunk.ranges.append(part_totals)
            if len(rows.batch):
                stored.append((record_range.key, rows))
                totals.append(part_totals)
        if stored:
            self._store(chunk, stored, totals)
        return chunk

    def _store(self, chunk: Chunk, parts: Sequence[tuple[str, PreparedRows]], totals: Sequence[RangeTotals]) -> None:
        """Adds rows as they are stored, by split, to a chunk, and what is known of them.

        Args:
          chunk: The chunk.
          parts: The keys of files, and rows of these.
          totals: What is told of the rows of each part.
        """
        batch = concat_batches([rows.batch for _, rows in parts])
        codes = np.concatenate([rows.codes for _, rows in parts])
        keys = pa.concat_arrays([_keys(key, rows.numbers) for key, rows in parts])
        positions = None
        if self.seed is not None:
            positions = np.concatenate([hash_rows(key, rows.numbers, f"order{self.seed}") for key, rows in parts])
        begins = np.cumsum([0, *(len(rows.batch) for _, rows in parts)])
        for code, name in enumerate(self.steps.splits):
            chosen = np.flatnonzero(codes == code)
            if not len(chosen):
                continue
            is_all = len(chosen) == len(batch)
            part = batch if is_all else batch.take(pa.array(chosen))
            compact = with_dictionaries(part)
            chunk.splits[name] = SplitExamples(
                compact if self.serialized else part,
                None if positions is None else positions[chosen],
                hashes=content_hashes(
                    hash_contents(compact, self.features).astype(">u8").tobytes(),
                    keys if is_all else keys.take(pa.array(chosen)),
                ),
            )
            for of_part, (begin, end) in zip(totals, pairwise(np.searchsorted(chosen, begins).tolist()), strict=True):
                if begin < end:
                    self._tell(of_part, name, compact[begin:end])
            if name == self.statistics.split:
                chunk.summaries = summarize(compact, self.unit_specs)
                if self.statistics.columns:
                    chunk.analyzed = part.select(list(self.statistics.columns))

    def _tell(self, totals: RangeTotals, split: str, rows: pa.RecordBatch) -> None:
        """Adds what is told of a range's rows of a split, as they are stored, to what became of it."""
        totals.written[split] = len(rows)
        if (labels := _count_labels(rows, self.features)) is not None:
            totals.labels[split] = labels
        if split == self.statistics.split:
            moments = Moments.of_each([rows.column(spec.column) for spec in self.range_specs])
            totals.moments.update(zip(self.range_specs, moments, strict=True))

    @cached_property
    def range_specs(self) -> list[SummarySpec]:
        """What is summarized of each range alone: moments of single numbers, which what is stored does not tell."""
        return [
            spec
            for spec in self.statistics.summaries
            if spec.kind == "moments" and not self.features[spec.column].shape
        ]

    @cached_property
    def unit_specs(self) -> list[SummarySpec]:
        """What is summarized of all rows of a unit."""
        return [spec for spec in self.statistics.summaries if spec not in self.range_specs]

    def _to_stored(self, record_range: RecordRange, rows: PreparedRows) -> PreparedRows:
        prepared = self.steps.prepare_rows(record_range, rows)
        return conform(prepared, self.stored_schema, record_range, self.steps.by_example)

    def positions_of(self, keys: pa.StringArray) -> np.ndarray | None:
        """By what rows of these keys are sorted where they are stored: uint64 [rows]; None: they keep their order."""
        if self.seed is None:
            return None
        names = pc.utf8_rtrim(keys, "0123456789").dictionary_encode()
        codes = np.asarray(names.indices)
        positions = np.empty(len(keys), np.uint64)
        bounds = [0, *(np.flatnonzero(np.diff(codes)) + 1).tolist(), len(keys)]
        for begin, end in pairwise(bounds) if len(keys) else ():  # rows of a file mostly follow each other
            name = names.dictionary[int(codes[begin])].as_py()
            numbers = pc.utf8_slice_codeunits(keys[begin:end], len(name)).cast(pa.int64())
            positions[begin:end] = hash_rows(name.removesuffix(":"), np.asarray(numbers), f"order{self.seed}")
        return positions

    def hashes(self, record_range: RecordRange) -> RowHashes:
        """The hashes of the rows that a range stores."""
        return concat_hashes(self.hash_part(record_range, rows) for rows in self.read(record_range))

    def hash_part(self, record_range: RecordRange, rows: PreparedRows) -> RowHashes:
        """The hashes of rows of a range, as `read` gives them."""
        stored = self._to_stored(record_range, rows)
        return stored.numbers, hash_contents(with_dictionaries(stored.batch), self.features)


class TableWorker:
    """Prepares ranges in a thread pool; what they take of files in stores is fetched ahead by other threads."""

    def __init__(self, preparer: TablePreparer, threads: int, isolated: IsolatedRanges | None) -> None:
        self._preparer = preparer
        self._isolated = isolated
        self._window = 2 * threads
        self._pool = ThreadPoolExecutor(threads, "prepare")
        self._fetcher = RangeFetcher(threads)

    def close(self) -> None:
        """Ends the threads."""
        self._fetcher.close()
        self._pool.shutdown()
        if self._isolated:
            self._isolated.close()

    def chunks(self, splits: Collection[str], pieces: Sequence[RecordRange]) -> Iterator[Chunk]:
        """Chunks of each range; every unit holds all splits."""
        ranges = self._fetcher.ahead(self._preparer.steps.fetch, pieces)
        if self._isolated:
            return ordered_flat_map(self._pool, self._isolated, ranges, self._window)
        parts = ordered_flat_map(self._pool, self._read, ranges, self._window)
        return ordered_map(self._pool, self._preparer.prepare_parts, _together(parts), self._window)

    def _read(self, record_range: RecordRange) -> Iterator[tuple[RecordRange, PreparedRows]]:
        """The parts of a range, which several threads can then prepare."""
        return ((record_range, rows) for rows in self._preparer.read(record_range))


def _together(parts: Iterable[tuple[RecordRange, PreparedRows]]) -> Iterator[list[tuple[RecordRange, PreparedRows]]]:
    """Parts of ranges, as many together as are worth a thread: a range of wide rows has few of them."""
    group: list[tuple[RecordRange, PreparedRows]] = []
    count = size = 0
    for record_range, rows in parts:
        more = rows.batch.nbytes
        if group and (count + len(rows.batch) > _PART or size + more > _PART_BYTES):
            yield group
            group, count, size = [], 0, 0
        group.append((record_range, rows))
        count, size = count + len(rows.batch), size + more
    if group:
        yield group


def _cut(rows: PreparedRows) -> Iterator[PreparedRows]:
    """Rows in parts of as many as are prepared at a time; what is known beside them is the first part's."""
    yield replace(rows, batch=rows.batch[:_PART], numbers=rows.numbers[:_PART], codes=rows.codes[:_PART])
    for begin in range(_PART, len(rows.batch), _PART):
        part = slice(begin, begin + _PART)
        yield PreparedRows(rows.batch[part], rows.numbers[part], rows.codes[part], [], Counter())


def _unprepared(rows: Rows) -> PreparedRows:
    """Rows as they are read, as if all were in the first split."""
    codes = np.zeros(len(rows.batch), np.int64)
    filtered, examples = Counter(rows.filtered), list(rows.filtered_examples)
    return PreparedRows(rows.batch, rows.numbers, codes, list(rows.problems), filtered, examples, rows.notes)


def _keys(key: str, numbers: np.ndarray) -> pa.Array:
    """The keys of rows of a file."""
    return pc.binary_join_element_wise(pa.scalar(key), pa.array(numbers).cast(pa.string()), ":")


def _count_labels(rows: pa.RecordBatch, features: Mapping[str, Feature]) -> Counter[str] | None:
    """Label to count; None where rows have none, or lists or floats for it."""
    if LABEL not in features or features[LABEL].shape or features[LABEL].dtype == "float32":
        return None
    counted = rows.column(LABEL).drop_null().value_counts()
    return Counter({str(entry["values"]): entry["counts"] for entry in counted.to_pylist()})
