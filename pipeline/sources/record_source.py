"""The interface of every source of rows: ranges that can be read alone, and the rows of a range as one Arrow batch."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np
import pyarrow as pa

from ..formats.column_notes import Notes
from .listing import RecordListing, RecordRange
from .quarantine import FilteredExample, QuarantinedExample
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
    """

    batch: pa.RecordBatch
    numbers: np.ndarray
    problems: list[QuarantinedExample]
    filtered: Mapping[str, int] = field(default_factory=dict)
    filtered_examples: Sequence[FilteredExample] = ()
    notes: Notes = field(default_factory=dict)


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
