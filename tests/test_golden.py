"""The bytes of shards, and who is in which split, must never change unnoticed.

Images and masks are stored raw, so no codec's version is in the bytes. After a change that is meant to change them:
`PENSTOCK_WRITE_GOLDEN=1 make test ARGS=tests/test_golden.py`, and say in the commit why.
"""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import Committed, run_job, save

from penstock.pipeline import Images, Recipe, by_hash
from penstock.transforms import image

GOLDEN = Path(__file__).parent / "golden" / "shards.json"


def draw(root: Path) -> Path:
    """30 images and masks that no library's random numbers are in."""
    rows, columns, channels = np.mgrid[0:12, 0:10, 0:3]
    for number in range(30):
        name = f"{('ant', 'bee', 'cow')[number % 3]}_{number // 2:02d}_{number % 2}.png"
        save(root / "images" / name, (rows * 7 + columns * (number + 1) + channels * 85) % 256)
        save(root / "masks" / name, (rows[:, :, 0] + columns[:, :, 0] + number) % 4)
    return root


def recipe(**fields: Any) -> Recipe:
    standard = {
        "source": Images("images/*.png", mask="masks/{stem}.png", label=r"(?P<label>[a-z]+)_.*"),
        "prepare": [image.center_crop(8, 8), lambda example: {**example, "size": [8, 8], "mean": 0.5, "seen": True}],
        "splits": {"train": 0.6, "validation": 0.2, "test": 0.2},
        "shards": 2,
        "encode": {"image": image.raw(), "mask": image.raw()},
    }
    return Recipe(**{**standard, **fields})


RECIPES = {
    "by key": recipe,
    "by group": lambda: recipe(splits=by_hash({"train": 0.7, "test": 0.3}, group=r"_(\d\d)_")),
}


@pytest.mark.parametrize("name", RECIPES)
def test_shards_and_splits_are_these(tmp_path: Path, name: str):
    raw = draw(tmp_path / "raw")
    dataset = Committed(tmp_path / "dataset", raw, run_job(RECIPES[name](), raw, tmp_path / "dataset").manifest)
    found: dict[str, Any] = {"shards": {}, "splits": {}}
    for split, entry in dataset.manifest.splits.items():
        for shard in entry.shards:
            for path in (shard.path, shard.index.path):
                content = (dataset.path / path).read_bytes()
                found["shards"][path.partition("/")[2]] = hashlib.sha256(content).hexdigest()
        found["splits"][split] = [example["key"].decode() for example in dataset.examples(split)]
    golden = json.loads(GOLDEN.read_text()) if GOLDEN.exists() else {}
    if os.environ.get("PENSTOCK_WRITE_GOLDEN"):
        GOLDEN.write_text(json.dumps({**golden, name: found}, indent=1) + "\n")
    else:
        assert found["splits"] == golden[name]["splits"]
        assert found["shards"] == golden[name]["shards"]


def test_the_golden_groups_stay_together():
    splits = json.loads(GOLDEN.read_text())["by group"]["splits"]
    places: dict[str, set[str]] = {}
    for split, keys in splits.items():
        for key in keys:
            places.setdefault(key.split("_")[1], set()).add(split)
    assert len(places) == 15
    assert all(len(found) == 1 for found in places.values())
