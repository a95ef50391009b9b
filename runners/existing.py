"""A generation that was committed once: whether it is whole, and how it is taken, or repaired, instead of made anew."""

import contextlib
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..pipeline.build.find_base import is_complete
from ..pipeline.errors import DatasetError, PenstockError
from ..pipeline.formats import croissant, paths
from ..pipeline.formats.damage import all_files, find_damage
from ..pipeline.formats.manifest import Manifest, stored_file
from ..pipeline.formats.pointer import Pointer, publish
from ..pipeline.job import find_units
from ..pipeline.planned_run import PlannedRun
from ..pipeline.storage import files
from .follow import alone, remove_work
from .reporter import MAKING, Reporter

if TYPE_CHECKING:
    from ..pipeline.beam import Job


@dataclass(frozen=True)
class Existing:
    """What is there of a generation that was committed once.

    Attributes:
      damage: Path of a file to what is wrong with it; the manifest's own where that is damaged.
      manifest: Its manifest; None where there is none, or it is damaged.
      pointer: What points to that manifest.
    """

    damage: Mapping[str, str]
    manifest: Manifest | None = None
    pointer: Pointer | None = None

    def damage_in_words(self) -> str:
        """The first file that is damaged, and how many there are."""
        first, *others = self.damage.values()
        return f"{first} (and {len(others)} more)" if others else first


def find_existing(dataset: str, planned: PlannedRun) -> Existing:
    """What is there of the generation that a plan would make."""
    current, generation = planned.current, planned.generation_id
    if current and generation in current.removing:
        return Existing({})
    is_current = current is not None and current.generation == generation
    if not is_current and not is_complete(dataset, generation):
        return Existing({})  # never finished
    try:
        try:
            manifest, pointer = Manifest.read_generation(dataset, generation)
        except DatasetError:
            if current is None or not is_current:
                raise
            manifest, pointer = Manifest.load(dataset), current  # only its checksum is damaged
    except DatasetError as error:
        return Existing({paths.MANIFEST: str(error)})
    return Existing(find_damage(dataset, manifest), manifest, pointer)


def take(dataset: str, planned: PlannedRun, pointer: Pointer) -> bool:
    """Points the dataset to a generation that was whole; writes nothing where all is as it should be.

    Returns:
      Whether it still is whole: one that was not current may have been removed since it was looked at.
    """
    root, run = files.join(dataset, planned.generation_id), uuid.uuid4().hex
    if pointer != planned.current:
        with alone(root, run):
            if not _is_whole(dataset, pointer):
                return False
            publish(dataset, pointer, planned.current)
    pointer.write_sum(dataset)
    if files.exists(files.join(root, paths.WORK)):  # of a run that was killed right after its commit
        with contextlib.suppress(PenstockError), alone(root, run) as lease:
            remove_work(root, lease)
    return True


def _is_whole(dataset: str, pointer: Pointer) -> bool:
    """Whether a generation has the manifest that a pointer names, and all its files have their sizes."""
    try:
        manifest, there = Manifest.read_generation(dataset, pointer.generation)
    except DatasetError:
        return False
    return there == pointer and not find_damage(dataset, manifest)


def repair(job: "Job", planned: PlannedRun, existing: Existing, reporter: Reporter) -> bool:
    """Makes only what is damaged again, units and metadata; whether all is as the manifest says afterwards.

    It is not where other files are damaged, too, where units share their rows out, or where a unit comes out otherwise.
    """
    dataset, generation, manifest = job.commit.dataset, job.commit.generation_id, existing.manifest
    damaged = {path.removeprefix(f"{generation}/") for path in existing.damage}
    of_croissant = damaged & {paths.CROISSANT, paths.CHECKSUMS}
    of_units = sorted(damaged - of_croissant)
    affected = find_units(planned, of_units) if of_units else []
    if affected is None or manifest is None or existing.pointer is None:
        return False
    from ..pipeline.build.units import make_units

    listed = set(all_files(dataset, manifest))
    if of_croissant:
        contents = croissant.encode_files(job.commit.metadata, generation, manifest.features, manifest.splits)
        if not {stored_file(path, contents[path]).within(generation) for path in of_croissant} <= listed:
            return False  # the recipe's docstring has changed, say
        for path in of_croissant:
            files.write_bytes(files.join(dataset, generation, path), contents[path])
    reporter.stage(f"{MAKING} {len(affected)} of {job.commit.plan.units} units")
    try:
        for journal in make_units(job.make, affected):
            made = {file.within(generation) for file in journal.files if not file.path.startswith(paths.WORK)}
            if not made <= listed:
                return False
    except Exception:  # whatever a recipe raises: the whole run will tell
        return False
    if find_damage(dataset, manifest):
        return False
    publish(dataset, existing.pointer, planned.current)
    return True
