"""How workers agree on where an iteration begins, in memory that they share."""

import threading
from typing import Any

import numpy as np
import pytest

from penstock.pipeline import PenstockError
from penstock.pipeline.load.order import State, Steps
from penstock.pipeline.load.workers import SIZE, SharedStarts, Start, Turn, at_place, every, place_of

OWNER = 4711


def _starts() -> SharedStarts:
    return SharedStarts(np.zeros(SIZE, np.int64))


def _turn(number: int = 0, seed: int = 99, workers: int = 3, owner: int = OWNER) -> Turn:
    return Turn(owner, seed, number, workers)


def test_workers_join_where_worker_0_began() -> None:
    starts = _starts()
    joined: dict[int, Any] = {}

    def join(worker: int) -> None:
        joined[worker] = starts.join(_turn(), worker)

    threads = [threading.Thread(target=join, args=[worker]) for worker in (1, 2)]
    for thread in threads:
        thread.start()
    starts.begin(_turn(), (4, 8, 3), (5, 0, 5))
    for thread in threads:
        thread.join(10)
    assert joined == {1: (4, 8, 3), 2: (4, 8, 3)}


def test_a_late_worker_joins_its_own_iteration() -> None:
    starts = _starts()
    for number in range(4):
        starts.begin(_turn(number), (number, 0, number), (number + 1, 0, 0))
    assert starts.join(_turn(1), 1) == (1, 0, 1)
    assert starts.join(_turn(3), 1) == (3, 0, 3)


def test_iterations_of_the_same_seed_are_told_apart() -> None:
    starts = _starts()
    for epoch in range(12):  # more than are remembered
        starts.begin(_turn(), (epoch, 0, epoch), (epoch + 1, 0, 0))
        assert [starts.join(_turn(), worker) for worker in (2, 1)] == [(epoch, 0, epoch)] * 2
    with pytest.raises(PenstockError, match="worker 1: expected another worker to say where"):
        starts.join(_turn(), 1, patience=0.01)


@pytest.mark.parametrize("other", [{"seed": 98}, {"number": 1}, {"workers": 2}, {"owner": OWNER + 32}])
def test_other_iterations_are_not_joined(other: dict[str, int]) -> None:
    starts = _starts()
    starts.begin(_turn(**other), (1, 0, 1), (2, 0, 2))
    with pytest.raises(PenstockError, match="expected another worker"):
        starts.join(_turn(), 1, patience=0.01)


def test_what_was_said_last_is_told_for_each_owner() -> None:
    starts = _starts()
    assert starts.latest(OWNER) is None
    starts.publish(OWNER, (1, 2, 0))
    assert starts.latest(OWNER) == Start((1, 2, 0), None)
    starts.begin(_turn(owner=OWNER + 1), (6, 0, 6), (7, 0, 7))
    assert starts.latest(OWNER + 1) == Start((7, 0, 7), (6, 0, 6))
    assert starts.latest(OWNER) == Start((1, 2, 0), None)
    starts.publish(OWNER + 32, (9, 0, 9))  # in the same place
    assert starts.latest(OWNER) is None


def test_workers_of_an_iteration_that_is_over_change_nothing() -> None:
    starts = _starts()
    first = starts.begin(_turn(0), (0, 0, 0), (1, 0, 1))
    starts.change(_turn(0), first, (0, 0, 0), (2, 0, 2))
    assert starts.latest(OWNER) == Start((2, 0, 2), (0, 0, 0))
    starts.publish(OWNER, (5, 0, 5))
    starts.change(_turn(0), first, (0, 0, 0), (3, 0, 3))
    assert starts.latest(OWNER) == Start((5, 0, 5), None)
    for number in range(1, 10):
        starts.begin(_turn(number), (5, 0, 5), (6, 0, 6))
    starts.change(_turn(0), first, (0, 0, 0), (4, 0, 4))  # forgotten
    assert starts.latest(OWNER) == Start((6, 0, 6), (5, 0, 5))


def test_what_is_half_written_is_not_read() -> None:
    memory = np.zeros(SIZE, np.int64)
    starts = SharedStarts(memory)
    starts.publish(OWNER, (1, 77, 0))
    memory[np.flatnonzero(memory == 77)] = 78
    assert starts.latest(OWNER) is None


def test_the_workers_steps_are_all_steps_and_each_says_where_the_worker_goes_on() -> None:
    steps, start = Steps(50, 4), State(seed=1)
    parts = [list(every(iter(list(steps.iteration(start))[worker:]), 3)) for worker in range(3)]
    positions = [step.positions[0] for part in zip(*parts, strict=False) for step in part]
    assert positions == list(range(0, 48, 4))
    going_on = parts[1][1].after  # the steps 1 and 4 were worker 1's: 7 is next
    assert next(steps.iteration(going_on)).positions[0] == 28
    assert parts[1][-1].after == State(seed=1, epoch=1, start=1)
    assert [step.others for step in parts[0]] == [2, 2, 2, 2, 0]  # of 13 steps, it makes the last
    assert [step.others for step in parts[2]] == [2, 2, 2, 1]
    assert at_place(State(seed=1), place_of(going_on)) == going_on
