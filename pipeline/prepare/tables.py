"""Chunks of a unit of a table: ranges of record files in, prepared rows out, by whole batches."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from ...transforms.columns import Vectorized, Where
from ..formats.example_writer import encode
from ..formats.features import LABEL, Feature
from ..sources.listing import RecordRange
from ..sources.record_source import RecordSource
from ..sources.table_schema import TableSchema
from ..splits.hashing import hash_rows
from ..splits.rows import split_rows
from ..splits.rules import NOT_LISTED, Splits
from .chunk import Chunk
from .steps import PreparedRows, apply_step, conform
from .summaries import SummarySpec, summarize
from .threads import ordered_map


@dataclass(frozen=True)
class RecordPreparer:
    """Turns a range of a record file into prepared rows.

    Attributes:
      source: Reads ranges.
      schema: The columns that it reads.
      steps: The recipe's `prepare`: functions of batches (`Vectorized`, `Where`) and of examples.
      rule: The recipe's split rule.
      splits: The splits' names.
      statistics: The split that statistics come from.
      seed: Of the order of rows; None keeps the order of the files.
      serialized: Whether rows are stored as tf.train.Examples, or as columns.
      features: What every row must hold; None while that is being found out.
      stored_schema: The columns that every row is brought to; None while that is being found out.
      summary_specs: What to know of the columns.
      columns: The columns that the analyzers read.
    """

    source: RecordSource
    schema: TableSchema
    steps: Sequence[Callable[[Any], Any]]
    rule: Splits
    splits: tuple[str, ...]
    statistics: str
    seed: int | None
    serialized: bool
    features: Mapping[str, Feature] | None = None
    stored_schema: pa.Schema | None = None
    summary_specs: tuple[SummarySpec, ...] = ()
    columns: tuple[str, ...] = ()

    def prepare(self, record_range: RecordRange, limit: int | None = None) -> "PreparedRows":
        """Reads a range, gives its rows their splits, and applies the steps.

        Args:
          record_range: The range.
          limit: How many of its rows to take; None takes all.

        Raises:
          PenstockError: a step changed the rows in a way that it must not.
        """
        rows = self.source.read(record_range, self.schema)
        batch, numbers = rows.batch[:limit], rows.numbers[:limit]
        codes = split_rows(self.rule, self.splits, record_range.key, batch, numbers)
        prepared = PreparedRows(batch, numbers, codes, list(rows.problems), Counter(rows.filtered))
        outside = codes < 0
        if outside.any():
            prepared.filtered[NOT_LISTED] += int(outside.sum())
            prepared = prepared.keep(~outside)
        for step in self.steps:
            if not len(prepared.batch):  # no function needs to know how to do without rows
                break
            prepared = apply_step(step, prepared, record_range)
        return prepared

    @property
    def by_example(self) -> bool:
        """Whether a step works on one example at a time: then the values tell the columns and their types."""
        return not all(isinstance(step, Vectorized | Where) for step in self.steps)

    def __call__(self, record_range: RecordRange) -> Chunk:
        """The chunk of a range."""
        features = self.features or {}
        schema = self.stored_schema if self.stored_schema is not None else pa.schema([])
        prepared = conform(self.prepare(record_range), schema, record_range, self.by_example)
        batch = prepared.batch
        chunk = Chunk(
            read=len(batch) + len(prepared.problems) + prepared.filtered.total(),
            problems=prepared.problems,
            filtered=prepared.filtered,
            positions=None if self.seed is None else {},
        )
        for code, split in enumerate(self.splits):
            chosen = np.flatnonzero(prepared.codes == code)
            if not len(chosen):
                continue
            part = batch.take(pa.array(chosen))
            chunk.records[split] = encode(part, features).to_pylist() if self.serialized else part
            if chunk.positions is not None:
                chunk.positions[split] = hash_rows(record_range.key, prepared.numbers[chosen], f"order{self.seed}")
            if LABEL in part.schema.names and not features[LABEL].shape and features[LABEL].dtype != "float32":
                chunk.labels[split] = _count(part.column(LABEL))
            if split == self.statistics:
                chunk.summaries = summarize(part, self.summary_specs)
                chunk.columns = part.select(list(self.columns)) if self.columns else None
        return chunk


def _count(labels: pa.Array) -> Counter[str]:
    counted = labels.drop_null().value_counts()
    return Counter({str(entry["values"]): entry["counts"] for entry in counted.to_pylist()})


def chunks(
    preparer: RecordPreparer, pool: ThreadPoolExecutor, window: int, ranges: Iterable[RecordRange]
) -> Iterator[Chunk]:
    """Prepares a unit's ranges in a thread pool, in their order."""
    return ordered_map(pool, preparer, ranges, window)
