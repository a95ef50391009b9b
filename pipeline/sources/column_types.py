"""Column types: what a source's types become, how values are converted, and what is done with NaN and infinity.

Whatever the source, a column is int64, float64, string, binary, or a list of one of these. Booleans become int64, every
smaller integer too; decimals become int64 or float64 where that keeps all of their digits, else strings; dates and
times become strings in ISO form, durations int64 in their unit; dictionaries become their values. An integer becomes
the nearest float64; a string becomes a number where it is written in decimal.
"""

import contextlib
import functools
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..errors import PenstockError, RequestError
from ..formats.column_notes import OVERFLOW, ColumnNote
from . import utf8
from .row_errors import RowError, shorten

AUTO, REST = "auto", "*"
SCALARS = {"int64": pa.int64(), "float64": pa.float64(), "string": pa.string(), "binary": pa.binary()}
TYPES = {**SCALARS, **{f"list<{name}>": pa.list_(kind) for name, kind in SCALARS.items()}}
# how text must be written to be a number; not all that is written so is one
_NUMBERS = {
    pa.int64(): r"^[-+]?[0-9]+$",
    pa.float64(): r"(?i)^[-+]?([0-9]+\.?[0-9]*(e[-+]?[0-9]+)?|\.[0-9]+(e[-+]?[0-9]+)?|inf(inity)?|nan.*)$",
}
POLICIES = ("missing", "keep", "quarantine")
FLOAT32_MAX = float(np.finfo(np.float32).max)
_INT64_DIGITS, _FLOAT64_DIGITS = 18, 15  # decimal digits that every number of the type keeps

Columns = Mapping[str, str] | None
Policies = str | Mapping[str, str]


def check_columns(source: str, columns: Columns, nonfinite: Policies, types: Iterable[str] = TYPES) -> None:
    """Checks a source's `columns` and `nonfinite`.

    Raises:
      RequestError: a type or a policy is unknown.
    """
    if columns is not None and not columns:
        raise RequestError(f"{source}(columns=...): expected at least one column, found none; None is all")
    allowed = [AUTO, *types]
    for name, kind in (columns or {}).items():
        if kind not in allowed:
            raise RequestError(f"{source}(columns=...): expected {name!r} to be one of {allowed}, found {kind!r}")
    policies = nonfinite.items() if isinstance(nonfinite, Mapping) else [("all", nonfinite)]
    for name, policy in policies:
        if policy not in POLICIES:
            raise RequestError(f"{source}(nonfinite=...): expected one of {POLICIES}, found {policy!r} for {name}")
        if isinstance(nonfinite, Mapping) and columns is not None and REST not in columns and name not in columns:
            raise RequestError(f"{source}(nonfinite=...): expected one of {list(columns)}, found the column {name!r}")


def select(columns: Columns, present: Sequence[str], uri: str) -> list[str]:
    """The columns to read, in the order of the file: the declared ones, or all where none or `*` is declared.

    Raises:
      RequestError: a declared column is missing, or one to read is there twice.
    """
    missing = [name for name in columns or () if name != REST and name not in present]
    if missing:
        raise RequestError(
            f"{uri}: expected the columns {missing}, found {list(present)}; declare columns that every file has"
        )
    chosen = list(present) if columns is None or REST in columns else [name for name in present if name in columns]
    check_distinct(chosen, uri)
    return chosen


def check_distinct(names: Sequence[str], where: str) -> None:
    """Checks that no two columns have one name.

    Raises:
      RequestError: two have.
    """
    twice = sorted(name for name, count in Counter(names).items() if count > 1)
    if twice:
        raise RequestError(f"{where}: expected distinct column names, found {twice} more than once; rename them")


def reads_all(columns: Columns) -> bool:
    """Whether every column is to be read, those that are not declared too."""
    return columns is None or REST in columns


def declared(columns: Columns, name: str) -> pa.DataType | None:
    """The type that the user gave a column; None where it is to be inferred."""
    return TYPES.get((columns or {}).get(name, (columns or {}).get(REST, AUTO)))


@dataclass(frozen=True)
class Inferred:
    """The type of a column that is not declared.

    Attributes:
      type: The type; null where there were no values.
      reason: Why, in words.
      warning: What the user should know of it; "" where that is nothing.
    """

    type: pa.DataType
    reason: str
    warning: str = ""


def unite_types(types: Sequence[pa.DataType], reason: str, conflict: str) -> Inferred:
    """The type that holds values of all `types`.

    Args:
      types: What was seen.
      reason: Why it is that type.
      conflict: What to warn of where strings and numbers met.
    """
    kind, differ = merge(types)
    return Inferred(kind, reason, f"{conflict}: it is read as {kind}" if differ else "")


def choose_types(
    names: Iterable[str], columns: Columns, inferred: Mapping[str, Inferred], warnings: list[str]
) -> tuple[pa.Schema, dict[str, str]]:
    """The columns with their types, the declared or else the inferred ones; and by name why they are of these.

    Args:
      names: The columns.
      columns: What is declared.
      inferred: By name, what was inferred of a column that is not declared.
      warnings: Takes the warnings.
    """
    fields, reasons = [], {}
    for name in names:
        kind = declared(columns, name)
        reasons[name] = "declared"
        if kind is None:
            found = inferred[name]
            kind, reasons[name] = pa.string() if pa.types.is_null(found.type) else found.type, found.reason
            warnings += [found.warning] if found.warning else []
        fields.append(pa.field(name, kind))
    return pa.schema(fields), reasons


def check_same(first: Sequence[str], names: Sequence[str], first_uri: str, uri: str) -> None:
    """Checks that two files have one set of columns.

    Raises:
      RequestError: they do not.
    """
    if set(first) != set(names):
        lacks, more = [name for name in first if name not in names], [name for name in names if name not in first]
        said = " and ".join(f"{what} {which}" for what, which in (("it lacks", lacks), ("it alone has", more)) if which)
        raise RequestError(
            f"{uri}: expected the columns of {first_uri}, but {said}; "
            "declare with columns=... those that every file has, or use two sources"
        )


def normalise(kind: pa.DataType) -> pa.DataType | None:
    """The type that values of `kind` become; None where there is none, as for structs, maps and lists of lists."""
    types = pa.types
    if types.is_dictionary(kind):
        return normalise(kind.value_type)
    if types.is_boolean(kind) or types.is_integer(kind) or types.is_duration(kind):
        return pa.int64()
    if types.is_floating(kind):
        return pa.float64()
    if _is_binary(kind):
        return pa.binary()
    if _is_any_list(kind):
        inner = kind.value_type if types.is_null(kind.value_type) else normalise(kind.value_type)
        return None if inner is None or types.is_list(inner) else pa.list_(inner)
    if types.is_null(kind) or types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind):
        return pa.string()
    if types.is_decimal(kind):
        if kind.scale == 0 and kind.precision <= _INT64_DIGITS:
            return pa.int64()
        return pa.float64() if kind.precision <= _FLOAT64_DIGITS else pa.string()
    return pa.string() if types.is_temporal(kind) else None


def merge(types: Sequence[pa.DataType]) -> tuple[pa.DataType, bool]:
    """The one type that holds values of all `types` (null: no value seen); and whether text and numbers met."""
    kinds = {kind for kind in types if not pa.types.is_null(kind)}
    if not kinds:
        return pa.string(), False
    if any(pa.types.is_list(kind) for kind in kinds):
        inner, conflict = merge([kind.value_type if pa.types.is_list(kind) else kind for kind in kinds])
        return pa.list_(inner), conflict
    if len(kinds) == 1:
        return kinds.pop(), False
    if kinds == {pa.int64(), pa.float64()}:
        return pa.float64(), False
    return (pa.binary(), True) if pa.binary() in kinds else (pa.string(), True)


def parse(strings: pa.Array, kind: pa.DataType) -> pa.Array:
    """Strings, or bytes, as int64 or float64.

    Raises:
      pa.ArrowInvalid: a value is no number that is written in decimal, or is beyond int64.
    """
    if pa.types.is_int64(kind) and pc.any(pc.starts_with(strings, "0x", ignore_case=True)).as_py():
        raise pa.ArrowInvalid("hexadecimal")  # which Arrow takes, even 0xFFFFFFFFFFFFFFFF as -1
    return strings.cast(kind)


def convert(
    column: pa.Array, kind: pa.DataType, name: str, errors: dict[int, RowError], encoding: str | None = None
) -> pa.Array:
    """A column as `kind`; what does not fit becomes null and goes into `errors`, by position.

    Args:
      column: The values. Bytes that are to be strings are UTF-8, but for those that `encoding` did not know.
      kind: The type to give them.
      name: The column's name, for messages.
      errors: Takes what does not fit.
      encoding: The encoding that was declared for the file's text; None where none can be.
    """
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_string_view(column.type) or pa.types.is_binary_view(column.type):
        column = column.cast(pa.string() if pa.types.is_string_view(column.type) else pa.binary())
    if column.type == kind:
        return column
    try:
        return _cast_column(column, kind)
    except pa.ArrowInvalid:
        bad = _failures(column, kind, 0)
    except pa.ArrowNotImplementedError:  # nothing of this type fits
        bad = np.flatnonzero(pc.is_valid(column).to_numpy(zero_copy_only=False)).tolist()
    is_text = pa.types.is_string(kind.value_type if pa.types.is_list(kind) else kind)
    for position in bad:
        value = column[position].as_py()
        code, message = "wrong_type", f"expected {kind} in the column {name!r}, found {shorten(value)}"
        if is_text and _is_binary(column.type.value_type if _is_any_list(column.type) else column.type):
            advice = ""
            if isinstance(value, bytes) and encoding is not None:
                value = value.decode("utf-8", "surrogateescape").encode(encoding, "surrogateescape")
                advice = encoding_advice(value) if encoding == "UTF-8" else ""
            code = "encoding"
            message = f"expected {encoding or 'UTF-8'} in the column {name!r}, found {shorten(value)}{advice}"
        errors.setdefault(position, RowError(code, message))
    fits = np.ones(len(column), bool)
    fits[bad] = False
    kept = pc.if_else(pa.array(fits), column, pa.scalar(None, column.type))
    return pa.nulls(len(column), kind) if kept.null_count == len(column) else _cast_column(kept, kind)


def encoding_advice(value: bytes) -> str:
    """What to say of bytes that are no UTF-8: the encoding that would fit."""
    encoding = utf8.suggest_encoding(value)
    if encoding is None:
        return ""
    return f", which is {shorten(value.decode(encoding))} in {encoding}: if the file is, declare encoding={encoding!r}"


def _cast_column(column: pa.Array, kind: pa.DataType) -> pa.Array:
    """A column as `kind`, where Arrow's own cast does not do it: times, lists, and strings as integers."""
    types = pa.types
    if types.is_timestamp(column.type) and types.is_string(kind):
        return pc.replace_substring(column.cast(kind), " ", "T", max_replacements=1)
    if types.is_list(kind) and not _is_any_list(column.type):
        inner = _cast_column(column, kind.value_type)
        valid = pc.is_valid(inner).to_numpy(zero_copy_only=False)
        offsets = pa.array(np.arange(len(inner) + 1, dtype=np.int32), mask=np.append(~valid, False))
        return pa.ListArray.from_arrays(offsets, inner)
    if types.is_list(kind) and types.is_timestamp(column.type.value_type):
        lists = column.cast(pa.list_(column.type.value_type))
        inner = _cast_column(lists.values, kind.value_type)
        return pa.ListArray.from_arrays(lists.offsets, inner, mask=pc.is_null(lists) if lists.null_count else None)
    inner, target = (each.value_type if _is_any_list(each) else each for each in (column.type, kind))
    if types.is_decimal(inner) and types.is_float64(target):  # by its digits: Arrow's own cast multiplies by 0.1**scale
        lists = pa.list_(pa.string())
        return column.cast(lists).cast(kind) if types.is_list(kind) else column.cast(pa.string()).cast(kind)
    if types.is_int64(target) and (_is_binary(inner) or types.is_string(inner) or types.is_large_string(inner)):
        parsed = parse(column.flatten() if _is_any_list(column.type) else column, target)
        return column.cast(kind) if types.is_list(kind) else parsed
    return column.cast(kind, safe=not (types.is_integer(inner) and types.is_floating(target)))


def _is_binary(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind))


def _is_any_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def _failures(column: pa.Array, kind: pa.DataType, offset: int) -> list[int]:
    """Positions of the values that cannot be cast: of text by how it is written, of all else found by halving.

    A list cannot if one of its values cannot; a part of a column of lists still holds the values of all.
    """
    if _is_any_list(column.type) and pa.types.is_list(kind):
        parents = pc.list_parent_indices(column).to_numpy(zero_copy_only=False)
        return [offset + int(row) for row in np.unique(parents[_failures(column.flatten(), kind.value_type, 0)])]
    if pa.types.is_binary(column.type) and pa.types.is_string(kind):
        return [offset + int(position) for position in utf8.invalid_values(column)]
    pattern = _NUMBERS.get(kind)
    if pattern and (_is_binary(column.type) or pa.types.is_string(column.type)):
        fits = pc.fill_null(pc.match_substring_regex(column, pattern), True)
        bad = np.flatnonzero(~fits.to_numpy(zero_copy_only=False))
        if len(bad):
            others = _failures(pc.if_else(fits, column, pa.scalar(None, column.type)), kind, offset)
            return sorted([*(offset + bad).tolist(), *others])
    try:
        _cast_column(column, kind)
        return []
    except pa.ArrowInvalid:
        if len(column) == 1:
            return [offset]
    middle = len(column) // 2
    return _failures(column[:middle], kind, offset) + _failures(column[middle:], kind, offset + middle)


def policy(nonfinite: Policies, name: str) -> str:
    """What is done with a column's NaN and infinities."""
    return nonfinite if isinstance(nonfinite, str) else nonfinite.get(name, POLICIES[0])


@functools.lru_cache
def numbers_among(tokens: tuple[str, ...], kind: pa.DataType) -> dict[str, float]:
    """Those of some strings that are numbers of a type, and the numbers."""
    numbers: dict[str, float] = {}
    for token in tokens:
        with contextlib.suppress(pa.ArrowInvalid):
            numbers[token] = parse(pa.array([token]), kind)[0].as_py()
    return numbers


def apply_nonfinite(
    batch: pa.RecordBatch, nonfinite: Policies, errors: dict[int, RowError]
) -> tuple[pa.RecordBatch, dict[tuple[str, str], ColumnNote]]:
    """Treats NaN, infinities and values beyond float32's range as the policies say.

    A list that holds one is missing, or its row quarantined, as a whole.

    Returns:
      The batch, and notes of the numbers beyond that range which are missing now.
    """
    notes = {}
    columns = list(batch.columns)
    for index, (name, column) in enumerate(zip(batch.schema.names, columns, strict=True)):
        does = policy(nonfinite, name)
        is_list = pa.types.is_list(column.type)
        if does == "keep" or (column.type.value_type if is_list else column.type) != pa.float64():
            continue
        finite = pc.less_equal(pc.abs(column.flatten() if is_list else column), FLOAT32_MAX)
        if not pc.any(pc.invert(finite), min_count=0).as_py():
            continue
        bad = np.flatnonzero(pc.fill_null(pc.invert(finite), False).to_numpy(zero_copy_only=False))
        if is_list:
            bad = np.unique(pc.list_parent_indices(column).to_numpy(zero_copy_only=False)[bad])
        if does == "missing":
            values = (column.flatten() if is_list else column).drop_null().to_numpy()
            beyond = values[np.isfinite(values) & (np.abs(values) > FLOAT32_MAX)]
            if len(beyond):
                notes[OVERFLOW, name] = ColumnNote(len(beyond), 0, repr(float(beyond[0])))
            keep = np.ones(len(column), bool)
            keep[bad] = False
            columns[index] = pc.if_else(pa.array(keep), column, pa.scalar(None, column.type))
            continue
        for position in bad.tolist():
            shown = shorten(column[position].as_py())
            message = f"expected a finite number that float32 can hold in the column {name!r}, found {shown}"
            errors.setdefault(position, RowError("nonfinite", message))
    return pa.RecordBatch.from_arrays(columns, schema=batch.schema), notes


def one_batch(table: pa.Table, uri: str) -> pa.RecordBatch:
    """A table as one batch.

    Raises:
      PenstockError: a column of strings in it holds more than 2 GiB.
    """
    batches = table.combine_chunks().to_batches()
    if len(batches) > 1:
        raise PenstockError(
            f"{uri}: expected at most 2 GiB of text in a column of a range, found more; write smaller files"
        )
    return batches[0] if batches else pa.RecordBatch.from_pylist([], schema=table.schema)


def convert_all(batch: pa.RecordBatch, schema: pa.Schema, errors: dict[int, RowError]) -> pa.RecordBatch:
    """A batch with the schema's columns; one that it lacks is missing in every row."""
    columns = []
    for field in schema:
        position = batch.schema.get_field_index(field.name)
        if position < 0:
            columns.append(pa.nulls(batch.num_rows, field.type))
        else:
            columns.append(convert(batch.column(position), field.type, field.name, errors))
    return pa.RecordBatch.from_arrays(columns, schema=schema)
