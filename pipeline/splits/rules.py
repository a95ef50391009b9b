"""Which split an example belongs to: by a hash, by its path, by lists, by a column, or by time."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import pyarrow as pa

from ..errors import RequestError
from ..storage.globs import matches_glob
from .hashing import hash_keys, pick_splits, split_bounds
from .times import Time, instant

NOT_LISTED = "in_no_split"
DUPLICATE = "duplicate"


class Splits(Protocol):
    """Gives each example its split: by its key (`KeyRule`), by lists (`ByList`), or by columns (see `columns`)."""

    def names(self) -> Sequence[str] | None:
        """The splits that must come out; None where the input decides."""

    def files(self) -> Sequence[str]:
        """Files under the input that the assignment depends on."""


class KeyRule(Splits, Protocol):
    """Gives each key its split, whatever other keys there are."""

    def assign(self, keys: pa.Array) -> pa.Array:
        """The split of each key, as strings; missing for a key that is in none.

        Raises:
          RequestError: the rule does not fit the keys.
        """


@dataclass(frozen=True)
class ByHash:
    """Splits by a stable hash of the key, or of what `group` finds in it.

    Attributes:
      fractions: Split name to its share; the shares sum to 1.
      group: A regular expression searched in the key. Its group named `group`, else its first group, else the whole
        match is hashed instead of the key, so that all frames of a video or all photos of a patient stay together.
      column: The column, or several, whose values are hashed instead of a row's file and number, for that purpose;
        "*" are all that are read, so that equal rows stay together. Of a table, or joined to images.
      stratify: A column, or "label" of images: every split gets its share of the examples of each of its values, by the
        hashes of their keys. Then adding data moves a few of the examples that were there.
    """

    fractions: Mapping[str, float]
    group: str | None = None
    column: str | Sequence[str] | None = None
    stratify: str | None = None

    def __post_init__(self) -> None:
        split_bounds(self.fractions)
        if self.group is not None:
            re.compile(self.group)
        given = {"group": self.group, "column": self.column, "stratify": self.stratify}
        given = {name: value for name, value in given.items() if value is not None}
        if len(given) > 1:
            raise ValueError(f"by_hash: expected one of group, column and stratify, found {given}")
        columns = [self.column] if isinstance(self.column, str) else self.column
        if columns is not None and not (columns and all(isinstance(name, str) and name for name in columns)):
            raise ValueError(f"by_hash(column=...): expected a column or several, found {self.column!r}")

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that are hashed together; none: the key is."""
        if self.column is None:
            return ()
        return (self.column,) if isinstance(self.column, str) else tuple(self.column)

    def names(self) -> Sequence[str]:
        return list(self.fractions)

    def files(self) -> Sequence[str]:
        return []

    def assign(self, keys: pa.Array) -> pa.Array:
        if self.group is not None:
            keys = pa.array([find_group(self.group, "group", key) for key in keys.to_pylist()], pa.string())
        picked = pick_splits(hash_keys(keys, "split"), self.fractions)
        return pa.array(list(self.fractions), pa.string()).take(pa.array(picked))


@dataclass(frozen=True)
class ByPath:
    """Splits by what a regular expression, searched in the key, finds: its group `split`, first group, or match."""

    pattern: str

    def __post_init__(self) -> None:
        re.compile(self.pattern)

    def names(self) -> None:
        return None

    def files(self) -> Sequence[str]:
        return []

    def assign(self, keys: pa.Array) -> pa.Array:
        return pa.array([find_group(self.pattern, "split", key) for key in keys.to_pylist()], pa.string())


@dataclass(frozen=True)
class ByList:
    """Splits by list files under the input; an example in no list counts as filtered.

    Attributes:
      lists: Split name to its list (first column: see `key_lists.KeyList` for how examples are named).
    """

    lists: Mapping[str, str]

    def names(self) -> Sequence[str]:
        return list(self.lists)

    def files(self) -> Sequence[str]:
        return list(self.lists.values())


@dataclass(frozen=True)
class ByGlob:
    """Splits by glob patterns on the key; an example that matches none counts as filtered.

    Attributes:
      patterns: Split name to its pattern, such as `{"train": "adult.data", "test": "adult.test"}`.
    """

    patterns: Mapping[str, str]

    def names(self) -> Sequence[str]:
        return list(self.patterns)

    def files(self) -> Sequence[str]:
        return []

    def assign(self, keys: pa.Array) -> pa.Array:
        patterns = self.patterns.items()
        splits = [
            next((name for name, pattern in patterns if matches_glob(pattern, key)), None) for key in keys.to_pylist()
        ]
        return pa.array(splits, pa.string())


@dataclass(frozen=True)
class ByColumn:
    """Splits by the value of a table's column; a row with another value counts as filtered.

    Attributes:
      column: The column.
      values: The splits, as they stand in it; "true" and "false" of a column of booleans.
    """

    column: str
    values: tuple[str, ...]

    def names(self) -> Sequence[str]:
        return self.values

    def files(self) -> Sequence[str]:
        return []


@dataclass(frozen=True)
class ByTime:
    """Splits by when an example is from: the earlier ones in one split, the later ones in the next.

    Attributes:
      column: The column of times: strings (ISO 8601, UTC where they name no zone), as dates and timestamps are read; or
        numbers. An example without a time, or with one that cannot be read, is quarantined (`no_time`).
      until: Split name to the time before which its examples are, in ascending order; strings, dates or datetimes for a
        column of strings, numbers for one of numbers. None for the last split: it has no end. Without it, what is as
        late as the last time is in no split.
      shares: Instead of `until`: split name to its share of all examples, in the order of time. Examples of one time
        stay together.
    """

    column: str
    until: Mapping[str, Time | None] | None = None
    shares: Mapping[str, float] | None = None

    def __post_init__(self) -> None:
        if (self.until is None) == (self.shares is None):
            raise ValueError(f"by_time({self.column!r}): expected either times or shares, found both or none")
        if self.shares is not None:
            split_bounds(self.shares)
            return
        times = list((self.until or {}).values())
        if not times or any(time is None for time in times[:-1]):
            raise ValueError(f"by_time({self.column!r}): expected times, None for the last split only, found {times}")
        instants = self.instants
        if len({isinstance(time, int | float) for time in times if time is not None}) > 1:
            raise ValueError(f"by_time({self.column!r}): expected either dates or numbers, found {times}")
        if any(not first < second for first, second in pairwise(instants)):
            raise ValueError(f"by_time({self.column!r}): expected times in ascending order, found {times}")

    @property
    def instants(self) -> list[int | float]:
        """The ends of the splits that have one; see `times.instant`."""
        return [instant(time) for time in (self.until or {}).values() if time is not None]

    @property
    def is_of_numbers(self) -> bool:
        """Whether the ends are numbers, and no dates."""
        return any(isinstance(time, int | float) for time in (self.until or {}).values())

    def names(self) -> Sequence[str]:
        return list(self.until or self.shares or {})

    def files(self) -> Sequence[str]:
        return []


def by_hash(
    fractions: Mapping[str, float],
    group: str | None = None,
    column: str | Sequence[str] | None = None,
    stratify: str | None = None,
) -> ByHash:
    """Splits by a stable hash; see `ByHash`. `splits={"train": 0.9, "test": 0.1}` in a recipe is short for it.

    Raises:
      ValueError: the shares do not sum to 1, or more than one of `group`, `column` and `stratify` is given.
    """
    return ByHash(fractions, group, column, stratify)


def by_glob(patterns: Mapping[str, str]) -> ByGlob:
    """Splits by glob patterns on the key; see `ByGlob`."""
    return ByGlob(patterns)


def by_column(column: str, values: Sequence[str]) -> ByColumn:
    """Splits by the value of a table's column; see `ByColumn`."""
    return ByColumn(column, tuple(values))


def by_time(
    column: str, until: Mapping[str, Time | None] | None = None, *, shares: Mapping[str, float] | None = None
) -> ByTime:
    """Splits by time, such as `{"train": "2024-01-01", "test": None}` or `shares={"train": 0.8, "test": 0.2}`.

    See `ByTime`.

    Raises:
      ValueError: neither or both are given, a time cannot be read, or they do not ascend.
    """
    return ByTime(column, until, shares)


def by_path(pattern: str) -> ByPath:
    """Splits by a regular expression on the key; see `ByPath`."""
    return ByPath(pattern)


def by_folder() -> ByPath:
    """Splits by the first folder of the key: `train/cat/1.jpg` belongs to `train`."""
    return ByPath(r"^(?P<split>[^/]+)/")


def by_list(lists: Mapping[str, str]) -> ByList:
    """Splits by list files, such as `{"train": "lists/trainval.txt", "test": "lists/test.txt"}`; see `ByList`."""
    return ByList(lists)


def find_group(pattern: str, group: str, key: str) -> str:
    """What `pattern` finds in `key`: its group of that name, else its first group, else the whole match.

    Raises:
      RequestError: it finds nothing.
    """
    match = re.search(pattern, key)
    part = match and (match.groupdict().get(group) or (match[1] if match.re.groups else match[0]))
    if not part:
        raise RequestError(f"expected {pattern!r} to find the {group} in every key, found nothing in {key!r}")
    return part
