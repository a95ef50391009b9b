"""What differs from the generation that was made before: counts, values, what both are made from."""

import importlib.util
import json
from collections.abc import Mapping
from typing import Any

from ..commit import drift
from ..commit.compare import Version, compare
from ..commit.history import compare_origins, differing, origins_in_words
from ..errors import DatasetError
from ..formats.generations import list_generations
from ..formats.manifest import Manifest, read_stored
from .columns import number, percent
from .markup import Content, bar, element, table

_COMPARED = 300_000  # examples whose hashes are compared one by one in a few seconds
_KEYS = 5


def find_previous(dataset: str, manifest: Manifest) -> Manifest | None:
    """The generation that was made before this one; None where there is none."""
    older = [each.manifest for each in list_generations(dataset) if each.manifest]
    before = [each for each in older if (each.created, each.generation) < (manifest.created, manifest.generation)]
    return before[0] if before else None


def section(dataset: str, manifest: Manifest) -> list[Content]:
    """The part of the page that tells what changed."""
    previous = find_previous(dataset, manifest)
    if previous is None:
        return [element("p", "There is no generation before this one.", class_="note")]
    words = f"Since generation {previous.generation} of {previous.created[:16].replace('T', ' ')}; changed: "
    parts: list[Content] = [element("p", words, origins_in_words(compare_origins(previous, manifest)), ".")]
    try:
        before, after = (json.loads(read_stored(dataset, each.statistics.file)) for each in (previous, manifest))
        parts += [_counts(previous, manifest), _drift(before, after)]
        parts += _examples(dataset, previous, manifest)
    except DatasetError as error:
        parts.append(element("p", str(error), class_="note"))
    return parts


def _counts(previous: Manifest, manifest: Manifest) -> Content:
    was, now = (
        {name: split.examples for name, split in each.splits.items()}
        | {name: getattr(each, name) for name in ("read", "written", "quarantined", "filtered")}
        for each in (previous, manifest)
    )
    rows = [
        (name, _count(old), _count(new), f"{(new or 0) - (old or 0):+,}")
        for name, (old, new) in differing(was, now).items()
    ]
    if not rows:
        return element("p", "All counts are the same.", class_="note")
    return table("Counts that changed", ("count of", "was", "is", "change"), rows, class_="bars")


def _count(value: int | None) -> str:
    return "none" if value is None else f"{value:,}"


def _drift(before: Mapping[str, Any], after: Mapping[str, Any]) -> Content:
    """How far the values of each feature moved, the furthest first."""
    shifts = drift.measure(before, after)
    rows = []
    for name, shift in sorted(shifts.items(), key=lambda item: -_distance(item[1])):
        if _distance(shift):
            means = [each["features"][name].get("mean") for each in (before, after)]
            moved = "" if shift.mean is None else f"{number(shift.mean)} std"
            rows.append(
                (
                    name,
                    " → ".join(_mean(mean) for mean in means) if None not in means else "",
                    bar(min(1.0, shift.mean or 0.0), moved),
                    "" if shift.missing is None else f"+{percent(shift.missing)}",
                    "" if shift.shares is None else bar(shift.shares, percent(shift.shares)),
                )
            )
    if not rows:
        return element("p", "The values of no feature moved.", class_="note")
    head = ("feature", "mean", "mean moved by", "missing", "shares of values moved by")
    caption = f"Drift of split {after['split']}, the furthest first: exact statistics of both"
    return table(caption, head, rows, class_="bars")


def _distance(shift: drift.Shift) -> float:
    return max(shift.mean or 0.0, shift.missing or 0.0, shift.shares or 0.0)


def _mean(mean: float | list[float]) -> str:
    return ", ".join(map(number, mean)) if isinstance(mean, list) else number(mean)


def _examples(dataset: str, previous: Manifest, manifest: Manifest) -> list[Content]:
    """Which examples came, went or changed, where both generations keep their hashes and these are soon compared."""
    if previous.units is None or manifest.units is None:
        return []
    if previous.written + manifest.written > _COMPARED or importlib.util.find_spec("duckdb") is None:
        words = f"Which examples differ: penstock diff {dataset} {previous.generation} {manifest.generation}"
        return [element("p", words, class_="note")]
    examples = compare(Version(dataset, previous), Version(dataset, manifest))["examples"]
    rows = []
    for name in ("added", "removed", "changed", "moved", "relabelled", "resplit", "described"):
        entry = examples[name]
        if entry["count"]:
            keys = [" → ".join(key) if isinstance(key, list) else key for key in entry["keys"][:_KEYS]]
            rows.append((name, f"{entry['count']:,}", ", ".join(keys) + (", …" if entry["count"] > len(keys) else "")))
    rows.append(("unchanged", f"{examples['unchanged']:,}", ""))
    return [table("Examples by what became of them", ("change", "examples", "such as"), rows, class_="rows")]
