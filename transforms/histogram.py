"""Exact statistics of 8-bit pixels, from how often each of the 256 values occurs."""

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .pixels import Pixels, as_pil

_PERCENTILES = (1, 5, 25, 50, 75, 95, 99)


@dataclass(frozen=True)
class PixelMoments:
    """Statistics of the values that a histogram counts.

    Attributes:
      count: How many values there are.
      mean: Their mean, correctly rounded.
      std: Their population standard deviation (divided by the count), from the exact variance.
      min: The smallest value.
      max: The largest value.
      quantiles: Percentile to the smallest value v such that at least that many per cent of the values are <= v
        (NumPy's method "inverted_cdf"): always a value that occurs.
    """

    count: int
    mean: float
    std: float
    min: int
    max: int
    quantiles: dict[int, int]


@dataclass(frozen=True)
class Histogram:
    """How often each value occurs in each channel of many images.

    Attributes:
      counts: int64 [channels, 256].
    """

    counts: npt.NDArray[np.int64]

    def merge(self, other: "Histogram") -> "Histogram":
        """The histogram of both together."""
        return Histogram(self.counts + other.counts)

    def to_bytes(self) -> bytes:
        """The counts, little-endian."""
        return self.counts.astype("<i8").tobytes()

    @classmethod
    def from_bytes(cls, content: bytes) -> "Histogram":
        """Reads them back."""
        return cls(np.frombuffer(content, "<i8").astype(np.int64).reshape(-1, 256))


def pixel_moments(histogram: Sequence[int] | npt.NDArray[Any]) -> PixelMoments:
    """The statistics of a histogram, in integers up to the last division.

    Args:
      histogram: [256] counts: how often each value from 0 to 255 occurs.

    Raises:
      ValueError: it is not [256] counts, or counts nothing.

    >>> counts = np.zeros(256, int)
    >>> counts[[1, 3]] = 5
    >>> moments = pixel_moments(counts)
    >>> moments.count, moments.mean, moments.std, moments.min, moments.max
    (10, 2.0, 1.0, 1, 3)
    """
    array = np.asarray(histogram)
    if array.shape != (256,) or array.dtype.kind not in "iu" or array.min() < 0 or not array.any():
        raise ValueError(
            "expected 256 counts, not all 0, as integers, found "
            f"{array.dtype} {list(array.shape)} with sum {array.sum()}; give one channel's counts of at least one image"
        )
    counts: list[int] = array.tolist()  # Python's integers don't overflow
    count = sum(counts)
    total = sum(value * times for value, times in enumerate(counts))
    squares = sum(value * value * times for value, times in enumerate(counts))
    present = [value for value, times in enumerate(counts) if times]
    return PixelMoments(
        count=count,
        mean=total / count,
        std=math.sqrt((count * squares - total * total) / (count * count)),
        min=present[0],
        max=present[-1],
        quantiles={percentile: _quantile(counts, count, percentile) for percentile in _PERCENTILES},
    )


def _quantile(counts: Sequence[int], count: int, percentile: int) -> int:
    rank = -(-count * percentile // 100)  # rounded up
    seen = 0
    for value, times in enumerate(counts):
        seen += times
        if seen >= rank:
            return value
    raise AssertionError("unreachable: the rank is at most the count")


def count_pixels(pixels: Pixels) -> npt.NDArray[np.int64]:
    """How often each value occurs in each channel.

    Args:
      pixels: uint8 [h, w], [h, w, 1] or [h, w, 3], or a Pillow image of 8 bit a channel, which takes less time.

    Returns:
      int64 [channels, 256].

    Raises:
      ValueError: the pixels are of another kind.

    >>> count_pixels(np.array([[0, 255, 255]], np.uint8))[0, [0, 255]].tolist()
    [1, 2]
    """
    image = as_pil(pixels)
    if image.mode not in ("L", "RGB"):
        raise ValueError(
            f"expected 8-bit pixels, mode L or RGB, found mode {image.mode}; only uint8 images have a histogram"
        )
    # Pillow's loop over the pixels takes half of np.bincount's time, the copy into Pillow's layout included
    counts = image.histogram()
    # np.array takes three times as long as struct.pack
    return np.frombuffer(struct.pack(f"{len(counts)}q", *counts), np.int64).reshape(-1, 256)
