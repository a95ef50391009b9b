"""`penstock.run`: what it gives and raises, and recipes that no file or another one has."""

import inspect
import json
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from helpers import penstock, write
from runners.elsewhere import Elsewhere

from penstock import Csv, OverBudgetError, Recipe, RequestError, RunResult, run
from penstock.pipeline.errors import DatasetError
from penstock.pipeline.formats.manifest import Manifest
from penstock.pipeline.load import open_dataset
from penstock.runners.run_options import RunOptions

RECIPE = """
    from penstock import Csv, Recipe
    from {module} import factor
    def step(example):
        return {{"n": example["n"] * factor()}}
    recipe = Recipe(source=Csv("*.csv"), prepare=[step])
"""


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("raw"), {"a.csv": "n\n" + "".join(f"{n}\n" for n in range(40))})


@pytest.fixture
def imported() -> Iterator[None]:
    """Forgets afterwards which modules were imported."""
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if name.startswith(("launched", "_recipe_")):
            del sys.modules[name]


def double(example: dict[str, Any]) -> dict[str, Any]:
    return {"n": example["n"] * 2}


def fail(example: dict[str, Any]) -> dict[str, Any]:
    if example["n"] % 2:
        raise ValueError("odd")
    return example


def stop(inputs: Any) -> dict[str, Any]:
    raise KeyError("no such column")


def numbers(output: Path) -> list[int]:
    return sorted(int(row["n"]) for row in open_dataset(str(output)).examples("train", 100))


def test_its_options_are_those_of_the_command_line():
    from penstock.runners.cli import main

    parameters = inspect.signature(run).parameters
    defaults = {each.name: each.default for each in fields(RunOptions)}
    assert {name for name in parameters if name not in ("recipe", "progress")} == set(defaults)
    given = main.commands["run"].make_context("run", ["r.py", "--input", "raw", "--output", "out"]).params
    of_command = {"recipe", "dry_run", "prices", "quiet", "as_json"}
    assert {name: value for name, value in given.items() if name not in of_command} == {
        name: {"input": "raw", "output": "out"}.get(name, value)
        for name, value in defaults.items()
        if name != "engine_options"
    }
    for name in set(defaults) - {"input", "output"}:
        assert parameters[name].default == defaults[name], name


def test_a_run_and_what_it_comes_to(raw: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    recipe, output = Recipe(source=Csv("*.csv"), prepare=[double]), tmp_path / "out"
    result = run(recipe, input=raw, output=output)
    shown = capfd.readouterr()
    assert "40 examples" in shown.err
    assert shown.out == ""
    assert (result.status, result.dataset) == ("committed", str(output))
    assert result.generation == Manifest.load(str(output)).generation
    assert result.counts == {"read": 40, "written": 40, "filtered": 0, "quarantined": 0}
    assert str(result).startswith(f"{output} is committed: generation {result.generation}\n40 read = 40 written")
    assert json.loads(json.dumps(result.to_json()))["splits"]["train"]["examples"] == 40
    assert "40 read" not in repr(result)
    assert numbers(output) == list(range(0, 80, 2))

    again = run(recipe, input=f"{raw}/", output=f"{output}/", progress=False)
    assert (again.status, again.generation) == ("up_to_date", result.generation)
    assert capfd.readouterr().err == ""


def test_what_goes_wrong_is_raised(raw: Path, tmp_path: Path):
    where: dict[str, Any] = {"input": raw, "output": tmp_path / "out", "progress": False}
    with pytest.raises(RequestError, match=r"expected a Recipe, its module, or the path of its file, found dict"):
        run({}, **where)  # type: ignore[arg-type]
    with pytest.raises(RequestError, match="expected a recipe file, found nothing at /no/such"):
        run("/no/such.py", **where)
    with pytest.raises(RequestError, match="expected `recipe = Recipe"):
        run(json, **where)
    with pytest.raises(RequestError, match="--input: expected a folder"):
        run(Recipe(source=Csv("*.csv")), **where | {"input": tmp_path / "none"})
    with pytest.raises(RequestError, match=r"Recipe\(features=...\).*no such column"):
        run(Recipe(source=Csv("*.csv"), features=stop), **where)
    with pytest.raises(OverBudgetError, match="20 of 40 examples were quarantined"):
        run(Recipe(source=Csv("*.csv"), prepare=[fail]), **where, max_quarantined=0.4)
    with pytest.raises(DatasetError):
        open_dataset(str(tmp_path / "out"))


def test_a_hook_that_fails_is_warned_of(raw: Path, tmp_path: Path):
    recipe = Recipe(source=Csv("*.csv"), prepare=[double])
    with pytest.warns(RuntimeWarning, match="is committed, but --on-commit failed: expected exit code 0, found 1"):
        result = run(recipe, input=raw, output=tmp_path / "out", on_commit="false", progress=False)
    assert result.status == "committed"
    assert result.to_json()["on_commit"] == "expected exit code 0, found 1"


def test_a_job_that_goes_on_is_told_of(raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    elsewhere = Elsewhere()
    elsewhere.starts = False
    monkeypatch.setattr("penstock.runners.engine.make_engine", lambda name, options: elsewhere)
    result = run(
        Recipe(source=Csv("*.csv")), input=raw, output=tmp_path / "out", runner="elsewhere", detach=True, progress=False
    )
    (job,) = elsewhere.jobs
    assert (result.status, result.counts, result.to_json()["job"]) == ("submitted", {}, job)
    assert f"follow it with: penstock attach {tmp_path / 'out'}" in str(result)
    elsewhere.jobs[job].go.set()
    elsewhere.jobs[job].wait()
    assert Manifest.load(str(tmp_path / "out")).generation == result.generation


def test_a_file_a_module_and_its_recipe_are_the_same_to_python_and_the_command_line(
    raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, imported: None
):
    import importlib

    folder = tmp_path / "code"
    write(folder, {"launched_factor.py": "def factor():\n    return 3\n"})
    write(folder, {"launched.py": textwrap.dedent(RECIPE.format(module="launched_factor"))})
    ended = penstock(
        "run", "launched.py", "--input", raw, "--output", tmp_path / "out", "--quiet", cwd=folder, timeout=120
    )
    assert ended.returncode == 0, ended.stderr
    generation = Manifest.load(str(tmp_path / "out")).generation
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(folder))
    module = importlib.import_module("launched")
    for recipe in ("launched.py", folder / "launched.py", "launched:recipe", module, module.recipe):
        result = run(recipe, input=raw, output=tmp_path / "out", progress=False)
        assert (result.status, result.generation) == ("up_to_date", generation), recipe


SCRIPT = """
    import sys
    import penstock
    from penstock import Csv, Recipe
    import launched_factor

    def step(example):
        return {{"n": example["n"] * launched_factor.factor() * {by}}}

    recipe = Recipe(source=Csv("*.csv"), prepare=[step])
    result = penstock.run(recipe, input=sys.argv[1], output=sys.argv[2], workers=2, progress=False)
    print(result.status, result.generation)
    with open("log.txt", "a") as log:
        print(result.status, file=log)
    print(penstock.run(recipe, input=sys.argv[1], output=sys.argv[2], progress=False).status)
"""


@pytest.mark.slow
@pytest.mark.parametrize("has_file", [True, False], ids=["script", "session"])
def test_a_recipe_of_the_main_module_reaches_workers_and_is_known_again(raw: Path, tmp_path: Path, has_file: bool):
    """A session, as a notebook is one, has no file: its source is on standard input."""
    folder = tmp_path / "code"
    write(folder, {"launched_factor.py": "def factor():\n    return 3\n"})

    def main(by: int) -> list[str]:
        script = textwrap.dedent(SCRIPT.format(by=by))
        write(folder, {"script.py": script})
        command = [sys.executable, "script.py" if has_file else "-", str(raw), str(tmp_path / "out")]
        ended = subprocess.run(
            command, input="" if has_file else script, cwd=folder, capture_output=True, text=True, timeout=240
        )
        assert ended.returncode == 0, ended.stderr
        return ended.stdout.split()

    status, generation, again = main(1)
    assert (status, again) == ("committed", "up_to_date")
    assert numbers(tmp_path / "out") == list(range(0, 120, 3))
    assert main(1) == ["up_to_date", generation, "up_to_date"]
    status, other, _ = main(5)
    assert (status, other != generation) == ("committed", True)
    assert numbers(tmp_path / "out") == list(range(0, 600, 15))
    (folder / "launched_factor.py").write_text("def factor():\n    return 7\n")
    assert main(5)[0] == "committed"
    assert numbers(tmp_path / "out") == list(range(0, 40 * 35, 35))


@pytest.mark.parametrize(
    ("step", "why"),
    [
        ("def step(example):\n    return {'n': eval('example')['n']}\n", r"step uses eval\(\)"),
        ("def step(example):\n    import launched_later\n    return example\n", "a function imports launched_later"),
    ],
)
def test_a_session_whose_changes_cannot_be_noticed_is_refused(raw: Path, tmp_path: Path, step: str, why: str):
    write(tmp_path, {"launched_later.py": ""})
    script = (
        f"import penstock\n{step}"
        "recipe = penstock.Recipe(source=penstock.Csv('*.csv'), prepare=[step])\n"
        f"try:\n    penstock.run(recipe, input={str(raw)!r}, output='out')\n"
        "except penstock.RequestError as error:\n    print(error)\n"
    )
    ended = subprocess.run([sys.executable, "-"], input=script, cwd=tmp_path, capture_output=True, text=True)
    assert "expected code whose changes can be noticed without a file" in ended.stdout, ended.stderr
    assert why.replace("\\", "") in ended.stdout
    assert ended.stdout.strip().endswith("write the recipe into a file and give its path")


def test_runs_in_several_threads(raw: Path, tmp_path: Path):
    recipe = Recipe(source=Csv("*.csv"), prepare=[double])
    barrier = threading.Barrier(2)

    def run_one(number: int) -> RunResult:
        barrier.wait()
        return run(recipe, input=raw, output=tmp_path / f"out{number}", progress=False)

    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(run_one, range(2)))
    assert [result.status for result in results] == ["committed"] * 2
    assert numbers(tmp_path / "out0") == numbers(tmp_path / "out1") == list(range(0, 80, 2))


def test_two_runs_of_one_dataset_at_a_time_take_turns(raw: Path, tmp_path: Path):
    recipe = Recipe(source=Csv("*.csv"), prepare=[double])
    barrier = threading.Barrier(2)

    def run_one(_: int) -> RunResult:
        barrier.wait()
        return run(recipe, input=raw, output=tmp_path / "out", progress=False)

    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(run_one, range(2)))
    assert {each.status for each in results} == {"committed", "up_to_date"}
    assert numbers(tmp_path / "out") == list(range(0, 80, 2))
