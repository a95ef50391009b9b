"""Removes generations that no pointer names."""

import os
import uuid
from collections.abc import Iterator

from ..errors import DatasetError, NotCommittedError
from ..formats import paths
from ..formats.damage import find_damage
from ..formats.generations import list_generations
from ..formats.manifest import Manifest
from ..formats.pointer import Pointer, locked_dataset, mark_removing
from ..storage import files
from ..storage.leases import leased_folder
from ..storage.locks import locked_folder


def find_unused(dataset: str, keep: int = 0) -> list[str]:
    """The URIs of generations other than the current one, finished or not, of half removed ones, and of hashes.

    Args:
      dataset: The dataset's URI.
      keep: How many generations that were committed once to leave out, the newest ones.

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
    kept = {manifest.generation}
    if keep:
        others = [each.id for each in list_generations(dataset) if each.manifest and not each.is_current]
        kept |= {*others[:keep]}
    return [
        files.join(dataset, name)
        for name in files.list_names(dataset)
        if paths.is_removed(name) or paths.is_payload_hashes(name) or (paths.is_generation(name) and name not in kept)
    ]


def remove_unused(dataset: str, keep: int = 0) -> Iterator[tuple[str, bool]]:
    """Removes what `find_unused` finds, but for what runs are at work on, and jobs whose end nobody has seen.

    What these take examples over from stays, too. What is half removed is no generation: nobody can commit or resume
    it. On a local disk it is renamed first, while the dataset is locked; on a store the pointer says so, and its lease
    is held. Hashes are removed under theirs.

    Args:
      dataset: The dataset's URI.
      keep: How many of the others to leave, as for `find_unused`.

    Yields:
      A generation's URI, and whether it was removed; not if a run is at work on it.

    Raises:
      NotCommittedError, DatasetError: as `find_unused`.
    """
    return (_remove_locally if files.is_local(dataset) else _remove_from_store)(dataset, keep)


def _remove_locally(dataset: str, keep: int) -> Iterator[tuple[str, bool]]:
    doomed = []
    with locked_dataset(dataset):
        unused = _bases_last(find_unused(dataset, keep))
        needed: set[str] = set()
        for uri, base in unused:
            folder, name = os.path.split(uri)
            if paths.is_payload_hashes(name):
                with locked_folder(uri, patience=0) as held:
                    if held:
                        files.remove(uri)
                yield uri, held
                continue
            target = uri
            if name in needed or _has_job(uri):
                needed.add(base)
                yield uri, False
                continue
            if paths.is_generation(name):
                target = files.join(folder, paths.removed(name))
                with locked_folder(uri, patience=0) as held:
                    if held:
                        files.remove(target)  # of a removal that was killed
                        os.rename(uri, target)
                if not held:
                    needed.add(base)
                    yield uri, False
                    continue
            doomed.append((uri, target))
        files.sync_folder(dataset)
    for uri, target in doomed:
        files.remove(target)
        yield uri, True


def _remove_from_store(dataset: str, keep: int) -> Iterator[tuple[str, bool]]:
    """Removes each generation under its lease, while the pointer names it: it cannot become current."""
    unused, run = _bases_last(find_unused(dataset, keep)), uuid.uuid4().hex
    current = Pointer.read(dataset)
    gone = set(current.removing if current else ()) - {_name(uri) for uri, _ in unused}
    mark_removing(dataset, [], gone)  # by a removal that was killed at its very end
    needed: set[str] = set()
    for uri, base in unused:
        is_generation = paths.is_generation(_name(uri))
        if _name(uri) in needed or _has_job(uri):
            needed.add(base)
            yield uri, False
            continue
        with leased_folder(uri, paths.LEASE, run) as lease:
            if lease and is_generation:
                mark_removing(dataset, [_name(uri)])
            if lease:
                lease.remove(uri)
        if lease and is_generation:
            mark_removing(dataset, [], [_name(uri)])
        if lease is None:
            needed.add(base)
        yield uri, lease is not None


def _bases_last(uris: list[str]) -> list[tuple[str, str]]:
    """Generations with the base that each takes examples over from (empty: none), those that others name at the end.

    No generation that is unfinished is the base of another.
    """
    bases = list(files.map_files(_read_base, (files.join(uri, paths.BASE) for uri in uris)))
    pairs = zip(uris, bases, strict=True)
    return sorted(pairs, key=lambda pair: _name(pair[0]) in bases)


def _read_base(uri: str) -> str:
    try:
        return files.read_bytes(uri).decode(errors="replace")
    except OSError:
        return ""


def _has_job(uri: str) -> bool:
    """Whether a job may be at work on a generation, whose launcher is gone, and its lease with it."""
    return files.exists(files.join(uri, paths.JOB))


def _name(uri: str) -> str:
    return uri.rpartition("/")[2]
