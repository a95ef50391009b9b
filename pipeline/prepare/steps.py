"""The recipe's `prepare` on rows of a table: its functions applied, and their columns brought to the stored types."""

import contextlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa

from ...transforms.columns import Vectorized, Where
from ...transforms.outcome import Filtered, Rejected
from ..errors import PenstockError, in_words
from ..formats.column_notes import Notes
from ..formats.features import describe_columns, overflow_to_infinity
from ..sources.listing import RecordRange
from ..sources.quarantine import LISTED, FilteredExample, QuarantinedExample

WRONG_TYPE, WRONG_RESULT, WRONG_COLUMNS = "wrong_type", "wrong_result", "wrong_columns"


@dataclass
class PreparedRows:
    """Rows on their way through the steps.

    Attributes:
      batch: The rows.
      numbers: int64, their numbers in their file.
      codes: int64, their splits.
      quarantined: Rows that were set aside.
      filtered: Filter reason to count.
      filtered_examples: The first ones of each reason.
      notes: What happened to values of their columns.
    """

    batch: pa.RecordBatch
    numbers: np.ndarray
    codes: np.ndarray
    quarantined: list[QuarantinedExample]
    filtered: Counter[str]
    filtered_examples: list[FilteredExample] = field(default_factory=list)
    notes: Notes = field(default_factory=dict)

    def keep(self, mask: np.ndarray) -> "PreparedRows":
        """The rows where `mask` is true."""
        chosen = pa.array(np.flatnonzero(mask))
        return replace(self, batch=self.batch.take(chosen), numbers=self.numbers[mask], codes=self.codes[mask])

    def leave_out(self, mask: np.ndarray, reason: str, record_range: RecordRange) -> None:
        """Counts the rows where `mask` is true as filtered, and lists them; `keep` leaves them out."""
        numbers = self.numbers[mask]
        if len(numbers):
            self.filtered[reason] += len(numbers)
            self.filtered_examples += [
                FilteredExample(f"{record_range.key}:{number}", reason) for number in numbers[:LISTED].tolist()
            ]


def apply_step(step: Callable[[Any], Any], rows: PreparedRows, record_range: RecordRange) -> PreparedRows:
    """Applies one function of `prepare` to rows.

    Raises:
      PenstockError: it fails as a filter, or a function of batches returns something else than a batch of these rows.
    """
    if isinstance(step, Where):
        try:
            answers = step.mask(rows.batch)
        except (Exception, SystemExit) as error:  # whatever the user's function raises
            message = f"where(..., {step.reason!r}): {in_words(error, step.predicate)}"
            raise PenstockError(message + "; fix `prepare`" * ("; fix " not in message)) from error
        mask = np.asarray(answers.fill_null(False))
        if mask.all():
            return rows
        is_null = np.asarray(answers.is_null())
        rows.leave_out(~mask & ~is_null, step.reason, record_range)
        rows.leave_out(is_null, step.null_reason, record_range)
        return rows.keep(mask)
    if isinstance(step, Vectorized):
        return _apply_vectorized(step, rows, record_range)
    return _apply_by_example(step, rows, record_range)


def _apply_vectorized(step: Vectorized, rows: PreparedRows, record_range: RecordRange) -> PreparedRows:
    """Applies a function of batches; where it fails, the rows that it fails on are quarantined."""
    try:
        batch = step(rows.batch)
    except (Exception, SystemExit) as error:  # whatever a user's function raises: halve until its rows are alone
        if len(rows.batch) <= 1:
            example = quarantined(
                record_range, rows, 0, "prepare_error", f"{_name(step)}: {in_words(error, step.function)}"
            )
            return replace(rows.keep(np.zeros(len(rows.batch), bool)), quarantined=[*rows.quarantined, example])
        half = np.arange(len(rows.batch)) < len(rows.batch) // 2
        parts = [
            _apply_vectorized(step, replace(rows.keep(mask), quarantined=[], filtered=Counter()), record_range)
            for mask in (half, ~half)
        ]
        return _concat(step, rows, [part for part in parts if len(part.batch)] or parts[:1], parts, record_range)
    if not isinstance(batch, pa.RecordBatch) or len(batch) != len(rows.batch):
        found = f"{len(batch)} rows" if isinstance(batch, pa.RecordBatch) else type(batch).__name__
        raise PenstockError(
            f"{_name(step)}: expected a RecordBatch of as many rows as it was given ({len(rows.batch)}), found {found};"
            " to leave rows out, use where(predicate, reason)"
        )
    return replace(rows, batch=batch)


def _concat(
    step: Vectorized,
    rows: PreparedRows,
    filled: list[PreparedRows],
    parts: list[PreparedRows],
    record_range: RecordRange,
) -> PreparedRows:
    """The rows of the parts that have any, and the quarantined rows of all parts."""
    if any(part.batch.schema != filled[0].batch.schema for part in filled):
        # of few rows a function infers other types than of many
        schema = unite([part.batch for part in filled])
        words = f"{_name(step)}: {{name!r}}: expected {{expected}} as in other rows, found {{found}}"
        filled = [_fitted(part, schema, record_range, words) for part in filled]
    table = pa.Table.from_batches([part.batch for part in filled]).combine_chunks()
    batches = table.to_batches()
    return replace(
        rows,
        batch=batches[0] if batches else filled[0].batch,
        numbers=np.concatenate([part.numbers for part in filled]),
        codes=np.concatenate([part.codes for part in filled]),
        quarantined=rows.quarantined + [example for part in parts for example in part.quarantined],
    )


def _apply_by_example(step: Callable[[Any], Any], rows: PreparedRows, record_range: RecordRange) -> PreparedRows:
    """Applies a function of examples to each row; what it returns tells the columns and their types."""
    kept: list[int] = []
    examples: list[Mapping[str, Any]] = []
    for number, example in enumerate(rows.batch.to_pylist()):
        try:
            changed = step(example)
        except Filtered as filtered:
            rows.filtered[filtered.reason] += 1
            key = f"{record_range.key}:{rows.numbers[number]}"
            rows.filtered_examples.append(FilteredExample(key, filtered.reason))
            continue
        except Rejected as rejected:
            rows.quarantined.append(quarantined(record_range, rows, number, rejected.code, rejected.message))
            continue
        except (Exception, SystemExit) as error:  # a user's function may raise anything: one row fails, not the run
            message = f"{_name(step)}: {in_words(error, step)}"
            rows.quarantined.append(quarantined(record_range, rows, number, "prepare_error", message))
            continue
        if not _is_example(changed):
            message = f"{_name(step)}: expected a dict of columns by their names, found {changed!r:.60}; fix `prepare`"
            rows.quarantined.append(quarantined(record_range, rows, number, WRONG_RESULT, message))
            continue
        examples.append(changed)
        kept.append(number)
    if not examples:
        return rows.keep(np.zeros(len(rows.batch), bool))
    batch, wrong = _from_examples(step, examples, rows.batch.schema)
    for position, words in wrong.items():
        rows.quarantined.append(quarantined(record_range, rows, kept[position], WRONG_TYPE, words))
    mask = np.zeros(len(rows.batch), bool)
    mask[[number for position, number in enumerate(kept) if position not in wrong]] = True
    return replace(rows.keep(mask), batch=batch)


def _is_example(value: object) -> bool:
    """Whether it is a dict of columns by their names."""
    return isinstance(value, Mapping) and bool(value) and all(isinstance(name, str) and name for name in value)


def _from_examples(
    step: object, examples: Sequence[Mapping[str, Any]], before: pa.Schema
) -> tuple[pa.RecordBatch, dict[int, str]]:
    """Examples as columns; what some of them lack is a missing value there.

    Returns:
      The columns of the examples whose values fit, and what is wrong with the others, by their position. A column is of
      the type of the first of its values; one without values keeps the type that it had before.
    """
    columns = {}
    wrong: dict[int, str] = {}
    for name in dict.fromkeys(name for example in examples for name in example):
        values = [example.get(name) for example in examples]
        try:
            columns[name] = pa.array(values)
        except (pa.ArrowException, OverflowError, UnicodeError):
            columns[name], misfits = _fitting(values)
            wrong |= {position: f"{_name(step)}: {name!r}: {words}" for position, words in misfits.items()}
        if is_untyped(columns[name].type) and name in before.names:
            with contextlib.suppress(pa.ArrowException):  # what was a number may be an empty list now
                columns[name] = columns[name].cast(before.field(name).type)
    batch = pa.RecordBatch.from_pydict(columns)
    return batch.take(pa.array([row for row in range(len(examples)) if row not in wrong], pa.int64())), wrong


def _fitting(values: Sequence[Any]) -> tuple[pa.Array, dict[int, str]]:
    """Values as a column of the type of the first one that can be in a column; what is wrong with the others."""
    kind: pa.DataType = pa.null()
    wrong: dict[int, str] = {}
    for position, value in enumerate(values):
        try:
            kind = pa.array([value]).type if kind == pa.null() else pa.array([value], kind).type
        except (pa.ArrowException, OverflowError, UnicodeError) as error:
            wrong[position] = f"expected {'a value of a column' if kind == pa.null() else kind}, found {error}"
    return pa.array([None if position in wrong else value for position, value in enumerate(values)], kind), wrong


def is_untyped(kind: pa.DataType) -> bool:
    """Whether this is what Arrow infers where there are no values: null, or a list of it."""
    return bool(pa.types.is_null(kind.value_type if _is_list(kind) else kind))


def unite(batches: Sequence[pa.RecordBatch]) -> pa.Schema:
    """The columns that batches have together, each of the type of its first values, or of one that holds others too.

    A column without values says nothing about its type where another batch has values of it.
    """
    types: dict[str, pa.DataType] = {}
    filled: set[str] = set()
    for batch in batches:
        for name, column in zip(batch.schema.names, batch.columns, strict=True):
            has_values = column.null_count < len(column) and not is_untyped(column.type)
            if name in filled and has_values:
                types[name] = _wider(types[name], column.type)
            elif has_values or name not in types or is_untyped(types[name]):
                types[name] = column.type
            if has_values:
                filled.add(name)
    return pa.schema(list(types.items()))


def _wider(first: pa.DataType, second: pa.DataType) -> pa.DataType:
    """A type that holds both; the first, where there is none."""
    schemas = [pa.schema([("", kind)]) for kind in (first, second)]
    try:
        return pa.unify_schemas(schemas, promote_options="permissive").field(0).type
    except pa.ArrowException:
        return first


def quarantined(
    record_range: RecordRange, rows: PreparedRows, position: int, code: str, message: str, stage: str = "prepare"
) -> QuarantinedExample:
    """A row as it goes to the quarantine."""
    return QuarantinedExample(f"{record_range.key}:{rows.numbers[position]}", record_range.uri, stage, code, message)


def _name(step: object) -> str:
    if isinstance(step, Vectorized):
        return step.name or _name(step.function)
    return getattr(step, "__name__", None) or repr(step)


def conform(rows: PreparedRows, schema: pa.Schema, record_range: RecordRange, by_example: bool = False) -> PreparedRows:
    """Rows with the columns that every row must hold, in the types that they are stored from.

    Args:
      rows: The rows after `prepare`; one whose value cannot be cast is quarantined.
      schema: The columns, as `stored_schema` says them.
      record_range: Where the rows are from.
      by_example: Whether examples made the columns one by one: then some may be missing because no example of this
        range has them, and an example that has others is quarantined.

    Raises:
      PenstockError: the columns are not those that must be there.
    """
    if not len(rows.batch):
        return rows  # it may have been left without rows before it got all its columns
    names = rows.batch.schema.names
    others = [name for name in names if name not in schema.names]
    lacking = [name for name in schema.names if name not in names]
    if not by_example and (others or lacking):
        words = f"the column {lacking[0]!r}" if lacking else f"no column but {schema.names}"
        raise PenstockError(
            f"{record_range.uri}: expected {words} after `prepare`, found {sorted(names)}; "
            "every batch must come out with the same columns as the first"
        )
    if others:
        rows = _without(rows, others, schema, record_range)
    words = "{name!r}: expected {expected} as in the first rows, found {found}; cast it in `prepare`"
    rows = _fitted(rows, schema, record_range, words)
    columns = [overflow_to_infinity(column) for column in rows.batch.columns]
    return replace(rows, batch=pa.RecordBatch.from_arrays(columns, names=schema.names))


def _without(rows: PreparedRows, others: Sequence[str], schema: pa.Schema, record_range: RecordRange) -> PreparedRows:
    """The rows that hold no value in columns that are not planned."""
    fits = np.ones(len(rows.batch), bool)
    for name in others:
        for position in np.flatnonzero(fits & np.asarray(rows.batch.column(name).is_valid())).tolist():
            message = f"expected the columns {schema.names} as in the first rows, found {name!r} as well"
            advice = "let `prepare` give every example the same columns, None where there is no value"
            rows.quarantined.append(quarantined(record_range, rows, position, WRONG_COLUMNS, f"{message}; {advice}"))
            fits[position] = False
    return rows if fits.all() else rows.keep(fits)


def _fitted(rows: PreparedRows, schema: pa.Schema, record_range: RecordRange, words: str) -> PreparedRows:
    """Rows with these columns in these types; a row whose value cannot be cast is quarantined."""
    columns = []
    fits = np.ones(len(rows.batch), bool)
    before = dict(zip(rows.batch.schema.names, rows.batch.columns, strict=True))
    for name, kind in zip(schema.names, schema.types, strict=True):
        column = before.get(name)
        if column is None:
            columns.append(pa.nulls(len(rows.batch), kind))
            continue
        if column.type != kind or _is_list(kind):
            column, wrong = _cast(column, kind)
            for position, value in wrong.items():
                if fits[position]:
                    message = words.format(name=name, expected=_in_words(kind), found=value)
                    rows.quarantined.append(quarantined(record_range, rows, position, WRONG_TYPE, message))
                fits[position] = False
        columns.append(column)
    fitted = replace(rows, batch=pa.RecordBatch.from_arrays(columns, names=schema.names))
    return fitted if fits.all() else fitted.keep(fits)


def _in_words(kind: pa.DataType) -> str:
    """A type as it is stored, where it can be."""
    try:
        (feature,) = describe_columns(pa.schema([("", kind)])).values()
    except ValueError:
        return str(kind)
    return f"lists of {feature.dtype}" if feature.shape else feature.dtype


def _cast(column: pa.Array, kind: pa.DataType) -> tuple[pa.Array, dict[int, str]]:
    """A column in another type; where that is impossible null, and why, by the row's position."""
    is_list = _is_list(column.type)
    try:
        cast = column.cast(kind)
        if not (is_list and cast.flatten().null_count):
            return cast, {}
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        pass
    parts: list[pa.Array] = []
    wrong: dict[int, str] = {}
    for position in range(len(column)):
        try:
            parts.append(column.slice(position, 1).cast(kind))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            parts.append(pa.nulls(1, kind))
        lacks = is_list and _is_list(kind) and parts[-1].flatten().null_count
        if lacks or (parts[-1].null_count and column[position].is_valid):
            wrong[position] = f"{'a list that lacks a value, ' if lacks else ''}{column[position].as_py()!r:.60}"
            parts[-1] = pa.nulls(1, kind)
    return pa.concat_arrays(parts), wrong


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind))
