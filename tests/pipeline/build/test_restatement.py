"""Units that are taken over with other statistics: these are made anew from what is stored, and nothing else is."""

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from delta_plans import Planned, begin_delta, written
from helpers import LABEL, draw, run_job

from penstock.pipeline import Csv, Images, JsonLines, Recipe, join
from penstock.pipeline.build import stored_images
from penstock.pipeline.build.units import make_units
from penstock.pipeline.formats import paths
from penstock.transforms import categorical, image, numeric


def of_table(inputs: Any) -> dict[str, Any]:
    import tensorflow_transform as tft

    return {
        "z": numeric.standardize(inputs, "third"),
        "bucket": numeric.bucketize(inputs, "third", 4),
        "robust": numeric.robust_scale(inputs, "half"),
        "by": numeric.standardize_by_key(inputs, "third", "word"),
        "word": categorical.vocabulary(inputs, "word"),
        "count": categorical.frequency(inputs, "n"),
        "tft": tft.scale_to_z_score(inputs["third"]),
        "vocabulary": tft.compute_and_apply_vocabulary(inputs["word"]),
    }


def mean_of(inputs: Any) -> Any:
    """The mean of lists of floats that float32 cannot hold, in each row."""
    import tensorflow as tf

    return tf.fill([tf.shape(inputs["n"])[0]], tf.cast(inputs.statistics.moments("x").mean, tf.float32))


def of_lists(inputs: Any) -> dict[str, Any]:
    import tensorflow_transform as tft

    return {
        "words": tft.compute_and_apply_vocabulary(inputs["words"]),
        "n": numeric.standardize(inputs, "n"),
        "x": mean_of(inputs),
    }


def of_images(inputs: Any) -> dict[str, Any]:
    import tensorflow_transform as tft

    return {
        "image": image.standardize(inputs, "image"),
        "weight": numeric.robust_scale(inputs, "weight"),
        "by": numeric.standardize_by_key(inputs, "level", "label"),
        "level": tft.scale_to_z_score(inputs["level"]),
        "label": categorical.vocabulary(inputs, "label"),
    }


def write_table(folder: Path) -> Path:
    for number, name in enumerate(("a", "b2", "c:3")):
        rows = [
            f"{'' if row % 7 == number else row / 3},{row / 2},{row - 20},{'' if row % 5 == 0 else f'é{row % 4}'}"
            for row in range(200)
        ]
        (folder / f"{name}.csv").write_text("\n".join(["third,half,n,word", *rows, "1,2"]) + "\n")
    return folder


def write_lists(folder: Path) -> Path:
    rows = [{"n": row, "words": [f"w{row % 3}", "", "é"][: row % 4], "x": [row / 3] * (row % 3)} for row in range(100)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def describe_pixels(example: dict[str, Any]) -> dict[str, Any]:
    return {**example, "level": float(np.asarray(example["image"], np.float64).mean()) / 255}


def draw_images(folder: Path) -> Path:
    raw = draw(folder, 20, masks=True)
    names = sorted(path.name for path in (raw / "images").iterdir())
    lines = [f"{name},{number / 10}" for number, name in enumerate(names)]
    (raw / "more.csv").write_text("\n".join(["name,weight", *lines]) + "\n")
    (raw / "images" / names[3]).write_bytes(b"no image")
    return raw


def table(**fields: Any) -> Callable[[Any], Recipe]:
    def recipe(features: Any) -> Recipe:
        return Recipe(**{"source": Csv("*.csv"), "splits": {"train": 0.7, "test": 0.3}, **fields}, features=features)

    return recipe


def images(features: Any) -> Recipe:
    source = join(Images("images/*.png", mask="masks/{stem}.png", label=LABEL), Csv("more.csv"), on="name")
    splits = {"train": 0.7, "test": 0.3}
    return Recipe(source=source, prepare=[describe_pixels], splits=splits, shards=2, features=features)


CASES: dict[str, tuple[Callable[[Path], Path], Callable[[Any], Recipe], Any, Any]] = {
    "rows": (write_table, table(shards=2), None, of_table),
    "rows, compressed": (write_table, table(compression="gzip"), None, of_table),
    "rows in their order": (write_table, table(shuffle=None), None, of_table),
    "rows of Parquet": (write_table, table(format="parquet"), None, of_table),
    "rows without statistics of their own": (write_table, table(), of_table, None),
    "lists": (write_lists, table(source=JsonLines("*.jsonl")), None, of_lists),
    "images": (draw_images, images, None, of_images),
    "images without statistics of their own": (draw_images, images, of_images, None),
}


def journals(root: str) -> list[Any]:
    return [json.loads(path.read_text()) for path in sorted(Path(root, paths.UNITS).glob("*.json"))]


def as_they_are(planned: list[Planned]) -> list[Planned]:
    """Each unit is the base's of the same number."""
    return [(replace(unit, base=unit.index), batch) for unit, batch in planned]


def refuse(*_: Any) -> Any:
    raise AssertionError("expected nothing to be decoded")


@pytest.mark.parametrize("case", CASES)
def test_statistics_are_made_anew_without_the_sources(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write, recipe, before, after = CASES[case]
    (tmp_path / "raw").mkdir()
    raw = write(tmp_path / "raw")
    options = {"max_quarantined": "20%"}
    base = tmp_path / "base" / run_job(recipe(before), raw, tmp_path / "base", **options).manifest.generation
    full = begin_delta(recipe(after), raw, tmp_path / "full", tmp_path, **options)
    list(make_units(full.make, range(len(full.order))))
    delta = begin_delta(recipe(after), raw, tmp_path / "delta", tmp_path, base, as_they_are, False, **options)
    raw.rename(tmp_path / "moved")
    monkeypatch.setattr(stored_images, "_counts_of", refuse)
    list(make_units(delta.make, range(len(delta.order))))
    assert journals(delta.make.root) == journals(full.make.root)
    assert written(delta.make.root) == written(full.make.root)
    shards = [shard["file"]["path"] for journal in journals(delta.make.root) for shard in journal["shards"].values()]
    assert all(os.path.samefile(base / path, Path(delta.make.root, path)) for path in shards)


def test_another_split_may_have_the_statistics(tmp_path: Path):
    raw = draw_images(tmp_path / "raw")
    options = {"max_quarantined": "20%"}
    base = tmp_path / "base" / run_job(images(of_images), raw, tmp_path / "base", **options).manifest.generation
    other = replace(images(of_images), statistics="test")
    full = begin_delta(other, raw, tmp_path / "full", tmp_path, **options)
    list(make_units(full.make, range(len(full.order))))
    delta = begin_delta(other, raw, tmp_path / "delta", tmp_path, base, as_they_are, False, **options)
    list(make_units(delta.make, range(len(delta.order))))
    assert journals(delta.make.root) == journals(full.make.root)
    assert written(delta.make.root) == written(full.make.root)
