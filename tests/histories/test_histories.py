"""Random histories of raw datasets: a run that takes over what did not change comes to what a full run comes to.

`make test-slow` runs a few, `make test-histories` PENSTOCK_HISTORIES of them, 200 where that is not set; "20:30" are
those from 20 to 29. A failure names its number: `PENSTOCK_HISTORY=17 make test-histories` does that one again, alone.
"""

import os
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import Made, request
from histories import worlds
from histories.worlds import WORLDS, World

from penstock.pipeline.commit.verify import verify
from penstock.pipeline.errors import PenstockError, RequestError
from penstock.pipeline.graph.savedmodel import SavedGraph, apply_to_examples
from penstock.pipeline.planning.forgotten import Forgotten
from penstock.runners.run import run

pytestmark = pytest.mark.slow

_CHANGES = 4
_FRAME = "5" * 64


def _numbers() -> range:
    """The histories' numbers, as the environment chooses them."""
    if chosen := os.environ.get("PENSTOCK_HISTORY"):
        return range(int(chosen), int(chosen) + 1)
    begin, _, end = os.environ.get("PENSTOCK_HISTORIES", "6").rpartition(":")
    return range(int(begin or 0), int(end))


def made(world: World, output: Path, **options: Any) -> Any:
    """A run's result."""
    graph, shape = f"{world.variant:064x}", f"{world.version:064x}"
    options = {"max_quarantined": "90%", "threads": 2, **options}
    asked = request(world.recipe(), world.root, output, graph, shape, graph, _FRAME, **options)
    return run(replace(asked, recipe=replace(asked.recipe, module=worlds)))  # which workers get by value


def made_in_full(world: World, output: Path) -> Any:
    """The result of a run that makes all at once."""
    return made(world, output, forget=Forgotten.of(world.forgotten))


def made_in_turn(world: World, output: Path, forgotten: list[str], options: dict[str, Any]) -> Any:
    """The result of a run that takes over what it can; without --keep-prepared where that can keep nothing."""
    given: dict[str, Any] = {"workers": world.workers, "forget": Forgotten.of(forgotten)}
    try:
        return made(world, output, **given, **options)
    except RequestError as error:
        if not str(error).startswith("--keep-prepared: "):
            raise
        return made(world, output, **given)


def described(dataset: Made) -> dict[str, Any]:
    """All that does not depend on the layout."""
    manifest = dataset.manifest
    assets = dataset.generation / "transform_graph/transform_fn/assets"
    duplicates = manifest.duplicates
    return {
        "statistics": dataset.statistics_file,
        "values": (dataset.generation / "statistics/values.arrow").read_bytes(),
        "vocabularies": {path.name: path.read_bytes() for path in assets.iterdir()} if assets.is_dir() else {},
        "counts": (manifest.read, manifest.written, manifest.filtered, manifest.quarantined),
        "reasons": (manifest.reasons.filtered, manifest.reasons.quarantined),
        "splits": {name: split.examples for name, split in manifest.splits.items()},
        "quarantine": Counter((entry["key"], entry["code"]) for entry in dataset.quarantine),
        "duplicates": duplicates and (duplicates.groups, duplicates.across_splits, duplicates.contradicting),
        "features": manifest.features,
        "outputs": manifest.transform_graph.outputs,
        "examples": dataset.keyed(),
        "records": {name: sorted(dataset.records(name)) for name in manifest.splits},
    }


def outputs(dataset: Made, records: list[bytes]) -> dict[str, np.ndarray]:
    """What the transform graph gives for all examples."""
    graph = SavedGraph(str(dataset.generation / "transform_graph"), dataset.manifest.features, trust=True)
    return apply_to_examples(graph, records)


def expect_as_full(world: World, delta: Made, full: Made) -> None:
    """Holds a dataset against one that was made at once."""
    found, expected = described(delta), described(full)
    for name, value in expected.items():
        assert found[name] == value, name
    assert list(verify(str(delta.path))) == []
    records = sorted(record for split in expected["records"].values() for record in split)
    given, wanted = outputs(delta, records), outputs(full, records)
    for name, values in wanted.items():
        is_same = np.array_equal if values.dtype == object else lambda a, b: a.tobytes() == b.tobytes()
        assert is_same(given[name], values), name


@pytest.mark.parametrize("number", _numbers())
def test_a_history_ends_where_a_full_run_does(number: int, tmp_path: Path):
    generator = np.random.default_rng(number)
    world = WORLDS[number % len(WORLDS)](tmp_path / "raw", generator)
    output, happened = tmp_path / "delta", ["begin"]
    told = 0  # so many keys are forgotten already
    for change in range(_CHANGES + 1):
        if change:
            happened += ["then", *world.change()]
        chosen = generator.choice(["", "full", "retry", "keep_prepared"], p=[0.4, 0.2, 0.2, 0.2]) if change else ""
        options: dict[str, Any] = {str(chosen): True} if chosen else {}
        happened += [f"--{option}" for option in options]
        print(f"history {number}:", *happened)  # a failure shows it
        try:
            result = made_in_turn(world, output, world.forgotten[told:], options)
        except PenstockError as error:  # as where all of a split's examples are broken
            with pytest.raises(type(error)):
                made_in_full(world, tmp_path / "full")
            shutil.rmtree(tmp_path / "full", ignore_errors=True)
            continue
        told = len(world.forgotten)
        full = Made(tmp_path / "full", made_in_full(world, tmp_path / "full").manifest)
        delta = Made(output, result.manifest)
        expect_as_full(world, delta, full)
        if "full" in options:
            shards = [[shard.file.sha256 for shard in split.shards] for split in delta.manifest.splits.values()]
            assert shards == [[s.file.sha256 for s in split.shards] for split in full.manifest.splits.values()]
            assert delta.manifest.generation == full.manifest.generation
        assert made(world, output).status == "up_to_date"
        shutil.rmtree(tmp_path / "full")
