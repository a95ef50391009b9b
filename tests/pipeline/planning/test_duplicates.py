"""Rows that equal an earlier one, and images that contradict the one that they equal."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import draw, plan_job, write

from penstock.pipeline import Csv, Images, Recipe, folder
from penstock.pipeline.planning import plan as plans
from penstock.pipeline.prepare.preparer import StatisticsSpec
from penstock.transforms import columns

ROWS = [f"{number % 60},word {number % 12}" for number in range(200)]


def stored(recipe: Recipe, root: Path) -> tuple[list[Any], int]:
    """The rows that would be stored, whatever their split, and how many are left out as duplicates."""
    plan = plan_job(recipe, root)
    preparer = plan.preparer(StatisticsSpec(recipe.statistics))
    chunks = [chunk for _, ranges in plan.units for record_range in ranges for chunk in preparer(record_range)]
    rows = [row for chunk in chunks for split in chunk.splits.values() for row in split.examples.to_pylist()]
    return rows, sum(chunk.filtered["duplicate"] for chunk in chunks)


@pytest.mark.parametrize("range_bytes", [1 << 20, 100])
def test_of_equal_rows_the_first_stays_wherever_the_others_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, range_bytes: int
):
    monkeypatch.setattr(plans, "RANGE_BYTES", range_bytes)
    lines = ["n,t", *ROWS]
    raw = write(tmp_path, {"a.csv": "\n".join(lines[:90]) + "\n", "b.csv": "\n".join(["n,t", *lines[90:]]) + "\n"})
    splits = {"train": 0.7, "test": 0.3}
    recipe = Recipe(source=Csv("*.csv"), splits=splits, deduplicate=True, format="parquet", shuffle=None)
    rows, left_out = stored(recipe, raw)
    assert sorted((row["n"], row["t"]) for row in rows) == sorted(
        (number, f"word {number % 12}") for number in range(60)
    )
    assert left_out == 140


def test_rows_are_equal_where_what_is_stored_of_them_is(tmp_path: Path):
    raw = write(tmp_path, {"a.csv": "id,n\n1,5\n2,5\n3,6\n4,\n5,\n"})
    fields = {"source": Csv("a.csv"), "deduplicate": True, "format": "parquet", "shuffle": None}
    assert stored(Recipe(**fields), raw)[1] == 0
    rows, left_out = stored(Recipe(**fields, prepare=[columns.drop("id")]), raw)
    assert (rows, left_out) == ([{"n": 5}, {"n": 6}, {"n": None}], 2)


def test_the_numbers_of_duplicates_come_back_from_the_plan_file(tmp_path: Path):
    from penstock.pipeline.planning import plan_file

    raw = write(tmp_path, {"a.csv": "n\n1\n2\n1\n1\n"})
    plan = plan_job(Recipe(source=Csv("a.csv"), deduplicate=True), raw)
    plan.units.write(str(tmp_path / "plan.arrow"))
    _, (record_range,) = plan_file.read_unit(str(tmp_path / "plan.arrow"), 0)
    assert np.frombuffer(record_range.duplicates, np.int64).tolist() == [2, 3]


def test_a_duplicate_with_another_label_is_told_by_name(tmp_path: Path):
    raw = draw(tmp_path / "drawn", 6)
    for place in ("cat/1.png", "cat/2.png", "dog/1.png"):
        (tmp_path / "raw" / place).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(raw / "images" / "cat_001.png", tmp_path / "raw" / place)
    shutil.copy(raw / "images" / "cat_002.png", tmp_path / "raw" / "dog" / "2.png")
    recipe = Recipe(source=Images("*/*.png", label=folder()), deduplicate=True)
    plan = plan_job(recipe, tmp_path / "raw")
    (warning,) = plan.inventory.warnings
    assert warning.startswith("1 images that are left out as duplicates contradict the label of the one that stays")
    assert "cat/1.png (cat) = dog/1.png (dog)" in warning
