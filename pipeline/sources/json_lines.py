"""JSON Lines: one JSON object a line."""

import hashlib
import json
from collections import Counter
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import KW_ONLY, dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.json

from ..errors import PenstockError, RequestError
from ..storage.files import FileInfo
from . import column_types, json_nesting, row_blocks, row_boundaries, utf8
from .column_types import REST, Columns, Policies
from .file_content import Stream, compression, open_content, read_fully
from .file_patterns import check_patterns, digest_files, match_files
from .listing import RecordListing, RecordRange
from .record_source import Rows, collect_rows, concat_rows
from .row_blocks import RowBlock
from .row_errors import RowError, shorten
from .table_schema import TableSchema, with_rules
from .text_ranges import text_ranges

_THREADS = 16
_SAMPLED, _SAMPLE = 8, 1 << 20
_FEW = 8  # lines that are looked at one by one
_LINES = row_boundaries.Dialect(delimiter=0, quote=None, strip=False, skip_blanks=True)
_BLANKS = b" \t\r\n"
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class JsonLines:
    """Files of one JSON object a line, in UTF-8, under the input folder, read as one table.

    A line of blanks alone is no row; one that holds anything but one object, is no UTF-8, or nests objects and lists
    deeper than 64 levels does not fit, whatever of it is read.
    Numbers, strings, booleans (as 0 and 1) and lists of these are read; a key that an object lacks is a missing value.
    Nested objects are refused: name with `columns` the keys to read instead.

    Attributes:
      pattern: Glob pattern, or several. Files that end in .gz, .bz2, .zst or .lz4 are decompressed; each is one range,
        which is read as a stream. A line may have 64 MiB; a longer one does not fit.
      columns: The keys to read: name to a type such as "int64" or "list<string>", or "auto" to infer it from the first
        megabyte of eight files. `"*": "auto"` is every other key of that beginning. None: all of them.
      nonfinite: What is done with NaN, infinities and numbers beyond float32's range, for all columns or by name:
        "missing", "keep" or "quarantine".
    """

    pattern: str | Sequence[str]
    _: KW_ONLY
    columns: Columns = None
    nonfinite: Policies = "missing"

    def __post_init__(self) -> None:
        check_patterns("JsonLines", self.pattern)
        column_types.check_columns("JsonLines", self.columns, self.nonfinite)

    def find(self, root: str, range_bytes: int) -> RecordListing:
        """Lists the ranges; see `RecordSource`."""
        warnings: list[str] = []
        matched = match_files(root, check_patterns("JsonLines", self.pattern), warnings)
        with ThreadPoolExecutor(min(_THREADS, len(matched))) as pool:
            schema = self._schema([info.uri for info in matched.values()], warnings)
            ranges = []
            parts = pool.map(lambda item: _list_ranges(item[0], item[1], range_bytes), matched.items())
            for info, file_ranges in zip(matched.values(), parts, strict=True):
                if not file_ranges:
                    warnings.append(f"{info.uri} holds no rows")
                ranges += file_ranges
        return RecordListing(ranges, with_rules(schema, self.nonfinite), warnings, digest_files(matched.items()))

    def read(self, record_range: RecordRange, schema: TableSchema) -> Rows:
        """Reads a range; see `RecordSource`."""
        return concat_rows(list(self.stream(record_range, schema)), schema.columns, record_range.uri)

    def stream(self, record_range: RecordRange, schema: TableSchema) -> Iterator[Rows]:
        """Reads a range, a compressed file a part at a time; see `StreamingSource`."""
        before = 0
        for block in _blocks(record_range):
            if block.too_long:
                yield row_blocks.read_too_long(record_range, block, schema.columns)
                continue
            first_row, first_line = record_range.first_row + block.row, record_range.first_line + block.line
            part = replace(record_range, first_row=first_row, first_line=first_line)
            rows = self._read_lines(part, block.data, schema)
            yield replace(rows, size=None if block.position is None else block.position - before)
            before = block.position or 0

    def _read_lines(self, record_range: RecordRange, data: bytes, schema: TableSchema) -> Rows:
        """Reads lines, whose first row and line the range gives."""
        lines = _Lines(data)
        errors: dict[int, RowError] = {}
        others = {record_range.first_row + position: row_error for position, row_error in lines.errors.items()}
        batches = list(_parse_lines(lines, 0, len(lines.starts), schema.columns, errors))
        batch = column_types.one_batch(pa.Table.from_batches(batches, schema.columns), record_range.uri)
        batch = column_types.apply_nonfinite(batch, self.nonfinite, errors)

        def describe(number: int) -> tuple[str, str]:
            line, content = lines.describe(number - record_range.first_row)
            return f"{record_range.uri}, line {record_range.first_line + line}", hashlib.sha256(content).hexdigest()

        return collect_rows(record_range, batch, record_range.first_row + lines.numbers, errors, others, describe)

    def _schema(self, uris: Sequence[str], warnings: list[str]) -> pa.Schema:
        """The keys to read, with the declared types, or those that the first files' beginnings show."""
        seen: dict[str, list[pa.DataType | None]] = {}
        for uri in uris[:_SAMPLED]:
            for name, kinds in _sample_types(uri).items():
                seen.setdefault(name, []).extend(kinds)
        if not seen:
            raise RequestError(
                f"{uris[0]}: expected one JSON object a line, found none in its beginning; is it JSON Lines?"
            )
        known = [name for name in self.columns or () if column_types.declared(self.columns, name) is not None]
        keys = [*seen, *(name for name in known if name not in seen and name != REST)]  # rare keys may be declared
        names = column_types.select(self.columns, keys, uris[0])
        nested = [name for name in names if column_types.declared(self.columns, name) is None and None in seen[name]]
        if nested:
            raise RequestError(
                f"{uris[0]}: expected numbers, strings or lists of them under {nested[0]!r}, found objects or lists of "
                "lists; name with columns=... the keys to read"
            )
        types = {name: [kind for kind in kinds if kind is not None] for name, kinds in seen.items()}
        conflict = "{!r} holds numbers in some rows and text in others"
        return column_types.choose_types(names, self.columns, types, conflict, warnings)


class _Lines:
    """The lines of a range that are not blank.

    Attributes:
      errors: Those that no parser is to see, by number: it would refuse all lines with one, or overflow its stack.
      numbers: The numbers of the others, from 0.
      starts: Where each of the others begins in their content.
      ends: Where it ends.
    """

    def __init__(self, data: bytes) -> None:
        self._data, array = data, np.frombuffer(data, np.uint8)
        self._boundaries = row_boundaries.find_boundaries(array, _LINES)
        filled = self._boundaries.filled(array, _LINES.skip_blanks)
        self._starts, self._ends = self._boundaries.starts[filled], self._boundaries.ends[filled]
        self.errors = self._unreadable(array)
        readable = np.ones(len(filled), bool)
        readable[list(self.errors)] = False
        self.numbers = np.flatnonzero(readable)
        self.starts, self.ends, self._content = self._starts[readable], self._ends[readable], data
        if self.errors:
            parts = [data[start:end] for start, end in zip(self.starts.tolist(), self.ends.tolist(), strict=True)]
            lengths = self.ends - self.starts
            self._content, self.ends = b"".join(parts), np.cumsum(lengths)
            self.starts, array = self.ends - lengths, np.frombuffer(self._content, np.uint8)
        last = self.ends - 1
        for line_end in b"\n\r":
            last = last - (array[last] == line_end)
        self._framed = (array[self.starts] == ord("{")) & (array[last] == ord("}"))
        for position in np.flatnonzero(~self._framed).tolist():
            text = self.content(position, position + 1).strip(_BLANKS)
            self._framed[position] = text.startswith(b"{") and text.endswith(b"}")

    def _unreadable(self, array: np.ndarray) -> dict[int, RowError]:
        errors = {}
        for number in utf8.invalid_rows(array, self._ends).tolist():
            try:
                self._data[self._starts[number] : self._ends[number]].decode()
            except UnicodeDecodeError as error:
                message = f"expected UTF-8, found: {error.reason} at byte {error.start}"
                errors[number] = RowError("encoding", message)
        levels = json_nesting.nesting(array, self._starts, self._ends)
        for number in np.flatnonzero(levels > json_nesting.MOST).tolist():
            message = f"expected at most {json_nesting.MOST} levels of objects and lists, found {levels[number]}"
            errors.setdefault(number, RowError("bad_json", message))
        return errors

    def describe(self, number: int) -> tuple[int, bytes]:
        """How many line ends lie before a line, and its content."""
        start, end = self._starts[number], self._ends[number]
        return int(np.searchsorted(self._boundaries.lines, start)), self._data[start:end].rstrip(b"\r\n")

    def content(self, begin: int, end: int) -> bytes:
        """The bytes of some lines that can be read."""
        return self._content[self.starts[begin] : self.ends[end - 1]]

    def table(self, begin: int, end: int, schema: pa.Schema | None) -> pa.Table | None:
        """What Arrow reads from some lines; None where one of them is not one object, or does not fit the schema.

        Arrow reads objects, whatever the lines. As many objects as lines are one a line if each line begins with { and
        ends with }: an object over several lines would have a { after a } without a comma.
        """
        if not self._framed[begin:end].all():
            return None
        data = self.content(begin, end)
        try:
            table = _read_json(data, schema)
            if table.num_rows == end - begin:
                if not data.isascii():
                    table.validate(full=True)
                return table
        except pa.ArrowInvalid:
            pass
        return None


def _list_ranges(key: str, info: FileInfo, range_bytes: int) -> list[RecordRange]:
    if not info.size:
        return []
    if compression(info.uri) or info.size <= range_bytes:
        return [RecordRange(info.uri, key, 0, info.size, 0, -1, info.size, 1)]
    with open_content(info.uri, RequestError) as file:
        begin = len(_BOM) if read_fully(file, len(_BOM)) == _BOM else 0
    return text_ranges(info, key, _LINES, range_bytes, begin)


def _blocks(record_range: RecordRange) -> Iterator[RowBlock]:
    """The lines of a range; those of a file's beginning without its byte-order mark."""
    uri, size = record_range.uri, record_range.end - record_range.begin
    if compression(uri):
        with open_content(uri, PenstockError) as file:
            yield from _file_blocks(file, uri, PenstockError)
    elif not record_range.begin and size > row_blocks.LONGEST_ROW:
        with open_content(uri, PenstockError) as file:
            yield from _file_blocks(file, uri, PenstockError, size)
    else:
        for block in row_blocks.range_blocks(record_range, _LINES):
            yield block if record_range.begin else replace(block, data=block.data.removeprefix(_BOM))


def _file_blocks(file: Stream, uri: str, error: type[PenstockError], size: int | None = None) -> Iterator[RowBlock]:
    """The lines of a file from its beginning, without its byte-order mark."""
    head = read_fully(file, len(_BOM))
    if head == _BOM:
        head, size = b"", None if size is None else size - len(_BOM)
    return row_blocks.row_blocks(file, _LINES, uri, error, size, head)


def _read_json(data: bytes, schema: pa.Schema | None) -> pa.Table:
    return pa.json.read_json(
        pa.BufferReader(data),
        read_options=pa.json.ReadOptions(use_threads=False, block_size=len(data) + 1),
        parse_options=pa.json.ParseOptions(
            explicit_schema=schema, unexpected_field_behavior="ignore" if schema is not None else "infer"
        ),
    )


def _parse_lines(lines: _Lines, begin: int, end: int, schema: pa.Schema, errors: dict[int, RowError]) -> Any:
    """Batches of the lines from `begin` to `end`; halves what Arrow refuses until few lines are left."""
    if begin == end:
        return
    table = lines.table(begin, end, schema)
    if table is not None:
        yield from table.select(schema.names).to_batches()
        return
    if end - begin > _FEW:
        middle = (begin + end) // 2
        yield from _parse_lines(lines, begin, middle, schema, errors)
        yield from _parse_lines(lines, middle, end, schema, errors)
        return
    for position in range(begin, end):
        columns: list[pa.Array] = []
        try:
            parsed = _object(lines.content(position, position + 1), schema.names)
            columns = [_parse_value(parsed.get(field.name), field) for field in schema]
        except _BadLine as error:
            errors[position] = error.row_error
            columns = [pa.nulls(1, field.type) for field in schema]
        yield pa.RecordBatch.from_arrays(columns, schema=schema)


class _BadLine(Exception):
    def __init__(self, code: str, message: str) -> None:
        self.row_error = RowError(code, message)


def _object(line: bytes, names: Container[str] | None = None) -> dict[str, Any]:
    """A line's object, in which none of `names`, or of all where these are None, may stand twice."""
    pairs: list[tuple[str, Any]] = []

    def take(members: list[tuple[str, Any]]) -> dict[str, Any]:
        nonlocal pairs
        pairs = members  # the outermost object comes last
        return dict(members)

    try:
        parsed = json.loads(line.rstrip(_BLANKS).decode(), object_pairs_hook=take)
    except json.JSONDecodeError as error:
        raise _BadLine("bad_json", f"expected one JSON object, found at column {error.colno}: {error.msg}") from None
    except (ValueError, RecursionError) as error:
        raise _BadLine("bad_json", f"expected one JSON object, found: {error}") from None
    if not isinstance(parsed, dict):
        raise _BadLine("bad_json", f"expected one JSON object, found {shorten(parsed)}")
    if len(parsed) < len(pairs):
        counts = Counter(name for name, _ in pairs if names is None or name in names)
        twice = [name for name, count in counts.items() if count > 1]
        if twice:
            raise _BadLine("bad_json", f"expected one JSON object, found the key {twice[0]!r} in it twice")
    return parsed


def _parse_value(value: Any, field: pa.Field) -> pa.Array:
    """One value that Arrow's parser did not take, as a column."""
    expected = f"expected {field.type} under {field.name!r}, found {shorten(value)}"
    try:
        if field.type == pa.list_(pa.float64()) and isinstance(value, list):
            value = [float(each) if type(each) is int else each for each in value]
        column = pa.array([value])
        if isinstance(value, str) and pa.types.is_binary(field.type):
            return column.cast(field.type)
    except OverflowError:
        if not isinstance(value, int) or pa.types.is_int64(field.type):
            raise _BadLine("wrong_type", expected) from None
        column = pa.array([str(value)])
    except UnicodeEncodeError:
        message = f"expected Unicode text under {field.name!r}, found half of a surrogate pair in {shorten(value)}"
        raise _BadLine("encoding", message) from None
    except pa.ArrowException:
        raise _BadLine("wrong_type", expected) from None
    errors: dict[int, RowError] = {}
    if isinstance(value, str) and not pa.types.is_string(field.type):
        raise _BadLine("wrong_type", expected)
    column = column_types.convert(column, field.type, field.name, errors)
    if errors:
        raise _BadLine("wrong_type", expected)
    return column


def _sample_types(uri: str) -> Mapping[str, list[pa.DataType | None]]:
    """The types that a file's beginning shows, by key; None for one that is no column's."""
    with open_content(uri, RequestError) as file:
        lines = _Lines(_sample_lines(_file_blocks(file, uri, RequestError)))
    seen: dict[str, list[pa.DataType | None]] = {}
    _infer_types(lines, 0, len(lines.starts), seen)
    return seen


def _sample_lines(blocks: Iterable[RowBlock]) -> bytes:
    """The whole lines of a file's first megabyte, or as much of it as holds one."""
    for block in blocks:
        if block.boundaries and block.data.strip(_BLANKS):
            ends = block.boundaries.ends
            return block.data[: ends[max(0, int(np.searchsorted(ends, _SAMPLE, "right")) - 1)]]
    return b""


def _infer_types(lines: _Lines, begin: int, end: int, seen: dict[str, list[pa.DataType | None]]) -> None:
    """Adds to `seen` the types that some lines show; halves what Arrow refuses, as `_parse_lines` does."""
    if begin == end:
        return
    table = lines.table(begin, end, None)
    if table is not None:
        for field in table.schema:
            kind = field.type if pa.types.is_null(field.type) else column_types.normalise(field.type)
            seen.setdefault(field.name, []).append(kind)
    elif end - begin > _FEW:
        middle = (begin + end) // 2
        _infer_types(lines, begin, middle, seen)
        _infer_types(lines, middle, end, seen)
    else:
        for position in range(begin, end):
            try:
                parsed = _object(lines.content(position, position + 1))
            except _BadLine:
                continue
            for name, value in parsed.items():
                if _is_unicode(name):  # else it cannot name a column
                    seen.setdefault(name, []).append(_kind(value))


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # half of a surrogate pair
        return False
    return True


def _kind(value: Any) -> pa.DataType | None:
    try:
        return pa.null() if value is None else column_types.normalise(pa.array([value]).type)
    except OverflowError:
        return pa.string()
    except UnicodeEncodeError:
        return pa.null()  # its row will not fit
    except pa.ArrowException:
        return None
