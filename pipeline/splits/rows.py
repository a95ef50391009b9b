"""Which split a table's row belongs to, for whole batches at a time."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from ..errors import RequestError
from ..sources.row_errors import RowError
from .columns import ColumnRule, Strata, split_batch
from .hashing import hash_rows
from .rules import ByColumn, ByGlob, ByHash, ByPath, ByTime, Splits, find_group


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
        assigned = rule.assign(pa.array(keys, pa.string())).to_pylist()
        for name in rule.names():
            if name not in assigned:
                raise RequestError(
                    f"split {name!r} would be empty: expected files that match {rule.patterns[name]!r}, found "
                    f"{list(keys)[:3]}; fix by_glob's patterns or those of the source"
                )
    if isinstance(rule, ByHash | ByColumn | ByTime | ByGlob):
        return list(rule.names())
    raise RequestError(
        "Recipe(splits=...): expected shares, by_hash, by_column, by_time, by_glob, by_path or by_folder for rows of a "
        f"table, found {rule!r}"
    )


def split_rows(
    rule: Splits | Strata, names: Sequence[str], key: str, batch: pa.RecordBatch, numbers: np.ndarray
) -> tuple[np.ndarray, dict[int, RowError]]:
    """The split of each row.

    Args:
      rule: The recipe's rule, fitted where it must be.
      names: The splits' names.
      key: The key of the rows' file.
      batch: The rows as they were read; or after `prepare`, where that makes a column that decides.
      numbers: int64 [rows], each row's number in its file.

    Returns:
      int64 [rows], positions in `names`, -1 for a row that is in none; and why some can be in none, by position.
    """
    if isinstance(rule, ColumnRule):
        return split_batch(rule, names, batch, lambda: hash_rows(key, numbers, "split"))
    assert isinstance(rule, ByPath | ByGlob)  # `split_names` refuses others
    (name,) = rule.assign(pa.array([key], pa.string())).to_pylist()
    return np.full(len(batch), -1 if name is None else list(names).index(name)), {}
