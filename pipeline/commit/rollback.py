"""Points a dataset to one of its earlier generations."""

import uuid
from dataclasses import replace

from ..errors import DatasetError, PenstockError, RequestError
from ..formats import paths
from ..formats.damage import find_damage
from ..formats.generations import find_previous, load_generation
from ..formats.manifest import Manifest
from ..formats.pointer import Pointer, publish
from ..storage import files
from ..storage.leases import leased_folder


def roll_back(dataset: str, generation: str | None = None) -> tuple[Manifest, str]:
    """Makes an earlier generation current, in one step, if it is whole; nothing is removed.

    Who commits or rolls back meanwhile wins, or this does: the pointer is replaced only if it still says what was seen.

    Args:
      dataset: The dataset's URI.
      generation: Its id, or the beginning of it; None: the one that was made before the current one.

    Returns:
      Its manifest, and the id of the generation that was current before.

    Raises:
      NotCommittedError: nothing was committed there.
      RequestError: there is no such generation, it is current already, or it has what was forgotten since.
      DatasetError: files of it are damaged or missing, or somebody else committed meanwhile.
      PenstockError: a run is at work on it.
    """
    before = Pointer.read(dataset)
    _, pointer = load_generation(dataset, generation or find_previous(dataset))
    if before is None or pointer.generation == before.generation:
        raise RequestError(f"{dataset}: expected another generation than the current one, found {pointer.generation}")
    if back := _forgotten(dataset, before.generation) - _forgotten(dataset, pointer.generation):
        raise RequestError(
            f"{dataset}: expected a generation without what is forgotten, found that {pointer.generation} was made "
            f"before --forget was given {len(back)} of its keys; to have an earlier recipe or input again, run it: the "
            "run forgets them"
        )
    root = files.join(dataset, pointer.generation)
    with leased_folder(root, paths.LEASE, uuid.uuid4().hex) as lease:
        if lease is None:
            raise PenstockError(f"another run is at work on {root}; wait for its end, then roll back again")
        manifest, there = Manifest.read_generation(dataset, pointer.generation)
        damage = list(find_damage(dataset, manifest).values())
        if damage:
            raise DatasetError(
                f"{root}: expected a whole generation, found {len(damage)} files that are damaged or missing "
                f"({damage[0]}); the dataset stays as it is: roll back to another one, or run the recipe that made it"
            )
        publish(dataset, replace(there, rolled_back=before.generation), before)
    return manifest, before.generation


def _forgotten(dataset: str, generation: str) -> set[bytes]:
    """The digests of what a generation was told to forget, whatever else of it is damaged."""
    uri = files.join(dataset, generation, paths.FORGOTTEN)
    return set(files.read_bytes(uri).splitlines()) if files.exists(uri) else set()
