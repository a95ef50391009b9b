"""Measures what preparing takes: a few pieces of a plan, from all over it, are prepared as a worker would."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from ..errors import PenstockError
from ..prepare.preparer import Preparer
from ..prepare.tables import TablePreparer
from ..sources import nominal
from ..sources.listing import RecordRange, Reference
from .cut import reference_nanoseconds
from .plan_file import PlannedUnits

_REFERENCES, _RANGES = 16, 4  # that are prepared
_SECONDS = 5.0  # after which no further one is begun


@dataclass(frozen=True)
class Measured:
    """A piece of the input that was prepared.

    Attributes:
      weight: What it stands for: of an image the time that the planner guesses, in ns; of a range its bytes.
      seconds: The CPU time that it took.
      stored_bytes: The bytes of what came of it, before they are compressed.
      payloads: How many files were read for it; 0 for a range.
    """

    weight: int
    seconds: float
    stored_bytes: int
    payloads: int


def measure(units: PlannedUnits, preparer: Preparer, isolated: bool) -> list[Measured]:
    """Prepares some pieces of a plan, one after the other, and forgets what came of them.

    Args:
      units: The plan's units.
      preparer: Prepares them.
      isolated: Whether processes of their own decode: then the time that passes counts, and not this one's CPU time.

    Returns:
      What was measured; nothing of a piece that cannot be prepared at all.
    """
    clock = time.perf_counter if isolated else time.process_time
    measured: list[Measured] = []
    worker = preparer.start(1)
    try:
        start = time.monotonic()
        for splits, piece in _spread(units, preparer):
            try:
                if not measured:  # the first takes longer, since libraries are loaded for it
                    list(worker.chunks(splits, [piece]))
                before = clock()
                chunks = list(worker.chunks(splits, [piece]))
                seconds = clock() - before
            except PenstockError:  # the run will tell
                continue
            size = sum(_size(split.examples) for chunk in chunks for split in chunk.splits.values())
            payloads = 0 if isinstance(piece, RecordRange) else 1 + (piece.mask is not None)
            measured.append(Measured(_weight(piece), seconds, size, payloads))
            if time.monotonic() - start > _SECONDS:
                break
    finally:
        worker.close()
    return measured


def _spread(units: PlannedUnits, preparer: Preparer) -> Iterator[tuple[list[str], Any]]:
    """Pieces from all over a plan, and their units' splits; the rows of nominal ranges are found as for types."""
    count = min(_RANGES if isinstance(preparer, TablePreparer) else _REFERENCES, units.pieces)
    chosen = [number * (len(units) - 1) // max(1, count - 1) for number in range(count)]
    for number in dict.fromkeys(chosen):
        unit, pieces = units.read(number)
        share = min(chosen.count(number), len(pieces))
        for at in range(share):
            piece = pieces[(2 * at + 1) * len(pieces) // (2 * share)]
            if isinstance(preparer, TablePreparer):
                piece = _resolved(preparer, piece)
            if piece is not None:
                yield list(unit.shards), piece


def _resolved(preparer: TablePreparer, record_range: RecordRange) -> RecordRange | None:
    try:
        return nominal.sample(preparer.steps.source, record_range)
    except PenstockError:
        return None


def _weight(piece: Reference | RecordRange) -> int:
    return piece.size if isinstance(piece, RecordRange) else reference_nanoseconds(1, max(0, piece.size))


def _size(examples: Sequence[bytes] | pa.LargeBinaryArray | pa.RecordBatch) -> int:
    return sum(map(len, examples)) if isinstance(examples, Sequence) else examples.nbytes
