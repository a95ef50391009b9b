"""Where the rows of a delimited file begin, found by many workers: each scans a range of its bytes alone.

Whether a line end in a range ends a row depends on what lies before the range: a quoted field may reach into it. Of
that, little matters: at which byte the reader takes up again. It is the range's own beginning; or the byte after the
quote that closes a field, which is one of two (the range may begin between the quotes of a doubled one); or the first
line end, where an unclosed quote's row ends. So a range is scanned for each of these **entries**, and each scan tells
where the reader leaves the range, which is the next one's entry: `resolve` follows them from a file's beginning, and
comes out where a reader of the whole file does. A quote near a range's end is followed beyond it as far as it takes.
"""

import bisect
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from ..errors import PenstockError
from . import row_blocks, row_boundaries
from .file_content import FileParts, PartReader, open_content, read_in_pieces
from .listing import RecordRange
from .row_boundaries import Dialect
from .text_ranges import rows_before

LINE_END = -1  # an entry: the first line end from the range's beginning on, wherever that is
_BEHIND, _AHEAD = 64, 1 << 16  # bytes that are read before and after a range, to begin with
_MORE = 16  # times as many, where these do not tell
_LF, _CR = 10, 13


@dataclass(frozen=True)
class Outcome:
    """What a reader that enters a range in one way finds in it.

    Attributes:
      entry: The byte at which it takes up, or LINE_END.
      exit: The byte at which it takes up after the range, or LINE_END.
      first: Where the first row begins that begins in the range; -1: none does.
      last: Where the last one begins.
      rows: How many begin in it, without blank lines.
      lines: How many line ends lie between the range's beginning and `first`.
      longest: The bytes of the longest row that begins and ends in it.
    """

    entry: int
    exit: int
    first: int = -1
    last: int = -1
    rows: int = 0
    lines: int = 0
    longest: int = 0


@dataclass(frozen=True)
class RangeScan:
    """What a range holds, whatever lies before it.

    Attributes:
      lines: How many line ends it holds.
      outcomes: One for each entry that lies in it, the one at its beginning first. From others no row begins in it.
    """

    lines: int
    outcomes: tuple[Outcome, ...]

    def enter(self, state: int, record_range: RecordRange) -> Outcome:
        """What a reader of the range finds that takes up at `state`, a byte or LINE_END.

        Raises:
          PenstockError: no such entry was scanned: the file changed.
        """
        entry = state if state == LINE_END else max(state, record_range.begin)
        if entry >= record_range.end:
            return Outcome(entry, entry)
        for outcome in self.outcomes:
            if outcome.entry == entry:
                return outcome
        if entry == LINE_END:
            return Outcome(entry, entry)
        raise PenstockError(
            f"{record_range.uri}: expected the content that was scanned before, found other quotes around byte "
            f"{entry}; the file changed after it was listed: run again"
        )


def scan_range(record_range: RecordRange, dialect: Dialect) -> RangeScan:
    """Scans a nominal range.

    Raises:
      PenstockError: the file cannot be read, or became shorter.
    """
    window, traces = _follow_entries(record_range, dialect)
    lines = window.lines_before(window.end) - window.lines_before(window.begin)
    return RangeScan(lines, tuple(map(window.outcome, traces)))


def sample_range(record_range: RecordRange, dialect: Dialect) -> RecordRange | None:
    """Rows of a nominal range that are rows however it is entered; their numbers and lines are not known.

    That all of the range is inside one quoted field, without any quote, is taken for impossible.

    Returns:
      A range of whole rows; None where none is certain.

    Raises:
      PenstockError: the file cannot be read, or became shorter.
    """
    window, traces = _follow_entries(record_range, dialect)
    starts, *others = (trace.starts for trace in traces)
    for other in others:
        length = min(len(starts), len(other))
        starts, other = starts[len(starts) - length :], other[len(other) - length :]
        differ = np.flatnonzero(starts != other)
        starts = starts[differ[-1] + 1 if len(differ) else 0 :]
    if len(starts) < 2:
        return None
    begin, end = int(starts[0]) + window.base, int(starts[-1]) + window.base
    return replace(record_range, begin=begin, end=end, size=end - begin, file_begin=-1, file_end=-1)


def resolve(
    ranges: Sequence[RecordRange], scans: Sequence[RangeScan], dialect: Dialect, complete: bool = True
) -> list[RecordRange]:
    """Nominal ranges of one file, from its beginning on, with the rows that begin between their bounds.

    Args:
      ranges: The ranges.
      scans: What each of them holds.
      dialect: How the file's text is cut into fields.
      complete: Whether these are all ranges of the file; else the last one that has rows is not given.

    Returns:
      The ranges in which rows begin; blank lines are none.

    Raises:
      PenstockError: the file must be read once more and cannot be, or it changed meanwhile.
    """
    starts = _compose(ranges, scans) or _read_starts(ranges, dialect)
    if not complete:
        starts.pop()
    resolved = [
        replace(
            ranges[start.number],
            begin=start.place,
            end=after.place,
            first_row=start.row,
            rows=after.row - start.row,
            size=after.place - start.place,
            first_line=start.line,
            file_begin=-1,
            file_end=-1,
        )
        for start, after in pairwise(starts)
    ]
    return [record_range for record_range in resolved if record_range.rows]


@dataclass(frozen=True)
class _Start:
    """Where a range's first row begins: the range, the byte, and how many rows and lines lie before it."""

    number: int
    place: int
    row: int
    line: int


def _compose(ranges: Sequence[RecordRange], scans: Sequence[RangeScan]) -> list[_Start]:
    """Where the ranges' rows begin, and last where the last one ends; none where a row is so long that it is cut."""
    starts: list[_Start] = []
    state = open_row = ranges[0].begin
    row, line = 0, ranges[0].first_line
    for number, (record_range, scan) in enumerate(zip(ranges, scans, strict=True)):
        outcome = scan.enter(state, record_range)
        lengths = [outcome.longest, record_range.end - open_row]
        if outcome.first >= 0:
            starts.append(_Start(number, outcome.first, row, line + outcome.lines))
            lengths[1:] = outcome.first - open_row, record_range.end - outcome.last
            open_row = outcome.last
        if max(lengths) > row_blocks.LONGEST_ROW:
            return []
        row, line, state = row + outcome.rows, line + scan.lines, outcome.exit
    return [*starts, _Start(len(ranges), ranges[-1].end, row, line)]


def _read_starts(ranges: Sequence[RecordRange], dialect: Dialect) -> list[_Start]:
    """What `_compose` gives, by one reader from the file's beginning on, which knows where too long rows are cut."""
    first = ranges[0]
    bounds = np.array([record_range.begin for record_range in ranges])
    starts: list[_Start] = []
    row = line = 0
    with open_content(first.uri, PenstockError, first.file_begin) as file:
        size = first.file_end - first.file_begin
        for block in row_blocks.row_blocks(file, dialect, first.uri, PenstockError, size):
            ends, rows = rows_before(block, dialect)
            places = first.file_begin + block.place + ends
            numbers = np.searchsorted(bounds, places[:-1], "right") - 1
            lines = np.searchsorted(block.boundaries.lines, ends) if block.boundaries else np.array([0, block.lines])
            for number, at in zip(*np.unique(numbers, return_index=True), strict=True):
                if places[at] >= ranges[-1].end:
                    break
                if not starts or starts[-1].number != number:
                    place = _Start(
                        int(number), int(places[at]), block.row + int(rows[at]), first.first_line + block.line
                    )
                    starts.append(replace(place, line=place.line + int(lines[at])))
            row, line = block.row + int(rows[-1]), first.first_line + block.line + int(lines[-1])
            if places[-1] >= ranges[-1].end:
                break
    return [*starts, _Start(len(ranges), ranges[-1].end, row, line)]


@dataclass(frozen=True)
class _Trace:
    """One way through a window.

    Attributes:
      entry: Where it begins: a position in the window, or LINE_END.
      exit: Where it leaves the range: a position, or LINE_END.
      starts: Where rows begin in the range: int64, ascending.
      rows: How many of these are no blank lines.
    """

    entry: int
    exit: int
    starts: np.ndarray
    rows: int


@dataclass(frozen=True)
class _Path:
    """How quotes are understood from one of them on.

    Attributes:
      spans: The first and the last quote of each quoted field: int64 [fields, 2].
      exit: Where it leaves the range: a position, or LINE_END.
      looked_at: Quotes, outside of fields, at which it was asked whether they open one: ascending positions.
    """

    spans: np.ndarray
    exit: int
    looked_at: Sequence[int] | np.ndarray


class _NotKnownError(Exception):
    """A window ends too early to tell."""


def _follow_entries(record_range: RecordRange, dialect: Dialect) -> "tuple[_Window, list[_Trace]]":
    """A range's bytes with as much around them as is needed, and the way from each entry."""
    behind, ahead = _BEHIND, _AHEAD
    while True:
        window = _read_window(record_range, dialect, behind, ahead)
        if not window.knows_before:
            behind *= _MORE
            continue
        try:
            return window, window.traces()
        except _NotKnownError:
            ahead *= _MORE


def fetch_window(record_range: RecordRange, reader: PartReader) -> RecordRange:
    """A nominal range with the bytes that it mostly takes to scan it.

    Raises:
      PenstockError: the file cannot be read.
    """
    base, stop = _window_bounds(record_range, _BEHIND, _AHEAD)
    return replace(record_range, parts=FileParts({base: reader.read(record_range.uri, base, stop)}))


def _window_bounds(record_range: RecordRange, behind: int, ahead: int) -> tuple[int, int]:
    base = max(record_range.file_begin, record_range.begin - behind)
    return base, min(record_range.file_end, record_range.end + ahead)


def _read_window(record_range: RecordRange, dialect: Dialect, behind: int, ahead: int) -> "_Window":
    base, stop = _window_bounds(record_range, behind, ahead)
    content = record_range.parts.read(base, stop - base) if record_range.parts else b""
    try:
        if len(content) < stop - base:
            content = read_in_pieces(record_range.uri, base, stop)
    except OSError as error:
        raise PenstockError(
            f"{record_range.uri}: expected {stop - base} bytes from byte {base} on, found: {error}; if the file "
            "changed after it was listed, run again"
        ) from error
    return _Window(content, base, record_range, dialect)


class _Window:
    """The bytes of a range, and some before and after it; positions are counted from their beginning.

    Attributes:
      base: Where they begin in the file.
      begin: Where the range begins.
      end: Where it ends.
      knows_before: Whether what is before the range is enough to tell whether its first byte is escaped, or follows
        blanks at a field's beginning.
    """

    def __init__(self, content: bytes, base: int, record_range: RecordRange, dialect: Dialect) -> None:
        self.base = base
        self.begin, self.end = record_range.begin - base, record_range.end - base
        self._dialect = dialect
        self._at_end = base + len(content) == record_range.file_end
        self._blanks = tuple(blank for blank in b" \t" if dialect.strip and blank != dialect.delimiter)
        self._boundary = (dialect.delimiter, _LF, _CR)
        escape = b"" if dialect.escape is None else bytes([dialect.escape])
        before = content[: self.begin].lstrip(escape)[1:] if escape else content[: self.begin]
        self.knows_before = base == record_range.file_begin or bool(before.strip(bytes(self._blanks) + escape))
        data = np.frombuffer(content, np.uint8)
        self._lines = self._line_ends = row_boundaries.line_ends(data, self._at_end)
        if dialect.escape is not None and len(escaped := row_boundaries.escaped_bytes(data, dialect.escape)):
            data = row_boundaries.mask_escaped(data, escaped, dialect)
            self._line_ends = row_boundaries.line_ends(data, self._at_end)
        self._data, self._content = data, data.tobytes()
        self._quotes = np.flatnonzero(data == dialect.quote) if dialect.quote is not None else self._lines[:0]

    def lines_before(self, position: int) -> int:
        """How many line ends lie before a position."""
        return int(np.searchsorted(self._lines, position))

    def outcome(self, trace: _Trace) -> Outcome:
        """What a trace finds, with places in the file."""
        entry, leaves = (place if place == LINE_END else place + self.base for place in (trace.entry, trace.exit))
        if not len(trace.starts):
            return Outcome(entry, leaves)
        first, last = int(trace.starts[0]), int(trace.starts[-1])
        lines = self.lines_before(first) - self.lines_before(self.begin)
        longest = int(np.diff(trace.starts).max(initial=0))
        return Outcome(entry, leaves, first + self.base, last + self.base, trace.rows, lines, longest)

    def traces(self) -> list[_Trace]:
        """The way from each entry that lies in the range; from the range's beginning first.

        Raises:
          _NotKnownError: the window ends too early.
        """
        index = int(np.searchsorted(self._quotes, self.begin))
        path = self._well_formed_path(index) or self._follow(index)
        traces = [self._trace(self.begin, self.begin - 1, path)]
        if self._dialect.quote is None:
            return traces
        closing = {self._closing(index)}
        if self._content[self.begin] == self._dialect.quote:
            closing.add(self._closing(index + 1))
        for last in sorted(closing):
            if last < len(self._quotes) and (entry := int(self._quotes[last]) + 1) < self.end:
                traces.append(self._trace(entry, entry, self._follow(last + 1, path)))
        line = int(np.searchsorted(self._line_ends, self.begin))
        if line < len(self._line_ends) and (place := int(self._line_ends[line])) < self.end:
            index = int(np.searchsorted(self._quotes, place))
            traces.append(self._trace(LINE_END, place, self._follow(index, path)))
        return traces

    def _trace(self, entry: int, least: int, path: _Path) -> _Trace:
        """The rows that line ends from `least` on begin, where these are not in quoted fields."""
        begin, end = np.searchsorted(self._line_ends, [least, self.end - 1])
        ends = self._line_ends[begin:end]
        if len(path.spans):
            span = np.searchsorted(path.spans[:, 0], ends, "right") - 1
            ends = ends[(span < 0) | (ends > path.spans[np.maximum(span, 0), 1])]
        starts = ends + 1
        if not self.begin:  # of the file
            starts = np.append(0, starts)
        return _Trace(entry, path.exit, starts, self._count_filled(starts))

    def _count_filled(self, starts: np.ndarray) -> int:
        """How many rows are no blank lines: their first byte, or the first one that is no blank, tells."""
        first = self._data[starts]
        blank = (first == _LF) | (first == _CR)
        if self._dialect.skip_blanks:
            for row in np.flatnonzero((first == ord(" ")) | (first == ord("\t"))).tolist():
                place = int(starts[row])
                while place < len(self._content) and self._content[place] in b" \t":
                    place += 1
                if place == len(self._content) and not self._at_end:
                    raise _NotKnownError
                blank[row] = self._content[place : place + 1] in (b"", b"\n", b"\r")
        return int(np.count_nonzero(~blank))

    def _closing(self, index: int) -> int:
        """The quote that closes a field whose text begins before quote `index`: the first that is not doubled."""
        quotes, count = self._quotes.data, len(self._quotes)
        while index + 1 < count and quotes[index + 1] == quotes[index] + 1:
            index += 2
        return index

    def _well_formed_path(self, index: int) -> _Path | None:
        """The path from quote `index` on where quotes open fields at their beginnings and close them at their ends."""
        quotes, data = self._quotes, self._data
        while index < len(quotes) and quotes[index] < self.end and not self._opens(int(quotes[index])):
            index += 1
        opens, closes = quotes[index::2], quotes[index + 1 :: 2]
        count = int(np.searchsorted(opens, self.end))
        while 0 < count < len(opens) and opens[count] == closes[count - 1] + 1:
            count += 1
        if count > len(closes):
            return None
        opens, closes = opens[:count], closes[:count]
        if count and closes[-1] == len(data) - 1 and not self._at_end:
            return None
        doubled = np.append(False, closes[:-1] == opens[1:] - 1)[:count]
        begins = (opens == 0) | np.isin(data[opens - 1], self._boundary)
        followed = np.append(doubled[1:], False)[:count]
        ends = (closes == len(data) - 1) | np.isin(data[np.minimum(closes + 1, len(data) - 1)], self._boundary)
        spans = np.stack([opens[~doubled], closes[~followed]], 1)
        lengths = spans[:, 1] - spans[:, 0]
        if not ((begins | doubled).all() and (ends | followed).all() and (lengths <= _longest_field()).all()):
            return None
        leaves = max(self.end, int(spans[-1, 1]) + 1) if count else self.end
        return _Path(spans, leaves, spans[:, 0])

    def _follow(self, index: int, known: _Path | None = None) -> _Path:
        """The path from quote `index` on, quote by quote, as `row_boundaries` says; it may join a known one.

        Raises:
          _NotKnownError: the window ends too early.
        """
        quotes, lines, looked_at = self._quotes.data, self._line_ends.data, [] if known is None else known.looked_at
        passed: list[int] = []
        spans: list[tuple[int, int]] = []
        leaves = self.end
        while index < len(quotes) and (begin := quotes[index]) < self.end:
            at = bisect.bisect_left(looked_at, begin)
            if known is not None and at < len(looked_at) and looked_at[at] == begin:
                further = known.spans[np.searchsorted(known.spans[:, 0], begin) :]
                return _Path(np.concatenate([_as_spans(spans), further]), known.exit, passed)
            passed.append(begin)
            if not self._opens(begin):
                index += 1
                continue
            last = self._closing(index + 1)
            place = quotes[last] if last < len(quotes) else len(self._content)
            closes = last < len(quotes) and place - begin <= _longest_field()
            if place >= len(self._content) - 1 and not self._at_end and place - begin <= _longest_field():
                raise _NotKnownError
            line = bisect.bisect(lines, begin)
            stop = lines[line] if line < len(lines) else len(self._content)
            if closes and (place < stop or self._closes(place)):
                spans.append((begin, place))
                leaves = max(self.end, place + 1)
                index = last + 1
            elif stop >= self.end:
                leaves = LINE_END
                break
            else:
                index = bisect.bisect(quotes, stop)
        return _Path(_as_spans(spans), leaves, passed)

    def _opens(self, place: int) -> bool:
        """Whether a quote outside of quoted fields stands where one begins."""
        place -= 1
        while place >= 0 and self._content[place] in self._blanks:
            place -= 1
        return place < 0 or self._content[place] in self._boundary

    def _closes(self, place: int) -> bool:
        """Whether a field may end with a quote; raises _NotKnownError where the window ends too early."""
        place += 1
        while place < len(self._content) and self._content[place] in self._blanks:
            place += 1
        if place == len(self._content) and not self._at_end:
            raise _NotKnownError
        return place == len(self._content) or self._content[place] in self._boundary


def _as_spans(spans: list[tuple[int, int]]) -> np.ndarray:
    return np.array(spans, np.int64).reshape(-1, 2)


def _longest_field() -> int:
    return row_boundaries.LONGEST_FIELD
