"""Small lists beside the data (labels, split members), joined to references by key."""

import csv
import io
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from ..errors import RequestError
from ..storage import files
from ..storage.globs import normalized
from . import blank_lists

_DELIMITERS = {"csv": ",", "tsv": "\t"}


@dataclass(frozen=True)
class ListEntry:
    """A line of a list.

    Attributes:
      name: How the line names the example.
      key: The example; None where there is none of that name.
      value: What the line says of it.
    """

    name: str
    key: str | None
    value: str = ""


class KeyIndex:
    """Finds examples by the names that lists use for them.

    A list's name may be the example's key, the same without its extension, its file name, or its stem, whatever the
    Unicode form.

    Attributes:
      most_blanks: The most blanks in a row of characters that names an example: how far a name may reach in a line.
      reformed: Names that are those of examples only after both are brought to one Unicode form, with the key.
    """

    def __init__(self, keys: Iterable[str]) -> None:
        self._keys = set(keys)
        self._indexes: list[dict[str, list[str]]] = [defaultdict(list) for _ in _ALIASES]
        for key in self._keys:
            for index, alias in zip(self._indexes, _ALIASES, strict=True):
                index[normalized(alias(key))].append(key)
        self._suffixes = {_suffix(key) for key in self._keys} - {""}
        self.most_blanks = max((len(key.split()) - 1 for key in self._keys), default=0)
        self.reformed: dict[str, str] = {}
        self._last: tuple[str, Sequence[str]] = ("", self._look_up(""))

    def find(self, name: str, uri: str) -> str | None:
        """The key that `name` leads to; None where no example has it.

        Raises:
          RequestError: several examples have it.
        """
        keys = self.keys(name)
        if len(keys) > 1:
            raise RequestError(
                f"{uri}: {name!r} names {len(keys)} examples ({', '.join(sorted(keys)[:2])}, …), expected one; "
                "write the path relative to the input instead"
            )
        if keys and not any(alias(keys[0]) == name for alias in _ALIASES):
            self.reformed[name] = keys[0]
        return keys[0] if keys else None

    def keys(self, name: str) -> Sequence[str]:
        """The keys that `name` may lead to, by the most exact way that there is one."""
        if name != self._last[0]:  # a line's name is asked for several times in a row
            self._last = name, self._look_up(name)
        return self._last[1]

    def _look_up(self, name: str) -> Sequence[str]:
        if name in self._keys:
            return [name]
        form = normalized(name)
        for index, alias in zip(self._indexes, _ALIASES, strict=True):
            if keys := index.get(form):
                return [key for key in keys if alias(key) == name] or keys
        return []

    def aliases(self) -> Iterator[str]:
        """All names that lead to examples."""
        return (alias for index in self._indexes for alias in index)

    def has_file(self, name: str) -> bool:
        """Whether `name` is an example's key or file name, not only what is left of these without the extension."""
        suffix = _suffix(name)
        return bool(suffix) and any(_suffix(key) == suffix for key in self.keys(name))

    def holds_file_name(self, words: str) -> bool:
        """Whether one of these words ends like the examples' file names."""
        return any(_suffix(word) in self._suffixes for word in words.split())

    def warnings(self, uri: str) -> list[str]:
        """What should be known of the names that were found."""
        if not self.reformed:
            return []
        name, key = next(iter(self.reformed.items()))
        return [
            f"{uri}: {len(self.reformed)} names are those of examples but for their Unicode form (NFC and NFD), such "
            f"as {name!r} and {key!r}; they were matched"
        ]


@dataclass(frozen=True)
class KeyList:
    """A CSV, TSV or whitespace-separated list under the input folder.

    Attributes:
      path: The file, relative to the input. `.csv` is read with commas, `.tsv` with tabs, all else with tabs where they
        cut every line into as many columns, else with blanks: how far a name with blanks reaches is then told by the
        examples that there are, and what can be read in several ways is refused.
      key: The column that names the example: a header's name, or a position from 0 where there is no header.
      value: The column to take; likewise.

    A list's key may be the example's key, the same without its extension, its file name, or its stem; it must lead to
    one example.
    """

    path: str
    key: str | int = 0
    value: str | int = 1

    def read(self, root: str, index: KeyIndex, warnings: list[str]) -> list[ListEntry]:
        """All lines; see `read_list`.

        Raises:
          RequestError: as `read_list`.
        """
        return read_list(files.join(root, self.path), index, self.key, self.value, warnings)


def read_list(
    uri: str, index: KeyIndex, key: str | int, value: str | int | None, warnings: list[str]
) -> list[ListEntry]:
    """Reads a list; blank lines and, in whitespace-separated lists, lines that start with `#` are passed over.

    Args:
      uri: The list.
      index: The examples.
      key: The column that names the example: a header's name, or a position from 0.
      value: The column to take, likewise; None takes none.
      warnings: What may be read otherwise than it is meant is added to them.

    Raises:
      RequestError: the file cannot be read, a line lacks a column, names several examples, or can be read in several
        ways.
    """
    text = _read_text(uri)
    has_header = isinstance(key, str) or isinstance(value, str)
    columns = [column for column in (key, value) if isinstance(column, int)]
    delimiter = _DELIMITERS.get(uri.rpartition(".")[2].lower())
    lines = [] if delimiter else _lines(text, index)
    rows = list(_csv_rows(text, delimiter, uri)) if delimiter else _cut_at_tabs(lines, max(columns, default=0) + 1)
    if rows is None:
        header = lines.pop(0)[1].split() if has_header and lines else []
        positions = (_position(key, header, uri), None if value is None else _position(value, header, uri))
        chosen = blank_lists.cut(uri, lines, index, *positions, len(header) or None, warnings)
        return [ListEntry(name, index.find(name, uri), taken) for name, taken in chosen]
    header = [name.strip() for name in rows.pop(0)] if has_header and rows else []
    if delimiter:
        _check_widths(rows, len(header), 2 if has_header else 1, uri)
    key_at = _position(key, header, uri)
    value_at = key_at if value is None else _position(value, header, uri)
    entries = []
    for number, row in enumerate(rows, 2 if has_header else 1):
        if len(row) <= max(key_at, value_at):
            raise RequestError(
                f"{uri}, row {number}: expected at least {max(key_at, value_at) + 1} columns, found {len(row)}: {row}; "
                "fix the row, or name other columns in the recipe"
            )
        name = row[key_at].strip()
        entries.append(ListEntry(name, index.find(name, uri), row[value_at].strip()))
    return entries


def _read_text(uri: str) -> str:
    try:
        return files.read_bytes(uri).decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise RequestError(f"expected a UTF-8 list at {uri}, found: {error}; check the recipe's path") from error


def _lines(text: str, index: KeyIndex) -> list[tuple[int, str]]:
    """The lines that say something, with their numbers; one that begins with # does where an example is called so."""
    stripped = ((number, line.strip()) for number, line in enumerate(re.split(r"\r\n|\r|\n", text), 1))
    return [
        (number, line)
        for number, line in stripped
        if line and (not line.startswith("#") or index.keys(line) or index.keys(line.split()[0]))
    ]


def _cut_at_tabs(lines: Sequence[tuple[int, str]], least: int) -> list[list[str]] | None:
    """The rows, where tabs cut every line into as many columns, and into `least` of them at least; else None."""
    rows = [re.split(r" *\t[ \t]*", line) for _, line in lines]
    lengths = {len(row) for row in rows}
    return rows if len(lengths) == 1 and min(lengths) >= max(2, least) else None


def _check_widths(rows: Sequence[Sequence[str]], width: int, first: int, uri: str) -> None:
    """Checks that no row has more columns than the header, or than others where there is none: a value may be cut.

    Args:
      rows: The rows; empty columns at their ends do not count.
      width: The header's columns; 0 where there is none.
      first: The first row's number.
      uri: The list.

    Raises:
      RequestError: one has more.
    """
    widths = [max((at for at, value in enumerate(row, 1) if value.strip()), default=0) for row in rows]
    most = width or min(map(len, rows), default=0)
    for number, (row, found) in enumerate(zip(rows, widths, strict=True), first):
        if found > most:
            others = "the header has" if width else "others have"
            raise RequestError(
                f"{uri}, row {number}: expected {most} columns, as {others}, found {found}: {list(row)}; put values "
                "that hold the delimiter between double quotes"
            )


def _csv_rows(text: str, delimiter: str, uri: str) -> Iterator[list[str]]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        yield from (row for row in reader if row)
    except csv.Error as error:
        raise RequestError(f"{uri}, line {reader.line_num}: {error}; is a quote left open? fix the list") from error


def _position(column: str | int, header: Sequence[str], uri: str) -> int:
    if isinstance(column, int):
        return column
    if column not in header:
        raise RequestError(f"{uri}: expected a column {column!r}, found {list(header)}; name one of these")
    return header.index(column)


def _without_suffix(path: str) -> str:
    folder, slash, name = path.rpartition("/")
    stem, dot, _ = name.rpartition(".")
    return f"{folder}{slash}{stem}" if dot and stem else path


def _file_name(path: str) -> str:
    return path.rpartition("/")[2]


def _suffix(path: str) -> str:
    """The extension, with its dot and in lower case; empty where there is none."""
    return path[len(_without_suffix(path)) :].lower()


# From a key to the names that lists use, from the most to the least exact.
_ALIASES: tuple[Callable[[str], str], ...] = (
    lambda key: key,
    _without_suffix,
    _file_name,
    lambda key: _without_suffix(_file_name(key)),
)
