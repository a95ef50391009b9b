"""Fetching ahead: in order, in bounded memory, and no more than is needed."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest

from penstock.pipeline.prepare.fetch import FetchingMap, FetchLimits, RangeFetcher, Stages, fetch_ahead
from penstock.pipeline.sources.file_content import FileParts
from penstock.pipeline.sources.listing import RecordRange

WAIT = 10  # seconds, for what must come


class Recorder:
    """Counts what is under way."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.now = self.most = self.begun = self.sum = 0

    def enter(self, amount: int = 1) -> None:
        with self._lock:
            self.now += amount
            self.begun += 1
            self.most = max(self.most, self.now)
            self.sum += self.now

    def leave(self, amount: int = 1) -> None:
        with self._lock:
            self.now -= amount


@pytest.fixture
def pools() -> Iterator[tuple[ThreadPoolExecutor, ThreadPoolExecutor]]:
    with ThreadPoolExecutor(32, "fetch") as fetchers, ThreadPoolExecutor(2, "work") as workers:
        yield fetchers, workers


@pytest.fixture
def fetched(pools: Any) -> Callable[..., FetchingMap[Any, Any, Any]]:
    def start(
        items: Any,
        fetch: Callable[[Any], Any] = lambda item: item,
        work: Callable[[Any, Any], Any] = lambda item, content: content,
        limits: FetchLimits | None = None,
        expected_size: Callable[[Any], int] = lambda item: 1,
        fetched_size: Callable[[Any], int] = lambda content: 1,
        result_size: Callable[[Any], int] = lambda result: 1,
    ) -> FetchingMap[Any, Any, Any]:
        stages = Stages(fetch, work, expected_size, fetched_size, result_size)
        return FetchingMap(pools, stages, items, 2, limits or FetchLimits(32, 64))

    return start


def test_results_are_in_the_order_of_the_items(fetched: Any):
    def late(item: int) -> int:
        time.sleep(0.001 * (item * 7 % 5))
        return item

    results = list(fetched(range(300), late, lambda item, content: (item, 2 * content)))
    assert results == [(item, 2 * item) for item in range(300)]
    assert list(fetched([])) == []


def test_a_late_answer_holds_up_no_work_behind_it(fetched: Any):
    others_are_done = threading.Event()
    done = Recorder()

    def fetch(item: int) -> int:
        if item == 0:
            assert others_are_done.wait(WAIT)
        return item

    def work(item: int, content: int) -> int:
        done.enter()
        if done.begun == 63:
            others_are_done.set()
        return content

    assert list(fetched(range(100), fetch, work)) == list(range(100))


def test_no_more_items_are_begun_than_there_is_room_for(fetched: Any):
    begun = []

    def items() -> Iterator[int]:
        for item in range(50):
            begun.append(item)
            yield item

    results = iter(fetched(items(), limits=FetchLimits(32, 5)))
    assert next(results) == 0
    assert len(begun) <= 1 + 5 + 1  # taken, begun, and the next one
    assert list(results) == list(range(1, 50))


@pytest.mark.parametrize("known", [True, False])
def test_what_is_fetched_is_bounded_by_bytes(fetched: Any, known: bool):
    """Unknown sizes are taken for those that were fetched."""
    waiting = Recorder()

    def fetch(item: int) -> bytes:
        waiting.enter(100)
        return bytes(100)

    def work(item: int, content: bytes) -> int:
        time.sleep(0.002)
        waiting.leave(100)
        return item

    limits = FetchLimits(32, 64, fetched_bytes=1000)
    results = fetched(range(200), fetch, work, limits, lambda item: 100 if known else -1, len)
    assert list(results) == list(range(200))
    assert 500 <= waiting.most <= 1000  # and not one by one


def test_an_item_larger_than_the_bound_is_fetched_alone(fetched: Any):
    waiting = Recorder()

    def fetch(item: int) -> int:
        waiting.enter()
        return item

    def work(item: int, content: int) -> int:
        waiting.leave()
        return item

    limits = FetchLimits(32, 64, fetched_bytes=10)
    assert list(fetched(range(20), fetch, work, limits, lambda item: 50, lambda content: 50)) == list(range(20))
    assert waiting.most == 1


def test_results_that_wait_for_a_late_one_are_bounded_by_bytes(fetched: Any):
    release = threading.Event()
    worked = Recorder()

    def fetch(item: int) -> int:
        if item == 0:
            assert release.wait(WAIT)
        return item

    def work(item: int, content: int) -> int:
        worked.enter()
        return item

    flow = fetched(range(64), fetch, work, FetchLimits(32, 64, result_bytes=1000), result_size=lambda result: 200)
    results: list[int] = []
    consumer = threading.Thread(target=lambda: results.extend(flow))
    consumer.start()
    deadline = time.monotonic() + WAIT
    while worked.begun < 6 and time.monotonic() < deadline:
        time.sleep(0.005)
    time.sleep(0.1)
    assert 6 <= worked.begun <= 10  # 1,000 bytes are exceeded by the sixth; those that were begun by then end
    release.set()
    consumer.join(WAIT)
    assert results == list(range(64))


def test_as_many_fetches_are_under_way_as_the_answers_are_late(fetched: Any):
    in_flight = Recorder()

    def fetch(item: int) -> int:
        in_flight.enter()
        time.sleep(0.05)
        in_flight.leave()
        return item

    flow = fetched(range(150), fetch)
    for item in flow:
        if item == 80:  # what was begun at once, at the start, is behind
            in_flight.begun = in_flight.sum = 0
        time.sleep(0.01)
    assert in_flight.most == 32
    assert 2 <= in_flight.sum / in_flight.begun <= 12  # 0.05 s of 100 results a second: 5


@pytest.mark.parametrize("stage", ["fetch", "work"])
def test_an_error_comes_where_its_result_would_and_ends_the_rest(fetched: Any, stage: str):
    fetches = Recorder()

    def fail(item: int) -> int:
        if item == 3:
            raise OSError("broken")
        return item

    def fetch(item: int) -> int:
        fetches.enter()
        return fail(item) if stage == "fetch" else item

    flow = iter(
        fetched(range(1000), fetch, lambda item, content: fail(item) if stage == "work" else item, FetchLimits(32, 8))
    )
    assert [next(flow) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(OSError, match="broken"):
        next(flow)
    begun = fetches.begun
    time.sleep(0.05)
    assert fetches.begun == begun < 20


def test_items_that_fail_are_an_error_in_their_place(fetched: Any):
    def items() -> Iterator[int]:
        yield from range(100)
        raise OSError("no more items")

    flow = iter(fetched(items(), limits=FetchLimits(32, 5)))
    assert [next(flow) for _ in range(100)] == list(range(100))
    with pytest.raises(OSError, match="no more items"):
        next(flow)


def test_an_error_keeps_no_earlier_result_from_being_made(fetched: Any):
    all_begun, failed, fetches = threading.Event(), threading.Event(), Recorder()

    def fetch(item: int) -> int:
        fetches.enter()
        if fetches.begun == 20:
            all_begun.set()
        if item == 0:
            assert failed.wait(WAIT)
            time.sleep(0.05)  # until those behind the error are given up
        return item

    def work(item: int, content: int) -> int:
        if item == 3:
            assert all_begun.wait(WAIT)
            time.sleep(0.05)  # until they have arrived
            failed.set()
            raise OSError("broken")
        if item == 4:
            assert failed.wait(WAIT)  # so that others wait to be worked on
        return item

    flow = iter(fetched(range(20), fetch, work))
    assert [next(flow) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(OSError, match="broken"):
        next(flow)


def test_what_nobody_takes_any_more_is_not_fetched(fetched: Any):
    fetches = Recorder()

    def fetch(item: int) -> int:
        fetches.enter()
        time.sleep(0.01)
        return item

    flow = fetched(range(1000), fetch)
    results = iter(flow)
    next(results)
    flow.close()
    begun = fetches.begun
    time.sleep(0.1)
    assert fetches.begun <= begun + 1
    with pytest.raises(RuntimeError, match="closed"):  # and no unit takes that for its end
        list(results)


def test_limits_follow_the_threads():
    assert FetchLimits.for_threads(1).requests >= 40
    assert FetchLimits.for_threads(2).requests == 2 * FetchLimits.for_threads(1).requests
    assert FetchLimits.for_threads(10_000).requests == 512


def test_what_is_fetched_ahead_comes_in_order_and_is_bounded(pools: Any):
    fetchers, _ = pools
    waiting = Recorder()

    def fetch(item: int) -> int:
        waiting.enter()
        time.sleep(0.001 * (item * 7 % 5))
        return item

    found = []
    for item in fetch_ahead(fetchers, fetch, range(200), lambda item: 10, FetchLimits(32, 64, fetched_bytes=100)):
        waiting.leave()
        found.append(item)
    assert found == list(range(200))
    assert 5 <= waiting.most <= 11  # of 100 bytes, and the one that is taken
    assert list(fetch_ahead(fetchers, fetch, range(9), lambda item: 1000, FetchLimits(32, 64, 100))) == list(range(9))
    assert list(fetch_ahead(fetchers, fetch, range(99), lambda item: -1, FetchLimits(32, 64, 100))) == list(range(99))


def test_what_fails_ahead_comes_in_its_place_and_ends_the_rest(pools: Any):
    fetches = Recorder()

    def fetch(item: int) -> int:
        fetches.enter()
        time.sleep(0.002)
        return 6 // (3 - item)

    ahead = fetch_ahead(pools[0], fetch, range(1000), lambda item: 1, FetchLimits(32, 8))
    assert [next(ahead) for _ in range(3)] == [2, 3, 6]
    with pytest.raises(ZeroDivisionError):
        next(ahead)
    begun = fetches.begun
    time.sleep(0.05)
    assert begun <= fetches.begun < 20


def test_long_ranges_are_left_to_the_thread_that_reads_them():
    ranges = [RecordRange(f"s3://b/{at}.parquet", str(at), 0, 1, 0, 1, (10 + at) << 20) for at in range(20)]
    fetcher = RangeFetcher(2)
    fetched = []

    def fetch(record_range: RecordRange, reader: Any) -> RecordRange:
        fetched.append(record_range.size)
        return replace(record_range, parts=FileParts({}))

    found = list(fetcher.ahead(fetch, ranges))
    fetcher.close()
    assert found == ranges
    assert sorted(fetched) == [size << 20 for size in range(10, 17)]
    assert [each.parts is not None for each in found] == [each.size <= 16 << 20 for each in ranges]
