"""Which stored features each output of the transform graph is computed from, as its portable form tells."""

from collections.abc import Mapping
from typing import Any

from ..graph.portable import INPUT


def sources_of(content: Mapping[str, Any]) -> dict[str, list[str]]:
    """What outputs depend on.

    Args:
      content: The portable graph; see `graph.exporter`.

    Returns:
      Output to the features it depends on, in the order of their names.
    """
    behind = {entry["output"]: entry["inputs"] for entry in content["operations"]}
    return {name: sorted(_features(behind, entry["value"])) for name, entry in sorted(content["outputs"].items())}


def operations_of(content: Mapping[str, Any]) -> dict[str, list[str]]:
    """Output to the operations that it takes, each kind once, in the order in which they come."""
    kinds = {entry["output"]: entry["op"] for entry in content["operations"]}
    behind = {entry["output"]: entry["inputs"] for entry in content["operations"]}
    order = {entry["output"]: number for number, entry in enumerate(content["operations"])}
    operations = {}
    for name, entry in sorted(content["outputs"].items()):
        values = sorted(_values(behind, entry["value"]) & kinds.keys(), key=order.__getitem__)
        operations[name] = list(dict.fromkeys(kinds[value] for value in values))
    return operations


def _features(behind: Mapping[str, list[str]], value: str) -> set[str]:
    return {each.removeprefix(INPUT) for each in _values(behind, value) if each.startswith(INPUT)}


def _values(behind: Mapping[str, list[str]], value: str) -> set[str]:
    """A value and all that it is computed from, by id."""
    seen: set[str] = set()
    waiting = [value]
    while waiting:
        each = waiting.pop()
        if each not in seen:
            seen.add(each)
            waiting += behind.get(each, [])
    return seen
