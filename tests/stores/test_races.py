"""Two who commit to one dataset at once: one wins, and the other is told who did."""

import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from stores.proxy import Proxy, Seeded
from stores.servers import Store

from penstock.pipeline import DatasetError
from penstock.pipeline.formats.pointer import Pointer, publish

pytestmark = pytest.mark.slow

ROUNDS = 100
MODES = ("500", "503", "429", "reset", "lost", "late_500", "truncate")


def pointer(number: int) -> Pointer:
    return Pointer.to(f"{number:016x}", b"%d" % number)


def race(dataset: str, rounds: int) -> Counter[str]:
    """Lets two publish one pointer each, round after round; counts what became of it."""
    current: Pointer | None = None
    outcomes: Counter[str] = Counter()
    with ThreadPoolExecutor(2) as pool:
        for number in range(1, 2 * rounds, 2):
            rivals, barrier = (pointer(number), pointer(number + 1)), threading.Barrier(2)

            def commit(
                mine: Pointer, replaces: Pointer | None = current, barrier: threading.Barrier = barrier
            ) -> str | None:
                barrier.wait()
                try:
                    publish(dataset, mine, replaces)
                except DatasetError as error:
                    return str(error)
                return None

            answers = list(pool.map(commit, rivals))
            winners = [rival for rival, answer in zip(rivals, answers, strict=True) if answer is None]
            assert len(winners) == 1, answers
            current = Pointer.read(dataset)
            assert current == winners[0]
            loss = next(answer for answer in answers if answer)
            assert f"another run committed generation {current.generation}" in loss
            outcomes["created" if number == 1 else "replaced"] += 1
    return outcomes


def test_of_two_that_replace_a_pointer_one_wins(store: Store, folder_names: Callable[[], str]):
    assert race(store.uri(folder_names()), ROUNDS // 2).total() == ROUNDS // 2


def test_of_two_that_create_a_pointer_one_wins(store: Store, folder_names: Callable[[], str]):
    for _ in range(ROUNDS // 2):
        assert race(store.uri(folder_names()), 1) == {"created": 1}


@pytest.mark.usefixtures("impatient")
def test_one_wins_where_answers_are_lost(
    store: Store, use: Callable[..., None], proxied: Callable[..., Proxy], folder_names: Callable[[], str]
):
    proxy = proxied(store, faults=Seeded(1, 0.3, MODES))
    use(store, proxy)
    for _ in range(20):
        race(store.uri(folder_names()), 3)
    assert proxy.seen.faults.keys() == set(MODES)
