"""How references are cut into units: by about equal times, none empty, whatever the batches they come in."""

import numpy as np
import pytest

from penstock.pipeline.planning.cut import SHARD_BYTES, SplitCut, SplitTotals, count_units


def cut(sizes: np.ndarray, count: int, batch: int) -> np.ndarray:
    """The unit of each example."""
    splits = SplitCut(SplitTotals(len(sizes), int(sizes.sum()), {}), count)
    return np.concatenate([splits.units(sizes[at : at + batch]) for at in range(0, len(sizes), batch)])


@pytest.mark.parametrize("batch", [1, 7, 1000])
def test_a_small_input_is_cut_by_numbers(batch: int):
    sizes = np.arange(1, 24)
    units = cut(sizes, 7, batch)
    assert units.tolist() == [next(unit for unit in range(7) if row < (unit + 1) * 23 // 7) for row in range(23)]


@pytest.mark.parametrize("batch", [100, 1024, 100_000])
def test_units_take_about_as_long_as_each_other(batch: int):
    sizes = np.random.default_rng(0).pareto(2, 20_000) * 100_000 + np.linspace(0, 1e6, 20_000)
    sizes = sizes.astype(np.int64)
    units = cut(sizes, 40, batch)
    assert np.array_equal(np.unique(units), np.arange(40))
    assert (np.diff(units) >= 0).all()
    times = np.bincount(units, 200e-6 + sizes * 25e-9)
    largest = (200e-6 + sizes.max() * 25e-9) / times.mean()
    assert abs(times / times.mean() - 1).max() < largest + 0.01
    assert np.bincount(units).max() > 3 * np.bincount(units).min()  # the later ones are larger


@pytest.mark.parametrize("count", [1, 2, 5, 9, 10])
@pytest.mark.parametrize("place", [0, 4, 9])
def test_no_unit_is_empty_beside_a_giant(count: int, place: int):
    sizes = np.ones(10, np.int64)
    sizes[place] = 1 << 40
    for batch in (1, 3, 10):
        units = cut(sizes, count, batch)
        assert np.array_equal(np.unique(units), np.arange(count))
        assert (np.diff(units) >= 0).all()


@pytest.mark.parametrize(
    ("examples", "payload", "stored", "count"),
    [
        (1_000, 100_000, 20_000, 1),  # three seconds
        (100_000, 1_000, 20_000, 30),  # by the bytes of shards
        (100_000, 2_000_000, 20_000, 256),  # 5,000 seconds: eight units for each of 32 workers
        (10_000_000, 2_000_000, 20_000, 2981),
        (100_000, 2_000_000, 1_000, 23),  # shards of 4 MiB at least
    ],
)
def test_the_number_of_units_follows_from_bytes_and_time(examples: int, payload: int, stored: int, count: int):
    splits = {"train": SplitTotals(examples, examples * payload, {})}
    assert count_units(splits, None, stored) == {"train": count}
    assert count >= examples * stored / SHARD_BYTES
    assert count_units(splits, 7, stored) == {"train": 7}
