"""Small lists beside the data (labels, split members), joined to references by key."""

import csv
import io
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from ..errors import RequestError
from ..storage import files

_DELIMITERS = {"csv": ",", "tsv": "\t"}


@dataclass(frozen=True)
class KeyList:
    """A CSV, TSV or whitespace-separated list under the input folder.

    Attributes:
      path: The file, relative to the input. `.csv` is read with commas, `.tsv` with tabs, all else with whitespace.
      key: The column that names the example: a header's name, or a position from 0 where there is no header.
      value: The column to take; likewise.

    A list's key may be the example's key, the same without its extension, its file name, or its stem; it must lead to
    one example.
    """

    path: str
    key: str | int = 0
    value: str | int = 1

    def read(self, root: str) -> list[tuple[str, str]]:
        """All (key, value) pairs.

        Raises:
          RequestError: the file cannot be read, or a row lacks a column.
        """
        uri = files.join(root, self.path)
        rows = read_rows(uri)
        if isinstance(self.key, int) and isinstance(self.value, int):
            key, value, first = self.key, self.value, 1
        else:
            header = [name.strip() for name in next(rows, [])]
            key, value = _position(self.key, header, uri), _position(self.value, header, uri)
            first = 2
        pairs = []
        for line, row in enumerate(rows, first):
            if len(row) <= max(key, value):
                raise RequestError(
                    f"{uri}, row {line}: expected at least {max(key, value) + 1} columns, found {len(row)}: {row}; "
                    "fix the row, or name other columns in the recipe"
                )
            pairs.append((row[key].strip(), row[value].strip()))
        return pairs


def _position(column: str | int, header: Sequence[str], uri: str) -> int:
    if isinstance(column, int):
        return column
    if column not in header:
        raise RequestError(f"{uri}: expected a column {column!r}, found {list(header)}; name one of these")
    return header.index(column)


def read_rows(uri: str) -> Iterator[list[str]]:
    """Rows of a list file; blank lines and, in whitespace-separated lists, lines that start with `#` are passed over.

    Raises:
      RequestError: the file cannot be read as UTF-8 text.
    """
    try:
        text = files.read_bytes(uri).decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise RequestError(f"expected a UTF-8 list at {uri}, found: {error}; check the recipe's path") from error
    delimiter = _DELIMITERS.get(uri.rpartition(".")[2].lower())
    if delimiter:
        return _csv_rows(text, delimiter, uri)
    lines = (line.split() for line in text.splitlines())
    return (row for row in lines if row and not row[0].startswith("#"))


def _csv_rows(text: str, delimiter: str, uri: str) -> Iterator[list[str]]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        yield from (row for row in reader if row)
    except csv.Error as error:
        raise RequestError(f"{uri}, line {reader.line_num}: {error}; is a quote left open? fix the list") from error


class KeyIndex:
    """Finds examples by the names that lists use for them."""

    def __init__(self, keys: Iterable[str]) -> None:
        self._exact = set(keys)
        self._others: list[dict[str, list[str]]] = [defaultdict(list) for _ in range(3)]
        for key in self._exact:
            name = key.rpartition("/")[2]
            for index, alias in zip(self._others, (_without_suffix(key), name, _without_suffix(name)), strict=True):
                index[alias].append(key)

    def find(self, name: str, uri: str) -> str | None:
        """The key that `name` leads to; None where no example has it.

        Raises:
          RequestError: several examples have it.
        """
        if name in self._exact:
            return name
        for index in self._others:
            if keys := index.get(name):
                if len(keys) > 1:
                    raise RequestError(
                        f"{uri}: {name!r} names {len(keys)} examples ({', '.join(sorted(keys)[:2])}, …), expected one; "
                        "write the path relative to the input instead"
                    )
                return keys[0]
        return None


def _without_suffix(path: str) -> str:
    folder, slash, name = path.rpartition("/")
    stem, dot, _ = name.rpartition(".")
    return f"{folder}{slash}{stem}" if dot and stem else path
