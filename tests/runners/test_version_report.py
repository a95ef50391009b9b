"""`penstock log`, `diff` and `rollback` as a user sees them, and what else takes a generation."""

import hashlib
import json
import shutil
from pathlib import Path

import pytest
from helpers import Cli, write

from penstock.pipeline import open_dataset

FIELDS = 'source=Csv("*.csv"), splits={"train": 0.8, "test": 0.2}'
ROWS = [f"{number},w{number % 3}" for number in range(200)]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a dataset of two generations, their input and their recipe."""
    folder = tmp_path_factory.mktemp("versions")
    cli = Cli(folder)
    recipe = cli.recipe(FIELDS, "\nfrom penstock.pipeline import Csv\n")
    for rows in (ROWS, ["-7,new", *ROWS[:50], *ROWS[51:]]):
        write(folder / "raw", {"a.csv": "\n".join(["n,t", *rows]) + "\n"})
        ended = cli.run(recipe, folder / "raw", "--quiet")
        assert ended.exit_code == 0, ended.output
    return folder


@pytest.fixture
def cli(made: Path, tmp_path: Path) -> Cli:
    shutil.copytree(made, tmp_path / "copy")
    return Cli(tmp_path / "copy")


def dataset(cli: Cli) -> Path:
    return cli.folder / "dataset"


def ids(cli: Cli) -> list[str]:
    """The newest generation's id comes first."""
    return [each["generation"] for each in json.loads(cli("log", dataset(cli), "--json").stdout)["generations"]]


def test_log_says_what_is_in_each_generation_and_what_changed(cli: Cli):
    newest, oldest = ids(cli)
    lines = cli("log", dataset(cli)).stdout.splitlines()
    assert lines[0].startswith(f"{newest}  20")
    assert lines[0].endswith("(current)")
    assert lines[3] == "  changed: input"
    assert lines[4].startswith(f"{oldest}  20")
    assert not lines[4].endswith("(current)")
    assert len(lines) == 7
    entry = json.loads(cli("log", dataset(cli), "--json").stdout)
    assert (entry["current"], entry["rolled_back"]) == (newest, None)
    first = entry["generations"][1]
    assert (first["changes"], first["read"], sum(first["splits"].values())) == (None, 200, 200)
    everything = sum(path.stat().st_size for path in (dataset(cli) / oldest).rglob("*") if path.is_file())
    own = sum((dataset(cli) / oldest / name).stat().st_size for name in ("manifest.json", "manifest.sha256"))
    assert first["bytes"] == everything - own


def test_log_says_which_manifest_is_damaged(cli: Cli):
    newest, oldest = ids(cli)
    (dataset(cli) / oldest / "manifest.json").write_text("{}")
    ended = cli("log", dataset(cli))
    assert ended.exit_code == 0
    assert f"{oldest}\n  damaged: {dataset(cli)}/{oldest}/manifest.json: expected the SHA-256" in ended.stdout
    assert f"{newest}  20" in ended.stdout


def test_diff_says_what_was_done_to_the_input(cli: Cli):
    newest, oldest = ids(cli)
    ended = cli("diff", dataset(cli))
    assert ended.exit_code == 0, ended.output
    lines = ended.stdout.splitlines()
    assert lines[0].startswith(f"- {dataset(cli)}, generation {oldest} of 20")
    assert lines[1].startswith(f"+ {dataset(cli)}, generation {newest} of 20")
    assert lines[2] == "made from: changed input"
    assert any(line.startswith("  added 1 (") and line.endswith("): a.csv:0") for line in lines)
    assert any(line.startswith("  removed 1 (") and line.endswith("): a.csv:50") for line in lines)
    assert any(line.startswith("  under another key 50: a.csv:0 is a.csv:1, ") and line.endswith("…") for line in lines)
    assert any(line.startswith("statistics of 't': ") for line in lines)
    entry = json.loads(cli("diff", dataset(cli), oldest, newest, "--json").stdout)
    assert (entry["examples"]["unchanged"], entry["examples"]["moved"]["count"]) == (149, 50)
    assert entry == json.loads(cli("diff", dataset(cli), "--json").stdout)
    same = cli("diff", dataset(cli), newest).stdout.splitlines()
    assert same[2:] == ["made from: the same input, recipe and versions", "examples: 200 unchanged"]


def test_generations_without_hashes_are_compared_without_their_examples(cli: Cli):
    """As those that an earlier penstock made."""
    _, oldest = ids(cli)
    path = dataset(cli) / oldest / "manifest.json"
    content = {name: value for name, value in json.loads(path.read_text()).items() if name != "units"}
    content["options"].pop("input_digest")
    path.write_text(json.dumps(content))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    (dataset(cli) / oldest / "manifest.sha256").write_text(f"{digest}  manifest.json\n")
    lines = cli("diff", dataset(cli)).stdout.splitlines()
    assert lines[2] == "made from: changed not told: one of them was made by an earlier penstock"
    assert "examples: not told, for one of the two keeps no hashes of them: an earlier penstock made it" in lines
    assert any(line.startswith("statistics of 'n': ") for line in lines)


def test_a_rollback_and_the_run_after_it(cli: Cli):
    newest, oldest = ids(cli)
    ended = cli("rollback", dataset(cli))
    assert ended.exit_code == 0, ended.output
    assert ended.stdout.startswith(f"{dataset(cli)} is generation {oldest} of 20")
    assert cli("log", dataset(cli)).stdout.startswith(f"{dataset(cli)} was rolled back from generation {newest}\n")
    assert open_dataset(dataset(cli)).generation == oldest
    again = cli("rollback", dataset(cli))
    assert (again.exit_code, again.stdout) == (2, "")
    assert "expected a generation that was made before the current one, found none" in again.stderr
    written = {path: path.stat().st_mtime_ns for path in (dataset(cli) / newest).rglob("*")}
    ended = cli.run(cli.folder / "recipe.py", cli.folder / "raw", "--json")
    entry = json.loads(ended.stdout)
    assert (entry["status"], entry["generation"]) == ("up_to_date", newest)
    assert open_dataset(dataset(cli)).generation == newest
    assert {path: path.stat().st_mtime_ns for path in (dataset(cli) / newest).rglob("*")} == written
    assert json.loads(cli("log", dataset(cli), "--json").stdout)["rolled_back"] is None
    entry = json.loads(cli("rollback", dataset(cli), oldest[:6], "--json").stdout)
    assert (entry["generation"], entry["rolled_back"]) == (oldest, newest)


def test_every_reader_takes_a_generation(cli: Cli, tmp_path: Path):
    newest, oldest = ids(cli)
    for number, generation in ((200, oldest), (200, newest)):
        opened = open_dataset(dataset(cli), generation=generation[:8])
        assert (opened.generation, len(opened)) == (generation, number)
        batches = list(opened.numpy("train", batch_size=512))
        assert sum(len(batch["n"]) for batch in batches) == opened.splits["train"].examples
        assert (-7 in batches[0]["n"].tolist()) is (generation == newest and opened.statistics["n"].min == -7)
    assert f"generation {oldest}," in cli("inspect", dataset(cli), "--generation", oldest[:5]).stdout
    shard = next((dataset(cli) / oldest / "data").iterdir())
    shard.write_bytes(shard.read_bytes()[:-1] + b"x")
    assert cli("verify", dataset(cli), "--no-graph").exit_code == 0
    ended = cli("verify", dataset(cli), "--no-graph", "--generation", oldest)
    assert (ended.exit_code, "expected SHA-256" in ended.stderr) == (1, True)
    for command in (["inspect"], ["verify", "--no-graph"], ["load"], ["export", str(tmp_path / "served")]):
        ended = cli(command[0], dataset(cli), *command[1:], "--generation", "zz")
        assert (ended.exit_code, "found 'zz', which 0 have; there are " in ended.stderr) == (2, True), command


def test_limits_are_for_runs_that_ask_for_them(cli: Cli):
    recipe, raw = cli.folder / "recipe.py", cli.folder / "raw"
    ended = cli.run(recipe, raw, "--max-new-values", "2%")
    assert (ended.exit_code, "expected --fail-on-drift beside them" in ended.stderr) == (2, True)
    for option, value in (("--max-new-values", "200%"), ("--max-share-shift", "many"), ("--max-mean-shift", "-1")):
        ended = cli.run(recipe, raw, "--fail-on-drift", option, value)
        assert (ended.exit_code, option in ended.stderr) == (2, True)
    write(raw, {"a.csv": "\n".join(["n,t", *(f"{number},x" for number in range(200))]) + "\n"})
    ended = cli.run(recipe, raw, "--fail-on-drift", "--quiet")
    assert ended.exit_code == 1
    assert "error: --fail-on-drift: expected values like those of generation" in ended.stderr
    assert "column 't': 100.00 % of its values are new, such as 'x'" in ended.stderr
    limits = ("--max-new-values", "100%", "--max-share-shift", "1")
    ended = cli.run(recipe, raw, "--fail-on-drift", "--quiet", *limits)
    assert ended.exit_code == 0, ended.output
    write(raw, {"a.csv": "n,u\n1,x\n"})
    ended = cli.run(recipe, raw, "--fail-on-drift", "--dry-run")
    assert ended.exit_code == 2
    assert "missing column 't' (string); new column 'u' (string)" in ended.stderr
