"""Removes generations that no pointer names."""

import os
from collections.abc import Iterator

from ..errors import DatasetError, NotCommittedError
from ..formats import paths
from ..formats.manifest import Manifest, find_damage
from ..formats.pointer import Pointer, locked_dataset
from ..storage import files
from ..storage.locks import locked_folder


def find_unused(dataset: str) -> list[str]:
    """The URIs of generations other than the current one, finished or not, and of those that are half removed.

    Raises:
      NotCommittedError: there is no current generation; an unfinished one can still be resumed.
      DatasetError: the current generation is damaged: another may be all that is left.
    """
    if Pointer.read(dataset) is None:
        raise NotCommittedError(
            f"expected a committed dataset at {dataset}, found none; to start over, remove the folder yourself"
        )
    manifest = Manifest.load(dataset)
    damage = list(find_damage(dataset, manifest).values())
    if damage:
        raise DatasetError(
            f"{dataset}: expected a whole generation {manifest.generation}, found {len(damage)} files that are damaged "
            f"or missing ({damage[0]}); nothing was removed, for another generation may be all that is left: run the "
            "recipe again first, which makes what is damaged or missing"
        )
    return [
        files.join(dataset, name)
        for name in files.list_names(dataset)
        if paths.is_removed(name) or (paths.is_generation(name) and name != manifest.generation)
    ]


def remove_unused(dataset: str) -> Iterator[tuple[str, bool]]:
    """Removes what `find_unused` finds, but for what runs are at work on.

    A generation is renamed first, while nobody can commit or resume it: what is half removed is no generation.

    Yields:
      A generation's URI, and whether it was removed; not if a run is at work on it.

    Raises:
      NotCommittedError, DatasetError: as `find_unused`.
    """
    doomed = []
    with locked_dataset(dataset):
        for uri in find_unused(dataset):
            folder, name = os.path.split(uri)
            target = uri
            if not paths.is_removed(name):
                target = files.join(folder, paths.removed(name))
                with locked_folder(uri, patience=0) as held:
                    if held:
                        files.remove(target)  # of a removal that was killed
                        os.rename(uri, target)
                if not held:
                    yield uri, False
                    continue
            doomed.append((uri, target))
        files.sync_folder(dataset)
    for uri, target in doomed:
        files.remove(target)
        yield uri, True
