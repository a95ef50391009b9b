"""What `penstock log`, `diff` and `rollback` print for people; `pipeline/commit` gives it as data."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console

from ..pipeline.commit.history import origins_in_words
from ..pipeline.formats.printable import size_in_words
from .report import counts_in_words

_KEYS = 5  # that are shown of each kind of change


def show_log(entry: Mapping[str, Any]) -> None:
    """Prints the generations of a dataset, the newest first."""
    console = Console(markup=False, highlight=False)
    if entry["rolled_back"]:
        _print(console, f"{entry['dataset']} was rolled back from generation {entry['rolled_back']}")
    for each in entry["generations"]:
        mark = "  (current)" if each["current"] else ""
        if "fault" in each:
            _print(console, f"{each['generation']}{mark}\n  damaged: {each['fault']}")
            continue
        recipe = each["recipe"]
        limited = f", limited to {each['limit']:,}" if each["limit"] is not None else ""
        _print(console, f"{each['generation']}  {each['created']}{limited}{mark}")
        lost = "".join(f", {each[what]:,} {what}" for what in ("quarantined", "filtered") if each[what])
        _print(console, f"  {counts_in_words(each['splits'])}{lost}; {size_in_words(each['bytes'])}")
        _print(console, f"  recipe {recipe['name']} ({recipe['hash'][:12]})")
        if delta := each["delta"]:
            _print(console, f"  taken over from {delta['base']}: {delta['reused']['examples']:,} examples")
        if each["changes"] is not None:
            _print(console, f"  changed: {origins_in_words(each['changes'])}")


def show_rollback(entry: Mapping[str, Any]) -> None:
    """Prints which generation a dataset points to now."""
    console = Console(markup=False, highlight=False)
    _print(
        console,
        f"{entry['dataset']} is generation {entry['generation']} of {entry['created']} again; {entry['rolled_back']} "
        "stays until `penstock prune`, and a run with its input and recipe goes back to it",
    )


def show_diff(entry: Mapping[str, Any]) -> None:
    """Prints what differs between two generations."""
    console = Console(markup=False, highlight=False)
    before, after = entry["before"], entry["after"]
    for sign, each in (("-", before), ("+", after)):
        _print(console, f"{sign} {each['dataset']}, generation {each['generation']} of {each['created']}")
    _print(console, f"made from: {_origins(entry['origins'])}")
    for name, (was, now) in entry["counts"].items():
        _print(console, f"{name}: {was if was is not None else 'none'} -> {now if now is not None else 'none'}")
    if entry["examples"] is None:
        _print(console, "examples: not told, for one of the two keeps no hashes of them: an earlier penstock made it")
    else:
        _show_examples(console, entry["examples"])
    for split, changes in entry["labels"].items():
        _print(console, f"labels of {split}: {_pairs(changes)}")
    for change in entry["schema"]:
        _print(console, f"schema: {change}")
    for what in ("features", "outputs"):
        for name, (was, now) in entry[what].items():
            _print(console, f"{what[:-1]} {name!r}: {_feature(was)} -> {_feature(now)}")
    for name in entry["statistics"] | entry["drift"]:
        if words := _statistics(entry["statistics"].get(name, {}), entry["drift"].get(name, {})):
            _print(console, f"statistics of {name!r}: {words}")


def _origins(changes: Mapping[str, Any]) -> str:
    words = origins_in_words(changes)
    return "the same input, recipe and versions" if words == "nothing" else f"changed {words}"


def _show_examples(console: Console, examples: Mapping[str, Any]) -> None:
    """Prints how many examples differ in what way, and the first ones."""
    _print(console, f"examples: {examples['unchanged']:,} unchanged")
    for what in ("added", "removed", "changed"):
        if count := examples[what]["count"]:
            splits = counts_in_words(examples[what]["splits"])
            _print(console, f"  {what} {count:,} ({splits}): {_shown(examples[what]['keys'], count)}")
    if count := examples["moved"]["count"]:
        pairs = [f"{was} is {now}" for was, now in examples["moved"]["keys"]]
        _print(console, f"  under another key {count:,}: {_shown(pairs, count)}")
    for what, words in (("relabelled", "with another label"), ("resplit", "in another split")):
        if count := examples[what]["count"]:
            kinds = ", ".join(f"{_word(was)} -> {_word(now)} {times:,}" for was, now, times in examples[what]["pairs"])
            _print(console, f"  {words} {count:,} ({kinds}): {_shown(examples[what]['keys'], count)}")
    if count := examples["described"]["count"]:
        keys = _shown(examples["described"]["keys"], count)
        _print(console, f"  with another mask or other joined columns {count:,}: {keys}")


def _shown(keys: Sequence[str], count: int) -> str:
    return ", ".join(keys[:_KEYS]) + (", …" if count > len(keys[:_KEYS]) else "")


def _pairs(changes: Mapping[str, Sequence[Any]], shown: int = 6) -> str:
    """`cat 3 -> 4, dog 2 -> none`, the rest summed up."""
    words = [f"{name} {_word(was)} -> {_word(now)}" for name, (was, now) in list(changes.items())[:shown]]
    return ", ".join(words) + (f", and {len(changes) - shown} more" if len(changes) > shown else "")


def _word(value: object) -> str:
    if isinstance(value, list):
        return "[" + ", ".join(_word(each) for each in value) + "]"
    if value is None:
        return "none"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _feature(feature: Any) -> str:
    """A stored feature, or the dtype of an output, in words."""
    if not isinstance(feature, Mapping):
        return _word(feature)
    return " ".join(str(feature[name]) for name in ("kind", "dtype", "shape", "encoding") if feature.get(name))


def _statistics(changes: Mapping[str, Sequence[Any]], shift: Mapping[str, float]) -> str:
    """What changed in the statistics of a feature, the mean's way in standard deviations."""
    words = [f"{name} {_word(was)} -> {_word(now)}" for name, (was, now) in changes.items()]
    for name, unit in (("mean", "its mean moved by {:.3g} standard deviations"), ("shares", "{:.1%} of it moved")):
        if shift.get(name):
            words.append(unit.format(shift[name]))
    return "; ".join(words)


def _print(console: Console, line: str) -> None:
    console.print(line, soft_wrap=True)
