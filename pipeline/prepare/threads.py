"""Threads, bounded and in order."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Any, TypeVar

T = TypeVar("T")
R = TypeVar("R")

_STEP = 2  # results at a time: an item that has one alone is done in one step


def ordered_map(pool: ThreadPoolExecutor, function: Callable[[T], R], items: Iterable[T], window: int) -> Iterator[R]:
    """`map` in a thread pool, in the order of the items, with at most `window` of them begun and not yet taken."""
    begun: deque[Future[R]] = deque()
    for item in items:
        begun.append(pool.submit(function, item))
        if len(begun) >= window:
            yield begun.popleft().result()
    while begun:
        yield begun.popleft().result()


def ordered_flat_map(
    pool: ThreadPoolExecutor, function: Callable[[T], Iterator[R]], items: Iterable[T], window: int
) -> Iterator[R]:
    """All that `function` gives for each item, in the order of the items, computed in a thread pool.

    At most `window` items are begun and not yet taken, and of each few results wait, however many it has. No thread
    waits for results to be taken: the next ones are begun when it is.
    """
    begun: deque[tuple[Iterator[R], Future[list[R]]]] = deque()
    for item in items:
        results = function(item)
        begun.append((results, pool.submit(_take, results)))
        if len(begun) >= window:
            yield from _rest(pool, *begun.popleft())
    while begun:
        yield from _rest(pool, *begun.popleft())


class OneBehind:
    """Calls functions in a thread of its own: whoever hands one over goes on, and waits for it with the next one."""

    def __init__(self, name: str) -> None:
        """Begins no thread.

        Args:
          name: The thread's.
        """
        self._pool = ThreadPoolExecutor(1, name)
        self._last: Future[Any] | None = None

    def run(self, function: Callable[[], R]) -> Future[R]:
        """Has a function be called, once the last one has returned.

        Raises:
          Exception: what the last one raised; this one is not called.
        """
        if self._last:
            last, self._last = self._last, None
            last.result()
        future = self._pool.submit(function)
        self._last = future
        return future

    def close(self) -> None:
        """Waits for the last one, and ends the thread."""
        self._pool.shutdown()


def _take(results: Iterator[R]) -> list[R]:
    return list(islice(results, _STEP))


def _rest(pool: ThreadPoolExecutor, results: Iterator[R], begun: Future[list[R]]) -> Iterator[R]:
    """What is left of an item's results, the first of which are begun."""
    while len(taken := begun.result()) == _STEP:
        begun = pool.submit(_take, results)
        yield from taken
    yield from taken
