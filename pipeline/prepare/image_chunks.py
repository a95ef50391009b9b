"""Chunks of a unit of images: references in, prepared examples out, in the order of the references."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pyarrow as pa

from ..formats.features import Feature, overflow_to_infinity, serialize
from ..sources.listing import Reference
from ..sources.quarantine import QuarantinedExample
from .chunk import Chunk
from .outcomes import FilteredExample, Outcome
from .summaries import SummarySpec, of_histograms, summarize
from .threads import ordered_map

Prepare = Callable[[Reference], Outcome]


def chunks(
    prepare: Prepare,
    features: Mapping[str, Feature],
    pool: ThreadPoolExecutor,
    window: int,
    split: str,
    references: Iterable[Reference],
    specs: Sequence[SummarySpec],
    analyzed: Mapping[str, Feature],
) -> Iterator[Chunk]:
    """Prepares a unit's examples in a thread pool.

    Args:
      prepare: Prepares one example.
      features: What the examples hold.
      pool: Where to prepare.
      window: How many examples may be in hand.
      split: The split that they belong to.
      references: The examples.
      specs: What to know of the columns that are joined to the examples; told by the last chunk.
      analyzed: The features that the analyzers read.
    """
    columns = pa.schema([(name, features[name].arrow_type) for name in {spec.column for spec in specs}])
    rows: list[dict[str, Any]] = []

    def make(reference: Reference) -> Chunk:
        outcome = prepare(reference)
        if isinstance(outcome, QuarantinedExample):
            return Chunk(1, problems=[outcome])
        if isinstance(outcome, FilteredExample):
            return Chunk(1, filtered=Counter([outcome.reason]))
        return Chunk(
            read=1,
            records={split: [serialize(outcome.values, features)]},
            labels={split: Counter([outcome.label])} if outcome.label is not None else {},
            hashes=[(bytes.fromhex(outcome.sha256), outcome.key, split)],
            summaries=of_histograms(outcome.histograms),
            row={name: outcome.values[name] for name in columns.names},
            analyzed=[serialize(outcome.values, analyzed)] if analyzed else [],
        )

    for chunk in ordered_map(pool, make, references, window):
        if chunk.row:
            rows.append(chunk.row)
        yield chunk
    if rows:
        yield Chunk(0, summaries=summarize(_stored(rows, columns), specs))


def _stored(rows: list[dict[str, Any]], columns: pa.Schema) -> pa.RecordBatch:
    batch = pa.RecordBatch.from_pylist(rows, columns)
    return pa.RecordBatch.from_arrays([overflow_to_infinity(column) for column in batch], columns.names)
