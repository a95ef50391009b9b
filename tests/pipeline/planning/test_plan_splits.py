"""Splits that need more than a key: columns that `prepare` makes, columns that are joined, labels, and time."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from helpers import LABEL, draw, plan_job, save, write

from penstock.pipeline import Csv, Images, Recipe, RequestError, by_column, by_hash, by_path, by_time, join
from penstock.pipeline import table as label_list
from penstock.transforms import columns

SHARES = {"train": 0.75, "test": 0.25}
ROWS = "n,day\n" + "".join(f"{number},2024-{1 + number % 12:02d}-{1 + number % 28:02d}\n" for number in range(400))


@columns.vectorized
def parity(batch: pa.RecordBatch) -> pa.RecordBatch:
    return columns.put(batch, "parity", pc.cast(pc.bit_wise_and(batch["n"], 1), pa.string()))


def by_example(example: dict[str, Any]) -> dict[str, Any]:
    return {**example, "parity": str(example["n"] % 2)}


def rows(recipe: Recipe, root: Path) -> dict[str, list[dict[str, Any]]]:
    """The rows of each split, as the plan's steps prepare them."""
    plan = plan_job(recipe, root)
    from penstock.pipeline.prepare.preparer import StatisticsSpec

    preparer = plan.preparer(StatisticsSpec(recipe.statistics))
    found: dict[str, list[dict[str, Any]]] = {}
    for _, ranges in plan.units:
        for chunk in (chunk for record_range in ranges for chunk in preparer(record_range)):
            for name, split in chunk.splits.items():
                found.setdefault(name, []).extend(split.examples.to_pylist())
    return found


def table(**fields: Any) -> Recipe:
    return Recipe(**{"source": Csv("a.csv"), "format": "parquet", **fields})


@pytest.mark.parametrize("step", [parity, by_example])
def test_a_column_that_prepare_makes_decides(tmp_path: Path, step: Any):
    rule = by_column("parity", ["0", "1"])
    found = rows(table(prepare=[step], splits=rule, statistics="0"), write(tmp_path, {"a.csv": ROWS}))
    assert {name: sorted(row["n"] for row in split) for name, split in found.items()} == {
        "0": list(range(0, 400, 2)),
        "1": list(range(1, 400, 2)),
    }


def test_a_column_of_the_input_decides_as_it_was_read(tmp_path: Path):
    step = columns.vectorized(lambda batch: columns.put(batch, "n", pa.nulls(len(batch), pa.int64())))
    found = rows(
        table(prepare=[step], splits=by_time("n", {"train": 100, "test": None})), write(tmp_path, {"a.csv": ROWS})
    )
    assert {name: len(split) for name, split in found.items()} == {"train": 100, "test": 300}


@pytest.mark.parametrize(
    "rule", [by_hash(SHARES, column="none"), by_column("none", ["train"]), by_time("none", shares=SHARES)]
)
def test_a_column_that_is_nowhere_is_named(tmp_path: Path, rule: Any):
    with pytest.raises(RequestError, match=r"expected one of the columns \['n', 'day'.*found 'none'"):
        plan_job(table(splits=rule, prepare=[by_example]), write(tmp_path, {"a.csv": ROWS}))


def test_shares_in_the_order_of_time_need_all_files(tmp_path: Path):
    lines = ROWS.splitlines()
    raw = write(tmp_path, {"a.csv": "\n".join(lines[:101]) + "\n", "b.csv": "\n".join([lines[0], *lines[101:]]) + "\n"})
    found = rows(table(source=Csv("*.csv"), splits=by_time("day", shares=SHARES)), raw)
    assert max(row["day"] for row in found["train"]) < min(row["day"] for row in found["test"])
    assert abs(len(found["train"]) - 300) < 5


def test_rows_without_a_time_are_known_losses(tmp_path: Path):
    raw = write(tmp_path, {"a.csv": "n,day\n1,2024-01-01\n2,soon\n3,2025-01-01\n"})
    plan = plan_job(table(splits=by_time("day", {"train": "2024-06-01", "test": None})), raw)
    assert plan.known_losses.quarantined == {"no_time": 1}


def test_labels_of_images_are_shared_out_exactly(tmp_path: Path):
    raw = draw(tmp_path, 24)
    plan = plan_job(Recipe(source=Images("images/*.png", label=LABEL), splits=by_hash(SHARES, stratify="label")), raw)
    assert {name: split.labels for name, split in plan.splits.items()} == {
        "train": {"cat": 12, "dog": 6},
        "test": {"cat": 4, "dog": 2},
    }


def test_columns_that_are_joined_to_images_decide(tmp_path: Path):
    raw = draw(tmp_path, 24)
    names = sorted(path.name for path in (raw / "images").iterdir())
    lines = [f"{name},{number % 8},{2000 + number if number else ''}" for number, name in enumerate(names)]
    write(raw, {"more.csv": "name,patient,year\n" + "\n".join(lines) + "\n"})
    source = join(Images("images/*.png"), Csv("more.csv"), on="name")

    def found(rule: Any) -> dict[str, Counter[int]]:
        plan = plan_job(Recipe(source=source, splits=rule), raw)
        splits: dict[str, Counter[int]] = {name: Counter() for name in plan.splits}
        for unit, references in plan.units:
            (name,) = unit.shards
            splits[name].update(reference.columns["patient"] for reference in references)
        return splits

    patients = found(by_hash({"train": 0.5, "test": 0.5}, column="patient"))
    assert not patients["train"].keys() & patients["test"].keys()
    assert patients["train"].total() + patients["test"].total() == 24
    plan = plan_job(Recipe(source=source, splits=by_time("year", {"train": 2012, "test": None})), raw)
    assert {name: split.examples for name, split in plan.splits.items()} == {"train": 11, "test": 12}
    assert [(example.code, example.key) for example in plan.inventory.quarantined] == [
        ("no_time", f"images/{names[0]}")
    ]
    assert plan.inventory.read == 24


def test_images_without_a_time_hide_none_that_are_too_late(tmp_path: Path):
    raw = draw(tmp_path, 24)
    names = sorted(path.name for path in (raw / "images").iterdir())
    lines = [f"{name},{'' if number < 3 else number}" for number, name in enumerate(names)]
    write(raw, {"more.csv": "name,year\n" + "\n".join(lines) + "\n"})
    source = join(Images("images/*.png"), Csv("more.csv"), on="name")
    plan = plan_job(Recipe(source=source, splits=by_time("year", {"train": 12, "test": 22})), raw)
    assert {name: split.examples for name, split in plan.splits.items()} == {"train": 9, "test": 10}
    assert plan.inventory.quarantined.counts == {"no_time": 3}
    assert plan.inventory.filtered == {"in_no_split": 2}


def test_images_without_columns_say_what_is_expected(tmp_path: Path):
    raw = draw(tmp_path, 4)
    with pytest.raises(RequestError, match="expected a column that is joined to the images, or 'label'"):
        plan_job(Recipe(source=Images("images/*.png"), splits=by_hash(SHARES, column="patient")), raw)


def test_a_split_of_which_all_images_are_duplicates_is_none(tmp_path: Path):
    """What the input names is what is stored; the splits' order is that of the first keys that stay."""
    for name, value in {"a/c.png": 7, "b/a.png": 9, "b/b.png": 7, "train/a.png": 1, "v/a.png": 9}.items():
        save(tmp_path / name, np.full((4, 4, 3), value))
    save(tmp_path / "v" / "b.png", np.full((4, 4, 3), 2))
    fields = {"source": Images("*/*.png"), "splits": by_path("([a-z]+)/")}
    assert list(plan_job(Recipe(**fields), tmp_path).splits) == ["a", "b", "train", "v"]
    (tmp_path / "v" / "b.png").unlink()
    plan = plan_job(Recipe(**fields, deduplicate=True), tmp_path)
    assert {name: split.examples for name, split in plan.splits.items()} == {"a": 1, "b": 1, "train": 1}
    assert [[reference.key for reference in references] for _, references in plan.units] == [
        ["a/c.png"],
        ["b/a.png"],
        ["train/a.png"],
    ]


@pytest.mark.parametrize("rule", [by_hash(SHARES, stratify="label"), by_time("label", shares=SHARES)])
def test_where_nothing_can_be_used_columns_are_not_looked_for(tmp_path: Path, rule: Any):
    raw = write(draw(tmp_path, 4), {"labels.csv": "nobody,cat\n"})
    with pytest.raises(RequestError, match=r"found none that can be used: of 4 .* 4 by label_missing"):
        plan_job(Recipe(source=Images("images/*.png", label=label_list("labels.csv")), splits=rule), raw)


def test_a_label_that_a_split_lacks_is_a_warning_of_the_plan(tmp_path: Path):
    raw = draw(tmp_path, 24)
    (raw / "images" / "dog_000.png").rename(raw / "images" / "eel_000.png")
    plan = plan_job(Recipe(source=Images("images/*.png", label=LABEL), splits={"train": 0.5, "test": 0.5}), raw)
    (warning,) = plan.inventory.warnings
    assert "has no example of 1 of 3 labels: 'eel'" in warning
