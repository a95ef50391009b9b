"""Removes generations that no pointer names."""

from ..errors import NotCommittedError
from ..formats import manifest, paths
from ..storage import files


def find_unused(dataset: str) -> list[str]:
    """The URIs of generations other than the current one, finished or not.

    Raises:
      NotCommittedError: there is no current generation; an unfinished one can still be resumed.
    """
    pointer = manifest.Pointer.read(dataset)
    if pointer is None:
        raise NotCommittedError(
            f"expected a committed dataset at {dataset}, found none; to start over, remove the folder yourself"
        )
    prefix = dataset.rstrip("/") + "/"
    names = {info.uri[len(prefix) :].partition("/")[0] for info in files.list_folder(dataset)}
    unused = sorted(name for name in names if paths.is_generation(name) and name != pointer.generation)
    return [files.join(dataset, name) for name in unused]
