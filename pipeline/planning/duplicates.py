"""Which rows of a table equal an earlier one, found before any unit is made: each unit leaves out its own.

Of a table of more than `sources.text_ranges.READ_WHOLE` bytes workers find them: see `build/duplicates`.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace

import numpy as np

from ..errors import PenstockError, RequestError
from ..prepare.fetch import RangeFetcher
from ..prepare.row_hashes import RowHashes
from ..prepare.tables import TablePreparer
from ..prepare.threads import ordered_map
from ..sources.listing import RecordRange


def mark_duplicates(preparer: TablePreparer, ranges: Sequence[RecordRange], threads: int) -> list[RecordRange]:
    """The ranges, with the rows that are to be left out: of rows that are stored alike the first one stays.

    Prepares all of the input once, and holds 32 bytes of each row.

    Args:
      preparer: Prepares the rows.
      ranges: All ranges, in the order of the input.
      threads: How many to prepare at a time.

    Raises:
      RequestError: a function of `prepare` fails on a range.
    """

    def hashes(record_range: RecordRange) -> RowHashes:
        try:
            return preparer.hashes(record_range)
        except PenstockError as error:
            raise RequestError(str(error)) from error

    with ThreadPoolExecutor(threads) as pool, closing(RangeFetcher(threads)) as fetcher:
        parts = list(ordered_map(pool, hashes, fetcher.ahead(preparer.steps.fetch, ranges), 2 * threads))
    is_duplicate = equal_an_earlier(np.concatenate([words for _, words in parts]))
    marked, begin = [], 0
    for record_range, (numbers, _) in zip(ranges, parts, strict=True):
        end = begin + len(numbers)
        marked.append(replace(record_range, duplicates=numbers[is_duplicate[begin:end]].astype(np.int64).tobytes()))
        begin = end
    return marked


def equal_an_earlier(words: np.ndarray) -> np.ndarray:
    """Whether a row equals one before it: uint64 [rows, words] to bool [rows]."""
    order = np.lexsort(words.T)  # stable: equal rows keep their order
    ordered = words[order]
    is_duplicate = np.zeros(len(words), bool)
    is_duplicate[order[1:]] = (ordered[1:] == ordered[:-1]).all(axis=1)
    return is_duplicate
