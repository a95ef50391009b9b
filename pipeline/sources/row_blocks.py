"""Whole rows of text, a block at a time: in bounded memory, whatever the file holds and however long its rows are."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from ..errors import PenstockError
from . import row_boundaries
from .file_content import LONGEST_PART, FileParts, PartReader, Stream, open_range, read_fully
from .listing import RecordRange
from .record_source import Rows, collect_rows
from .row_boundaries import Dialect, RowBoundaries
from .row_errors import RowError

LONGEST_ROW = 64 << 20  # bytes
_BLOCK = 8 << 20
_LINE = 1 << 16  # bytes
_LF, _CR = b"\n", b"\r"


@dataclass(frozen=True)
class RowBlock:
    """Rows that follow each other.

    Attributes:
      data: Their bytes; empty where they are one row that is too long to be kept.
      place: How many bytes lie before them, counted from where reading began.
      row: How many rows, without blank lines, lie before them.
      line: How many lines lie before them.
      boundaries: Where they end; None where that was not needed, and of a row that is too long.
      too_long: The bytes of a row that is longer than LONGEST_ROW; else 0.
      lines: How many lines such a row has.
      position: About how many bytes of the file were read before the next block; None where this is all of them.
    """

    data: bytes
    place: int = 0
    row: int = 0
    line: int = 0
    boundaries: RowBoundaries | None = None
    too_long: int = 0
    lines: int = 0
    position: int | None = None


def range_blocks(record_range: RecordRange, dialect: Dialect) -> Iterator[RowBlock]:
    """The rows of a range of a file that is not compressed: one block, unless the range is long.

    Raises:
      PenstockError: the file cannot be read, or became shorter.
    """
    size = record_range.end - record_range.begin
    begin, end = record_range.begin, record_range.end
    with open_range(record_range.uri, PenstockError, begin, end, record_range.parts) as file:
        if size > LONGEST_ROW:
            yield from row_blocks(file, dialect, record_range.uri, PenstockError, size)
        else:
            data = read_fully(file, size)
            if len(data) < size:
                raise _shorter(record_range.uri, size, len(data), PenstockError)
            yield RowBlock(data)


def row_blocks(
    file: Stream, dialect: Dialect, uri: str, error: type[PenstockError], size: int | None = None, head: bytes = b""
) -> Iterator[RowBlock]:
    """Splits what a file holds into blocks of whole rows.

    A row that is longer than LONGEST_ROW is no part of a block. One that would not end within that and the longest
    quoted field more ends with the line there, so that where it ends does not depend on what is read with it.

    Args:
      file: Stands where a row begins.
      dialect: How text is cut into fields.
      uri: The file's, for messages.
      error: What to raise.
      size: The bytes to read; None reads to the end.
      head: Bytes that were read before, and come first.

    Raises:
      PenstockError: `error`, if there are fewer bytes than `size`.
    """
    place = row = line = 0
    buffer = _Buffer(file, uri, error, size, head)
    while True:
        boundaries, long_end = _complete_rows(buffer, dialect)
        if long_end:
            length, lines = buffer.drop(long_end) if long_end > 0 else buffer.drop_line()
            yield RowBlock(b"", place, row, line, None, length, lines, file.position())
            place, row, line = place + length, row + 1, line + lines
        elif len(boundaries.ends):
            end = int(boundaries.ends[-1])
            data, buffer.content = buffer.content[:end], buffer.content[end:]
            yield RowBlock(data, place, row, line, boundaries, position=file.position())
            blank = boundaries.blank(np.frombuffer(data, np.uint8), dialect.skip_blanks)
            row += len(boundaries.ends) - (0 if blank is None else int(blank.sum()))
            place, line = place + end, line + int(np.searchsorted(boundaries.lines, end))
        elif buffer.at_end:
            return
        else:
            buffer.fill()


def fetch_range(record_range: RecordRange, reader: PartReader) -> FileParts | None:
    """The bytes of a range of a file that is not compressed; None of one that is read bit by bit.

    Raises:
      PenstockError: they cannot be read.
    """
    uri, begin, end = record_range.uri, record_range.begin, record_range.end
    return FileParts({begin: reader.read(uri, begin, end)}) if end - begin <= LONGEST_PART else None


def with_last_line(record_range: RecordRange) -> RecordRange:
    """A range with as many further bytes as the last of its lines most likely has, where it is cut by lines."""
    if not record_range.by_lines:
        return record_range
    return replace(record_range, end=min(record_range.file_end, record_range.end + _LINE))


def part_of(record_range: RecordRange, block: RowBlock) -> RecordRange:
    """A range whose first row and line are those of a block of it; -1 where they are not known."""
    first_row = record_range.first_row + block.row if record_range.first_row >= 0 else -1
    first_line = record_range.first_line + block.line if record_range.first_line >= 0 else -1
    return replace(record_range, first_row=first_row, first_line=first_line)


def read_too_long(record_range: RecordRange, block: RowBlock, schema: pa.Schema, number: int | None = None) -> Rows:
    """What there is of a row that is too long: a problem.

    Args:
      record_range: Has the row's line, and its number, unless that is `number`.
      block: The row.
      schema: The columns.
      number: What stands for its number.
    """
    number = record_range.first_row if number is None else number
    message = f"expected at most {LONGEST_ROW} bytes in a row, found {block.too_long}"
    where = f"{record_range.uri}, line {record_range.first_line}"
    if record_range.first_line < 0:
        where = f"{record_range.uri}, byte {number}"
    return collect_rows(
        record_range,
        pa.RecordBatch.from_pylist([], schema=schema),
        np.zeros(0, np.int64),
        {},
        {number: RowError("row_too_long", message)},
        lambda _: (where, None),
    )


class _Buffer:
    """What was read of a file and is not used yet."""

    def __init__(self, file: Stream, uri: str, error: type[PenstockError], size: int | None, head: bytes) -> None:
        self._file, self._uri, self._error, self._size = file, uri, error, size
        self._read = len(head)
        self.content = head
        self.at_end = self._read == size

    def fill(self) -> None:
        """Reads on: twice as much as waits, so that little is looked at often."""
        count = min(max(_BLOCK, len(self.content)), _most_known() + _BLOCK - len(self.content))
        if self._size is not None:
            count = min(count, self._size - self._read)
        more = read_fully(self._file, count)
        self._read += len(more)
        self.content += more
        if self._size is None:
            self.at_end = len(more) < count
        elif len(more) < count:
            raise _shorter(self._uri, self._size, self._read, self._error)
        else:
            self.at_end = self._read == self._size

    def drop(self, end: int) -> tuple[int, int]:
        """Drops a row, up to its known end; gives its bytes and lines."""
        dropped, self.content = self.content[:end], self.content[end:]
        return len(dropped), _count_lines(dropped)

    def drop_line(self) -> tuple[int, int]:
        """Drops a row that does not end, with the line in which it would have to; gives its bytes and lines."""
        length = lines = 0
        begin = _most_known()
        while (end := _end_of_line(self.content, begin, self.at_end)) < 0:
            dropped, counted = self.drop(len(self.content) - self.content.endswith(_CR))
            length, lines, begin = length + dropped, lines + counted, 0
            self.fill()
        dropped, counted = self.drop(end)
        return length + dropped, lines + counted


def _most_known() -> int:
    """How many bytes are looked at for a row's end: with them it is known what each quote in LONGEST_ROW belongs to."""
    return LONGEST_ROW + row_boundaries.LONGEST_FIELD


def _complete_rows(buffer: _Buffer, dialect: Dialect) -> tuple[RowBoundaries, int]:
    """The rows of the buffer that are complete, up to one that is too long.

    Returns:
      The rows; and, where the first one is too long, where it ends: -1 if that is not known.
    """
    content = buffer.content[: _most_known()]
    at_end = buffer.at_end and len(content) == len(buffer.content)
    data = np.frombuffer(content, np.uint8)
    if not at_end:  # whole lines: what stands before and after a quote is then in the buffer
        data = data[: max(content.rfind(_LF), content.rfind(_CR, 0, -1)) + 1]
    boundaries = row_boundaries.find_boundaries(data, dialect, at_end, whole_lines=True)
    if not len(boundaries.ends):
        return boundaries, -1 if len(content) < len(buffer.content) else 0
    long = np.flatnonzero(np.diff(boundaries.ends, prepend=0) > LONGEST_ROW)
    if not len(long):
        return boundaries, 0
    if not long[0]:
        return boundaries, int(boundaries.ends[0])
    return row_boundaries.find_boundaries(data[: boundaries.ends[long[0] - 1]], dialect), 0


def _end_of_line(content: bytes, begin: int, at_end: bool) -> int:
    """The position after the first line end from `begin` on; -1 where more must be read to tell."""
    places = [place for mark in (_LF, _CR) if (place := content.find(mark, begin)) >= 0]
    if not places:
        return len(content) if at_end else -1
    place = min(places)
    if content[place : place + 1] == _LF or at_end or place + 1 < len(content):
        return place + 1 + (content[place : place + 2] == _CR + _LF)
    return -1


def _count_lines(content: bytes) -> int:
    return content.count(_LF) + content.count(_CR) - content.count(_CR + _LF)


def _shorter(uri: str, expected: int, found: int, error: type[PenstockError]) -> PenstockError:
    return error(f"{uri}: expected {expected} bytes, found {found}; the file changed after it was listed: run again")
