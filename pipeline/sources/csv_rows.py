"""From the bytes of whole delimited rows to Arrow columns: parsed as one batch, and what does not fit one by one."""

import codecs
import hashlib
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from ..errors import RequestError
from . import column_types, row_boundaries, utf8
from .column_types import FLOAT32_MAX, Policies
from .listing import RecordRange
from .record_source import Rows, collect_rows
from .row_errors import RowError, shorten

_BLANKS = " \t"
_BOM = codecs.BOM_UTF8
_UNCLOSED = RowError("unclosed_quote", "expected a closing quote, found none before the row's end or before other text")
_NUMBER = r"^[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?$"
_INTEGER = r"^-?[0-9]+$"


@dataclass(frozen=True)
class Format:
    """How fields are cut and understood; see `Csv`.

    Attributes:
      dialect: How fields are cut.
      missing: What stands for a missing value; without blanks around it, where they do not count.
      nonfinite: What is done with NaN and infinities.
      encoding: The file's.
    """

    dialect: row_boundaries.Dialect
    missing: tuple[str, ...]
    nonfinite: Policies
    encoding: str = "UTF-8"


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


def read_rows(record_range: RecordRange, text: Text, schema: pa.Schema, form: Format) -> Rows:
    """Reads the rows of a range, or some of them, whose first row and line the range then gives."""
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
        batch = _parse_doubted(_cleaned(batch, form, False), schema)
    except pa.ArrowInvalid:
        rows = rows or _RangeRows(array, form)
        removed |= _wrong_columns(rows, removed, text.names, form)
        data = array[rows.keep(removed)].tobytes()
        raw = pa.schema([(name, pa.binary()) for name in schema.names])
        batch, misfits = _parse(data, text.names, raw, replace(form, missing=()), quoted)
        batch = _convert_columns(_cleaned(batch, form, True), schema, form, errors)
    batch = column_types.apply_nonfinite(batch, form.nonfinite, errors)
    numbers = np.arange(batch.num_rows + len(misfits) + len(removed), dtype=np.int64)
    if removed:
        numbers = np.delete(numbers, list(removed))
    if misfits:
        places = [place for place, _ in misfits]
        removed |= dict(zip(numbers[places].tolist(), (row_error for _, row_error in misfits), strict=True))
        numbers = np.delete(numbers, places)

    def describe(number: int) -> tuple[str, str]:
        nonlocal rows
        rows = rows or _RangeRows(array, form)
        row = rows.row(number - record_range.first_row)
        line = record_range.first_line + int(
            np.searchsorted(rows.boundaries.lines, rows.starts[number - record_range.first_row])
        )
        return f"{record_range.uri}, line {line}", hashlib.sha256(row.rstrip(b"\r\n")).hexdigest()

    others = {record_range.first_row + number: row_error for number, row_error in removed.items()}
    return collect_rows(record_range, batch, record_range.first_row + numbers, errors, others, describe)


def infer(text: Text, columns: Sequence[str], form: Format, uri: str, warnings: list[str]) -> dict[str, pa.DataType]:
    """The types of a sample's columns; null for one without values.

    Raises:
      RequestError: no row has the expected number of fields.
    """
    array = np.frombuffer(text.data, np.uint8)
    rows = _RangeRows(array, form)
    raw = pa.schema([(name, pa.binary()) for name in columns or text.names[:1]])
    removed = _wrong_columns(rows, rows.errors, text.names, form)
    data = array[rows.keep([*rows.errors, *removed])].tobytes()
    batch, misfits = _parse(data, text.names, raw, replace(form, missing=()), quoted=True)
    others = [*removed.values(), *(row_error for _, row_error in misfits)]
    if others and len(others) >= len(rows.starts) - len(rows.errors):
        raise RequestError(
            f"{uri}: {others[0].message}, and no row of its beginning has as many; "
            "check the delimiter, the quote and the names"
        )
    invalid = utf8.invalid_rows(array, rows.ends)
    if len(invalid):
        row = rows.row(int(invalid[0])).rstrip(b"\r\n")
        advice = column_types.encoding_advice(row) if form.encoding == "UTF-8" else ""
        warnings.append(
            f"{uri}: {len(invalid)} of the {len(rows.starts)} rows of its beginning are not in {form.encoding}, as "
            f"{shorten(row)}{advice}; where such bytes are in a column that is read, the row is quarantined"
        )
    types = {}
    for name in columns:
        types[name] = _infer(name, _clean(batch[name], form, True).view(pa.string()).drop_null(), uri, warnings)
    return types


def _infer(name: str, values: pa.Array, uri: str, warnings: list[str]) -> pa.DataType:
    """The type of a column's strings in a sample; warns where most of them, but not all, are numbers."""
    if not len(values):
        return pa.null()
    if pc.any(pc.match_substring_regex(values, r"^-?0[0-9]")).as_py():
        return pa.string()  # 02134 is a name: as a number it would lose a digit
    for kind in (pa.int64(), pa.float64()):
        try:
            column_types.parse(values, kind)
        except pa.ArrowInvalid:
            continue
        if kind == pa.float64() and pc.all(pc.match_substring_regex(values, _INTEGER)).as_py():
            warnings.append(
                f"{uri}: the column {name!r} holds integers beyond int64: it is read as string, which loses no "
                "digit; declare it float64 to have numbers"
            )
            return pa.string()
        return kind
    numbers = pc.match_substring_regex(values, _NUMBER)
    count = pc.sum(numbers).as_py()
    if 2 * count >= len(values):
        value = values.filter(pc.invert(numbers))[0].cast(pa.binary()).as_py().decode("utf-8", "replace")
        warnings.append(
            f"{uri}: the column {name!r} holds {count} numbers and {len(values) - count} other strings such as "
            f"{shorten(value)} in its beginning: it is read as string; declare it float64 to quarantine the others"
        )
    return pa.string()


def _doubted(data: bytes, schema: pa.Schema, form: Format) -> pa.Schema:
    """The schema, with those columns as strings of whose numbers Arrow's parser might make something else.

    It strips blanks by itself, after it has looked for missing values: a token that is a number would be one. And it
    takes hexadecimal.
    """
    hexadecimal = any(mark in data and b"0" + mark in data for mark in (b"x", b"X"))
    fields = []
    for field in schema:
        doubted = pa.types.is_int64(field.type) and hexadecimal
        if form.dialect.strip and (pa.types.is_int64(field.type) or pa.types.is_float64(field.type)):
            numbers = column_types.numbers_among(form.missing, field.type).values()
            kept = column_types.policy(form.nonfinite, field.name) != "missing"
            doubted |= any(kept or abs(number) <= FLOAT32_MAX for number in numbers)  # the others become missing anyway
        fields.append(field.with_type(pa.string()) if doubted else field)
    return pa.schema(fields)


def _parse_doubted(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """A batch, cleaned, whose doubted columns become what the schema says.

    Raises:
      pa.ArrowInvalid: a value does not fit its type.
    """
    columns = [
        column if column.type == field.type else column_types.parse(pc.ascii_trim(column, _BLANKS), field.type)
        for field, column in zip(schema, batch.columns, strict=True)
    ]
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
        every |= pc.sum(pc.binary_length(stripped)) != pc.sum(pc.binary_length(strings))
        strings = stripped
    if every and form.missing:
        missing = pc.is_in(strings, pa.array(form.missing, pa.string()))
        strings = pc.if_else(missing, pa.scalar(None, pa.string()), strings)
    return strings.view(column.type)


def _convert_columns(
    batch: pa.RecordBatch, schema: pa.Schema, form: Format, errors: dict[int, RowError]
) -> pa.RecordBatch:
    """Binary columns, cleaned, as the schema's types; what does not fit goes into `errors`."""
    columns = []
    for field, column in zip(schema, batch.columns, strict=True):
        if not pa.types.is_binary(field.type):
            column = column_types.convert(column, pa.string(), field.name, errors, form.encoding)
        if not (pa.types.is_binary(field.type) or pa.types.is_string(field.type)):
            column = column_types.convert(pc.ascii_trim(column, _BLANKS), field.type, field.name, errors)
        columns.append(column)
    return pa.RecordBatch.from_arrays(columns, schema=schema)


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
