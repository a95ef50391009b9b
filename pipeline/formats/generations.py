"""The generations of a dataset: those that were committed once, and one of them by its id."""

from collections.abc import Iterator
from dataclasses import dataclass

from ..errors import DatasetError, RequestError
from ..storage import files
from . import paths
from .manifest import Manifest, not_committed
from .pointer import Pointer

_OF_LEASES = paths.LEASE.rpartition("/")[2]


@dataclass(frozen=True)
class Generation:
    """A generation that was committed once.

    Attributes:
      id: Its id.
      is_current: Whether it is what readers get.
      manifest: Its manifest; None where that is damaged.
      fault: What is wrong with the manifest then; else empty.
    """

    id: str
    is_current: bool
    manifest: Manifest | None
    fault: str = ""


def list_generations(dataset: str) -> list[Generation]:
    """All generations that were committed once, the newest first, and those whose manifest is damaged last.

    Raises:
      NotCommittedError: nothing was committed there.
    """
    current = _read_pointer(dataset)

    def read(generation: str) -> Generation:
        is_current = generation == current.generation
        try:
            return Generation(generation, is_current, _load(dataset, generation, current)[0])
        except DatasetError as error:
            return Generation(generation, is_current, None, str(error))

    found = list(files.map_files(read, _finished(dataset, current)))
    return sorted(found, key=lambda each: (each.manifest.created if each.manifest else "", each.id), reverse=True)


def load_generation(dataset: str, generation: str | None) -> tuple[Manifest, Pointer]:
    """The manifest of a generation that was committed once, and what points to it.

    Args:
      dataset: The dataset's URI.
      generation: Its id, or the beginning of it that no other one has; None: the current one.

    Raises:
      NotCommittedError: nothing was committed there.
      RequestError: there is no such generation, or there are several.
      DatasetError: its manifest is damaged.
    """
    current = _read_pointer(dataset)
    if generation is None:
        return _load(dataset, current.generation, current)
    if paths.is_generation(generation) and (
        generation == current.generation or files.is_unlisted(dataset) or _is_finished(dataset, generation, current)
    ):
        return _load(dataset, generation, current)
    there = list(_finished(dataset, current))
    chosen = [each for each in there if each.startswith(generation)] if generation else []
    if len(chosen) != 1:
        listed = ", ".join(f"{each} (current)" if each == current.generation else each for each in there)
        raise RequestError(
            f"generation: expected the id of one of {dataset}, or the beginning of it, found {generation!r}, which "
            f"{len(chosen)} have; there are {listed}: see `penstock log`"
        )
    return _load(dataset, chosen[0], current)


def find_previous(dataset: str) -> str:
    """The id of the generation that was made before the current one.

    Raises:
      NotCommittedError: nothing was committed there.
      RequestError: there is none.
    """
    generations = list_generations(dataset)
    (at,) = (number for number, each in enumerate(generations) if each.is_current)
    later = generations[at + 1 :] if generations[at].manifest else generations  # a damaged one does not tell its time
    if older := [each.id for each in later if each.manifest]:
        return older[0]
    there = ", ".join(each.id for each in generations)
    raise RequestError(
        f"{dataset}: expected a generation that was made before the current one, found none among {there}; "
        "name one of them"
    )


def _load(dataset: str, generation: str, current: Pointer) -> tuple[Manifest, Pointer]:
    if generation == current.generation:  # the pointer itself tells its checksum
        return Manifest.load_pointed(dataset, current), current
    return Manifest.read_generation(dataset, generation)


def _read_pointer(dataset: str) -> Pointer:
    current = Pointer.read(dataset)
    if current is None:
        raise not_committed(dataset)
    return current


def _finished(dataset: str, current: Pointer) -> Iterator[str]:
    """The ids of generations that were committed once."""
    names = filter(paths.is_generation, files.list_names(dataset))
    return (name for name in names if _is_finished(dataset, name, current))


def _is_finished(dataset: str, generation: str, current: Pointer) -> bool:
    """Whether a generation was committed once, and is neither being made again nor removed."""
    if generation == current.generation:
        return True
    root = files.join(dataset, generation)
    if generation in current.removing or not files.exists(files.join(root, paths.MANIFEST)):
        return False
    work = files.join(root, paths.WORK)
    return not files.exists(work) or set(files.list_names(work)) <= {_OF_LEASES}  # of who only looks after it
