"""What a piece of work gives the unit that it belongs to, whatever the source."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from ..formats.column_notes import Notes
from ..sources.quarantine import QuarantinedExample
from .summaries import Summaries


@dataclass
class SplitExamples:
    """Prepared examples of one split.

    Attributes:
      examples: The examples, each serialized; or their columns, where these are what is stored.
      positions: uint64 [examples], by which the unit's examples are sorted; None keeps their order.
      labels: Label to count; None where examples have no label that can be counted.
      hashes: Content hash (32 bytes) and key of every payload, where examples have payloads.
    """

    examples: Sequence[bytes] | pa.RecordBatch
    positions: np.ndarray | None = None
    labels: Counter[str] | None = None
    hashes: list[tuple[bytes, str]] = field(default_factory=list)


@dataclass
class Chunk:
    """Some prepared examples, and what became of the rest.

    Attributes:
      splits: Split to its examples; only splits that have any.
      quarantined: Examples for the quarantine.
      filtered: Filter reason to count.
      summaries: What is known of the columns and the images, of the statistics' split only.
      analyzed: What the analyzers read, of the statistics' split only: examples that hold no other features, each
        serialized; or the columns, of a table. Empty where they read nothing.
      notes: What happened to values of columns; of images, to those of the statistics' split.
    """

    splits: dict[str, SplitExamples] = field(default_factory=dict)
    quarantined: list[QuarantinedExample] = field(default_factory=list)
    filtered: Counter[str] = field(default_factory=Counter)
    summaries: Summaries = field(default_factory=dict)
    analyzed: Sequence[bytes] | pa.RecordBatch = ()
    notes: Notes = field(default_factory=dict)

    @property
    def read(self) -> int:
        """How many examples were read."""
        written = sum(len(split.examples) for split in self.splits.values())
        return written + len(self.quarantined) + self.filtered.total()
