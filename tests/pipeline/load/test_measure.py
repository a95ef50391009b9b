from collections.abc import Callable
from itertools import count

import pytest

from penstock.pipeline.load import Dataset
from penstock.pipeline.load.measure import Rate, bottleneck, rates


def _seconds() -> Callable[[], float]:
    """A clock that goes on by a quarter of a second whenever it is looked at."""
    ticks = count()
    return lambda: next(ticks) / 4


def test_bytes_are_those_of_the_batches(dataset: Dataset) -> None:
    found = {rate.name: rate for rate in rates(dataset, "train", ["numpy"], 7, seconds=0.6, clock=_seconds())}
    assert list(found) == ["read alone, one thread", "numpy, decoded", "numpy, features"]
    decoded = found["numpy, decoded"]
    assert decoded.examples == 28  # three batches of 7 in three quarters of a second
    pixels = 16 * 24 * (3 + 1)  # uint8
    assert decoded.bytes / decoded.examples == pixels + 4 + 3 + 8  # key, label, row
    assert found["numpy, features"].bytes / 28 == 4 * 16 * 24 * 3 + 16 * 24 + 8 + 8


@pytest.mark.slow
def test_every_adapter_is_measured_or_says_why_not(dataset: Dataset) -> None:
    found = list(rates(dataset, "train", ["torch", "jax", "tf", "numpy"], 7, seconds=0.6, clock=_seconds()))
    assert len(found) == 9
    for rate in found:
        assert bool(rate.problem) != bool(rate.examples and rate.bytes)
    assert bottleneck(found, 1)


def test_what_was_not_measured_is_no_bottleneck() -> None:
    assert bottleneck([Rate("numpy, decoded", 0, 0, 0, "not there")], 1).startswith("unknown")


def test_threads_that_are_fewer_than_cores_are_not_taken_for_other_work() -> None:
    measured = [Rate("numpy, decoded", 9700, 1.5e9, 4.7)]
    assert bottleneck(measured, 7).startswith("nothing in particular")
    assert bottleneck(measured, 16) == ("other work on this machine: 16 threads got 4.7 cores; measure when it is idle")
