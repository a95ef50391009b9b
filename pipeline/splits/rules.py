"""Which split an example belongs to: by a hash of its key, by its path, or by lists."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from ..errors import RequestError
from ..sources import key_lists
from ..storage import files
from ..storage.globs import compile_glob
from .hashing import hash64, pick_split, split_bounds

NOT_LISTED = "in_no_split"


class Splits(Protocol):
    """Gives each key its split."""

    def names(self) -> Sequence[str] | None:
        """The splits that must come out; None where the input decides."""

    def files(self) -> Sequence[str]:
        """Files under the input that the assignment depends on."""

    def assign(self, keys: Sequence[str], root: str) -> tuple[list[str | None], list[str]]:
        """The split of each key, None for a key that is in none, and warnings in words.

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
      column: For tables, the column whose value is hashed instead of the row's file and number; for the same purpose.
    """

    fractions: Mapping[str, float]
    group: str | None = None
    column: str | None = None

    def __post_init__(self) -> None:
        split_bounds(self.fractions)
        if self.group is not None:
            re.compile(self.group)

    def names(self) -> Sequence[str]:
        return list(self.fractions)

    def files(self) -> Sequence[str]:
        return []

    def assign(self, keys: Sequence[str], root: str) -> tuple[list[str | None], list[str]]:
        if self.column is not None:
            raise RequestError(f"by_hash(column={self.column!r}): expected rows of a table, found files; use group=...")
        bounds = split_bounds(self.fractions)
        names = keys if self.group is None else [find_group(self.group, "group", key) for key in keys]
        return [pick_split(hash64(name, "split"), bounds) for name in names], []


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

    def assign(self, keys: Sequence[str], root: str) -> tuple[list[str | None], list[str]]:
        return [find_group(self.pattern, "split", key) for key in keys], []


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

    def assign(self, keys: Sequence[str], root: str) -> tuple[list[str | None], list[str]]:
        index = key_lists.KeyIndex(keys)
        splits: dict[str, str] = {}
        warnings: list[str] = []
        for split, path in self.lists.items():
            uri = files.join(root, path)
            strangers = []
            for entry in key_lists.read_list(uri, index, 0, None, warnings):
                if entry.key is None:
                    strangers.append(entry.name)
                elif splits.setdefault(entry.key, split) != split:
                    raise RequestError(
                        f"{uri}: {entry.name!r} is in split {split!r} and in {splits[entry.key]!r}, expected one; "
                        "take it out of one list"
                    )
            if strangers:
                warnings.append(f"{uri} names {len(strangers)} examples that the input lacks, such as {strangers[0]!r}")
        warnings += index.warnings("by_list")
        return [splits.get(key) for key in keys], warnings


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

    def assign(self, keys: Sequence[str], root: str) -> tuple[list[str | None], list[str]]:
        matchers = {name: compile_glob(pattern).fullmatch for name, pattern in self.patterns.items()}
        return [next((name for name, matches in matchers.items() if matches(key)), None) for key in keys], []


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

    def assign(self, keys: Sequence[str], root: str) -> tuple[list[str | None], list[str]]:
        raise RequestError(f"by_column({self.column!r}): expected rows of a table, found files")


def by_hash(fractions: Mapping[str, float], group: str | None = None, column: str | None = None) -> ByHash:
    """Splits by a stable hash; see `ByHash`. `splits={"train": 0.9, "test": 0.1}` in a recipe is short for it."""
    return ByHash(fractions, group, column)


def by_glob(patterns: Mapping[str, str]) -> ByGlob:
    """Splits by glob patterns on the key; see `ByGlob`."""
    return ByGlob(patterns)


def by_column(column: str, values: Sequence[str]) -> ByColumn:
    """Splits by the value of a table's column; see `ByColumn`."""
    return ByColumn(column, tuple(values))


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
