"""What a second generation of a table warns of, and what a first one does."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf
from helpers import Made

from penstock.pipeline import Csv, PenstockError
from penstock.pipeline.commit.verify import verify
from penstock.transforms import categorical


def table(**columns: list[Any]) -> str:
    rows = zip(*columns.values(), strict=True)
    return "\n".join([",".join(columns), *(",".join(map(str, row)) for row in rows)]) + "\n"


def passed(inputs: Any) -> dict[str, Any]:
    return {"n": inputs["n"]}


@pytest.fixture
def again(make: Callable[..., Made], tmp_path: Path) -> Callable[..., list[str]]:
    """Makes a dataset of one table, then of another, and gives what the second manifest warns of."""

    def again_(first: str, second: str, **fields: Any) -> list[str]:
        fields = {"features": passed, **fields}
        before = make({"a.csv": first}, output=tmp_path / "dataset", hash="a" * 64, **fields)
        assert list(verify(str(before.path))) == []
        made = make({"a.csv": second}, output=tmp_path / "dataset", hash="b" * 64, **fields)
        return list(made.manifest.warnings)

    return again_


def test_new_values_of_texts_and_of_labels_are_named(again: Callable[..., list[str]]):
    """Of columns with many distinct values, too; what is seen again is no news."""
    many = [f"word {number}" for number in range(1000)]
    first = table(n=[1, 2] * 500, t=many, label=["cat", "dog"] * 500, few=["é"] * 1000)
    second = table(n=[1, 2] * 500, t=[*many[:-2], "é", "stranger"], label=["cat", "bird"] * 500, few=["é"] * 1000)
    assert again(first, second) == [
        "column 'label': 50.00 % of its values are new, such as 'bird'",
        "column 't': 0.20 % of its values are new, such as 'stranger', 'é'",
    ]
    assert again(second, second) == []


def test_numbers_beyond_the_range_are_named(again: Callable[..., list[str]]):
    first = table(n=[1, 2, 30], x=[0.5, 0.25, 1.0], same=[1, 5, 9])
    second = table(n=[1, 2, 31], x=[-0.5, 0.25, 1.0], same=[2, 5, 8])
    assert again(first, second) == [
        "column 'n': its values go beyond what they were, up to 31",
        "column 'x': its values go beyond what they were, down to -0.5",
    ]


def test_what_a_removed_row_had_is_not_said(again: Callable[..., list[str]]):
    assert again(table(n=[1, 2, 86420], x=[1.0, 2.0, 3.0]), table(n=[-1, 2, 3], x=[0.0, 2.0, 4.0])) == [
        "column 'n': its values go beyond what they were, down to -1",
        "column 'x': its values go beyond what they were, down to 0 and up to 4",
    ]


def test_whole_numbers_that_are_counted_or_are_labels(again: Callable[..., list[str]]):
    def features(inputs: Any) -> dict[str, Any]:
        return {"n": categorical.vocabulary(inputs, "n")}

    first, second = table(n=[1, 9, 9, 9], label=[1, 9, 9, 9]), table(n=[1, 9, 5, 5], label=[1, 9, 5, 5])
    assert again(first, second, features=features) == [
        "column 'n': 50.00 % of its values are new, such as '5'",
        "column 'label': 50.00 % of its values are new, such as '5'",
    ]


def test_a_column_that_became_free_text(again: Callable[..., list[str]]):
    first, second = (table(n=[1, 2, 3] * (rows // 3), t=[f"t{row}" for row in range(rows)]) for rows in (3, 10_002))
    assert again(first, second) == ["column 't': it has more than 10,000 distinct values, and had 3"]


def test_a_label_keeps_what_is_known_of_its_column(make: Callable[..., Made]):
    made = make({"a.csv": table(n=[1, 2, 3], label=["a", "b", ""])}, features=passed)
    assert made.statistics["label"] == {
        "kind": "label", "count": 2, "missing": 1, "distinct": 2, "counts": {"a": 1, "b": 1},
    }  # fmt: skip


def test_a_column_that_float32_cannot_keep_apart_is_named(make: Callable[..., Made]):
    rows = range(-50, 50)
    content = table(
        n=[1e8 + row / 10 for row in rows],
        fine=[1e4 + row / 10 for row in rows],
        whole=[10**8 + row for row in rows],
        same=[1e9 + 0.5] * 100,
    )
    (warning,) = make({"a.csv": content}, features=passed).manifest.warnings
    assert warning.startswith("column 'n': ")
    assert " of its 100 values are other whole numbers as float32" in warning
    assert "subtract an offset in `prepare`" in warning


def test_an_output_without_a_row_for_every_example_is_refused(make: Callable[..., Made], tmp_path: Path):
    def features(inputs: Any) -> dict[str, Any]:
        return {"even": tf.boolean_mask(inputs["n"], inputs["n"] % 2 == 0)}

    with pytest.raises(PenstockError, match=r"'even' .*a row for every example, found 4 rows of the first 8"):
        make({"a.csv": table(n=list(range(20)))}, output=tmp_path / "dataset", features=features, shuffle=None)
    assert not (tmp_path / "dataset" / "_DATASET.json").exists()


def test_a_split_that_no_row_belongs_to_is_named(make: Callable[..., Made]):
    splits = {"train": 1 - 1e-9, "test": 1e-9}
    rows = table(n=list(range(20)))
    with pytest.raises(PenstockError, match=r"'test' came out empty: none of the 20 examples belongs to it; fix"):
        make({"a.csv": rows}, features=passed, splits=splits)
    source = Csv("*.csv", columns={"n": "int64"})
    with pytest.raises(PenstockError, match=r"'test' came out empty: either none of the 21 .* the 1 in .*quarantine"):
        make({"a.csv": rows + "x\n"}, source=source, features=passed, splits=splits, max_quarantined="50%")
