"""Runs from store to store that are killed at random requests: the next run completes them, with the same bytes."""

import json
import os
import random
import re
import signal
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from helpers import Cli, draw
from stores.data import shards, upload
from stores.forked import Forks
from stores.proxy import Call, Proxy
from stores.servers import Store

from penstock.pipeline import NotCommittedError, open_dataset
from penstock.pipeline.commit.verify import verify
from penstock.pipeline.formats.damage import all_files
from penstock.pipeline.formats.manifest import Manifest
from penstock.pipeline.storage import files

pytestmark = [pytest.mark.slow, pytest.mark.linux]

MOMENTS = 20
FIELDS = """
    source=Images("images/*.png", mask="masks/{stem}.png", label=r"(?P<label>.+)_\\d+"),
    features=features,
    splits={"train": 0.8, "test": 0.2},
    shards={"train": 3, "test": 1},
"""
FUNCTIONS = """
def features(inputs):
    return {"image": image.standardize(inputs, "image"), "mask": inputs["mask"] - 1}
"""


class KillAt:
    """Kills a process when a request comes, before it reaches the store or after; the request gets no answer."""

    def __init__(self, number: int, pid: Path, after: bool) -> None:
        self._left = number
        self._pid = pid
        self._after = after
        self.victim: Call | None = None

    def __call__(self, call: Call) -> str:
        self._left -= 1
        if self._left:
            return ""
        self.victim = call
        os.kill(int(self._pid.read_text()), signal.SIGKILL)
        return "lost" if self._after else "reset"


@dataclass(frozen=True)
class Setting:
    """What is run, by whom, through what."""

    store: Store
    forks: Forks
    proxy: Proxy
    recipe: Path
    source: str
    root: str

    def run(self, output: str) -> int:
        return self.forks("run", self.recipe, "--input", self.source, "--output", output, "--quiet")


@pytest.fixture(scope="module", params=["s3"])
def setting(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Setting]:
    store: Store = request.getfixturevalue(request.param)
    folder = tmp_path_factory.mktemp("kills")
    recipe, local = Cli(folder).recipe(FIELDS, FUNCTIONS), draw(folder / "raw", 30, masks=True)
    proxy = Proxy(store.port)
    with pytest.MonkeyPatch.context() as patch:
        for variable, value in store.variables().items():
            patch.setenv(variable, value)
        source = upload(local, store.uri("kills", "raw"))
        forks = Forks(folder / "forks", store.variables(proxy.port))
        yield Setting(store, forks, proxy, recipe, source, store.uri("kills"))
        forks.close()
    proxy.close()


@pytest.fixture(scope="module")
def undisturbed(setting: Setting) -> tuple[Manifest, int]:
    """The manifest of an undisturbed run, and how many requests it made."""
    setting.proxy.reset()
    output = f"{setting.root}/undisturbed"
    assert setting.run(output) == 0, setting.forks.said()
    return Manifest.load(output), setting.proxy.reset().calls.total()


def versions(output: str) -> dict[str, tuple[str, float]]:
    """Every object below a URI, with what changes when it is written again."""
    return {info.uri: (info.etag, info.modified) for info in files.list_folder(output)}


def finished(output: str) -> set[str]:
    """The shards of units that have a journal."""
    shards = set()
    for uri in versions(output):
        generation, _, name = uri.rpartition("/_work/units/")
        if re.fullmatch(r"\d+\.json", name):
            entries = json.loads(files.read_bytes(uri))["shards"].values()
            shards |= {files.join(generation, entry["file"]["path"]) for entry in entries}
    return shards


@pytest.fixture(scope="module")
def tally() -> Counter[str]:
    """How many runs were killed, and how many of them with units that were finished, or committed."""
    return Counter()


@pytest.mark.parametrize("seed", range(MOMENTS))
def test_a_killed_run_is_completed(setting: Setting, undisturbed: tuple[Manifest, int], tally: Counter[str], seed: int):
    kill_and_complete(setting, undisturbed, tally, seed)


@pytest.mark.parametrize("setting", ["gcs", "azure"], indirect=True)
@pytest.mark.parametrize("seed", range(MOMENTS, MOMENTS + 4))
def test_a_killed_run_is_completed_elsewhere(
    setting: Setting, undisturbed: tuple[Manifest, int], tally: Counter[str], seed: int
):
    kill_and_complete(setting, undisturbed, tally, seed)


def kill_and_complete(setting: Setting, undisturbed: tuple[Manifest, int], tally: Counter[str], seed: int) -> None:
    """Kills a run at a request, looks at what there is, and runs it again."""
    manifest, requests = undisturbed
    generator, output = random.Random(seed), f"{setting.root}/{seed}"
    kill = KillAt(generator.randrange(1, requests + 1), setting.forks.pid, generator.random() < 0.5)
    setting.proxy.reset(kill)
    code = setting.run(output)
    setting.proxy.reset()
    assert (code == -signal.SIGKILL) == (kill.victim is not None), setting.forks.said()
    tally["killed"] += code == -signal.SIGKILL
    try:
        committed = Manifest.load(output)
    except NotCommittedError:
        pass
    else:
        tally["committed"] += 1
        assert shards(committed) == shards(manifest)
        assert list(verify(output, graph=False)) == []
    kept = finished(output)
    tally["finished"] += bool(kept)
    before = {uri: version for uri, version in versions(output).items() if uri in kept}
    assert len(before) == len(kept)
    assert setting.run(output) == 0, f"killed at {kill.victim}: {setting.forks.said()}"
    after = versions(output)
    assert before.items() <= after.items(), f"killed at {kill.victim}: a finished shard was made again"
    assert shards(Manifest.load(output)) == shards(manifest)
    assert list(verify(output)) == []
    named = {files.join(output, file.path) for file in all_files(output, Manifest.load(output))}
    others = {uri.rpartition("/")[2] for uri in after.keys() - named if "/_PROBE-" not in uri}  # docs/stores.md
    assert others == {"_DATASET.json", "manifest.json", "manifest.sha256"}, f"killed at {kill.victim}"
    keys = [example["key"] for split in ("train", "test") for example in open_dataset(output).source(split)]
    assert len(keys) == len(set(keys)) == 30


def test_there_were_moments_of_all_kinds(tally: Counter[str]):
    assert tally["killed"] >= 0.8 * MOMENTS
    assert tally["finished"] >= 0.1 * MOMENTS


def test_runs_of_one_job_do_not_meddle(setting: Setting, undisturbed: tuple[Manifest, int], tmp_path: Path):
    """While one makes a generation the other is told so; in the end it is committed, once."""
    setting.proxy.reset()
    output, other = f"{setting.root}/twice", Forks(tmp_path, setting.store.variables())
    arguments = ("run", setting.recipe, "--input", setting.source, "--output", output, "--quiet")
    try:
        setting.forks.start(*arguments)
        other.start(*arguments)
        codes = sorted((setting.forks.wait(), other.wait()))
    finally:
        other.close()
    assert codes in ([0, 0], [0, 1])
    assert codes == [0, 0] or "another run is making" in setting.forks.said() + other.said()
    assert shards(Manifest.load(output)) == shards(undisturbed[0])
    assert list(verify(output)) == []


@pytest.mark.parametrize("round", range(3))
def test_of_two_jobs_for_one_output_one_wins(setting: Setting, tmp_path: Path, round: int):
    setting.proxy.reset()
    slow = "def slow(example):\n    time.sleep(0.1)\n    return example\n"
    output = f"{setting.root}/race{round}"
    jobs = []
    for name in ("one", "two"):
        fields = f'source=Images("images/*_00*.png"), prepare=[slow], splits={{"train": 0.5, "{name}": 0.5}}'
        recipe = Cli(tmp_path).recipe(fields, slow, f"{name}.py")
        jobs.append((Forks(tmp_path / name, setting.store.variables()), recipe))
    try:
        for forks, recipe in jobs:
            forks.start("run", recipe, "--input", setting.source, "--output", output, "--quiet")
        codes = [forks.wait() for forks, _ in jobs]
    finally:
        for forks, _ in jobs:
            forks.close()
    assert sorted(codes) == [0, 1], [forks.said() for forks, _ in jobs]
    winner = Manifest.load(output)
    assert ("one", "two")[codes.index(0)] in winner.splits
    assert f"another run committed generation {winner.generation}" in jobs[codes.index(1)][0].said()
    assert list(verify(output)) == []
