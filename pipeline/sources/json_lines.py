"""JSON Lines: one JSON object a line."""

import contextlib
import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import KW_ONLY, dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json

from ..errors import PenstockError, RequestError
from ..formats.column_notes import LEFT_OUT, ColumnNote
from ..storage.files import FileInfo
from . import column_types, json_nesting, row_blocks, row_boundaries, utf8
from .column_types import REST, Columns, Policies
from .file_content import (
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
from .inference import Cell
from .listing import RecordListing, RecordRange
from .record_source import Rows, collect_rows, concat_rows
from .row_blocks import RowBlock
from .row_errors import RowError, shorten
from .sampling import Excerpt, choose_excerpts, whole_rows
from .table_schema import TableSchema, with_rules
from .text_ranges import text_ranges
from .typed_evidence import BEYOND, MIXED, NESTED, Kind, TypedEvidence, infer_typed, merge_evidence

_FEW = 8  # lines that are looked at one by one
_MOST_LINES = 2048  # that are read at once with all their keys: a table of as many columns as there are keys
_LINES = row_boundaries.Dialect(delimiter=0, quote=None, strip=False, skip_blanks=True)
_BLANKS = b" \t\r\n"
_BOM = b"\xef\xbb\xbf"
_INT64, _EXACT = 2.0**63, 2.0**53
_LARGEST_BITS = 1024  # of an integer, from which on float64 may not hold it
_ARROWS = re.compile(
    r'"(?:[^"\\]|\\.)*"|-?Inf(?:inity)?|-NaN'
)  # numbers that Arrow knows, and strings, which hold none
_NUMBERS = {"Inf": "Infinity", "-Inf": "-Infinity", "-NaN": "NaN"}
_DIGITS = 640  # which Python's limit on integers in text is never below
_SCALARS = {bool: pa.int64(), int: pa.int64(), type(None): pa.null()}


@dataclass(frozen=True)
class JsonLines:
    """Files of one JSON object a line, in UTF-8, under the input folder, read as one table.

    A line of blanks alone is no row; one that holds anything but one object, is no UTF-8, or nests objects and lists
    deeper than 64 levels does not fit, whatever of it is read.
    Numbers, strings, booleans (as 0 and 1) and lists of these are read; a key that an object lacks is a missing value.
    A key whose values are mostly objects, lists of lists, or lists of numbers and strings is refused: name with
    `columns` the keys to read, or declare "list<string>" for the latter. Where these are few, their rows do not fit.

    Attributes:
      pattern: Glob pattern, or several. Files that end in .gz, .bz2, .zst or .lz4 are decompressed; each is one range,
        which is read as a stream. A line may have 64 MiB; a longer one does not fit.
      columns: The keys to read: name to a type such as "int64" or "list<string>", or "auto" to infer it from all
        files, or from parts of them all where these are larger than 128 MiB. `"*": "auto"` is every other key. None:
        all. Keys that no line that was looked at has are not read, and counted and named at the commit.
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
        with ThreadPoolExecutor(reading_threads(matched.values())) as pool:
            ranges = []
            total = sum(info.size for info in matched.values() if not compression(info.uri))
            parts = pool.map(lambda item: _list_ranges(item[0], item[1], range_bytes, total), matched.items())
            for info, file_ranges in zip(matched.values(), parts, strict=True):
                if not file_ranges:
                    warnings.append(f"{info.uri} holds no rows")
                ranges += file_ranges
            looked = list(pool.map(_look, choose_excerpts(ranges)))
        schema, reasons = self._schema(next(iter(matched.values())).uri, looked, warnings)
        table_schema = with_rules(schema, self.nonfinite, reasons=reasons)
        return RecordListing(ranges, table_schema, warnings, digest_files(matched.items()), versions_of(matched))

    def read(self, record_range: RecordRange, schema: TableSchema) -> Rows:
        """Reads a range; see `RecordSource`."""
        return concat_rows(list(self.stream(record_range, schema)), schema.columns, record_range.uri)

    def stream(self, record_range: RecordRange, schema: TableSchema) -> Iterator[Rows]:
        """Reads a range, a compressed file a part at a time; see `StreamingSource`."""
        before = 0
        for block in _blocks(record_range):
            part = row_blocks.part_of(record_range, block)
            if block.too_long:
                yield row_blocks.read_too_long(part, block, schema.columns)
                continue
            rows = self._read_lines(part, block.data, schema)
            yield replace(rows, size=None if block.position is None else block.position - before)
            before = block.position or 0

    def fetch(self, record_range: RecordRange, schema: TableSchema, reader: PartReader) -> FileParts | None:
        """Fetches a range's bytes; see `FetchableSource`."""
        return None if compression(record_range.uri) else row_blocks.fetch_range(record_range, reader)

    def row_dialect(self, record_range: RecordRange) -> row_boundaries.Dialect:
        """How a range's text is cut into lines; see `DelimitedSource`."""
        return _LINES

    def _read_lines(self, record_range: RecordRange, data: bytes, schema: TableSchema) -> Rows:
        """Reads lines, whose first row and line the range gives."""
        lines = _Lines(data)
        errors: dict[int, RowError] = {}
        others = {record_range.first_row + position: row_error for position, row_error in lines.errors.items()}
        left_out: dict[str, tuple[int, int]] = {}
        parse = _Parser(lines, schema.columns, errors, left_out if column_types.reads_all(self.columns) else None)
        batches = list(parse.batches(0, len(lines.starts)))
        batch = column_types.one_batch(pa.Table.from_batches(batches, schema.columns), record_range.uri)
        batch, notes = column_types.apply_nonfinite(batch, self.nonfinite, errors)
        for name, (count, first) in left_out.items():
            line = record_range.first_line + lines.describe(int(lines.numbers[first]))[0]
            where = f"in {record_range.uri}, line {line}"
            notes[LEFT_OUT, name] = ColumnNote(count, 0, where, (record_range.key, line))

        def describe(number: int) -> tuple[str, str]:
            line, content = lines.describe(number - record_range.first_row)
            return f"{record_range.uri}, line {record_range.first_line + line}", hashlib.sha256(content).hexdigest()

        numbers = record_range.first_row + lines.numbers
        return collect_rows(record_range, batch, numbers, errors, others, describe, notes)

    def _schema(
        self, uri: str, looked: Iterable[Mapping[str, TypedEvidence]], warnings: list[str]
    ) -> tuple[pa.Schema, dict[str, str]]:
        """The keys to read, with the declared types, or those that hold all that was seen; and why.

        Args:
          uri: The first file.
          looked: What the parts of the input that were looked at show.
          warnings: Takes the warnings.
        """
        seen = merge_evidence(looked)
        if not seen:
            raise RequestError(f"{uri}: expected one JSON object a line, found none; is it JSON Lines?")
        known = [name for name in self.columns or () if column_types.declared(self.columns, name) is not None]
        keys = [*seen, *(name for name in known if name not in seen and name != REST)]  # rare keys may be declared
        names = column_types.select(self.columns, keys, uri)
        unknown = [name for name in names if column_types.declared(self.columns, name) is None]
        for name in unknown:
            _check_odd(name, seen[name], warnings)
        inferred = {name: infer_typed(name, seen[name]) for name in unknown}
        return column_types.choose_types(names, self.columns, inferred, warnings)


def _check_odd(name: str, evidence: TypedEvidence, warnings: list[str]) -> None:
    """Warns of values that are no column's; raises RequestError where most of a key's values are none."""
    for kind, count in evidence.odd.items():
        cell = evidence.firsts[kind]
        if evidence.odd.total() < evidence.proper:
            warnings.append(f"{name!r} holds {count} {kind}, the first {cell}: their rows are quarantined")
            continue
        advice = "name with columns=... the keys to read"
        if kind == MIXED:
            advice = f"declare columns={{{name!r}: 'list<string>', '*': 'auto'}} to read all of them as strings"
        raise RequestError(
            f"{cell.where}: expected numbers, strings or lists of either under {name!r}, found {kind}, as "
            f"{shorten(cell.value)}; {advice}"
        )


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

    def table(self, begin: int, end: int, schema: pa.Schema | None, other_keys: bool = True) -> pa.Table | None:
        """What Arrow reads from some lines; None where one of them is not one object, or does not fit the schema.

        Keys that are not in the schema are read too if `other_keys`.

        Arrow reads objects, whatever the lines. As many objects as lines are one a line if each line begins with { and
        ends with }: an object over several lines would have a { after a } without a comma.
        """
        if not self._framed[begin:end].all():
            return None
        data = self.content(begin, end)
        try:
            table = _read_json(data, schema, other_keys)
            if table.num_rows == end - begin:
                if schema is None or not data.isascii():  # of lists that begin with null, Arrow can lose the null
                    table.validate(full=not data.isascii())
                return table
        except pa.ArrowInvalid:
            pass
        return None


def _list_ranges(key: str, info: FileInfo, range_bytes: int, total: int) -> list[RecordRange]:
    if not info.size:
        return []
    if compression(info.uri) or info.size <= range_bytes:
        return [RecordRange(info.uri, key, 0, info.size, 0, -1, info.size, 1)]
    with open_range(info.uri, RequestError, 0, len(_BOM)) as file:
        begin = len(_BOM) if read_fully(file, len(_BOM)) == _BOM else 0
    return text_ranges(info, key, _LINES, range_bytes, total, begin)


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


def _read_json(data: bytes, schema: pa.Schema | None, other_keys: bool) -> pa.Table:
    return pa.json.read_json(
        pa.BufferReader(data),
        read_options=pa.json.ReadOptions(use_threads=False, block_size=len(data) + 1),
        parse_options=pa.json.ParseOptions(
            explicit_schema=schema, unexpected_field_behavior="infer" if other_keys else "ignore"
        ),
    )


@dataclass
class _Parser:
    """Reads lines as columns.

    Attributes:
      lines: The lines.
      schema: The columns.
      errors: Takes the lines that do not fit, by position.
      left_out: Takes, by key that is not in the schema, how many lines hold a value of it, and the first one's
        position; None: nobody asks.
    """

    lines: _Lines
    schema: pa.Schema
    errors: dict[int, RowError]
    left_out: dict[str, tuple[int, int]] | None

    def batches(self, begin: int, end: int) -> Iterator[pa.RecordBatch]:
        """Batches of the lines from `begin` to `end`; halves what Arrow refuses until few lines are left."""
        if begin == end:
            return
        table = None
        if self.left_out is None or end - begin <= _MOST_LINES:
            table = self.lines.table(begin, end, self.schema, self.left_out is not None)
        if table is not None:
            for name in table.schema.names[len(self.schema) :]:
                self._leave_out(name, begin + np.flatnonzero(table[name].is_valid()))
            yield from table.select(self.schema.names).to_batches()
        elif end - begin > _FEW:
            middle = (begin + end) // 2
            yield from self.batches(begin, middle)
            yield from self.batches(middle, end)
        else:
            for position in range(begin, end):
                yield self._batch(position)

    def _batch(self, position: int) -> pa.RecordBatch:
        """One line; empty where it does not fit."""
        columns: list[pa.Array] = []
        try:
            parsed = _object(self.lines.content(position, position + 1), self.schema.names)
            columns = [_parse_value(parsed.get(field.name), field) for field in self.schema]
            for name, value in parsed.items() if self.left_out is not None else ():
                if name not in self.schema.names and value is not None:
                    self._leave_out(name, np.array([position]))
        except _BadLine as error:
            self.errors[position] = error.row_error
            columns = [pa.nulls(1, field.type) for field in self.schema]
        return pa.RecordBatch.from_arrays(columns, schema=self.schema)

    def _leave_out(self, name: str, positions: np.ndarray) -> None:
        """Counts values, at these positions, of a key that is not read."""
        if len(positions) and self.left_out is not None and _is_unicode(name):
            count, first = self.left_out.get(name, (0, int(positions[0])))
            self.left_out[name] = count + len(positions), first


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

    text = line.rstrip(_BLANKS).decode()
    try:
        try:
            parsed = json.loads(text, object_pairs_hook=take, parse_int=_integer)
        except json.JSONDecodeError:
            other = _ARROWS.sub(lambda token: _NUMBERS.get(token[0], token[0]), text)
            if other == text:
                raise
            parsed = json.loads(other, object_pairs_hook=take, parse_int=_integer)
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


class _LongNumber(float):
    """An integer of more digits than Python takes from text: a float, as Arrow reads it, and no string."""


def _integer(digits: str) -> int | float:
    return int(digits) if len(digits) <= _DIGITS else _LongNumber(digits)


def _parse_value(value: Any, field: pa.Field) -> pa.Array:
    """One value that Arrow's parser did not take, as a column."""
    expected = f"expected {field.type} under {field.name!r}, found {shorten(value)}"
    if field.type == pa.list_(pa.string()) and isinstance(value, list):
        item = pa.field(field.name, pa.string())
        value = [_parse_value(each, item)[0].as_py() for each in value]
    if isinstance(value, _LongNumber) and field.type != pa.float64():
        raise _BadLine("wrong_type", expected)
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
    if isinstance(value, str) and field.type not in (pa.string(), pa.list_(pa.string())):
        raise _BadLine("wrong_type", expected)
    column = column_types.convert(column, field.type, field.name, errors)
    if errors:
        raise _BadLine("wrong_type", expected)
    return column


def _look(excerpt: Excerpt) -> dict[str, TypedEvidence]:
    """The types of the keys' values in a part of the input."""
    seen: dict[str, TypedEvidence] = {}
    looked = 0
    try:
        excerpt, where = whole_rows(excerpt, _LINES)
        record_range = excerpt.record_range
        for block in _blocks(record_range):
            data = block.data
            if excerpt.is_cut:
                data = data[: max(data.rfind(b"\n"), data.rfind(b"\r")) + 1] or data
            lines = _Lines(data)
            seen = merge_evidence([seen, _infer(lines, where, record_range.first_line + block.line)])
            looked += len(data)
            if looked >= excerpt.size:
                break
    except RequestError:
        raise
    except PenstockError as error:
        raise RequestError(str(error)) from error
    return seen


def _infer(lines: _Lines, file: str, first_line: int) -> dict[str, TypedEvidence]:
    """The types that lines show, of which the first has this number."""

    def where(position: int) -> str:
        return f"{file}, line {first_line + lines.describe(int(lines.numbers[position]))[0]}"

    seen: dict[str, TypedEvidence] = {}
    _infer_types(lines, 0, len(lines.starts), where, seen)
    return seen


def _infer_types(
    lines: _Lines, begin: int, end: int, where: Callable[[int], str], seen: dict[str, TypedEvidence]
) -> None:
    """Adds to `seen` the types that some lines show; halves what Arrow refuses, as `_parse_lines` does."""
    if begin == end:
        return
    table = lines.table(begin, end, None) if end - begin <= _MOST_LINES else None
    if table is not None:
        for name, column in zip(table.schema.names, table.columns, strict=True):
            evidence = seen.setdefault(name, TypedEvidence())
            evidence.add(pa.null(), column.null_count, None)
            if column.null_count < len(column):
                beyond, first = _beyond_int64(lines, begin, name, column)
                _add_column(evidence, column, beyond, first, lambda position: where(begin + position))
                if evidence.inexact is None and (inexact := _inexact(lines, begin, name, column)):
                    evidence.inexact = Cell(inexact[1], where(inexact[0]))
    elif end - begin > _FEW:
        middle = (begin + end) // 2
        _infer_types(lines, begin, middle, where, seen)
        _infer_types(lines, middle, end, where, seen)
    else:
        for position in range(begin, end):
            try:
                parsed = _object(lines.content(position, position + 1))
            except _BadLine:
                continue
            for name, value in parsed.items():
                if _is_unicode(name):  # else it cannot name a column
                    kind = _kind(value)
                    cell = None if kind == pa.null() else Cell(value, where(position))
                    evidence = seen.setdefault(name, TypedEvidence())
                    evidence.add(kind, 1, cell)
                    integer = _first_inexact(value) if evidence.inexact is None else None
                    if integer is not None:
                        evidence.inexact = Cell(integer, where(position))


def _beyond_int64(lines: _Lines, begin: int, name: str, column: pa.ChunkedArray) -> tuple[np.ndarray, int]:
    """Which values of a column, of lines from `begin` on, are integers beyond int64, of which Arrow makes floats.

    Returns:
      bool [lines], and the first of these integers.
    """
    beyond = np.zeros(len(column), bool)
    if pa.types.is_float64(column.type):
        with np.errstate(invalid="ignore"):
            large = np.abs(column.to_numpy()) >= _INT64
        if large.any():
            first = begin + int(np.argmax(large))
            with contextlib.suppress(_BadLine):
                value = _object(lines.content(first, first + 1), ()).get(name)
                if isinstance(value, int):
                    return large, value
    return beyond, 0


def _inexact(lines: _Lines, begin: int, name: str, column: pa.ChunkedArray) -> tuple[int, int] | None:
    """The line and the value of an integer that float64 rounds, in a column or its lists, of lines from `begin` on."""
    values, rows = column, np.arange(len(column))
    if pa.types.is_list(column.type):
        values, rows = pc.list_flatten(column), np.asarray(pc.list_parent_indices(column))
    if pa.types.is_int64(values.type):
        integers = values.fill_null(0).to_numpy()
        with np.errstate(invalid="ignore"):
            changed = np.flatnonzero(integers.astype(np.float64).astype(np.int64) != integers)
        return (begin + int(rows[changed[0]]), int(integers[changed[0]])) if len(changed) else None
    if pa.types.is_float64(values.type):  # which Arrow makes of integers beside floats: the line tells
        with np.errstate(invalid="ignore"):
            large = np.unique(rows[np.abs(values.to_numpy()) >= _EXACT])
        for position in (begin + large[:_FEW]).tolist():
            with contextlib.suppress(_BadLine):
                inexact = _first_inexact(_object(lines.content(position, position + 1), ()).get(name))
                if inexact is not None:
                    return position, inexact
    return None


def _first_inexact(value: Any) -> int | None:
    """The first integer that float64 rounds, or cannot hold, of a value or of a list."""
    for each in value if isinstance(value, list) else [value]:
        is_long = isinstance(each, int) and abs(each) >= _EXACT
        if is_long and (each.bit_length() >= _LARGEST_BITS or int(float(each)) != each):
            return int(each)
    return None


def _add_column(
    evidence: TypedEvidence, column: pa.ChunkedArray, beyond: np.ndarray, integer: int, where: Callable[[int], str]
) -> None:
    """Adds the values of a column that Arrow read; `integer` is the first one beyond int64."""
    valid = np.asarray(column.is_valid())
    parts = {column_types.normalise(column.type) or NESTED: valid}
    if beyond.any():  # whole numbers beside integers beyond int64 are integers too
        whole = valid & ~beyond & (np.trunc(column.to_numpy()) == column.to_numpy())
        evidence.add(BEYOND, int(beyond.sum()), Cell(integer, where(int(np.argmax(beyond)))))
        parts = {pa.int64(): whole, pa.float64(): valid & ~beyond & ~whole}
    for kind, chosen in parts.items():
        if chosen.any():
            first = int(np.argmax(chosen))
            value = column[first].as_py()
            evidence.add(kind, int(chosen.sum()), Cell(int(value) if kind == pa.int64() else value, where(first)))


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # half of a surrogate pair
        return False
    return True


def _kind(value: Any) -> Kind:
    """The type of a value, or why it is no column's."""
    scalar = pa.float64() if isinstance(value, float) else _SCALARS.get(type(value))
    if isinstance(value, int) and not -(1 << 63) <= value < 1 << 63:
        return BEYOND
    if isinstance(value, str):
        return pa.string() if _is_unicode(value) else pa.null()  # its row will not fit
    if scalar is not None:
        return scalar
    if isinstance(value, dict) or any(isinstance(each, dict | list) for each in value):
        return NESTED
    kinds = {_kind(each) for each in value} - {pa.null()}
    if not kinds:
        return pa.list_(pa.null())
    if pa.string() in kinds and len(kinds) > 1:
        return MIXED
    return pa.list_(column_types.merge([pa.float64() if kind == BEYOND else kind for kind in kinds])[0])
