"""The command line: exit codes, words, and what it touches."""

import json
import logging
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from helpers import Cli, Committed, contents, draw, penstock, save

SOURCE = 'source=Images("images/*.png", label=r"(?P<label>.+)_\\d+")'
TROUBLED = """
def step(example):
    if example["key"][-7:-4] in ("003", "007"):
        raise ValueError("unlucky")
    return example


def features(inputs):
    raise KeyError("no such feature")
"""


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw(tmp_path_factory.mktemp("raw"), 20)


def faults(ended: Any, code: int, *words: str) -> list[str]:
    """What is wrong with an error: one sentence on standard error, nothing on standard output, and no traceback."""
    lines = [line for line in ended.stderr.splitlines() if not line.startswith("[")]
    wrong = [f"code {ended.exit_code}, not {code}"] if ended.exit_code != code else []
    wrong += [f"no {word!r}" for word in words if word not in ended.stderr]
    if len(lines) != 1 or not lines[0].startswith("error: ") or ended.stdout or "Traceback" in ended.output:
        wrong.append("not one sentence on standard error alone")
    return [*wrong, ended.output] if wrong else []


@pytest.mark.parametrize(
    ("fields", "functions", "words"),
    [
        (None, "", ["expected a recipe file, found nothing at", "check the path"]),
        ("source=(", "", ["cannot be imported: line", "was never closed"]),
        (SOURCE, "raise SystemExit(0)", ["cannot be imported: line", "SystemExit"]),
        ("source='images/*.png'", "", ["Recipe(source=...): expected Images(...)", "found 'images/*.png'"]),
        (f"{SOURCE}, prepare=image.resize(2, 2)", "", ["Recipe(prepare=...): expected a list"]),
        (f"{SOURCE}, splits={{'train': 0.5}}", "", ["expected positive fractions that sum to 1"]),
        (f"{SOURCE}, prepare=[image.resize(0, 2)]", "", ["line 11: ValueError: resize(height=...): expected"]),
        ("source=Images('*.jpg')", "", ["expected images at", "found none"]),
        (f"{SOURCE}, features=features", TROUBLED, ["Recipe(features=...)", "no such feature"]),
        (f"{SOURCE}, splits=by_folder()", "", ["expected the split that statistics come from"]),
    ],
)
def test_a_wrong_recipe_is_code_2_and_one_sentence(
    cli: Cli, raw: Path, fields: str | None, functions: str, words: list[str]
):
    recipe = cli.recipe(fields, functions) if fields else cli.folder / "none.py"
    assert faults(cli.run(recipe, raw), 2, *words) == []
    assert not (cli.folder / "dataset").exists()


def test_a_file_without_a_recipe(cli: Cli, raw: Path):
    path = cli.folder / "other.py"
    path.write_text("pets = 3\n")
    assert faults(cli.run(path, raw), 2, "expected `recipe = Recipe(...)`, found no Recipe at all") == []
    assert faults(cli.run(Path(f"{path}:pets"), raw), 2, "expected pets to be a Recipe, found int") == []


def test_wrong_places_are_code_2(cli: Cli, raw: Path):
    recipe = cli.recipe(SOURCE)
    assert faults(cli.run(recipe, cli.folder / "none"), 2, "--input: expected a folder, found nothing at") == []
    inside = cli.run(recipe, raw, output=raw / "dataset")
    assert faults(inside, 2, "--output: expected a folder outside of --input") == []
    assert faults(cli.run(recipe, raw, output=cli.folder), 2, "--output: expected an empty folder", "'recipe.py'") == []
    assert faults(cli.run(recipe, raw, output=recipe), 2, "--output: expected a folder, found a file") == []
    assert faults(cli.run(recipe, raw, output=recipe / "x"), 2, "--output: expected") == []


def test_sizes_that_differ_are_code_2(cli: Cli):
    for number in range(4):
        save(cli.folder / "raw" / "images" / f"cat_{number}.png", [[[0, 0, 0]] * (4 + number)] * 4)
    ended = cli.run(cli.recipe(SOURCE), cli.folder / "raw")
    assert faults(ended, 2, "add image.resize(height, width) to `prepare`") == []


@pytest.mark.parametrize(
    ("option", "value"), [("--max-quarantined", "lots"), ("--workers", "0"), ("--timeout", "0"), ("--runner", "x")]
)
def test_wrong_options_are_code_2(cli: Cli, raw: Path, option: str, value: str):
    ended = cli.run(cli.recipe(SOURCE), raw, option, value)
    assert ended.exit_code == 2
    assert option in ended.stderr
    assert not (cli.folder / "dataset").exists()


def test_a_dry_run_touches_nothing(cli: Cli, raw: Path):
    recipe = cli.recipe(f'{SOURCE}, splits={{"train": 0.8, "test": 0.2}}, shards=2')
    before = contents(cli.folder), contents(raw)
    ended = cli.run(recipe, raw, "--dry-run")
    assert ended.exit_code == 0, ended.output
    for word in ("train", "test", "cat", "dog", "image", "4 units", "Nothing was written"):
        assert word in ended.stdout
    entry = json.loads(cli.run(recipe, raw, "--dry-run", "--json").stdout)
    assert entry["read"] == sum(split["examples"] for split in entry["splits"].values()) == 20
    assert entry["state"] == "to be made"
    assert (contents(cli.folder), contents(raw)) == before


def test_a_dry_run_says_what_it_costs(cli: Cli, raw: Path):
    recipe, prices = cli.recipe(f"{SOURCE}, shards=2"), cli.folder / "prices.toml"
    prices.write_text('currency = "EUR"\nvcpu_hour = 0.05\n')
    options = ("--dry-run", "--workers", "3", "--threads", "2", "--prices", prices)
    shown = cli.run(recipe, raw, *options).stdout
    for words in (
        "3 workers of 2 cores",
        "EUR: vcpu_hour",
        "EUR: total",
        "pieces of the input",
        "without a price",
    ):
        assert words in shown
    entry = json.loads(cli.run(recipe, raw, *options, "--json").stdout)["estimate"]
    assert entry["wall_seconds"]["low"] <= entry["wall_seconds"]["likely"] <= entry["wall_seconds"]["high"]
    expected = entry["wall_seconds"]["likely"] * 6 / 3600 * 0.05
    assert entry["money"]["total"]["likely"] == pytest.approx(expected, abs=2e-4)
    assert entry["requests"] == {"input": {}, "output": {}}
    assert faults(cli.run(recipe, raw, "--prices", prices), 2, "--prices: expected --dry-run beside it") == []
    prices.write_text("vcpu_hour = -1\n")
    assert faults(cli.run(recipe, raw, *options), 2, "--prices: expected vcpu_hour to be a number") == []


def test_a_dry_run_that_is_over_budget_is_code_3_as_the_run_will_be(cli: Cli, raw: Path):
    recipe = cli.recipe(
        f"{SOURCE}, prepare=[step], shuffle=None", TROUBLED.split("def features")[0].replace("007", "001")
    )
    ended = cli.run(recipe, raw, "--dry-run", "--max-quarantined", "0")
    assert ended.exit_code == 3
    assert "were quarantined (prepare_error" in ended.stderr
    assert "plan of recipe" in ended.stdout
    assert not (cli.folder / "dataset").exists()
    assert cli.run(recipe, raw, "--dry-run", "--max-quarantined", "2").exit_code == 0


def test_a_stray_word_is_no_option_of_beam(cli: Cli, raw: Path):
    ended = cli.run(cli.recipe(SOURCE), raw, "extra", "--dry-run", "words")
    assert faults(ended, 2, "expected one RECIPE and options, found extra words too", "after `--`") == []
    assert cli.run(cli.recipe(SOURCE), raw, "--dry-run", "--", "--job_name=x").exit_code == 0
    assert "[-- BEAM_OPTIONS...]" in cli("run", "--help").stdout


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--job_nam=x"], ["found --job_nam=x, which Beam would discard", "check the spelling"]),
        (["--job_name", "x", "stray", "--quiet"], ["found stray --quiet, which Beam would discard"]),
        (["-x"], ["found -x"]),
        (["--job_name=x", "--", "--no_such"], ["found -- --no_such"]),
        (["--direct_running_mode=nothing"], ["which Penstock sets; use --workers before"]),
        (["--runner", "FlinkRunner"], ["found --runner, which Penstock sets; use --runner before"]),
        (["--number_of_worker_harness_threads"], ["--number_of_worker_harness_threads: "]),
    ],
)
def test_what_beam_would_discard_is_told(cli: Cli, raw: Path, options: list[str], words: list[str]):
    ended = cli.run(cli.recipe(SOURCE), raw, "--", *options)
    assert faults(ended, 2, "expected options for Beam after `--`", *words) == []
    assert not (cli.folder / "dataset").exists()


def test_over_budget_is_code_3_and_more_budget_commits(cli: Cli, raw: Path):
    recipe = cli.recipe(f"{SOURCE}, prepare=[step]", TROUBLED)
    assert (
        faults(
            cli.run(recipe, raw, "--max-quarantined", "5%"), 3, "2 of 20 examples were quarantined (prepare_error 2)"
        )
        == []
    )
    assert not (cli.folder / "dataset" / "_DATASET.json").exists()
    assert "unlucky" in next((cli.folder / "dataset").rglob("quarantine/*.jsonl")).read_text()
    assert faults(cli("inspect", cli.folder / "dataset"), 1, "is not committed", "run the recipe again") == []
    assert faults(cli("verify", cli.folder / "dataset"), 1, "is not committed") == []

    ended = cli.run(recipe, raw, "--max-quarantined", "10%", "--json")
    assert ended.exit_code == 0, ended.output
    entry = json.loads(ended.stdout)
    assert (entry["status"], entry["written"], entry["quarantined"]) == ("committed", 18, 2)
    assert json.loads(cli.run(recipe, raw, "--json").stdout)["status"] == "up_to_date"
    assert json.loads(cli.run(recipe, raw, "--dry-run", "--json").stdout)["state"] == "up to date"
    quiet = cli.run(recipe, raw, "--quiet")
    assert (quiet.exit_code, quiet.output) == (0, "")
    loud = cli.run(recipe, raw)
    assert "is up to date" in loud.stdout.replace("\n", " ")


def test_a_commit_is_told_once_and_figures_are_kept(cli: Cli, raw: Path):
    recipe, told, figures = cli.recipe(SOURCE), cli.folder / "told", cli.folder / "penstock.prom"
    hook = f"sh -c 'cat >> {told}.json; echo $PENSTOCK_MANIFEST >> {told}; exit 3'"
    options = ("--json", "--metrics", str(figures), "--on-commit", hook)
    ended = cli.run(recipe, raw, *options)
    assert ended.exit_code == 0  # it is committed
    entry = json.loads(ended.stdout)
    assert entry["on_commit"] == "expected exit code 0, found 3"
    assert "is committed, but --on-commit failed: expected exit code 0, found 3" in ended.stderr
    assert json.loads((cli.folder / "told.json").read_text())["generation"] == entry["generation"]
    assert told.read_text() == f"{cli.folder}/dataset/{entry['generation']}/manifest.json\n"
    for line in ('state="committed"} 1.0', "penstock_run_exit_code{", "_written_total{", '"} 20.0'):
        assert line in figures.read_text()
    again = cli.run(recipe, raw, *options)
    assert "on_commit" not in json.loads(again.stdout)
    assert len(told.read_text().splitlines()) == 1
    assert 'state="up_to_date"} 1.0' in figures.read_text()


@pytest.mark.parametrize(("option", "value"), [("--metrics", "{}/recipe.py/x"), ("--on-commit", "http://example.com/")])
def test_what_is_told_to_others_is_checked_before_any_work(cli: Cli, raw: Path, option: str, value: str):
    ended = cli.run(cli.recipe(SOURCE), raw, option, value.format(cli.folder))
    assert faults(ended, 2, option) == []
    assert not (cli.folder / "dataset").exists()


def test_inspect_shows_a_dataset(cli: Cli, committed: Committed):
    shown = cli("inspect", committed.path)
    assert shown.exit_code == 0
    for word in ("train", "validation", "test", "jpeg", "png", "cat", "dog", "40 read = 40 written", "image mean"):
        assert word in shown.stdout
    entry = json.loads(cli("inspect", f"{committed.path}/", "--json").stdout)
    assert entry["manifest"] == committed.manifest.to_json()
    assert len(entry["statistics"]["features"]["image"]["mean"]) == 3
    assert faults(cli("inspect", cli.folder / "none"), 1, "found nothing there") == []


def test_inspect_lists_filtered_examples(cli: Cli, raw: Path):
    recipe = cli.recipe(f"{SOURCE}, prepare=[keep(lambda example: '_00' not in example['key'], 'early')]")
    ran = cli.run(recipe, raw)
    assert ran.exit_code == 0, ran.output
    assert "filtered: early 10" in ran.stdout
    assert "early, for example images/" in ran.stdout
    lines = cli("inspect", cli.folder / "dataset", "--filtered").stdout.splitlines()
    names = sorted(path.name for path in (raw / "images").iterdir() if "_00" in path.name)
    assert sorted(lines) == [f"early\timages/{name}" for name in names]
    entry = json.loads(cli("inspect", cli.folder / "dataset", "--filtered", "--json").stdout)
    assert len(entry["examples"]) == entry["filtered"] == 10


def test_verify_imports_only_what_it_checks_with(committed: Committed):
    """tf.Transform and Beam are for making a dataset; TensorFlow is for its graph."""
    code = """if True:
        import sys
        from penstock.runners.cli import main
        main(["verify", *sys.argv[1:]], standalone_mode=False)
        print(*sorted({name.partition(".")[0] for name in sys.modules}))
    """
    command = [sys.executable, "-c", code, str(committed.path)]
    heavy = {"apache_beam", "tensorflow", "tensorflow_transform", "tfx_bsl"}
    for options, expected in (("--no-graph",), set()), ((), {"tensorflow"}):
        ended = subprocess.run([*command, *options], capture_output=True, text=True, check=True, timeout=120)
        assert "40 examples are as the manifest says" in ended.stdout
        assert heavy & set(ended.stdout.splitlines()[-1].split()) == expected


def test_commands_leave_a_process_that_is_not_theirs_as_it_is(
    cli: Cli, committed: Committed, monkeypatch: pytest.MonkeyPatch
):
    for name in ("TF_CPP_MIN_LOG_LEVEL", "CUDA_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)
    levels = {name: logging.getLogger(name).level for name in ("absl", "tensorflow", "apache_beam")}
    assert cli("verify", committed.path).exit_code == 0
    assert not {"TF_CPP_MIN_LOG_LEVEL", "CUDA_VISIBLE_DEVICES"} & os.environ.keys()
    assert {name: logging.getLogger(name).level for name in levels} == levels


def test_verify_finds_nothing_and_then_something(cli: Cli, damaged: Committed):
    whole = cli("verify", damaged.path)
    assert (whole.exit_code, whole.stderr) == (0, "")
    assert "40 examples are as the manifest says" in whole.stdout
    assert cli("verify", damaged.path, "--quiet").output == ""
    shard = damaged.path / damaged.manifest.splits["train"].shards[0].path
    os.truncate(shard, 100)
    ended = cli("verify", damaged.path)
    assert ended.exit_code == 1
    assert f"fault: {shard}: expected" in ended.stderr
    assert "is damaged: 2 faults; remove the files that are named and run the recipe again" in ended.stderr


def test_files_that_are_gone_are_one_sentence(cli: Cli, damaged: Committed):
    (damaged.generation / "statistics" / "statistics.json").unlink()
    assert faults(cli("inspect", damaged.path), 1, "statistics.json") == []


def test_prune_lists_and_then_removes(cli: Cli, damaged: Committed):
    old = damaged.path / ("0" * 16)
    (old / "data").mkdir(parents=True)
    (old / "data" / "shard").touch()
    (damaged.path / "notes").mkdir()
    (damaged.path / "notes" / "mine.txt").touch()
    listed = cli("prune", damaged.path)
    assert f"would remove {old}" in listed.stdout
    assert old.exists()
    assert f"removed {old}" in cli("prune", damaged.path, "--yes").stdout
    assert not old.exists()
    assert (damaged.path / "notes" / "mine.txt").exists()
    assert "nothing to remove" in cli("prune", damaged.path).stdout
    assert cli("verify", damaged.path, "--no-graph").exit_code == 0
    assert faults(cli("prune", cli.folder / "none"), 1, "expected a committed dataset") == []


def test_help_teaches(cli: Cli):
    shown = cli("--help")
    assert shown.exit_code == 0
    for word in ("run", "inspect", "verify", "demo", "prune", "Exit codes", "penstock demo"):
        assert word in shown.stdout
    assert "--max-quarantined" in cli("run", "--help").stdout
    assert "version 0." in cli("--version").stdout


@pytest.mark.slow
def test_a_process_of_its_own_behaves_alike(tmp_path: Path, raw: Path):
    recipe = Cli(tmp_path).recipe(f"{SOURCE}, prepare=[step]", TROUBLED)
    arguments = ["run", recipe, "--input", raw, "--output", tmp_path / "dataset", "--max-quarantined"]
    over = penstock(*arguments, "1")
    assert over.returncode == 3
    assert over.stderr.splitlines()[-1].startswith("error: 2 of 20 examples were quarantined")
    assert "Traceback" not in over.stderr
    done = penstock(*arguments, "2", cwd=tmp_path)
    assert done.returncode == 0
    assert "20 read = 18 written + 2 quarantined + 0 filtered" in done.stdout


@pytest.mark.slow
def test_the_demo_makes_a_dataset_from_nothing(cli: Cli):
    ended = penstock("demo", cli.folder / "demo", "--examples", "60")
    assert ended.returncode == 0, ended.stderr
    assert "synthetic" in ended.stdout
    assert "60 read = " in ended.stdout
    assert cli("verify", cli.folder / "demo" / "dataset").exit_code == 0
    assert faults(cli("demo", cli.folder / "demo"), 2, "expected an empty folder for the demo") == []


CHECKED = """
from penstock import Csv, Images, Recipe, folder
from penstock.transforms import image, numeric

def features(inputs):
    return {"x": numeric.standardize(inputs, "x")}

def of_two(inputs, more):
    return inputs

def fails(example):
    return example["nothing"]

photos = Recipe(source=Images("images/*.png"), prepare=[image.resize(4, 4)], features=lambda inputs: inputs)
table = Recipe(source=Csv("*.csv"), features=features)
bare = Recipe(source=Csv("*.csv"))
two = Recipe(source=Csv("*.csv"), features=of_two)
none = Recipe(source=Csv("nothing*.csv"))
broken = Recipe(source=Images("images/*.png"), prepare=[fails])
"""


@pytest.fixture
def checked(tmp_path: Path) -> Path:
    """A folder with a recipe file, drawn images and a table."""
    draw(tmp_path / "raw", 4)
    (tmp_path / "raw" / "t.csv").write_text("x,y\n1,a\n2,b\n")
    (tmp_path / "recipe.py").write_text(CHECKED)
    return tmp_path


@pytest.mark.parametrize(
    "arguments",
    [
        ["check", "recipe.py:photos", "--input", "raw"],
        ["check", "recipe.py:table", "--input", "raw"],
        ["check", "recipe.py:table"],
        ["run", "recipe.py:bare", "--input", "raw", "--output", "out", "--dry-run"],
    ],
)
def test_what_traces_no_features_imports_no_tensorflow(checked: Path, arguments: list[str]) -> None:
    code = f"import sys; from penstock.runners.cli import main; main({arguments!r}, standalone_mode=False)"
    code += "; print('loaded', *{name.partition('.')[0] for name in sys.modules})"
    command = [sys.executable, "-c", code]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=checked, check=True)
    loaded = set(ended.stdout.partition("loaded ")[2].split())
    assert not loaded & {"tensorflow", "tensorflow_transform", "apache_beam", "tfx_bsl", "keras"}
    assert "penstock" in loaded


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("two", r"Recipe\(features=...\): expected a function of one argument, `inputs`, found .*of_two.* 'more'"),
        ("none", "expected record files at .*nothing.*found none"),
        ("broken", "none of the first 4 examples could be prepared; .*KeyError: 'nothing'"),
        ("missing", "expected `missing = Recipe"),
    ],
)
def test_check_says_what_is_wrong(checked: Path, cli: Cli, name: str, words: str) -> None:
    result = cli("check", f"{checked / 'recipe.py'}:{name}", "--input", checked / "raw")
    assert result.exit_code == 2
    assert re.search(words, result.output)


def test_check_says_what_is_there(checked: Path, cli: Cli) -> None:
    result = cli("check", f"{checked / 'recipe.py'}:table", "--input", checked / "raw", "--json")
    entry = json.loads(result.output)
    assert (entry["source"], entry["function"], list(entry["splits"])) == ("Csv", "features", ["train"])
    assert entry["columns"]["x"]["type"] == "int64"
    result = cli("check", f"{checked / 'recipe.py'}:photos")
    assert "recipe recipe is as it should be: Images, 1 steps in `prepare`, `features`" in result.output


def test_a_sample_is_a_dataset_that_says_so_and_gives_way_to_the_whole(cli: Cli, raw: Path):
    recipe = cli.recipe(f'{SOURCE}, splits={{"train": 0.8, "test": 0.2}}')
    ended = cli.run(recipe, raw, "--limit", 10, "--json")
    assert ended.exit_code == 0, ended.output
    entry = json.loads(ended.stdout)
    assert entry["read"] == entry["written"] == 10
    assert any("limited to 10 of 20 examples" in warning for warning in entry["warnings"])
    assert "limited to 10 examples" in cli("inspect", cli.folder / "dataset").stdout
    assert "limited to 10" in cli("log", cli.folder / "dataset").stdout
    whole = json.loads(cli.run(recipe, raw, "--json").stdout)
    assert whole["read"] == 20
    assert whole["generation"] != entry["generation"]
    assert faults(cli.run(recipe, raw, "--limit", 10), 2, "--limit: expected an output that is new") == []
