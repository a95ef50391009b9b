"""Raw data of several kinds, recipes for it, and what is compared of the datasets that are made of it."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from helpers import draw, standard_recipe, write
from pyarrow import parquet

from penstock.pipeline import Csv, JsonLines, Parquet, Recipe
from penstock.pipeline.formats.manifest import Manifest
from penstock.pipeline.storage import files
from penstock.transforms import categorical, numeric


def features(inputs: Any) -> dict[str, Any]:
    return {
        "height": numeric.standardize(inputs, "height"),
        "town": categorical.vocabulary(inputs, "town"),
        "clicks": inputs["clicks"],
    }


def table(source: Any) -> Recipe:
    return Recipe(source=source, features=features, splits={"train": 0.7, "test": 0.3}, shards=2)


RECIPES: dict[str, Callable[[], Recipe]] = {
    "images": standard_recipe,
    "csv": lambda: table(Csv("people/*.csv")),
    "json lines": lambda: table(JsonLines("people/*.jsonl")),
    "parquet": lambda: table(Parquet("people/*.parquet")),
}


def rows(count: int, seed: int) -> list[dict[str, Any]]:
    """People, each with a number of its own."""
    generator = np.random.default_rng(seed)
    return [
        {
            "person": 1000 * seed + number,
            "height": round(float(generator.normal(170, 9)), 3),
            "town": f"town, {generator.integers(9)}",
            "clicks": int(generator.integers(100)),
        }
        for number in range(count)
    ]


def raw_data(root: Path) -> Path:
    """Images with masks, and three tables of two files each."""
    draw(root, 40, (24, 16), masks=True)
    for number in (1, 2):
        entries = rows(400, number)
        lines = [f'{row["person"]},{row["height"]},"{row["town"]}",{row["clicks"]}\n' for row in entries]
        write(root / "people", {f"{number}.csv": "person,height,town,clicks\n" + "".join(lines)})
        write(root / "people", {f"{number}.jsonl": "".join(json.dumps(row) + "\n" for row in entries)})
        parquet.write_table(pa.Table.from_pylist(entries), root / "people" / f"{number}.parquet")
    return root


def sample(folder: Path, target: Path, patterns: dict[str, int]) -> Path:
    """Copies every n-th of the files that match each pattern."""
    for pattern, step in patterns.items():
        for path in sorted(folder.glob(pattern))[::step]:
            copy = target / path.relative_to(folder)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, copy)
    return target


def upload(folder: Path, root: str) -> str:
    """Writes a folder's files below a URI."""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            files.write_bytes(files.join(root, path.relative_to(folder).as_posix()), path.read_bytes())
    return root


def shards(manifest: Manifest) -> dict[str, str]:
    """What came of a run, but for what differs between any two processes: path in the generation to SHA-256."""
    stored = {file.path.removeprefix(f"{manifest.generation}/"): file.sha256 for file in manifest.files()}
    return {
        path: sha256
        for path, sha256 in stored.items()
        if path.startswith(("data/", "index/", "statistics/statistics", "statistics/values"))
    }
