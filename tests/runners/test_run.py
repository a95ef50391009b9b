"""Runs one after the other: resumed, repeated, changed, reverted, pruned."""

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import tensorflow_transform as tft
from helpers import LABEL, Committed, contents, draw, run_job, save

from penstock.pipeline import Images, PenstockError, Recipe
from penstock.pipeline.build.progress import Progress
from penstock.pipeline.commit.prune import find_unused
from penstock.pipeline.formats.manifest import Manifest
from penstock.runners.reporter import Interrupt
from penstock.transforms import image


def features(inputs: Any) -> dict[str, Any]:
    return {"image": image.standardize(inputs, "image"), "label": tft.compute_and_apply_vocabulary(inputs["label"])}


RECIPE = Recipe(source=Images("images/*.png", label=LABEL), features=features, shards=4)
HASH = "9" * 64


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Committed:
    root = tmp_path_factory.mktemp("base")
    raw = draw(root / "raw", 24)
    return Committed(root / "dataset", raw, run_job(RECIPE, raw, root / "dataset", HASH).manifest)


@pytest.fixture
def dataset(base: Committed, tmp_path: Path) -> Committed:
    """A copy of the dataset and of what it was made from, with the files' times."""
    shutil.copytree(base.source, tmp_path / "raw")
    shutil.copytree(base.path, tmp_path / "dataset")
    return Committed(tmp_path / "dataset", tmp_path / "raw", base.manifest)


def again(dataset: Committed, hash: str = HASH, recipe: Recipe = RECIPE, **options: Any) -> Any:
    return run_job(recipe, dataset.source, dataset.path, hash, **options)


def identity(path: Path) -> dict[str, tuple[int, int]]:
    """What changes when a file is written again, even with the same bytes."""
    files = (file for file in path.rglob("*") if file.is_file())
    return {str(file): (file.stat().st_ino, file.stat().st_mtime_ns) for file in files}


def test_a_second_run_has_nothing_to_do(dataset: Committed):
    before = identity(dataset.path)
    result = again(dataset)
    assert (result.status, result.manifest) == ("up_to_date", dataset.manifest)
    assert identity(dataset.path) == before


def test_changed_input_makes_a_new_generation_and_reverted_input_takes_the_old_one(dataset: Committed):
    old = identity(dataset.generation)
    extra = save(dataset.source / "images" / "cat_100.png", [[[1, 2, 3]] * 6] * 8)
    changed = again(dataset)
    assert changed.status == "committed"
    assert changed.manifest.generation != dataset.manifest.generation
    assert changed.manifest.written == 25
    assert Manifest.load(str(dataset.path)) == changed.manifest
    assert identity(dataset.generation) == old
    new = identity(dataset.path / changed.manifest.generation)

    assert find_unused(str(dataset.path)) == [str(dataset.generation)]
    extra.unlink()
    reverted = again(dataset)
    assert (reverted.status, reverted.manifest) == ("up_to_date", dataset.manifest)
    assert Manifest.load(str(dataset.path)) == dataset.manifest
    assert identity(dataset.generation) == old
    assert identity(dataset.path / changed.manifest.generation) == new
    assert find_unused(str(dataset.path)) == [str(dataset.path / changed.manifest.generation)]


def test_another_recipe_is_another_generation(dataset: Committed):
    other = again(dataset, "8" * 64)
    assert other.status == "committed"
    assert other.manifest.generation != dataset.manifest.generation
    assert sorted(shard.file.sha256 for shard in other.manifest.splits["train"].shards) == sorted(
        shard.file.sha256 for shard in dataset.manifest.splits["train"].shards
    )


def unfinish(dataset: Committed, tmp_path: Path) -> Path:
    """The output of a run that failed after all of its units, by a `features` that cannot be applied."""
    from penstock.pipeline.commit import commit

    output = tmp_path / "unfinished"

    def fail(*_: Any) -> None:
        raise RuntimeError("no more power")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(commit, "seal", fail)
        with pytest.raises(PenstockError, match="no more power"):
            run_job(RECIPE, dataset.source, output, HASH)
    assert not (output / "_DATASET.json").exists()
    return output


@pytest.mark.slow
def test_a_failed_run_is_resumed_without_making_a_unit_again(dataset: Committed, tmp_path: Path):
    output = unfinish(dataset, tmp_path)
    generation = output / dataset.manifest.generation
    shards = identity(generation / "data")
    result = run_job(RECIPE, dataset.source, output, HASH)
    assert result.status == "committed"
    assert identity(generation / "data") == shards
    assert stable(contents(output)) == stable(contents(dataset.path))


@pytest.mark.slow
def test_a_unit_whose_files_are_gone_is_made_again(dataset: Committed, tmp_path: Path):
    output = unfinish(dataset, tmp_path)
    data = output / dataset.manifest.generation / "data"
    missing, short, *others = sorted(data.iterdir())
    missing.unlink()
    os.truncate(short, 10)
    kept = identity(data).keys() - {str(short)}
    before = {path: identity(data)[path] for path in kept}
    run_job(RECIPE, dataset.source, output, HASH)
    assert {path: identity(data)[path] for path in kept} == before
    assert len(others) == 2
    assert stable(contents(output)) == stable(contents(dataset.path))


def stable(found: dict[str, str]) -> dict[str, str]:
    """All but the manifest, its checksum and its pointer, which tell the time, and the graph's functions."""
    named = ("manifest.json", "manifest.sha256", "_DATASET.json", "saved_model.pb")
    return {path: sha256 for path, sha256 in found.items() if not path.endswith(named)}


@pytest.mark.slow
def test_two_runs_of_one_job_do_not_work_on_one_generation(dataset: Committed, tmp_path: Path):
    import fcntl

    output = unfinish(dataset, tmp_path)
    before = contents(output)
    descriptor = os.open(output / dataset.manifest.generation, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)  # as the other run does
    with pytest.raises(PenstockError, match=r"another run is making .*; wait for its end, then run again"):
        run_job(RECIPE, dataset.source, output, HASH)
    assert contents(output) == before
    os.close(descriptor)
    assert run_job(RECIPE, dataset.source, output, HASH).status == "committed"


@pytest.mark.slow
def test_who_commits_second_fails_and_leaves_the_winner_alone(dataset: Committed, monkeypatch: pytest.MonkeyPatch):
    """Another recipe's run that commits while this one is at work."""
    from penstock.runners import direct

    make = direct.run

    def overtaken(*args: Any) -> None:
        monkeypatch.setattr(direct, "run", make)
        again(dataset, "7" * 64)
        make(*args)

    monkeypatch.setattr(direct, "run", overtaken)
    with pytest.raises(PenstockError, match=r"another run committed generation .* while this one was at work"):
        again(dataset, "6" * 64)
    winner = Manifest.load(str(dataset.path))
    assert winner.generation != dataset.manifest.generation
    loser = again(dataset, "6" * 64)
    assert loser.status == "committed"
    assert {winner.generation, dataset.manifest.generation} < {path.name for path in dataset.path.iterdir()}


@pytest.mark.slow
def test_a_killed_runs_leftovers_are_gone_after_the_next(dataset: Committed, tmp_path: Path):
    output = unfinish(dataset, tmp_path)
    generation = output / dataset.manifest.generation
    for folder in (output, generation, generation / "data", generation / "transform_graph" / "transform_fn"):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"x.{'0' * 32}.tmp").write_bytes(b"left behind")
    run_job(RECIPE, dataset.source, output, HASH)
    assert not list(output.rglob("*.tmp"))
    (generation / "_work" / "units").mkdir(parents=True)  # of a run that was killed just after its commit
    assert run_job(RECIPE, dataset.source, output, HASH).status == "up_to_date"
    assert not (generation / "_work").exists()


def test_a_reporter_hears_how_it_goes(base: Committed, tmp_path: Path):
    from helpers import request

    from penstock.runners.run import run

    heard: list[Any] = []

    class Reporter:
        def stage(self, text: str) -> None:
            heard.append(text)

        def planned(self, planned: Any) -> None:
            heard.append(planned.plan.inventory.read)

        def settled(self, planned: Any) -> None:
            heard.append("settled")

        def submitted(self, record: Any) -> None:
            heard.append(record.url)

        def warn(self, warnings: Any) -> None:
            heard.append(("warned", list(warnings)))

        def progress(self, progress: Progress) -> None:
            heard.append((progress.read, progress.quarantined, progress.written))

        def committed(self, warnings: Any) -> None:
            heard.append(list(warnings))

        def interrupted(self) -> Interrupt:
            return Interrupt.CANCEL

    run(request(RECIPE, base.source, tmp_path), Reporter())
    assert heard[0] == "planning"
    assert 24 in heard
    assert ("warned", []) in heard
    assert heard[-2:] == [(24, 0, 24), []]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["v[1]", "a\\b", "a?b*", "{x} it's $(y) %2 @3", "\udcff"])
def test_a_folder_may_have_any_name(base: Committed, tmp_path: Path, name: str):
    """TensorFlow takes brackets, backslashes, stars and question marks in a path for a pattern."""
    from penstock.pipeline.commit.verify import verify
    from penstock.pipeline.load import open_dataset

    output = tmp_path / name
    assert run_job(RECIPE, base.source, output, HASH).status == "committed"
    assert stable(contents(output)) == stable(contents(base.path))
    assert list(verify(str(output))) == []
    loaded = open_dataset(output)
    for batches in (loaded.numpy("train", 24), loaded.tf("train", 24, graph="saved")):
        assert len(next(iter(batches))["label"]) == 24
    if name.isascii():
        exported = loaded.export(str(tmp_path / f"{name} export"))
        assert Path(exported.path).is_dir()
    assert not [path.name for path in tmp_path.iterdir() if path.name.endswith(".tmp")]


def test_workers_of_other_versions_make_nothing(base: Committed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from penstock.pipeline.build import versions

    here = versions.versions_here()
    seen: list[Any] = []

    def asked() -> Any:
        seen.append(here)
        return here if len(seen) == 1 else {**here, "pillow": "1.0"}  # first the launcher, then its workers

    monkeypatch.setattr(versions, "versions_here", asked)
    with pytest.raises(PenstockError) as caught:
        run_job(RECIPE, base.source, tmp_path / "dataset", HASH)
    assert f"expected pillow {here['pillow']}, as the launcher has, found pillow 1.0; let workers" in str(caught.value)
    assert "Traceback" not in str(caught.value)
    assert not list((tmp_path / "dataset").rglob("*.tfrecord"))
