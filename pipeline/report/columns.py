"""How values are distributed: a card for each column, with exact statistics, and a chart of the sample."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ..formats.class_order import ordered
from ..formats.decode import missing
from ..formats.features import Feature
from . import charts
from .markup import Content, Html, bar, element, join, table
from .pictures import colour

CHARTED = 60  # columns that get a card each; a wide table's others a row of a table
_TOP = 8  # values of a column that are shown
_TOP_SHARE = 0.5  # of a column's values that these have at least, for lengths not to tell more
Values = npt.NDArray[Any]


def number(value: float) -> str:
    """A number for people: `1,234`, `0.0123`, `1.23e+10`."""
    if float(value).is_integer() and abs(value) < 1e9:
        return f"{int(value):,}"
    return f"{value:.4g}"


def percent(share: float) -> str:
    """A share for people: `12.3 %`; what is not nothing is never shown as 0."""
    if 0 < share < 0.001:
        return "< 0.1 %"
    return f"{100 * share:.1f} %"


def cards(
    features: Mapping[str, Feature], statistics: Mapping[str, Any], sampled: Mapping[str, Values]
) -> tuple[list[Html], Html | None]:
    """A card for each column of numbers or strings.

    Args:
      features: The stored features.
      statistics: The content of statistics.json.
      sampled: Feature name to the sampled values of it, [examples] or of lists.

    Returns:
      The cards, and a table of the columns that get none because there are so many; None where there are none.
    """
    names = [name for name, feature in features.items() if not feature.is_pixels and feature.kind != "key"]
    entries = statistics["features"]
    shown = [_card(name, features[name], entries.get(name, {}), sampled[name]) for name in names[:CHARTED]]
    if len(names) <= CHARTED:
        return shown, None
    rows = [(name, features[name].dtype, *_facts_of(entries.get(name, {})).values()) for name in names[CHARTED:]]
    head = ("column", "type", *_facts_of({}))
    return shown, table(f"The other {len(rows):,} columns (statistics of split {statistics['split']})", head, rows)


def _card(name: str, feature: Feature, entry: Mapping[str, Any], values: Values) -> Html:
    present, lacking = split_missing(feature, values)
    facts = {label: value for label, value in _facts_of(entry).items() if value}
    kind = f"{feature.kind}, {feature.dtype}{'' if feature.shape == () else f' {list(feature.shape)}'}"
    return element(
        "article",
        element("h3", name),
        element("p", kind, class_="about"),
        _distribution(name, feature, entry, present, lacking),
        element("dl", [element("div", element("dt", label), element("dd", value)) for label, value in facts.items()]),
        class_="card",
    )


def _facts_of(entry: Mapping[str, Any]) -> dict[str, str]:
    """What statistics.json says of a column: names to words, "" where it says nothing."""
    facts = dict.fromkeys(("mean", "std", "min", "max", "distinct", "missing"), "")
    for name in ("mean", "std", "min", "max"):
        if isinstance(entry.get(name), int | float):
            facts[name] = number(entry[name])
    if "distinct" in entry:
        facts["distinct"] = entry["distinct"] if isinstance(entry["distinct"], str) else f"{entry['distinct']:,}"
    if "missing" in entry:
        share = entry["missing"] / max(1, entry["missing"] + entry["count"])
        facts["missing"] = f"{entry['missing']:,} ({percent(share)})"
    for name in ("nan", "positive_inf", "negative_inf"):
        if name in entry:
            facts[name.replace("_", " ")] = f"{entry[name]:,}"
    return facts


def split_missing(feature: Feature, values: Values) -> tuple[Values, int]:
    """The values that are there, of lists their items; and how many are missing, or lists that are empty."""
    if feature.shape:
        arrays = [np.asarray(value).ravel() for value in values]
        lacking = sum(not len(each) for each in arrays)
        return (np.concatenate(arrays) if arrays else np.zeros(0)), lacking
    if feature.dtype == "string":
        present = np.array([value for value in values if value], object)
        return present, len(values) - len(present) if feature.optional else 0
    is_there = np.isfinite(values) if values.dtype.kind == "f" else np.ones(len(values), bool)
    if feature.optional and values.dtype.kind == "i":
        is_there = values != missing(feature)
    return values[is_there], int((~is_there).sum())


def _distribution(name: str, feature: Feature, entry: Mapping[str, Any], present: Values, lacking: int) -> Content:
    """A chart or the most frequent values; the caption says whether they are exact or sampled."""
    if entry.get("kind") == "label":
        counts = ordered(entry["counts"])
        return top_values(counts, sum(counts.values()), f"Labels of {name}: exact counts")
    if feature.dtype == "string":
        return _strings(name, entry, present)
    if present.dtype.kind == "f":
        present = present[np.isfinite(present)]
    if not len(present):
        return element("p", "No value in the sample.", class_="note")
    low, high = number(float(present.min())), number(float(present.max()))
    words = f"Histogram of {name}: {len(present):,} sampled values from {low} to {high}"
    gone = f", {lacking:,} missing" if lacking else ""
    caption = element("figcaption", f"{len(present):,} sampled values{gone}")
    return element("figure", charts.histogram(present, words), caption)


def _strings(name: str, entry: Mapping[str, Any], present: Values) -> Content:
    """The most frequent values, where they are much of all; else the lengths of the sampled ones."""
    top = entry.get("top")
    if top:
        counts, total, how = top, entry["count"], "exact counts"
    else:
        values, numbers = np.unique(present.astype(bytes), return_counts=True) if len(present) else ((), ())
        counts = {value.decode(errors="replace"): int(count) for value, count in zip(values, numbers, strict=True)}
        total, how = len(present), f"of {len(present):,} sampled"
    most = dict(sorted(counts.items(), key=lambda item: -item[1])[:_TOP])
    if sum(most.values()) >= _TOP_SHARE * total or not len(present):
        return top_values(most, total, f"Most frequent values of {name}: {how}")
    lengths = np.array([len(value.decode(errors="replace")) for value in present])
    words = f"Histogram of the lengths of {name}: {len(lengths):,} sampled, from {lengths.min()} to {lengths.max()}"
    caption = element("figcaption", f"Length in characters, {len(lengths):,} sampled values")
    return join(
        element("figure", charts.histogram(lengths, words), caption),
        element("p", "For example: ", element("q", _cut(present[0].decode(errors="replace"))), class_="note"),
    )


def top_values(counts: Mapping[str, int], total: int, caption: str, shown: int = _TOP) -> Html:
    """Values and how often they occur, the first ones; of the others how many there are."""
    rows: list[Sequence[Content]] = [
        (_cut(value), bar(count / max(1, total), f"{count:,}"), percent(count / max(1, total)))
        for value, count in list(counts.items())[:shown]
    ]
    if len(counts) > shown:
        rest = sum(list(counts.values())[shown:])
        rows.append((f"{len(counts) - shown:,} others", bar(rest / max(1, total), f"{rest:,}"), percent(rest / total)))
    return table(caption, ("value", "count", "share"), rows, class_="bars")


def labels_by_split(labels: Mapping[str, Mapping[str, int]], shown: int = 40) -> Html | None:
    """The label balance: how often each label occurs in each split; None where there are no labels."""
    splits = [split for split, counts in labels.items() if counts]
    if not splits:
        return None
    totals = {split: sum(labels[split].values()) for split in splits}
    overall: dict[str, int] = {}
    for split in splits:
        for label, count in labels[split].items():
            overall[label] = overall.get(label, 0) + count
    most = ordered(dict(sorted(overall.items(), key=lambda item: -item[1])[:shown]))
    largest = max(count / totals[split] for split in splits for count in labels[split].values())
    rows = [
        (
            _cut(label),
            f"{count:,}",
            *(
                _share_cell(labels[split].get(label, 0), totals[split], largest, place)
                for place, split in enumerate(splits)
            ),
        )
        for label, count in most.items()
    ]
    left = f"; the {shown} most frequent of {len(overall):,}" if len(overall) > shown else ""
    return table(
        f"Share of each label in each split: exact counts{left}", ("label", "all", *splits), rows, class_="bars"
    )


def _share_cell(count: int, total: int, largest: float, place: int) -> Html:
    share = count / total
    words = f"{percent(share)} ({count:,})" if count else "none"
    return element(
        "span",
        words,
        class_="bar" if count else "bar none",
        style=f"--share:{100 * share / largest:.1f}%;--hue:{colour(place)}",
    )


def class_pixels(name: str, classes: Mapping[str, int], numbers: Mapping[int, int]) -> Html:
    """How many pixels of a mask each class has; `numbers` are those of the classes' colours."""
    total = sum(classes.values())
    rows = [
        (
            element("span", swatch(numbers.get(int(value), 0)), value),
            bar(count / total, f"{count:,}"),
            percent(count / total),
        )
        for value, count in ordered(classes).items()
    ]
    return table(f"Pixels of each class in {name}: exact counts", ("class", "pixels", "share"), rows, class_="bars")


def swatch(place: int) -> Html:
    """A patch of a category's colour."""
    return element("span", class_="swatch", style=f"--hue:{colour(place)}", aria_hidden="true")


def _cut(text: str, most: int = 60) -> str:
    return text if len(text) <= most else f"{text[:most]}…"
