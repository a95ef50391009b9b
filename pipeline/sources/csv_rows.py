"""From the bytes of whole delimited rows to Arrow columns: parsed as one batch, and what does not fit one by one."""

import codecs
import hashlib
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from . import column_types, inference, row_boundaries, utf8
from .column_types import FLOAT32_MAX, Policies
from .inference import Evidence, Wheres
from .listing import RecordRange
from .record_source import Rows, collect_rows
from .row_errors import RowError, shorten

_BLANKS = " \t"
_BOM = codecs.BOM_UTF8
_UNCLOSED = RowError("unclosed_quote", "expected a closing quote, found none before the row's end or before other text")
_WHOLE = r"^(-?[0-9]+)\.0*$"


@dataclass(frozen=True)
class Format:
    """How fields are cut and understood; see `Csv`.

    Attributes:
      dialect: How fields are cut.
      missing: What stands for a missing value; without blanks around it, where they do not count.
      nonfinite: What is done with NaN and infinities.
      encoding: The file's.
      inferred: The columns whose types were inferred, and must lose nothing that the values are written with.
    """

    dialect: row_boundaries.Dialect
    missing: tuple[str, ...]
    nonfinite: Policies
    encoding: str = "UTF-8"
    inferred: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Text:
    """Whole rows in UTF-8, or nearly so, and the names of their columns."""

    data: bytes
    names: Sequence[str]


@dataclass
class _RangeRows:
    """A range's rows, numbered from 0 without the blank lines."""

    data: np.ndarray
    form: Format

    def __post_init__(self) -> None:
        self.boundaries = row_boundaries.find_boundaries(self.data, self.form.dialect)
        filled = self.boundaries.filled(self.data)
        self.starts, self.ends = self.boundaries.starts[filled], self.boundaries.ends[filled]
        trailing, unclosed = (
            np.searchsorted(filled, rows).tolist() for rows in (self.boundaries.trailing, self.boundaries.unclosed)
        )
        self.errors = {row: self._trailing_error(row) for row in trailing} | dict.fromkeys(unclosed, _UNCLOSED)

    def _trailing_error(self, row: int) -> RowError:
        advice = ""
        if self.form.dialect.escape is None and b'\\"' in self.row(row):
            advice = "; if quotes are escaped, declare Csv(escape='\\\\')"
        message = "expected the delimiter or the row's end after a closing quote, found other text"
        return RowError("text_after_quote", f"{message}{advice}")

    def keep(self, removed: Iterable[int]) -> np.ndarray:
        """Which bytes a parser is to see."""
        keep = np.ones(len(self.data), bool)
        for row in removed:
            keep[self.starts[row] : self.ends[row]] = False
        for begin, end in self.boundaries.blanks:
            keep[begin:end] = False
        return keep

    def row(self, number: int) -> bytes:
        return self.data[self.starts[number] : self.ends[number]].tobytes()


def read_rows(
    record_range: RecordRange, text: Text, schema: pa.Schema, form: Format, names: np.ndarray | None = None
) -> Rows:
    """Reads the rows of a range, or some of them, whose first row and line the range then gives.

    Args:
      record_range: Where they are.
      text: The rows.
      schema: The columns to read.
      form: How fields are cut and understood.
      names: What stands for the rows' numbers: int64, ascending, one for each row that is no blank line.
    """
    array = np.frombuffer(text.data, np.uint8)
    quoted = any(mark is not None and bytes([mark]) in text.data for mark in (form.dialect.quote, form.dialect.escape))
    rows: _RangeRows | None = None
    removed: dict[int, RowError] = {}
    data = text.data
    if quoted:
        rows = _RangeRows(array, form)
        if not rows.boundaries.well_formed:
            removed = dict(rows.errors)
            data = array[rows.keep(removed)].tobytes()
    errors: dict[int, RowError] = {}
    try:
        _check_utf8(data)  # Arrow's parser cannot report a row that is none and has a wrong number of fields
        batch, misfits = _parse(data, text.names, _doubted(data, schema, form), form, quoted)
        batch = _parse_doubted(_cleaned(batch, form, False), schema, form)
    except pa.ArrowInvalid:
        rows = rows or _RangeRows(array, form)
        removed |= _wrong_columns(rows, removed, text.names, form)
        data = array[rows.keep(removed)].tobytes()
        raw = pa.schema([(name, pa.binary()) for name in schema.names])
        batch, misfits = _parse(data, text.names, raw, replace(form, missing=()), quoted)
        batch = _convert_columns(_cleaned(batch, form, True), schema, form, errors)
    batch, notes = column_types.apply_nonfinite(batch, form.nonfinite, errors)
    numbers = np.arange(batch.num_rows + len(misfits) + len(removed), dtype=np.int64)
    if removed:
        numbers = np.delete(numbers, list(removed))
    if misfits:
        places = [place for place, _ in misfits]
        removed |= dict(zip(numbers[places].tolist(), (row_error for _, row_error in misfits), strict=True))
        numbers = np.delete(numbers, places)

    count = len(numbers) + len(removed)
    row_numbers = np.arange(record_range.first_row, record_range.first_row + count) if names is None else names

    def describe(number: int) -> tuple[str, str]:
        nonlocal rows
        rows = rows or _RangeRows(array, form)
        position = int(np.searchsorted(row_numbers, number))
        line = int(np.searchsorted(rows.boundaries.lines, rows.starts[position]))
        place = f"byte {number}" if record_range.first_line < 0 else f"line {record_range.first_line + line}"
        return f"{record_range.uri}, {place}", hashlib.sha256(rows.row(position).rstrip(b"\r\n")).hexdigest()

    others = {int(row_numbers[position]): row_error for position, row_error in removed.items()}
    return collect_rows(record_range, batch, row_numbers[numbers], errors, others, describe, notes)


@dataclass
class Looked:
    """What rows that were looked at show, but for their values.

    Attributes:
      rows: How many rows there were, without those with quotes at fault.
      misfits: How many of them have a wrong number of fields.
      misfit: What is wrong with the first of these.
      invalid: How many hold bytes that are not of the encoding.
      invalid_row: The first of these.
    """

    rows: int = 0
    misfits: int = 0
    misfit: str = ""
    invalid: int = 0
    invalid_row: bytes = b""

    def merge(self, other: "Looked") -> None:
        """Adds what further rows show."""
        self.rows, self.misfits, self.invalid = (
            self.rows + other.rows, self.misfits + other.misfits, self.invalid + other.invalid
        )  # fmt: skip
        self.misfit, self.invalid_row = self.misfit or other.misfit, self.invalid_row or other.invalid_row


@dataclass(frozen=True)
class Sample:
    """Values that are looked at.

    Attributes:
      uri: What the rows' place is called.
      lines: int64 [rows], the line of each.
      columns: As they stand there: dictionaries of bytes.
    """

    uri: str
    lines: np.ndarray
    columns: pa.RecordBatch


def look(text: Text, columns: Sequence[str], form: Format, uri: str, first_line: int) -> tuple[Looked, Sample]:
    """What rows show, and their values.

    Args:
      text: Whole rows.
      columns: The columns.
      form: How fields are cut.
      uri: The file.
      first_line: The line that the first row begins at.
    """
    array = np.frombuffer(text.data, np.uint8)
    rows = _RangeRows(array, form)
    distinct = pa.dictionary(pa.int32(), pa.binary())
    raw = pa.schema([(name, distinct) for name in columns or text.names[:1]])
    removed = rows.errors | _wrong_columns(rows, rows.errors, text.names, form)
    data = array[rows.keep(removed)].tobytes() if removed or len(rows.boundaries.blanks) else text.data
    batch, misfits = _parse(data, text.names, raw, replace(form, missing=()), quoted=True)
    wrong = [each for number, each in removed.items() if number not in rows.errors] + [each for _, each in misfits]
    numbers = np.delete(np.arange(len(rows.starts)), list(removed))
    numbers = np.delete(numbers, [place for place, _ in misfits])
    lines = first_line + np.searchsorted(rows.boundaries.lines, rows.starts[numbers])
    invalid = utf8.invalid_rows(array, rows.ends)
    looked = Looked(
        rows=len(rows.starts) - len(rows.errors),
        misfits=len(wrong),
        misfit=wrong[0].message if wrong else "",
        invalid=len(invalid),
        invalid_row=rows.row(int(invalid[0])).rstrip(b"\r\n") if len(invalid) else b"",
    )
    return looked, Sample(uri, lines, batch)


def evidence_of(name: str, samples: Sequence[Sample], form: Format) -> Evidence:
    """How a column's values are written: of equal ones the first is looked at.

    Args:
      name: The column.
      samples: Rows that follow each other; at least one.
      form: How values are understood.
    """
    column = pa.concat_arrays([sample.columns[name] for sample in samples])
    strings = _clean(column.dictionary, form, True).view(pa.string())
    codes, valid = np.asarray(column.indices), np.flatnonzero(np.asarray(strings.is_valid()))
    values, counts = strings.drop_null(), np.bincount(codes, minlength=len(strings))[valid]
    wheres = Wheres([(sample.uri, sample.lines) for sample in samples], partial(_first_row, codes, valid))
    return inference.collect(values, inference.classify(values), wheres, counts)


def _first_row(codes: np.ndarray, valid: np.ndarray, position: int) -> int:
    """The first row with one of the codes, by its position among those that are valid."""
    return int(np.argmax(codes == valid[position]))


def _doubted(data: bytes, schema: pa.Schema, form: Format) -> pa.Schema:
    """The schema, with those columns as strings of whose numbers Arrow's parser might make something else.

    It strips blanks by itself, after it has looked for missing values: a token that is a number would be one. It takes
    hexadecimal. And it takes zeros before other digits, which a column whose type was inferred must not lose.
    """
    zeros, hexadecimal = _zeros(data, form)
    fields = []
    for field in schema:
        is_number = pa.types.is_int64(field.type) or pa.types.is_float64(field.type)
        doubted = (pa.types.is_int64(field.type) and hexadecimal) or (
            is_number and zeros and field.name in form.inferred
        )
        if form.dialect.strip and is_number:
            numbers = column_types.numbers_among(form.missing, field.type).values()
            kept = column_types.policy(form.nonfinite, field.name) != "missing"
            doubted |= any(kept or abs(number) <= FLOAT32_MAX for number in numbers)  # the others become missing anyway
        fields.append(field.with_type(pa.string()) if doubted else field)
    return pa.schema(fields)


def _zeros(data: bytes, form: Format) -> tuple[bool, bool]:
    """Whether any field may begin with a zero before another digit, where that matters; and any with 0x."""
    array = np.frombuffer(data, np.uint8)
    is_zero, after = array[:-1] == ord("0"), array[1:]
    hexadecimal = bool((is_zero & ((after | np.uint8(0x20)) == ord("x"))).any())  # a search for two bytes takes longer
    if not form.inferred:
        return False, hexadecimal
    zeros = np.flatnonzero(is_zero & (after - np.uint8(ord("0")) <= 9))  # other bytes wrap around
    zeros = zeros - ((array[zeros - 1] == ord("-")) & (zeros > 0))
    marks = [form.dialect.delimiter, form.dialect.quote or 0, *b"\r\n \t"]
    return bool(((zeros == 0) | np.isin(array[zeros - 1], marks)).any()), hexadecimal


def _parse_doubted(batch: pa.RecordBatch, schema: pa.Schema, form: Format) -> pa.RecordBatch:
    """A batch, cleaned, whose doubted columns become what the schema says.

    Raises:
      pa.ArrowInvalid: a value does not fit its type.
    """
    columns = []
    for field, column in zip(schema, batch.columns, strict=True):
        if column.type != field.type:
            strings = pc.ascii_trim(column, _BLANKS)
            if field.name in form.inferred and inference.has_zeros(strings).any():
                raise pa.ArrowInvalid("zeros before other digits")
            column = column_types.parse(strings, field.type)
        columns.append(column)
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _parse(
    data: bytes, names: Sequence[str], schema: pa.Schema, form: Format, quoted: bool
) -> tuple[pa.RecordBatch, list[tuple[int, RowError]]]:
    """Parses whole rows; also gives those with another number of fields, by position among the rows.

    Raises:
      pa.ArrowInvalid: a value does not fit its type or is no UTF-8.
    """
    if not data:
        return pa.RecordBatch.from_pylist([], schema=schema), []
    if data[:1] == _BOM[:1]:  # Arrow takes one away, wherever in the file these rows are
        data = _BOM + data
    if form.dialect.escape is not None:
        data = _keep_nulls(data, form.dialect)
    misfits: list[tuple[int, RowError]] = []

    def misfit(row: "pa.csv.InvalidRow") -> str:
        message = f"expected {row.expected_columns} fields, found {row.actual_columns}"
        misfits.append((row.number - 1, RowError("wrong_columns", message)))
        return "skip"

    quote = chr(form.dialect.quote) if quoted and form.dialect.quote is not None else False
    tokens = [*form.missing, *(f" {token}" for token in form.missing)] if form.dialect.strip else list(form.missing)
    table = pa.csv.read_csv(
        pa.BufferReader(data),
        read_options=pa.csv.ReadOptions(column_names=list(names), use_threads=False, block_size=len(data) + 1),
        parse_options=pa.csv.ParseOptions(
            delimiter=chr(form.dialect.delimiter),
            quote_char=quote,
            escape_char=False if form.dialect.escape is None else chr(form.dialect.escape),
            newlines_in_values=quoted,
            invalid_row_handler=misfit,
        ),
        convert_options=pa.csv.ConvertOptions(
            include_columns=schema.names,
            column_types=schema,
            null_values=tokens,
            strings_can_be_null=bool(tokens),
        ),
    )
    batches = table.combine_chunks().to_batches()
    return batches[0] if batches else pa.RecordBatch.from_pylist([], schema=schema), misfits


def _cleaned(batch: pa.RecordBatch, form: Format, every: bool) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([_clean(column, form, every) for column in batch.columns], schema=batch.schema)


def _check_utf8(data: bytes) -> None:
    if not data.isascii():
        offsets = pa.py_buffer(np.array([0, len(data)], np.int32))
        pa.Array.from_buffers(pa.string(), 1, [None, offsets, pa.py_buffer(data)]).validate(full=True)


def _clean(column: pa.Array, form: Format, every: bool) -> pa.Array:
    """A column of strings without the blanks around them, and with what then stands for missing as null.

    Args:
      column: A column of the parser's; all but strings and bytes are left as they are.
      form: What is missing, and whether blanks count.
      every: Whether the parser did not look for missing values.
    """
    if not (pa.types.is_string(column.type) or pa.types.is_binary(column.type)):
        return column
    strings = column.view(pa.string())
    if form.dialect.strip:
        stripped = pc.ascii_trim(strings, _BLANKS)
        every |= _total_bytes(stripped) != _total_bytes(strings)
        strings = stripped
    if every and form.missing:
        missing = pc.is_in(strings, pa.array(form.missing, pa.string()))
        if pc.any(missing).as_py():  # else nothing is copied
            strings = pc.if_else(missing, pa.scalar(None, pa.string()), strings)
    return strings.view(column.type)


def _total_bytes(strings: pa.StringArray) -> int:
    """The bytes of all values, from where the first begins to where the last ends."""
    if not len(strings):
        return 0
    offsets = np.frombuffer(strings.buffers()[1], np.int32, len(strings) + 1, 4 * strings.offset)
    return int(offsets[-1]) - int(offsets[0])


def _convert_columns(
    batch: pa.RecordBatch, schema: pa.Schema, form: Format, errors: dict[int, RowError]
) -> pa.RecordBatch:
    """Binary columns, cleaned, as the schema's types; what does not fit goes into `errors`."""
    columns = []
    for field, column in zip(schema, batch.columns, strict=True):
        if not pa.types.is_binary(field.type):
            column = column_types.convert(column, pa.string(), field.name, errors, form.encoding)
        if not (pa.types.is_binary(field.type) or pa.types.is_string(field.type)):
            column = pc.ascii_trim(column, _BLANKS)
            if field.name in form.inferred:
                column = _without_zeros(column, field, errors)
            column = column_types.convert(column, field.type, field.name, errors)
        columns.append(column)
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _without_zeros(strings: pa.StringArray, field: pa.Field, errors: dict[int, RowError]) -> pa.StringArray:
    """Strings that become numbers of an inferred type: zeros before other digits do not fit; as int64, 3.0 is 3."""
    zeros = inference.has_zeros(strings)
    for position in np.flatnonzero(zeros).tolist():
        message = (
            f"expected {field.type} in the column {field.name!r}, found {shorten(strings[position].as_py())}, which "
            "would lose its zeros as a number; declare the column as string"
        )
        errors.setdefault(position, RowError("wrong_type", message))
    if zeros.any():
        strings = pc.if_else(pa.array(zeros), pa.scalar(None, pa.string()), strings)
    return pc.replace_substring_regex(strings, _WHOLE, r"\1") if pa.types.is_int64(field.type) else strings


def _wrong_columns(
    rows: _RangeRows, removed: Collection[int], names: Sequence[str], form: Format
) -> dict[int, RowError]:
    """Rows with a wrong number of fields, if any row is no UTF-8: such a one Arrow cannot report.

    They are counted in text of the same length, in which a letter stands for each byte that is part of no character.
    """
    invalid = utf8.invalid_bytes(rows.data)
    if not len(invalid):
        return {}
    data = rows.data.copy()
    data[invalid] = form.dialect.letter
    schema = pa.schema([(names[0], pa.binary())])
    _, misfits = _parse(data[rows.keep(removed)].tobytes(), names, schema, form, form.dialect.quote is not None)
    numbers = np.delete(np.arange(len(rows.starts)), list(removed))
    return {int(numbers[position]): row_error for position, row_error in misfits}


def _keep_nulls(data: bytes, dialect: row_boundaries.Dialect) -> bytes:
    """Text in which a field of an escape and an N alone, what databases write for a missing value, is kept as it is."""
    assert dialect.escape is not None
    if bytes([dialect.escape]) + b"N" not in data:
        return data
    array = np.frombuffer(data, np.uint8)
    escaped = row_boundaries.escaped_bytes(array, dialect.escape)
    ends = np.isin(array, [dialect.delimiter, *b"\r\n"])
    ends[escaped[escaped < len(data)]] = False
    ends = np.append(ends, True)  # also at -1
    letters = escaped[escaped < len(data)]
    fields = letters[(array[letters] == ord("N")) & ends[letters - 2] & ends[letters + 1]]
    return np.insert(array, fields, dialect.escape).tobytes()
