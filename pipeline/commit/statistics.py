"""statistics.json: what the statistics' split looks like, exact from integer counts."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from ...transforms.counts import Counts
from ...transforms.histogram import Histogram, pixel_moments
from ...transforms.moments import Moments
from ..build.journal import Journal
from ..formats.features import MASK, Feature
from ..prepare.summaries import Summaries

_TOP = 100  # values of a column of strings that are listed


def merge_labels(journals: Iterable[Journal]) -> dict[str, dict[str, int]]:
    """Split to label to count."""
    merged: dict[str, Counter[str]] = {}
    for journal in journals:
        for split, counts in journal.labels.items():
            merged.setdefault(split, Counter()).update(counts)
    return {split: dict(sorted(counts.items())) for split, counts in merged.items()}


def summarize(
    features: Mapping[str, Feature], journals: list[Journal], summaries: Summaries, split: str
) -> dict[str, Any]:
    """The content of statistics.json.

    Args:
      features: The features of a prepared example.
      journals: Of all units.
      summaries: Of columns and images, of all units.
      split: The split that statistics come from.

    Returns:
      `split`, `examples`, and by feature: for images `mean`, `std`, `min`, `max` and `quantiles` of the stored pixel
      values, a list entry a channel; for masks `classes`, class id to count of pixels; for labels `counts`, and
      what is known of their column but `top`; for columns of numbers `count`, `missing`, `mean`, `std`, `min`, `max`;
      for strings `count`, `missing`, `distinct`, and the most frequent values as `top`.
      `labels` holds the label counts of every split.
    """
    labels = merge_labels(journals)
    entries: dict[str, Any] = {}
    for spec, summary in sorted(summaries.items()):
        if isinstance(summary, Moments):
            entries[spec.column] = _numbers(summary)
        elif isinstance(summary, Counts):
            entries[spec.column] = _strings(summary)
        elif isinstance(summary, Histogram):
            kind = features[spec.column].kind
            entries[spec.column] = {"kind": kind, **(_classes if kind == MASK else _channels)(summary.counts)}
    if labels.get(split):
        column = {name: value for name, value in entries.get("label", {}).items() if name != "top"}
        entries["label"] = {**column, "kind": "label", "counts": labels[split]}
    examples = sum(journal.shards[split].examples for journal in journals if split in journal.shards)
    return {"split": split, "examples": examples, "features": entries, "labels": labels}


def _numbers(moments: Moments) -> dict[str, Any]:
    count, mean, std, low, high = moments.as_floats()
    values = {"mean": mean, "std": std, "min": low, "max": high} if count else {}
    nonfinite = {
        name: getattr(moments, name) for name in ("nan", "positive_inf", "negative_inf") if getattr(moments, name)
    }
    return {"kind": "number", "count": moments.count, "missing": moments.missing, **values, **nonfinite}


def _strings(counts: Counts) -> dict[str, Any]:
    entry: dict[str, Any] = {"kind": "text", "count": counts.total, "missing": counts.missing}
    if counts.exceeded:
        return entry | {"distinct": f"more than {counts.limit}"}
    top = {value.decode(errors="replace"): number for value, number in counts.top(_TOP)}
    left_out = {reason: number for reason, number in counts.vocabulary().left_out.items() if number}
    return entry | {"distinct": counts.distinct, "top": top} | ({"in_no_vocabulary": left_out} if left_out else {})


def _classes(histogram: np.ndarray) -> dict[str, Any]:
    return {"classes": {str(value): int(histogram[0, value]) for value in np.flatnonzero(histogram[0])}}


def _channels(histogram: np.ndarray) -> dict[str, Any]:
    channels = [asdict(pixel_moments(counts)) for counts in histogram]
    return {name: [channel[name] for channel in channels] for name in channels[0]} | {"pixels": int(histogram[0].sum())}


def encode(statistics: Mapping[str, Any]) -> bytes:
    """The bytes of statistics.json: floats are written so that reading them back gives the same bits."""
    return (json.dumps(statistics, indent=2, sort_keys=True) + "\n").encode()
