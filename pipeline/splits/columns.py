"""Splits by what is in columns, for whole batches: of a table's rows, or of images with the columns joined to them.

Shares of strata, and shares in the order of time, need a look at all of the input before any example has its split:
`fit` takes it, and gives the rule by which each example can then be split alone.
"""

import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import date
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
import pyarrow as pa

from ...transforms.step import as_json
from ..errors import PenstockError, RequestError
from ..sources.row_errors import RowError
from ..splitmix import GOLDEN_GAMMA, mix64
from ..storage.scratch import ScratchDatabase
from .hashing import hash_keys, pick_splits
from .rules import ByColumn, ByHash, ByTime, Splits
from .times import moment, read_times

ALL_COLUMNS = "*"
_BOOLEANS = {"true": "1", "false": "0"}
_SHOWN = 5  # values that a message names
_LAST = (1 << 64) - 1
_HASHED = pa.schema([("stratum", pa.string()), ("hash", pa.uint64())])
_PLACES = pa.schema([("stratum", pa.string()), ("place", pa.int64())])

Hashes = Callable[[], np.ndarray]  # gives uint64 [examples], each one's hash by its key


@dataclass(frozen=True)
class Strata:
    """What `fit` makes of `by_hash(..., stratify=...)`: within each stratum, the hashes at which the next split begins.

    Attributes:
      column: The column whose values are the strata.
      bounds: Value, as text (None: missing), to the first hash of each split but the first.
    """

    column: str
    bounds: Mapping[str | None, tuple[int, ...]]


ColumnRule = ByHash | ByColumn | ByTime | Strata


def columns_of(rule: Splits | Strata) -> tuple[str, ...]:
    """The columns whose values decide; none where keys do."""
    if isinstance(rule, ByHash):
        return (rule.stratify,) if rule.stratify else tuple(name for name in rule.columns if name != ALL_COLUMNS)
    return (rule.column,) if isinstance(rule, ByColumn | ByTime | Strata) else ()


def reads_columns(rule: Splits) -> bool:
    """Whether the values of columns decide, and not keys."""
    return bool(columns_of(rule)) or (isinstance(rule, ByHash) and rule.column is not None)


def describe_rule(rule: Splits | Strata) -> dict[str, Any]:
    """A rule for the manifest: the function that made it and its arguments; of a fitted one, the times it came to."""
    if isinstance(rule, Strata):
        return {"rule": "by_hash", "stratify": rule.column}
    arguments = {each.name: getattr(rule, each.name) for each in fields(rule)}  # type: ignore[arg-type]
    if isinstance(rule, ByTime):
        ends = (rule.until or {}).items()
        arguments["until"] = {name: str(end) if isinstance(end, date) else end for name, end in ends} or None
    given = {name: as_json(value) for name, value in arguments.items() if value is not None}
    return {"rule": re.sub(r"(?<!^)(?=[A-Z])", "_", type(rule).__name__).lower(), **given}


def split_batch(
    rule: Splits | Strata, names: Sequence[str], batch: pa.RecordBatch, hashes: Hashes
) -> tuple[np.ndarray, dict[int, RowError]]:
    """The split of each example of a batch.

    Args:
      rule: A `ColumnRule` that was fitted, where it must be.
      names: The splits' names.
      batch: The columns that decide, and perhaps others.
      hashes: The examples' hashes by their keys.

    Returns:
      int64 [examples], positions in `names`, -1 for an example that is in none; and why some can be in none, by
      position.
    """
    if isinstance(rule, Strata):
        return _in_strata(rule, batch, hashes()), {}
    if isinstance(rule, ByTime):
        return _by_time(rule, names, batch)
    if isinstance(rule, ByColumn):
        column = _column(batch, rule.column)
        booleans = _BOOLEANS if pa.types.is_integer(column.type) else {}  # a source gives true and false as 1 and 0
        written = [booleans.get(name.lower(), name) for name in names]
        positions = pa.compute.index_in(_texts(column), pa.array(written, pa.string()))
        return np.asarray(positions.fill_null(-1)).astype(np.int64), {}
    assert isinstance(rule, ByHash)
    return pick_splits(_hash_columns(batch, rule.columns) if rule.columns else hashes(), rule.fractions), {}


def fit(
    rule: Splits | Strata, names: Sequence[str], parts: Callable[[], Iterable[tuple[pa.RecordBatch, Hashes]]]
) -> tuple[Splits | Strata, list[str]]:
    """The rule by which each example can be split alone, and warnings in words.

    Args:
      rule: The recipe's rule.
      names: The splits' names.
      parts: Gives all of the input: the columns that decide, and hashes by key. Called only where it is needed.

    Raises:
      RequestError: the shares leave a split empty, or the columns are not there or of another kind.
    """
    if isinstance(rule, ByHash) and rule.stratify:
        return _fit_strata(rule, rule.stratify, names, parts())
    if isinstance(rule, ByTime) and rule.shares is not None:
        return _fit_times(rule, rule.shares, names, parts()), []
    return rule, []


def _fit_strata(
    rule: ByHash, name: str, names: Sequence[str], parts: Iterable[tuple[pa.RecordBatch, Hashes]]
) -> tuple[Strata, list[str]]:
    """Cuts the sorted hashes of each stratum by the shares; warns of strata that are too small for all splits."""
    database = ScratchDatabase()
    database.create("examples", _HASHED, (_hashed(batch, name, hashes) for batch, hashes in parts))
    counts = database.rows("SELECT stratum, count(*) FROM examples GROUP BY stratum ORDER BY stratum NULLS FIRST")
    ends = {stratum: _ends(rule.fractions, count) for stratum, count in counts}
    cuts = [(stratum, count, end) for stratum, count in counts for end in ends[stratum][:-1]]
    hashes_at = _hashes_at(database, [(stratum, end) for stratum, count, end in cuts if end < count])
    bounds: dict[str | None, tuple[int, ...]] = {stratum: () for stratum, _ in counts}
    for stratum, _, end in cuts:
        bounds[stratum] += (hashes_at.get((stratum, end), _LAST),)
    empty: dict[str, list[str]] = {split: [] for split in names}
    for stratum, count in counts:
        for split, (begin, end) in zip(names, pairwise([0, *ends[stratum]]), strict=True):
            if begin == end:
                empty[split].append(f"{stratum!r} ({count} example{'s' * (count > 1)})")
    for split, lacking in empty.items():
        if len(lacking) == len(bounds) > 0:
            raise RequestError(
                f"split {split!r} would be empty: expected values of {name!r} that enough examples have to give it its "
                f"share, found {len(bounds)}, such as {lacking[0]}; stratify by a column of few values"
            )
    warnings = [
        f"split {split!r} gets no example of {len(lacking)} of {len(bounds)} values of {name!r}, which are too rare to "
        f"be shared out: {', '.join(lacking[:_SHOWN])}{', …' if len(lacking) > _SHOWN else ''}"
        for split, lacking in empty.items()
        if lacking
    ]
    return Strata(name, bounds), warnings


def _hashed(batch: pa.RecordBatch, name: str, hashes: Hashes) -> pa.RecordBatch:
    """The stratum and the hash of each example."""
    return pa.RecordBatch.from_arrays([_texts(_column(batch, name)), pa.array(hashes(), pa.uint64())], schema=_HASHED)


def _hashes_at(
    database: ScratchDatabase, places: Sequence[tuple[str | None, int]]
) -> dict[tuple[str | None, int], int]:
    """The hashes that stand at some places among the sorted ones of their stratum."""
    columns = [
        pa.array([stratum for stratum, _ in places], pa.string()),
        pa.array([at for _, at in places], pa.int64()),
    ]
    database.create("places", _PLACES, [pa.RecordBatch.from_arrays(columns, schema=_PLACES)])
    ordered = "SELECT stratum, hash, row_number() OVER (PARTITION BY stratum ORDER BY hash) - 1 AS place FROM examples"
    rows = database.rows(
        f"SELECT DISTINCT places.stratum, places.place, hash FROM ({ordered}) AS ordered JOIN places "
        "ON ordered.place = places.place AND ordered.stratum IS NOT DISTINCT FROM places.stratum"
    )
    return {(stratum, place): found for stratum, place, found in rows}


def _fit_times(
    rule: ByTime, shares: Mapping[str, float], names: Sequence[str], parts: Iterable[tuple[pa.RecordBatch, Hashes]]
) -> ByTime:
    """The times before which the shares of all examples are."""
    of_strings = False

    def read() -> Iterator[pa.RecordBatch]:
        nonlocal of_strings
        for batch, _ in parts:
            column = _time_column(rule, batch)
            times, errors = read_times(column, rule.column)
            of_strings = pa.types.is_string(column.type)
            yield pa.RecordBatch.from_pydict({"time": np.delete(times, list(errors))})

    batches = read()
    first = next(batches, None)
    if first is None:
        first = pa.RecordBatch.from_pydict({"time": pa.array([], pa.int64())})
    database = ScratchDatabase()
    database.create("times", first.schema, itertools.chain([first], batches))
    count = database.value("SELECT count(*) FROM times")
    previous = database.value("SELECT min(time) FROM times") if count else 0
    until: dict[str, int | float] = {}
    for split, end in zip(names, _ends(shares, count)[:-1], strict=False):
        at = database.rows("SELECT time FROM times ORDER BY time LIMIT 1 OFFSET ?", end)
        time = at[0][0] if at else previous
        if not previous < time:
            raise RequestError(
                f"split {split!r} would be empty: expected times in {rule.column!r} that differ enough to give it its "
                f"share, found {count} examples of which too many have one time; change the shares"
            )
        until[split] = previous = time
    ends = {split: moment(int(time)) if of_strings else time for split, time in until.items()}
    return ByTime(rule.column, {**ends, names[-1]: None})


def _ends(shares: Mapping[str, float], count: int) -> list[int]:
    """Where the share of each split ends in a sequence of so many: less than one away from its exact share."""
    ends = [int(count * share + 0.5) for share in accumulate(shares.values())]
    return [*ends[:-1], count]


def _in_strata(rule: Strata, batch: pa.RecordBatch, hashes: np.ndarray) -> np.ndarray:
    encoded = _texts(_column(batch, rule.column)).dictionary_encode("encode")
    if not len(encoded.dictionary):
        return np.zeros(0, np.int64)
    texts = encoded.dictionary.to_pylist()
    if strangers := [text for text in texts if text not in rule.bounds]:
        raise PenstockError(
            f"{rule.column!r}: expected the values that were there when the splits were planned, found "
            f"{strangers[0]!r} as well: the input changed; run again"
        )
    bounds = np.array([rule.bounds[text] for text in texts], np.uint64)
    passed = hashes[:, np.newaxis] >= bounds[np.asarray(encoded.indices)]
    codes: np.ndarray = passed.sum(axis=1)
    return codes


def _by_time(rule: ByTime, names: Sequence[str], batch: pa.RecordBatch) -> tuple[np.ndarray, dict[int, RowError]]:
    times, errors = read_times(_time_column(rule, batch), rule.column)
    codes = np.searchsorted(np.array(rule.instants), times, "right").astype(np.int64)
    codes[codes == len(names)] = -1
    return codes, errors


def _time_column(rule: ByTime, batch: pa.RecordBatch) -> pa.Array:
    """The column of times, which must be of the kind that the rule's ends are."""
    column = _column(batch, rule.column)
    is_number = pa.types.is_integer(column.type) or pa.types.is_floating(column.type)
    if not (is_number or pa.types.is_string(column.type)):
        raise RequestError(
            f"by_time({rule.column!r}): expected a column of strings or numbers, found one of {column.type}"
        )
    if rule.until is not None and is_number != rule.is_of_numbers and rule.instants:
        kind = "numbers" if is_number else "strings, as dates are read"
        raise RequestError(
            f"by_time({rule.column!r}): expected times like the values of the column, which are {kind}, found "
            f"{list(rule.until.values())}; name the ends of the splits as they stand in the column"
        )
    return column


def describe_unlisted(rule: Splits | Strata, batch: pa.RecordBatch) -> str:
    """What to say of rows that are all in no split: what the rule's column holds instead; "" where it has none."""
    if not isinstance(rule, ByColumn) or not len(batch):
        return ""
    values = _texts(_column(batch, rule.column)).unique().to_pylist()
    shown = ", ".join("missing values" if value is None else repr(value) for value in values[:_SHOWN])
    more = ", …" if len(values) > _SHOWN else ""
    return f"expected {list(rule.values)} in the column {rule.column!r}, found {shown}{more}"


def _column(batch: pa.RecordBatch, name: str) -> pa.Array:
    if name not in batch.schema.names:
        raise RequestError(f"Recipe(splits=...): expected one of the columns {batch.schema.names}, found {name!r}")
    return batch.column(name)


def _texts(values: pa.Array) -> pa.Array:
    """The values as strings; lists, and bytes that are no UTF-8, as Python writes them."""
    try:
        return values.cast(pa.string())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return pa.array([None if value is None else repr(value) for value in values.to_pylist()], pa.string())


def _hash_columns(batch: pa.RecordBatch, names: Sequence[str]) -> np.ndarray:
    """A hash of the values of several columns together: uint64 [rows]."""
    if ALL_COLUMNS in names:
        names = batch.schema.names
    first, *others = (_hash_values(_column(batch, name), "split") for name in names)
    for hashes in others:
        first = mix64(first + np.uint64(GOLDEN_GAMMA)) ^ hashes
    return first


def _hash_values(values: pa.Array, salt: str) -> np.ndarray:
    """A 64-bit hash of each value's text; a missing value hashes like the empty text."""
    encoded = _texts(values).fill_null("").dictionary_encode()
    hashes = hash_keys(encoded.dictionary, salt)
    return hashes[np.asarray(encoded.indices)] if len(hashes) else np.zeros(0, np.uint64)
