"""Whether a run can take over from the dataset's current generation what became of the pieces of its input."""

import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..errors import DatasetError
from ..formats import paths
from ..formats.damage import find_damage
from ..formats.manifest import LIMIT, Manifest, read_stored
from ..planning import plan_file
from ..planning.plan_file import Unit
from ..storage import files
from ..storage.scratch import ScratchFolder
from .journal import Journal, RangeCounts, read_kept

_READ = 16  # files of quarantined examples at a time


@dataclass(frozen=True)
class Base:
    """A generation that a run takes over from.

    Attributes:
      generation: Its id.
      statistics: Its statistics id.
      ranges: Its units to the rows of each of their ranges; of images to none.
      inputs: The file with what its units read, on this machine.
      shapes: The shape ids of examples in it that are not of the run's shape.
      quarantined: Of images, its units to the keys that each has quarantined; empty where these are not tried again.
    """

    generation: str
    statistics: str
    ranges: Mapping[int, Sequence[RangeCounts]]
    inputs: "LocalInputs"
    shapes: tuple[str, ...]
    quarantined: Mapping[int, frozenset[str]]

    def read(self) -> np.ndarray:
        """How many examples each of the pieces was that its units have read: int64 [pieces]."""
        counts = (
            [each.read for each in self.ranges[unit.index]] or np.ones(len(batch), np.int64)
            for unit, batch in self.inputs
        )
        return np.concatenate([np.zeros(0, np.int64), *counts])

    def retried(self) -> np.ndarray:
        """Which of these pieces are tried again: bool [pieces].

        They are images that were quarantined, and ranges with rows that were.
        """
        parts = [np.zeros(0, bool)]
        for unit, batch in self.inputs:
            if ranges := self.ranges[unit.index]:
                parts.append(np.array([each.quarantined > 0 for each in ranges]))
            else:
                keys = self.quarantined.get(unit.index, frozenset())
                parts.append(np.array(pc.is_in(batch["key"], pa.array(sorted(keys), pa.string()))))
        return np.concatenate(parts)


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


def has_quarantined(manifest: Manifest) -> bool:
    """Whether units of a generation have quarantined anything: what its plan has, each plan looks at again."""
    return any(not file.path.endswith(f"/{paths.PLAN_QUARANTINE}") for file in manifest.quarantine)


def find_base(
    dataset: str,
    manifest: Manifest,
    shape: str,
    frame: str,
    keeps_prepared: bool = False,
    is_pure: bool = False,
    retries: bool = False,
) -> Base | str:
    """What a run takes over from; or why there is nothing, in words.

    Args:
      dataset: The dataset's URI.
      manifest: That of its current generation.
      shape: The run's shape id.
      frame: Its frame id; empty where it is not known.
      keeps_prepared: Whether examples of another shape are good enough if the frame is the same.
      is_pure: Whether a base that has examples of another shape is not good enough.
      retries: Whether what the base has quarantined is to be tried again.
    """
    generation = manifest.generation
    if manifest.units is None or manifest.identity is None:
        return f"generation {generation} was made by an earlier penstock, which did not keep what that needs"
    if LIMIT in manifest.origin.options:
        return f"generation {generation} is a sample"
    shapes = manifest.delta.shapes if manifest.delta else ()
    if is_pure and shapes:
        return f"generation {generation} has examples that an earlier `prepare` has made"
    is_framed = bool(frame) and frame == manifest.identity.frame
    if manifest.identity.shape != shape and not keeps_prepared:
        if is_framed:
            return "`prepare` changed; --keep-prepared takes over what it has made before, if that is good"
        return (
            "the source, `prepare`, splits, `statistics`, encodings, another option, columns or versions of packages "
            "changed"
        )
    if manifest.identity.shape != shape:
        if not is_framed:
            return (
                "something else than `prepare` changed: the source, splits, `statistics`, encodings, another option, "
                "what is stored (features, dtypes, shapes), or versions of packages"
            )
        shapes = tuple(dict.fromkeys((*shapes, manifest.identity.shape)))
    if damage := find_damage(dataset, manifest):
        return f"generation {generation} is damaged: {next(iter(damage.values()))}"
    try:
        journals = read_kept(dataset, manifest)
        ranges = {journal.unit: journal.ranges for journal in journals}
        quarantined = _quarantined(dataset, generation, journals) if retries else {}
        inputs = LocalInputs(dataset, manifest)
        return Base(generation, manifest.identity.statistics, ranges, inputs, shapes, quarantined)
    except DatasetError as error:
        return f"generation {generation} is damaged: {error}"


def _quarantined(dataset: str, generation: str, journals: Sequence[Journal]) -> dict[int, frozenset[str]]:
    """The units of images that have quarantined anything, to the keys of it."""

    def read(journal: Journal) -> tuple[int, frozenset[str]]:
        assert journal.quarantine
        lines = read_stored(dataset, journal.quarantine.within(generation)).splitlines()
        return journal.unit, frozenset(json.loads(line)["key"] for line in lines)

    of_images = [journal for journal in journals if journal.quarantine and not journal.ranges]
    return dict(files.map_files(read, of_images, _READ))


def is_complete(dataset: str, generation: str) -> bool:
    """Whether a generation was committed once and nothing is at work on it, as far as two looks tell."""
    root = files.join(dataset, generation)
    return files.exists(files.join(root, paths.MANIFEST)) and not files.exists(files.join(root, paths.WORK))
