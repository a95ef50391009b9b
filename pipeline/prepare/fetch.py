"""Fetches ahead what is far away: many requests at a time, apart from the threads that decode, in bounded memory.

How many requests are under way is not set but follows: a fetch begins when a result is taken, so in the long run there
are as many as a request takes seconds times the results that are taken in one (Little's law), up to the limits.
"""

import heapq
import math
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, TypeVar

from ..sources.file_content import PartReader
from ..sources.listing import RecordRange
from ..storage import files

T = TypeVar("T")
F = TypeVar("F")
R = TypeVar("R")

_REQUESTS = 64  # at a time for each thread that decodes: 400 results/s of each, where an answer takes 160 ms
_MOST_REQUESTS = 512
_AHEAD = 8  # items begun for each request: an answer that takes eight times as long as others keeps nobody waiting
_FETCHED_BYTES = 256 << 20
_RANGES = 16  # at a time for each thread that parses: 100 MB/s of each, where an answer takes 160 ms
_RANGE_BYTES = 128 << 20
_LONGEST_RANGE = 16 << 20  # bytes
_UNKNOWN = 1 << 20  # bytes of what is fetched, where nothing tells


@dataclass(frozen=True)
class FetchLimits:
    """What is under way at most.

    Attributes:
      requests: Fetches at a time.
      items: Items that are begun and whose results are not taken yet.
      fetched_bytes: Their bytes until they are worked on; one item may have more.
      result_bytes: The bytes of results from which on only the one that is waited for is worked on.
    """

    requests: int
    items: int
    fetched_bytes: int = _FETCHED_BYTES
    result_bytes: int = 128 << 20

    @classmethod
    def for_threads(cls, threads: int, requests: int = _REQUESTS, fetched_bytes: int = _FETCHED_BYTES) -> "FetchLimits":
        """The limits beside so many threads that decode, each of which is given so many requests at a time."""
        total = min(requests * threads, _MOST_REQUESTS)
        return cls(total, _AHEAD * total, fetched_bytes)


def fetch_ahead(
    pool: ThreadPoolExecutor, fetch: Callable[[T], F], items: Iterable[T], size: Callable[[T], int], limits: FetchLimits
) -> Iterator[F]:
    """What is fetched for each item, in the items' order, some time before it is taken.

    Args:
      pool: Fetches.
      fetch: Gets what is far away.
      items: The items.
      size: About the bytes that are fetched for one.
      limits: What is under way or waits at most; what was taken is the caller's.
    """
    begun: deque[tuple[Future[F], int]] = deque()
    begun_bytes = 0
    try:
        for item in items:
            expected = max(0, size(item))
            while begun and (len(begun) >= limits.items or begun_bytes + expected > limits.fetched_bytes):
                future, bytes_before = begun.popleft()
                begun_bytes -= bytes_before
                yield future.result()
            begun.append((pool.submit(fetch, item), expected))
            begun_bytes += expected
        while begun:
            yield begun.popleft()[0].result()
    finally:
        for future, _ in begun:
            future.cancel()


class RangeFetcher:
    """Fetches ahead what ranges of tables take of files in stores."""

    def __init__(self, threads: int) -> None:
        """Starts no thread yet.

        Args:
          threads: How many threads read the ranges.
        """
        self._limits = FetchLimits.for_threads(threads, _RANGES, _RANGE_BYTES)
        self._pool = ThreadPoolExecutor(self._limits.requests, "fetch")
        self._reader = PartReader()

    def ahead(
        self, fetch: Callable[[RecordRange, PartReader], RecordRange], ranges: Sequence[RecordRange]
    ) -> Iterable[RecordRange]:
        """The ranges, of which those in stores come with what `fetch` fetched, unless they are long.

        A long one, such as a large row group, is fetched by the thread that reads it: several requests at a time, for
        which one waits less than for its rows, and a few of them waiting would take all memory.

        Args:
          fetch: Gives a range with the parts of its file that are needed; called in many threads.
          ranges: The ranges.
        """
        if all(files.is_local(record_range.uri) for record_range in ranges):
            return ranges

        def size(record_range: RecordRange) -> int:
            return record_range.size if record_range.size <= _LONGEST_RANGE else 0

        def fetch_short(record_range: RecordRange) -> RecordRange:
            return fetch(record_range, self._reader) if record_range.size <= _LONGEST_RANGE else record_range

        return fetch_ahead(self._pool, fetch_short, ranges, size, self._limits)

    def close(self) -> None:
        """Ends the threads; what is under way ends by itself."""
        self._pool.shutdown(wait=False, cancel_futures=True)


@dataclass(frozen=True)
class Stages(Generic[T, F, R]):
    """What is done with an item, and how many bytes that takes.

    Attributes:
      fetch: Gets what is far away; called in the pool for fetching.
      work: Makes the result of an item and what was fetched for it; called in the pool for decoding.
      expected_size: About the bytes that will be fetched; negative where nothing tells.
      fetched_size: Those that were.
      result_size: About the bytes of a result.
    """

    fetch: Callable[[T], F]
    work: Callable[[T, F], R]
    expected_size: Callable[[T], int]
    fetched_size: Callable[[F], int]
    result_size: Callable[[R], int]


class FetchingMap(Generic[T, F, R]):
    """Results of items in their order; they are fetched ahead, and worked on in the order in which they arrive.

    An answer that comes late holds nothing up as long as there is room for the results of the items behind it.
    """

    def __init__(
        self,
        pools: tuple[ThreadPoolExecutor, ThreadPoolExecutor],
        stages: Stages[T, F, R],
        items: Iterable[T],
        threads: int,
        limits: FetchLimits,
    ) -> None:
        """Begins nothing yet.

        Args:
          pools: The one for fetching and the one for decoding.
          stages: What is done with each item.
          items: The items.
          threads: The threads of the pool for decoding.
          limits: What is under way at most.
        """
        self._fetchers, self._workers = pools
        self._stages, self._items, self._limits = stages, iter(items), limits
        self._working_limit = 2 * threads  # one that waits for each that is worked on
        self._changed = threading.Condition()
        self._next: T | None = next(self._items, None)
        self._begun = self._taken = self._working = 0
        self._sizes: dict[int, int] = {}  # of the items that are begun and not worked on yet
        self._fetched_bytes = self._result_bytes = 0
        self._known_bytes = self._known_items = 0
        self._arrived: list[tuple[int, T, F]] = []  # a heap, by the items' order
        self._results: dict[int, tuple[Future[R], int]] = {}
        self._failed = math.inf  # the first item that is known to have failed: what is behind it is not needed
        self._closed = False

    def __iter__(self) -> Iterator[R]:
        """The results.

        Raises:
          BaseException: what a stage raised for an item, where its result would be.
          RuntimeError: it was closed before the last one.
        """
        try:
            while True:
                with self._changed:
                    self._advance()
                    while self._taken not in self._results:
                        if self._closed:
                            raise RuntimeError("closed while results are taken")
                        if self._next is None and self._taken == self._begun:
                            return
                        self._changed.wait()
                    future, size = self._results.pop(self._taken)
                    self._taken += 1
                    self._result_bytes -= size
                    self._advance()
                yield future.result()
        finally:
            self.close()

    def close(self) -> None:
        """Begins nothing more; what is under way ends by itself."""
        with self._changed:
            self._closed = True
            self._arrived.clear()
            self._results.clear()
            self._changed.notify_all()

    def _advance(self) -> None:
        """Begins what there is room for. Called under the lock."""
        limits = self._limits
        while not self._closed and self._next is not None and self._begun - self._taken < limits.items:
            size = self._expected_size(self._next)
            if self._sizes and self._fetched_bytes + size > limits.fetched_bytes:
                break
            number, item = self._begun, self._next
            self._begun += 1
            self._sizes[number] = size
            self._fetched_bytes += size
            self._fetchers.submit(self._fetch, number, item)
            self._take_item()
        while self._arrived and self._working < self._working_limit:
            if self._result_bytes > limits.result_bytes and self._arrived[0][0] != self._taken:
                break
            self._working += 1
            self._workers.submit(self._work, *heapq.heappop(self._arrived))

    def _take_item(self) -> None:
        """Takes the next item; what is raised instead comes where its result would. Called under the lock."""
        try:
            self._next = next(self._items, None)
        except BaseException as error:
            future: Future[R] = Future()
            future.set_exception(error)
            self._results[self._begun] = future, 0
            self._begun += 1
            self._next = None

    def _expected_size(self, item: T) -> int:
        size = self._stages.expected_size(item)
        if size >= 0:
            return size
        return self._known_bytes // self._known_items if self._known_items else _UNKNOWN

    def _fetch(self, number: int, item: T) -> None:
        """Fetches an item, in a thread for that."""
        if self._closed or number > self._failed:
            return
        try:
            fetched = self._stages.fetch(item)
            size = self._stages.fetched_size(fetched)
        except BaseException as error:
            self._fail(number, error)
            return
        with self._changed:
            if self._closed:
                return
            self._known_bytes, self._known_items = self._known_bytes + size, self._known_items + 1
            self._fetched_bytes += size - self._sizes[number]
            self._sizes[number] = size
            heapq.heappush(self._arrived, (number, item, fetched))
            self._advance()

    def _work(self, number: int, item: T, fetched: F) -> None:
        """Makes the result of an item, in a thread for that."""
        if self._closed or number > self._failed:
            with self._changed:
                self._working -= 1
                self._advance()
            return
        future: Future[R] = Future()
        try:
            result = self._stages.work(item, fetched)
            size = self._stages.result_size(result)
        except BaseException as error:
            self._fail(number, error, worked=1)
            return
        future.set_result(result)
        self._finish(number, future, size, worked=1)

    def _fail(self, number: int, error: BaseException, worked: int = 0) -> None:
        future: Future[R] = Future()
        future.set_exception(error)
        with self._changed:
            self._failed = min(number, self._failed)
            self._next = None
        self._finish(number, future, 0, worked)

    def _finish(self, number: int, future: Future[R], size: int, worked: int) -> None:
        """Takes a result, or what was raised in its place; `worked` is 1 if it was worked on, else 0."""
        with self._changed:
            if self._closed:
                return
            self._working -= worked
            self._fetched_bytes -= self._sizes.pop(number)
            self._result_bytes += size
            self._results[number] = future, size
            self._advance()
            if number == self._taken:
                self._changed.notify_all()
