import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

from penstock.pipeline.prepare.threads import OneBehind, ordered_flat_map, ordered_map


def test_results_are_in_the_order_of_the_items() -> None:
    second_has_ended = threading.Event()

    def double(item: int) -> int:
        if item == 0:
            assert second_has_ended.wait(10)
        if item == 1:
            second_has_ended.set()
        return 2 * item

    with ThreadPoolExecutor(2) as pool:
        assert list(ordered_map(pool, double, range(5), window=2)) == [0, 2, 4, 6, 8]


def test_no_more_items_are_begun_than_the_window_holds() -> None:
    taken = []

    def items() -> object:
        for item in range(10):
            taken.append(item)
            yield item

    with ThreadPoolExecutor(4) as pool:
        results = ordered_map(pool, str, items(), window=3)
        assert [next(results), next(results)] == ["0", "1"]
        assert taken == [0, 1, 2, 3]
        assert list(results) == [str(item) for item in range(2, 10)]


def test_an_error_comes_where_its_result_would() -> None:
    with ThreadPoolExecutor(2) as pool:
        results = ordered_map(pool, lambda item: 6 // item, [1, 2, 0, 3], window=4)
        assert [next(results), next(results)] == [6, 3]
        with pytest.raises(ZeroDivisionError):
            next(results)


def test_all_results_of_each_item_come_in_order():
    with ThreadPoolExecutor(3) as pool:
        results = ordered_flat_map(
            pool, lambda item: ((item, number) for number in range(item)), [3, 0, 50, 1], window=2
        )
        assert list(results) == [(item, number) for item in [3, 0, 50, 1] for number in range(item)]


def test_few_results_of_an_item_wait_to_be_taken():
    computed = []

    def count(item):
        for number in range(1000):
            computed.append(item)
            yield number

    with ThreadPoolExecutor(2) as pool:  # which ends, though nobody takes the rest
        results = ordered_flat_map(pool, count, range(10), window=3)
        assert [next(results) for _ in range(5)] == list(range(5))
    assert Counter(computed) == {0: 8, 1: 2, 2: 2}


def test_an_error_of_an_item_comes_after_the_items_before_it():
    with ThreadPoolExecutor(2) as pool:
        results = ordered_flat_map(pool, lambda item: (6 // each for each in (1, item)), [3, 0, 2], window=4)
        assert [next(results) for _ in range(2)] == [6, 2]
        with pytest.raises(ZeroDivisionError):
            next(results)


def test_one_function_is_called_while_its_caller_goes_on_and_no_second_one() -> None:
    behind, may_end, ended = OneBehind("behind"), threading.Event(), []

    def first() -> str:
        assert may_end.wait(10)
        ended.append("first")
        return "result"

    result = behind.run(first)
    assert not result.done()
    may_end.set()
    second = behind.run(lambda: list(ended))
    assert result.result(0) == "result"
    behind.close()
    assert second.result(0) == ["first"]


def test_what_the_last_function_raised_comes_with_the_next_one_which_is_not_called() -> None:
    behind, called = OneBehind("behind"), []
    failed = behind.run(lambda: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        behind.run(lambda: called.append("next"))
    assert called == []
    behind.run(lambda: called.append("after it"))
    behind.close()
    assert called == ["after it"]
    assert isinstance(failed.exception(), ZeroDivisionError)
