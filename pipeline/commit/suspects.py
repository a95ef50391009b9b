"""What the commit warns of: columns and outputs that are the same everywhere, and missing values that were counted.

Such statistics are exact, and still likely not what the author meant.
"""

from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np
import tensorflow as tf

from ..analysis.trace import Analysis
from ..build.shards import read_examples
from ..graph.savedmodel import SavedGraph, apply_to_examples, parse_examples

_EXAMPLES = 1000  # of a shard that are looked at where the golden ones are all alike
_PHOTOS = 64
_FEW = {"f": 3}  # so many equal values of a dtype's kind are suspicious; of flags and classes, which are often equal:
_MANY = 32


def missing_but_counted(analysis: Analysis, statistics: Mapping[str, Any]) -> list[str]:
    """Warnings of columns with missing values that tft's analyzers counted as if they were values.

    Args:
      analysis: What the analyzers were given.
      statistics: The content of statistics.json.
    """
    warnings = []
    for name in analysis.zero_filled:
        entry = statistics["features"].get(name, {})
        if missing := entry.get("missing", 0):
            taken = "0" if analysis.features[name].dtype == "int64" else "NaN"
            warnings.append(
                f"column {name!r}: {missing} of {missing + entry['count']} values in split {statistics['split']!r} are "
                f"missing, and the tft.* functions in `features` count them as {taken}; numeric.standardize and the "
                f"other helpers leave them out; or fill them: numeric.fill_missing(inputs, {name!r}, ...)"
            )
    return warnings


def constant_columns(saved: SavedGraph, statistics: Mapping[str, Any]) -> list[str]:
    """Warnings of columns that outputs depend on and that have one value only.

    Args:
      saved: The transform graph.
      statistics: The content of statistics.json.
    """
    used = {name for output in saved.outputs for name in _sources(saved, output)}
    warnings = []
    for name, entry in statistics["features"].items():
        value = _only_value(entry)
        if name in used and value is not None:
            warnings.append(
                f"column {name!r}: all {entry['count']} values in split {statistics['split']!r} are {value}, which "
                "tells a model nothing"
            )
    return warnings


def _only_value(entry: Mapping[str, Any]) -> str | None:
    """The only value that a column has, in words; None where there are others, or a single row."""
    if entry["kind"] == "number" and entry["count"] > 1 and entry["min"] == entry["max"]:
        return f"{entry['min']:g}"
    if entry["kind"] == "text" and entry["count"] > 1 and entry.get("distinct") == 1 and "top" in entry:
        return repr(next(iter(entry["top"])))
    return None


def constant_outputs(saved: SavedGraph, outputs: Mapping[str, np.ndarray], shard: str) -> list[str]:
    """Warnings of outputs that are the same for examples whose features differ: a statistic behind them is not right.

    Args:
      saved: The transform graph.
      outputs: What it gives for the first examples of a shard.
      shard: The shard's URI; more of its examples are looked at where these are all alike.
    """
    suspects = [name for name, value in outputs.items() if _is_constant(value)]
    if not suspects:
        return []
    has_pixels = any(feature.is_pixels for feature in saved.features.values())
    examples = list(islice(read_examples(shard), _PHOTOS if has_pixels else _EXAMPLES))
    values = apply_to_examples(saved, examples)
    varying = _varying(saved, examples)
    warnings = []
    for name in suspects:
        value = values[name]
        sources = [source for source in _sources(saved, name) if source in varying]
        if sources and len(value) >= _FEW.get(value.dtype.kind, _MANY) and _is_constant(value):
            shown = next(row for row in value if _is_constant(row[np.newaxis])).ravel()[:4].tolist()
            warnings.append(
                f"output {name!r}: it is {shown[0] if value[0].size == 1 else shown} for all of the first {len(value)} "
                f"examples, though {_in_words(sources)} differs among them: look at what `features` computes it with"
            )
    return warnings


def _is_constant(value: np.ndarray) -> bool:
    """Whether all rows of an output are equal, but for those that are NaN."""
    if value.dtype.kind == "f":
        value = value[~np.isnan(value).reshape(len(value), -1).all(axis=1)]
    return bool(value.size) and np.array_equal(value, np.broadcast_to(value[:1], value.shape))


def _sources(saved: SavedGraph, output: str) -> list[str]:
    """The features that an output depends on."""
    tensors = tf.nest.flatten(saved.outputs[output], expand_composites=True)
    return sorted({name for tensor in tensors for name in saved.operations.dependencies(tensor.op)})


def _varying(saved: SavedGraph, examples: Sequence[bytes]) -> set[str]:
    """The features whose values differ among some examples."""
    varying = set()
    for name, value in parse_examples(saved.features, examples).items():
        rows = value.values if isinstance(value, tf.SparseTensor) else value
        if not _is_constant(rows.numpy()):
            varying.add(name)
    return varying


def _in_words(names: Sequence[str]) -> str:
    return " and ".join(map(repr, names[:2])) + (f" and {len(names) - 2} more" if len(names) > 2 else "")
