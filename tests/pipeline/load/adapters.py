"""What the tests of the adapters share: the batches that every one of them must give."""

from collections.abc import Iterable, Mapping
from typing import Any

from helpers import differences

from penstock.pipeline.load import Dataset

ONCE: dict[str, Any] = {"shuffle": "exact", "seed": 2}
TWICE = {**ONCE, "repeat": 2}


def all_differences(batches: Iterable[Mapping[str, Any]], dataset: Dataset, ulps: int = 0) -> list[str]:
    """In what the batches differ from those of `ds.numpy`, by 4 with `TWICE`."""
    found, expected = list(batches), list(dataset.numpy("train", 4, **TWICE))
    if len(found) != len(expected):
        return [f"{len(found)} batches, not {len(expected)}"]
    return [line for one, other in zip(found, expected, strict=True) for line in differences(one, other, ulps)]


def row_numbers(batches: Iterable[Any]) -> list[int]:
    return [row for batch in batches for row in batch["row"].tolist()]
