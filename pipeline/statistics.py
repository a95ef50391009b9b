"""statistics.json: what the statistics' split looks like, exact from integer counts."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from ..transforms.histogram import moments
from .features import MASK, Feature
from .journal import Journal


def merge_histograms(journals: Iterable[Journal]) -> dict[str, np.ndarray]:
    """Feature name to int64 [channels, 256] counts over all units."""
    merged: dict[str, np.ndarray] = {}
    for journal in journals:
        for name, counts in journal.histograms.items():
            merged[name] = merged.get(name, 0) + np.array(counts, np.int64)
    return merged


def merge_labels(journals: Iterable[Journal]) -> dict[str, dict[str, int]]:
    """Split to label to count."""
    merged: dict[str, Counter[str]] = {}
    for journal in journals:
        merged.setdefault(journal.split, Counter()).update(journal.labels)
    return {split: dict(sorted(counts.items())) for split, counts in merged.items()}


def summarize(features: Mapping[str, Feature], journals: list[Journal], split: str) -> dict[str, Any]:
    """The content of statistics.json.

    Args:
      features: The features of a prepared example.
      journals: Of all units.
      split: The split that statistics come from.

    Returns:
      `split`, `examples`, and by feature: for images `mean`, `std`, `min`, `max` and `quantiles` of the stored pixel
      values, a list entry a channel; for masks `classes`, class id to count of pixels; for labels `counts`.
      `labels` holds the label counts of every split.
    """
    labels = merge_labels(journals)
    entries: dict[str, Any] = {}
    for name, histogram in sorted(merge_histograms(journals).items()):
        if features[name].kind == MASK:
            entries[name] = {"kind": MASK, "classes": _classes(histogram)}
        else:
            entries[name] = {"kind": features[name].kind, **_channels(histogram)}
    if labels.get(split):
        entries["label"] = {"kind": "label", "counts": labels[split]}
    examples = sum(journal.written for journal in journals if journal.split == split)
    return {"split": split, "examples": examples, "features": entries, "labels": labels}


def _classes(histogram: np.ndarray) -> dict[str, int]:
    return {str(value): int(histogram[0, value]) for value in np.flatnonzero(histogram[0])}


def _channels(histogram: np.ndarray) -> dict[str, Any]:
    channels = [asdict(moments(counts)) for counts in histogram]
    return {name: [channel[name] for channel in channels] for name in channels[0]} | {"pixels": int(histogram[0].sum())}


def encode(statistics: Mapping[str, Any]) -> bytes:
    """The bytes of statistics.json: floats are written so that reading them back gives the same bits."""
    return (json.dumps(statistics, indent=2, sort_keys=True) + "\n").encode()
