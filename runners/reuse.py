"""What a run takes over from the generation before, in one line."""

from ..pipeline.formats.manifest import DeltaEntry
from ..pipeline.planned_run import PlannedRun


def planned_in_words(planned: PlannedRun) -> str:
    """What is taken over and what is left to prepare, or why nothing is taken over; empty where there is no base."""
    if planned.reuse is None:
        return "; ".join(words for words in (planned.note, anew_in_words(planned.anew)) if words)
    takeover = planned.reuse.takeover
    noun = "range" if planned.plan.table_schema is not None else "image"
    entry = DeltaEntry(takeover.base, takeover.whole_units, takeover.examples)
    left = takeover.new_pieces
    return f"{delta_in_words(entry, len(takeover.units))}; {left:,} {noun}{'' if left == 1 else 's'} to prepare"


def delta_in_words(delta: DeltaEntry, units: int) -> str:
    """What was taken over."""
    return (
        f"taken over from generation {delta.base}: {delta.examples:,} examples, {delta.units:,} of {units:,} units "
        "as they are"
    )


def anew_in_words(why: str) -> str:
    """Why nothing was taken over; empty where there is nothing to say."""
    return f"everything is prepared anew: {why}" if why else ""
