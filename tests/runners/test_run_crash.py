"""Runs that are killed at every stage and at random moments: readers never notice, and the next run completes them."""

import json
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers import Cli, contents, draw, save

from penstock.pipeline import NotCommittedError
from penstock.pipeline.commit.verify import verify
from penstock.pipeline.formats.manifest import Manifest

pytestmark = pytest.mark.slow

FIELDS = """
    source=Images("images/*.png", mask="masks/{stem}.png", label=r"(?P<label>.+)_\\d+"),
    prepare=[slowly],
    features=features,
    splits={"train": 0.8, "test": 0.2},
    shards={"train": 3, "test": 1},
"""
FUNCTIONS = """
def slowly(example):
    time.sleep(0.01)
    if example["key"].endswith("_007.png"):
        raise ValueError("seven")
    return example


def features(inputs):
    return {
        "image": image.standardize(inputs, "image"),
        "mask": inputs["mask"] - 1,
        "label": tft.compute_and_apply_vocabulary(inputs["label"]),
    }
"""
STAGES = [
    ("_work/plan.arrow", "before"),
    ("data/train-00001-of-00003.tfrecord", "before"),
    ("index/train-00001-of-00003.u64", "after"),
    ("quarantine/unit-00001.jsonl", "after"),
    ("units/00001.arrow", "after"),
    ("_work/units/00001.json", "before"),
    ("_work/units/00001.json", "after"),
    ("_work/units/00003.json", "after"),
    ("transform_fn/saved_model.pb", "before"),
    ("statistics/golden.json", "after"),
    ("manifest.json", "before"),
    ("manifest.json", "after"),
    ("manifest.sha256", "after"),
    ("_DATASET.json", "before"),
    ("_DATASET.json", "after"),
]


class Runs:
    """Forked runs of one recipe on one input."""

    def __init__(self, recipe: Path, source: Path) -> None:
        self._recipe = recipe
        self.source = source
        command = [sys.executable, str(Path(__file__).with_name("crash.py"))]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __call__(self, output: Path, **order: Any) -> Any:
        """Exit codes: of this run, and of those that were stopped before."""
        options = ["--input", str(self.source), "--output", str(output), "--quiet", "--max-quarantined", "2"]
        order["arguments"] = ["run", str(self._recipe), *options]
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        codes = json.loads(self._process.stdout.readline())
        return codes[0] if len(codes) == 1 else codes

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runs]:
    root = tmp_path_factory.mktemp("crash")
    made = Runs(Cli(root).recipe(FIELDS, FUNCTIONS), draw(root / "raw", 30, masks=True))
    yield made
    made.close()


@pytest.fixture(scope="module")
def undisturbed(runs: Runs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("undisturbed") / "dataset"
    assert runs(output) == 0
    return output


def expect_the_same(output: Path, undisturbed: Path) -> None:
    """The files of an undisturbed run, no others, and all that can be equal is: see test_statistics for the graph."""
    ours, theirs = contents(output), contents(undisturbed)
    assert ours.keys() == theirs.keys()
    differing = {path.rpartition("/")[2] for path in ours if ours[path] != theirs[path]}
    assert differing <= {"manifest.json", "manifest.sha256", "_DATASET.json", "saved_model.pb"}
    assert list(verify(str(output), graph=False)) == []


def finished_shards(output: Path) -> dict[str, tuple[int, int]]:
    """Which shards have a journal, and what changes when they are written again."""
    identities = {}
    for journal in output.glob("*/_work/units/*.json"):
        for shard in json.loads(journal.read_text())["shards"].values():
            path = journal.parents[2] / shard["file"]["path"]
            identities[str(path)] = (path.stat().st_ino, path.stat().st_mtime_ns)
    return identities


def expect_unchanged(before: dict[str, tuple[int, int]]) -> None:
    for path, identity in before.items():
        assert (Path(path).stat().st_ino, Path(path).stat().st_mtime_ns) == identity, f"{path} was made again"


@pytest.mark.parametrize(("at", "when"), STAGES)
def test_killed_at_a_stage(runs: Runs, undisturbed: Path, tmp_path: Path, at: str, when: str):
    output = tmp_path / "dataset"
    assert runs(output, at=at, when=when) == -9
    if (at, when) == ("_DATASET.json", "after"):
        assert list(verify(str(output), graph=False)) == []
    else:
        with pytest.raises(NotCommittedError):
            Manifest.load(str(output))
    before = finished_shards(output)
    assert runs(output) == 0
    expect_unchanged(before)
    expect_the_same(output, undisturbed)


@pytest.mark.parametrize("at", ["data/train-00002-of-00003.tfrecord", "_DATASET.json"])
def test_killed_while_there_is_an_older_generation(runs: Runs, undisturbed: Path, tmp_path: Path, at: str):
    output = tmp_path / "dataset"
    shutil.copytree(undisturbed, output)
    old = Manifest.load(str(output))
    before = contents(output)
    image = save(runs.source / "images" / "cat_100.png", [[[1] * 3] * 6] * 8)
    mask = save(runs.source / "masks" / "cat_100.png", [[1] * 6] * 8)
    try:
        assert runs(output, at=at, when="before") == -9
        assert Manifest.load(str(output)) == old
        assert before.items() <= contents(output).items()
        assert runs(output) == 0
        assert Manifest.load(str(output)).read == 31
        before.pop("_DATASET.json")
        assert before.items() <= contents(output).items()
    finally:
        image.unlink()
        mask.unlink()


@pytest.mark.parametrize("seed", range(3))
def test_killed_again_and_again_at_random_moments(runs: Runs, undisturbed: Path, tmp_path: Path, seed: int):
    output, generator = tmp_path / "dataset", random.Random(seed)
    for _ in range(3):
        before = finished_shards(output)
        code = runs(output, after=generator.uniform(0.05, 3.0))
        assert code in (-9, 0)
        expect_unchanged(before)
        try:
            Manifest.load(str(output))
        except NotCommittedError:
            continue
        assert list(verify(str(output), graph=False)) == []
    assert runs(output) == 0
    expect_the_same(output, undisturbed)


@pytest.mark.parametrize("stop", ["data/train-00001-of-00003.tfrecord", "manifest.json"])
def test_a_run_that_wakes_up_late_does_no_harm(runs: Runs, undisturbed: Path, tmp_path: Path, stop: str):
    """The other run refuses to work beside it, or has committed by the time that it goes on."""
    output = tmp_path / "dataset"
    assert runs(output, stop=stop, when="before") is None
    second, sleeper = runs(output)
    assert sorted((second, sleeper)) == [0, 1]
    expect_the_same(output, undisturbed)
