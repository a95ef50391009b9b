from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from penstock.transforms.histogram import count_pixels, pixel_moments


def counts(*values: int) -> npt.NDArray[np.int64]:
    return np.bincount(values, minlength=256)


@pytest.mark.parametrize("seed", range(20))
def test_moments_are_what_numpy_computes_in_two_passes(seed: int) -> None:
    rng = np.random.default_rng(seed)
    low, high = sorted(rng.integers(0, 257, 2))
    values = rng.integers(low, max(high, low + 1), rng.integers(1, 5000)).astype(np.float64)
    actual = pixel_moments(np.bincount(values.astype(int), minlength=256))
    mean = values.mean()
    assert actual.count == len(values)
    assert actual.mean == pytest.approx(mean, rel=1e-12)
    assert actual.std == pytest.approx(np.sqrt(np.mean((values - mean) ** 2)), rel=1e-12, abs=1e-12)
    assert (actual.min, actual.max) == (values.min(), values.max())
    for percentile, quantile in actual.quantiles.items():
        assert quantile == np.percentile(values, percentile, method="inverted_cdf")


def test_moments_of_a_terapixel_are_exact() -> None:
    histogram = [0] * 256
    histogram[254], histogram[255] = 3 * 10**17, 5 * 10**17
    actual = pixel_moments(histogram)
    assert actual.mean == float(Fraction(254 * 3 + 255 * 5, 8))
    assert actual.std == pytest.approx(float(Fraction(15, 64)) ** 0.5, rel=1e-15)


def test_golden() -> None:
    actual = pixel_moments(counts(0, 10, 10, 20))
    assert (actual.count, actual.mean, actual.std, actual.min, actual.max) == (4, 10.0, 50**0.5, 0, 20)
    assert actual.quantiles == {1: 0, 5: 0, 25: 0, 50: 10, 75: 10, 95: 20, 99: 20}


def test_a_constant_has_no_deviation() -> None:
    actual = pixel_moments(counts(77, 77, 77))
    assert (actual.mean, actual.std, actual.min, actual.max) == (77.0, 0.0, 77, 77)
    assert set(actual.quantiles.values()) == {77}


@pytest.mark.parametrize(
    "histogram",
    [[0] * 256, [1] * 255, [1.5] * 256, [-1] + [1] * 255, [[1] * 256]],
    ids=["0", "255", "real", "-1", "2d"],
)
def test_moments_refuse_what_is_no_histogram(histogram: Sequence[Any]) -> None:
    with pytest.raises(ValueError, match=r"expected 256 counts.* found .*; give"):
        pixel_moments(histogram)


@pytest.mark.parametrize("shape", [(13, 7, 3), (13, 7, 1), (1, 1, 3), (224, 224, 3)])
def test_pixels_are_counted_by_channel(shape: tuple[int, int, int]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    actual = count_pixels(pixels)
    assert actual.dtype == np.int64
    assert actual.shape == (shape[2], 256)
    for channel in range(shape[2]):
        assert np.array_equal(actual[channel], np.bincount(pixels[:, :, channel].ravel(), minlength=256))
    assert np.array_equal(actual, count_pixels(Image.fromarray(pixels.squeeze(2) if shape[2] == 1 else pixels)))


@pytest.mark.parametrize("pixels", [np.zeros((2, 2), np.uint16), Image.new("P", (2, 2)), np.zeros((2, 2, 3))])
def test_other_pixels_are_not_counted(pixels: Any) -> None:
    with pytest.raises(ValueError, match=r"expected .*found"):
        count_pixels(pixels)
