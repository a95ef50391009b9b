"""Small lists beside the data (labels, split members), joined to references by key."""

import contextlib
import csv
import io
import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv

from ..errors import RequestError
from ..storage import files
from ..storage.globs import normalized
from ..storage.scratch import BATCH_ROWS
from . import blank_lists

NAMED = pa.schema([("name", pa.string()), ("value", pa.string())])
_DELIMITERS = {"csv": ",", "tsv": "\t"}
_BLOCK = 1 << 22  # bytes
_LONGEST_LINE = 1 << 24  # bytes of a line that Arrow is given
_BLANKS = "".join(filter(str.isspace, map(chr, range(0x3001))))  # what Python's `strip` takes away


class KeyIndex:
    """Tells what names lists use for examples.

    A list's name may be the example's key, the same without its extension, its file name, or its stem, whatever the
    Unicode form.

    Attributes:
      most_blanks: The most blanks in a row of characters that names an example: how far a name may reach in a line.
    """

    def __init__(self, keys: Iterable[str], suffixes: Collection[str], most_blanks: int) -> None:
        """Takes the keys that some names may lead to, and what of all examples' keys matters for lines.

        Args:
          keys: Those keys.
          suffixes: The extensions of all examples' keys, in lower case.
          most_blanks: See the attribute.
        """
        self._keys = set(keys)
        self._indexes: list[dict[str, list[str]]] = [defaultdict(list) for _ in _ALIASES]
        for key in self._keys:
            for index, alias in zip(self._indexes, _ALIASES, strict=True):
                index[normalized(alias(key))].append(key)
        self._suffixes = suffixes
        self.most_blanks = most_blanks
        self._last: tuple[str, Sequence[str]] = ("", self._look_up(""))

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

    def has_file(self, name: str) -> bool:
        """Whether `name` is an example's key or file name, not only what is left of these without the extension."""
        suffix = _suffix(name)
        return bool(suffix) and any(_suffix(key) == suffix for key in self.keys(name))

    def holds_file_name(self, words: str) -> bool:
        """Whether one of these words ends like the examples' file names."""
        return any(_suffix(word) in self._suffixes for word in words.split())


IndexOf = Callable[[Sequence[str]], KeyIndex]  # gives an index that knows of all that lines of a list may name


@dataclass(frozen=True)
class KeyList:
    """A CSV, TSV or whitespace-separated list under the input folder.

    Attributes:
      path: The file, relative to the input. `.csv` is read with commas, `.tsv` with tabs, all else with tabs where they
        cut every line into as many columns, else with blanks: how far a name with blanks reaches is then told by the
        examples that there are, and what can be read in several ways is refused.
      key: The column that names the example: a header's name, or a position from 0 where there is no header.
      value: The column to take; likewise. None takes none.

    A list's key may be the example's key, the same without its extension, its file name, or its stem; it must lead to
    one example.
    """

    path: str
    key: str | int = 0
    value: str | int | None = 1

    def read(self, root: str, index_of: IndexOf, warnings: list[str]) -> Iterator[pa.RecordBatch]:
        """Name and value of all lines; see `read_list`.

        Raises:
          RequestError: as `read_list`.
        """
        return read_list(files.join(root, self.path), index_of, self.key, self.value, warnings)


def read_list(
    uri: str, index_of: IndexOf, key: str | int, value: str | int | None, warnings: list[str]
) -> Iterator[pa.RecordBatch]:
    """Reads a list; blank lines and, in whitespace-separated lists, lines that start with `#` are passed over.

    Lists that commas or tabs cut by their name's extension are read a line at a time; others are held in memory.

    Args:
      uri: The list.
      index_of: Gives an index of the examples.
      key: The column that names the example: a header's name, or a position from 0.
      value: The column to take, likewise; None takes none.
      warnings: What may be read otherwise than it is meant is added to them.

    Yields:
      Batches of `NAMED`: how each line names its example, and the value; without a column to take, the name or nothing.

    Raises:
      RequestError: the file cannot be read, a line lacks a column, or can be read in several ways.
    """
    has_header = isinstance(key, str) or isinstance(value, str)
    if delimiter := _DELIMITERS.get(uri.rpartition(".")[2].lower()):
        rows = _csv_rows(uri, delimiter)
        header = [name.strip() for name in next(rows, [])] if has_header else []
        count = 0
        with contextlib.suppress(OSError, pa.ArrowInvalid, pa.ArrowKeyError):  # then Python goes on, or says why not
            for batch in _plain_rows(uri, delimiter, header, key, value):
                count += len(batch)
                yield batch
            return
        pairs = _pairs(_checked_widths(rows, len(header), 1 + has_header, uri), uri, header, key, value)
        yield from _to_batches(islice(pairs, count, None))
        return
    columns = [column for column in (key, value) if isinstance(column, int)]
    text = _read_text(uri)
    index = index_of([line for _, line in _stripped(text)])
    lines = [
        (number, line)
        for number, line in _stripped(text)
        if not line.startswith("#") or index.keys(line) or index.keys(line.split()[0])
    ]
    cut = _cut_at_tabs(lines, max(columns, default=0) + 1)
    if cut is not None:
        header = [name.strip() for name in cut.pop(0)] if has_header and cut else []
        yield from _to_batches(_pairs(iter(cut), uri, header, key, value))
        return
    header = lines.pop(0)[1].split() if has_header and lines else []
    positions = (_position(key, header, uri), None if value is None else _position(value, header, uri))
    yield from _to_batches(iter(blank_lists.cut(uri, lines, index, *positions, len(header) or None, warnings)))


def _plain_rows(
    uri: str, delimiter: str, header: Sequence[str], key: str | int, value: str | int | None
) -> Iterator[pa.RecordBatch]:
    """The names and values of a plain list whose rows have as many columns, ten times as fast as by Python.

    Raises:
      pa.ArrowInvalid, pa.ArrowKeyError: the list is no such list; the batches before are right.
    """
    key_at = _position(key, header, uri)
    value_at = key_at if value is None else _position(value, header, uri)
    taken = [f"f{at}" for at in dict.fromkeys([key_at, value_at])]
    names: list[str] = []
    for text in _plain_texts(uri, delimiter):
        rows = pa_csv.read_csv(
            pa.py_buffer(text),
            pa_csv.ReadOptions(
                use_threads=False, block_size=len(text) + 1, column_names=names, autogenerate_column_names=not names
            ),
            pa_csv.ParseOptions(delimiter=delimiter),
            pa_csv.ConvertOptions(
                column_types=dict.fromkeys(taken, pa.string()), include_columns=taken if names else None, null_values=[]
            ),
        )
        if not names:
            names = rows.column_names
            if not {*taken} <= {*names}:
                raise pa.ArrowKeyError(f"expected the columns {taken}, found {names}")
            rows = rows.slice(1 if header else 0)
        trimmed = [pc.utf8_trim(rows[f"f{at}"].combine_chunks(), _BLANKS) for at in (key_at, value_at)]
        yield pa.RecordBatch.from_arrays(trimmed, schema=NAMED)


def _plain_texts(uri: str, delimiter: str) -> Iterator[bytes]:
    """A file in parts of whole rows, as long as Python's reader of CSV and Arrow's cannot read them differently.

    Raises:
      pa.ArrowInvalid: it is not so from here on.
    """
    text = b""
    with files.open_read(uri) as file:
        while block := file.read(_BLOCK):
            text += block
            end = text.rfind(b"\n") + 1
            if end and (part := text[:end]).strip(b"\r\n"):
                yield _expect_plain(part, delimiter)
            text = text[end:]
            if len(text) > _LONGEST_LINE:
                raise pa.ArrowInvalid(f"expected lines of at most {_LONGEST_LINE} bytes")
    if text.strip(b"\r\n"):
        yield _expect_plain(text + b"\n", delimiter)


def _expect_plain(rows: bytes, delimiter: str) -> bytes:
    """The rows, if quotes stand around whole fields, doubled in them, and around no line end, which are LF or CRLF.

    Raises:
      pa.ArrowInvalid: they are not so.
    """
    text = np.frombuffer(b"\n" + rows, np.uint8)
    quote, lf, cr, separator = (ord(character) for character in ('"', "\n", "\r", delimiter))
    quotes, line_ends = np.flatnonzero(text == quote), np.flatnonzero(text == lf)
    if not (
        text.all()
        and (text[np.flatnonzero(text == cr) + 1] == lf).all()
        and np.isin(text[quotes[::2] - 1], [separator, lf, quote]).all()
        and not (np.searchsorted(quotes, line_ends) % 2).any()
        and np.isin(text[quotes[1::2] + 1], [separator, lf, cr, quote]).all()
    ):
        raise pa.ArrowInvalid("expected quotes around whole fields only, and lines that end with LF or CRLF")
    return rows


def _to_batches(pairs: Iterator[tuple[str, str]]) -> Iterator[pa.RecordBatch]:
    while taken := list(islice(pairs, BATCH_ROWS)):
        columns = [pa.array(column, pa.string()) for column in zip(*taken, strict=True)]
        yield pa.RecordBatch.from_arrays(columns, schema=NAMED)


def _pairs(
    rows: Iterator[list[str]], uri: str, header: Sequence[str], key: str | int, value: str | int | None
) -> Iterator[tuple[str, str]]:
    """The name and the value of each row."""
    key_at = _position(key, header, uri)
    value_at = key_at if value is None else _position(value, header, uri)
    for number, row in enumerate(rows, 2 if header else 1):
        if len(row) <= max(key_at, value_at):
            raise RequestError(
                f"{uri}, row {number}: expected at least {max(key_at, value_at) + 1} columns, found {len(row)}: {row}; "
                "fix the row, or name other columns in the recipe"
            )
        yield row[key_at].strip(), row[value_at].strip()


def _stripped(text: str) -> Iterator[tuple[int, str]]:
    """The lines that are not blank, with their numbers, without blanks around them."""
    stripped = ((number, line.strip()) for number, line in enumerate(re.split(r"\r\n|\r|\n", text), 1))
    return ((number, line) for number, line in stripped if line)


def _read_text(uri: str) -> str:
    try:
        return files.read_bytes(uri).decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise _no_list(uri, error) from error


def _no_list(uri: str, error: Exception) -> RequestError:
    return RequestError(f"expected a UTF-8 list at {uri}, found: {error}; check the recipe's path")


def _cut_at_tabs(lines: Sequence[tuple[int, str]], least: int) -> list[list[str]] | None:
    """The rows, where tabs cut every line into as many columns, and into `least` of them at least; else None."""
    rows = [re.split(r" *\t[ \t]*", line) for _, line in lines]
    lengths = {len(row) for row in rows}
    return rows if len(lengths) == 1 and min(lengths) >= max(2, least) else None


def _checked_widths(rows: Iterator[list[str]], width: int, first: int, uri: str) -> Iterator[list[str]]:
    """The rows, none of which may have more columns than the header, or than others where there is none.

    Args:
      rows: The rows; empty columns at their ends do not count.
      width: The header's columns; 0 where there is none.
      first: The first row's number.
      uri: The list.

    Raises:
      RequestError: one has more: a value may be cut. Without a header that is known after the last row.
    """
    first_of_width: dict[int, tuple[int, list[str]]] = {}
    least: int | None = None
    for number, row in enumerate(rows, first):
        found = len(row)
        if found <= width or (found == least and least in first_of_width):  # as most rows are
            yield row
            continue
        while found and not row[found - 1].strip():
            found -= 1
        if found > width > 0:
            raise _too_wide(uri, number, row, found, width, "the header has")
        if found not in first_of_width:
            first_of_width[found] = number, row
        if least is None or len(row) < least:
            least = len(row)
        yield row
    if not width and least is not None:
        wider = [(*place, found) for found, place in first_of_width.items() if found > least]
        if wider:
            raise _too_wide(uri, *min(wider), least, "others have")


def _too_wide(uri: str, number: int, row: Sequence[str], found: int, expected: int, others: str) -> RequestError:
    return RequestError(
        f"{uri}, row {number}: expected {expected} columns, as {others}, found {found}: {list(row)}; put values "
        "that hold the delimiter between double quotes"
    )


def _csv_rows(uri: str, delimiter: str) -> Iterator[list[str]]:
    try:
        with files.open_read(uri) as file, io.TextIOWrapper(file, "utf-8-sig", newline="") as text:
            reader = csv.reader(text, delimiter=delimiter, strict=True)
            try:
                for row in reader:
                    if row:
                        yield row
            except csv.Error as error:
                words = f"{uri}, line {reader.line_num}: {error}; is a quote left open? fix the list"
                raise RequestError(words) from error
    except (OSError, UnicodeDecodeError) as error:
        raise _no_list(uri, error) from error


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
