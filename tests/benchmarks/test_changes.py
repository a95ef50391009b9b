"""What the benchmark of changes computes, and what it refuses."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

SMALL, WHOLE = 100, 1100


@pytest.fixture
def changes(modules: Any) -> Any:
    """The benchmark."""
    return modules("changes")


def _series(changes: Any, name: str, seconds: dict[int, Sequence[float]]) -> Any:
    """A series of runs that took so long, by their sizes, and twice the CPU time."""
    runs = {size: [changes.Run(each, 2 * each, 0, 0.0) for each in rounds] for size, rounds in seconds.items()}
    return changes.Series(name, changes.Run, list(seconds), runs=runs)


def _rows(changes: Any, section: str, change: str, seconds: float) -> list[dict[str, Any]]:
    """The rows of a section, all of whose changes took 4.0 s but for one."""
    full = _series(changes, f"{section}_full", {SMALL: [5.0], WHOLE: [15.0]})  # 4 s, and 11 s for its examples
    took = dict.fromkeys(changes.SECTIONS[section], 4.0) | {change: seconds}
    series = [full, *(_series(changes, f"{section}_{name}", {WHOLE: [each]}) for name, each in took.items())]
    return [row.to_json() for row in changes.rows(section, {one.name: one for one in series})]


def test_a_change_is_told_as_a_share_of_a_full_run_beyond_the_fixed_cost(changes: Any):
    rows = {row["claim"]: row for row in _rows(changes, "jpeg", "fewer", 4.55)}
    fixed = rows["photos as JPEG: fixed cost, CPU time"]
    assert (fixed["value"], fixed["reference"]) == (pytest.approx(8.0), "22.00 of 30.0 s, full run")
    fewer = rows["photos as JPEG: 1 % fewer, CPU time"]
    assert (fewer["value"], fewer["ours"]) == (pytest.approx(5.0), "1.10 of 9.1 s")
    assert rows["photos as JPEG: 1 % more, CPU time"]["value"] == pytest.approx(0.0, abs=1e-9)
    assert rows["photos as JPEG: nothing changed, wall clock"]["value"] == 4.0
    assert rows["photos as JPEG: 1 % fewer, wall clock"]["value"] == pytest.approx(5.0)


@pytest.mark.parametrize(("seconds", "met"), [(4.54, True), (4.56, False)])
def test_a_change_may_take_a_twentieth(changes: Any, seconds: float, met: bool):
    rows = {row["claim"]: row for row in _rows(changes, "raw", "relabelled", seconds)}
    assert rows["photos, raw: 1 % relabelled, CPU time"]["met"] is met


@pytest.mark.parametrize(("seconds", "met"), [(8.9, True), (9.1, False)])
def test_other_features_of_a_table_have_their_bar_in_seconds(
    changes: Any, seconds: float, met: bool, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(changes, "ROWS", WHOLE)
    rows = {row["claim"]: row for row in _rows(changes, "table", "features", seconds)}
    row = rows["table: a line of `features` changed, CPU time"]
    assert (row["value"], row["unit"], row["met"]) == (pytest.approx(2 * seconds - 8), " s", met)


def test_every_input_differs_from_the_whole_one_in_what_its_name_says(changes: Any, tmp_path: Path):
    changes.write_photos(tmp_path / "none", 200, tmp_path / "photos")
    names = {
        name: {file.name for file in (tmp_path / "photos" / name).rglob("*.jpg")}
        for name in ("small", "whole", "more", "fewer", "relabelled")
    }
    assert {name: len(files) for name, files in names.items()} == {
        "small": 64, "whole": 200, "more": 202, "fewer": 198, "relabelled": 200
    }  # fmt: skip
    assert names["small"] < names["whole"] < names["more"]
    labels, others = (
        (tmp_path / "photos" / name / "labels.csv").read_text().splitlines() for name in ("whole", "relabelled")
    )
    assert sum(line != other for line, other in zip(labels, others, strict=True)) == 2
    (tmp_path / "adult.data").write_text("a,b,c,d,e\n1,2,3,4,5\n6,7,8,9,0\n")
    changes.write_table(tmp_path, 400, tmp_path / "table")
    count = {name: len(list((tmp_path / "table" / name).glob("*.csv"))) for name in ("small", "whole", "more", "fewer")}
    assert count == {"small": 1, "whole": 100, "more": 101, "fewer": 99}
    parts = [(tmp_path / f"table/more/part-{part:03d}.csv").read_text() for part in (0, 100)]
    assert parts[0] == "a,b,c,d,e\n1,2,0,4,5\n6,7,1,9,0\n1,2,2,4,5\n6,7,3,9,0\n"
    assert parts[1] == "a,b,c,d,e\n1,2,400,4,5\n6,7,401,9,0\n1,2,402,4,5\n6,7,403,9,0\n"


def test_a_line_of_features_is_another_one_where_that_is_the_change(changes: Any):
    for section, recipe in changes.RECIPES.items():
        assert recipe.replace(*changes.LINES[section]) != recipe


def test_other_statistics_than_a_full_run_s_end_the_benchmark(
    changes: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """A run that takes over something has other statistics than one that makes all."""

    def run(words: Sequence[str], _: Any) -> Any:
        output = Path(words[-1])
        is_delta = output.is_dir()
        (output / "g/statistics").mkdir(parents=True, exist_ok=True)
        content = json.dumps({"examples": 1 + (is_delta and Path(words[words.index("--input") + 1]).name == "more")})
        for path, text in (("_DATASET.json", '{"generation": "g"}'), ("g/statistics/statistics.json", content)):
            (output / path).unlink(missing_ok=True)
            (output / path).write_text(text)
        return changes.Run(1.0, 1.0, 0, 0.0)

    monkeypatch.setattr(changes, "run", run)
    for name in ("small", "whole", "more", "fewer"):
        (tmp_path / "table" / name).mkdir(parents=True)
    bench = changes.Bench(tmp_path, argparse.Namespace(rows=WHOLE))
    series = {one.name: one for one in bench.series("table")}
    assert series["table_fewer"].start(WHOLE).cpu == 1.0
    with pytest.raises(RuntimeError, match="table, more: expected the statistics of a full run, found other ones"):
        series["table_more"].start(WHOLE)
