"""Splits by what is in columns: several of them, strata, and time."""

from collections import Counter
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from penstock.pipeline import RequestError, by_column, by_hash, by_time
from penstock.pipeline.splits.columns import Hashes, columns_of, describe_rule, fit, reads_columns, split_batch
from penstock.pipeline.splits.hashing import hash_rows

HALVES = {"train": 0.5, "test": 0.5}
SHARES = {"train": 0.7, "validation": 0.2, "test": 0.1}


def hashes(count: int, begin: int = 0) -> Hashes:
    return lambda: hash_rows("a.csv", np.arange(begin, begin + count), "split")


def split(rule: Any, **columns: Any) -> list[Any]:
    """The split of each row, None where it is in none, a code where it can be in none."""
    batch = pa.record_batch(columns)
    names = list(rule.names())
    fitted, _ = fit(rule, names, lambda: [(batch, hashes(len(batch)))])
    codes, errors = split_batch(fitted, names, batch, hashes(len(batch)))
    found: list[Any] = [None if code < 0 else names[code] for code in codes.tolist()]
    for row, error in errors.items():
        found[row] = error.code
    return found


def test_rows_of_one_user_and_day_are_in_one_split():
    users = [f"user {number % 12}" for number in range(3000)]
    days = [number % 7 for number in range(3000)]
    found = split(by_hash(HALVES, column=("user", "day")), user=users, day=days)
    pairs = set(zip(users, days, found, strict=True))
    assert len(pairs) == 84
    by_user = {user: {name for other, _, name in pairs if other == user} for user in users}
    assert all(names == {"train", "test"} for names in by_user.values())  # not the user alone decides
    assert split(by_hash(HALVES, column=("day", "user")), user=users, day=days) != found


def test_one_column_in_a_list_is_that_column():
    users = [f"user {number}" for number in range(100)]
    assert split(by_hash(HALVES, column=["user"]), user=users) == split(by_hash(HALVES, column="user"), user=users)


def test_equal_rows_stay_together_by_all_columns():
    rows = {"a": [number % 5 for number in range(400)], "b": [[number % 3] for number in range(400)]}
    found = split(by_hash(HALVES, column="*"), **rows, c=[b"\xff%d" % (number % 2) for number in range(400)])
    kinds = {(number % 5, number % 3, number % 2): set() for number in range(400)}
    for number, name in enumerate(found):
        kinds[number % 5, number % 3, number % 2].add(name)
    assert all(len(names) == 1 for names in kinds.values())
    assert set(found) == {"train", "test"}


def test_each_label_has_its_exact_shares():
    labels = ["common"] * 1000 + ["rare"] * 20 + [None] * 100
    found = split(by_hash(SHARES, stratify="label"), label=labels)
    counts = Counter(zip(labels, found, strict=True))
    for label, number in Counter(labels).items():
        assert [counts[label, name] for name in SHARES] == [round(share * number) for share in SHARES.values()]
    assert found[:1000] != sorted(found[:1000])  # by hashes, and not by position


def test_strata_are_the_same_however_the_input_is_cut():
    labels = [f"{number % 3}" for number in range(1000)]
    rule = by_hash(SHARES, stratify="label")
    names = list(SHARES)
    parts = [
        (pa.record_batch({"label": labels[begin : begin + 90]}), hashes(min(90, 1000 - begin), begin))
        for begin in range(0, 1000, 90)
    ]
    fitted, warnings = fit(rule, names, lambda: parts)
    found = [names[code] for batch, part in parts for code in split_batch(fitted, names, batch, part)[0]]
    assert found == split(rule, label=labels)
    assert warnings == []


def test_a_label_that_is_too_rare_for_a_split_is_named():
    batch = pa.record_batch({"label": ["common"] * 100 + ["rare"]})
    _, warnings = fit(by_hash(SHARES, stratify="label"), list(SHARES), lambda: [(batch, hashes(101))])
    assert len(warnings) == 2
    assert "split 'validation' gets no example of 1 of 2 values of 'label'" in warnings[0]
    assert "'rare' (1 example)" in warnings[0]
    with pytest.raises(RequestError, match=r"split 'validation' would be empty: .* stratify by a column of few values"):
        split(by_hash(SHARES, stratify="label"), label=[f"{number}" for number in range(50)])


def test_times_are_before_their_splits_end():
    times = ["2023-12-31T23:59:59", "2024-01-01", "2024-02-01 00:00:00.5", "2024-01-31T23:30:00-01:00", "2025-01-01"]
    until = {"train": "2024-01-01", "validation": date(2024, 2, 1), "test": datetime(2025, 1, 1, tzinfo=UTC)}
    assert split(by_time("t", until), t=times) == ["train", "validation", "test", "test", None]
    assert split(by_time("t", {**until, "test": None}), t=times)[-1] == "test"
    zone = timezone(timedelta(hours=-1))
    assert split(by_time("t", {"train": datetime(2024, 1, 1, tzinfo=zone), "test": None}), t=["2024-01-01 00:59"]) == [
        "train"
    ]


@pytest.mark.parametrize("broken", ["soon", "", "2024-13-01", None])
def test_what_is_no_time_is_set_aside_alone(broken: str | None):
    found = split(by_time("t", {"train": "2024-01-01", "test": None}), t=["2023-05-01", broken, "2024-05-01"])
    assert found == ["train", "no_time", "test"]
    batch = pa.record_batch({"t": pa.array([broken], pa.string())})
    _, errors = split_batch(by_time("t", {"train": "2024-01-01"}), ["train"], batch, hashes(1))
    assert "'t': expected a time for by_time" in errors[0].message
    assert (repr(broken) if broken is not None else "a missing value") in errors[0].message


def test_numbers_are_times_too():
    assert split(by_time("t", {"train": 10, "test": None}), t=[9, 10, 11, None]) == ["train", "test", "test", "no_time"]
    assert split(by_time("t", {"train": 0.5, "test": 1.0}), t=[0.4, float("nan"), 0.5, 1.0]) == [
        "train",
        "no_time",
        "test",
        None,
    ]


def test_shares_in_the_order_of_time():
    order = np.random.default_rng(0).permutation(1000)
    days = [(datetime(2020, 1, 1) + timedelta(days=int(day))).isoformat() for day in order]
    for times in (days, order, order / 7):
        found = split(by_time("t", shares=SHARES), t=times)
        assert [found[row] for row in np.argsort(order)] == ["train"] * 700 + ["validation"] * 200 + ["test"] * 100


def test_examples_of_one_time_stay_together():
    found = split(by_time("t", shares=HALVES), t=[1] * 30 + [2] * 40 + [3] * 30)
    assert found == ["train"] * 30 + ["test"] * 70
    with pytest.raises(RequestError, match="split 'train' would be empty: expected times in 't' that differ enough"):
        split(by_time("t", shares=HALVES), t=[1] * 60 + [2] * 40)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: by_time("t"), "expected either times or shares"),
        (lambda: by_time("t", {"train": "2024"}, shares=HALVES), "expected either times or shares"),
        (lambda: by_time("t", {"train": "then", "test": None}), "expected a time such as '2024-01-31'"),
        (lambda: by_time("t", {"train": None, "test": "2024-01-01"}), "None for the last split only"),
        (lambda: by_time("t", {"train": "2024-02-01", "test": "2024-01-01"}), "in ascending order"),
        (lambda: by_time("t", {"train": "2024-02-01", "test": 3}), "either dates or numbers"),
        (lambda: by_time("t", shares={"train": 0.5}), "positive fractions that sum to 1"),
        (lambda: by_hash(HALVES, column="a", stratify="b"), "one of group, column and stratify"),
        (lambda: by_hash(HALVES, column=[]), "expected a column or several"),
    ],
)
def test_what_is_no_rule(make: Any, message: str):
    with pytest.raises(ValueError, match=message):
        make()


def test_times_of_another_kind_than_the_column_are_refused():
    with pytest.raises(RequestError, match="the values of the column, which are numbers, found"):
        split(by_time("t", {"train": "2024-01-01", "test": None}), t=[1, 2])
    with pytest.raises(RequestError, match="which are strings, as dates are read, found"):
        split(by_time("t", {"train": 5, "test": None}), t=["2024-01-01"])
    with pytest.raises(RequestError, match="expected a column of strings or numbers, found one of list"):
        split(by_time("t", {"train": 5, "test": None}), t=[[1]])


def test_which_columns_decide():
    assert columns_of(by_hash(HALVES, column=("a", "b"))) == ("a", "b")
    assert columns_of(by_hash(HALVES, stratify="a")) == columns_of(by_time("a", shares=HALVES)) == ("a",)
    assert columns_of(by_hash(HALVES, column="*")) == ()
    assert reads_columns(by_hash(HALVES, column="*"))
    assert not reads_columns(by_hash(HALVES))
    with pytest.raises(RequestError, match=r"expected one of the columns \['a'\], found 'b'"):
        split(by_column("b", ["x"]), a=["x"])


def test_a_rule_says_what_it_is():
    assert describe_rule(by_hash(HALVES)) == {"rule": "by_hash", "fractions": HALVES}
    assert describe_rule(by_column("part", ["a"])) == {"rule": "by_column", "column": "part", "values": ["a"]}
    batch = pa.record_batch({"t": ["2024-01-01", "2024-03-05T10:00:00"]})
    fitted, _ = fit(by_time("t", shares=HALVES), list(HALVES), lambda: [(batch, hashes(2))])
    until = {"train": "2024-03-05 10:00:00+00:00", "test": None}
    assert describe_rule(fitted) == {"rule": "by_time", "column": "t", "until": until}
    strata, _ = fit(
        by_hash(HALVES, stratify="t"), list(HALVES), lambda: [(pa.record_batch({"t": ["a"] * 4}), hashes(4))]
    )
    assert describe_rule(strata) == {"rule": "by_hash", "stratify": "t"}
