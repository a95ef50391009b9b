"""Comma-, tab- or otherwise delimited text, one file or many, as one table.

Rows end at LF, CR or CRLF outside quotes; `quoting` says what a quote is. Blank lines are no rows. Text stays text:
only whole and decimal numbers are inferred; `true` and dates are strings, as they are written.
"""

import codecs
import contextlib
import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import KW_ONLY, dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np
import pyarrow as pa

from ..errors import PenstockError, RequestError
from ..storage import files
from ..storage.files import FileInfo
from . import column_types, csv_rows, inference, row_blocks, row_boundaries, text_encoding
from .column_types import SCALARS, Columns, Policies, reads_all
from .csv_rows import Format, Looked, Text
from .file_content import (
    LONGEST_PART,
    FileParts,
    PartReader,
    Stream,
    compression,
    open_content,
    open_range,
    read_fully,
    reading_threads,
)
from .file_patterns import check_patterns, digest_files, match_files, versions_of
from .inference import Evidence
from .listing import RecordListing, RecordRange
from .record_source import Rows, concat_rows
from .row_blocks import RowBlock
from .row_errors import shorten
from .sampling import Excerpt, choose_excerpts, together, whole_rows
from .table_schema import TableSchema, with_rules
from .text_encoding import Utf8Stream
from .text_ranges import text_ranges, whole_lines

_TOGETHER, _WAITING = 16 << 20, 64 << 20  # bytes of text whose values are looked at together; and, at most, of these
_SAMPLED, _SAMPLE, _HEAD, _FIRST_HEAD = 8, 1 << 20, 1 << 16, 1 << 13
_BOM = codecs.BOM_UTF8
_DELIMITERS = ",;\t|"
_CHECKED = 1 << 20  # bytes that are looked at where no type is to be inferred: whether rows can be read at all


@dataclass(frozen=True)
class Csv:
    """Delimited text files under the input folder, read as one table.

    Attributes:
      pattern: Glob pattern, or several: `*` and `?` stay in a folder, `**/` is any number of folders. Files that end in
        .gz, .bz2, .zst or .lz4 are decompressed; each is one range, which is read as a stream. A row may have 64 MiB; a
        longer one does not fit, and ends with its line.
      delimiter: The character between fields.
      names: The columns' names, for files without a header.
      missing: What stands for a missing value, quoted or not.
      encoding: The text's encoding, as Python names it. UTF-8 and the encodings of one byte a character are read by
        ranges, files in every other one as one range each.
      quote: The character around fields that hold delimiters or newlines; None: quotes are text.
      escape: The character, as MySQL's backslash, after which one is text: a quote, a delimiter, a line end, itself.
        A field of it and an N alone stays as it is, for `missing` to name. None: there is none. Text after a closing
        quote, which such a file is full of where this is not declared, costs its row.
      strip: Whether blanks around values and names are left out, those inside quotes too.
      columns: The columns to read: name to "int64", "float64", "string", "binary", or "auto" to infer the type,
        from all files, or from parts of them all where these are larger than 128 MiB. `"*": "auto"` is every other
        column. None: all, inferred. What is inferred loses nothing: numbers that begin with a zero, integers beyond
        int64 and ids such as 12e4 are strings; a later value that is not of its column's type costs its row.
      quoted_newlines: Whether a field in quotes, or after `escape`, may hold line ends. False: every line is a row, and
        large files need not be read twice to find where rows begin. A row's number, in its key, is then the byte at
        which it begins (in what a compressed file holds), and its split by hash follows that.
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
    quoted_newlines: bool = True
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
        dialect = row_boundaries.Dialect(
            ord(self.delimiter), quote, self.strip, escape=escape, quoted_newlines=self.quoted_newlines
        )
        missing = tuple(token.strip(" \t") if self.strip else token for token in self.missing)
        return Format(
            dialect, missing, self.nonfinite, "UTF-8" if text_encoding.is_utf8(self.encoding) else self.encoding
        )

    def find(self, root: str, range_bytes: int) -> RecordListing:
        """Lists the ranges; see `RecordSource`."""
        warnings: list[str] = []
        matched = match_files(root, check_patterns("Csv", self.pattern), warnings)
        infos = {info.uri: info for info in matched.values()}
        samples = dict.fromkeys(list(infos)[:_SAMPLED], _SAMPLE)
        heads = list(files.map_files(lambda uri: self._head(infos[uri], samples.get(uri, _HEAD)), infos))
        with ThreadPoolExecutor(reading_threads(infos.values())) as pool:
            warnings += [
                f"{info.uri} holds no rows" for info, head in zip(infos.values(), heads, strict=True) if head.is_empty
            ]
            filled = [
                _InputFile(key, info, head)
                for (key, info), head in zip(matched.items(), heads, strict=True)
                if not head.is_empty
            ]
            if not filled:
                raise RequestError(
                    f"expected rows in the {len(infos)} files that match {self.pattern!r}, found none; check the input"
                )
            chosen = self._choose_columns(filled)
            self._check_delimiter(filled[0])
            total = sum(item.info.size for item in filled if not self._is_stream(item.info.uri))
            ranges = [
                record_range
                for file_ranges in pool.map(lambda item: self._ranges(item, range_bytes, total), filled)
                for record_range in file_ranges
            ]
            unknown = [name for name in chosen if column_types.declared(self.columns, name) is None]
            by_uri = {each.info.uri: each.head for each in filled}
            excerpts = choose_excerpts(ranges, None if unknown else _CHECKED)
            groups = together(excerpts, _TOGETHER)
            looked = list(pool.map(lambda group: self._look(group, by_uri, unknown), groups))
        schema, reasons = self._schema(chosen, looked, warnings)
        table_schema = with_rules(schema, self.nonfinite, self.format.missing, self.strip, reasons)
        return RecordListing(ranges, table_schema, warnings, digest_files(matched.items()), versions_of(matched))

    def read(self, record_range: RecordRange, schema: TableSchema) -> Rows:
        """Reads a range; see `RecordSource`."""
        return concat_rows(list(self.stream(record_range, schema)), schema.columns, record_range.uri)

    def stream(self, record_range: RecordRange, schema: TableSchema) -> Iterator[Rows]:
        """Reads a range, a compressed file a part at a time; see `StreamingSource`."""
        unknown = {name for name in schema.columns.names if column_types.declared(self.columns, name) is None}
        form = replace(self.format, inferred=frozenset(unknown))
        before = 0
        for names, block in self._blocks(record_range):
            lacks = [name for name in schema.columns.names if name not in names]
            if lacks:
                raise PenstockError(
                    f"{record_range.uri}: expected the columns {lacks}, found {names}; "
                    "the file changed after it was listed: run again"
                )
            part = row_blocks.part_of(record_range, block)
            offsets = None if self.quoted_newlines else self._offsets(block)
            if block.too_long:
                yield row_blocks.read_too_long(part, block, schema.columns, None if offsets is None else block.place)
                continue
            text = Text(text_encoding.to_utf8(block.data, self._row_encoding), names)
            rows = csv_rows.read_rows(part, text, schema.columns, form, offsets)
            yield replace(rows, size=None if block.position is None else block.position - before)
            before = block.position or 0

    def fetch(self, record_range: RecordRange, schema: TableSchema, reader: PartReader) -> FileParts | None:
        """Fetches a range's bytes, and the file's beginning, which has the columns' names; see `FetchableSource`."""
        if self._is_stream(record_range.uri):
            return None
        record_range = row_blocks.with_last_line(record_range)
        uri, begin, end = record_range.uri, record_range.begin, record_range.end
        if begin <= _HEAD and end - begin <= LONGEST_PART:
            return FileParts({0: reader.read(uri, 0, end)})
        parts = row_blocks.fetch_range(record_range, reader)
        if parts is None or self.names is not None:
            return parts
        return FileParts({0: reader.keep(uri, 0, _HEAD), **parts.contents})

    def _offsets(self, block: RowBlock) -> np.ndarray:
        """Where the rows of a block begin."""
        data = np.frombuffer(block.data, np.uint8)
        boundaries = block.boundaries or row_boundaries.find_boundaries(data, self.format.dialect)
        offsets: np.ndarray = block.place + boundaries.starts[boundaries.filled(data)]
        return offsets

    def _blocks(self, record_range: RecordRange, names: Sequence[str] = ()) -> Iterator[tuple[Sequence[str], RowBlock]]:
        """The rows of a range, and the names of their columns, which the file is asked for where they are not given.

        A block's place is counted from the beginning of what the file holds.
        """
        uri, dialect = record_range.uri, self.format.dialect
        if self._is_stream(uri):
            with self._open_text(uri, PenstockError) as file:
                head = self._read_head(file, uri, _FIRST_HEAD)
                for block in row_blocks.row_blocks(file, dialect, uri, PenstockError, head=head.text[head.begin :]):
                    yield head.names, replace(block, place=head.begin + block.place)
            return
        names = names or self.names or ()
        if not names:
            with self._open_text(uri, PenstockError, record_range.parts) as file:
                names = self._read_head(file, uri, max(1, min(_FIRST_HEAD, record_range.begin))).names
        lines = whole_lines(record_range)
        if lines is None:
            return
        for block in row_blocks.range_blocks(lines, dialect):
            yield names, replace(block, place=lines.begin + block.place)

    def row_dialect(self, record_range: RecordRange) -> row_boundaries.Dialect:
        """How a range's text is cut into fields; see `DelimitedSource`."""
        return self.format.dialect

    def _ranges(self, input_file: "_InputFile", range_bytes: int, total: int) -> list[RecordRange]:
        key, info, head = input_file.key, input_file.info, input_file.head
        if self._is_stream(info.uri):
            return [RecordRange(info.uri, key, 0, info.size, 0, head.rows, info.size, head.lines + 1)]
        size = info.size - head.begin
        if size <= range_bytes:
            return [RecordRange(info.uri, key, head.begin, info.size, 0, head.rows, size, head.lines + 1)]
        return text_ranges(info, key, self.format.dialect, range_bytes, total, head.begin, head.lines + 1)

    def _choose_columns(self, inputs: "Sequence[_InputFile]") -> list[str]:
        """The columns to read, which every file must have."""
        first = inputs[0]
        chosen = column_types.select(self.columns, first.head.names, first.info.uri)
        for other in inputs[1:]:
            if reads_all(self.columns):
                column_types.check_same(first.head.names, other.head.names, first.info.uri, other.info.uri)
            else:
                column_types.select(self.columns, other.head.names, other.info.uri)
        return chosen

    def _look(self, excerpts: Sequence[Excerpt], heads: "Mapping[str, _Head]", columns: Sequence[str]) -> "_Evidence":
        """How the values of columns are written in some parts of files, whose beginnings these are."""
        evidence, waiting, size = _Evidence([], {name: Evidence() for name in columns}), [], 0
        for excerpt in excerpts:
            uri = excerpt.record_range.uri
            for looked, sample in self._samples(excerpt, heads[uri], columns):
                evidence.looked.append((uri, looked))
                waiting.append(sample)
                size += sample.columns.nbytes
                if size > _WAITING:
                    evidence.add(waiting, self.format)
                    waiting, size = [], 0
        evidence.add(waiting, self.format)
        return evidence

    def _samples(
        self, excerpt: Excerpt, head: "_Head", columns: Sequence[str]
    ) -> Iterator[tuple[Looked, csv_rows.Sample]]:
        """The rows of a part of a file, whose beginning this is."""
        size = 0
        try:
            excerpt, where = whole_rows(excerpt, self.format.dialect)
            record_range = excerpt.record_range
            if record_range.end <= len(head.text) and not self._is_stream(record_range.uri):
                record_range = replace(record_range, parts=FileParts({0: head.text}))
            for _, block in self._blocks(record_range, head.names):
                data = block.data
                if excerpt.is_cut:
                    ends = row_boundaries.find_boundaries(
                        np.frombuffer(data, np.uint8), self.format.dialect, False
                    ).ends
                    data = data[: int(ends[-1])] if len(ends) else b""
                text = Text(text_encoding.to_utf8(data, self._row_encoding), head.names)
                first_line = record_range.first_line + block.line
                yield csv_rows.look(text, columns, self.format, where, first_line)
                size += len(block.data)
                if size >= excerpt.size:
                    break
        except RequestError:
            raise
        except PenstockError as error:
            raise RequestError(str(error)) from error

    def _schema(
        self, chosen: Sequence[str], parts: "Sequence[_Evidence]", warnings: list[str]
    ) -> tuple[pa.Schema, dict[str, str]]:
        """The columns with the declared types, or those that lose nothing of what was seen; and why.

        Args:
          chosen: The columns to read.
          parts: What the parts of the input that were looked at show.
          warnings: Takes the warnings.
        """
        by_file: dict[str, Looked] = {}
        columns: dict[str, Evidence] = {}
        for part in parts:
            for uri, looked in part.looked:
                by_file.setdefault(uri, Looked()).merge(looked)
            for name, evidence in part.columns.items():
                columns.setdefault(name, Evidence()).merge(evidence)
        for uri, looked in by_file.items():
            self._check_rows(uri, looked, warnings)
        inferred = {name: inference.infer(name, evidence) for name, evidence in columns.items()}
        return column_types.choose_types(chosen, self.columns, inferred, warnings)

    def _check_rows(self, uri: str, looked: Looked, warnings: list[str]) -> None:
        """Warns of rows in another encoding; raises RequestError where no row has the header's number of fields."""
        if looked.misfits and looked.misfits >= looked.rows:
            raise RequestError(
                f"{uri}: {looked.misfit}, and no row that was looked at has as many; "
                "check the delimiter, the quote and the names"
            )
        if looked.invalid:
            encoding = self.format.encoding
            advice = column_types.encoding_advice(looked.invalid_row) if encoding == "UTF-8" else ""
            warnings.append(
                f"{uri}: {looked.invalid} of {looked.rows} rows that were looked at are not in {encoding}, as "
                f"{shorten(looked.invalid_row)}{advice}; where such bytes are in a column that is read, the row is "
                "quarantined"
            )

    def _check_delimiter(self, input_file: "_InputFile") -> None:
        """Raises RequestError where the one column of a file's rows is several in all of them, if cut elsewhere."""
        head = input_file.head
        if len(head.names) != 1 or self.names is not None or head.names[0] in (self.columns or {}):
            return
        for delimiter in _DELIMITERS:
            if delimiter in (self.delimiter, self.quote, self.escape) or delimiter not in head.names[0]:
                continue
            other = replace(self, delimiter=delimiter, columns=None)
            names = other._parse_head(head.text, True, input_file.info.uri).names
            looked, _ = csv_rows.look(Text(head.sample, names), (), other.format, input_file.info.uri, 2)
            if len(names) > 1 and looked.rows > looked.misfits == 0:
                name = head.names[0]
                raise RequestError(
                    f"{input_file.info.uri}: expected fields between {self.delimiter!r}, found one column {name!r}, "
                    f"whose rows all have {len(names)} fields between {delimiter!r}; declare delimiter={delimiter!r}, "
                    f"or, if it is one column of text, columns={{{name!r}: 'string'}}"
                )

    # A file's beginning.

    def _head(self, info: FileInfo, size: int) -> "_Head":
        if self._is_stream(info.uri):
            with self._open_text(info.uri, RequestError) as file:
                return self._read_head(file, info.uri, size)
        with open_range(info.uri, RequestError, 0, min(size, info.size), file_size=info.size) as file:
            return self._read_head(file, info.uri, size)

    def _read_head(self, file: Stream, uri: str, size: int) -> "_Head":
        data = b""
        while True:
            data += read_fully(file, size - len(data))
            at_end = len(data) < size
            head = self._parse_head(data, at_end, uri)
            if at_end or head.names:
                return head
            if size >= row_blocks.LONGEST_ROW:
                raise RequestError(
                    f"{uri}: expected a row in its first {row_blocks.LONGEST_ROW} bytes, found none; is it text?"
                )
            size *= 4

    def _parse_head(self, text: bytes, at_end: bool, uri: str) -> "_Head":
        """What is known of a file whose beginning, or whole content, is `text`."""
        skipped = len(_BOM) if text.startswith(_BOM) and text_encoding.is_utf8(self._row_encoding) else 0
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
        return _Head(
            names,
            text,
            skipped + begin,
            lines,
            rows if at_end and len(text) <= row_blocks.LONGEST_ROW else -1,
            text_encoding.to_utf8(sample, self._row_encoding),
        )

    def _names(self, header: bytes, uri: str) -> list[str]:
        try:
            text = header.decode(self._row_encoding)
        except UnicodeDecodeError as error:
            raise RequestError(f"{uri}, line 1: expected a header in {self.encoding}, found: {error}") from error
        style: dict[str, Any] = {"quotechar": self.quote} if self.quote else {"quoting": csv.QUOTE_NONE}
        style |= {"delimiter": self.delimiter, "skipinitialspace": self.strip, "escapechar": self.escape}
        lines = csv.reader(io.StringIO(text, newline=""), **style)
        try:
            fields = next(lines)
        except csv.Error as error:
            raise RequestError(f"{uri}, line 1: expected a header, found: {error}; declare names=...") from error
        names = [name.strip(" \t") if self.strip else name for name in fields]
        names = [name or f"column_{position}" for position, name in enumerate(names, 1)]
        column_types.check_distinct(names, f"{uri}, line 1")
        return names

    # Encodings.

    @property
    def _row_encoding(self) -> str:
        """The encoding in which files are cut into rows: their own, unless rows cannot be told in it."""
        return self.encoding if text_encoding.is_sliceable(self.encoding) else "utf-8"

    def _is_stream(self, uri: str) -> bool:
        """Whether a file can only be read from its beginning."""
        return compression(uri) is not None or not text_encoding.is_sliceable(self.encoding)

    @contextlib.contextmanager
    def _open_text(self, uri: str, error: type[PenstockError], parts: FileParts | None = None) -> Iterator[Stream]:
        """Opens a file at its beginning; its text comes in the encoding in which it is cut into rows."""
        with open_content(uri, error, parts=parts) as file:
            yield file if text_encoding.is_sliceable(self.encoding) else Utf8Stream(file, self.encoding, uri)


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
class _Evidence:
    """What parts of the input show.

    Attributes:
      looked: Of the rows of each, by file.
      columns: How the values of columns are written in all of them.
    """

    looked: list[tuple[str, Looked]]
    columns: dict[str, Evidence]

    def add(self, samples: Sequence[csv_rows.Sample], form: Format) -> None:
        """Adds what values show, if there are any."""
        for name, evidence in self.columns.items() if samples else ():
            evidence.merge(csv_rows.evidence_of(name, samples, form))


@dataclass(frozen=True)
class _InputFile:
    """A file that holds rows."""

    key: str
    info: FileInfo
    head: _Head


def _is_mark(character: object) -> bool:
    return isinstance(character, str) and len(character) == 1 and character.isascii() and character not in "\r\n\0"
