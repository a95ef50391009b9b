import functools
import itertools
import random
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from penstock.transforms.quantiles import Quantiles

RNG = np.random.default_rng(2)


def rank_errors(values: Any, boundaries: Any) -> list[float]:
    """How far each boundary's rank is from what it should be, as a share of the count."""
    errors = []
    for number, boundary in enumerate(boundaries, 1):
        low, high = np.mean(values < boundary), np.mean(values <= boundary)
        wanted = number / (len(boundaries) + 1)
        errors.append(max(0.0, low - wanted, wanted - high))
    return errors


@pytest.mark.parametrize("buckets", [2, 3, 10, 100])
def test_quantiles_of_few_distinct_values_are_numpys(buckets: int) -> None:
    values = RNG.integers(17, 90, 5_000)
    expected = np.quantile(values, np.arange(1, buckets) / buckets, method="inverted_cdf")
    assert Quantiles.of(pa.array(values), 0.01).boundaries(buckets).tolist() == expected.tolist()


def test_quantiles_of_few_distinct_values_are_the_same_bits_in_any_order() -> None:
    values = pa.array(RNG.integers(0, 500, 5_000) / 7)
    whole = Quantiles.of(values, 0.01)
    parts = [Quantiles.of(values[start : start + 50], 0.01) for start in range(0, 5_000, 50)]
    for seed in range(3):
        random.Random(seed).shuffle(parts)
        merged = Quantiles(0.01)
        for part in parts:
            merged = merged.merge(part)
        assert merged.to_bytes() == whole.to_bytes()
        assert Quantiles.from_bytes(merged.to_bytes()).boundaries(9).tolist() == whole.boundaries(9).tolist()


DISTRIBUTIONS = {
    "normal": RNG.normal(size=100_000),
    "sorted": np.arange(100_000.0),
    "falling": -np.arange(100_000.0),
    "heavy ties": np.where(RNG.random(100_000) < 0.5, 0.0, RNG.normal(size=100_000)),
    "all equal": np.full(100_000, 3.25),
    "heavy tail": RNG.lognormal(0, 4, 100_000),
}


def adversarial() -> dict[str, Any]:
    """Columns whose bins hold too much, in one way or another."""
    rng = np.random.default_rng(7)
    size = 60_000
    wide = rng.lognormal(0, 6, size)
    bits = rng.integers(-(2**63), 2**63 - 1, size).view(np.float64)
    dense = np.where(rng.random(size) < 0.5, 1 + rng.random(size) * 1e-9, wide)
    nested = np.where(rng.random(size) < 0.5, 1 + rng.random(size) * 1e-15, dense)
    nested = np.where(rng.random(size) < 0.5, 2 + rng.random(size) * 1e-12 * (rng.random(size) < 0.5), nested)
    return DISTRIBUTIONS | {
        "timestamps": rng.integers(1_600_000_000, 1_700_000_000, size),
        "nanoseconds": rng.integers(0, 10**9, size) + 1_700_000_000 * 10**9,
        "ids": rng.permutation(size),
        "huge integers": rng.integers(-(2**63), 2**63 - 1, size),
        "two scales": dense,
        "three scales": nested,
        "an outlier": np.append(1 + rng.random(size) * 1e-6, [1e300, -1e300]),
        "any bits": bits,
        "denormals": rng.integers(0, 2**50, size).view(np.float64),
        "zeros": rng.choice([0.0, -0.0], size) * (rng.random(size) < 0.5)
        + rng.normal(size=size) * (rng.random(size) < 0.6),
        "imputed": np.where(rng.random(size) < 0.3, 0.37284615384615383, wide),
        "constants": np.where(rng.random(size) < 0.5, rng.choice([3.7, 3.7000000001, -999.0], size), wide),
    }


def looked_at(quantiles: Quantiles, values: Any, buckets: int) -> tuple[Quantiles, int]:
    """The quantiles after all looks that they need, and how many these were; each look is given the column in parts."""
    looks = 0
    while look := quantiles.look([buckets]):
        for part in np.array_split(RNG.permutation(values), 3):
            look.add(part)
        quantiles = quantiles.closer(look)
        looks += 1
    return quantiles, looks


def groupings(values: Any) -> list[Quantiles]:
    """The quantiles of a column, merged of parts of any size in any order, and in any tree."""
    merged = []
    for seed, size in enumerate([len(values), 20_000, 7_000, 300]):
        rng = np.random.default_rng(seed)
        shuffled = rng.permutation(values) if seed else values
        ends = [0, *sorted(rng.integers(0, len(values), len(values) // size - 1)), len(values)]
        parts = [Quantiles.of(pa.array(shuffled[start:end]), 0.01) for start, end in itertools.pairwise(ends)]
        while len(parts) > 1:
            position = int(rng.integers(0, len(parts) - 1))
            both = parts[position : position + 2]
            if rng.random() < 0.1:
                both = [Quantiles.from_bytes(each.to_bytes()) for each in both]
            parts[position : position + 2] = [both[0].merge(both[1])]
        merged.append(parts[0])
    return merged


@pytest.mark.parametrize("name", adversarial())
def test_any_grouping_gives_the_same_bits_within_epsilon(name: str) -> None:
    values = adversarial()[name]
    finite = np.asarray(values, np.float64)
    finite = finite[np.isfinite(finite)]
    for buckets in (4, 10, 64):
        boundaries = [looked_at(quantiles, values, buckets)[0].boundaries(buckets) for quantiles in groupings(values)]
        for each in boundaries[1:]:
            assert each.tobytes() == boundaries[0].tobytes()
        assert max(rank_errors(finite, boundaries[0])) <= 0.01
        assert np.isin(boundaries[0], finite).all()
        assert np.all(np.diff(boundaries[0]) >= 0)


@pytest.mark.parametrize(
    ("name", "most"),
    [("normal", 0), ("timestamps", 0), ("imputed", 0), ("heavy tail", 0), ("two scales", 1), ("three scales", 1)],
)
def test_a_look_is_rare(name: str, most: int) -> None:
    values = adversarial()[name]
    looks = {looked_at(quantiles, values, 10)[1] for quantiles in groupings(values)}
    assert max(looks) == most


def test_looks_go_into_bins_within_bins() -> None:
    size = 300_000
    dense, denser = 1 + RNG.random(size) * 1e-6, 1 + RNG.integers(0, 20_000, size) * 2.0**-52
    values = np.choose(np.arange(size) % 3, [RNG.lognormal(0, 6, size), dense, denser])
    quantiles, looks = looked_at(Quantiles.of(values, 0.01), values, 10)
    assert looks == 2
    assert max(rank_errors(values, quantiles.boundaries(10))) <= 0.01


def test_boundaries_that_are_not_known_are_not_told() -> None:
    values = adversarial()["two scales"]
    quantiles = Quantiles.of(values, 0.01)
    with pytest.raises(ValueError, match="expected a closer look"):
        quantiles.boundaries(10)
    look = quantiles.look([10])
    assert look is not None
    look.add(values[1:])
    with pytest.raises(ValueError, match=r"expected \d+ values in the bin of 1.0.*, found \d+"):
        quantiles.closer(look)


@pytest.mark.parametrize("epsilon", [0.2, 0.01, 0.001, 1e-5])
def test_the_size_is_bounded(epsilon: float) -> None:
    quantiles = Quantiles.of(RNG.lognormal(0, 9, 200_000), epsilon)
    assert len(quantiles.to_bytes()) < 2**14 * 24 + 2**15
    if epsilon == 0.01:
        assert len(quantiles.to_bytes()) < 100_000


def test_few_values_of_the_whole_stay_single() -> None:
    """16,384 distinct values are exact, one more is not."""
    values = RNG.normal(size=2**14)
    exact = functools.reduce(
        Quantiles.merge, [Quantiles.of(part, 0.3) for part in np.array_split(np.tile(values, 3), 5)]
    )
    assert (
        exact.boundaries(1000).tolist()
        == np.quantile(values, np.arange(1, 1000) / 1000, method="inverted_cdf").tolist()
    )
    assert exact.merge(Quantiles.of(np.array([1.0]), 0.3)).look([2]) is None
    assert len(exact.merge(Quantiles.of(np.array([1.0]), 0.3)).to_bytes()) < len(exact.to_bytes()) / 4


def test_what_is_not_finite_has_no_rank() -> None:
    quantiles = Quantiles.of(pa.array([None, float("nan"), float("inf"), -float("inf"), 1.0, 2.0, 3.0]), 0.01)
    assert (quantiles.count, quantiles.boundaries(2).tolist()) == (3, [2.0])


def test_no_values_have_no_quantiles() -> None:
    assert np.isnan(Quantiles(0.01).boundaries(4)).tolist() == [True] * 3
    assert np.isnan(Quantiles.from_bytes(Quantiles(0.01).to_bytes()).boundaries(4)).all()


def test_quantiles_refuse_what_they_cannot_use() -> None:
    with pytest.raises(ValueError, match="expected integers or floats, found string"):
        Quantiles.of(pa.array(["a"]), 0.1)
    with pytest.raises(ValueError, match="epsilon"):
        Quantiles(0.0)
    with pytest.raises(ValueError, match=r"expected one epsilon, found 0.1 and 0.2"):
        Quantiles(0.1).merge(Quantiles(0.2))


def test_quantiles_without_a_part_are_those_of_the_rest() -> None:
    values = pa.array([*(RNG.integers(0, 500, 3_000) / 7), None, np.nan, 1e9])
    whole, part, rest = (Quantiles.of(each, 0.01) for each in (values, values[2_000:], values[:2_000]))
    without = whole.without(part)
    assert without is not None
    assert without.to_bytes() == rest.to_bytes()
    nothing = whole.without(whole)
    assert nothing is not None
    assert nothing.to_bytes() == Quantiles(0.01).to_bytes()


def test_quantiles_of_too_many_values_can_do_without_none() -> None:
    values = RNG.normal(size=20_000)
    assert Quantiles.of(values, 0.01).without(Quantiles.of(values[:5], 0.01)) is None
