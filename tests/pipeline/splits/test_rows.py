import numpy as np
import pyarrow as pa
import pytest

from penstock.pipeline import RequestError, by_column, by_glob, by_hash, by_path
from penstock.pipeline.splits.columns import describe_unlisted
from penstock.pipeline.splits.rows import split_names, split_rows

KEYS = ["data/train/a.csv", "data/test/b.csv"]


def test_a_path_names_the_split() -> None:
    rule = by_path(r"data/(?P<split>\w+)/")
    names = split_names(rule, KEYS)
    assert names == ["test", "train"]
    batch = pa.record_batch({"x": [1, 2, 3]})
    assert split_rows(rule, names, KEYS[0], batch, np.arange(3))[0].tolist() == [1, 1, 1]
    assert split_rows(rule, names, KEYS[1], batch, np.arange(3))[0].tolist() == [0, 0, 0]


def test_a_column_names_the_split_and_other_values_are_in_none() -> None:
    batch = pa.record_batch({"part": ["test", "train", "dev", None, "train"]})
    found, _ = split_rows(by_column("part", ["train", "test"]), ["train", "test"], "a.csv", batch, np.arange(5))
    assert found.tolist() == [1, 0, -1, -1, 0]


def test_booleans_name_splits_as_words_or_as_the_numbers_that_sources_make_of_them() -> None:
    batch = pa.record_batch({"is_train": [1, 0, None, 1]})
    for names in (["true", "false"], ["True", "False"], ["1", "0"]):
        found, _ = split_rows(by_column("is_train", names), names, "a.csv", batch, np.arange(4))
        assert found.tolist() == [0, 1, -1, 0]
    words = pa.record_batch({"is_train": ["1", "true"]})  # strings are taken as they stand there
    assert split_rows(by_column("is_train", ["true"]), ["true"], "a.csv", words, np.arange(2))[0].tolist() == [-1, 0]


def test_what_the_column_of_splits_holds_instead_is_told() -> None:
    batch = pa.record_batch({"part": ["a", None, "b", "a", "c", "d", "e"]})
    found = describe_unlisted(by_column("part", ["train", "test"]), batch)
    assert found == ("expected ['train', 'test'] in the column 'part', found 'a', missing values, 'b', 'c', 'd', …")
    assert describe_unlisted(by_path("x"), batch) == ""


def test_rows_of_one_value_are_in_one_split_whatever_their_file() -> None:
    rule = by_hash({"train": 0.5, "test": 0.5}, column="user")
    users = [f"user {number % 50}" for number in range(1000)]
    batch = pa.record_batch({"user": users})
    found, _ = split_rows(rule, ["train", "test"], "a.csv", batch, np.arange(1000))
    other, _ = split_rows(rule, ["train", "test"], "b.csv", batch.slice(100), np.arange(900))
    assert len(set(zip(users, found.tolist(), strict=True))) == 50
    assert other.tolist() == found.tolist()[100:]
    assert set(found.tolist()) == {0, 1}


def test_shares_are_near_their_fractions() -> None:
    batch = pa.record_batch({"x": np.zeros(10_000)})
    rule = by_hash({"train": 0.8, "test": 0.2})
    found, _ = split_rows(rule, ["train", "test"], "a.csv", batch, np.arange(10_000))
    assert abs((found == 1).mean() - 0.2) < 0.02  # five standard deviations


def test_a_split_that_no_file_is_in_is_refused() -> None:
    with pytest.raises(RequestError, match="split 'test' would be empty"):
        split_names(by_glob({"train": "data/train/*", "test": "data/none/*"}), KEYS)
