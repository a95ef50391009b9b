"""Cuts a text file into ranges of whole rows, which can be read alone."""

from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from ..errors import PenstockError, RequestError
from ..storage.files import FileInfo
from .file_content import Stream, open_content, open_range, read_fully
from .listing import RecordRange
from .row_blocks import RowBlock, row_blocks
from .row_boundaries import Dialect, line_ends

READ_WHOLE = 128 << 20  # bytes of text that the launcher reads to find its rows, as it does to infer its types
_MOST_RANGES = 1 << 17  # of larger inputs
_BLOCK = 1 << 16  # bytes that are read to find a line's end


@dataclass(frozen=True)
class Cut:
    """A row's beginning: its byte, and how many rows and lines lie before it, counted from where the scan began."""

    place: int
    row: int
    line: int


def text_ranges(
    info: FileInfo, key: str, dialect: Dialect, range_bytes: int, total: int, begin: int = 0, first_line: int = 1
) -> list[RecordRange]:
    """The ranges of a text file, of about `range_bytes` each; nominal ones where the input is large.

    It depends on the input's bytes alone which ones they are: so shards are the same wherever they are made.

    Args:
      info: The file.
      key: Its path relative to the input.
      dialect: How text is cut into fields.
      range_bytes: A range's bytes.
      total: The bytes of all files of text that are read by ranges.
      begin: Where its first row begins.
      first_line: The line of that, from 1.

    Raises:
      RequestError: the file cannot be read, or became shorter.
    """
    if total > READ_WHOLE or not dialect.quoted_newlines:
        ranges = nominal_ranges(info, key, max(range_bytes, total // _MOST_RANGES), begin, first_line)
        return [replace(record_range, by_lines=not dialect.quoted_newlines) for record_range in ranges]
    parts = -(-(info.size - begin) // range_bytes)
    with open_content(info.uri, RequestError, begin) as file:
        cuts = scan(file, begin, info.size, parts, dialect, info.uri)
    return [
        RecordRange(
            uri=info.uri,
            key=key,
            begin=cut.place,
            end=after.place,
            first_row=cut.row,
            rows=after.row - cut.row,
            size=after.place - cut.place,
            first_line=first_line + cut.line,
        )
        for cut, after in pairwise(cuts)
        if after.row > cut.row
    ]


def nominal_ranges(
    info: FileInfo, key: str, range_bytes: int, begin: int = 0, first_line: int = 1
) -> list[RecordRange]:
    """The nominal ranges of a text file, whose content is not looked at.

    Args:
      info: The file.
      key: Its path relative to the input.
      range_bytes: A range's bytes, about.
      begin: Where its first row begins.
      first_line: The line of that, from 1.
    """
    size = info.size - begin
    parts = -(-size // range_bytes)
    bounds = [begin + size * part // parts for part in range(parts + 1)]
    return [
        RecordRange(
            uri=info.uri,
            key=key,
            begin=place,
            end=after,
            first_row=0 if place == begin else -1,
            rows=-1,
            size=after - place,
            first_line=first_line if place == begin else -1,
            file_begin=begin,
            file_end=info.size,
        )
        for place, after in pairwise(bounds)
    ]


def whole_lines(record_range: RecordRange) -> RecordRange | None:
    """A range with the lines that are its own, if any; where one begins is looked for at its two ends.

    Raises:
      PenstockError: the file cannot be read.
    """
    if not record_range.by_lines:
        return record_range
    begin, end = record_range.begin, record_range.end
    if begin > record_range.file_begin:
        begin = _next_line(record_range, begin)
    if end < record_range.file_end:
        end = _next_line(record_range, end)
    if begin == end:
        return None
    return replace(record_range, begin=begin, end=end, size=end - begin, by_lines=False, file_begin=-1, file_end=-1)


def _next_line(record_range: RecordRange, place: int) -> int:
    """Where the first line begins after a byte; the file's end where none does."""
    stop = min(place + _BLOCK, record_range.file_end)
    with open_range(record_range.uri, PenstockError, place, stop, record_range.parts) as file:
        data = b""
        while place < record_range.file_end:
            data += read_fully(file, min(_BLOCK, record_range.file_end - place - len(data)))
            at_end = place + len(data) >= record_range.file_end
            ends = line_ends(np.frombuffer(data, np.uint8), at_end)
            if len(ends):
                return place + int(ends[0]) + 1
            if at_end:
                break
            kept = data.endswith(b"\r")
            place, data = place + len(data) - kept, data[len(data) - kept :]
    return record_range.file_end


def scan(file: Stream, begin: int, end: int, parts: int, dialect: Dialect, uri: str) -> list[Cut]:
    """Cuts the bytes from `begin` to `end`, which begin with a row, into about `parts` even ranges of whole rows.

    Args:
      file: Stands at `begin`.
      begin: Where a row begins.
      end: Where the last one ends.
      parts: About how many ranges.
      dialect: How text is cut into fields.
      uri: The file's, for messages.

    Returns:
      Where each range begins, and last where the last one ends. A range of blank lines alone holds no row.

    Raises:
      RequestError: the file became shorter.
    """
    targets = np.array([begin + (end - begin) * part // parts for part in range(1, parts)], np.int64)
    cuts = [Cut(begin, 0, 0)]
    last = cuts[0]
    for block in row_blocks(file, dialect, uri, RequestError, end - begin):
        place = begin + block.place
        ends, rows = rows_before(block, dialect)
        inside = targets[(targets >= place) & (targets < place + ends[-1])] - place
        chosen = np.unique(np.append(np.searchsorted(ends, inside, "right") - 1, len(ends) - 1))
        lines = np.searchsorted(block.boundaries.lines, ends[chosen]) if block.boundaries else chosen * block.lines
        *here, last = [
            Cut(place + int(at), block.row + int(rows_before), block.line + int(lines_before))
            for at, rows_before, lines_before in zip(ends[chosen], rows[chosen], lines, strict=True)
        ]
        cuts += here
    return [*cuts, Cut(end, last.row, last.line)]


def rows_before(block: RowBlock, dialect: Dialect) -> tuple[np.ndarray, np.ndarray]:
    """Where a block's rows begin and its last one ends; and how many rows, without blank lines, lie before that."""
    if block.boundaries is None:
        return np.array([0, block.too_long]), np.arange(2)
    ends = np.concatenate([np.zeros(1, np.int64), block.boundaries.ends])
    blank = block.boundaries.blank(np.frombuffer(block.data, np.uint8), dialect.skip_blanks)
    return ends, np.arange(len(ends)) if blank is None else np.concatenate([[0], np.cumsum(~blank)])
