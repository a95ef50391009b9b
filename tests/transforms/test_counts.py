import functools
import random
from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from penstock.transforms.counts import Counts, Quantiles

RNG = np.random.default_rng(2)
WORDS = [f"w{int(number)}" for number in RNG.zipf(1.5, 20_000) % 3_000]


def test_counts_are_those_of_a_counter_ordered_by_count_and_token() -> None:
    expected = sorted(Counter(word.encode() for word in WORDS).items(), key=lambda item: (-item[1], item[0]))
    counts = Counts.of(pa.array([*WORDS, None, None]))
    assert counts.top() == expected
    assert counts.top(10) == expected[:10]
    assert counts.top(min_count=5) == [item for item in expected if item[1] >= 5]
    assert (counts.distinct, counts.total, counts.missing) == (len(expected), len(WORDS), 2)


def test_ties_are_ordered_by_bytes() -> None:
    counts = Counts.of(pa.array(["b", "a", "é", "Z", "b", "a", ""]))
    assert counts.top() == [(b"a", 2), (b"b", 2), (b"", 1), (b"Z", 1), ("é".encode(), 1)]


@pytest.mark.parametrize("size", [1, 64, 1000, 20_000])
def test_counts_are_the_same_bits_in_any_order(size: int) -> None:
    words = pa.array(WORDS)
    parts = [Counts.of(words[start : start + size]) for start in range(0, len(words), size)][:3000]
    whole = Counts.of(words[: 3000 * size])
    random.Random(0).shuffle(parts)
    one_by_one = functools.reduce(Counts.merge, parts, Counts())
    assert one_by_one.to_bytes() == whole.to_bytes()
    assert Counts.from_bytes(whole.to_bytes()) == whole


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (pa.array([3, 3, -1, None]), [(b"3", 2), (b"-1", 1)]),
        (pa.array([True, True, False]), [(b"1", 2), (b"0", 1)]),
        (pa.array([b"\xff", b"a", b"a"]), [(b"a", 2), (b"\xff", 1)]),
        (pa.array(["x", "y", "x"]).dictionary_encode(), [(b"x", 2), (b"y", 1)]),
        (pa.DictionaryArray.from_arrays([1, None, 1, 3, 0], ["z", "x", "y", "x"]), [(b"x", 3), (b"z", 1)]),
        (pa.DictionaryArray.from_arrays([1, None, 1, 2], ["z", "x", None]), [(b"x", 2)]),
        (pa.DictionaryArray.from_arrays([1, 1, 0], [7, 8]), [(b"8", 2), (b"7", 1)]),
        (pa.chunked_array([pa.array(["x", "y"]).dictionary_encode()] * 2), [(b"x", 2), (b"y", 2)]),
        (pa.array([["x", "y"], [], None, ["x"]]), [(b"x", 2), (b"y", 1)]),
        (pa.array(["x"] * 3, pa.large_string()), [(b"x", 3)]),
        (pa.chunked_array([["x"], ["x", None]]), [(b"x", 2)]),
        (pa.array([None, None]), []),
        (pa.array([], pa.string()), []),
    ],
)
def test_counts_of_any_kind(array: Any, expected: list[tuple[bytes, int]]) -> None:
    counts = Counts.of(array)
    assert counts.top() == expected
    assert counts.total == sum(count for _, count in expected)
    assert counts.distinct == len(expected)


def test_counts_refuse_floats() -> None:
    with pytest.raises(ValueError, match="expected text, bytes, integers or booleans, found double; cast"):
        Counts.of(pa.array([1.5]))


def test_more_distinct_values_than_the_limit_are_given_up_whatever_the_order() -> None:
    words = [f"w{number}" for number in range(11)]
    parts = [Counts.of(pa.array([word]), limit=10) for word in words]
    for seed in range(5):
        random.Random(seed).shuffle(parts)
        counts = Counts(limit=10)
        for part in parts:
            counts = counts.merge(part)
        assert counts.exceeded
        assert counts.total == 11
        with pytest.raises(ValueError, match="expected up to 10 distinct values, found more"):
            counts.top()
        again = Counts.from_bytes(counts.to_bytes())
        assert again.exceeded
        assert again == Counts.of(pa.array(words), limit=10)
        assert again.merge(parts[0]).exceeded
    assert not Counts.of(pa.array(words[:10]), limit=10).exceeded
    with pytest.raises(ValueError, match="expected one limit, found 10 and None"):
        Counts(limit=10).merge(Counts())


def test_tokens_that_no_line_holds_are_counted_and_left_out() -> None:
    array = pa.array([b"", b"", b"a\nb", b"c\r", b"\xff", b"\xff", b"ok", b" space "])
    vocabulary = Counts.of(array).vocabulary()
    assert vocabulary.tokens == [b"\xff", b" space ", b"ok"]
    assert vocabulary.counts == [2, 1, 1]
    assert vocabulary.left_out == {"empty": 2, "line_break": 2}
    assert vocabulary.not_utf8 == 2
    assert Counts.of(array).vocabulary(top_k=1).tokens == [b"\xff"]
    assert Counts().vocabulary().tokens == []
    assert [len(line) > 0 for line in Counts().vocabulary().lines] == [True]


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


@pytest.mark.parametrize("values", DISTRIBUTIONS.values(), ids=DISTRIBUTIONS)
@pytest.mark.parametrize("size", [1_000, 30_000, 100_000])
def test_ranks_are_within_epsilon(values: Any, size: int) -> None:
    parts = [Quantiles.of(pa.array(values[start : start + size]), 0.01) for start in range(0, len(values), size)]
    merged = functools.reduce(Quantiles.merge, [Quantiles.from_bytes(part.to_bytes()) for part in parts])
    for quantiles in (merged, Quantiles.from_bytes(merged.to_bytes())):
        boundaries = quantiles.boundaries(10)
        assert max(rank_errors(values, boundaries)) <= 0.01
        assert np.all(np.diff(boundaries) >= 0)
    assert merged.boundaries(10).tolist() == merged.boundaries(10).tolist()  # asking changes nothing
    assert merged.count == len(values)


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
