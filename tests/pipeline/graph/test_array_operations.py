"""What NumPy's own functions do otherwise than TensorFlow's."""

import numpy as np
import pytest
import tensorflow as tf

from penstock.pipeline.graph.array_operations import OPERATIONS
from penstock.pipeline.graph.backends import NUMPY

LEAST, MOST = np.iinfo(np.int64).min, np.iinfo(np.int64).max


@pytest.mark.parametrize("divisor", [2, 3, 7, -2, -3, -7, MOST, LEAST])
def test_a_quotient_is_rounded_towards_0(divisor: int) -> None:
    numbers = [LEAST, LEAST + 1, -7, -6, -1, 0, 1, 6, 7, MOST]
    quotients = OPERATIONS["TruncateDiv"](NUMPY, {}, np.array(numbers), np.int64(divisor))
    magnitudes = [abs(number) // abs(divisor) for number in numbers]
    assert quotients.dtype == np.int64
    assert quotients.tolist() == [
        -magnitude if (number < 0) != (divisor < 0) else magnitude
        for number, magnitude in zip(numbers, magnitudes, strict=True)
    ]


@pytest.mark.parametrize("size", [1, 2, 3, 40])
def test_a_missing_number_is_neither_the_largest_nor_the_smallest(size: int) -> None:
    generator = np.random.default_rng(0)
    values = generator.choice(np.array([np.nan, -np.inf, np.inf, -1, 0, 1], np.float32), (300, size))
    for kind, function in (("ArgMax", tf.argmax), ("ArgMin", tf.argmin)):
        for axis in (0, 1):
            places = OPERATIONS[kind](NUMPY, {}, values, axis)
            assert places.tolist() == function(values, axis).numpy().tolist()
