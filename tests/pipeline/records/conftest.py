"""What the tests of tables share: recipes that are run, and what comes out, as tables."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import apply_graph, run_job


@dataclass(frozen=True)
class Made:
    """A dataset that was made of a table."""

    path: Path
    manifest: dict[str, Any]

    @property
    def generation(self) -> Path:
        return self.path / self.manifest["generation"]

    @property
    def statistics(self) -> dict[str, Any]:
        """What statistics.json says of each column."""
        return self.statistics_file["features"]

    @property
    def statistics_file(self) -> dict[str, Any]:
        return json.loads((self.generation / "statistics/statistics.json").read_text())

    @property
    def quarantine(self) -> list[dict[str, Any]]:
        lines = [
            line
            for file in sorted((self.generation / "quarantine").glob("*.jsonl"))
            for line in file.read_text().splitlines()
        ]
        return [json.loads(line) for line in lines]

    def records(self, split: str = "train") -> list[bytes]:
        """The stored examples, in their order."""
        from penstock.pipeline.shards import read_examples

        shards = self.manifest["splits"][split]["shards"]
        return [record for shard in shards for record in read_examples(str(self.path / shard["path"]))]

    def rows(self, split: str = "train") -> list[dict[str, Any]]:
        """The stored examples as dicts, in their order; a list where a feature holds other than one value."""
        import tensorflow as tf

        rows = []
        for record in self.records(split):
            row = {}
            for name, feature in tf.train.Example.FromString(record).features.feature.items():
                values = list(getattr(feature, feature.WhichOneof("kind")).value)
                row[name] = values[0] if len(values) == 1 else values
            rows.append(row)
        return rows

    def column(self, name: str, split: str = "train") -> list[Any]:
        return [row.get(name) for row in self.rows(split)]

    def apply(self, split: str = "train") -> dict[str, np.ndarray]:
        """The transform graph's outputs on all stored examples."""
        return apply_graph(str(self.generation / "transform_graph"), self.records(split))

    def assets(self) -> dict[str, list[bytes]]:
        """The vocabularies by name."""
        folder = self.generation / "transform_graph/transform_fn/assets"
        return {path.name: path.read_bytes().splitlines() for path in sorted(folder.iterdir())}


@pytest.fixture(scope="session")
def make(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Made]:
    """Writes files, runs a recipe of a table on them, and gives what came out."""

    def make_(files: Mapping[str, str | bytes] | Path, output: Path | None = None, **fields: Any) -> Made:
        from penstock.pipeline import Csv, Recipe

        options = {name: fields.pop(name) for name in ("hash", "max_quarantined", "threads") if name in fields}
        source = files if isinstance(files, Path) else write(tmp_path_factory.mktemp("raw"), files)
        output = output or tmp_path_factory.mktemp("made") / "dataset"
        recipe = Recipe(**{"source": Csv("*.csv"), **fields})
        return Made(output, run_job(recipe, source, output, **options).manifest)

    return make_


def write(folder: Path, files: Mapping[str, str | bytes]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
    return folder
