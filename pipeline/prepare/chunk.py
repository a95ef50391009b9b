"""What a piece of work gives the unit that it belongs to, whatever the source."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from ..formats.column_notes import Notes
from ..sources.quarantine import FilteredExample, QuarantinedExample
from .range_totals import RangeTotals
from .summaries import Summaries

# What is known of examples beside, where there is anything: what was seen in an image, as `seen_in` gives it; and the
# floats of features that are stored as others, since float32 cannot hold them.
SEEN, DOUBLES = "seen", "doubles"
FURTHER = {SEEN: pa.string(), DOUBLES: pa.map_(pa.string(), pa.list_(pa.float64()))}


def content_hashes(
    hashes: bytes,
    keys: Sequence[str] | pa.Array,
    labels: Sequence[str | None] | None = None,
    further: Mapping[str, Sequence[object]] | None = None,
) -> pa.RecordBatch:
    """What duplicates are found by: `content_hash`, `key`, and the `label` where a contradiction is to be found.

    Args:
      hashes: The hash of each example's content, one after the other: of an image the SHA-256 of its file, of a row 16
        bytes of what is stored (see `row_hashes`).
      keys: The examples' keys.
      labels: Their labels; None where these are in their contents, or there are none.
      further: Columns of `FURTHER` that say anything of these examples.
    """
    width = len(hashes) // len(keys)
    offsets = np.arange(0, len(hashes) + 1, width, dtype=np.int32)
    contents = pa.Array.from_buffers(pa.binary(), len(keys), [None, pa.py_buffer(offsets), pa.py_buffer(hashes)])
    label_column = pa.nulls(len(keys), pa.string()) if labels is None else pa.array(labels, pa.string())
    columns = [contents, pa.array(keys, pa.string()), label_column]
    names = ["content_hash", "key", "label"]
    for name, values in (further or {}).items():
        columns.append(pa.array(values, FURTHER[name]))
        names.append(name)
    return pa.RecordBatch.from_arrays(columns, names)


@dataclass
class SplitExamples:
    """Prepared examples of one split.

    Attributes:
      examples: The examples, each serialized; or the columns of rows, where these are not what is stored as
        `example_writer.with_dictionaries` gives them; or rows' frames.
      positions: uint64 [examples], by which the unit's examples are sorted; None keeps their order.
      labels: Label to count, of images; None where they have none. Those of rows are in `Chunk.ranges`.
      hashes: The hash of each example's content, and its key: see `content_hashes`.
    """

    examples: Sequence[bytes] | pa.LargeBinaryArray | pa.RecordBatch
    positions: np.ndarray | None = None
    labels: Counter[str] | None = None
    hashes: pa.RecordBatch | None = None


@dataclass
class Chunk:
    """Some prepared examples, and what became of the rest.

    Attributes:
      splits: Split to its examples; only splits that have any.
      quarantined: Examples for the quarantine.
      filtered: Filter reason to count.
      filtered_examples: The first ones of each reason.
      summaries: What is known of the columns and the images, of the statistics' split only, beside what `ranges` says.
      analyzed: What the analyzers read, of the statistics' split only: examples that hold no other features, each
        serialized; or the columns, of a table. Empty where they read nothing.
      notes: What happened to values of columns of images, of the statistics' split; and what was seen in these.
      ranges: Of a table, what became of each range, or part of one, that the rows are of; in their order.
    """

    splits: dict[str, SplitExamples] = field(default_factory=dict)
    quarantined: list[QuarantinedExample] = field(default_factory=list)
    filtered: Counter[str] = field(default_factory=Counter)
    filtered_examples: list[FilteredExample] = field(default_factory=list)
    summaries: Summaries = field(default_factory=dict)
    analyzed: Sequence[bytes] | pa.RecordBatch = ()
    notes: Notes = field(default_factory=dict)
    ranges: list[RangeTotals] = field(default_factory=list)

    @property
    def read(self) -> int:
        """How many examples were read."""
        written = sum(len(split.examples) for split in self.splits.values())
        return written + len(self.quarantined) + self.filtered.total()
