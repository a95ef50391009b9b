import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from helpers import Committed, draw, run_job

from penstock.pipeline import Images, Recipe, by_folder, by_list

COPIES = {
    "train/b.png": "train/images/cat_001.png",  # within a split
    "test/c.png": "train/images/cat_002.png",  # across splits
    "train/a.png": "train/images/cat_002.png",
}


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("duplicates")
    draw(root / "train", 6, seed=1)
    draw(root / "test", 6, seed=2)
    for copy, original in COPIES.items():
        shutil.copy(root / original, root / copy)
    return root


def recipe(**fields: Any) -> Recipe:
    return Recipe(source=Images(["*/images/*.png", "*/*.png"]), splits=by_folder(), shards=3, **fields)


def test_duplicates_are_reported_within_and_across_splits(raw: Path, tmp_path: Path):
    manifest = run_job(recipe(), raw, tmp_path).manifest
    assert manifest.written == 15
    duplicates = manifest.duplicates
    assert (duplicates.groups, duplicates.across_splits) == (2, 1)
    (leak,) = duplicates.examples
    assert leak["examples"] == [
        {"key": "test/c.png", "split": "test"},
        {"key": "train/a.png", "split": "train"},
        {"key": "train/images/cat_002.png", "split": "train"},
    ]
    groups = json.loads((tmp_path / duplicates.file.path).read_text())
    within = {"key": "train/b.png", "split": "train"}, {"key": "train/images/cat_001.png", "split": "train"}
    assert sorted(len(group["examples"]) for group in groups) == [2, 3]
    assert list(within) in [group["examples"] for group in groups]


def test_of_duplicates_the_smallest_key_stays(raw: Path, tmp_path: Path):
    manifest = run_job(recipe(deduplicate=True), raw, tmp_path).manifest
    assert (manifest.read, manifest.written, manifest.filtered) == (15, 12, 3)
    assert manifest.reasons.filtered == {"duplicate": 3}
    assert manifest.duplicates.groups == 0
    assert manifest.duplicates.file is None
    dataset = Committed(tmp_path, raw, manifest)
    keys = {example["key"].decode() for split in ("train", "test") for example in dataset.examples(split)}
    assert {"train/b.png", "test/c.png"} <= keys
    assert not {"train/a.png", "train/images/cat_001.png", "train/images/cat_002.png"} & keys


def test_a_duplicate_of_what_is_in_no_split_stays(raw: Path, tmp_path: Path):
    """Else neither of them would be in the dataset."""
    source = tmp_path / "raw"
    shutil.copytree(raw, source)
    (source / "lists").mkdir()
    (source / "lists" / "train.txt").write_text("train/images/cat_001.png\n")  # and not its copy, train/b.png
    listed = Recipe(
        source=Images(["*/images/*.png", "*/*.png"]),
        splits=by_list({"train": "lists/train.txt"}),
        deduplicate=True,
    )
    manifest = run_job(listed, source, tmp_path / "dataset").manifest
    assert manifest.written == 1
    assert sum(manifest.reasons.filtered.values()) == 14
    assert "duplicate" not in manifest.reasons.filtered
