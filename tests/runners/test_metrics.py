"""The file with a run's figures: in Prometheus' text format, whole at any moment, and never in a run's way."""

import contextlib
import itertools
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from penstock.pipeline.build.progress import Progress
from penstock.pipeline.errors import OverBudgetError, PenstockError, RequestError
from penstock.runners import metrics
from penstock.runners.follow import Detached
from penstock.runners.job_record import JobRecord
from penstock.runners.metrics import MetricsFile, exit_code_of, kept_metrics
from penstock.runners.reporter import Silent

NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
LABEL = r'[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\\\|\\"|\\n)*"'
SAMPLE = re.compile(rf"({NAME})\{{((?:{LABEL})(?:,{LABEL})*)\}} ([0-9.e+-]+|NaN|[+-]Inf)")
RECORD = JobRecord("prepared", "0" * 16, "run", "flink", "0af1", None, "2026-01-01T00:00:00+00:00", 3, None, None)
Samples = dict[str, dict[tuple[tuple[str, str], ...], float]]


def parse(content: bytes) -> Samples:
    """Reads the text format by its grammar: HELP and TYPE once, right before all samples of their metric."""
    text = content.decode()
    assert text.endswith("\n")
    samples: Samples = {}
    kinds: dict[str, str] = {}
    current = ""
    for line in text.splitlines():
        if line.startswith("# HELP "):
            current = line.split(" ", 3)[2]
            assert current not in samples
            samples[current] = {}
        elif line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            assert name == current
            assert not samples[name]
            kinds[name] = kind
        else:
            match = SAMPLE.fullmatch(line)
            assert match, line
            name, labels, value = match.groups()
            assert name == current
            pairs = tuple(tuple(each.split("=", 1)) for each in re.findall(LABEL, labels))
            assert pairs not in samples[name]
            samples[name][pairs] = float(value)  # type: ignore[index]
    assert set(kinds) == set(samples)
    assert all((kinds[name] == "counter") == name.endswith("_total") for name in kinds)
    return samples


def value(samples: Samples, name: str) -> float:
    (number,) = samples[name].values()
    return number


def state(samples: Samples) -> list[str]:
    return [dict(labels)["state"].strip('"') for labels, number in samples["penstock_run_state"].items() if number]


def planned(examples: int | None) -> Any:
    units = SimpleNamespace(examples=examples)
    return SimpleNamespace(plan=SimpleNamespace(units=units), generation_id="0" * 16, warnings=["one"])


def test_the_file_follows_a_run_from_its_beginning_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(metrics, "_EVERY", 0.01)
    path = tmp_path / "penstock.prom"
    figures = MetricsFile(str(path), 's3://b/a "quoted" \\ name\nof two lines')
    first = parse(path.read_bytes())
    assert state(first) == ["planning"]
    assert "penstock_run_exit_code" not in first
    figures.planned(planned(3))
    figures.settled(planned(7))  # its warnings are counted once
    figures.stage("making")
    figures.submitted(replace(RECORD, url="http://localhost:8081/#/job/0af1", examples=7))
    figures.progress(Progress(5, 1, 4, 400))
    figures.committed(["two", "three"])
    figures.end(0, "committed")
    last = parse(path.read_bytes())
    assert state(last) == ["committed"]
    names = ("examples_read_total", "examples_quarantined_total", "examples_written_total", "shard_bytes_total")
    assert [value(last, f"penstock_{name}") for name in names] == [5, 1, 4, 400]
    assert value(last, "penstock_examples_planned") == 7
    assert value(last, "penstock_run_warnings") == 3
    assert value(last, "penstock_run_exit_code") == 0
    assert value(last, "penstock_run_end_time_seconds") >= value(last, "penstock_run_start_time_seconds") > 1e9
    (info,) = last["penstock_run_info"]
    labels: Mapping[str, str] = dict(info)
    assert labels["dataset"] == '"s3://b/a \\"quoted\\" \\\\ name\\nof two lines"'
    assert labels["job"] == '"0af1"'
    assert [each.name for each in tmp_path.iterdir()] == ["penstock.prom"]


def test_a_reader_never_sees_half_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(metrics, "_EVERY", 0.0005)
    path = tmp_path / "penstock.prom"
    figures = MetricsFile(str(path), "prepared")
    seen: set[float] = set()
    reads = itertools.count()
    while len(seen) < 5:  # by looks at any moment of their writing
        figures.progress(Progress(next(reads)))
        seen.add(value(parse(path.read_bytes()), "penstock_examples_read_total"))
    figures.end(1, "failed")


def test_a_file_that_cannot_be_written_is_refused_before_work_and_ignored_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "file").touch()
    with pytest.raises(RequestError, match="--metrics"):
        MetricsFile(str(tmp_path / "file" / "x.prom"), "prepared")
    monkeypatch.setattr(metrics, "_EVERY", 0.01)
    (tmp_path / "folder").mkdir()
    figures = MetricsFile(str(tmp_path / "folder" / "x.prom"), "prepared")
    (tmp_path / "folder" / "x.prom").unlink()
    (tmp_path / "folder").rmdir()
    (tmp_path / "folder").touch()
    figures.end(0, "committed")


def test_the_number_of_examples_is_left_out_where_planning_does_not_tell(tmp_path: Path):
    figures = MetricsFile(str(tmp_path / "x.prom"), "prepared")
    figures.planned(planned(None))
    figures.end(1, "failed")
    assert "penstock_examples_planned" not in parse((tmp_path / "x.prom").read_bytes())


def test_the_last_state_is_how_the_command_ended(tmp_path: Path):
    path = tmp_path / "x.prom"

    def ends(*stages: str, fails: BaseException | None = None, commits: bool = False) -> list[str]:
        with contextlib.suppress(PenstockError, Detached), kept_metrics(str(path), "prepared", Silent()) as reporter:
            for stage in stages:
                reporter.stage(stage)
            if commits:
                reporter.committed([])
            if fails:
                raise fails
        return [*state(parse(path.read_bytes())), str(value(parse(path.read_bytes()), "penstock_run_exit_code"))]

    assert ends("planning") == ["up_to_date", "0.0"]
    assert ends("planning", "making", fails=Detached(RECORD)) == ["submitted", "0.0"]
    assert ends("planning", "making", fails=Detached(RECORD, interrupted=True)) == ["submitted", "130.0"]
    assert ends("planning", "making", commits=True) == ["committed", "0.0"]
    assert ends("planning", "making", fails=OverBudgetError()) == ["failed", "3.0"]


def test_without_a_file_nothing_is_written(tmp_path: Path):
    reporter = Silent()
    with kept_metrics(None, "prepared", reporter) as same:
        assert same is reporter


@pytest.mark.parametrize(
    ("error", "code"),
    [(PenstockError(), 1), (RequestError(), 2), (OverBudgetError(), 3), (KeyboardInterrupt(), 130), (OSError(), 1)],
)
def test_the_exit_code_is_that_of_the_command(error: BaseException, code: int):
    assert exit_code_of(error) == code
