"""A dataset that a real run committed: every way to load it gives what analysis-time transform gave."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import Committed, apply_graph
from slow_store import serve

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


def test_a_store_gives_what_a_disk_does(committed: Committed, tmp_path: Path) -> None:
    local = open_dataset(committed.path)
    with serve(committed.path.parent, delay=0.005) as store:
        remote = open_dataset(f"{store.uri}/{committed.path.name}", verify=True, cache_dir=tmp_path / "cache")
        assert repr(remote).partition("\n")[2] == repr(local).partition("\n")[2]
        assert vars(next(iter(remote.statistics.values()))) == vars(next(iter(local.statistics.values())))
        for split in local.splits:
            (expected,) = local.numpy(split, 1 << 20, shuffle="window")
            for batches in (
                remote.numpy(split, 1 << 20, shuffle="window"),
                remote.tf(split, 1 << 20, shuffle="window"),
                remote.tf(split, 1 << 20, shuffle="window", graph="saved"),
            ):
                (batch,) = batches
                _check(expected, batch, local.transform.outputs)
        served = remote.export(str(tmp_path / "served"))
        assert served.outputs == local.export(str(tmp_path / "local")).outputs
        assert sorted(path.relative_to(tmp_path / "served") for path in (tmp_path / "served").rglob("*")) == sorted(
            path.relative_to(tmp_path / "local") for path in (tmp_path / "local").rglob("*")
        )


def _has(name: str) -> bool:
    import importlib.util

    return importlib.util.find_spec(name) is not None
