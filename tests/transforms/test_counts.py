import functools
import random
from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from penstock.transforms.counts import Counts

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


def test_counts_without_a_part_are_those_of_the_rest() -> None:
    words = pa.array([*WORDS[:2000], None, None, "only here"])
    whole, part, rest = Counts.of(words), Counts.of(words[1500:]), Counts.of(words[:1500])
    assert whole.without(part) == rest
    assert whole.without(whole) == Counts.of(words[:0])
    assert whole.without(Counts()) == whole


def test_counts_of_too_many_values_can_do_without_none() -> None:
    words = pa.array(WORDS)
    assert Counts.of(words, limit=10).without(Counts.of(words[:5], limit=10)) is None
