"""A dataset that a real run committed: every way to load it gives what analysis-time transform gave."""

from typing import Any

import numpy as np
import pytest
from helpers import Committed, apply_graph

from penstock.pipeline import open_dataset

pytestmark = pytest.mark.slow


def _check(expected: dict[str, np.ndarray], batch: Any, dtypes: dict[str, str]) -> None:
    assert batch.keys() == expected.keys()
    for name, values in batch.items():
        array = np.asarray(values)
        assert ("string" if array.dtype == object else str(array.dtype)) == dtypes[name]
        np.testing.assert_array_equal(array, expected[name])


def test_all_ways_are_equal_to_the_bit(committed: Committed) -> None:
    dataset = open_dataset(str(committed.path), verify=True)
    assert dataset.transform.portable
    split = next(iter(dataset.splits))
    count = dataset.splits[split].examples
    records = dataset.source(split).records
    expected = apply_graph(dataset.transform.path, [records[number] for number in range(count)])
    dtypes = dataset.transform.outputs
    for batches in (
        dataset.numpy(split, count),
        dataset.tf(split, count),
        dataset.tf(split, count, graph="saved"),
        dataset.torch(split, count) if _has("torch") else [],
    ):
        for batch in batches:
            _check(expected, batch, dtypes)


def _has(name: str) -> bool:
    import importlib.util

    return importlib.util.find_spec(name) is not None
