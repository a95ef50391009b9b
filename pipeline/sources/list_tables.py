"""The tables that lists of objects are: by a file's name, and which columns a file has."""

import csv
import io
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ..errors import RequestError
from ..storage import files
from . import parquet_files
from .csv import Csv
from .file_content import compression, open_content, read_fully
from .file_patterns import match_files
from .json_lines import JsonLines
from .parquet import Parquet
from .record_source import RecordSource

_HEAD_BYTES = 1 << 16  # bytes in which the names of a list's columns are looked for
_SEPARATOR = "\x1f"  # a character that no URI holds: a list of URIs alone has one column
URI = "uri"  # the column of such a list


@dataclass(frozen=True)
class ListFormat:
    """How lists of one suffix are read.

    Attributes:
      make: Makes the table, of patterns and the columns' types by their names.
      names: The columns of a file.
    """

    make: Callable[[Sequence[str], Mapping[str, str]], RecordSource]
    names: Callable[[str], list[str]]


def list_format(path: str) -> ListFormat:
    """How a list of that name is read.

    Raises:
      RequestError: its suffix tells nothing.
    """
    bare = path.rpartition(".")[0] if compression(path) else path
    suffix = bare.rpartition(".")[2].lower()
    if suffix in ("parquet", "pq"):
        return ListFormat(lambda patterns, kinds: Parquet(patterns, columns=kinds), parquet_names)
    if suffix in ("csv", "tsv"):
        delimiter = "," if suffix == "csv" else "\t"
        return ListFormat(
            lambda patterns, kinds: Csv(patterns, delimiter=delimiter, columns=kinds),
            lambda uri: _csv_names(uri, delimiter),
        )
    if suffix in ("jsonl", "ndjson"):
        return ListFormat(lambda patterns, kinds: JsonLines(patterns, columns=kinds), _json_names)
    if suffix == "txt":
        return ListFormat(_uris_alone, lambda uri: [URI])
    raise RequestError(
        f"references(table): expected a list that ends in .parquet, .csv, .tsv, .jsonl or .txt, found {path!r}; rename "
        "it, or give the table that reads it, such as Csv(...)"
    )


def _uris_alone(patterns: Sequence[str], kinds: Mapping[str, str]) -> RecordSource:
    return Csv(patterns, delimiter=_SEPARATOR, quote=None, names=[URI], missing=[""], columns=kinds)


def first_file(folder: str, patterns: Sequence[str]) -> str:
    """The first file of a list.

    Raises:
      RequestError: there is none.
    """
    return next(iter(match_files(folder, patterns, []).values())).uri


def split_patterns(root: str, patterns: Sequence[str]) -> tuple[str, list[str]]:
    """The folder of a list, and its patterns below that: of one that is a URI or an absolute path, a folder of its own.

    Raises:
      RequestError: there are several, of which one is absolute.
    """
    absolute = [pattern for pattern in patterns if "://" in pattern or pattern.startswith("/")]
    if not absolute:
        return root, [*patterns]
    if len(patterns) > 1:
        raise RequestError(f"references(table): expected one URI, or paths relative to the input, found {patterns}")
    literal = re.split(r"[*?\[]", absolute[0], maxsplit=1)[0]
    folder = literal.rpartition("/")[0]
    return folder or "/", [absolute[0][len(folder) :].lstrip("/")]


def parquet_names(uri: str) -> list[str]:
    """The columns of a Parquet file.

    Raises:
      RequestError: it cannot be read.
    """
    try:
        return list(parquet_files.metadata(files.describe(uri))[0].names)
    except (OSError, parquet_files.UnreadableError) as error:
        raise RequestError(f"{uri}: expected a Parquet file, found: {error}; make it again, or fix the path") from error


def _head(uri: str) -> str:
    with open_content(uri, RequestError) as file:
        return read_fully(file, _HEAD_BYTES).decode("utf-8-sig", "replace")


def _csv_names(uri: str, delimiter: str) -> list[str]:
    return [name.strip() for name in next(csv.reader(io.StringIO(_head(uri), newline=""), delimiter=delimiter), [])]


def _json_names(uri: str) -> list[str]:
    """The keys of the first rows: one may lack some."""
    lines = [line for line in _head(uri).splitlines() if line.strip()]
    rows = []
    for number, line in enumerate(lines):
        try:
            rows.append(json.loads(line))
        except ValueError as error:
            if not number:
                raise RequestError(f"{uri}: expected an object a line, found: {error}; fix the list") from error
            break  # a line that the head cuts off, or one that reading the list tells of
    if not all(isinstance(row, dict) for row in rows):
        raise RequestError(f"{uri}: expected an object a line, found others; fix the list")
    return list(dict.fromkeys(name for row in rows for name in row))
