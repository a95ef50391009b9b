"""What changed in a table since the dataset's last generation: its columns, and the values in them."""

import json
from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from . import files, layout, schema
from .manifest import Pointer

_SHOWN = 3


def compare_columns(dataset: str, current: Pointer | None, columns: pa.Schema) -> list[str]:
    """What changed in the columns since the current generation, in words; nothing where there is no such generation."""
    before = _read(dataset, current, layout.MANIFEST).get("schema")
    if not before:
        return []
    changes = schema.compare(schema.from_text(before), columns)
    return [f"the input changed since generation {current.generation}: {change}" for change in changes if current]


def compare_values(dataset: str, current: Pointer | None, statistics: Mapping[str, Any]) -> list[str]:
    """Which share of a text column's values did not occur in the current generation, for columns of few values.

    Args:
      dataset: The dataset's URI.
      current: The pointer to its current generation.
      statistics: The new generation's statistics.json.
    """
    before = _read(dataset, current, layout.STATISTICS).get("features", {})
    found = []
    for name, entry in statistics["features"].items():
        old = before.get(name, {})
        if entry["kind"] != "text" or old.get("kind") != "text" or len(old.get("top", {})) != old["distinct"]:
            continue
        strangers = {value: count for value, count in entry.get("top", {}).items() if value not in old["top"]}
        if strangers:
            share = 100 * sum(strangers.values()) / entry["count"]
            shown = ", ".join(repr(value) for value in list(strangers)[:_SHOWN])
            found.append(f"column {name!r}: {share:.2f} % of its values are new, such as {shown}")
    return found


def _read(dataset: str, current: Pointer | None, path: str) -> dict[str, Any]:
    if current is None:
        return {}
    try:
        content: dict[str, Any] = json.loads(files.read_bytes(layout.join(dataset, current.generation, path)))
    except (OSError, ValueError):
        return {}  # a damaged old generation is not this run's concern
    return content
