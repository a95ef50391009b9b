"""Summaries of columns: small, exact and mergeable, made per unit instead of row by row through the analyzers.

Merging is associative and commutative, so that units, workers and the order of arrival change no bit of what they tell.
"""

import base64
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ...transforms.counts import Counts
from ...transforms.histogram import Histogram
from ...transforms.moments import GroupedMoments, Moments
from ...transforms.quantiles import Quantiles
from ..formats.features import Feature

DISTINCT = 10_000  # a column with more distinct values is free text to statistics.json


@dataclass(frozen=True, order=True)
class SummarySpec:
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
Summaries = dict[SummarySpec, Summary]
_CLASSES: dict[str, Any] = {
    "moments": Moments,
    "grouped": GroupedMoments,
    "counts": Counts,
    "quantiles": Quantiles,
    "histogram": Histogram,
}


def default_specs(features: Mapping[str, Feature]) -> list[SummarySpec]:
    """What statistics.json tells of every column of a table, and of those that are joined to images."""
    specs = []
    for name, feature in features.items():
        if not feature.optional:
            continue
        if feature.dtype == "string":
            specs.append(SummarySpec("counts", name, limit=DISTINCT))
        elif not feature.shape:
            specs.append(SummarySpec("moments", name))
    return specs


def column_specs(features: Mapping[str, Feature], asked: Iterable[SummarySpec]) -> tuple[SummarySpec, ...]:
    """What is asked of columns and what statistics.json tells of them, each once; images are counted in any case.

    A column that is counted without a limit is not counted with one as well.
    """
    specs = dict.fromkeys(spec for spec in (*asked, *default_specs(features)) if not features[spec.column].is_pixels)
    return tuple(spec for spec in specs if not spec.limit or replace(spec, limit=0) not in specs)


def of_histograms(histograms: Sequence[Mapping[str, npt.NDArray[np.int64]]]) -> Summaries:
    """The summaries of some examples' images: of each, name to int64 [channels, 256] counts."""
    names = histograms[0] if histograms else ()
    return {
        SummarySpec("histogram", name): Histogram(np.sum([each[name] for each in histograms], axis=0)) for name in names
    }


def summarize(batch: pa.RecordBatch, specs: Iterable[SummarySpec]) -> Summaries:
    """The summaries of a batch's columns; of lists those of all that is in them."""
    return {spec: _summarize(batch, spec) for spec in specs}


def _summarize(batch: pa.RecordBatch, spec: SummarySpec) -> Summary:
    values = batch.column(spec.column)
    is_list = pa.types.is_list(values.type) or pa.types.is_large_list(values.type)
    if spec.kind != "grouped" and is_list:
        values = pc.list_flatten(values)
    if spec.kind == "moments":
        return Moments.of(_as_stored(values) if is_list else values)
    if spec.kind != "counts" and pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    if spec.kind == "grouped":
        return GroupedMoments.of(_as_stored(values), batch.column(spec.key))
    if spec.kind == "quantiles":
        return Quantiles.of(_as_stored(values), spec.epsilon)
    return Counts.of(values, spec.limit or None)


def _as_stored(values: pa.Array) -> pa.Array:
    """Numbers as they are stored, floats as float32.

    What is summarized only where it is asked for is summarized so, since later runs may ask for it, and read what is
    stored. Boundaries are compared with stored values, besides.
    """
    return values.cast(pa.float32(), safe=False) if pa.types.is_float64(values.type) else values


def merge(first: Summaries, second: Summaries) -> Summaries:
    """The summaries of both together."""
    merged: dict[SummarySpec, Any] = dict(first)
    for spec, summary in second.items():
        merged[spec] = merged[spec].merge(summary) if spec in merged else summary
    return merged


def without(whole: Summary, part: Summary | None) -> Summary | None:
    """A summary without what is in another one, a part of it; None where that cannot be told."""
    if part is None:
        return whole
    if isinstance(whole, Counts | Quantiles):
        return whole.without(part)  # type: ignore[arg-type]  # both are of one spec
    return None


def encode(summaries: Mapping[SummarySpec, Summary]) -> bytes:
    """The bytes of summaries, for journals and analyzers."""
    entries = [
        {"spec": asdict(spec), "summary": base64.b64encode(summary.to_bytes()).decode()}
        for spec, summary in sorted(summaries.items(), key=lambda item: item[0])
    ]
    return json.dumps(entries).encode()


def decode(content: bytes) -> Summaries:
    """Reads them back."""
    summaries = {}
    for entry in json.loads(content):
        spec = SummarySpec(**entry["spec"])
        summaries[spec] = _CLASSES[spec.kind].from_bytes(base64.b64decode(entry["summary"]))
    return summaries
