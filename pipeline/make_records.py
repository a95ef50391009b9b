"""Chunks of a unit of a table: ranges of record files in, prepared rows out, by whole batches."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from ..transforms.columns import Vectorized, Where
from ..transforms.outcome import Filtered, Rejected
from .chunk import Chunk
from .errors import PenstockError
from .example_encoder import encode
from .extract.ranges import Range, RecordSource
from .features import LABEL, Feature
from .hashing import hash_rows
from .parallel import ordered_map
from .reference import Problem
from .row_splits import split_rows
from .splits import NOT_LISTED, Splits
from .summaries import Wanted, summarize

_TYPES = {"int64": pa.int64(), "float32": pa.float64(), "string": pa.string()}  # stored as float32, summed as float64


@dataclass(frozen=True)
class RecordPreparer:
    """Turns a range of a record file into prepared rows.

    Attributes:
      source: Reads ranges.
      schema: The columns that it reads.
      steps: The recipe's `prepare`: functions of batches (`Vectorized`, `Where`) and of examples.
      rule: The recipe's split rule.
      splits: The splits' names.
      statistics: The split that statistics come from.
      seed: Of the order of rows; None keeps the order of the files.
      serialized: Whether rows are stored as tf.train.Examples, or as columns.
      features: What every row must hold; None while that is being found out.
      stored_schema: The columns as they are stored in Parquet.
      wanted: What to know of the columns.
      columns: The columns that the analyzers read.
    """

    source: RecordSource
    schema: pa.Schema
    steps: Sequence[Callable[[Any], Any]]
    rule: Splits
    splits: tuple[str, ...]
    statistics: str
    seed: int | None
    serialized: bool
    features: Mapping[str, Feature] | None = None
    stored_schema: pa.Schema | None = None
    wanted: tuple[Wanted, ...] = ()
    columns: tuple[str, ...] = ()

    def prepare(self, piece: Range) -> "PreparedRows":
        """Reads a range, gives its rows their splits, and applies the steps.

        Raises:
          PenstockError: a step changed the rows in a way that it must not.
        """
        rows = self.source.read(piece, self.schema)
        codes = split_rows(self.rule, self.splits, piece.key, rows.batch, rows.numbers)
        prepared = PreparedRows(rows.batch, rows.numbers, codes, list(rows.problems), Counter(rows.filtered))
        outside = codes < 0
        if outside.any():
            prepared.filtered[NOT_LISTED] += int(outside.sum())
            prepared = prepared.keep(~outside)
        for step in self.steps:
            if not len(prepared.batch):  # no function needs to know how to do without rows
                break
            prepared = apply_step(step, prepared, piece)
        return prepared

    def __call__(self, piece: Range) -> Chunk:
        """The chunk of a range."""
        prepared = self.prepare(piece)
        features = self.features or {}
        batch = conform(prepared.batch, features, piece)
        chunk = Chunk(
            read=len(batch) + len(prepared.problems) + prepared.filtered.total(),
            problems=prepared.problems,
            filtered=prepared.filtered,
            positions=None if self.seed is None else {},
        )
        for code, split in enumerate(self.splits):
            chosen = np.flatnonzero(prepared.codes == code)
            if not len(chosen):
                continue
            part = batch.take(pa.array(chosen))
            chunk.records[split] = encode(part, features).to_pylist() if self.serialized else part
            if chunk.positions is not None:
                chunk.positions[split] = hash_rows(piece.key, prepared.numbers[chosen], f"order{self.seed}")
            if LABEL in part.schema.names and not features[LABEL].shape and features[LABEL].dtype != "float32":
                chunk.labels[split] = _count(part.column(LABEL))
            if split == self.statistics:
                chunk.summaries = summarize(part, self.wanted)
                chunk.columns = part.select(list(self.columns)) if self.columns else None
        return chunk


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
    mask = np.zeros(len(rows.batch), bool)
    mask[kept] = True
    return replace(rows.keep(mask), batch=_from_examples(step, examples) if examples else rows.batch.slice(0, 0))


def _from_examples(step: object, examples: Sequence[Mapping[str, Any]]) -> pa.RecordBatch:
    """Examples as columns; what some of them lack is a missing value there."""
    columns = {}
    for name in dict.fromkeys(name for example in examples for name in example):
        try:
            columns[name] = pa.array([example.get(name) for example in examples])
        except (pa.ArrowException, OverflowError) as error:
            raise PenstockError(
                f"{_name(step)}: expected values of one type that a column can hold in {name!r}, found: {error}; "
                "convert them there"
            ) from error
    return pa.RecordBatch.from_pydict(columns)


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


def _count(labels: pa.Array) -> Counter[str]:
    counted = labels.drop_null().value_counts()
    return Counter({str(entry["values"]): entry["counts"] for entry in counted.to_pylist()})


def conform(batch: pa.RecordBatch, features: Mapping[str, Feature], piece: Range) -> pa.RecordBatch:
    """The columns that every row must hold, in the types that they are stored from.

    Raises:
      PenstockError: a column is missing, or cannot be cast.
    """
    if not len(batch):
        return batch  # it may have been left without rows before it got all its columns
    columns = []
    for name, feature in features.items():
        if name not in batch.schema.names:
            raise PenstockError(
                f"{piece.uri}: expected the column {name!r} after `prepare`, found {sorted(batch.schema.names)}; "
                "every batch must come out with the same columns"
            )
        column = batch.column(name)
        try:
            columns.append(column if column.type == _TYPES.get(feature.dtype) else _cast(column, feature))
        except pa.ArrowInvalid as error:
            raise PenstockError(
                f"{piece.uri}: expected {name!r} to be {feature.dtype} after `prepare`, found {column.type}: {error}; "
                "cast it there"
            ) from error
    return pa.RecordBatch.from_arrays(columns, names=list(features))


def _cast(column: pa.Array, feature: Feature) -> pa.Array:
    is_list = pa.types.is_list(column.type) or pa.types.is_large_list(column.type)
    item = column.type.value_type if is_list else column.type
    if pa.types.is_binary(item) or pa.types.is_large_binary(item):
        return column
    wanted = _TYPES[feature.dtype]
    return column.cast(pa.large_list(wanted) if feature.shape else wanted)


def chunks(preparer: RecordPreparer, pool: ThreadPoolExecutor, window: int, pieces: Iterable[Range]) -> Iterator[Chunk]:
    """Prepares a unit's ranges in a thread pool, in their order."""
    return ordered_map(pool, preparer, pieces, window)

