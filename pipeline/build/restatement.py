"""What a unit keeps for the statistics and for tft's analyzers, made anew from what a base has stored of it.

That is all that a change of `features` asks of a unit: no source is read for it, and no image is decoded.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ...transforms import observations
from ..formats.column_notes import Notes, merge
from ..formats.example_writer import with_dictionaries
from ..prepare import summaries
from ..prepare.summaries import Summaries, SummarySpec, summarize
from ..prepare.tables import TablePreparer
from .base import BaseGeneration
from .journal import Journal
from .stored_images import StoredImages
from .stored_rows import StoredRows

if TYPE_CHECKING:
    from ..analysis.phases import UnitReducer


@dataclass(frozen=True)
class Restatement:
    """What is known of a unit's examples of the statistics' split.

    Attributes:
      summaries: Of columns and images; empty: there are no examples.
      accumulators: What tft's analyzers have accumulated; None: there are none.
      notes: The notes of the whole unit.
    """

    summaries: Summaries
    accumulators: bytes | None
    notes: Notes


def restate_images(
    stored: StoredImages, journal: Journal, reducer: "UnitReducer | None", of_all: Summaries
) -> Restatement:
    """Restates a unit of images.

    Args:
      stored: What the base has of it.
      journal: The base's journal of it.
      reducer: Reduces it for tft's analyzers; None: there are none.
      of_all: The histograms of its images.

    Raises:
      PenstockError: what is stored is damaged.
    """
    rows = []
    for chunk, summarized in stored.parts(stored.keys) if stored.has_values else ():
        rows += summarized
        if reducer and len(chunk.analyzed):
            reducer.add(chunk.analyzed)
    notes: Notes = images_notes(journal)
    for chunk in stored.summarize(rows):
        of_all = summaries.merge(of_all, chunk.summaries)
        notes = merge(notes, chunk.notes)
    return Restatement(of_all, reducer.finish() if reducer else None, notes)


def images_notes(journal: Journal) -> Notes:
    """The notes of a unit of images that follow from its images alone, and not from what is summarized of them."""
    return {name: note for name, note in journal.notes.items() if name[0] in observations.KINDS}


def restate_rows(
    base: BaseGeneration, journal: Journal, preparer: TablePreparer, reducer: "UnitReducer | None"
) -> Restatement:
    """Restates a unit of a table: what is known of its columns stays, and what is not is made of what is stored.

    Args:
      base: The base.
      journal: Its journal of the unit.
      preparer: How the rows were prepared.
      reducer: Reduces the unit for tft's analyzers; None: there are none.

    Raises:
      PenstockError: what is stored is damaged.
    """
    statistics = preparer.statistics
    if statistics.split not in journal.shards:
        return Restatement({}, None, journal.notes)
    stored = StoredRows(base, journal, statistics.split, preparer)
    before = summaries.decode(base.read(journal.summaries)) if journal.summaries else {}
    known = {spec: before[spec] for spec in statistics.summaries if spec in before}
    lacking = [spec for spec in statistics.summaries if spec not in before]
    if reducer and statistics.columns:
        for batch in stored.in_order(statistics.columns):
            reducer.add(batch)
    return Restatement(
        summaries.merge(known, _summarize(stored, lacking)) if lacking else known,
        reducer.finish() if reducer else None,
        journal.notes,
    )


def _summarize(stored: StoredRows, specs: Sequence[SummarySpec]) -> Summaries:
    names = list(dict.fromkeys(name for spec in specs for name in (spec.column, spec.key) if name))
    merged: Summaries = {}
    for batch in stored.batches(names):
        merged = summaries.merge(merged, summarize(with_dictionaries(batch), specs))
    return merged
