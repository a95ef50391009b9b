"""Killed runs of tables are taken up where they were left, and end in the same bytes."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import contents, write

pytestmark = pytest.mark.slow

RECIPE = """
import os, signal
import pyarrow as pa
import tensorflow_transform as tft
from penstock.pipeline import Csv, Recipe
from penstock.transforms import categorical, columns, numeric


@columns.vectorized
def deadly(batch):
    if os.path.exists({flag!r}) and 3000 in batch["n"].to_pylist():
        os.kill(os.getpid(), signal.SIGKILL)
    return batch


def features(inputs):
    outputs = {{"n": numeric.standardize(inputs, "n"), "t": categorical.vocabulary(inputs, "t")}}
    {theirs}
    return outputs


recipe = Recipe(
    source=Csv("*.csv"),
    prepare=[deadly],
    features=features,
    splits={{"train": 0.8, "test": 0.2}},
    shards=4,
    **{fields!r},
)
"""
ROWS = "n,x,t\n" + "".join(f"{n},{n % 97 / 7},word {n % 7}\n" for n in range(6000))


def start(folder: Path, flagged: bool, theirs: str, fields: dict) -> Path:
    """Writes input and recipe, both of equal bytes in every folder of a test."""
    flag = folder.parent / "deadly"
    flag.touch() if flagged else flag.unlink(missing_ok=True)
    write(folder.parent, {f"raw/{name}.csv": ROWS for name in "abcd"}) if not (folder.parent / "raw").exists() else None
    recipe = folder.parent / "recipe.py"
    if not recipe.exists():
        recipe.write_text(RECIPE.format(flag=str(flag), theirs=theirs, fields=fields))
    return recipe


def run(recipe: Path, output: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "penstock.runners", "run", recipe, "--input", recipe.parent / "raw"]
    words = [*map(str, command), "--output", str(output), "--quiet"]
    return subprocess.run(words, capture_output=True, text=True, timeout=300, check=False)


@pytest.mark.parametrize(
    ("theirs", "fields"),
    [
        ("", {}),
        ("", {"format": "parquet"}),
        ("", {"shuffle": "global"}),
        ('outputs["z"] = tft.scale_to_z_score(inputs["x"])', {}),
        ('outputs["zz"] = tft.scale_to_z_score(tft.scale_to_z_score(inputs["x"]) ** 2)', {}),
    ],
    ids=["ours", "parquet", "global", "theirs", "phases"],
)
def test_a_killed_run_resumes_to_the_same_bytes(tmp_path: Path, theirs: str, fields: dict):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    recipe = start(whole, False, theirs, fields)
    done = run(recipe, whole)
    assert done.returncode == 0, done.stderr
    start(killed, True, theirs, fields)
    assert run(recipe, killed).returncode == -signal.SIGKILL
    assert not (killed / "_DATASET.json").exists()
    start(killed, False, theirs, fields)
    done = run(recipe, killed)
    assert done.returncode == 0, done.stderr

    # TensorFlow orders the operations of a SavedModel by their addresses: of several inputs, two runs order them
    # differently. What the graph computes, golden.json and portable.json tell. The manifest has the time and the
    # model's hash in it.
    others = ("manifest.json", "manifest.sha256", "_DATASET.json", "saved_model.pb")

    def kept(folder: Path) -> dict[str, str]:
        return {name: digest for name, digest in contents(folder).items() if not name.endswith(others)}

    assert kept(killed) == kept(whole)
