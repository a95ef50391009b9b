"""What every record source gives: ranges that can be read alone, and the rows of a range as one Arrow batch."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np
import pyarrow as pa

from ..errors import RequestError
from ..storage import files
from ..storage.files import FileInfo
from .reference import QuarantinedExample
from .row_errors import RowError
from .table_schema import TableSchema


@dataclass(frozen=True)
class RecordRange:
    """A range of a record file that can be read alone.

    Attributes:
      uri: The file.
      key: Its path relative to the input: a row's name is the key, a colon and the row's number.
      begin: Where the range begins: a byte of a text file, the number of a Parquet row group or of a TFRecord's record,
        a value of the SQL key column.
      end: Where it ends; what is at `end` is not in it.
      first_row: The number of its first row in the file, from 0.
      rows: How many rows it holds, those that do not fit included; -1 where that is known only after reading.
      size: About its bytes, for balancing.
      first_line: The physical line number, from 1, at which a range of a text file begins; -1 elsewhere.
      source: In a union, the name of the table that it belongs to; in one of unions, a line for each.
      root: In a join, the input folder, from which the joined table is read.
    """

    uri: str
    key: str
    begin: int
    end: int
    first_row: int
    rows: int
    size: int
    first_line: int = -1
    source: str = ""
    root: str = ""


@dataclass
class RecordListing:
    """What a record source found.

    Attributes:
      ranges: The ranges, by file and then by position.
      schema: The columns of every row, and how they are read: what `read` is given.
      warnings: What the user should know: empty files, columns whose files disagree, ….
      digest: A hash over every file that was found: relative path, bytes and time of change.
    """

    ranges: list[RecordRange]
    schema: TableSchema
    warnings: list[str] = field(default_factory=list)
    digest: str = ""


@dataclass
class Rows:
    """The rows of a range.

    Attributes:
      batch: The rows that fit, with exactly the columns of the listing's schema.
      numbers: Each row's number in its file, from 0, as int64.
      problems: The rows that do not fit.
      filtered: Filter reason to count, of rows that the source itself leaves out.
    """

    batch: pa.RecordBatch
    numbers: np.ndarray
    problems: list[QuarantinedExample]
    filtered: Mapping[str, int] = field(default_factory=dict)


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
) -> Rows:
    """The rows of a range without those that do not fit, which become problems.

    Args:
      record_range: What was read.
      batch: All rows that could be parsed.
      numbers: Their numbers in the file.
      errors: Those rows of the batch that do not fit, by position in the batch.
      others: Rows that are not in the batch, by number in the file.
      describe: Gives, for a row's number in the file, where it is ("file, line 7") and its content's SHA-256.
    """
    found = {int(numbers[position]): row_error for position, row_error in errors.items()} | dict(others or {})
    if errors:
        keep = np.ones(len(numbers), bool)
        keep[list(errors)] = False
        batch, numbers = batch.filter(pa.array(keep)), numbers[keep]
    problems = []
    for number, row_error in sorted(found.items()):
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
    return Rows(batch, numbers, problems)


def check_patterns(source: str, pattern: str | Sequence[str]) -> tuple[str, ...]:
    """The patterns, always as a tuple.

    Raises:
      RequestError: there is none, or one leads out of the input.
    """
    patterns = (pattern,) if isinstance(pattern, str) else tuple(pattern)
    if not patterns or not all(isinstance(each, str) and each for each in patterns):
        raise RequestError(f"{source}(pattern): expected a pattern such as 'data/*', found {pattern!r}")
    for each in patterns:
        if each.startswith("/") or "://" in each or ".." in each.split("/"):
            raise RequestError(f"{source}: expected a path relative to --input, found {each!r}")
    return patterns


def match_files(root: str, patterns: Sequence[str]) -> dict[str, FileInfo]:
    """The files that match, by path relative to `root`, sorted.

    Raises:
      RequestError: a pattern matches nothing.
    """
    found: dict[str, FileInfo] = {}
    for pattern in patterns:
        matched = files.glob(root, pattern)
        if not matched:
            raise RequestError(
                f"expected record files at {files.join(root, pattern)}, found none; check --input and the pattern"
            )
        found.update(matched)
    return dict(sorted(found.items()))
