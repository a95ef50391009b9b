"""Lists whose columns are separated by blanks, and whose names may hold blanks too.

Nothing in a line such as `cat 2.jpg 3` tells where the name ends. The examples that there are do, and that all lines
must have as many columns. What can then still be read in several ways is refused.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from ..errors import RequestError

_NUMBER = re.compile(r"[-+]?[0-9]*\.?[0-9]+(?:[eE][-+]?[0-9]+)?")
_ADVICE = "write the list as .csv or .tsv, where names and values may hold blanks"


class Names(Protocol):
    """What is known of the examples' names; see `key_lists.KeyIndex`."""

    most_blanks: int

    def keys(self, name: str) -> Sequence[str]:
        """The examples that `name` may lead to."""

    def has_file(self, name: str) -> bool:
        """Whether `name` is that of an example's file, with its extension."""

    def holds_file_name(self, words: str) -> bool:
        """Whether one of these words ends like the examples' file names."""


@dataclass(frozen=True)
class _Cut:
    """A way to cut a line: the name, what follows it, and how many columns there are then."""

    name: str
    rest: tuple[str, ...]
    columns: int


def cut(
    uri: str,
    lines: Sequence[tuple[int, str]],
    names: Names,
    key: int,
    value: int | None,
    columns: int | None,
    warnings: list[str],
) -> list[tuple[str, str]]:
    """Cuts the lines of a list.

    Args:
      uri: The list.
      lines: Number in the file and content, without blanks around it.
      names: The examples.
      key: The position of the column that names the example.
      value: That of the column to take; None takes none.
      columns: How many columns a line has, where a header tells.
      warnings: What may be read otherwise than it is meant is added to them.

    Returns:
      The name and the value of each line; of one that names no example, as if its name held no blank.

    Raises:
      RequestError: a line has too few columns, or can be read in several ways.
    """
    needed = max(key, value or 0) + 1
    found = []
    for number, line in lines:
        words = line.split()
        if len(words) < needed:
            raise RequestError(
                f"{uri}, row {number}: expected at least {needed} columns, found {len(words)}: {words}; "
                "fix the row, or name other columns in the recipe"
            )
        found.append(_cuts(line, words, names, key, value))
    counts = {cuts[0].columns for cuts in found if len(cuts) == 1} if columns is None else {columns}
    chosen = [
        _choose(uri, line, cuts, counts, names, value) if cuts else None
        for line, cuts in zip(lines, found, strict=True)
    ]
    _check_columns(uri, lines, chosen, names, value, columns)
    _warn_of_more(uri, lines, chosen, key, value, warnings)
    _warn_of_names(uri, lines, chosen, names, value, warnings)
    whole = value is None and not any(each and each.rest for each in chosen)
    taken = []
    for (_, line), choice in zip(lines, chosen, strict=True):
        words = line.split()
        name = choice.name if choice else line if whole else words[key]
        if value is None:
            taken.append((name, ""))
        elif value <= key or choice is None:
            taken.append((name, words[value]))
        else:
            taken.append((name, choice.rest[value - key - 1]))
    return taken


def _cuts(line: str, words: Sequence[str], names: Names, key: int, value: int | None) -> list[_Cut]:
    """The ways to cut a line whose name is that of an example."""
    after = 0 if value is None else max(0, value - key)
    last = min(len(words) - after, key + 1 + names.most_blanks)
    spans = [match.span() for match in re.finditer(r"\S+", line)] if last > key + 1 else []
    cuts = []
    for end in range(key + 1, last + 1):
        name = line[spans[key][0] : spans[end - 1][1]] if spans else words[key]
        if names.keys(name):
            cuts.append(_Cut(name, tuple(words[end:]), len(words) - (end - key) + 1))
    return cuts


def _choose(
    uri: str, line: tuple[int, str], cuts: Sequence[_Cut], counts: set[int], names: Names, value: int | None
) -> _Cut:
    """The one way to cut a line that is meant."""
    by_count = [each for each in cuts if each.columns in counts]
    by_name = [each for each in cuts if names.has_file(each.name)]
    for choices in (cuts, by_count, by_name):
        if len(choices) == 1:
            choice = choices[0]
            if not names.has_file(choice.name) and names.holds_file_name(" ".join(choice.rest)):
                break  # the name of a file that is not there, cut at a blank
            return choice
    shorter = cuts[0].name
    raise RequestError(
        f"{uri}, line {line[0]}: expected one way to read {line[1]!r}, found {shorter!r} and what follows it, or a "
        f"name with blanks; {_ADVICE}"
    )


def _check_columns(
    uri: str,
    lines: Sequence[tuple[int, str]],
    chosen: Sequence[_Cut | None],
    names: Names,
    value: int | None,
    columns: int | None,
) -> None:
    """Raises RequestError where lines have not as many columns: a name or a value may then be cut wrongly."""
    first: tuple[int, int] | None = None if columns is None else (0, columns)
    for (number, line), choice in zip(lines, chosen, strict=True):
        if choice is None or (value is None and names.has_file(choice.name)):
            continue
        if first is None:
            first = number, choice.columns
        elif choice.columns != first[1]:
            where = f"line {first[0]}" if first[0] else "the header"
            raise RequestError(
                f"{uri}, line {number}: expected {first[1]} columns as in {where}, found {choice.columns} in {line!r}; "
                f"{_ADVICE}"
            )


def _warn_of_more(
    uri: str,
    lines: Sequence[tuple[int, str]],
    chosen: Sequence[_Cut | None],
    key: int,
    value: int | None,
    warnings: list[str],
) -> None:
    """Warns where words follow the value: it may be the first of several."""
    if value is None or value <= key:
        return
    for (number, line), choice in zip(lines, chosen, strict=True):
        behind = choice.rest[value - key :] if choice else ()
        if choice and not all(_NUMBER.fullmatch(word) for word in behind):
            warnings.append(
                f"{uri}, line {number}: {choice.rest[value - key - 1]!r} was taken from {line!r}, and what follows it "
                f"was not; if it belongs to it, {_ADVICE}"
            )
            return


def _warn_of_names(
    uri: str,
    lines: Sequence[tuple[int, str]],
    chosen: Sequence[_Cut | None],
    names: Names,
    value: int | None,
    warnings: list[str],
) -> None:
    """Warns where another example's name follows that of a line of which nothing else is taken."""
    for (number, line), choice in zip(lines, chosen, strict=True):
        if value is not None or choice is None:
            continue
        taken = names.keys(choice.name)
        others = [word for word in choice.rest if not _NUMBER.fullmatch(word) and names.keys(word) not in ([], taken)]
        if others:
            warnings.append(
                f"{uri}, line {number}: {choice.name!r} was taken from {line!r}, and {others[0]!r}, which is another "
                "example, was not: write one name a line"
            )
            return
