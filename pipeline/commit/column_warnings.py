"""What is said of values that did not come through whole, and of what was seen in images: the notes of all units."""

from collections.abc import Iterable

from ...transforms import observations
from ..build.journal import Journal
from ..formats import column_notes


def describe_notes(journals: Iterable[Journal]) -> list[str]:
    """The warnings, by column, and then of images.

    Args:
      journals: Of all units.
    """
    merged = column_notes.merge_all(journal.notes for journal in journals)
    of_images = {name: (note.count, note.example) for name, note in merged.items() if name[0] in observations.KINDS}
    return column_notes.describe_notes(merged) + observations.warnings(of_images)
