"""A damaged dataset, and its recipe run again: what is missing is made, and nothing damaged is believed."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tensorflow_transform as tft
from helpers import LABEL, Committed, draw, run_job

from penstock.pipeline import Csv, DatasetError, Images, Recipe
from penstock.pipeline.commit import prune
from penstock.pipeline.commit.verify import verify
from penstock.pipeline.formats.manifest import Manifest
from penstock.pipeline.storage import files
from penstock.pipeline.storage.locks import locked_folder
from penstock.transforms import image

IMAGES = Images("images/*.png", label=LABEL)
RECIPE = Recipe(
    source=IMAGES, features=lambda inputs: {"image": image.standardize(inputs, "image")}, shards=3, splits={"train": 1}
)
OTHER = Recipe(source=IMAGES, shards=2)
HASH, OTHER_HASH = "9" * 64, "8" * 64


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Committed:
    """A dataset with one quarantined image, beside an older generation of it, `OTHER`."""
    root = tmp_path_factory.mktemp("base")
    raw = draw(root / "raw", 12)
    (raw / "images/dog_000.png").write_bytes(b"no image")
    run_job(OTHER, raw, root / "dataset", OTHER_HASH, max_quarantined="1")
    manifest = run_job(RECIPE, raw, root / "dataset", HASH, max_quarantined="1").manifest
    return Committed(root / "dataset", raw, manifest)


@pytest.fixture
def dataset(base: Committed, tmp_path: Path) -> Committed:
    shutil.copytree(base.path, tmp_path / "dataset")
    return Committed(tmp_path / "dataset", base.source, base.manifest)


def again(dataset: Committed, recipe: Recipe = RECIPE, hash: str = HASH) -> Any:
    return run_job(recipe, dataset.source, dataset.path, hash, max_quarantined="1")


def faults(dataset: Committed) -> list[str]:
    return list(verify(str(dataset.path)))


def old(dataset: Committed) -> Path:
    """The other generation's folder."""
    (path,) = (path for path in dataset.path.iterdir() if path.is_dir() and path != dataset.generation)
    return path


def inodes(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_ino for path in folder.iterdir()}


def empty(path: Path) -> None:
    os.truncate(path, 0)


def flip(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[:-3] + bytes([content[-3] ^ 1]) + content[-2:])


def become_a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize(
    ("pattern", "damage"),
    [
        ("data/train-00001-*", Path.unlink),
        ("data/train-00001-*", become_a_pipe),
        ("index/train-00001-*", empty),
        ("quarantine/unit-*", Path.unlink),
        ("units/00001.arrow", Path.unlink),
        ("units/00001.summaries", empty),
    ],
)
def test_only_the_unit_whose_file_is_damaged_is_made_again(
    dataset: Committed, pattern: str, damage: Callable[[Path], None]
) -> None:
    (path,) = dataset.generation.glob(pattern)
    damage(path)
    before = inodes(dataset.generation / "data")
    assert again(dataset).status == "committed"
    assert Manifest.load(str(dataset.path)) == dataset.manifest
    assert sum(before.get(name) != inode for name, inode in inodes(dataset.generation / "data").items()) == 1
    assert faults(dataset) == []
    assert again(dataset).status == "up_to_date"


def test_what_the_launcher_keeps_of_the_input_costs_no_unit(dataset: Committed) -> None:
    (dataset.generation / "units" / "inputs.arrow").unlink()
    before = inodes(dataset.generation / "data")
    assert again(dataset).status == "committed"
    assert (Manifest.load(str(dataset.path)), inodes(dataset.generation / "data")) == (dataset.manifest, before)
    assert faults(dataset) == []


def test_a_unit_is_made_again_where_tft_analyzes(base: Committed, tmp_path: Path):
    def features(inputs: Any) -> dict[str, Any]:
        return {"label": tft.compute_and_apply_vocabulary(inputs["label"])}

    recipe = Recipe(source=IMAGES, features=features, shards=3, splits={"train": 1})
    arguments: Any = (recipe, base.source, tmp_path / "dataset", HASH)
    dataset = Committed(tmp_path / "dataset", base.source, run_job(*arguments, max_quarantined="1").manifest)
    (path,) = dataset.generation.glob("data/train-00001-*")
    path.unlink()
    (dataset.generation / "units" / "00001.accumulators").unlink()
    assert again(dataset, recipe).status == "committed"
    assert Manifest.load(str(dataset.path)) == dataset.manifest
    assert faults(dataset) == []


@pytest.mark.parametrize("path", ["croissant.json", "SHA256SUMS"])
def test_metadata_that_is_damaged_is_written_again_and_no_unit_is_made(dataset: Committed, path: str) -> None:
    before, made = (dataset.generation / path).read_bytes(), inodes(dataset.generation / "data")
    (dataset.generation / path).write_text("edited by hand")
    assert again(dataset).status == "committed"
    assert (dataset.generation / path).read_bytes() == before
    assert inodes(dataset.generation / "data") == made
    assert faults(dataset) == []
    assert again(dataset).status == "up_to_date"


@pytest.mark.parametrize(
    "path", ["statistics/golden.json", "transform_graph/portable.json", "manifest.json", "units/journals.jsonl"]
)
def test_what_units_do_not_make_is_made_again_by_a_whole_run(dataset: Committed, path: str) -> None:
    (dataset.generation / path).unlink()
    (dataset.generation / "data").joinpath(next(iter(inodes(dataset.generation / "data")))).unlink()
    assert again(dataset).status == "committed"
    assert Manifest.load(str(dataset.path)).splits == dataset.manifest.splits
    assert faults(dataset) == []
    assert again(dataset).status == "up_to_date"


def test_a_manifest_that_was_changed_is_not_believed(dataset: Committed) -> None:
    path = dataset.generation / "manifest.json"
    path.write_text(path.read_text().replace('"read": 12', '"read": 13'))
    with pytest.raises(DatasetError, match=r"it was changed; run the recipe again, which makes what is damaged"):
        Manifest.load(str(dataset.path))
    result = again(dataset)
    assert (result.status, result.manifest.read) == ("committed", 12)
    assert faults(dataset) == []


@pytest.mark.parametrize(
    ("path", "damage"), [("manifest.json", flip), ("manifest.json", empty), ("manifest.sha256", Path.unlink)]
)
def test_an_older_generation_that_is_damaged_is_not_taken_again(
    dataset: Committed, path: str, damage: Callable[[Path], None]
) -> None:
    before = Manifest.read_generation(str(dataset.path), old(dataset).name)[0]
    damage(old(dataset) / path)
    result = again(dataset, OTHER, OTHER_HASH)
    assert (result.status, result.manifest.splits) == ("committed", before.splits)
    assert faults(dataset) == []


def test_a_dry_run_tells_what_is_damaged(dataset: Committed) -> None:
    from helpers import request

    from penstock.pipeline.job import Preview, plan
    from penstock.runners.report import plan_entry

    def state() -> str:
        asked = request(RECIPE, dataset.source, dataset.path, HASH, max_quarantined="1")
        return str(plan_entry(asked, Preview(plan(asked), (), None), (), None)["state"])

    assert state() == "up to date"
    shard = next(dataset.generation.glob("data/*"))
    shard.unlink()
    assert state() == f"to be made again: {shard}: the file is missing"
    assert not shard.exists()


def test_a_checksum_of_the_manifest_that_is_lost_is_written_again(dataset: Committed) -> None:
    path = dataset.generation / "manifest.sha256"
    content = path.read_bytes()
    for damage in (Path.unlink, flip, become_a_pipe):
        damage(path)
        assert again(dataset).status == "up_to_date"
        assert path.read_bytes() == content


def test_an_older_generation_that_is_half_gone_is_not_taken_again(dataset: Committed) -> None:
    shutil.rmtree(old(dataset) / "data")
    assert again(dataset, OTHER, OTHER_HASH).status == "committed"
    assert faults(dataset) == []


def test_a_pointer_that_is_lost_is_written_again(dataset: Committed) -> None:
    before = inodes(dataset.generation / "data")
    (dataset.path / "_DATASET.json").unlink()
    assert again(dataset).status == "up_to_date"
    assert inodes(dataset.generation / "data") == before
    assert faults(dataset) == []


def test_a_pointer_with_another_checksum_is_written_again(dataset: Committed) -> None:
    path = dataset.path / "_DATASET.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "sha256": "0" * 64}))
    with pytest.raises(DatasetError, match="run the recipe again"):
        Manifest.load(str(dataset.path))
    assert again(dataset).status == "up_to_date"
    assert faults(dataset) == []


def test_the_shards_of_a_global_shuffle_are_made_again_by_a_whole_run(tmp_path: Path) -> None:
    raw, output = tmp_path / "raw", tmp_path / "dataset"
    raw.mkdir()
    (raw / "t.csv").write_text("x\n" + "".join(f"{number}\n" for number in range(50)))
    recipe = Recipe(source=Csv("*.csv"), shuffle="global", shards=2)
    manifest = run_job(recipe, raw, output, HASH).manifest
    (output / manifest.splits["train"].shards[0].path).unlink()
    assert run_job(recipe, raw, output, HASH).manifest.splits == manifest.splits
    assert list(verify(str(output))) == []


def test_an_unfinished_run_is_resumed_from_another_folder(
    dataset: Committed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The plan names the input as it was given then; what is not made yet is read by the names of now."""
    from penstock.pipeline.commit import commit

    def fail(*_: Any) -> None:
        raise RuntimeError("no more power")

    output = tmp_path / "unfinished"
    monkeypatch.chdir(dataset.source.parent)
    with monkeypatch.context() as patch:
        patch.setattr(commit, "seal", fail)
        with pytest.raises(Exception, match="no more power"):
            run_job(RECIPE, Path("raw"), output, HASH, max_quarantined="1")
    generation = next(path for path in output.iterdir() if path.is_dir())
    for path in (generation / "data").iterdir():
        path.unlink()
    monkeypatch.chdir(tmp_path)
    result = run_job(RECIPE, dataset.source, output, HASH, max_quarantined="1")
    assert (result.manifest.quarantined, result.manifest.splits) == (1, dataset.manifest.splits)


def test_prune_keeps_everything_where_the_current_generation_is_damaged(dataset: Committed) -> None:
    (dataset.generation / "statistics/statistics.json").unlink()
    before = sorted(dataset.path.iterdir())
    with pytest.raises(DatasetError, match=r"nothing was removed, .*: run the recipe again first"):
        list(prune.remove_unused(str(dataset.path)))
    assert sorted(dataset.path.iterdir()) == before
    again(dataset)
    assert list(prune.remove_unused(str(dataset.path)))


def test_a_generation_that_prune_was_killed_at_is_made_anew(
    dataset: Committed, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = old(dataset)

    def kill(uri: str) -> None:
        if "removed" in uri and os.path.isdir(uri):
            os.unlink(os.path.join(uri, "manifest.json"))
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(files, "remove", kill)
        with pytest.raises(KeyboardInterrupt):
            list(prune.remove_unused(str(dataset.path)))
    assert not gone.exists()
    half = str(gone) + ".removed"
    assert prune.find_unused(str(dataset.path)) == [half]
    assert again(dataset, OTHER, OTHER_HASH).status == "committed"
    assert faults(dataset) == []
    assert dict(prune.remove_unused(str(dataset.path))) == {half: True, str(dataset.generation): True}
    assert sorted(path.name for path in dataset.path.iterdir()) == sorted(["_DATASET.json", gone.name])


def test_prune_keeps_what_a_run_is_at_work_on_and_sees_empty_generations(dataset: Committed) -> None:
    older, unfinished = str(old(dataset)), dataset.path / ("0" * 16)
    unfinished.mkdir()
    with locked_folder(str(unfinished)):
        assert dict(prune.remove_unused(str(dataset.path))) == {str(unfinished): False, older: True}
    assert dict(prune.remove_unused(str(dataset.path))) == {str(unfinished): True}
