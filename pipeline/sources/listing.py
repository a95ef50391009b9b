"""What listing a source gives: of images, a reference to each; of a table, the ranges that it is read by."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from .file_content import FileParts
from .table_schema import TableSchema


class Reference(NamedTuple):
    """What names an example's payloads without holding them.

    Attributes:
      key: Names the example for good: its path relative to the input.
      uri: Where its payload is.
      size: The payload's bytes, as listed.
      label: Its label, where the source gives one.
      mask: Where its mask is, where the source has masks.
      columns: Its values of the columns that are joined to it; None where nothing is joined.
      etag: The store's ETag of its payload, as listed; empty where there is none.
    """

    key: str
    uri: str
    size: int
    label: str | None = None
    mask: str | None = None
    columns: dict[str, Any] | None = None
    etag: str = ""


@dataclass(frozen=True)
class RecordRange:
    """A range of a record file that can be read alone.

    Attributes:
      uri: The file.
      key: Its path relative to the input: a row's name is the key, a colon and the row's number.
      begin: Where the range begins: a byte of a text or TFRecord file, the number of a Parquet row group, a value of
        the SQL key column.
      end: Where it ends; what is at `end` is not in it.
      first_row: The number of its first row in the file, from 0.
      rows: How many rows it holds, those that do not fit included; -1 where that is known only after reading.
      size: About its bytes, for balancing.
      first_line: The physical line number, from 1, at which a range of a text file begins; -1 elsewhere.
      source: In a union, the name of the table that it belongs to; in one of unions, a line for each.
      root: In a join, the input folder, from which the joined table is read.
      duplicates: The numbers of rows that are left out since they equal an earlier one: int64, as bytes.
      forgotten: The numbers of rows that are to be forgotten, likewise; there may be rows of other ranges among them.
      number: Its number among all ranges of a plan.
      file_begin: Of a nominal range, and of one by lines, where the rows of its file begin; -1 elsewhere.
      file_end: Of these, where they end; -1 elsewhere.
      by_lines: Whether every line is a row: then the range is cut at any byte, and its rows are those of the lines
        that begin after its first byte, up to the one that begins at its end.
      parts: What was fetched of the file, for reading the range; None, and the file is read.

    A **nominal** range is cut at any byte. Its rows are those that begin in it, and no row's number is known: it must
    be resolved (`row_scan`) before it is read.
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
    duplicates: bytes = b""
    forgotten: bytes = b""
    number: int = -1
    file_begin: int = -1
    file_end: int = -1
    by_lines: bool = False
    parts: FileParts | None = field(default=None, compare=False, repr=False)

    @property
    def is_nominal(self) -> bool:
        """Whether it is cut at any byte, and must be resolved."""
        return self.file_end >= 0 and not self.by_lines


@dataclass
class RecordListing:
    """What there is of a table.

    Attributes:
      ranges: The ranges, by file and then by position.
      schema: The columns of every row, and how they are read: what `read` is given.
      warnings: What the user should know: empty files, columns whose files disagree, ….
      digest: A hash over every file that was found: relative path, bytes and time of change.
      versions: The keys of files, to their bytes and ETag, or else time of change; none where the source has no files,
        and empty for a file of which nothing but its size is known.
    """

    ranges: list[RecordRange]
    schema: TableSchema
    warnings: list[str] = field(default_factory=list)
    digest: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
