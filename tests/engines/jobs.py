"""Jobs on engines, by the command line, and what is compared of the datasets that come out."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from helpers import differences
from stores.data import shards

from penstock.pipeline import open_dataset
from penstock.pipeline.commit.verify import verify
from penstock.pipeline.formats.manifest import Manifest
from penstock.pipeline.storage import files

STREAMING = "--streaming"  # chooses the translator that Flink 2 always uses
SECONDS = 240.0  # that a job may take


@dataclass(frozen=True)
class Job:
    """A run of the command line on an engine, in the recipe's folder.

    Attributes:
      recipe: The recipe's file.
      input: The input folder.
      output: The dataset's folder.
      engine: What says which engine it is, and further options of Penstock's.
      beam: Options for Beam, which follow `--`.
      environment: Further variables of the launcher.
    """

    recipe: Path
    input: str
    output: str
    engine: Sequence[str]
    beam: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)

    def start(self, log: Path) -> "subprocess.Popen[bytes]":
        """Begins it; what it says goes to a file."""
        command = [sys.executable, "-m", "penstock.runners", "run", self.recipe, "--input", self.input]
        command += ["--output", self.output, *self.engine, *(["--", *self.beam] if self.beam else [])]
        with log.open("ab") as output:
            return subprocess.Popen(
                [str(part) for part in command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=self.recipe.parent,
                env={**os.environ, **self.environment},
            )

    def run(self, log: Path, seconds: float = SECONDS) -> int:
        """Runs it to its end; returns the exit code."""
        return finish(self.start(log), seconds)


def finish(process: "subprocess.Popen[bytes]", seconds: float = SECONDS) -> int:
    """The exit code of a job; one that takes too long is interrupted, then killed."""
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        raise


def expect_same(output: str, reference: str) -> Manifest:
    """Checks that a dataset is whole and is the one that the in-process runner made: bytes, counts, graph.

    Returns:
      Its manifest.
    """
    ours, theirs = Manifest.load(output), Manifest.load(reference)
    assert shards(ours) == shards(theirs)
    assert (ours.read, ours.written, ours.filtered, ours.quarantined) == (
        theirs.read,
        theirs.written,
        theirs.filtered,
        theirs.quarantined,
    )
    assert _golden(output, ours) == _golden(reference, theirs)
    assert list(verify(output)) == []
    split = next(iter(theirs.splits))
    here, there = (open_dataset(uri).numpy(split, 32) for uri in (output, reference))
    for loaded, expected in zip(here, there, strict=True):
        assert differences(loaded, expected) == []
    return ours


def _golden(output: str, manifest: Manifest) -> Any:
    """What the transform graph gave for its golden examples, but for the generation's name."""
    content = files.read_bytes(files.join(output, manifest.transform_graph.golden.path)).decode()
    return json.loads(content.replace(manifest.generation, ""))
