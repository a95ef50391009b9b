"""Rows have one hash exactly where all that is stored of them is equal, in whatever batch they are."""

import itertools
import random
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from penstock.pipeline.formats.example_writer import encode, with_dictionaries
from penstock.pipeline.formats.features import describe_columns
from penstock.pipeline.prepare.row_hashes import concat_hashes, hash_contents

SCHEMA = pa.schema(
    [
        ("n", pa.int64()),
        ("m", pa.int64()),
        ("x", pa.float64()),
        ("s", pa.string()),
        ("t", pa.string()),
        ("b", pa.binary()),
        ("l", pa.large_list(pa.int64())),
        ("k", pa.large_list(pa.string())),
    ]
)
FEATURES = describe_columns(SCHEMA)
POOLS: dict[str, list[Any]] = {
    "n": [0, 1, -1, None, -(2**63)],
    "m": [0, 1, -1, None],
    "x": [0.0, -0.0, 1.0, 1.0 + 2**-40, float("inf"), float("nan"), None],
    "s": ["", "a", "b", "-", "+", None],
    "t": ["", "a", "b", "ab", None],
    "b": [b"", b"a", b"\xff", None],
    "l": [[], [1], [1, 2], [2, 1], None],
    "k": [[], [""], ["a", "b"], ["ab"], None],
}


def draw(count: int, seed: int) -> pa.RecordBatch:
    pick = random.Random(seed)
    rows = [{name: pick.choice(pool) for name, pool in POOLS.items()} for _ in range(count)]
    return pa.RecordBatch.from_pylist(rows, SCHEMA)


def one_column(name: str) -> pa.RecordBatch:
    """Rows that differ in one column alone."""
    rest = {other: pool[1] for other, pool in POOLS.items() if other != name}
    return pa.RecordBatch.from_pylist([{**rest, name: value} for value in POOLS[name]], SCHEMA)


def pairs(batch: pa.RecordBatch) -> list[tuple[int, int]]:
    return list(map(tuple, hash_contents(batch, FEATURES).tolist()))


@pytest.mark.parametrize("batch", [draw(3000, 1), *map(one_column, POOLS)], ids=["all", *POOLS])
def test_hashes_are_equal_where_the_stored_bytes_are(batch: pa.RecordBatch):
    by_hash: dict[Any, Any] = dict(zip(pairs(batch), encode(batch, FEATURES).to_pylist(), strict=True))
    by_content = dict(zip(encode(batch, FEATURES).to_pylist(), pairs(batch), strict=True))
    assert len(by_hash) == len(by_content)
    assert {content: each for each, content in by_hash.items()} == by_content
    words = {word for pair in by_hash for word in pair}
    assert len(words) == 2 * len(by_hash)  # each word tells rows apart


def test_values_that_change_places_change_the_hash():
    rows = [{"n": first, "m": second, "s": one, "t": other}
            for first, second in itertools.product([0, 1, None], repeat=2)
            for one, other in itertools.product(["", "a", "b", None], repeat=2)]  # fmt: skip
    assert len(set(pairs(pa.RecordBatch.from_pylist(rows, SCHEMA)))) == len(rows)


def test_a_batch_changes_no_hash():
    batch = draw(800, 2)
    expected = pairs(batch)
    assert pairs(with_dictionaries(batch)) == expected
    assert any(pa.types.is_dictionary(column.type) for column in with_dictionaries(batch).columns)
    assert [each for begin in range(0, 800, 7) for each in pairs(batch[begin : begin + 7])] == expected
    reordered = dict(reversed(FEATURES.items()))
    assert list(map(tuple, hash_contents(batch, reordered).tolist())) == expected


def test_hashes_of_parts_follow_each_other():
    batch = draw(20, 3)
    parts = [(np.arange(begin, begin + 10), hash_contents(batch[begin : begin + 10], FEATURES)) for begin in (0, 10)]
    numbers, hashes = concat_hashes(parts)
    assert numbers.tolist() == list(range(20))
    assert list(map(tuple, hashes.tolist())) == pairs(batch)
    assert concat_hashes([])[1].shape == (0, 2)


def test_hashes_are_the_same_everywhere():
    """These numbers are in files of runs that other machines go on with."""
    batch = pa.RecordBatch.from_pylist([{"n": 1, "x": 0.5, "s": "a", "l": [7]}], SCHEMA)
    assert pairs(batch) == [(10278912353481107231, 3903420097180570533)]
