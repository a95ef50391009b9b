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
    found = pixel_moments(np.bincount(values.astype(int), minlength=256))
    mean = values.mean()
    assert found.count == len(values)
    assert found.mean == pytest.approx(mean, rel=1e-12)
    assert found.std == pytest.approx(np.sqrt(np.mean((values - mean) ** 2)), rel=1e-12, abs=1e-12)
    assert (found.min, found.max) == (values.min(), values.max())
    for percentile, quantile in found.quantiles.items():
        assert quantile == np.percentile(values, percentile, method="inverted_cdf")


def test_moments_of_a_terapixel_are_exact() -> None:
    histogram = [0] * 256
    histogram[254], histogram[255] = 3 * 10**17, 5 * 10**17
    found = pixel_moments(histogram)
    assert found.mean == float(Fraction(254 * 3 + 255 * 5, 8))
    assert found.std == pytest.approx(float(Fraction(15, 64)) ** 0.5, rel=1e-15)


def test_golden() -> None:
    found = pixel_moments(counts(0, 10, 10, 20))
    assert (found.count, found.mean, found.std, found.min, found.max) == (4, 10.0, 50**0.5, 0, 20)
    assert found.quantiles == {1: 0, 5: 0, 25: 0, 50: 10, 75: 10, 95: 20, 99: 20}


def test_a_constant_has_no_deviation() -> None:
    found = pixel_moments(counts(77, 77, 77))
    assert (found.mean, found.std, found.min, found.max) == (77.0, 0.0, 77, 77)
    assert set(found.quantiles.values()) == {77}


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
    found = count_pixels(pixels)
    assert found.dtype == np.int64
    assert found.shape == (shape[2], 256)
    for channel in range(shape[2]):
        assert np.array_equal(found[channel], np.bincount(pixels[:, :, channel].ravel(), minlength=256))
    assert np.array_equal(found, count_pixels(Image.fromarray(pixels.squeeze(2) if shape[2] == 1 else pixels)))


@pytest.mark.parametrize("pixels", [np.zeros((2, 2), np.uint16), Image.new("P", (2, 2)), np.zeros((2, 2, 3))])
def test_other_pixels_are_not_counted(pixels: Any) -> None:
    with pytest.raises(ValueError, match=r"expected .*found"):
        count_pixels(pixels)
