"""The interface of every source of rows: ranges that can be read alone, and the rows of a range as one Arrow batch."""

from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol, runtime_checkable

import numpy as np
import pyarrow as pa

from ..formats.column_notes import Notes, merge_all
from ..storage import files
from . import column_types
from .file_content import FileParts, PartReader
from .listing import RecordListing, RecordRange
from .quarantine import FilteredExample, QuarantinedExample, limit
from .row_boundaries import Dialect
from .row_errors import RowError
from .table_schema import TableSchema


@dataclass
class Rows:
    """The rows of a range.

    Attributes:
      batch: The rows that fit, with exactly the columns of the listing's schema.
      numbers: Each row's number in its file, from 0, as int64.
      problems: The rows that do not fit.
      filtered: Filter reason to count, of rows that the source itself leaves out.
      filtered_examples: The first ones of each reason.
      notes: What happened to values that are not as they stand in the source.
      size: About how many of the range's bytes these are, where they are a part of it; None where they are all.
    """

    batch: pa.RecordBatch
    numbers: np.ndarray
    problems: list[QuarantinedExample]
    filtered: Mapping[str, int] = field(default_factory=dict)
    filtered_examples: Sequence[FilteredExample] = ()
    notes: Notes = field(default_factory=dict)
    size: int | None = None


@runtime_checkable
class RecordSource(Protocol):
    """Where rows come from."""

    def find(self, root: str, range_bytes: int) -> RecordListing:
        """Lists the ranges below `root`, of about `range_bytes` each.

        Raises:
          RequestError: nothing matches, or the files cannot be one table.
        """

    def read(self, record_range: RecordRange, schema: TableSchema) -> Rows:
        """Reads a range, given the listing's schema.

        Raises:
          PenstockError: the file is damaged, or is not what was listed.
        """


@runtime_checkable
class StreamingSource(RecordSource, Protocol):
    """A source whose ranges may be larger than memory, as compressed files are."""

    def stream(self, record_range: RecordRange, schema: TableSchema) -> Iterator[Rows]:
        """Reads a range as `read` does, a part at a time."""


@runtime_checkable
class FetchableSource(RecordSource, Protocol):
    """A source that can say which parts of a file it takes to read a range."""

    def fetch(self, record_range: RecordRange, schema: TableSchema, reader: PartReader) -> FileParts | None:
        """Fetches what reading a range of a file in a store takes; None where it is better read bit by bit.

        Raises:
          PenstockError: it cannot be read.
        """


def with_parts(source: RecordSource, record_range: RecordRange, schema: TableSchema, reader: PartReader) -> RecordRange:
    """A range with the parts of its file that it takes to read it, where these are in a store.

    Raises:
      PenstockError: they cannot be read.
    """
    if files.is_local(record_range.uri) or not isinstance(source, FetchableSource):
        return record_range
    return replace(record_range, parts=source.fetch(record_range, schema, reader))


@runtime_checkable
class DelimitedSource(RecordSource, Protocol):
    """A source of text whose ranges may be nominal."""

    def row_dialect(self, record_range: RecordRange) -> Dialect:
        """How a range's text is cut into fields."""


def stream_rows(source: RecordSource, record_range: RecordRange, schema: TableSchema) -> Iterator[Rows]:
    """The rows of a range, at least one part, and several where the source can do that."""
    if not isinstance(source, StreamingSource):
        yield source.read(record_range, schema)
        return
    parts = source.stream(record_range, schema)
    yield next(parts, None) or concat_rows([], schema.columns, record_range.uri)
    yield from parts


def first_rows(parts: Iterator[Rows], count: int) -> Generator[Rows]:
    """The first rows of a range, in the parts in which they are read; those that do not fit or are filtered count too.

    Args:
      parts: The parts, one at least.
      count: How many rows, one at least.
    """
    for rows in parts:
        numbers = row_numbers(rows)
        if len(numbers) > count:
            yield _before(rows, int(numbers[count]))
            return
        yield rows
        count -= len(numbers)
        if not count:
            return


def without_rows(rows: Rows, numbers: np.ndarray, reason: str) -> Rows:
    """Rows without some of them: these are counted as filtered, and named nowhere.

    Args:
      rows: The rows.
      numbers: int64, the numbers of those that are to go; other rows' may be among them.
      reason: Why they are.
    """
    gone = np.isin(rows.numbers, numbers)
    left_out = set(numbers.tolist())
    if not gone.any() and left_out.isdisjoint(row_numbers(rows).tolist()):
        return rows
    problems = [each for each in rows.problems if _row_number(each.key) not in left_out]
    filtered = [each for each in rows.filtered_examples if _row_number(each.key) not in left_out]
    counts = Counter(rows.filtered)
    counts.subtract(Counter(each.reason for each in rows.filtered_examples) - Counter(each.reason for each in filtered))
    lost = len(rows.problems) - len(problems) + len(rows.filtered_examples) - len(filtered)
    counts[reason] += int(gone.sum()) + lost
    return replace(
        rows,
        batch=rows.batch.filter(pa.array(~gone)),
        numbers=rows.numbers[~gone],
        problems=problems,
        filtered=+counts,
        filtered_examples=filtered,
        notes={name: replace(note, example="", place=("", 0)) for name, note in rows.notes.items()},
    )


def row_numbers(rows: Rows) -> np.ndarray:
    """The numbers of the rows that were read, in order, but for those filtered beyond what is listed: int64."""
    keys = [each.key for each in rows.problems] + [each.key for each in rows.filtered_examples]
    others = [_row_number(key) for key in keys]
    return np.sort(np.concatenate([rows.numbers, np.array(others, np.int64)]))


def _before(rows: Rows, bound: int) -> Rows:
    """The rows whose numbers are below a bound."""
    kept = rows.numbers < bound
    filtered = [each for each in rows.filtered_examples if _row_number(each.key) < bound]
    return replace(
        rows,
        batch=rows.batch.filter(pa.array(kept)),
        numbers=rows.numbers[kept],
        problems=[each for each in rows.problems if _row_number(each.key) < bound],
        filtered=Counter(each.reason for each in filtered),
        filtered_examples=filtered,
    )


def _row_number(key: str) -> int:
    """The number in a row's key; -1 where a range as a whole is named."""
    number = key.rpartition(":")[2]
    return int(number) if number.isdecimal() else -1


def concat_rows(parts: Sequence[Rows], schema: pa.Schema, uri: str) -> Rows:
    """Rows that were read in parts.

    Raises:
      PenstockError: a column of strings in them holds more than 2 GiB.
    """
    if len(parts) == 1:
        return parts[0]
    return Rows(
        column_types.one_batch(pa.Table.from_batches([part.batch for part in parts], schema), uri),
        np.concatenate([np.zeros(0, np.int64), *(part.numbers for part in parts)]),
        [problem for part in parts for problem in part.problems],
        sum((Counter(part.filtered) for part in parts), Counter()),
        limit(example for part in parts for example in part.filtered_examples),
        merge_all(part.notes for part in parts),
    )


def collect_rows(
    record_range: RecordRange,
    batch: pa.RecordBatch,
    numbers: np.ndarray,
    errors: Mapping[int, RowError],
    others: Mapping[int, RowError] | None = None,
    describe: Callable[[int], tuple[str, str | None]] | None = None,
    notes: Notes | None = None,
) -> Rows:
    """The rows of a range without those that do not fit, which become problems.

    Args:
      record_range: What was read.
      batch: All rows that could be parsed.
      numbers: Their numbers in the file.
      errors: Those rows of the batch that do not fit, by position in the batch.
      others: Rows that are not in the batch, by number in the file.
      describe: Gives, for a row's number in the file, where it is ("file, line 7") and its content's SHA-256.
      notes: What happened to values of these rows.
    """
    row_errors = {int(numbers[position]): row_error for position, row_error in errors.items()} | dict(others or {})
    if errors:
        keep = np.ones(len(numbers), bool)
        keep[list(errors)] = False
        batch, numbers = batch.filter(pa.array(keep)), numbers[keep]
    problems = []
    for number, row_error in sorted(row_errors.items()):
        where, sha256 = describe(number) if describe else (f"{record_range.uri}, row {number}", None)
        problems.append(
            QuarantinedExample(
                f"{record_range.key}:{number}",
                record_range.uri,
                "read",
                row_error.code,
                f"{where}: {row_error.message}",
                sha256,
            )
        )
    return Rows(batch, numbers, problems, notes=notes or {})
