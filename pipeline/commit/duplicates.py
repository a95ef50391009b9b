"""Exact duplicates among the examples that were written, found by the content hashes of their payloads."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from ..build.journal import Journal, read_hashes


def find_duplicates(generation: str, journals: Iterable[Journal]) -> list[dict[str, Any]]:
    """Groups of examples with equal payloads.

    Args:
      generation: The generation's URI.
      journals: Of all units.

    Returns:
      For each group, in the order of their hashes, `sha256` and `examples`: key and split of each, by key.
    """
    table = pa.concat_tables([read_hashes(generation, journal.unit) for journal in journals])
    if not len(table):
        return []
    prefixes = _prefixes(table["sha256"])
    _, inverse, counts = np.unique(prefixes, return_inverse=True, return_counts=True)
    rows = table.take(pa.array(np.flatnonzero(counts[inverse] > 1))).to_pylist()
    groups: dict[bytes, list[dict[str, str]]] = {}
    for row in rows:
        groups.setdefault(row["sha256"], []).append({"key": row["key"], "split": row["split"]})
    return [
        {"sha256": sha256.hex(), "examples": sorted(group, key=lambda example: example["key"])}
        for sha256, group in sorted(groups.items())
        if len(group) > 1
    ]


def _prefixes(hashes: pa.ChunkedArray) -> np.ndarray:
    """The first 8 bytes of each hash as integers: enough to leave few candidates."""
    flat = pa.concat_arrays(hashes.chunks).buffers()[1]
    return np.frombuffer(flat, np.uint64, 4 * len(hashes)).reshape(-1, 4)[:, 0]


def across_splits(groups: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The groups that lie in more than one split: what is learnt in one leaks into the test of the other."""
    return [group for group in groups if len({example["split"] for example in group["examples"]}) > 1]
