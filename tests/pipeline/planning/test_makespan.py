"""How long units take together; and how near to the least possible that is with the planner's cut and order."""

import numpy as np
import pytest

from penstock.pipeline.planning.cut import SplitCut, SplitTotals, count_units
from penstock.pipeline.planning.makespan import makespan

# Measured on 1,590 photos (pets and clothing), made JPEGs of 128x128 by one core: 5 % quantiles of their bytes, and of
# the CPU time that each took in parts of 1.673 ms and 11.42 ns a byte, the line through all of them.
PHOTO_BYTES = [
    6_200,
    12_800,
    16_300,
    17_900,
    19_600,
    21_200,
    22_800,
    24_700,
    26_600,
    28_800,
    30_800,
    33_400,
    36_700,
    41_900,
    53_200,
    73_400,
    92_100,
    109_400,
    132_100,
    156_600,
    621_100,
]
RESIDUALS = [
    0.41,
    0.65,
    0.84,
    0.88,
    0.9,
    0.92,
    0.94,
    0.96,
    0.97,
    0.99,
    1.0,
    1.02,
    1.03,
    1.05,
    1.06,
    1.08,
    1.1,
    1.13,
    1.16,
    1.25,
    2.79,
]
STORED_BYTES = 7_800


def photos(count: int) -> tuple[np.ndarray, np.ndarray]:
    """The bytes of so many photos, with a heavy tail up to 600 MB, and the seconds that each takes."""
    random = np.random.default_rng(0)
    places = np.linspace(0, 1, len(PHOTO_BYTES))
    sizes = np.interp(random.random(count), places, PHOTO_BYTES)
    sizes *= np.minimum(1 + 0.5 * random.pareto(1.8, count), 1000)
    seconds = (1.673e-3 + 11.42e-9 * sizes) * np.interp(random.random(count), places, RESIDUALS)
    return sizes.astype(np.int64), seconds


def cut_into_units(sizes: np.ndarray, shards: int | None) -> np.ndarray:
    """The unit of each photo."""
    totals = SplitTotals(len(sizes), int(sizes.sum()), {})
    count = count_units({"train": totals}, shards, STORED_BYTES)["train"]
    return SplitCut(totals, count, shards is None).units(sizes)


def simulate(units: np.ndarray, sizes: np.ndarray, seconds: np.ndarray, slots: int) -> float:
    """The makespan by the planner's order, with each unit on a machine that is a little faster or slower."""
    count = units[-1] + 1
    spread = np.random.default_rng(1).lognormal(0, 0.1, count)
    durations = np.bincount(units, seconds) * spread
    first = np.argsort(-np.bincount(units, sizes), kind="stable")
    ideal = max(durations.sum() / slots, durations.max())
    return makespan(durations[first].tolist(), slots) / ideal


@pytest.mark.parametrize(
    ("durations", "slots", "expected"),
    [([], 3, 0), ([5], 3, 5), ([4, 3, 2, 1], 2, 5), ([1, 2, 3, 4], 2, 6), ([1] * 7, 3, 3), ([2.5, 2.5], 1, 5)],
)
def test_the_next_piece_goes_to_whoever_is_free_first(durations: list[float], slots: int, expected: float):
    assert makespan(durations, slots) == expected


@pytest.mark.slow
def test_a_thousand_slots_are_done_in_little_more_than_the_least_possible_time():
    """Of 10 million photos: 27 s of work for each of 1,000 slots, which is little; of more work they lose less."""
    sizes, seconds = photos(10_000_000)
    units = cut_into_units(sizes, None)
    assert seconds.max() > 100 * np.median(seconds)
    for slots, bar in ((1000, 1.1), (700, 1.1), (300, 1.04), (100, 1.02), (32, 1.01)):
        assert simulate(units, sizes, seconds, slots) <= bar
    # What the taper is for: as many units of equal times.
    assert simulate(cut_into_units(sizes, int(units[-1]) + 1), sizes, seconds, 1000) > 1.2
