"""Exact duplicates among the examples that were written, found by the hashes of their contents, in bounded memory."""

import math
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from ..build.journal import Journal, hash_words, read_hashes
from ..storage import files

_ROWS = 4_000_000  # hashes looked at at a time
_ROW_BYTES = 200  # that a row of hash, key, split and label takes, or less
_LISTED = 10_000  # groups that are listed
_MEMBERS = 20  # examples of a split that a listed group shows
_UNLABELLED = -1
_ROW = np.dtype([("first", "u8"), ("second", "u8"), ("unit", "i8"), ("row", "i8"), ("split", "i8"), ("label", "i8")])

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
    chosen: list[tuple[bool, list[tuple[int, int]]]] = []
    with tempfile.TemporaryDirectory(prefix="penstock-", ignore_cleanup_errors=True) as folder:
        parts = _Parts(folder, max(1, math.ceil(total / rows_at_a_time)))
        for unit, table in zip(units, files.map_files(read, units, calls), strict=True):
            parts.add(unit, table)
        for rows in parts.take():
            chosen += _count(found, rows)
            chosen.sort(key=lambda entry: not entry[0])  # stable: in the order of hashes otherwise
            del chosen[_LISTED:]
    found.listed = _list([members for _, members in chosen], read, calls)
    return found


@dataclass
class _Rows:
    """Examples whose hash lies in one part of the range: [examples] of each, and the names of their splits."""

    names: list[str]
    first: np.ndarray  # uint64, the first 8 bytes of the hash
    second: np.ndarray  # uint64, the next 8
    units: np.ndarray  # int64
    rows: np.ndarray  # int64, in the unit
    splits: np.ndarray  # int64, positions in `names`
    labels: np.ndarray  # int64, equal for equal labels


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
        for part in np.unique(parts):
            with open(self._parts[int(part)], "ab") as file:
                file.write(rows[parts == part].tobytes())

    def take(self) -> Iterator[_Rows]:
        """Each part that is not empty, in the order of the hashes."""
        for path in filter(os.path.exists, self._parts):
            rows = np.fromfile(path, _ROW)
            columns = (rows[name] for name in ("first", "second", "unit", "row", "split", "label"))
            yield _Rows([*self._names], *map(np.ascontiguousarray, columns))


def _codes(values: pa.ChunkedArray, codes: dict[str, int]) -> np.ndarray:
    """A number for each string, the same in every unit; -1 for a missing one."""
    encoded = values.combine_chunks().dictionary_encode()
    numbers = [codes.setdefault(value, len(codes)) for value in encoded.dictionary.to_pylist()]
    positions = np.asarray(encoded.indices.fill_null(len(numbers)))
    found: np.ndarray = np.array([*numbers, _UNLABELLED], np.int64)[positions]
    return found


def _count(found: Duplicates, rows: _Rows) -> Iterator[tuple[bool, list[tuple[int, int]]]]:
    """Adds groups to the counts; yields up to as many as are listed: whether it is important, and its examples."""
    candidates = _repeated(rows.first)  # most often few, and quickly found
    by_hash = np.lexsort([column[candidates] for column in (rows.rows, rows.units, rows.second, rows.first)])
    order = candidates[by_hash]
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
    for place in [*np.flatnonzero(important)[:_LISTED], *np.flatnonzero(is_group & ~important)[:_LISTED]]:
        members = order[begins[place] : begins[place] + counts[place]]
        shown = np.concatenate([_shown(members[rows.splits[members] == at], rows) for at in range(len(rows.names))])
        pairs = zip(rows.units[shown].tolist(), rows.rows[shown].tolist(), strict=True)
        yield bool(important[place]), [(int(counts[place]), 0), *pairs]


def _shown(members: np.ndarray, rows: _Rows) -> np.ndarray:
    """The examples of a split that a listed group shows: the first of each label, and then the first ones."""
    _, firsts = np.unique(rows.labels[members], return_index=True)
    others = np.delete(np.arange(len(members)), firsts)
    chosen: np.ndarray = members[np.sort(np.append(firsts, others)[:_MEMBERS])]
    return chosen


def _repeated(values: np.ndarray) -> np.ndarray:
    """Where the values are that occur more than once: positions."""
    ordered = np.sort(values)
    repeated = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
    if not len(repeated):
        return np.zeros(0, np.int64)
    places = np.minimum(np.searchsorted(repeated, values), len(repeated) - 1)
    return np.flatnonzero(repeated[places] == values)


def _list(groups: Sequence[list[tuple[int, int]]], read: Hashes, calls: int) -> list[dict[str, Any]]:
    """What is shown of groups, given the count of each and then unit and row of its examples."""
    shown: dict[int, set[int]] = {}
    for _, *members in groups:
        for unit, row in members:
            shown.setdefault(unit, set()).add(row)
    entries: dict[tuple[int, int], dict[str, Any]] = {}

    def take(unit: int) -> pa.Table:
        return read(unit).take(pa.array(sorted(shown[unit])))

    for unit, table in zip(shown, files.map_files(take, shown, calls), strict=True):
        entries.update(zip(((unit, row) for row in sorted(shown[unit])), table.to_pylist(), strict=True))
    return [
        {
            "content_hash": entries[members[0]]["content_hash"].hex(),
            "count": count,
            "examples": sorted((_example(entries[member]) for member in members), key=lambda each: each["key"]),
        }
        for (count, _), *members in groups
    ]


def _example(entry: Mapping[str, Any]) -> dict[str, str]:
    label = {} if entry["label"] is None else {"label": entry["label"]}
    return {"key": entry["key"], "split": entry["split"], **label}


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
