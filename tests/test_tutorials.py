"""The pages that are to be followed step by step: each file in them is saved, each command run, as a reader would."""

import doctest
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers import REPOSITORY, save

BLOCK = re.compile(r"^```(python|console)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
pytestmark = pytest.mark.slow


def environment() -> dict[str, str]:
    """The environment in which `python` and `penstock` are those that run this test."""
    return {**os.environ, "PATH": os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))}


def shell(command: str, folder: Path) -> str:
    """What a command prints on its standard output."""
    done = subprocess.run(
        ["bash", "-c", command], cwd=folder, env=environment(), stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout


def follow(page: str, folder: Path) -> int:
    """Saves the files and runs the commands of a page, in their order, and compares what they print.

    The first line of a file names it. In a console, lines that begin with `$` are commands, the others what the
    command before them prints; `...` stands for anything.

    Returns:
      How many commands were run.
    """
    commands = 0
    for language, block in BLOCK.findall(page):
        if language == "python":
            (name,) = re.findall(r"\A# (\w+\.py)\n", block)
            (folder / name).write_text(block)
            continue
        for command, expected in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", block, re.MULTILINE):
            printed = shell(command, folder)
            assert doctest.OutputChecker().check_output(expected, printed, FLAGS), f"{command}\n{printed}"
            commands += 1
    return commands


@pytest.mark.parametrize(("name", "commands"), [("images", 8), ("tables", 10), ("text", 5)])
def test_a_tutorial_can_be_followed(name: str, commands: int, tmp_path: Path):
    assert follow((REPOSITORY / f"docs/tutorials/{name}.md").read_text(), tmp_path) == commands


@pytest.mark.parametrize("block", ["```console\n$ echo two\none\n```\n", "```console\n$ false\n```\n"])
def test_a_tutorial_that_is_wrong_is_found(block: str, tmp_path: Path):
    with pytest.raises(AssertionError):
        follow(block, tmp_path)


def test_the_readmes_commands_run(tmp_path: Path):
    readme = (REPOSITORY / "README.md").read_text()
    shutil.copytree(REPOSITORY / "examples", tmp_path / "examples")
    generator = np.random.default_rng(0)

    def draw(numbers: range) -> None:
        for number in numbers:
            name = f"{'Abyssinian' if number % 3 else 'beagle'}_{number}"
            save(tmp_path / f"pets/images/{name}.jpg", generator.integers(0, 256, (20, 30, 3), np.uint8))
            save(tmp_path / f"pets/annotations/trimaps/{name}.png", generator.integers(1, 4, (20, 30), np.uint8))

    draw(range(30))
    shell("penstock run examples/pets.py --input pets --output prepared/pets", tmp_path)
    draw(range(30, 40))  # so that there are two generations to compare
    commands = re.findall(r"^penstock .*$", readme, re.MULTILINE)
    assert len(commands) >= 8
    for command in commands:
        shell(command, tmp_path)
    (training,) = (block for _, block in BLOCK.findall(readme) if "model.fit" in block)
    (tmp_path / "train.py").write_text(
        "import keras\n"
        "model = keras.Sequential([keras.layers.Input((128, 128, 3)), keras.layers.Conv2D(3, 1)])\n"
        "model.compile('sgd', keras.losses.SparseCategoricalCrossentropy(from_logits=True))\n"
        + training.replace("epochs=10", "epochs=1")
    )
    shell("python train.py", tmp_path)
