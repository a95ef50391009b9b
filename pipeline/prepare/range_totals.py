"""What became of each range of a table that a unit holds: what the unit's totals are made of, kept for later runs."""

import json
import zlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from ...transforms.moments import Moments
from ..formats.column_notes import Notes, merge, notes_from_json, notes_to_json
from . import summaries
from .summaries import Summaries, SummarySpec


@dataclass(frozen=True)
class RangeTotals:
    """What became of a range, or of a part of it.

    Attributes:
      number: The range's, in its plan.
      written: Split to how many rows are stored.
      labels: Split to label to count; of no split where rows have no labels that can be counted.
      quarantined: How many rows went to the quarantine.
      filtered: Filter reason to count.
      listed: How many of these the unit's list names.
      notes: What happened to values of columns.
      moments: Of the columns of single numbers as they were before float32 rounded them, of the statistics' split.
    """

    number: int
    written: Counter[str] = field(default_factory=Counter)
    labels: dict[str, Counter[str]] = field(default_factory=dict)
    quarantined: int = 0
    filtered: Counter[str] = field(default_factory=Counter)
    listed: int = 0
    notes: Notes = field(default_factory=dict)
    moments: Summaries = field(default_factory=dict)

    @property
    def read(self) -> int:
        """How many rows were read."""
        return self.written.total() + self.quarantined + self.filtered.total()

    def merge(self, other: "RangeTotals") -> "RangeTotals":
        """What became of both parts of a range."""
        splits = dict.fromkeys((*self.labels, *other.labels))
        return replace(
            self,
            written=self.written + other.written,
            labels={split: self.labels.get(split, Counter()) + other.labels.get(split, Counter()) for split in splits},
            quarantined=self.quarantined + other.quarantined,
            filtered=self.filtered + other.filtered,
            listed=self.listed + other.listed,
            notes=merge(self.notes, other.notes),
            moments=summaries.merge(self.moments, other.moments),
        )

    def to_json(self) -> dict[str, Any]:
        """All but the number, which depends on what else is in the input."""
        columns = {
            spec.column: moments.to_json() for spec, moments in self.moments.items() if isinstance(moments, Moments)
        }
        entry = {name: value for name, value in vars(self).items() if name != "number"}
        return entry | {"notes": notes_to_json(self.notes), "moments": columns}

    @classmethod
    def from_json(cls, entry: dict[str, Any], number: int) -> "RangeTotals":
        """Reads it back, as of a range of this number."""
        return cls(
            number,
            Counter(entry["written"]),
            {split: Counter(counts) for split, counts in entry["labels"].items()},
            entry["quarantined"],
            Counter(entry["filtered"]),
            entry["listed"],
            notes_from_json(entry["notes"]),
            {SummarySpec("moments", name): Moments.from_json(moments) for name, moments in entry["moments"].items()},
        )


def encode(ranges: Iterable[RangeTotals]) -> bytes:
    """The bytes of what became of a unit's ranges, in their order."""
    lines = (json.dumps(totals.to_json(), sort_keys=True) for totals in ranges)
    return zlib.compress("\n".join(lines).encode())


def decode(content: bytes) -> list[RangeTotals]:
    """Reads them back; their numbers are their places in the unit."""
    lines = zlib.decompress(content).splitlines()
    return [RangeTotals.from_json(json.loads(line), number) for number, line in enumerate(lines)]
