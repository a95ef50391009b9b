"""The last stage, as workers unpickle it."""

import subprocess
import sys
from pathlib import Path

import pytest
from apache_beam.internal import pickler
from helpers import draw, prepare_job, request

from penstock.pipeline import Images, Recipe
from penstock.pipeline.commit.stage import Commit
from penstock.pipeline.job import plan
from penstock.transforms import image


@pytest.mark.slow
def test_a_worker_that_does_not_commit_needs_no_tensorflow(tmp_path: Path) -> None:
    draw(tmp_path / "images", 8)
    recipe = Recipe(
        source=Images("images/*.png"),
        features=lambda inputs: {"image": image.standardize(inputs, "image")},
        splits={"train": 1.0},
    )
    asked = request(recipe, tmp_path / "images", tmp_path / "out")
    stage = pickler.dumps(Commit(prepare_job(asked, plan(asked)).commit))
    program = (
        "import sys; from apache_beam.internal import pickler;"
        "stage = pickler.loads(sys.stdin.buffer.read());"
        "stage = pickler.loads(pickler.dumps(stage));"  # as some engines do
        "print(type(stage).__name__, *{'tensorflow', 'tensorflow_transform', 'tfx_bsl'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", program], input=stage, check=True, capture_output=True)
    assert done.stdout.decode().strip() == "Commit"
