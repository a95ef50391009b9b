"""Figures that docs quote are those of benchmarks/results, and a changed digit is told."""

import argparse
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from helpers import REPOSITORY

MOMENT, LATER = "2026-11-26 10:00:00", "2026-11-26 11:00:00"


@pytest.fixture
def recorded(modules: Any) -> dict[str, Any]:
    """A run of one section with one row."""
    report = modules("_report")
    bar = report.Bar(1.35, at_least=True)
    row = report.Row("marginal rate", "1,016 images/s", "751 images/s Pillow", 1.3531, bar, (1.21, 1.48))
    return report.merge({}, MOMENT, _measured(3000), {"rate": [row.to_json()]})


def _measured(images: int) -> dict[str, Any]:
    machine = {"cpu": "CPU", "cores": 2, "kernel": "Linux 6.1", "governor": "not told", "memory": 24 << 30}
    machine |= {"load": [0.0, 1.9], "python": "3.11.9", "versions": {"penstock": "0.1.0"}}
    return {"machine": machine, "settings": {"images": str(images)}, "notes": ["medians of 5 rounds"], "series": {}}


@pytest.fixture
def repository(modules: Any, recorded: dict[str, Any], tmp_path: Path) -> Path:
    """A repository of one benchmark, that a run was recorded of, and docs that quote it."""
    for folder in ("benchmarks/results", "docs"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "benchmarks/images.py").touch()
    (tmp_path / "benchmarks/results/images.json").write_text(json.dumps(recorded))
    (tmp_path / "README.md").write_text(
        "Penstock is fast: 1,016 images/s\n([figures](docs/benchmarks.md)). A run: 7 s.\n"
    )
    page = "# Benchmarks\n## Images\nIt is 1.35.\n<!-- results: images -->\n<!-- end of results -->\n"
    (tmp_path / "docs/benchmarks.md").write_text(modules("docs").rewrite(page, {"images": recorded}))
    return tmp_path


def test_docs_quote_what_was_recorded(modules: Any):
    assert modules("docs").problems(REPOSITORY) == []


def test_a_page_with_the_recorded_figures_is_right(modules: Any, repository: Path):
    assert modules("docs").problems(repository) == []
    table = (repository / "docs/benchmarks.md").read_text()
    assert "| marginal rate | 1,016 images/s | 751 images/s Pillow | 1.35 | 1.21 … 1.48 | ≥ 1.35 | yes |\n" in table
    assert f"Recorded at {MOMENT} UTC (rate): 2 cores, CPU, 24 GiB, Linux 6.1, governor not told" in table


@pytest.mark.parametrize(
    ("page", "old", "new", "message"),
    [
        ("docs/benchmarks.md", "| 1,016 images/s", "| 1,017 images/s", "a table is not that of benchmarks/results"),
        ("docs/benchmarks.md", "| yes |", "| no |", "a table is not that of benchmarks/results"),
        ("docs/benchmarks.md", "It is 1.35", "It is 1.36", "'1.36' is not in the section's table"),
        ("docs/benchmarks.md", "# Benchmarks\n", "# Benchmarks\n1.35 times as fast.\n", "'1.35 times' is not in"),
        ("README.md", "1,016 images/s", "1,026 images/s", "'1,026 images/s' is not in the tables of the benchmarks"),
        ("README.md", "1,016 images/s", "1,016 rows/s", "'1,016 rows/s' is not in the tables of the benchmarks"),
        ("README.md", "A run: 7 s", "`benchmarks/images.py`: 7 s", "'7 s' is not in the tables of images"),
    ],
)
def test_a_figure_that_was_not_recorded_is_told(
    modules: Any, repository: Path, page: str, old: str, new: str, message: str
):
    path = repository / page
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    (problem,) = modules("docs").problems(repository)
    assert message in problem
    assert problem.startswith(page)


def test_another_recorded_run_is_told_until_the_page_is_written(modules: Any, repository: Path):
    path = repository / "benchmarks/results/images.json"
    path.write_text(path.read_text().replace("751 images/s", "760 images/s"))
    (problem,) = modules("docs").problems(repository)
    assert "a table is not that of benchmarks/results" in problem
    page = repository / "docs/benchmarks.md"
    page.write_text(modules("docs").rewrite(page.read_text(), modules("docs").load(repository)))
    assert modules("docs").problems(repository) == []


def test_a_benchmark_without_a_recorded_run_says_so_and_is_not_quoted(modules: Any, repository: Path):
    docs = modules("docs")
    shutil.rmtree(repository / "benchmarks/results")
    page = repository / "docs/benchmarks.md"
    assert any("a table is not that of" in problem for problem in docs.problems(repository))
    page.write_text(docs.rewrite(page.read_text(), {}))
    assert f"<!-- results: images -->\n{docs.UNRECORDED}\n\nRecorded at" in page.read_text()
    assert [problem.partition(" is not")[0] for problem in docs.problems(repository)] == [
        "README.md: '1,016 images/s'",
        "docs/benchmarks.md: '1.35'",
    ]


def test_every_benchmark_has_a_place_in_the_page_and_no_other_is_recorded(modules: Any, repository: Path):
    (repository / "benchmarks/load.py").touch()
    (repository / "benchmarks/results/other.json").write_text('{"runs": {}, "sections": {}}')
    first, second = modules("docs").problems(repository)
    assert "expected one block of results of each of ['images', 'load'], found ['images']" in first
    assert second == "benchmarks/results/other.json: there is no such benchmark"


def test_sections_that_are_measured_apart_keep_their_runs(modules: Any, recorded: dict[str, Any]):
    merge = modules("_report").merge
    row = modules("_report").Row("peak memory", "", value=1.01).to_json()
    both = merge(recorded, LATER, _measured(4000), {"memory": [row]})
    assert {name: section["run"] for name, section in both["sections"].items()} == {"rate": MOMENT, "memory": LATER}
    assert both["runs"][MOMENT]["settings"] == {"images": "3000"}
    text = modules("docs").render(both, "")
    assert text.index("`--images 3000`") < text.index("marginal rate") < text.index("`--images 4000`")
    later = merge(both, LATER, _measured(4000), {"rate": [row]})
    assert set(later["runs"]) == {LATER}  # nothing is left of the first


def test_a_round_without_a_rate_is_shown_as_that(modules: Any):
    report = modules("_report")
    row = report.Row("marginal rate", "", value=float("nan"), spread=(float("nan"), 0.5), bar=report.Bar(0.3, True))
    assert report.cells(row.to_json())[3:] == ["", "- … 0.50", "≥ 0.3", "NO"]


def test_a_row_of_rounds_has_their_median_and_spread(modules: Any):
    report = modules("_report")
    row = report.Row.of_rounds("memory", "9 MB", "8 MB", [1.5, 1.0, 1.2], report.Bar(1.1, at_least=False)).to_json()
    assert (row["value"], row["spread"], row["met"]) == (1.2, [1.0, 1.5], False)


def test_each_round_has_an_order_of_its_own_and_a_seed_repeats_it(modules: Any):
    orders = modules("_measure").orders
    steps = list(range(20))
    rounds = list(orders(steps, argparse.Namespace(seed=1, rounds=3)))
    assert [sorted(each) for each in rounds] == [steps] * 3
    assert len({tuple(each) for each in [steps, *rounds]}) == 4
    assert rounds == list(orders(steps, argparse.Namespace(seed=1, rounds=3)))
    assert rounds != list(orders(steps, argparse.Namespace(seed=2, rounds=3)))


def test_quick_runs_are_not_recorded(modules: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    options = modules("_options")
    monkeypatch.setattr(sys, "argv", ["images.py", "--quick", "--record"])
    with pytest.raises(SystemExit):
        options.parse(options.parser(None, ["rate"], ""), ["rate"])
    assert "--record: expected a whole run, found --quick" in capsys.readouterr().err


def test_settings_have_no_folders_of_the_machine(modules: Any):
    options = argparse.Namespace(photos=Path("/data/clothing"), json=Path("/tmp/x"), rounds=5, images=None)
    assert modules("_options").settings(options) == {"photos": "clothing", "rounds": "5"}
