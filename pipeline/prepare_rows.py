"""The recipe's `prepare` on rows of a table: its functions applied, and their columns brought to the stored types."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from ..transforms.columns import Vectorized, Where
from ..transforms.outcome import Filtered, Rejected
from .errors import PenstockError
from .extract.ranges import Range
from .features import Feature
from .reference import Problem

WRONG_TYPE = "wrong_type"


@dataclass
class PreparedRows:
    """Rows on their way through the steps.

    Attributes:
      batch: The rows.
      numbers: int64, their numbers in their file.
      codes: int64, their splits.
      problems: Rows that were set aside.
      filtered: Filter reason to count.
    """

    batch: pa.RecordBatch
    numbers: np.ndarray
    codes: np.ndarray
    problems: list[Problem]
    filtered: Counter[str]

    def keep(self, mask: np.ndarray) -> "PreparedRows":
        """The rows where `mask` is true."""
        chosen = pa.array(np.flatnonzero(mask))
        return replace(self, batch=self.batch.take(chosen), numbers=self.numbers[mask], codes=self.codes[mask])


def apply_step(step: Callable[[Any], Any], rows: PreparedRows, piece: Range) -> PreparedRows:
    """Applies one function of `prepare` to rows."""
    if isinstance(step, Where):
        try:
            mask = np.asarray(step.mask(rows.batch))
        except Exception as error:  # whatever the user's function raises
            message = f"where(..., {step.reason!r}): {type(error).__name__}: {error}; mend `prepare`"
            raise PenstockError(message) from error
        rows.filtered[step.reason] += int((~mask).sum())
        return rows if mask.all() else rows.keep(mask)
    if isinstance(step, Vectorized):
        return _apply_vectorized(step, rows, piece)
    return _apply_by_example(step, rows, piece)


def _apply_vectorized(step: Vectorized, rows: PreparedRows, piece: Range) -> PreparedRows:
    try:
        batch = step(rows.batch)
    except Exception as error:  # a user's function may raise anything: halve until the rows that it fails on are alone
        if len(rows.batch) <= 1:
            problem = _problem(piece, rows, 0, "prepare_error", f"{_name(step)}: {type(error).__name__}: {error}")
            return replace(rows.keep(np.zeros(len(rows.batch), bool)), problems=[*rows.problems, problem])
        half = np.arange(len(rows.batch)) < len(rows.batch) // 2
        parts = [
            _apply_vectorized(step, replace(rows.keep(mask), problems=[], filtered=Counter()), piece)
            for mask in (half, ~half)
        ]
        return _concat(rows, [part for part in parts if len(part.batch)] or parts[:1], parts)
    if not isinstance(batch, pa.RecordBatch) or len(batch) != len(rows.batch):
        found = f"{len(batch)} rows" if isinstance(batch, pa.RecordBatch) else type(batch).__name__
        raise PenstockError(
            f"{_name(step)}: expected a RecordBatch of as many rows as it was given ({len(rows.batch)}), found {found};"
            " to leave rows out, use where(predicate, reason)"
        )
    return replace(rows, batch=batch)


def _apply_by_example(step: Callable[[Any], Any], rows: PreparedRows, piece: Range) -> PreparedRows:
    kept: list[int] = []
    examples: list[Mapping[str, Any]] = []
    for number, example in enumerate(rows.batch.to_pylist()):
        try:
            made = step(example)
            if not isinstance(made, Mapping):
                raise TypeError(f"expected a dict, found {made!r:.60}")
            examples.append(made)
            kept.append(number)
        except Filtered as dropped:
            rows.filtered[dropped.reason] += 1
        except Rejected as rejected:
            rows.problems.append(_problem(piece, rows, number, rejected.code, rejected.message))
        except Exception as error:  # a user's function may raise anything: one row fails, not the run
            message = f"{_name(step)}: {type(error).__name__}: {error}"
            rows.problems.append(_problem(piece, rows, number, "prepare_error", message))
    if not examples:
        return rows.keep(np.zeros(len(rows.batch), bool))
    batch, wrong = _from_examples(step, examples)
    for position, words in wrong.items():
        rows.problems.append(_problem(piece, rows, kept[position], WRONG_TYPE, words))
    mask = np.zeros(len(rows.batch), bool)
    mask[[number for position, number in enumerate(kept) if position not in wrong]] = True
    return replace(rows.keep(mask), batch=batch)


def _from_examples(step: object, examples: Sequence[Mapping[str, Any]]) -> tuple[pa.RecordBatch, dict[int, str]]:
    """Examples as columns; what some of them lack is a missing value there.

    Returns:
      The columns of the examples whose values fit, and what is wrong with the others, by their position. A column is of
      the type of the first of its values.
    """
    columns = {}
    wrong: dict[int, str] = {}
    for name in dict.fromkeys(name for example in examples for name in example):
        values = [example.get(name) for example in examples]
        try:
            columns[name] = pa.array(values)
        except (pa.ArrowException, OverflowError):
            columns[name], misfits = _fitting(values)
            wrong |= {position: f"{_name(step)}: {name!r}: {words}" for position, words in misfits.items()}
    batch = pa.RecordBatch.from_pydict(columns)
    return batch.take(pa.array([row for row in range(len(examples)) if row not in wrong], pa.int64())), wrong


def _fitting(values: Sequence[Any]) -> tuple[pa.Array, dict[int, str]]:
    """Values as a column of the type of the first one that can be in a column; what is wrong with the others."""
    kind: pa.DataType = pa.null()
    wrong: dict[int, str] = {}
    for position, value in enumerate(values):
        try:
            kind = pa.array([value]).type if kind == pa.null() else pa.array([value], kind).type
        except (pa.ArrowException, OverflowError) as error:
            wrong[position] = f"expected {'a value of a column' if kind == pa.null() else kind}, found {error}"
    return pa.array([None if position in wrong else value for position, value in enumerate(values)], kind), wrong


def _concat(rows: PreparedRows, filled: list[PreparedRows], parts: list[PreparedRows]) -> PreparedRows:
    table = pa.Table.from_batches([part.batch for part in filled]).combine_chunks()
    batches = table.to_batches()
    return replace(
        rows,
        batch=batches[0] if batches else filled[0].batch,
        numbers=np.concatenate([part.numbers for part in filled]),
        codes=np.concatenate([part.codes for part in filled]),
        problems=rows.problems + [problem for part in parts for problem in part.problems],
    )


def _problem(piece: Range, rows: PreparedRows, position: int, code: str, message: str) -> Problem:
    return Problem(f"{piece.key}:{rows.numbers[position]}", piece.uri, "prepare", code, message)


def _name(step: object) -> str:
    inner = getattr(step, "function", step)
    return getattr(inner, "__name__", None) or repr(inner)


def conform(
    rows: PreparedRows, features: Mapping[str, Feature], piece: Range, by_example: bool = False
) -> PreparedRows:
    """Rows with the columns that every row must hold, in the types that they are stored from.

    Args:
      rows: The rows after `prepare`; one whose value cannot be cast goes to the problems.
      features: What every row must hold.
      piece: Where the rows are from.
      by_example: Whether a column may be missing because no example of this range has it.

    Raises:
      PenstockError: a column is missing that must be there.
    """
    if not len(rows.batch):
        return rows  # it may have been left without rows before it got all its columns
    columns = []
    fits = np.ones(len(rows.batch), bool)
    for name, feature in features.items():
        if name in rows.batch.schema.names:
            column = rows.batch.column(name)
        elif by_example and feature.optional:
            column = pa.nulls(len(rows.batch), feature.arrow_type)
        else:
            raise PenstockError(
                f"{piece.uri}: expected the column {name!r} after `prepare`, found {sorted(rows.batch.schema.names)}; "
                "every batch must come out with the same columns"
            )
        if column.type != feature.arrow_type or feature.shape:
            column, wrong = _cast(column, feature)
            for position, words in wrong.items():
                if fits[position]:
                    message = f"{name!r}: expected {feature.dtype} as in the first rows, found {words}; cast it"
                    rows.problems.append(_problem(piece, rows, position, WRONG_TYPE, f"{message} in `prepare`"))
                fits[position] = False
        columns.append(column)
    conformed = replace(rows, batch=pa.RecordBatch.from_arrays(columns, names=list(features)))
    return conformed if fits.all() else conformed.keep(fits)


def _cast(column: pa.Array, feature: Feature) -> tuple[pa.Array, dict[int, str]]:
    """A column in the type that it is stored from; where that is impossible null, and why, by the row's position."""
    is_list = pa.types.is_list(column.type) or pa.types.is_large_list(column.type)
    item = column.type.value_type if is_list else column.type
    if pa.types.is_binary(item) or pa.types.is_large_binary(item):
        return column, {}
    wanted = feature.arrow_type
    try:
        cast = column.cast(wanted)
        if not (is_list and cast.flatten().null_count):
            return cast, {}
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        pass
    parts: list[pa.Array] = []
    wrong: dict[int, str] = {}
    for position in range(len(column)):
        try:
            parts.append(column.slice(position, 1).cast(wanted))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            parts.append(pa.nulls(1, wanted))
        lacks = is_list and parts[-1].flatten().null_count
        if lacks or (parts[-1].null_count and column[position].is_valid):
            wrong[position] = f"{'a list that lacks a value, ' if lacks else ''}{column[position].as_py()!r:.60}"
            parts[-1] = pa.nulls(1, wanted)
    return pa.concat_arrays(parts), wrong
