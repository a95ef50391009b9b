"""Examples to look at, by class: what is stored, masks laid over it, and what the transform graph makes of it."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from ..formats.class_order import ordered
from ..formats.features import LABEL, MASK, Feature
from . import pictures
from .columns import number, swatch
from .markup import Content, Html, element, join, table
from .originals import Originals
from .sample import Batch

_PICTURE_BYTES = 2_800_000  # of all examples' pictures together: the page stays a light one
_SHOWN = 72  # examples with pictures
_CLASSES = 24  # that are shown
_OPEN = 3  # classes whose examples are shown at once, the others when one opens them
_A_CLASS = 12  # examples of one class
_ROWS = 12  # of a table
_COLUMNS = 60  # of a table
_TEXT = 80  # characters of a value
Values = npt.NDArray[Any]


@dataclass
class Gathered:
    """What is kept of a sample while it is read.

    Attributes:
      columns: Feature name to the values of features without pixels, in pieces.
      brightness: Image feature to the mean of each sampled image's stored pixels, from 0 to 1.
      keys: Keys of sampled examples.
      figures: Class to the examples of it that are shown.
      seen: Class to how many examples of it were sampled.
      rows: Examples of a table that are shown: split, stored values, outputs.
    """

    columns: dict[str, list[Values]] = field(default_factory=lambda: defaultdict(list))
    brightness: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    keys: list[str] = field(default_factory=list)
    figures: dict[str, list[Html]] = field(default_factory=lambda: defaultdict(list))
    seen: Counter[str] = field(default_factory=Counter)
    rows: list[tuple[str, dict[str, Any], dict[str, Any]]] = field(default_factory=list)

    def sampled(self, features: Mapping[str, Feature]) -> dict[str, Values]:
        """Feature name to all sampled values, of features without pixels."""
        names = [name for name, feature in features.items() if not feature.is_pixels]
        return {name: _concatenate(self.columns[name]) for name in names}


def gather(
    features: Mapping[str, Feature],
    batches: Iterable[Batch],
    splits: int,
    classes: Mapping[str, Mapping[int, int]],
    raw: Originals,
) -> Gathered:
    """Looks at a sample.

    Args:
      features: The stored features.
      batches: The sample.
      splits: How many splits it is of.
      classes: Of each mask, class to the number of its colour.
      raw: The images that they come from.
    """
    gathered = Gathered()
    has_pixels = any(feature.is_pixels for feature in features.values())
    budget = _PICTURE_BYTES
    labels: Counter[str] = Counter()
    shown: Counter[str] = Counter()  # of each split, and of each class of a split: all splits are to be seen
    for batch in batches:
        for name, feature in features.items():
            values = batch.stored[name]
            if not feature.is_pixels:
                gathered.columns[name].append(values)
            elif feature.kind != MASK:
                most = 65535 if feature.dtype == "uint16" else 255
                gathered.brightness[name] += (values.reshape(len(batch), -1).mean(1) / most).tolist()
        for row in range(len(batch)):
            stored = {name: values[row] for name, values in batch.stored.items()}
            outputs = {name: values[row] for name, values in batch.outputs.items()}
            key = _string(stored.get("key", b""))
            gathered.keys += [key] if key else []
            if not has_pixels:
                if sum(split == batch.split for split, *_ in gathered.rows) < _ROWS:
                    gathered.rows.append((batch.split, stored, outputs))
                continue
            label = _string(stored[LABEL]) if LABEL in stored else ""
            gathered.seen[label] += 1
            kind = f"{batch.split}/{label}"
            is_room = shown[batch.split] * splits < _SHOWN and shown[kind] * splits < _A_CLASS
            if budget > 0 and is_room and (label in labels or len(labels) < _CLASSES):
                labels[label] += 1
                shown.update((batch.split, kind))
                figure = _figure(features, batch.split, stored, outputs, classes, raw)
                budget -= len(figure)
                gathered.figures[label].append(figure)
    return gathered


def _concatenate(pieces: Sequence[Values]) -> Values:
    return np.concatenate(pieces) if pieces else np.zeros(0)


def _figure(
    features: Mapping[str, Feature],
    split: str,
    stored: Mapping[str, Any],
    outputs: Mapping[str, Any],
    classes: Mapping[str, Mapping[int, int]],
    raw: Originals,
) -> Html:
    """One example: its stored image with its mask over it, what the graph gives, and what else is known of it."""
    key = _string(stored.get("key", b"example"))
    masks = {
        name: pictures.mask_uri(pictures.to_overlay(stored[name], dict(classes[name])))
        for name, feature in features.items()
        if feature.kind == MASK and name in classes
    }
    images = [name for name, feature in features.items() if feature.is_pixels and name not in masks]
    views = [_view(f"{name}, as stored", stored[name], masks, f"{name} of {key}") for name in images]
    after = {name: value for name, value in outputs.items() if pictures.is_picture(np.asarray(value))}
    transformed = [
        _view(f"{name}, after features", value, {}, f"output {name} of {key}")
        for name, value in after.items()
        if np.asarray(value).dtype.kind == "f" or name in images
    ]
    others = {name: _shown(value) for name, value in outputs.items() if name not in after}
    values = {
        name: _shown(value)
        for name, value in stored.items()
        if not features[name].is_pixels and name not in ("key", LABEL)
    }
    original = raw.image(key)
    if original:
        values["original"] = f"{original.size[0]} by {original.size[1]} {original.format}"
    return element(
        "figure",
        element("div", views, transformed, class_="views"),
        element(
            "figcaption",
            element("span", split, class_="tag"),
            element("span", key, class_="key"),
            [element("span", f"{name}: {value}", class_="value") for name, value in values.items()],
            [element("span", f"{name} → {value}", class_="value after") for name, value in others.items()],
        ),
        class_="example",
    )


def _view(title: str, value: Any, masks: Mapping[str, str], alt: str) -> Html:
    image = pictures.to_image(np.asarray(value))
    over = [pictures.picture(uri, f"{name} laid over it", image.size, "mask") for name, uri in masks.items()]
    kind = "view after" if title.endswith("features") else "view"
    return element(
        "div",
        element("div", pictures.picture(pictures.jpeg_uri(image), alt, image.size), over, class_="stack"),
        element("span", title, class_="title"),
        class_=kind,
    )


def section(
    gathered: Gathered, classes: Mapping[str, Mapping[int, int]], reason: str, label_ids: Mapping[str, int]
) -> list[Content]:
    """The part of the page that shows the examples.

    Args:
      gathered: The sample.
      classes: As for `gather`.
      reason: Why the transform graph's outputs are not shown; empty where they are.
      label_ids: Label to how many examples of all splits have it.
    """
    note = None
    if reason:
        note = element("p", "The outputs of ", element("code", "features"), f" are not shown: {reason}", class_="note")
    if gathered.rows:
        return [note, *_tables(gathered)]
    if not gathered.figures:
        return [element("p", "There are no examples to show.", class_="note")]
    shown = ordered(gathered.figures)
    parts: list[Content] = [note, _toggles(bool(classes), not reason), _legend(classes)]
    for place, (label, figures) in enumerate(shown.items()):
        total = label_ids.get(label)
        of = f" of {total:,}" if total is not None else ""
        title = join(element("span", label or "all examples", class_="label"), f" {len(figures)}{of}")
        parts.append(
            element("details", element("summary", title), element("div", figures, class_="gallery"), open=place < _OPEN)
        )
    hidden = len(label_ids) - len(shown) if label_ids else 0
    if hidden > 0:
        parts.append(
            element("p", f"{hidden:,} more classes are not shown: none of the sample has them.", class_="note")
        )
    return parts


def _toggles(has_masks: bool, has_outputs: bool) -> Html | None:
    """The switches; style.css does what they say."""
    switches = [
        element("label", element("input", type="checkbox", id=name, checked=True), f" {words}")
        for name, words, is_there in (
            ("show-masks", "masks over images", has_masks),
            ("show-after", "after features", has_outputs),
        )
        if is_there
    ]
    if not switches:
        return None
    legend = element("legend", "Show")
    words = "Pixels of outputs are floats: the picture runs from the 1st to the 99th percentile of each."
    note = element("span", words, class_="note") if has_outputs else None
    return element("fieldset", legend, switches, note, class_="toggles")


def _legend(classes: Mapping[str, Mapping[int, int]]) -> list[Html]:
    return [
        element(
            "p",
            f"{name}: ",
            [element("span", swatch(place), str(value), class_="entry") for value, place in numbers.items()],
            class_="legend",
        )
        for name, numbers in classes.items()
    ]


def _tables(gathered: Gathered) -> list[Html]:
    """Rows of a table, as stored and after `features`."""
    tables = []
    for which, title in ((1, "As stored"), (2, "After features")):
        names = list(dict.fromkeys(name for row in gathered.rows for name in row[which]))
        if not names:
            continue
        columns = [name for name in names if name != "key"][:_COLUMNS]
        rows = [
            (
                _string(stored.get("key", str(place).encode())),
                element("span", split, class_="tag"),
                *(_cell((stored, outputs)[which - 1], name) for name in columns),
            )
            for place, (split, stored, outputs) in enumerate(gathered.rows)
        ]
        left = f" (the first {_COLUMNS} of {len(names):,} columns)" if len(names) > _COLUMNS + 1 else ""
        tables.append(table(f"{title}{left}", ("example", "split", *columns), rows, class_="rows"))
    return tables


def _cell(values: Mapping[str, Any], name: str) -> Content:
    if name not in values:
        return None
    shown = _shown(values[name])
    return element("span", "missing", class_="none") if shown == "" else shown


def _shown(value: Any) -> str:
    """One example's value in a few characters; of a missing one nothing."""
    array = np.asarray(value)
    if array.ndim == 0:
        return _scalar(array.item())
    flat = array.ravel()
    words = ", ".join(_scalar(item) for item in flat[:6].tolist())
    more = ", …" if flat.size > 6 else ""
    return f"[{words}{more}]"


def _scalar(item: object) -> str:
    if isinstance(item, bytes | str):
        text = _string(item)
        return text if len(text) <= _TEXT else f"{text[:_TEXT]}…"
    if isinstance(item, bool):
        return str(item).lower()
    if isinstance(item, int):
        return "" if item == -(1 << 63) else str(item)
    if isinstance(item, float):
        return number(item) if np.isfinite(item) else "" if np.isnan(item) else str(item)
    return str(item)


def _string(value: object) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
