"""What happened to values of a column on their way, counted in journals, for the commit to warn of.

What is seen in images is counted alike: `transforms.observations` tells of kinds (the codes) and values (the columns).
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

LEFT_OUT = "left_out"  # a key or a feature that the table's schema has not
OVERFLOW = "overflow"  # a number beyond float32's range, which became a missing value
ROUNDED = "rounded"  # a number whose whole part float32 cannot hold
COLLAPSED = "collapsed"  # different numbers that are one as float32
_COLLAPSED = 0.1  # the share from which on it is no accident: of a million random floats, 3 in a hundred collapse
JOIN = "join"  # rows of a join's left side that no row of the right side matches; the column says which join

_NAMED = 100  # columns that are not read, each of which is warned of: the keys of JSON may be ids
_MOST = 1 << 16  # notes that are kept: the palettes of masks could be endless


@dataclass(frozen=True)
class ColumnNote:
    """How many values of a column something happened to.

    Attributes:
      count: So many.
      of: Of so many that were looked at; 0 where that does not matter.
      example: One of them, in words.
      place: The example's file and number there, where it is known: of two examples the first is kept, in whatever
        order they come; where no place is known, the first of their words.
      seen: Numbers that occurred, as the bits of a hexadecimal number; empty where none is counted.
    """

    count: int
    of: int
    example: str
    place: tuple[str, int] = ("", 0)
    seen: str = ""


Notes = Mapping[tuple[str, str], ColumnNote]  # by code and column


def merge(first: Notes, second: Notes) -> dict[tuple[str, str], ColumnNote]:
    """The notes of both, as far as they can be kept."""
    merged = dict(first)
    for name, note in second.items():
        if name not in merged and len(merged) == _MOST:
            continue
        before = merged.get(name)
        if before is not None:
            told = [each for each in (before, note) if each.example]
            shown = min(told, key=lambda each: (each.place, each.example), default=before)
            both = before.seen and note.seen and f"{int(before.seen, 16) | int(note.seen, 16):x}"
            seen = both or before.seen or note.seen
            note = ColumnNote(before.count + note.count, before.of + note.of, shown.example, shown.place, seen)
        merged[name] = note
    return merged


def merge_all(parts: Iterable[Notes]) -> dict[tuple[str, str], ColumnNote]:
    """The notes of all parts."""
    merged: dict[tuple[str, str], ColumnNote] = {}
    for part in parts:
        merged = merge(merged, part)
    return merged


def notes_to_json(notes: Notes) -> list[list[Any]]:
    """Notes as JSON: of each its code, its column, and what it says."""
    return [[*name, asdict(note)] for name, note in sorted(notes.items())]


def notes_from_json(entries: Iterable[Sequence[Any]]) -> dict[tuple[str, str], ColumnNote]:
    """Reads them back."""
    return {(code, column): ColumnNote(**{**note, "place": tuple(note["place"])}) for code, column, note in entries}


def describe_notes(notes: Notes) -> list[str]:
    """What to warn of, by column; nothing of notes that are none of this module's."""
    of_columns = {
        name: note if note.example else replace(note, example="one that is not shown")
        for name, note in notes.items()
        if name[0] in _WORDS and note.count
    }
    told = {name: note for name, note in of_columns.items() if _is_worth_telling(*name, notes)}
    by_column = sorted(told.items(), key=lambda item: (item[0][1], item[0][0]))
    counts = {column: note.count for (code, column), note in told.items() if code == LEFT_OUT}
    untold = sorted(counts, key=lambda column: (-counts[column], column))[_NAMED:]
    hidden = {(LEFT_OUT, column) for column in untold}
    warnings = [_WORDS[name[0]](name[1], note) for name, note in by_column if name not in hidden]
    if untold:
        warnings.append(
            f"{len(untold)} more columns, which fewer rows hold, are not read, such as {untold[0]!r}: declare those "
            "that you need; where keys are ids, and no names of columns, store them as values"
        )
    return warnings


def _is_worth_telling(code: str, column: str, notes: Notes) -> bool:
    """Whether it is no accident, and nothing that says more of the column is told."""
    if code != COLLAPSED:
        return True
    note, rounded = notes[code, column], notes.get((ROUNDED, column))
    return note.count >= _COLLAPSED * note.of and not (rounded and rounded.count)


def _left_out(column: str, note: ColumnNote) -> str:
    return (
        f"{column!r} is not read, and {note.count} rows hold it, first {note.example}: no row that was looked at while "
        f"planning has it; declare it, as columns={{{column!r}: 'int64', '*': 'auto'}} does"
    )


def _overflow(column: str, note: ColumnNote) -> str:
    return (
        f"column {column!r}: {note.count} numbers beyond float32's range became missing values, such as "
        f"{note.example}; to have their rows quarantined, declare nonfinite={{{column!r}: 'quarantine'}}"
    )


def _rounded(column: str, note: ColumnNote) -> str:
    return (
        f"column {column!r}: {note.count} of its {note.of} values are other whole numbers as float32, such as "
        f"{note.example}: {_ADVICE.format(column)}"
    )


def _collapsed(column: str, note: ColumnNote) -> str:
    return (
        f"column {column!r}: {note.count} of {note.of} different values are equal to another one as float32, such as "
        f"{note.example}: {_ADVICE.format(column)}"
    )


_ADVICE = (
    "float32, in which floats are given to models, keeps 7 digits; subtract an offset in `prepare`, or declare the "
    "column int64 if its values are whole, or string (columns={{{!r}: 'int64', '*': 'auto'}})"
)
_WORDS: dict[str, Callable[[str, ColumnNote], str]] = {
    LEFT_OUT: _left_out,
    OVERFLOW: _overflow,
    ROUNDED: _rounded,
    COLLAPSED: _collapsed,
}
