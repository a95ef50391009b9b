"""What is said of joins: how many rows of either side found no partner."""

import json
from collections.abc import Iterable

from ..build.journal import Journal
from ..errors import PenstockError
from ..formats.column_notes import JOIN, ColumnNote, Notes, merge


def join_warnings(journals: Iterable[Journal]) -> list[str]:
    """A warning for each side of each join on which rows found no partner.

    Raises:
      PenstockError: no row of a join's left side matches.
    """
    merged: Notes = {}
    for journal in journals:
        merged = merge(merged, {name: note for name, note in journal.notes.items() if name[0] == JOIN})
    return [warning for (_, which), note in sorted(merged.items()) for warning in _of_join(which, note)]


def _of_join(which: str, note: ColumnNote) -> list[str]:
    left_key, key, count, stride, _ = json.loads(which)
    keys = repr(key) if left_key == key else f"{left_key!r} = {key!r}"
    if note.of and note.count == note.of:
        raise PenstockError(
            f"join on {keys}: expected rows of the left side that match, found none of {note.of}, such as "
            f"{note.example!r}; nothing was committed: bring the keys of both sides to one form"
        )
    warnings = []
    if note.count:
        warnings.append(
            f"join on {keys}: {note.count} of {note.of} rows of the left side match no row of the joined table, such "
            f"as {note.example!r}"
        )
    unmet = -(-count // stride) - int(note.seen or "0", 16).bit_count()
    if unmet:
        about = "about " if stride > 1 else ""
        warnings.append(
            f"join on {keys}: {about}{min(count, unmet * stride)} of {count} rows of the joined table match no row of "
            "the left side"
        )
    return warnings
