"""How references are cut into units: by about equal times, none empty, whatever the batches they come in."""

import numpy as np
import pytest

from penstock.pipeline.planning.cut import SHARD_BYTES, SplitCut, SplitTotals, count_units, cut_ranges, taper
from penstock.pipeline.sources.listing import RecordRange


def cut(sizes: np.ndarray, count: int, batch: int, tapered: bool = False) -> np.ndarray:
    """The unit of each example."""
    splits = SplitCut(SplitTotals(len(sizes), int(sizes.sum()), {}), count, tapered)
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


@pytest.mark.parametrize("batch", [100, 100_000])
def test_units_become_smaller_where_their_number_was_not_asked_for(batch: int):
    sizes = np.full(100_000, 1_000_000)
    times = np.bincount(cut(sizes, 50, batch, tapered=True))
    assert (np.diff(times) < 0).all()
    assert times[0] / times.mean() == pytest.approx(1.8, abs=0.02)
    assert times[-1] / times.mean() == pytest.approx(0.2, abs=0.02)
    few = np.bincount(cut(sizes[:1000], 50, batch, tapered=True))
    assert np.array_equal(few, np.full(50, 20))  # half a minute in all


def test_a_taper_begins_and_ends_with_the_total():
    assert taper(1_000, 1) == []
    assert taper(1_000, 4) == [400, 700, 900]
    begins = taper(10**17, 10_000)
    assert begins == sorted(set(begins))
    assert 10**17 - begins[-1] < begins[0] / 8


@pytest.mark.parametrize("count", [1, 2, 5, 9, 10])
@pytest.mark.parametrize("place", [0, 4, 9])
@pytest.mark.parametrize("tapered", [False, True])
def test_no_unit_is_empty_beside_a_giant(count: int, place: int, tapered: bool):
    sizes = np.ones(10, np.int64)
    sizes[place] = 1 << 40
    for batch in (1, 3, 10):
        units = cut(sizes, count, batch, tapered)
        assert np.array_equal(np.unique(units), np.arange(count))
        assert (np.diff(units) >= 0).all()


@pytest.mark.parametrize(
    ("examples", "payload", "stored", "count"),
    [
        (1_000, 100_000, 20_000, 1),  # three seconds
        (100_000, 1_000, 20_000, 30),  # by the bytes of shards
        (100_000, 2_000_000, 20_000, 256),  # 5,000 seconds: eight units for each of 32 workers
        (10_000_000, 2_000_000, 20_000, 5365),  # by the bytes of the largest of them
        (100_000, 2_000_000, 1_000, 23),  # shards of 4 MiB at least
    ],
)
def test_the_number_of_units_follows_from_bytes_and_time(examples: int, payload: int, stored: int, count: int):
    splits = {"train": SplitTotals(examples, examples * payload, {})}
    assert count_units(splits, None, stored) == {"train": count}
    assert count >= examples * stored / SHARD_BYTES
    assert count_units(splits, 7, stored) == {"train": 7}


def ranges(count: int) -> list[RecordRange]:
    return [RecordRange("rows.csv", "rows.csv", at, at + 1, at, 10, 1 << 20) for at in range(count)]


def sizes_of_units(count: int, shards: int | None, output: int, tapered: bool = True) -> list[int]:
    units = cut_ranges(ranges(count), ("train",), shards, output, 0, ("tfrecord", False), tapered)
    assert [len(names) for names in (unit.shards for unit, _ in units)] == [1] * len(units)
    assert sum(len(group) for _, group in units) == count
    return [len(group) for _, group in units]


def test_units_of_a_large_table_become_smaller_too():
    assert sizes_of_units(10, None, 3 * SHARD_BYTES) == [4, 3, 3]
    assert sizes_of_units(10, 4, 3 * SHARD_BYTES) == [3, 2, 3, 2]
    assert set(sizes_of_units(6400, 100, 100 * SHARD_BYTES)) == {64}
    assert set(sizes_of_units(6400, None, 100 * SHARD_BYTES, tapered=False)) == {64}
    large = sizes_of_units(6400, None, 100 * SHARD_BYTES)
    assert (len(large), max(large), min(large)) == (180, 64, 7)
    assert sizes_of_units(40, None, 100 * SHARD_BYTES) == [1] * 40
