"""Exact duplicates among the examples that were written, found by the hashes of their contents, in bounded memory."""

import json
import math
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..build.journal import Journal, hash_words, read_hashes
from ..storage import files

_ROWS = 1_000_000  # hashes looked at at a time
_ROW_BYTES = 200  # that a row of hash, key, split and label takes, or less
_LISTED = 10_000  # groups that are listed
_MEMBERS = 20  # examples of a split that a listed group shows
_MANY = 64  # one of so many examples begins a group of equal ones
_UNLABELLED = -1
_COLUMNS = ["content_hash", "key", "label", "split"]
_ROW = np.dtype([("first", "u8"), ("second", "u8"), ("unit", "i4"), ("row", "i4"), ("split", "i4"), ("label", "i4")])
_quoted = json.JSONEncoder().encode

Hashes = Callable[[int], pa.Table]  # a unit's hashes (see `journal.read_hashes`), by its number


@dataclass
class Duplicates:
    """What there is of equal examples.

    Attributes:
      groups: How many groups of equal examples there are.
      across_splits: How many of these lie in more than one split: what is learnt in one leaks into the other's test.
      shared: Split to how many of its examples equal one of another split.
      contradicting: How many groups have more than one label.
      listed: Up to 10,000 groups, those across splits and those that contradict each other first: `content_hash`,
        `count` and `examples`, which are key, split and label (where there is one) of up to 20 of each split.
    """

    groups: int = 0
    across_splits: int = 0
    shared: dict[str, int] = field(default_factory=dict)
    contradicting: int = 0
    listed: list[dict[str, Any]] = field(default_factory=list)


def find_duplicates(generation: str, journals: Iterable[Journal]) -> Duplicates:
    """Groups of examples with equal contents: of images their files, of rows what is stored.

    Args:
      generation: The generation's URI.
      journals: Of all units.
    """
    by_unit = {journal.unit: journal for journal in journals if journal.hashes}
    rows = [journal.read for journal in by_unit.values()]
    calls = files.calls_for(_ROW_BYTES * max(rows, default=0))
    return group(list(by_unit), lambda unit: read_hashes(generation, by_unit[unit]), sum(rows), calls=calls)


def group(units: Sequence[int], read: Hashes, total: int, rows_at_a_time: int = _ROWS, calls: int = 1) -> Duplicates:
    """As `find_duplicates`, of what `read` gives for units.

    Hashes are uniform: those of each part of their range go to a temporary file of its own, and one part is looked at
    at a time.

    Args:
      units: The units.
      read: Gives a unit's hashes, in any thread.
      total: How many there are of all units, or more.
      rows_at_a_time: How many to look at.
      calls: How many units to read at a time.
    """
    found = Duplicates()
    chosen: list[_Group] = []
    with tempfile.TemporaryDirectory(prefix="penstock-", ignore_cleanup_errors=True) as folder:
        parts = _Parts(folder, max(1, math.ceil(total / rows_at_a_time)))
        for unit, table in zip(units, files.map_files(read, units, calls), strict=True):
            parts.add(unit, table)
        for rows in parts.take():
            important = sum(each.important for each in chosen)
            chosen += _count(found, rows, _LISTED - important, _LISTED - len(chosen))
            chosen.sort(key=lambda each: not each.important)  # stable: in the order of hashes otherwise
            del chosen[_LISTED:]
    found.listed = _list(chosen, read, calls) if chosen else []
    return found


@dataclass
class _Group:
    """A group that may be listed: whether it is important, its count, and the examples that are shown."""

    important: bool
    count: int
    units: np.ndarray  # int32
    rows: np.ndarray  # int32


@dataclass
class _Rows:
    """Examples whose hash lies in one part of the range: [examples] of each, and the names of their splits."""

    names: list[str]
    first: np.ndarray  # uint64, the first 8 bytes of the hash
    second: np.ndarray  # uint64, the next 8
    units: np.ndarray  # int32
    rows: np.ndarray  # int32, in the unit
    splits: np.ndarray  # int32, positions in `names`
    labels: np.ndarray  # int32, equal for equal labels


class _Parts:
    """The examples of all units, in a file for each of equal parts of the hashes' range."""

    def __init__(self, folder: str, count: int) -> None:
        self._parts = [os.path.join(folder, str(part)) for part in range(count)]
        self._names: dict[str, int] = {}
        self._labels: dict[str, int] = {}

    def add(self, unit: int, table: pa.Table) -> None:
        """Takes a unit's hashes."""
        if not len(table):
            return
        words, count = hash_words(table["content_hash"].combine_chunks()), len(self._parts)
        rows = np.empty(len(table), _ROW)
        rows["first"], rows["second"] = words[:, 0], words[:, 1]
        rows["unit"], rows["row"] = unit, np.arange(len(table))
        rows["split"], rows["label"] = _codes(table["split"], self._names), _codes(table["label"], self._labels)
        # 32 bits are enough to choose, and leave room to multiply
        parts = ((words[:, 0] >> np.uint64(32)) * np.uint64(count)) >> np.uint64(32)
        for part in np.flatnonzero(np.bincount(parts.astype(np.int64), minlength=count)).tolist():
            with open(self._parts[part], "ab") as file:
                file.write((rows if count == 1 else rows[parts == part]).data)

    def take(self) -> Iterator[_Rows]:
        """Each part that is not empty, in the order of the hashes."""
        for path in filter(os.path.exists, self._parts):
            rows = np.fromfile(path, _ROW)
            others = (rows[name] for name in ("second", "unit", "row", "split", "label"))  # few of them are looked at
            yield _Rows([*self._names], np.ascontiguousarray(rows["first"]), *others)


def _codes(values: pa.ChunkedArray, codes: dict[str, int]) -> np.ndarray:
    """A number for each string, the same in every unit; -1 for a missing one."""
    encoded = values.combine_chunks().dictionary_encode()
    numbers = [codes.setdefault(value, len(codes)) for value in encoded.dictionary.to_pylist()]
    positions = np.asarray(encoded.indices.fill_null(len(numbers)))
    found: np.ndarray = np.array([*numbers, _UNLABELLED], np.int64)[positions]
    return found


def _count(found: Duplicates, rows: _Rows, important_groups: int, other_groups: int) -> Iterator[_Group]:
    """Adds groups to the counts; yields those that may be listed, so many at most, the important ones first."""
    order = _by_hash(rows, _repeated(rows.first))  # most often few, and quickly found
    first, second = rows.first[order], rows.second[order]
    begins = np.flatnonzero(np.r_[True, (first[1:] != first[:-1]) | (second[1:] != second[:-1])])
    if not len(order):
        return
    counts = np.diff(np.r_[begins, len(order)])
    splits, labels = rows.splits[order], rows.labels[order]
    is_group = counts > 1
    across = np.minimum.reduceat(splits, begins) != np.maximum.reduceat(splits, begins)
    contradicting = np.minimum.reduceat(labels, begins) != np.maximum.reduceat(labels, begins)
    found.groups += int(is_group.sum())
    found.across_splits += int(across.sum())
    found.contradicting += int(contradicting.sum())
    shared = np.bincount(splits[np.repeat(across, counts)], minlength=len(rows.names))
    for name, count in zip(rows.names, shared.tolist(), strict=True):
        if count:
            found.shared[name] = found.shared.get(name, 0) + count
    important = across | contradicting
    others = np.flatnonzero(is_group & ~important)[:other_groups]
    for place in np.flatnonzero(important)[:important_groups].tolist():
        shown = _shown(order[begins[place] :][: counts[place]], rows)
        yield _Group(True, int(counts[place]), rows.units[shown], rows.rows[shown])
    for begin, count in zip(begins[others].tolist(), counts[others].tolist(), strict=True):
        shown = order[begin : begin + min(count, _MEMBERS)]
        yield _Group(False, count, rows.units[shown], rows.rows[shown])


def _shown(members: np.ndarray, rows: _Rows) -> np.ndarray:
    """The examples that an important group shows, by split: of each the first of each label, then the first ones."""
    splits, labels = rows.splits[members], rows.labels[members]
    shown = []
    for split in np.unique(splits):
        own = members[splits == split]
        _, firsts = np.unique(labels[splits == split], return_index=True)
        others = np.delete(np.arange(len(own)), firsts)
        shown.append(own[np.sort(np.append(firsts, others)[:_MEMBERS])])
    return np.concatenate(shown)


def _by_hash(rows: _Rows, positions: np.ndarray) -> np.ndarray:
    """Positions of examples in the order of their hashes, and equal ones in the order of the units and their rows."""
    order = positions[np.argsort(rows.first[positions], kind="stable")]
    first, second = rows.first[order], rows.second[order]
    if ((first[1:] == first[:-1]) & (second[1:] != second[:-1])).any():  # one in 2^64 pairs
        order = positions[np.lexsort([rows.second[positions], rows.first[positions]])]
    return order


def _repeated(values: np.ndarray) -> np.ndarray:
    """Where the values are that occur more than once: positions; all of them where such values are many."""
    ordered = np.sort(values)
    repeated = ordered[1:][ordered[1:] == ordered[:-1]]
    repeated = repeated[np.r_[True, repeated[1:] != repeated[:-1]]] if len(repeated) else repeated
    if not len(repeated):
        return np.zeros(0, np.int64)
    if _MANY * len(repeated) > len(values):  # it takes less to sort them all than to find them
        return np.arange(len(values))
    places = np.minimum(np.searchsorted(repeated, values), len(repeated) - 1)
    return np.flatnonzero(repeated[places] == values)


def _list(groups: Sequence[_Group], read: Hashes, calls: int) -> list[dict[str, Any]]:
    """What is shown of groups, of which there is one at least."""
    units, rows = (np.concatenate([getattr(each, name) for each in groups]) for name in ("units", "rows"))
    lengths = [len(each.rows) for each in groups]

    def take(unit: int) -> pa.Table:
        return read(unit).select(_COLUMNS).take(pa.array(rows[units == unit]))  # some units have more columns

    tables = list(files.map_files(take, np.unique(units).tolist(), calls))
    by_unit = np.argsort(units, kind="stable")
    places = np.empty(len(units), np.int64)
    places[by_unit] = np.arange(len(units))
    examples = pa.concat_tables(tables).combine_chunks().take(pa.array(places))
    examples = examples.append_column("group", pa.array(np.repeat(np.arange(len(groups)), lengths)))
    examples = examples.take(pc.sort_indices(examples, [("group", "ascending"), ("key", "ascending")]))
    begins = np.cumsum([0, *lengths]).tolist()
    hashes = examples["content_hash"].take(pa.array(begins[:-1])).to_pylist()
    columns = (examples[name].to_pylist() for name in ("key", "split", "label"))
    shown = [_example(*values) for values in zip(*columns, strict=True)]
    return [
        {"content_hash": content_hash.hex(), "count": group.count, "examples": shown[begin : begin + length]}
        for content_hash, group, begin, length in zip(hashes, groups, begins, lengths, strict=False)
    ]


def _example(key: str, split: str, label: str | None) -> dict[str, str]:
    return {"key": key, "split": split} if label is None else {"key": key, "split": split, "label": label}


def encode(listed: Sequence[Mapping[str, Any]]) -> bytes:
    """The bytes of duplicates.json: as `json.dumps` indents it, in a fifth of the time.

    Args:
      listed: Groups, as `Duplicates` lists them; at least one.
    """
    groups = []
    for group in listed:
        examples = (
            ",\n    ".join([f'"{name}": {_quoted(value)}' for name, value in example.items()])
            for example in group["examples"]
        )
        groups.append(
            f' {{\n  "content_hash": "{group["content_hash"]}",\n  "count": {group["count"]},\n'
            '  "examples": [\n   {\n    ' + "\n   },\n   {\n    ".join(examples) + "\n   }\n  ]\n }"
        )
    return ("[\n" + ",\n".join(groups) + "\n]\n").encode()


def warnings(found: Duplicates, written: Mapping[str, int]) -> list[str]:
    """What to warn of.

    Args:
      found: The duplicates.
      written: Split to how many examples it has.
    """
    warnings = []
    if found.across_splits:
        shares = ", ".join(
            f"{count:,} of {written[name]:,} examples of {name!r} ({100 * count / written[name]:.3g} %)"
            for name, count in sorted(found.shared.items())
        )
        warnings.append(
            f"{shares} equal examples of another split, which leaks{_such_as(found, 'split')}; deduplicate=True in "
            "the recipe keeps one of each, and by_hash(..., column='*') keeps equal rows in one split"
        )
    if found.contradicting:
        warnings.append(
            f"{found.contradicting:,} groups of equal examples have labels that contradict each other"
            f"{_such_as(found, 'label')}; fix the labels, or leave these examples out"
        )
    return warnings


def _such_as(found: Duplicates, name: str) -> str:
    """A listed group whose examples differ in this, in words; empty where all of these are further on."""
    for each in found.listed:
        if len({example.get(name) for example in each["examples"]}) > 1:
            return f": such as {in_words(each)}"
    return ""


def in_words(group: Mapping[str, Any], shown: int = 3) -> str:
    """The first examples of a group, of each split and label: `a.csv:3 (train) = a.csv:9 (test, cat)`."""
    kinds: dict[tuple[str, ...], list[str]] = {}
    for example in group["examples"]:
        about = tuple(example[name] for name in ("split", "label") if name in example)
        kinds.setdefault(about, []).append(f"{example['key']} ({', '.join(about)})")
    ordered = [keys[0] for keys in kinds.values()] + [key for keys in kinds.values() for key in keys[1:]]
    return " = ".join(ordered[:shown]) + (" = …" if group.get("count", len(ordered)) > shown else "")
