"""Prepares ranges of tables in child processes, and finds the rows at which a child dies.

What a range comes to is the same as in the parent's process, part by part. Where a child dies, the part that it was at
is prepared again, without any other child at work, by halves of its rows, until those are found that are deadly alone.

Parent and child exchange pickles: first the recipe's own modules and the preparer, then for every request the range and
what to do with it. Answers are (kind, value): some parts and an end, or an error.
"""

import pickle
import tempfile
from collections.abc import Iterator, Sequence
from typing import IO, TYPE_CHECKING, Any

import cloudpickle
import numpy as np

from ..errors import PenstockError
from ..sources.listing import RecordRange
from ..sources.quarantine import QuarantinedExample
from ..storage.child_process import ChildPool, ChildProcess, read_message, serve_parent, write_message
from .chunk import Chunk
from .isolate import WORKER_DIED, start_child
from .range_totals import RangeTotals
from .row_hashes import RowHashes, concat_hashes
from .shipping import carried

if TYPE_CHECKING:
    from .tables import TablePreparer

_MODULE = "penstock.pipeline.prepare.isolated_ranges"
_PART, _END, _FAILED = "part", "end", "failed"
_SPOOLED = 64 << 20  # bytes of a range's chunks in memory; more wait in a temporary file
_TRIES = 5  # deaths at one part that no row explains


class IsolatedRanges:
    """Does what a preparer of tables does, in child processes. May be called from many threads."""

    def __init__(self, preparer: "TablePreparer", processes: int, root: str | None) -> None:
        """Prepares nothing yet: a child starts when it is first needed.

        Args:
          preparer: Prepares ranges.
          processes: How many children to keep; as many calls run at a time.
          root: The generation from which joined tables are read; None: they are read from the input.
        """
        self._first = cloudpickle.dumps((carried(), preparer, root))
        self._children = ChildPool(self._start, processes)

    def _start(self) -> ChildProcess:
        return start_child(_MODULE, self._first)

    def close(self) -> None:
        """Ends the children."""
        self._children.close()

    def __call__(self, record_range: RecordRange) -> Iterator[Chunk]:
        """The chunks of a range, and one more of rows at which a child died.

        Raises:
          PenstockError: the range cannot be read or prepared; or children die of it, and of no row alone.
        """
        with tempfile.SpooledTemporaryFile(_SPOOLED) as spool:
            died = self._prepare(record_range, "chunks", spool)
            yield from _unpickled(spool)
        if died:
            yield Chunk(quarantined=died, ranges=[RangeTotals(record_range.number, quarantined=len(died))])

    def hashes(self, record_range: RecordRange) -> RowHashes:
        """The hashes of the rows that a range stores, but of those at which a child died.

        Raises:
          PenstockError: as for the chunks.
        """
        with tempfile.SpooledTemporaryFile(_SPOOLED) as spool:
            self._prepare(record_range, "hashes", spool)
            return concat_hashes(_unpickled(spool))

    def _prepare(self, record_range: RecordRange, what: str, spool: IO[bytes]) -> list[QuarantinedExample]:
        """Writes what is asked of a range, and gives the rows that it lacks since a child died of them."""
        deadly: list[int] = []
        done = unexplained = 0
        while unexplained < _TRIES:
            try:
                with self._children.child() as child:
                    for chunk in _ask(child, record_range, what, done, deadly):
                        write_message(spool, chunk)
                        done += 1
                return [_died(record_range, number) for number in sorted(deadly)]
            except EOFError:
                pass
            if not self._is_deadly(record_range, done, deadly, None):
                unexplained += 1  # killed by somebody, or for want of memory that others had
                continue
            numbers = self._numbers(record_range, done)
            if numbers is None:  # it is not even read: there is no telling which row it is of
                taken = len(deadly) + sum(_count(part) for part in _unpickled(spool))
                rows = range(record_range.first_row + taken, record_range.first_row + record_range.rows)
                lost = rows if record_range.rows >= 0 else [None]
                return [_died(record_range, number) for number in [*sorted(deadly), *lost]]
            more = self._search(record_range, done, deadly, np.setdiff1d(numbers, deadly))
            deadly += more
            unexplained += not more
        raise PenstockError(
            f"{record_range.uri}: expected the process that prepares the rows from {record_range.first_row} on to "
            f"live, found that it died {_TRIES} times, and of no row alone; give it more memory, or fewer --threads"
        )

    def _search(self, record_range: RecordRange, part: int, known: Sequence[int], numbers: np.ndarray) -> list[int]:
        """Those of some rows of a part, of which at least one is deadly, unless it is all of them together."""
        if len(numbers) <= 1:
            return [int(number) for number in numbers]
        halves = (numbers[: len(numbers) // 2], numbers[len(numbers) // 2 :])
        return [
            number
            for half in halves
            if self._is_deadly(record_range, part, known, half)
            for number in self._search(record_range, part, known, half)
        ]

    def _is_deadly(
        self, record_range: RecordRange, part: int, known: Sequence[int], numbers: np.ndarray | None
    ) -> bool:
        """Whether a child dies of a part's rows; of these alone, if they are given."""
        try:
            with self._children.alone() as child:
                for _ in _ask(child, record_range, "try", part, known, numbers):
                    pass
        except EOFError:
            return True
        return False

    def _numbers(self, record_range: RecordRange, part: int) -> np.ndarray | None:
        """The numbers of a part's rows; None where a child dies while it reads them."""
        try:
            with self._children.alone() as child:
                (content,) = _ask(child, record_range, "numbers", part)
        except EOFError:
            return None
        numbers: np.ndarray = pickle.loads(content)
        return numbers


def _count(part: Chunk | RowHashes) -> int:
    """How many rows a part of a range has had; of hashes it does not matter."""
    return part.read if isinstance(part, Chunk) else 0


def _unpickled(spool: IO[bytes]) -> Iterator[Any]:
    spool.seek(0)
    while message := read_message(spool):
        yield pickle.loads(message)


def _ask(child: ChildProcess, record_range: RecordRange, *request: Any) -> Iterator[bytes]:
    """What a child answers, each a pickle.

    Raises:
      EOFError: it died.
    """
    child.send(pickle.dumps((record_range, *request), pickle.HIGHEST_PROTOCOL))
    while True:
        kind, value = pickle.loads(child.receive(None))
        if kind == _END:
            return
        if kind == _FAILED:
            raise value
        yield value


def _died(record_range: RecordRange, number: int | None) -> QuarantinedExample:
    """A row of a range; None: whatever of it could not be read."""
    key, what = (record_range.key, "read") if number is None else (f"{record_range.key}:{number}", "prepared")
    return QuarantinedExample(key, record_range.uri, "prepare", WORKER_DIED, f"each process that {what} it died")


def answers_to(
    preparer: "TablePreparer",
    record_range: RecordRange,
    what: str,
    part: int,
    without: Sequence[int] = (),
    only: np.ndarray | None = None,
) -> Iterator[object]:
    """What a child answers.

    Args:
      preparer: Prepares ranges.
      record_range: The range.
      what: `chunks` or `hashes`: those of a part and of the parts behind it; `try`: nothing, once the part is prepared;
        `numbers`: the numbers of its rows.
      part: The first part.
      without: The numbers of rows that are left out.
      only: The numbers of those that are taken; None: all others.
    """
    for number, rows in enumerate(preparer.read(record_range)):
        if number < part:
            continue
        if what == "numbers":
            yield rows.numbers
            return
        taken = ~np.isin(rows.numbers, np.asarray(without, np.int64))
        if only is not None:
            taken &= np.isin(rows.numbers, only)
        kept = rows if taken.all() else rows.keep(taken)
        answer = (preparer.hash_part if what == "hashes" else preparer.prepare_part)(record_range, kept)
        if what == "try":
            return
        yield answer


def main() -> None:
    """The child: answers requests until its parent closes the pipe."""
    requests, answers = serve_parent()
    _, preparer, root = pickle.loads(read_message(requests) or b"")  # a recipe's own modules come first
    if root is not None:
        preparer.use_joined(root)
    write_message(answers, b"")
    while request := read_message(requests):
        record_range, *rest = pickle.loads(request)
        try:
            for answer in answers_to(preparer, record_range, *rest):
                write_message(answers, pickle.dumps((_PART, pickle.dumps(answer, pickle.HIGHEST_PROTOCOL))))
            write_message(answers, pickle.dumps((_END, None)))
        except Exception as error:  # the parent's to raise, as if it had been met there
            write_message(answers, _pickled(error))


def _pickled(error: Exception) -> bytes:
    try:
        content = pickle.dumps((_FAILED, error))
        pickle.loads(content)  # some take other arguments than they keep
    except Exception:
        return pickle.dumps((_FAILED, RuntimeError(f"{type(error).__name__}: {error}")))
    return content


if __name__ == "__main__":
    main()
