"""What is said of values that did not come through whole, and of what was seen in images: the notes of all units."""

from collections.abc import Callable, Iterable

from ...transforms import observations
from ..build.journal import Journal
from ..formats.column_notes import COLLAPSED, LEFT_OUT, OVERFLOW, ROUNDED, ColumnNote, Notes, merge

_COLLAPSED = 0.1  # the share from which on it is no accident: of a million random floats, 3 in a hundred collapse


def describe_notes(journals: Iterable[Journal]) -> list[str]:
    """The warnings, by column.

    Args:
      journals: Of all units, in their order.
    """
    merged: Notes = {}
    for journal in journals:
        merged = merge(merged, journal.notes)
    of_images = {name: (note.count, note.example) for name, note in merged.items() if name[0] in observations.KINDS}
    of_columns = {name: note for name, note in merged.items() if name[0] in _WORDS}
    told = {name: note for name, note in of_columns.items() if note.count and _is_worth_telling(*name, merged)}
    by_column = sorted(told.items(), key=lambda item: (item[0][1], item[0][0]))
    return [_WORDS[code](column, note) for (code, column), note in by_column] + observations.warnings(of_images)


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
        f"column {column!r}: {note.count} of its {note.of} values are stored as other whole numbers, such as "
        f"{note.example}, since float32 keeps 7 digits: {_ADVICE.format(column)}"
    )


def _collapsed(column: str, note: ColumnNote) -> str:
    return (
        f"column {column!r}: {note.count} of {note.of} different values are equal to another one once they are stored "
        f"as float32, such as {note.example}: {_ADVICE.format(column)}"
    )


_ADVICE = (
    "subtract an offset in `prepare`, or read the column as string (columns={{{!r}: 'string', '*': 'auto'}}), or store "
    "whole numbers as int64"
)
_WORDS: dict[str, Callable[[str, ColumnNote], str]] = {
    LEFT_OUT: _left_out,
    OVERFLOW: _overflow,
    ROUNDED: _rounded,
    COLLAPSED: _collapsed,
}
