"""The page: all parts in one HTML file. It has no script, and its policy lets a browser load nothing from elsewhere."""

import json
from collections.abc import Mapping, Sequence
from importlib.resources import files as resources
from typing import Any

import numpy as np

from ..errors import RequestError
from ..formats.class_order import ordered
from ..formats.features import MASK
from ..formats.manifest import read_stored
from ..load.dataset import Dataset, open_dataset
from ..storage import files
from . import changes, charts, columns, examples, faults, sections
from .markup import Content, Html, element, join, table
from .originals import Originals
from .sample import Sampler

_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
_SIZES = 80  # originals whose size is looked at


def write_report(dataset: str, output: str, *, generation: str | None = None, source: bool = True) -> int:
    """Writes the page of a dataset.

    Args:
      dataset: The dataset's URI.
      output: Where the page goes: a path or a URI. What is there is replaced.
      generation: As for `open_dataset`.
      source: Whether raw data in the input's folder is looked at, for pictures and rows of what was quarantined.

    Returns:
      The bytes of the page.

    Raises:
      RequestError: there is no such generation, or what draws the charts is not installed.
      DatasetError: a file is missing or damaged.
      OSError: the page cannot be written.
    """
    if not output:
        raise RequestError("--output: expected a file's name, found an empty string")
    content = render(open_dataset(dataset, generation=generation), source).encode("utf-8", "replace")
    files.write_bytes(files.absolute(output), content)
    return len(content)


def render(dataset: Dataset, source: bool = True) -> str:
    """The page of an open dataset; `source` is as for `write_report`."""
    manifest = dataset.manifest
    statistics: dict[str, Any] = json.loads(read_stored(dataset.uri, manifest.statistics.file))
    classes = mask_colours(statistics)
    sampler = Sampler(dataset)
    with Originals(str(manifest.origin.options.get("input", "")), source) as raw:
        gathered = examples.gather(dataset.features, sampler.batches(), len(dataset.splits), classes, raw)
        totals: dict[str, int] = {}
        for counts in dataset.labels.values():
            for label, count in counts.items():
                totals[label] = totals.get(label, 0) + count
        cards, others = columns.cards(dataset.features, statistics, gathered.sampled(dataset.features))
        balance = columns.labels_by_split({split: dataset.labels.get(split, {}) for split in dataset.splits})
        pixels = _pixels(dataset, statistics, gathered, raw, classes)
        parts: list[tuple[str, str, Sequence[Content]]] = [
            ("overview", "Overview", [sections.counts(manifest), element("h3", "Warnings"), faults.warnings(manifest)]),
            (
                "examples",
                "Examples",
                [_sampled(sampler, manifest.written), examples.section(gathered, classes, sampler.reason, totals)],
            ),
            ("labels", "Labels", [balance] if balance else []),
            ("images", "Images", pixels),
            (
                "columns",
                "Columns",
                [_exact(statistics), element("div", cards, class_="cards"), others] if cards else [],
            ),
            ("quarantine", "Quarantine", faults.quarantine(dataset, raw)),
            ("duplicates", "Duplicates", faults.duplicates(dataset, raw)),
            ("changes", "Changes", changes.section(dataset.uri, manifest)),
            ("pipeline", "Pipeline", sections.pipeline(dataset)),
            ("made-with", "Made with", sections.made_with(manifest)),
        ]
    return _document(dataset, [part for part in parts if part[2]])


def mask_colours(statistics: Mapping[str, Any]) -> dict[str, dict[int, int]]:
    """Of each mask, class to the number of its colour."""
    return {
        name: {int(value): place for place, value in enumerate(ordered(entry["classes"]))}
        for name, entry in statistics["features"].items()
        if entry["kind"] == MASK
    }


def _sampled(sampler: Sampler, written: int) -> Html:
    damaged = f"; {sampler.damaged:,} could not be read: run penstock verify" if sampler.damaged else ""
    return element("p", f"A sample of {sampler.count:,} of {written:,} examples, from all over each split{damaged}.")


def _exact(statistics: Mapping[str, Any]) -> Html:
    words = "Numbers under a chart are exact statistics of split "
    return element("p", words, element("span", statistics["split"], class_="tag"), "; charts say what they are of.")


def _pixels(
    dataset: Dataset,
    statistics: Mapping[str, Any],
    gathered: examples.Gathered,
    raw: Originals,
    classes: Mapping[str, Mapping[int, int]],
) -> list[Content]:
    """What is told of pixels: sizes, brightness, channels, classes of masks; nothing where there are none."""
    cards = []
    for name, values in gathered.brightness.items():
        if values:
            shares = np.array(values)
            words = f"Histogram of the brightness of {name}: {len(values):,} sampled images, mean {shares.mean():.2f}"
            caption = f"Mean of each image's stored pixels, 0 black to 1 white; {len(values):,} sampled images"
            cards.append(_chart_card(f"Brightness of {name}", charts.histogram(shares, words), caption))
    originals = [each for key in gathered.keys[:_SIZES] if (each := raw.image(key))]
    if originals:
        widths, heights = zip(*(each.size for each in originals), strict=True)
        words = (
            f"Sizes of {len(originals):,} sampled images before prepare: {min(widths)} to {max(widths)} pixels wide, "
            f"{min(heights)} to {max(heights)} high"
        )
        caption = f"Width (across) and height of {len(originals):,} sampled images, before prepare"
        cards.append(_chart_card("Image sizes", charts.scatter(widths, heights, words), caption))
    tables: list[Content] = []
    for name, feature in dataset.features.items():
        entry = statistics["features"].get(name, {})
        if "classes" in entry:
            tables.append(columns.class_pixels(name, entry["classes"], classes[name]))
        elif feature.is_pixels and "quantiles" in entry:
            tables.append(_channels(name, entry, feature.pixel_shape))
    return [element("div", cards, class_="cards") if cards else None, *tables] if cards or tables else []


def _channels(name: str, entry: Mapping[str, Any], shape: tuple[int, ...]) -> Html:
    """Exact statistics of an image's channels."""
    quantiles = list(entry["quantiles"][0])
    rows = [
        (
            str(channel),
            *(f"{entry[what][channel]:.2f}" for what in ("mean", "std")),
            *(columns.number(entry["quantiles"][channel][each]) for each in quantiles),
        )
        for channel in range(len(entry["mean"]))
    ]
    height, width, _ = shape
    caption = f"Stored pixels of {name}, {width} by {height}, by channel: exact; columns of percent are quantiles"
    return table(caption, ("channel", "mean", "std", *(f"{each} %" for each in quantiles)), rows, class_="rows")


def _chart_card(title: str, chart: Html, caption: str) -> Html:
    return element(
        "article", element("h3", title), element("figure", chart, element("figcaption", caption)), class_="card"
    )


def _document(dataset: Dataset, parts: Sequence[tuple[str, str, Sequence[Content]]]) -> str:
    """The whole file."""
    manifest = dataset.manifest
    name = dataset.uri.rstrip("/").rpartition("/")[2] or dataset.uri
    style = Html(resources(__package__).joinpath("style.css").read_text("utf-8"))
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("title", f"{name}: dataset report"),
        element("style", style),
    )
    about = [
        ("generation", element("code", manifest.generation)),
        ("made", f"{manifest.created[:16].replace('T', ' ')} UTC"),
        ("recipe", manifest.origin.recipe.name),
        ("penstock", manifest.origin.versions.get("penstock", "")),
    ]
    links = [element("li", element("a", title, href=f"#{key}")) for key, title, _ in parts]
    body = element(
        "body",
        element("a", "Skip to the examples", href="#examples", class_="skip"),
        element(
            "header",
            element("h1", name),
            element("p", dataset.uri, class_="uri"),
            element("dl", [element("div", element("dt", key), element("dd", value)) for key, value in about]),
        ),
        element("nav", element("ul", links), aria_label="Parts of this report"),
        element(
            "main",
            [
                element(
                    "section", element("h2", title, id=f"{key}-title"), content, id=key, aria_labelledby=f"{key}-title"
                )
                for key, title, content in parts
            ],
        ),
        element("footer", element("p", "Made by penstock report. This file is complete: it loads nothing.")),
    )
    return str(join(Html("<!doctype html>\n"), element("html", head, body, lang="en")))
