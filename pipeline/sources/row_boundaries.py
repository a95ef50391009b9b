"""Where the rows of delimited text end, though quoted fields hold newlines.

A quote opens a field only as its first byte (after blanks, where blanks are stripped); elsewhere it is text. A doubled
quote inside a quoted field is a quote. A quote is **unclosed** if no other follows, or if the one that would close it
is on another line and text follows it, or is more than 16 MiB away: then its row ends with its line, and the next line
is a row again. So a stray quote costs a row, not the rest of the file. Text after a closing quote on the same line is
**trailing**: what the field holds is anyone's guess. A byte after an escape is text, whatever it is.

Well-formed text, which is nearly all there is, is split with a few NumPy operations; the rest quote by quote.
"""

import bisect
from dataclasses import dataclass, field, replace

import numpy as np

_LF, _CR, _BLANKS = 10, 13, (32, 9)
LONGEST_FIELD = 16 << 20


@dataclass(frozen=True)
class Dialect:
    """How text is cut into fields.

    Attributes:
      delimiter: The byte between them.
      quote: The byte around those that hold delimiters or line ends; None: there is none.
      strip: Whether blanks around them do not count.
      skip_blanks: Whether a line of blanks alone is no row, as an empty one is none.
      escape: The byte before one that is to be text; None: there is none.
      quoted_newlines: Whether a line end may be in a quoted field, or escaped; else each one ends a row.
    """

    delimiter: int
    quote: int | None
    strip: bool
    skip_blanks: bool = False
    escape: int | None = None
    quoted_newlines: bool = True

    @property
    def letter(self) -> int:
        """A byte that is text wherever it stands."""
        return next(byte for byte in b"abcd" if byte not in (self.delimiter, self.quote, self.escape))


@dataclass
class RowBoundaries:
    """Rows of a buffer that begins with a row.

    Attributes:
      ends: For each row, blank ones included, the position after its line end.
      lines: Positions of the last byte of every line end, those in quoted fields included.
      unclosed: Rows, by position in `ends`, that hold an unclosed quote, or an escape at the end of the file.
      trailing: Rows that hold text after a closing quote.
      blanks: (begin, end) of blanks before an opening quote, which a parser must not see.
      well_formed: Whether a plain parser reads it the same way.
    """

    ends: np.ndarray
    lines: np.ndarray
    unclosed: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    trailing: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    blanks: list[tuple[int, int]] = field(default_factory=list)
    well_formed: bool = True

    @property
    def starts(self) -> np.ndarray:
        """For each row, the position of its first byte."""
        return np.concatenate([np.zeros(1, np.int64), self.ends[:-1]])[: len(self.ends)]

    def filled(self, data: np.ndarray, skip_blanks: bool = False) -> np.ndarray:
        """The positions of the rows that are no blank lines; see `blank`."""
        blank = self.blank(data, skip_blanks)
        return np.arange(len(self.ends)) if blank is None else np.flatnonzero(~blank)

    def blank(self, data: np.ndarray, skip_blanks: bool = False) -> np.ndarray | None:
        """Which rows are blank lines, those of blanks alone too if `skip_blanks`; None where none is."""
        lengths = np.diff(self.ends, prepend=0)
        if not len(lengths) or (lengths.min() > 2 and not skip_blanks):
            return None
        last, before = data[self.ends - 1], data[np.maximum(self.ends - 2, 0)]
        ended = (last == _LF) | (last == _CR)
        blank: np.ndarray = (ended & (lengths == 1)) | ((last == _LF) & (before == _CR) & (lengths == 2))
        if skip_blanks:
            for row in np.flatnonzero(np.isin(data[self.starts], _BLANKS)):
                blank[row] = not data[self.starts[row] : self.ends[row]].tobytes().strip(b" \t\r\n")
        return blank if blank.any() else None


def find_boundaries(
    data: np.ndarray, dialect: Dialect, at_end: bool = True, whole_lines: bool = False
) -> RowBoundaries:
    """Splits a buffer that begins with a row into rows.

    Args:
      data: Bytes as uint8.
      dialect: How fields are cut.
      at_end: Whether the buffer's end ends the last row; else an unfinished row is left out.
      whole_lines: Whether the buffer's end is known to end a line, even if it is a CR.
    """
    if dialect.escape is not None and len(escaped := escaped_bytes(data, dialect.escape)):
        masked, lines = mask_escaped(data, escaped, dialect), line_ends(data, at_end or whole_lines)
        if not dialect.quoted_newlines:
            masked[lines] = _LF
        found = find_boundaries(masked, replace(dialect, escape=None), at_end, whole_lines)
        if escaped[-1] == len(data) and at_end:
            found = replace(found, unclosed=np.union1d(found.unclosed, len(found.ends) - 1), well_formed=False)
        if not dialect.quoted_newlines and len(ended := np.intersect1d(escaped, _line_begins(data, lines))):
            rows = np.searchsorted(found.ends, ended, "right")
            found = replace(found, unclosed=np.union1d(found.unclosed, rows[rows < len(found.ends)]), well_formed=False)
        return replace(found, lines=lines)
    lines = line_ends(data, at_end or whole_lines)
    quotes = np.flatnonzero(data == dialect.quote) if dialect.quote is not None else lines[:0]
    if not len(quotes):
        return RowBoundaries(_finish(lines + 1, data, at_end), lines)
    if _well_formed(data, quotes, dialect):
        outside = np.searchsorted(quotes, lines) % 2 == 0
        if not dialect.quoted_newlines and (not outside.all() or len(quotes) % 2):
            return _find_by_quotes(data, quotes, lines, dialect, at_end)
        if len(quotes) % 2 == 0:
            return RowBoundaries(_finish(lines[outside] + 1, data, at_end), lines)
        if not at_end and len(data) <= LONGEST_FIELD:  # the last quoted field goes on after the buffer
            return RowBoundaries(lines[outside] + 1, lines)
    return _find_by_quotes(data, quotes, lines, dialect, at_end)


def escaped_bytes(data: np.ndarray, escape: int) -> np.ndarray:
    """Positions of the bytes after an escape that is not itself escaped: int64, ascending; len(data) if the last is."""
    escapes = np.flatnonzero(data == escape)
    if not len(escapes):
        return escapes
    first = np.append(True, np.diff(escapes) > 1)  # of those that follow each other, every other one escapes
    position = np.arange(len(escapes)) - np.flatnonzero(first)[np.cumsum(first) - 1]
    escaped: np.ndarray = escapes[position % 2 == 0] + 1
    return escaped


def mask_escaped(data: np.ndarray, escaped: np.ndarray, dialect: Dialect) -> np.ndarray:
    """The bytes with a letter for each one that is escaped, at the positions `escaped`, and for what escapes it."""
    masked = data.copy()
    masked[escaped - 1] = masked[escaped[escaped < len(data)]] = dialect.letter
    return masked


def _line_begins(data: np.ndarray, lines: np.ndarray) -> np.ndarray:
    """Positions of the first byte of every line end."""
    begins: np.ndarray = lines - ((data[lines] == _LF) & (data[lines - 1] == _CR) & (lines > 0))
    return begins


def line_ends(data: np.ndarray, at_end: bool) -> np.ndarray:
    """Positions of the last byte of every line end: LF, CR or CRLF; int64, ascending.

    Args:
      data: Bytes as uint8.
      at_end: Whether a CR in the last byte is known to be one; else it is not given.
    """
    lines = np.flatnonzero(data == _LF)
    returns = np.flatnonzero(data == _CR)
    if len(returns):
        after = data[np.minimum(returns + 1, len(data) - 1)]
        lone = returns[(after != _LF) & (at_end | (returns + 1 < len(data)))]
        if len(lone):
            lines = np.sort(np.concatenate([lines, lone]))
    return lines


def _finish(ends: np.ndarray, data: np.ndarray, at_end: bool) -> np.ndarray:
    if at_end and len(data) and (not len(ends) or ends[-1] < len(data)):
        return np.append(ends, len(data))
    return ends


def _well_formed(data: np.ndarray, quotes: np.ndarray, dialect: Dialect) -> bool:
    """Whether quotes open only where a field begins, and close only where it ends."""
    opens, closes = quotes[::2], quotes[1::2]
    before = data[opens - 1]  # for a quote at 0 the last byte, which the next line passes over
    begins = (before == dialect.delimiter) | (before == _LF) | (before == _CR) | (opens == 0)
    doubled = np.zeros(len(opens), bool)
    doubled[1:] = closes[: len(opens) - 1] == opens[1:] - 1
    if not (begins | doubled).all():
        return False
    after = data[np.minimum(closes + 1, len(data) - 1)]
    ends = (after == dialect.delimiter) | (after == _LF) | (after == _CR) | (closes == len(data) - 1)
    followed = np.zeros(len(closes), bool)
    followed[: len(opens) - 1] = doubled[1 : len(closes) + 1]
    if not (ends | followed).all():
        return False
    if len(data) <= LONGEST_FIELD:
        return True
    first, last = opens[~doubled], closes[~followed]
    return bool((last - first[: len(last)] <= LONGEST_FIELD).all())


def _find_by_quotes(
    data: np.ndarray, quotes: np.ndarray, lines: np.ndarray, dialect: Dialect, at_end: bool
) -> RowBoundaries:
    """Splits quote by quote."""
    content, places, line_ends, count = data.tobytes(), quotes.data, lines.data, len(quotes)
    blanks_known = tuple(blank for blank in _BLANKS if dialect.strip and blank != dialect.delimiter)
    boundary = (dialect.delimiter, _LF, _CR)
    spans: list[tuple[int, int]] = []
    unclosed: list[int] = []
    trailing: list[int] = []
    blanks: list[tuple[int, int]] = []
    unfinished = len(content) + 1
    index = 0
    while index < count:
        begin = places[index]
        before = begin - 1
        while before >= 0 and content[before] in blanks_known:
            before -= 1
        if before >= 0 and content[before] not in boundary:
            index += 1
            continue
        last = index + 1
        while last + 1 < count and places[last + 1] == places[last] + 1:
            last += 2
        line = bisect.bisect(line_ends, begin)
        stop = line_ends[line] if line < len(line_ends) else len(content)
        ends_here = last < count and (dialect.quoted_newlines or places[last] < stop)
        is_cut = len(content) - begin <= LONGEST_FIELD if dialect.quoted_newlines else stop == len(content)
        if not ends_here and is_cut and not at_end:
            unfinished = begin
            break
        closes = ends_here and _closes(content, places[last], boundary, blanks_known)
        if not ends_here or places[last] - begin > LONGEST_FIELD or (places[last] > stop and not closes):
            unclosed.append(begin)
            index = bisect.bisect(places, stop)
            continue
        if not closes:
            trailing.append(begin)
        if before + 1 < begin:
            blanks.append((before + 1, begin))
        spans.append((begin, places[last]))
        index = last + 1
    outside = np.ones(len(lines), bool)
    if spans:
        first, end = np.array(spans, np.int64).T
        span = np.searchsorted(first, lines, "right") - 1
        outside = (span < 0) | (lines > end[np.maximum(span, 0)])
    ends = _finish(lines[outside & (lines < unfinished)] + 1, data, at_end)

    def rows_of(positions: list[int]) -> np.ndarray:
        return np.unique(np.searchsorted(ends, np.array(positions, np.int64), "right"))

    return RowBoundaries(ends, lines, rows_of(unclosed), rows_of(trailing), blanks, well_formed=False)


def _closes(content: bytes, place: int, boundary: tuple[int, ...], blanks: tuple[int, ...]) -> bool:
    after = place + 1
    while after < len(content) and content[after] in blanks:
        after += 1
    return after >= len(content) or content[after] in boundary
