"""What went wrong: the quarantine and the filtered with reasons, and examples that are alike, side by side."""

import itertools
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from ..commit.examples import read_lines
from ..errors import DatasetError
from ..formats.manifest import Manifest, read_stored
from ..load.dataset import Dataset
from . import pictures
from .columns import top_values
from .markup import Content, Html, element, table
from .originals import Originals

_SHOWN = 60  # quarantined examples
_READ = 20_000  # lines of the quarantine that these are chosen from
_GROUPS = 16  # of duplicates
_MEMBERS = 4  # of a group
_LINE = re.compile(r"\bline ([0-9]{1,12})\b")  # a message names it, where there is one
_MESSAGE = 300  # characters


def quarantine(dataset: Dataset, raw: Originals) -> list[Content]:
    """What was quarantined and filtered."""
    manifest = dataset.manifest
    parts: list[Content] = []
    if manifest.filtered:
        caption = f"{manifest.filtered:,} filtered examples, by reason"
        parts.append(top_values(_descending(manifest.reasons.filtered), manifest.filtered, caption, 30))
    if not manifest.quarantined:
        return [*parts, element("p", "Nothing was quarantined.", class_="note")]
    caption = f"{manifest.quarantined:,} quarantined examples, by reason"
    parts.append(top_values(_descending(manifest.reasons.quarantined), manifest.quarantined, caption, 30))
    try:
        lines = list(itertools.islice(read_lines(dataset.uri, manifest.quarantine), _READ))
    except DatasetError as error:
        return [*parts, element("p", str(error), class_="note")]
    shown = choose(lines, _SHOWN)
    numbers = ((line, _LINE.search(line["message"])) for line in shown)
    texts = raw.rows((line["key"], line["uri"], int(number[1])) for line, number in numbers if number)
    rows = [
        (
            element("span", line["key"], class_="key"),
            _payload(line, raw, texts.get(line["key"])),
            element("span", element("code", line["code"]), f" in {line['stage']}"),
            line["message"][:_MESSAGE],
        )
        for line in shown
    ]
    words = f"{len(shown):,} of {manifest.quarantined:,} quarantined examples, some of each reason"
    parts.append(table(words, ("example", "raw data", "reason", "in words"), rows, class_="rows"))
    return parts


def choose(lines: Iterable[Mapping[str, Any]], most: int) -> list[Mapping[str, Any]]:
    """Some lines of each reason code, of each about as many."""
    by_code: dict[str, list[Mapping[str, Any]]] = {}
    for line in lines:
        by_code.setdefault(line["code"], []).append(line)
    rounds = itertools.zip_longest(*by_code.values())
    chosen = [line for each in rounds for line in each if line is not None][:most]
    return sorted(chosen, key=lambda line: (line["code"], line["key"]))


def _payload(line: Mapping[str, Any], raw: Originals, text: str | None) -> Content:
    """The raw data of a quarantined example: a picture, a row, or words that it can't be shown."""
    if text is not None:
        return element("code", text)
    original = raw.image(line["uri"]) if line["stage"] != "plan" else None
    if original is None:
        return element("span", "not shown", class_="none")
    alt = f"what of {line['key']} can be decoded"
    return pictures.picture(original.uri, alt, original.shown)


def _descending(counts: Mapping[str, int]) -> dict[str, int]:
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def duplicates(dataset: Dataset, raw: Originals) -> list[Content]:
    """Examples that are alike: those that lie in several splits, or have several labels, first."""
    found = dataset.manifest.duplicates
    if not found.groups:
        return [element("p", "No two examples are equal.", class_="note")]
    groups = list(found.examples)
    if found.file:
        try:
            groups = json.loads(read_stored(dataset.uri, found.file))
        except DatasetError as error:
            return [element("p", str(error), class_="note")]
    words = (
        f"{found.groups:,} groups of equal examples; {found.across_splits:,} lie in more than one split, "
        f"{found.contradicting:,} have more than one label."
    )
    parts: list[Content] = [element("p", words)]
    if found.shared:
        rows = [
            (split, f"{count:,}", f"{dataset.splits[split].examples:,}")
            for split, count in sorted(found.shared.items())
        ]
        parts.append(
            table("Examples that equal one of another split", ("split", "shared", "of examples"), rows, class_="bars")
        )
    parts.append(element("ul", [element("li", _group(group, raw)) for group in groups[:_GROUPS]], class_="groups"))
    if found.groups > _GROUPS:
        parts.append(element("p", f"{found.groups - _GROUPS:,} more groups are not shown.", class_="note"))
    return parts


def _group(group: Mapping[str, Any], raw: Originals) -> list[Content]:
    members = first_of_each_split(group["examples"])[:_MEMBERS]
    splits = list(dict.fromkeys(member["split"] for member in members))
    labels = list(dict.fromkeys(member["label"] for member in members if "label" in member))
    about = []
    if len(splits) > 1:
        about.append(element("strong", f"in {' and '.join(splits)}"))
    if len(labels) > 1:
        about.append(element("strong", f"labelled {' and '.join(labels)}"))
    title = element("p", f"{group['count']:,} equal examples ", [(each, " ") for each in about], class_="about")
    return [title, element("div", [_member(member, raw) for member in members], class_="pair")]


def first_of_each_split(members: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The members of a group, the first of each split and label before the others."""
    first: dict[tuple[Any, Any], Mapping[str, Any]] = {}
    others = []
    for member in members:
        if first.setdefault((member["split"], member.get("label")), member) is not member:
            others.append(member)
    return [*first.values(), *others]


def _member(member: Mapping[str, Any], raw: Originals) -> Html:
    original = raw.image(member["key"])
    image = pictures.picture(original.uri, f"{member['key']}", original.shown) if original else None
    return element(
        "figure",
        image,
        element(
            "figcaption",
            element("span", member["split"], class_="tag"),
            element("span", member["key"], class_="key"),
            element("span", f"label {member['label']}", class_="value") if "label" in member else None,
        ),
    )


def warnings(manifest: Manifest) -> Content:
    """What the run warned of."""
    if not manifest.warnings:
        return element("p", "The run warned of nothing.", class_="note")
    return element("ul", [element("li", each) for each in manifest.warnings], class_="warnings")
