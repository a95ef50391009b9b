"""Summaries of columns: small, exact and mergeable, made per unit instead of row by row through the analyzers.

Merging is associative and commutative, so that units, workers and the order of arrival change no bit. Quantile sketches
of many distinct values are the exception: their error is bounded, their bits follow the order of merging.
"""

import base64
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ...transforms.counts import Counts, Quantiles
from ...transforms.histogram import Histogram
from ...transforms.moments import GroupedMoments, Moments
from ..formats.features import Feature

DISTINCT = 10_000  # a column with more distinct values is free text to statistics.json


@dataclass(frozen=True, order=True)
class Wanted:
    """What to know of a column.

    Attributes:
      kind: `moments`, `grouped`, `counts` or `quantiles` of a column; `histogram` of an image.
      column: The column, or the image.
      key: For `grouped`, the column whose values group it.
      epsilon: For `quantiles`, the rank error allowed.
      limit: For `counts`, how many distinct values to count before giving up; 0 counts all.
    """

    kind: str
    column: str
    key: str = ""
    epsilon: float = 0.0
    limit: int = 0


Summary = Moments | GroupedMoments | Counts | Quantiles | Histogram
Summaries = dict[Wanted, Summary]
_CLASSES: dict[str, Any] = {
    "moments": Moments,
    "grouped": GroupedMoments,
    "counts": Counts,
    "quantiles": Quantiles,
    "histogram": Histogram,
}


def default_wanted(features: Mapping[str, Feature]) -> list[Wanted]:
    """What statistics.json tells of every column of a table, and of those that are joined to images."""
    wanted = []
    for name, feature in features.items():
        if not feature.optional:
            continue
        if feature.dtype == "string":
            wanted.append(Wanted("counts", name, limit=DISTINCT))
        elif not feature.shape:
            wanted.append(Wanted("moments", name))
    return wanted


def combine(asked: Iterable[Wanted], default: Iterable[Wanted]) -> tuple[Wanted, ...]:
    """All of them, each once; a column that is counted without a limit is not counted with one as well."""
    all_of_them = dict.fromkeys((*asked, *default))
    return tuple(want for want in all_of_them if not want.limit or replace(want, limit=0) not in all_of_them)


def of_histograms(histograms: Mapping[str, npt.NDArray[np.int64]]) -> Summaries:
    """The summaries of an example's images: name to int64 [channels, 256] counts."""
    return {Wanted("histogram", name): Histogram(counts) for name, counts in histograms.items()}


def summarize(batch: pa.RecordBatch, wanted: Iterable[Wanted]) -> Summaries:
    """The summaries of a batch's columns."""
    return {want: _summarize(batch, want) for want in wanted}


def _summarize(batch: pa.RecordBatch, want: Wanted) -> Summary:
    values = batch.column(want.column)
    if want.kind == "moments":
        return Moments.of(values)
    if want.kind == "grouped":
        return GroupedMoments.of(values, batch.column(want.key))
    if want.kind == "quantiles":
        return Quantiles.of(values, want.epsilon)
    return Counts.of(values, want.limit or None)


def merge(first: Summaries, second: Summaries) -> Summaries:
    """The summaries of both together."""
    merged: dict[Wanted, Any] = dict(first)
    for want, summary in second.items():
        merged[want] = merged[want].merge(summary) if want in merged else summary
    return merged


def encode(summaries: Mapping[Wanted, Summary]) -> bytes:
    """The bytes of summaries, for journals and analyzers."""
    entries = [
        {"wanted": asdict(want), "summary": base64.b64encode(summary.to_bytes()).decode()}
        for want, summary in sorted(summaries.items(), key=lambda item: item[0])
    ]
    return json.dumps(entries).encode()


def decode(content: bytes) -> Summaries:
    """Reads them back."""
    summaries = {}
    for entry in json.loads(content):
        want = Wanted(**entry["wanted"])
        summaries[want] = _CLASSES[want.kind].from_bytes(base64.b64decode(entry["summary"]))
    return summaries
