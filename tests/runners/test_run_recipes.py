"""Which changes of a recipe make which parts of a dataset anew."""

from pathlib import Path
from typing import Any

import pytest
from helpers import draw

from penstock.pipeline.job import plan
from penstock.pipeline.planned_run import RunRequest
from penstock.pipeline.planning.recipe import load_recipe
from penstock.pipeline.prepare import payloads
from penstock.runners.run import run

RECIPE = """
import numpy as np
from penstock.pipeline import Images, Recipe
from penstock.transforms import image

FACTOR = 1


def step(example):
    return {**example, "factor": FACTOR}


def features(inputs):
    return {"image": image.standardize(inputs, "image"), "factor": inputs["factor"] + 1}


recipe = Recipe(source=Images("images/*.png"), prepare=[step], features=features, shards=2)
"""


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The keys of the images that are read."""
    keys: list[str] = []
    of_image = payloads.read_payload

    def read_payload(uri: str, *arguments: Any, **options: Any) -> Any:
        keys.append("/".join(Path(uri).parts[-2:]))
        return of_image(uri, *arguments, **options)

    monkeypatch.setattr(payloads, "read_payload", read_payload)
    return keys


def test_a_recipes_change_makes_anew_what_follows_from_it(tmp_path: Path, read: list[str]):
    raw, output = draw(tmp_path / "raw", 40), tmp_path / "out"

    def made(text: str, name: str = "recipe.py") -> tuple[str, int, Any]:
        """The status of a run, how many images it read beside what its plan tries, and its manifest."""
        (tmp_path / name).write_text(text)
        asked = RunRequest(load_recipe(str(tmp_path / name)), str(raw), str(output))
        read.clear()
        plan(asked)
        tried = len(read)
        read.clear()
        result = run(asked)
        return result.status, len(read) - tried, result.manifest

    status, count, first = made(RECIPE)
    assert (status, count) == ("committed", 40)
    commented = RECIPE.replace("def step(example):\n", "def step(example):\n    # tells the factor\n")
    for text, name in ((commented, "recipe.py"), (RECIPE.replace("import numpy as np\n", ""), "renamed.py")):
        status, count, manifest = made(text, name)
        assert (status, count, manifest.generation) == ("up_to_date", 0, first.generation)
    status, count, changed = made(RECIPE.replace('inputs["factor"] + 1', 'inputs["factor"] + 2'))
    assert (status, count) == ("committed", 0)
    assert changed.generation != first.generation
    assert changed.delta.base == first.generation
    shards = [[shard.file.sha256 for shard in each.splits["train"].shards] for each in (first, changed)]
    assert shards[0] == shards[1]
    status, count, _ = made(RECIPE.replace("FACTOR = 1", "FACTOR = 2"))
    assert (status, count) == ("committed", 40)
