"""Duplicates that workers find are those that the launcher finds."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import Made, contents, plan_job, run_job, write

from penstock.pipeline import Csv, JsonLines, Recipe, Union, join
from penstock.pipeline.build import duplicates
from penstock.pipeline.sources import text_ranges
from penstock.transforms import columns

RANGE_BYTES = 700


def table(begin: int, count: int) -> str:
    return "id,n,t\n" + "".join(
        f'{number},{number * 7 % 300},"word\n{number % 3}"\n' for number in range(begin, begin + count)
    )


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    lines = "".join(f'{{"id": {number}, "n": {number % 9}}}\n' for number in range(200))
    fives = "n,five\n" + "".join(f"{n},{n % 5}\n" for n in range(300))
    return write(
        tmp_path / "raw",
        {"a.csv": table(0, 900), "b.csv": table(500, 700), "lines.jsonl": lines, "fives.csv": fives},
    )


SOURCES: dict[str, Callable[[], Any]] = {
    "csv": lambda: Csv(["a.csv", "b.csv"]),
    "union": lambda: Union({"a": Csv("b.csv"), "b": JsonLines("lines.jsonl"), "c": Csv("a.csv")}, tag=None),
    "join": lambda: join(Csv(["b.csv", "a.csv"]), Csv("fives.csv"), on="n"),
    "by lines": lambda: Csv("fives.csv", quoted_newlines=False),
}


def recipe(source: str, **fields: Any) -> Recipe:
    standard: dict[str, Any] = {
        "source": SOURCES[source](),
        "prepare": [columns.drop("n" if source == "by lines" else "id")],
        "splits": {"train": 0.7, "test": 0.3},
        "deduplicate": True,
        "shards": 4,
    }
    return Recipe(**{**standard, **fields})


def by_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_ranges, "READ_WHOLE", 0)
    monkeypatch.setattr("penstock.pipeline.planning.cut.SCAN_BYTES", 3 * RANGE_BYTES)
    monkeypatch.setattr(duplicates, "_UNITS_PER_PARTITION", 2)


def facts(folder: Path, manifest: Any) -> Any:
    made = Made(folder, manifest)
    records = {split: sorted(made.records(split)) for split in ("train", "test")}
    return records, manifest.read, manifest.written, manifest.filtered, manifest.reasons.filtered


@pytest.mark.parametrize("source", SOURCES)
def test_workers_leave_out_the_rows_that_the_launcher_leaves_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, raw: Path, source: str
):
    monkeypatch.setattr("penstock.pipeline.planning.plan.RANGE_BYTES", RANGE_BYTES)
    here = run_job(recipe(source), raw, tmp_path / "here").manifest
    by_workers(monkeypatch)
    assert plan_job(recipe(source), raw).finds_duplicates
    there = run_job(recipe(source), raw, tmp_path / "there").manifest
    assert facts(tmp_path / "there", there) == facts(tmp_path / "here", here)
    assert there.reasons.filtered["duplicate"] > 0


def test_a_global_shuffle_and_a_repair_leave_out_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, raw: Path):
    monkeypatch.setattr("penstock.pipeline.planning.plan.RANGE_BYTES", RANGE_BYTES)
    by_workers(monkeypatch)
    unit = run_job(recipe("csv"), raw, tmp_path / "unit", hash="8" * 64).manifest
    before = contents(tmp_path / "unit")
    (tmp_path / "unit" / unit.splits["train"].shards[2].path).unlink()
    assert run_job(recipe("csv"), raw, tmp_path / "unit", hash="8" * 64).manifest == unit
    assert contents(tmp_path / "unit") == before
    shuffled = run_job(recipe("csv", shuffle="global"), raw, tmp_path / "global").manifest
    assert facts(tmp_path / "global", shuffled) == facts(tmp_path / "unit", unit)


def test_partitions_and_units_are_read_as_they_were_written(tmp_path: Path):
    rows = np.arange(28, dtype=np.uint64).reshape(7, 4)
    duplicates._write(str(tmp_path / "f"), rows, np.array([0, 3, 3, 7]))
    parts = [duplicates._read(str(tmp_path / "f"), part, 3, 4) for part in range(3)]
    assert [len(part) for part in parts] == [3, 0, 4]
    assert np.array_equal(np.concatenate(parts), rows)
