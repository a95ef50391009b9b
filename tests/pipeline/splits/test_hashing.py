"""Splits must never move: what these literals pin is in every dataset that was ever written."""

import numpy as np
import pyarrow as pa
import pytest

from penstock.pipeline.splits.hashing import hash64, hash_keys, pick_splits, split_bounds

SHARES = {"train": 0.8, "validation": 0.1, "test": 0.1}


@pytest.mark.parametrize(
    ("text", "salt", "expected"),
    [
        ("images/cat_001.png", "split", 15878448470360233036),
        ("", "split", 17512005676015884046),
        ("é/日本.png", "split", 4557477833845158842),
        ("images/cat_001.png", "position", 7620655470955819621),
    ],
)
def test_hashes_are_these_for_good(text: str, salt: str, expected: int):
    assert hash64(text, salt) == expected
    assert hash_keys(pa.array([text, "x", text]), salt).tolist() == [expected, hash64("x", salt), expected]


def test_a_name_that_is_no_utf8_has_a_hash():
    assert hash64("caf\udce9.png", "split") != hash64("cafe.png", "split")


def test_bounds_divide_the_range_by_the_shares():
    bounds = split_bounds(SHARES)
    assert [name for name, _ in bounds] == ["train", "validation", "test"]
    assert bounds[0][1] == round(0.8 * 2**64)
    assert bounds[-1][1] == 2**64
    first = bounds[0][1]
    hashes = np.array([0, first - 1, first, 2**64 - 1], np.uint64)
    assert pick_splits(hashes, SHARES).tolist() == [0, 0, 1, 2]


def test_shares_come_out_about_right():
    keys = pa.array([f"images/{number}.jpg" for number in range(20_000)])
    picked = np.bincount(pick_splits(hash_keys(keys, "split"), SHARES))
    for count, share in zip(picked.tolist(), SHARES.values(), strict=True):
        assert abs(count / len(keys) - share) < 0.01


@pytest.mark.parametrize(
    "shares",
    [{}, {"train": 0.9}, {"train": 0.9, "test": 0.2}, {"train": 1.0, "test": 0.0}, {"train": 1.1, "test": -0.1}],
)
def test_shares_must_be_positive_and_sum_to_one(shares: dict[str, float]):
    with pytest.raises(ValueError, match="expected positive fractions that sum to 1"):
        split_bounds(shares)


@pytest.mark.parametrize("shares", [{"a": 0.1, "b": 0.2, "c": 0.7}, {f"s{i}": 1 / 49 for i in range(49)}])
def test_shares_that_sum_to_one_but_for_rounding_are_taken(shares: dict[str, float]):
    bounds = split_bounds(shares)
    assert bounds[-1][1] == 2**64
    assert [upper for _, upper in bounds] == sorted(upper for _, upper in bounds)
