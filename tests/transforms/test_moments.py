import math
import random
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest

from penstock.transforms.exact import exact_sums
from penstock.transforms.moments import GroupedMoments, Moments

RNG = np.random.default_rng(1)
ANY_BITS = RNG.integers(0, 2**64, 3000, np.uint64).view(np.float64)


def alternating(first: str, low: str, high: str) -> npt.NDArray[np.float64]:
    return np.array([float(first)] + [float(low), float(high)] * 500)


def digits(actual: float, certified: float) -> float:
    """NIST's log relative error: how many digits agree."""
    return 16 if actual == certified else -math.log10(abs(actual - certified) / abs(certified))


# https://www.itl.nist.gov/div898/strd/univ/homepage.html: the data sets' definitions and certified values. The decimal
# data of NumAcc3 and NumAcc4 are no floats: reading 10000000.1 moves it by up to 2**-30, which leaves 9 digits of a
# standard deviation of 0.1. What is read is summed up to the last bit.
@pytest.mark.parametrize(
    ("values", "mean", "sample_std", "std_digits"),
    [
        (np.array([10000001, 10000003, 10000002]), 10000002, 1, 16),
        (alternating("1.2", "1.1", "1.3"), 1.2, 0.1, 15),
        (alternating("1000000.2", "1000000.1", "1000000.3"), 1000000.2, 0.1, 9),
        (alternating("10000000.2", "10000000.1", "10000000.3"), 10000000.2, 0.1, 8),
    ],
    ids=["NumAcc1", "NumAcc2", "NumAcc3", "NumAcc4"],
)
def test_nist_univariate(values: Any, mean: float, sample_std: float, std_digits: float) -> None:
    moments = Moments.of(values)
    assert digits(moments.mean, mean) >= 15
    variance = Fraction(moments.variance) * moments.count / (moments.count - 1)  # NIST's is that of a sample
    assert digits(math.sqrt(variance), sample_std) >= std_digits
    terms = [Fraction(value) for value in values.tolist()]
    center = sum(terms) / len(terms)
    assert is_nearest(moments.std, sum((term - center) ** 2 for term in terms) / len(terms))


def fractions(values: npt.NDArray[Any]) -> tuple[Fraction, Fraction]:
    terms = [Fraction(value) for value in values.tolist()]
    return sum(terms, Fraction()), sum((term * term for term in terms), Fraction())


CASES: dict[str, npt.NDArray[Any]] = {
    "normal": RNG.normal(size=20_000),
    "mixed signs and sizes": RNG.normal(size=5_000) * 2.0 ** RNG.integers(-100, 100, 5_000),
    "far from 0": 1e9 + RNG.random(9_000),
    "any bits": ANY_BITS[np.isfinite(ANY_BITS)],
    "largest and smallest": np.array([np.finfo(float).max] * 40 + [5e-324] * 40 + [-np.finfo(float).max, 0.0, -0.0]),
    "denormals": RNG.integers(1, 2**52, 1_000).astype(np.uint64).view(np.float64),
    "float32": RNG.normal(size=9_000).astype(np.float32),
    "zeros": np.zeros(100),
    "nothing": np.zeros(0),
    "int64": RNG.integers(-(2**63), 2**63 - 1, 9_000),
    "int64 ends": np.array([-(2**63), 2**63 - 1] * 30 + [0, 2**53, 2**53 + 1, -(2**53) - 1]),
    "uint64": RNG.integers(0, 2**64 - 1, 9_000, np.uint64),
    "int8": np.arange(-128, 128, dtype=np.int8),
}


@pytest.mark.parametrize("values", CASES.values(), ids=CASES)
def test_sums_are_exact(values: npt.NDArray[Any]) -> None:
    total, squares = exact_sums(values)
    assert (Fraction(total, 2**1074), Fraction(squares, 2**2148)) == fractions(values)


@pytest.mark.parametrize("values", CASES.values(), ids=CASES)
def test_mean_and_std_are_correctly_rounded(values: npt.NDArray[Any]) -> None:
    moments = Moments.of(values)
    if not len(values):
        assert [math.isnan(value) for value in (moments.mean, moments.std, moments.variance)] == [True] * 3
        return
    total, squares = fractions(values)
    variance = squares / len(values) - (total / len(values)) ** 2
    assert moments.mean == float(total / len(values))
    assert moments.variance == (math.inf if variance > Fraction(np.finfo(float).max) else float(variance))
    assert is_nearest(moments.std, variance)
    assert (moments.min, moments.max) == (values.min(), values.max())


def is_nearest(root: float, square: Fraction) -> bool:
    """Whether no other float is nearer to the square root: compared between the middles to the neighbours."""
    if not square:
        return root == 0
    below = (Fraction(root) + Fraction(math.nextafter(root, 0))) / 2
    above = (Fraction(root) + Fraction(math.nextafter(root, math.inf))) / 2
    return below**2 <= square <= above**2


def merged_in_any_order(parts: Sequence[Any], seed: int) -> Any:
    rng = random.Random(seed)
    left = list(parts)
    while len(left) > 1:
        first, second = (left.pop(rng.randrange(len(left))) for _ in range(2))
        left.append(first.merge(second))
    return left[0]


def parts_of(count: int, size: int) -> list[slice]:
    return [slice(start, start + size) for start in range(0, count, size)]


@pytest.mark.parametrize("size", [1, 7, 64, 1000])
def test_moments_are_the_same_bits_in_any_order(size: int) -> None:
    values = np.concatenate([RNG.normal(size=1_000) * 1e10, [np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-300, 1e300]])
    whole = Moments.of(values)
    parts = [Moments.of(values[part]) for part in parts_of(len(values), size)]
    for seed in range(5):
        assert merged_in_any_order([*parts, Moments()], seed).to_bytes() == whole.to_bytes()


def test_what_is_not_finite_is_counted_and_not_summed() -> None:
    moments = Moments.of(pa.array([1.0, None, math.nan, math.inf, -math.inf, math.inf, 3.0]))
    assert (moments.count, moments.missing, moments.nan) == (2, 1, 1)
    assert (moments.positive_inf, moments.negative_inf) == (2, 1)
    assert moments.as_floats() == (2.0, 2.0, 1.0, 1.0, 3.0)
    assert moments.sum == 4.0


def test_float32_overflow_is_none() -> None:
    assert Moments.of(np.full(3, 3e38, np.float32)).mean == float(np.float32(3e38))


def test_float32_far_from_0_keeps_its_variance() -> None:
    # tf.Transform's per-key variance of such data is negative (reliability.md)
    values = (10_000 + RNG.normal(size=5_000)).astype(np.float32)
    assert Moments.of(values).variance == pytest.approx(np.var(values.astype(np.float64)), rel=1e-9)
    (moments,) = GroupedMoments.of(pa.array(values), pa.array(["a"] * len(values))).results()
    assert moments.variance == Moments.of(values).variance > 0.9


def test_constant_columns_have_no_spread() -> None:
    assert Moments.of(np.full(1_000, 0.1)).std == 0.0
    assert Moments.of(np.full(1_000, 0.1)).mean == 0.1


@pytest.mark.parametrize(
    ("array", "count", "total"),
    [
        (pa.array([True, False, None]), 2, 1.0),
        (pa.array([None, None]), 0, 0.0),
        (pa.array([], pa.float64()), 0, 0.0),
        (pa.chunked_array([[1, 2], [None, 4]]), 3, 7.0),
        (pa.array([1, 2, 3, 4])[1:3], 2, 5.0),
        (pa.array([0.5, 0.25], pa.float16()), 2, 0.75),
        (np.array([[1, 2], [3, 4]]), 4, 10.0),
    ],
)
def test_moments_of_arrow_arrays(array: Any, count: int, total: float) -> None:
    moments = Moments.of(array)
    assert (moments.count, moments.sum) == (count, total)


@pytest.mark.parametrize("of", [Moments.of, lambda array: GroupedMoments.of(array, pa.array(["a"]))])
def test_moments_refuse_text(of: Callable[[pa.Array], object]) -> None:
    with pytest.raises(ValueError, match="expected integers, floats or booleans, found string; cast"):
        of(pa.array(["1"]))


@pytest.mark.parametrize(
    "values",
    [
        pa.array([3, 3, -7, None, 2**62, 2**62, -(2**63)]),
        pa.array([None, None], pa.int64()),
        pa.array([5, 6, 5], pa.uint8()),
        pa.array([0.5, -0.0, 0.0, None, math.nan, math.inf, 0.5]),
    ],
)
def test_moments_of_dictionaries_are_those_of_their_values(values: pa.Array) -> None:
    encoded = values.dictionary_encode()
    assert Moments.of(encoded) == Moments.of(values)
    assert Moments.of(encoded[1:]) == Moments.of(values[1:])  # whose first value may occur no more


def test_moments_are_read_back_as_they_were() -> None:
    for values in (RNG.normal(size=100), np.array([2**62, -5]), np.zeros(0), np.array([np.nan, 5e-324])):
        moments = Moments.of(values)
        assert Moments.from_json(moments.to_json()) == moments
        assert Moments.from_bytes(moments.to_bytes()) == moments


def test_the_bytes_are_these() -> None:
    assert Moments.of(np.array([1.5, -2.0, 4.0])).to_bytes() == (
        b'{"count": 3, "max": 4.0, "min": -2.0, "missing": 0, "nan": 0, "negative_inf": 0, "positive_inf": 0, '
        b'"squares": "59p2146", "total": "7p1073"}'
    )


def keyed(count: int, keys: int) -> tuple[pa.Array, pa.Array]:
    values = pa.array(RNG.normal(size=count) * 2.0 ** RNG.integers(-40, 40, count), mask=RNG.random(count) < 0.05)
    names = pa.array([f"k{number}" for number in RNG.integers(0, keys, count)], mask=RNG.random(count) < 0.05)
    return values, names


def test_each_group_has_the_moments_of_its_values() -> None:
    values, names = keyed(5_000, 20)
    values = pa.concat_arrays([values, pa.array([math.nan, math.inf, 1e300, 1e-310, None])])
    names = pa.concat_arrays([names, pa.array(["k1", "k1", "k2", "k2", "only missing"])])
    grouped = GroupedMoments.of(values, names)
    wanted = sorted(set(names.drop_null().to_pylist()))
    assert grouped.keys() == [name.encode() for name in wanted]
    for name, moments in zip(wanted, grouped.results(), strict=True):
        assert moments == Moments.of(values.filter(pa.array([other == name for other in names.to_pylist()])))
    assert grouped.keyless == names.null_count


@pytest.mark.parametrize("size", [7, 64, 1000])
def test_groups_are_the_same_bits_in_any_order(size: int) -> None:
    values, names = keyed(2_000, 50)
    whole = GroupedMoments.of(values, names)
    parts = [GroupedMoments.of(values[part], names[part]) for part in parts_of(len(values), size)]
    for seed in range(3):
        assert merged_in_any_order([*parts, GroupedMoments()], seed).to_bytes() == whole.to_bytes()
    again = GroupedMoments.from_bytes(whole.to_bytes())
    assert again == whole
    assert again.results() == whole.results()
    assert len(again) == 50


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        (pa.array([10, 9, 10]), [b"10", b"9"]),
        (pa.array([b"\xff", b"a", b"a"]), [b"a", b"\xff"]),
        (pa.array(["b", "a", "b"]).dictionary_encode(), [b"a", b"b"]),
        (pa.DictionaryArray.from_arrays(pa.array([0, 2, 0]), pa.array(["x", "unused", "y"])), [b"x", b"y"]),
        (pa.array([None, None, None]), []),
    ],
)
def test_keys_of_any_kind(keys: pa.Array, expected: list[bytes]) -> None:
    assert GroupedMoments.of(pa.array([1.0, 2.0, 3.0]), keys).keys() == expected


def test_a_hundred_thousand_keys() -> None:
    count = 200_000
    values, keys = pa.array(RNG.normal(size=count)), pa.array(RNG.permutation(count) % 100_000)
    halves = [GroupedMoments.of(values[part], keys[part]) for part in parts_of(count, count // 2)]
    grouped = halves[0].merge(halves[1])
    assert len(grouped) == 100_000
    assert sum(moments.total for moments in grouped.results()) == Moments.of(values).total


def test_groups_refuse_what_they_cannot_use() -> None:
    with pytest.raises(ValueError, match="expected as many keys as values, found 1, 2"):
        GroupedMoments.of(pa.array([1, 2]), pa.array(["a"]))
    with pytest.raises(ValueError, match="expected text, bytes or integers as keys, found double"):
        GroupedMoments.of(pa.array([1]), pa.array([1.0]))
    with pytest.raises(ValueError, match=r"expected integers up to 2\*\*53"):
        GroupedMoments.of(pa.array([2**60]), pa.array(["a"]))


@pytest.mark.parametrize("length", [0, 1, 5, 200, 9_000])
def test_moments_of_each_of_many_columns_are_those_of_it_alone(length: int) -> None:
    generator = np.random.default_rng(length)
    scales = [1.0, 1e-300, 1e300, 2.0**-1060, 1e15, 0.0]
    columns = [pa.array(generator.normal(size=length) * scale) for scale in scales]
    mixed = generator.normal(size=length) * 10.0 ** generator.integers(-40, 40, length)
    odd = np.where(generator.integers(0, 3, length) == 0, generator.choice([np.nan, np.inf, -0.0], length), 1.5)
    columns += [pa.array(mixed), pa.array(odd), pa.array(-np.zeros(length)), pa.array(np.arange(length))]
    columns += [pa.array([None if number % 3 else number / 7 for number in range(length)], pa.float64())]
    columns += [pa.array(np.arange(length) % 3).dictionary_encode(), pa.array(mixed)[length // 2 :][:0]]
    columns = columns if not length else columns[:-1]
    assert [each.to_bytes() for each in Moments.of_each(columns)] == [Moments.of(each).to_bytes() for each in columns]
    assert Moments.of_each([]) == []
