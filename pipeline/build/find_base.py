"""Whether a run can take over from the dataset's current generation what became of the pieces of its input."""

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa

from ..errors import DatasetError
from ..formats import paths
from ..formats.damage import find_damage
from ..formats.manifest import LIMIT, Manifest
from ..planning import plan_file
from ..planning.plan_file import Unit
from ..storage import files
from ..storage.scratch import ScratchFolder
from .journal import read_kept


@dataclass(frozen=True)
class Base:
    """A generation that a run takes over from.

    Attributes:
      generation: Its id.
      statistics: Its statistics id.
      read: How many examples each of its units has read, by the unit's number.
      inputs: The file with what its units read, on this machine.
    """

    generation: str
    statistics: str
    read: dict[int, int]
    inputs: "LocalInputs"


class LocalInputs:
    """A copy of the file with what a generation's units read, in a temporary folder."""

    def __init__(self, dataset: str, manifest: Manifest) -> None:
        """Copies it.

        Raises:
          DatasetError: it cannot be read, or is not as it was written.
        """
        assert manifest.units
        stored = manifest.units.inputs
        uri = files.join(dataset, stored.path)
        self._folder = ScratchFolder()
        self._path = os.path.join(self._folder.path, "inputs.arrow")
        try:
            with files.open_read(uri) as source, open(self._path, "wb") as target:
                shutil.copyfileobj(source, target, 1 << 20)
        except OSError as error:
            raise DatasetError(f"{uri}: expected what units read, found: {error}; run `penstock verify`") from error
        sha256, _ = files.sha256(self._path)
        if sha256 != stored.sha256:
            raise DatasetError(f"{uri}: expected SHA-256 {stored.sha256}, found {sha256}; run `penstock verify`")

    def __iter__(self) -> Iterator[tuple[Unit, pa.RecordBatch]]:
        """Every unit, and what it read."""
        return plan_file.read_inputs(self._path)


def find_base(dataset: str, manifest: Manifest, shape: str) -> Base | str:
    """What a run takes over from; or why there is nothing, in words.

    Args:
      dataset: The dataset's URI.
      manifest: That of its current generation.
      shape: The run's shape id.
    """
    generation = manifest.generation
    if manifest.units is None or manifest.identity is None:
        return f"generation {generation} was made by an earlier penstock, which did not keep what that needs"
    if LIMIT in manifest.origin.options:
        return f"generation {generation} is a sample"
    if manifest.identity.shape != shape:
        return "the source, `prepare`, splits, encodings, columns or versions of packages are others"
    if damage := find_damage(dataset, manifest):
        return f"generation {generation} is damaged: {next(iter(damage.values()))}"
    try:
        read = {journal.unit: journal.read for journal in read_kept(dataset, manifest)}
        return Base(generation, manifest.identity.statistics, read, LocalInputs(dataset, manifest))
    except DatasetError as error:
        return f"generation {generation} is damaged: {error}"


def is_complete(dataset: str, generation: str) -> bool:
    """Whether a generation was committed once and nothing is at work on it, as far as two looks tell."""
    root = files.join(dataset, generation)
    return files.exists(files.join(root, paths.MANIFEST)) and not files.exists(files.join(root, paths.WORK))
