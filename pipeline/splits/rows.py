"""Which split a table's row belongs to, for whole batches at a time."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from ..errors import RequestError
from .hashing import hash64, hash_rows, split_bounds
from .rules import ByColumn, ByGlob, ByHash, ByPath, Splits, find_group

_BOOLEANS = {"true": "1", "false": "0"}
_SHOWN = 5  # values that a message names


def split_names(rule: Splits, keys: Sequence[str]) -> list[str]:
    """The splits that a table's rows can belong to, given the keys of its files.

    Raises:
      RequestError: the rule is none for rows.
    """
    if isinstance(rule, ByPath):
        return sorted({find_group(rule.pattern, "split", key) for key in keys})
    if isinstance(rule, ByHash) and rule.group is not None:
        raise RequestError(
            f"by_hash(group={rule.group!r}): expected files, whose keys it is searched in, found rows of a table; use "
            "column=..."
        )
    if isinstance(rule, ByGlob):
        assigned, _ = rule.assign(keys, "")
        for name in rule.names():
            if name not in assigned:
                raise RequestError(
                    f"split {name!r} would be empty: expected files that match {rule.patterns[name]!r}, found "
                    f"{list(keys)[:3]}; fix by_glob's patterns or those of the source"
                )
    if isinstance(rule, ByHash | ByColumn | ByGlob):
        return list(rule.names())
    raise RequestError(
        "Recipe(splits=...): expected shares, by_hash, by_column, by_glob, by_path or by_folder for rows of a table, "
        f"found {rule!r}"
    )


def split_rows(rule: Splits, names: Sequence[str], key: str, batch: pa.RecordBatch, numbers: np.ndarray) -> np.ndarray:
    """The split of each row.

    Args:
      rule: The recipe's rule.
      names: The splits' names.
      key: The key of the rows' file.
      batch: The rows as they were read.
      numbers: int64 [rows], each row's number in its file.

    Returns:
      int64 [rows], positions in `names`; -1 for a row that is in none.
    """
    if isinstance(rule, ByHash):
        bounds = np.array([min(upper, 2**64 - 1) for _, upper in split_bounds(rule.fractions)], np.uint64)
        hashes = (
            hash_rows(key, numbers, "split")
            if rule.column is None
            else _hash_values(_column(batch, rule.column), "split")
        )
        return np.minimum(np.searchsorted(bounds, hashes, "right"), len(bounds) - 1)
    if isinstance(rule, ByColumn):
        column = _column(batch, rule.column)
        booleans = _BOOLEANS if pa.types.is_integer(column.type) else {}  # a source gives true and false as 1 and 0
        written = [booleans.get(name.lower(), name) for name in names]
        positions = pa.compute.index_in(column.cast(pa.string()), pa.array(written, pa.string()))
        return np.asarray(positions.fill_null(-1)).astype(np.int64)
    (name,), _ = rule.assign([key], "")
    return np.full(len(batch), -1 if name is None else list(names).index(name))


def describe_unlisted(rule: Splits, batch: pa.RecordBatch) -> str:
    """What to say of rows that are all in no split: what the rule's column holds instead; "" where it has none."""
    if not isinstance(rule, ByColumn) or not len(batch):
        return ""
    values = _column(batch, rule.column).cast(pa.string()).unique().to_pylist()
    shown = ", ".join("missing values" if value is None else repr(value) for value in values[:_SHOWN])
    more = ", …" if len(values) > _SHOWN else ""
    return f"expected {list(rule.values)} in the column {rule.column!r}, found {shown}{more}"


def _column(batch: pa.RecordBatch, name: str) -> pa.Array:
    if name not in batch.schema.names:
        raise RequestError(f"Recipe(splits=...): expected one of the columns {batch.schema.names}, found {name!r}")
    return batch.column(name)


def _hash_values(values: pa.Array, salt: str) -> np.ndarray:
    """A 64-bit hash of each value's text; a missing value hashes like the empty text."""
    encoded = values.cast(pa.string()).fill_null("").dictionary_encode()
    hashes = np.array([hash64(text, salt) for text in encoded.dictionary.to_pylist()], np.uint64)
    return hashes[np.asarray(encoded.indices)] if len(hashes) else np.zeros(0, np.uint64)
