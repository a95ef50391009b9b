"""The generations of a dataset as its history: what each is made from, and what changed since the one before."""

from collections.abc import Mapping
from typing import Any

from ..formats.damage import all_files
from ..formats.generations import list_generations
from ..formats.manifest import LIMIT, Manifest
from ..formats.pointer import Pointer

_OF_INPUT = ("input", "input_digest")


def history(dataset: str) -> dict[str, Any]:
    """What `penstock log` says, as data: the newest generation first.

    Args:
      dataset: The dataset's URI.

    Returns:
      `dataset`, `current`, `rolled_back` (the generation that was current before a rollback, or None) and
      `generations`. Of each: `generation`, `current`, `created`, `recipe` (name and hash), `splits` (examples by name),
      `limit` (of a sample, how many examples were asked for, else None), `delta` (what was taken over from another
      generation: `base`, and `reused`, of `units` and `examples`; None: nothing),
      `read`, `quarantined`, `filtered`, `bytes` (of all files), and `changes` since the one made before it (see
      `compare_origins`; None for the oldest). Of one whose manifest is damaged: `generation`, `current` and `fault`.

    Raises:
      NotCommittedError: nothing was committed there.
    """
    generations = list_generations(dataset)
    entries: list[dict[str, Any]] = []
    older: Manifest | None = None
    for each in reversed(generations):
        entry: dict[str, Any] = {"generation": each.id, "current": each.is_current}
        if each.manifest is None:
            entries.append(entry | {"fault": each.fault})
            continue
        changes = None if older is None else compare_origins(older, each.manifest)
        entries.append(entry | _describe(dataset, each.manifest) | {"changes": changes})
        older = each.manifest
    pointer = Pointer.read(dataset)
    return {
        "dataset": dataset,
        "current": next((each.id for each in generations if each.is_current), None),
        "rolled_back": pointer.rolled_back or None if pointer else None,
        "generations": entries[::-1],
    }


def _describe(dataset: str, manifest: Manifest) -> dict[str, Any]:
    recipe = manifest.origin.recipe
    return {
        "created": manifest.created,
        "recipe": {"name": recipe.name, "hash": recipe.hash},
        "limit": manifest.origin.options.get(LIMIT),
        "delta": manifest.delta.to_json() if manifest.delta else None,
        "splits": {name: split.examples for name, split in manifest.splits.items()},
        "read": manifest.read,
        "quarantined": manifest.quarantined,
        "filtered": manifest.filtered,
        "bytes": sum(file.bytes for file in all_files(dataset, manifest)),
    }


def compare_origins(before: Manifest, after: Manifest) -> dict[str, Any]:
    """What two generations are made from that differs, each as a pair of what it was and what it is.

    Returns:
      `recipe`: the hashes, where they differ, else None. `input`: whether the files that are read differ; None where a
      generation does not tell. `versions` and `options`: names to pairs, of those that differ.
    """
    first, second = before.origin, after.origin
    digests = [origin.options.get("input_digest") for origin in (first, second)]
    options = [{k: v for k, v in origin.options.items() if k not in _OF_INPUT} for origin in (first, second)]
    return {
        "recipe": None if first.recipe.hash == second.recipe.hash else [first.recipe.hash, second.recipe.hash],
        "input": None if None in digests else digests[0] != digests[1],
        "versions": differing(first.versions, second.versions),
        "options": differing(options[0], options[1]),
    }


def differing(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Names to what they stood for and stand for, where these differ; None where a name is not there."""
    names = dict.fromkeys([*before, *after])
    return {name: [before.get(name), after.get(name)] for name in names if before.get(name) != after.get(name)}


def origins_in_words(changes: Mapping[str, Any]) -> str:
    """What `compare_origins` tells, in one line."""
    words = []
    if changes["input"]:
        words.append("input")
    if changes["recipe"]:
        words.append("recipe")
    words += [f"{name} {_word(old)} -> {_word(new)}" for name, (old, new) in changes["options"].items()]
    words += [f"{name} {_word(old)} -> {_word(new)}" for name, (old, new) in changes["versions"].items()]
    if changes["input"] is None and not words:
        return "not told: one of them was made by an earlier penstock"
    return ", ".join(words) or "nothing"


def _word(value: object) -> str:
    return "none" if value is None else str(value)
