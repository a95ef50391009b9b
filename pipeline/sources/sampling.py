"""What of an input is looked at to infer types: all of it where that is cheap, else parts from all over it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from .file_content import compression
from .listing import RecordRange
from .row_boundaries import Dialect
from .row_scan import sample_range

LOOKED_AT = 128 << 20  # bytes: a second or two
_STREAM = 32 << 20  # bytes of what a compressed file holds: nothing further on can be read alone
_HEAD = 16 << 10  # bytes of a file's beginning, where there are so many that no more can be looked at
_JOINED = 1 << 20  # bytes of ranges that are looked at together
_SWELL = 4  # text is about so many times as large as the file that it is compressed into


@dataclass(frozen=True)
class Excerpt:
    """A part of an input.

    Attributes:
      record_range: Where it is.
      size: How many bytes of the range to look at, about; of a compressed file, of what it holds.
      is_cut: Whether it may end inside a row.
    """

    record_range: RecordRange
    size: int
    is_cut: bool = False


def choose_excerpts(ranges: Sequence[RecordRange], limit: int | None = None) -> list[Excerpt]:
    """What to look at: all ranges; or the beginning of every file, and whole ranges evenly from all over the input.

    Args:
      ranges: All ranges, by file and then by position.
      limit: About how many bytes to look at; None: LOOKED_AT.
    """
    limit = LOOKED_AT if limit is None else limit
    ranges = _join_small(ranges)
    if sum(_text_size(each) for each in ranges) <= limit:
        return [Excerpt(each, _STREAM if compression(each.uri) else each.size) for each in ranges]
    seen: set[str] = set()
    firsts: list[RecordRange] = []
    others: list[RecordRange] = []
    for each in ranges:
        (others if each.uri in seen else firsts).append(each)
        seen.add(each.uri)
    head = max(_HEAD, limit // 2 // len(firsts))
    chosen = {id(each): _begin(each, head) for each in firsts}
    left = limit - sum(excerpt.size for excerpt in chosen.values())
    if others and left > 0:
        count = min(len(others), max(1, left * len(others) // max(1, sum(each.size for each in others))))
        picked = [others[at * len(others) // count] for at in range(count)]
        chosen |= {id(each): Excerpt(each, each.size) for each in picked}
    return [chosen[id(each)] for each in ranges if id(each) in chosen]


def together(excerpts: Sequence[Excerpt], size: int) -> list[list[Excerpt]]:
    """Excerpts that follow each other, in groups of about so many bytes."""
    groups: list[list[Excerpt]] = []
    left = 0
    for excerpt in excerpts:
        if left <= 0:
            groups.append([])
            left = size
        groups[-1].append(excerpt)
        left -= excerpt.size
    return groups


def whole_rows(excerpt: Excerpt, dialect: Dialect) -> tuple[Excerpt, str]:
    """An excerpt of a text file that begins with a row, and what its place is called.

    Of a nominal range that is not its file's first one, that is what surely are rows; nothing where nothing is sure.

    Raises:
      PenstockError: the file cannot be read, or became shorter.
    """
    record_range = excerpt.record_range
    if record_range.by_lines and record_range.begin > record_range.file_begin:
        return replace(excerpt, record_range=replace(record_range, first_line=1)), (
            f"{record_range.uri}, after byte {record_range.begin}"
        )
    if not record_range.is_nominal:
        return excerpt, record_range.uri
    if record_range.begin == record_range.file_begin:
        return replace(
            excerpt, record_range=replace(record_range, file_begin=-1, file_end=-1), is_cut=True
        ), record_range.uri
    rows = sample_range(record_range, dialect)
    if rows is None:
        rows = replace(record_range, end=record_range.begin, size=0, file_begin=-1, file_end=-1)
    return Excerpt(replace(rows, first_row=0, first_line=1), rows.size), f"{rows.uri}, after byte {rows.begin}"


def _join_small(ranges: Sequence[RecordRange]) -> list[RecordRange]:
    """The ranges, of which small ones that follow each other in a file are one."""
    joined: list[RecordRange] = []
    for each in ranges:
        last = joined[-1] if joined else None
        if last is None or last.uri != each.uri or last.end != each.begin or last.size + each.size > _JOINED:
            joined.append(each)
        else:
            rows = last.rows + each.rows if last.rows >= 0 <= each.rows else -1
            joined[-1] = replace(last, end=each.end, rows=rows, size=last.size + each.size)
    return joined


def _text_size(record_range: RecordRange) -> int:
    """About the bytes of a range to look at, if all of it is."""
    return min(_STREAM, _SWELL * record_range.size) if compression(record_range.uri) else record_range.size


def _begin(record_range: RecordRange, size: int) -> Excerpt:
    """The beginning of a range."""
    if compression(record_range.uri):
        return Excerpt(record_range, min(size, _STREAM))
    if record_range.size <= size:
        return Excerpt(record_range, record_range.size)
    end = record_range.begin + size
    return Excerpt(replace(record_range, end=end, size=size, rows=-1), size, is_cut=True)
