"""What a piece of work gives the unit that it belongs to, whatever the source."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from ..sources.quarantine import QuarantinedExample
from .summaries import Summaries


@dataclass
class Chunk:
    """Some prepared examples, and what became of the rest.

    Attributes:
      read: How many examples were read.
      records: Split to serialized examples.
      positions: Split to a uint64 for each of them, by which the unit's examples are sorted; None keeps their order.
      problems: Examples for the quarantine.
      filtered: Filter reason to count.
      labels: Split to label to count.
      hashes: Content hash (32 bytes), key and split of every payload that was written, where examples have payloads.
      summaries: What is known of the columns and the images; of the statistics' split only, like all that follows.
      row: The values of an image's joined columns that are to be summarized.
      columns: The columns that the analyzers read, of a table; None where they read them from serialized examples.
      analyzed: The examples with the features alone that the analyzers read, serialized; empty where they read none.
    """

    read: int
    records: dict[str, list[bytes]] = field(default_factory=dict)
    positions: dict[str, np.ndarray] | None = None
    problems: list[QuarantinedExample] = field(default_factory=list)
    filtered: Counter[str] = field(default_factory=Counter)
    labels: dict[str, Counter[str]] = field(default_factory=dict)
    hashes: list[tuple[bytes, str, str]] = field(default_factory=list)
    summaries: Summaries = field(default_factory=dict)
    row: dict[str, Any] = field(default_factory=dict)
    columns: pa.RecordBatch | None = None
    analyzed: list[bytes] = field(default_factory=list)
