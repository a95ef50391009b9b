"""Looks at stored columns again where their quantiles need it: where much of a column is in a small interval."""

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any

import pyarrow.compute as pc

from ..prepare.summaries import Summaries, SummarySpec
from .requests import QuantilesRequest

if TYPE_CHECKING:
    from .trace import Analysis

_BATCH = 1 << 14  # examples at a time


def look_closer(analysis: "Analysis", summaries: Summaries, read: Callable[[], Iterable[bytes]]) -> Summaries:
    """The summaries, with quantiles that can answer what `features` asks for.

    Args:
      analysis: The recipe's `features`.
      summaries: The merged summaries of the statistics' split.
      read: Reads the stored examples of this split, in any order, as serialized tf.train.Examples; called anew for each
        look, and not at all where none is needed.
    """
    asked: dict[SummarySpec, set[int]] = {}
    for request in analysis.requests:
        if isinstance(request, QuantilesRequest) and request.summary_spec in summaries:
            asked.setdefault(request.summary_spec, set()).add(request.buckets)
    closer: dict[SummarySpec, Any] = dict(summaries)
    while looks := {spec: look for spec, buckets in asked.items() if (look := closer[spec].look(buckets))}:
        for batch in _columns(analysis, sorted({spec.column for spec in looks}), read()):
            for spec, look in looks.items():
                look.add(pc.list_flatten(batch.column(spec.column)))
        closer |= {spec: closer[spec].closer(look) for spec, look in looks.items()}
    return closer


def _columns(analysis: "Analysis", names: Iterable[str], examples: Iterable[bytes]) -> Iterator[Any]:
    """The values of some columns, as lists, in record batches."""
    from tfx_bsl.coders.example_coder import ExamplesToRecordBatchDecoder  # takes TensorFlow's operations along

    from .schema import example_schema

    schema = example_schema({name: analysis.features[name] for name in names})
    decoder = ExamplesToRecordBatchDecoder(schema.SerializeToString())
    iterator = iter(examples)
    while batch := list(islice(iterator, _BATCH)):
        yield decoder.DecodeBatch(batch)
