"""Numbers and counts as the page shows them."""

import numpy as np
import pytest

from penstock.pipeline.formats.features import Feature
from penstock.pipeline.report.columns import labels_by_split, number, percent, split_missing, top_values


@pytest.mark.parametrize(("value", "words"), [(1234, "1,234"), (0.0123, "0.0123"), (1.23e10, "1.23e+10"), (-3.0, "-3")])
def test_numbers_are_short(value: float, words: str):
    assert number(value) == words


def test_a_share_that_is_not_nothing_is_not_shown_as_nothing():
    assert [percent(share) for share in (0, 0.00001, 0.123, 1)] == ["0.0 %", "< 0.1 %", "12.3 %", "100.0 %"]


def test_values_that_stand_for_a_missing_one_are_not_counted():
    integers = Feature("number", "int64", (), optional=True)
    present, lacking = split_missing(integers, np.array([3, np.iinfo(np.int64).min, 5]))
    assert (present.tolist(), lacking) == ([3, 5], 1)
    present, lacking = split_missing(Feature("number", "float32", (), optional=True), np.array([1.5, np.nan]))
    assert (present.tolist(), lacking) == ([1.5], 1)


def test_the_rest_of_many_values_is_summed_up():
    content = top_values({"a": 50, "b": 30, "c": 15, "d": 5}, 100, "values", 2)
    assert "2 others" in content
    assert "20.0 %" in content


def test_label_balance_shows_a_label_that_a_split_lacks():
    content = labels_by_split({"train": {"cat": 3, "dog": 1}, "test": {"cat": 2}})
    assert content is not None
    assert "75.0 % (3)" in content
    assert "none" in content
    assert labels_by_split({}) is None
