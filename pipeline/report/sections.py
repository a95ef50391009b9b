"""What the manifest says, as parts of the page: counts, splits, the pipeline, and what the dataset was made with."""

from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import PenstockError
from ..formats.manifest import Manifest
from ..formats.printable import size_in_words
from ..load.dataset import Dataset
from . import lineage
from .markup import Content, Html, element, join, table
from .pictures import colour

_BOXES = 60  # features and outputs that are drawn


def counts(manifest: Manifest) -> list[Content]:
    """How many examples were read, and what became of them; and the splits."""
    tiles = [
        element(
            "div", element("dt", name), element("dd", f"{count:,}"), class_="tile lost" if lost and count else "tile"
        )
        for name, count, lost in (
            ("read", manifest.read, False),
            ("written", manifest.written, False),
            ("quarantined", manifest.quarantined, True),
            ("filtered", manifest.filtered, False),
        )
    ]
    total = max(1, manifest.written)
    rows = [
        (
            name,
            element(
                "span",
                f"{split.examples:,}",
                class_="bar",
                style=f"--share:{100 * split.examples / total:.1f}%;--hue:{colour(place)}",
            ),
            f"{100 * split.examples / total:.1f} %",
            f"{len(split.shards):,}",
            size_in_words(split.bytes),
        )
        for place, (name, split) in enumerate(manifest.splits.items())
    ]
    head = ("split", "examples", "share", "shards", "bytes")
    return [element("dl", tiles, class_="tiles"), table("Splits", head, rows, class_="bars")]


def pipeline(dataset: Dataset) -> list[Content]:
    """The way from the source to the outputs, as boxes that follow each other."""
    manifest = dataset.manifest
    prepare = manifest.origin.prepare
    try:
        content = dataset.transform.content
        sources, operations = lineage.sources_of(content), lineage.operations_of(content)
    except (PenstockError, LookupError, TypeError):  # a damaged graph has no outputs to draw
        sources, operations = {}, {}
    source: list[Content] = [_box(str(manifest.origin.options.get("input", "")), f"{manifest.read:,} examples")]
    source += [_box(name, kind) for name, kind in list(prepare.get("columns", {}).items())[:_BOXES]]
    steps: list[Content] = []
    if "decode" in prepare:
        steps.append(_box(prepare["decode"]["codec"], _arguments(prepare["decode"]["arguments"])))
    for step in prepare.get("steps", ()):
        touches = f"changes {', '.join(step['touches'])}" if "touches" in step else ""
        steps.append(_box(step.get("step") or step["python"], _arguments(step.get("arguments", {})), touches))
    stored = [
        _box(name, f"{feature.dtype} {list(feature.shape)}", feature.encoding or feature.kind)
        for name, feature in list(dataset.features.items())[:_BOXES]
    ]
    outputs = [
        _box(
            name,
            dtype,
            f"from {', '.join(sources[name]) or 'constants'}" if name in sources else "by TensorFlow alone",
            ", ".join(operations.get(name, ())),
        )
        for name, dtype in sorted(manifest.transform_graph.outputs.items())[:_BOXES]
    ]
    stages = (
        ("Source", source),
        ("prepare", steps or [_box("no steps", "examples are stored as they are read")]),
        (f"Stored features ({len(dataset.features)})", stored),
        (f"Outputs of features ({len(manifest.transform_graph.outputs)})", outputs),
    )
    return [
        element(
            "ol",
            [element("li", element("h3", title), element("ul", boxes), class_="stage") for title, boxes in stages],
            class_="flow",
        )
    ]


def _box(name: str, *about: str) -> Html:
    return element("li", element("strong", name), [element("span", each) for each in about if each], class_="box")


def _arguments(arguments: Mapping[str, Any]) -> str:
    """A step's arguments that say something, in words."""
    return ", ".join(f"{name}={value}" for name, value in arguments.items() if value not in (None, False))[:160]


def made_with(manifest: Manifest) -> list[Content]:
    """Recipe, options and versions."""
    recipe = manifest.origin.recipe
    options: Sequence[tuple[str, Content]] = [
        ("recipe", join(recipe.name, " ", element("code", recipe.hash[:12]))),
        *((name, str(value)) for name, value in manifest.origin.options.items() if value is not None),
    ]
    return [
        table("Recipe and options", ("option", "value"), options, class_="rows"),
        table("Versions", ("package", "version"), manifest.origin.versions.items(), class_="rows"),
    ]
