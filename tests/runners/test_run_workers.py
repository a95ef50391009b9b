"""Several worker processes, and processes that isolate examples: as the command line starts them."""

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from helpers import Cli, Committed, Made, draw, penstock, read_shards, write

from penstock.pipeline.commit.verify import verify
from penstock.pipeline.formats.manifest import Manifest

pytestmark = pytest.mark.slow

FIELDS = """
    source=Images("images/*.png", mask="masks/{stem}.png", label=r"(?P<label>.+)_\\d+"),
    prepare=[step],
    features=features,
    splits={"train": 0.8, "test": 0.2},
    shards=4,
"""
FUNCTIONS = """
OFFSET = 3


def step(example):
    return {**example, "pid": 0 * os.getpid() + OFFSET}


def features(inputs):
    return {
        "image": image.standardize(inputs, "image"),
        "pid": tft.scale_to_0_1(inputs["pid"]),
        "label": tft.compute_and_apply_vocabulary(inputs["label"]),
    }
"""


def run(recipe: Path, source: Path, output: Path, *arguments: str) -> dict[str, Any]:
    """In a process of its own."""
    ended = penstock("run", recipe, "--input", source, "--output", output, "--json", *arguments)
    assert ended.returncode == 0, ended.stderr
    entry: dict[str, Any] = json.loads(ended.stdout)
    return entry


def hashes(entry: dict[str, Any]) -> list[str]:
    return [shard["sha256"] for split in entry["splits"].values() for shard in split["shards"]]


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, dict[str, Any]]:
    """A recipe, its input, and what a run without any other process came to."""
    cli = Cli(tmp_path_factory.mktemp("plain"))
    recipe, raw = cli.recipe(FIELDS, FUNCTIONS), draw(cli.folder / "raw", 40, masks=True)
    return recipe, raw, json.loads(cli.run(recipe, raw, "--json").stdout)


def test_two_workers_make_the_bytes_of_one(plain: Any, tmp_path: Path):
    recipe, raw, one = plain
    two = run(recipe, raw, tmp_path / "two", "--workers", "2")
    assert one["generation"] == two["generation"]
    assert hashes(one) == hashes(two)
    path = Path(one["generation"]) / "statistics" / "statistics.json"
    assert (Path(one["dataset"]) / path).read_bytes() == (tmp_path / "two" / path).read_bytes()
    assert list(verify(str(tmp_path / "two"))) == []


def test_isolation_changes_no_byte(plain: Any, tmp_path: Path):
    recipe, raw, one = plain
    isolated = run(recipe, raw, tmp_path / "isolated", "--isolate", "--threads", "2")
    assert hashes(one) == hashes(isolated)


def test_workers_have_the_modules_of_a_recipes_own_folder(plain: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Which they find on no path: one that is imported with the recipe, and one when its function is called."""
    from helpers import request

    from penstock.pipeline.planning.recipe import load_recipe
    from penstock.runners.run import run as run_here

    own = tmp_path / "own"
    own.mkdir()
    (own / "worker_helper.py").write_text("import os\nPROCESSES = set()\ndef pid():\n    return os.getpid()\n")
    (own / "worker_late.py").write_text("def told(example, pid):\n    return {**example, 'pid': pid}\n")
    (own / "recipe.py").write_text(
        "import worker_helper\nfrom penstock import Images, Recipe\n"
        "def step(example):\n    import worker_late\n    return worker_late.told(example, worker_helper.pid())\n"
        "recipe = Recipe(source=Images('images/*.png'), prepare=[step], shards=4)\n"
    )
    monkeypatch.syspath_prepend(str(own))
    loaded = load_recipe(str(own / "recipe.py"))
    sent = replace(request(None, plain[1], tmp_path / "dataset", workers=2), recipe=loaded)
    manifest = run_here(sent).manifest
    pids = {example["pid"] for example in read_shards(tmp_path / "dataset", manifest, "train")}
    assert pids
    assert os.getpid() not in pids


def test_options_reach_the_workers(tmp_path: Path):
    import apache_beam as beam

    from penstock.runners.direct import make_runner, pipeline_options

    def tell(number: int, folder: str = str(tmp_path)) -> int:
        import os
        import time

        from apache_beam.io.filesystems import FileSystems

        time.sleep(0.5)
        with open(f"{folder}/{os.getpid()}", "w") as file:
            file.write(str(FileSystems._pipeline_options.get_all_options()["temp_location"]))
        return number

    options = pipeline_options(2, ["--temp_location=/an/option"])
    with beam.Pipeline(runner=make_runner(options), options=options) as pipeline:
        _ = pipeline | beam.Create(range(8)) | beam.Map(tell)
    told = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert set(told.values()) == {"/an/option"}
    assert len(told) == 2
    assert str(os.getpid()) not in told


DYING = """
import glob

def step(example):
    if os.path.exists({calm!r}) or not glob.glob({output!r} + "/*/_work/units/*.json"):
        return example
    try:
        os.close(os.open({calm!r} + ".first", os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        time.sleep(1000)
    {end}
"""


@pytest.mark.parametrize(
    ("end", "words"),
    [("os.kill(os.getpid(), signal.SIGKILL)", "was ended by SIGKILL; if"), ("os._exit(0)", "exited with status 0\n")],
)
def test_a_worker_that_ends_ends_the_run_and_the_next_one_goes_on(plain: Any, tmp_path: Path, end: str, words: str):
    """Also where the other worker would be at it for long."""
    output, calm = tmp_path / "dataset", tmp_path / "calm"
    functions = DYING.format(calm=str(calm), output=str(output), end=end)
    recipe = Cli(tmp_path).recipe(NO_FEATURES, functions)
    arguments = ("run", recipe, "--input", plain[1], "--output", output, "--workers", "2", "--threads", "1")
    ended = penstock(*arguments, timeout=120)
    assert ended.returncode == 1
    assert words in ended.stderr
    assert "of 20 units are finished; run again to resume" in ended.stderr
    assert "Traceback" not in ended.stderr
    journals = [json.loads(path.read_text()) for path in output.glob("*/_work/units/*.json")]
    finished = [shard["file"]["path"] for journal in journals for shard in journal["shards"].values()]
    (root,) = {path.parent for path in output.glob("*/_work")}
    before = {root / path: (root / path).stat().st_mtime_ns for path in finished}
    assert before
    calm.touch()
    entry = run(recipe, plain[1], output, "--workers", "2")
    assert (entry["written"], entry["quarantined"]) == (40, 0)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert list(verify(str(output))) == []


EVIL = """
def step(example):
    place = {places}.get(example["key"])
    if place in (0, 10):  # the first ones are tried while the run is planned
        time.sleep(1000)
    if place in (1, 11):
        os.kill(os.getpid(), signal.SIGKILL)
    if place in (2, 12):
        os._exit(0)
    return example


def features(inputs):
    return {{"image": image.standardize(inputs, "image")}}
"""


def test_examples_that_hang_or_die_are_lost_alone(plain: Any, tmp_path: Path):
    _, raw, one = plain
    order = Committed(Path(one["dataset"]), raw, Manifest.load(one["dataset"])).examples("train")
    places = {example["key"].decode(): place for place, example in enumerate(order)}
    evil = Cli(tmp_path).recipe(FIELDS, EVIL.format(places=places))
    arguments = ["--isolate", "--timeout", "5", "--max-quarantined", "6"]
    entry = run(evil, raw, tmp_path / "dataset", *arguments)
    assert entry["written"] == 34
    assert entry["reasons"]["quarantined"] == {"decoder_timeout": 2, "decoder_died": 4}


DEADLY = """
def step(example):
    if example["key"] in {keys!r}:
        os.kill(os.getpid(), signal.SIGKILL)
    return example
"""
NO_FEATURES = """source=Images("images/*.png"), prepare=[step], shards=20"""


def test_files_that_kill_their_worker_are_found_and_lost_alone(tmp_path: Path):
    """The same command again: two deaths, whatever the number of such files and the units that they are in."""
    raw = draw(tmp_path / "raw", 200)
    plain = run(
        Cli(tmp_path).recipe(NO_FEATURES, "def step(example):\n    return example\n", "plain.py"),
        raw,
        tmp_path / "plain",
    )
    whole = Committed(tmp_path / "plain", raw, Manifest.load(plain["dataset"])).examples("train")
    deadly = [whole[place]["key"].decode() for place in (30, 65, 100, 140, 190)]
    recipe, output = Cli(tmp_path).recipe(NO_FEATURES, DEADLY.format(keys=deadly)), tmp_path / "dataset"
    codes = []
    while len(codes) < 4 and 0 not in codes:
        codes.append(penstock("run", recipe, "--input", raw, "--output", output, "--max-quarantined", "5").returncode)
    assert codes[-1] == 0
    assert 2 <= len(codes) <= 3
    made = Committed(output, raw, Manifest.load(str(output)))
    assert made.examples("train") == [each for each in whole if each["key"].decode() not in deadly]
    assert {(line["key"], line["code"]) for line in made.quarantine} == {(key, "worker_died") for key in deadly}


TABLE = """source=Csv("*.csv"), prepare=[step], shards=6, splits={"train": 0.8, "test": 0.2}"""
DEADLY_ROW = """
from penstock.pipeline import Csv

def step(row):
    if row["n"] in (25000, 45000):
        os.kill(os.getpid(), signal.SIGKILL)
    return row
"""


def test_rows_that_kill_their_worker_are_found_and_lost_alone(tmp_path: Path):
    lines = "".join(f"{number},{'x' * 55}\n" for number in range(50_000))  # three ranges; of each the begin is tried
    raw = write(tmp_path / "raw", {"a.csv": f"n,x\n{lines}"})
    harmless = Cli(tmp_path).recipe(TABLE, DEADLY_ROW.replace("(25000, 45000)", "()"), "plain.py")
    plain = run(harmless, raw, tmp_path / "p")
    recipe, output = Cli(tmp_path).recipe(TABLE, DEADLY_ROW), tmp_path / "dataset"
    codes = []
    while len(codes) < 4 and 0 not in codes:
        codes.append(penstock("run", recipe, "--input", raw, "--output", output, "--max-quarantined", "2").returncode)
    assert codes[-1] == 0
    assert 2 <= len(codes) <= 3
    made, whole = Made(output, Manifest.load(str(output))), Made(tmp_path / "p", Manifest.load(plain["dataset"]))
    for split in ("train", "test"):
        assert made.column("n", split) == [n for n in whole.column("n", split) if n not in (25000, 45000)]
    assert sorted(line["key"] for line in made.quarantine) == ["a.csv:25000", "a.csv:45000"]
    assert {line["code"] for line in made.quarantine} == {"worker_died"}
