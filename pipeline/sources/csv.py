"""Comma-, tab- or otherwise delimited text, one file or many, as one table.

Rows end at LF, CR or CRLF outside quotes; `quoting` says what a quote is. Blank lines are no rows. Text stays text:
only whole and decimal numbers are inferred; `true` and dates are strings, as they are written.
"""

import codecs
import csv
import io
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import KW_ONLY, dataclass
from itertools import combinations
from typing import IO, Any

import numpy as np
import pyarrow as pa

from ..errors import PenstockError, RequestError
from ..storage import files
from ..storage.files import FileInfo
from . import column_types, csv_rows, row_boundaries
from .column_types import REST, SCALARS, Columns, Policies
from .csv_rows import Format, Text
from .file_content import compression, open_whole, read_fully, read_range
from .file_patterns import check_patterns, digest_files, match_files
from .listing import RecordListing, RecordRange
from .record_source import Rows
from .table_schema import TableSchema, with_rules

_THREADS = 16
_SAMPLED, _SAMPLE, _HEAD, _FIRST_HEAD = 8, 1 << 20, 1 << 16, 1 << 13
_BOM = codecs.BOM_UTF8


@dataclass(frozen=True)
class Csv:
    """Delimited text files under the input folder, read as one table.

    Attributes:
      pattern: Glob pattern, or several: `*` and `?` stay in a folder, `**/` is any number of folders. Files that end in
        .gz, .bz2, .zst or .lz4 are decompressed; each is read as one range, and must hold less than 1 GiB of text.
      delimiter: The character between fields.
      names: The columns' names, for files without a header.
      missing: What stands for a missing value, quoted or not.
      encoding: The text's encoding, as Python names it. UTF-8 and the encodings of one byte a character are read by
        ranges, files in every other one whole.
      quote: The character around fields that hold delimiters or newlines; None: quotes are text.
      escape: The character, as MySQL's backslash, after which one is text: a quote, a delimiter, a line end, itself.
        A field of it and an N alone stays as it is, for `missing` to name. None: there is none. Text after a closing
        quote, which such a file is full of where this is not declared, costs its row.
      strip: Whether blanks around values and names are left out, those inside quotes too.
      columns: The columns to read: name to "int64", "float64", "string", "binary", or "auto" to infer the type from the
        first megabyte of eight files. `"*": "auto"` is every other column. None: all, inferred.
      nonfinite: What is done with NaN, infinities and numbers beyond float32's range, for all columns or by name:
        "missing" makes them missing values, "keep" keeps them, "quarantine" quarantines the row.
    """

    pattern: str | Sequence[str]
    _: KW_ONLY
    delimiter: str = ","
    names: Sequence[str] | None = None
    missing: Sequence[str] = ("", "?", "NA", "NaN", "null")
    encoding: str = "utf-8"
    quote: str | None = '"'
    escape: str | None = None
    strip: bool = True
    columns: Columns = None
    nonfinite: Policies = "missing"

    def __post_init__(self) -> None:
        check_patterns("Csv", self.pattern)
        marks = {"delimiter": self.delimiter, "quote": self.quote, "escape": self.escape}
        for name, character in marks.items():
            if not (name != "delimiter" and character is None) and not _is_mark(character):
                raise RequestError(f"Csv({name}=...): expected one ASCII character, found {character!r}")
        for one, other in combinations(marks, 2):
            if marks[one] == marks[other] is not None:
                raise RequestError(f"Csv: expected a {one} other than the {other}, found {marks[one]!r} for both")
        if isinstance(self.missing, str) or not all(isinstance(token, str) for token in self.missing):
            raise RequestError(
                f"Csv(missing=...): expected a list of strings such as ['', '?'], found {self.missing!r}"
            )
        try:
            codecs.lookup(self.encoding)
        except LookupError as error:
            raise RequestError(f"Csv(encoding=...): expected one that Python knows, found {self.encoding!r}") from error
        if self.names is not None:
            if isinstance(self.names, str) or not self.names or not all(self.names):
                raise RequestError(f"Csv(names=...): expected a list of names, found {self.names!r}")
            column_types.check_distinct(list(self.names), "Csv(names=...)")
        column_types.check_columns("Csv", self.columns, self.nonfinite, SCALARS)

    @property
    def format(self) -> Format:
        """What reading one range needs to know."""
        quote = ord(self.quote) if self.quote else None
        escape = ord(self.escape) if self.escape else None
        dialect = row_boundaries.Dialect(ord(self.delimiter), quote, self.strip, escape=escape)
        missing = tuple(token.strip(" \t") if self.strip else token for token in self.missing)
        return Format(dialect, missing, self.nonfinite, "UTF-8" if self._is_utf8 else self.encoding)

    def find(self, root: str, range_bytes: int) -> RecordListing:
        """Lists the ranges; see `RecordSource`."""
        warnings: list[str] = []
        matched = match_files(root, check_patterns("Csv", self.pattern), warnings)
        uris = [info.uri for info in matched.values()]
        with ThreadPoolExecutor(min(_THREADS, len(matched))) as pool:
            heads = list(
                pool.map(lambda at: self._head(uris[at], _SAMPLE if at < _SAMPLED else _HEAD), range(len(uris)))
            )
            warnings += [f"{uri} holds no rows" for uri, head in zip(uris, heads, strict=True) if head.is_empty]
            filled = [
                _InputFile(key, info, head)
                for (key, info), head in zip(matched.items(), heads, strict=True)
                if not head.is_empty
            ]
            if not filled:
                raise RequestError(
                    f"expected rows in the {len(uris)} files that match {self.pattern!r}, found none; check the input"
                )
            schema = self._schema(filled, warnings)
            ranges = [
                record_range
                for file_ranges in pool.map(lambda item: self._ranges(item, range_bytes), filled)
                for record_range in file_ranges
            ]
        table_schema = with_rules(schema, self.nonfinite, self.format.missing, self.strip)
        return RecordListing(ranges, table_schema, warnings, digest_files(matched.items()))

    def read(self, record_range: RecordRange, schema: TableSchema) -> Rows:
        """Reads a range; see `RecordSource`."""
        data = read_range(record_range)
        if self._is_whole(record_range.uri):
            head = self._parse_head(self._transcode(data, True, record_range.uri), True, record_range.uri)
            names, data = head.names, head.text[head.begin :]
        elif self.names:
            names = list(self.names)
        else:
            with files.open_read(record_range.uri) as file:
                names = self._read_head(file, record_range.uri, _FIRST_HEAD).names
        data = self._to_utf8(data)
        lacks = [name for name in schema.columns.names if name not in names]
        if lacks:
            raise PenstockError(
                f"{record_range.uri}: expected the columns {lacks}, found {names}; "
                "the file changed after it was listed: run again"
            )
        return csv_rows.read_rows(record_range, Text(data, names), schema.columns, self.format)

    def _ranges(self, input_file: "_InputFile", range_bytes: int) -> list[RecordRange]:
        key, info, head = input_file.key, input_file.info, input_file.head
        if self._is_whole(info.uri):
            return [RecordRange(info.uri, key, 0, info.size, 0, head.rows, info.size, head.lines + 1)]
        size = info.size - head.begin
        if size <= range_bytes:
            return [RecordRange(info.uri, key, head.begin, info.size, 0, head.rows, size, head.lines + 1)]
        return row_boundaries.text_ranges(info, key, self.format.dialect, range_bytes, head.begin, head.lines + 1)

    def _schema(self, inputs: "Sequence[_InputFile]", warnings: list[str]) -> pa.Schema:
        """The columns to read, with the declared types, or those that the first files' beginnings show."""
        first = inputs[0]
        chosen = column_types.select(self.columns, first.head.names, first.info.uri)
        for other in inputs[1:]:
            if self.columns is None or REST in self.columns:
                column_types.check_same(first.head.names, other.head.names, first.info.uri, other.info.uri)
            else:
                column_types.select(self.columns, other.head.names, other.info.uri)
        unknown = [name for name in chosen if column_types.declared(self.columns, name) is None]
        seen: dict[str, list[pa.DataType]] = {name: [] for name in unknown}
        for each in inputs[:_SAMPLED]:
            text = Text(each.head.sample, each.head.names)
            for name, kind in csv_rows.infer(text, unknown, self.format, each.info.uri, warnings).items():
                seen[name].append(kind)
        conflict = "the column {!r} holds numbers in some files and text in others"
        return column_types.choose_types(chosen, self.columns, seen, conflict, warnings)

    # A file's beginning.

    def _head(self, uri: str, size: int) -> "_Head":
        try:
            with open_whole(uri) as file:
                return self._read_head(file, uri, size)
        except (OSError, pa.ArrowException) as error:
            raise RequestError(f"{uri}: expected text that can be read, found: {error}; fix or remove it") from error

    def _read_head(self, file: IO[bytes], uri: str, size: int) -> "_Head":
        data = b""
        while True:
            data += read_fully(file, size - len(data))
            at_end = len(data) < size
            head = self._parse_head(self._transcode(data, at_end, uri), at_end, uri)
            if at_end or head.names:
                return head
            size *= 4

    def _parse_head(self, text: bytes, at_end: bool, uri: str) -> "_Head":
        """What is known of a file whose beginning, or whole content, is `text`."""
        skipped = len(_BOM) if text.startswith(_BOM) and (self._is_utf8 or not self._is_sliceable) else 0
        array = np.frombuffer(text, np.uint8)[skipped:]
        boundaries = row_boundaries.find_boundaries(array, self.format.dialect, at_end)
        filled = boundaries.filled(array)
        if not len(filled):
            return _Head([], text, len(text), 0, 0 if at_end else -1, b"")
        if self.names is not None:
            names, begin, lines, rows = list(self.names), 0, 0, len(filled)
        else:
            for rows_at_fault, what in (
                (boundaries.unclosed, "a quote that is not closed"),
                (boundaries.trailing, "text after a closing quote"),
            ):
                if len(rows_at_fault) and rows_at_fault[0] == filled[0]:
                    raise RequestError(f"{uri}: expected a header, found {what} in it; fix the file")
            start, begin = int(boundaries.starts[filled[0]]), int(boundaries.ends[filled[0]])
            names = self._names(array[start:begin].tobytes(), uri)
            lines, rows = int(np.searchsorted(boundaries.lines, begin)), len(filled) - 1
        sample = array[begin : int(boundaries.ends[-1])].tobytes()
        return _Head(names, text, skipped + begin, lines, rows if at_end else -1, self._to_utf8(sample))

    def _names(self, header: bytes, uri: str) -> list[str]:
        try:
            text = header.decode(self.encoding if self._is_sliceable else "utf-8")
        except UnicodeDecodeError as error:
            raise RequestError(f"{uri}, line 1: expected a header in {self.encoding}, found: {error}") from error
        style: dict[str, Any] = {"quotechar": self.quote} if self.quote else {"quoting": csv.QUOTE_NONE}
        style |= {"delimiter": self.delimiter, "skipinitialspace": self.strip, "escapechar": self.escape}
        lines = csv.reader(io.StringIO(text, newline=""), **style)
        names = [name.strip(" \t") if self.strip else name for name in next(lines)]
        names = [name or f"column_{position}" for position, name in enumerate(names, 1)]
        column_types.check_distinct(names, f"{uri}, line 1")
        return names

    # Encodings.

    @property
    def _is_utf8(self) -> bool:
        return codecs.lookup(self.encoding).name in ("utf-8", "utf-8-sig", "ascii")

    @property
    def _is_sliceable(self) -> bool:
        """Whether a byte below 128 is always the ASCII character, so that rows can be told without decoding."""
        if self._is_utf8:
            return True
        try:
            every = bytes(range(256)).decode(self.encoding, "replace")
        except (UnicodeError, LookupError):
            return False
        return len(every) == 256 and every[:128] == bytes(range(128)).decode("ascii")

    def _is_whole(self, uri: str) -> bool:
        return compression(uri) is not None or not self._is_sliceable

    def _transcode(self, data: bytes, at_end: bool, uri: str) -> bytes:
        """Bytes as UTF-8, where rows cannot be told without decoding; else as they are."""
        if self._is_sliceable:
            return data
        # a byte that does not fit costs its row; in UTF-16 it could shift all that follow
        errors = "strict" if codecs.lookup(self.encoding).name.startswith("utf") else "surrogateescape"
        try:
            text = codecs.getincrementaldecoder(self.encoding)(errors).decode(data, at_end)
        except UnicodeError as error:
            where = ""
            if isinstance(error, UnicodeDecodeError):
                lines = data[: error.start].decode(self.encoding, "replace").splitlines(keepends=True)
                line = 1 + sum(each[-1] in "\r\n" for each in lines)
                where = f", line {line}, byte {error.start}"
            raise RequestError(
                f"{uri}{where}: expected text in {self.encoding}, found: {error}; fix it, or declare another encoding"
            ) from error
        return text.encode("utf-8", "surrogateescape")

    def _to_utf8(self, data: bytes) -> bytes:
        """Text as UTF-8; bytes that the encoding does not know stay as they are, for the reader to find."""
        if self._is_utf8 or not self._is_sliceable or data.isascii():
            return data
        return data.decode(self.encoding, "surrogateescape").encode("utf-8", "surrogateescape")


def tsv(pattern: str | Sequence[str], **options: Any) -> Csv:
    """Tab-separated files; the options are those of `Csv`."""
    return Csv(pattern, delimiter="\t", **options)


@dataclass(frozen=True)
class _Head:
    """A file's beginning.

    Attributes:
      names: The columns; none where no row was found.
      text: What was read.
      begin: Where rows begin in it.
      lines: The lines before that.
      rows: How many rows the file holds, where all of it was read; else -1.
      sample: Whole rows after the header, as UTF-8.
    """

    names: list[str]
    text: bytes
    begin: int
    lines: int
    rows: int
    sample: bytes

    @property
    def is_empty(self) -> bool:
        """Whether the file is known to hold no rows."""
        return self.rows == 0


@dataclass(frozen=True)
class _InputFile:
    """A file that holds rows."""

    key: str
    info: FileInfo
    head: _Head


def _is_mark(character: object) -> bool:
    return isinstance(character, str) and len(character) == 1 and character.isascii() and character not in "\r\n\0"
