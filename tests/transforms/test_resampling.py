"""Resampled pixels are what the crate's arithmetic gives, worked out here once more; and they are near Pillow's."""

import hashlib
import math
from collections.abc import Callable
from typing import Any

import cykooz_resizer
import numpy as np
import pytest
from PIL import Image

from penstock.transforms import resampling
from penstock.transforms.image import _covered
from penstock.transforms.resampling import Box, Resample, resampled

Array = np.ndarray[Any, Any]

SMOOTH: list[Resample] = ["bilinear", "bicubic", "lanczos", "box"]
PORTABLE: list[Resample] = ["bilinear", "bicubic", "box"]  # no system's sine is in them
EXTENSIONS = [cykooz_resizer.CpuExtensions.none, cykooz_resizer.CpuExtensions.sse4_1]


def _bilinear(x: Array) -> Array:
    return np.maximum(1 - abs(x), 0)


def _bicubic(x: Array) -> Array:
    a, x = -0.5, abs(x)
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    return np.where(x < 1, near, np.where(x < 2, (((x - 5) * x + 8) * x - 4) * a, 0))


def _lanczos(x: Array) -> Array:
    def sinc(value: float) -> float:
        return math.sin(value * math.pi) / (value * math.pi) if value else 1.0

    return np.array([sinc(value) * sinc(value / 3) if -3 <= value < 3 else 0.0 for value in x])


def _box(x: Array) -> Array:
    return ((x > -0.5) & (x <= 0.5)).astype(float)


FILTERS: dict[str, tuple[Callable[[Array], Array], float]] = {
    "bilinear": (_bilinear, 1),
    "bicubic": (_bicubic, 2),
    "lanczos": (_lanczos, 3),
    "box": (_box, 0.5),
}


def _rounded(value: float) -> int:
    return int(math.copysign(math.floor(abs(value)) + (abs(value) % 1 >= 0.5), value))


def _one_pass(values: Array, start: float, extent: float, size: int, name: str) -> Array:
    """Along the first axis: int64 [n, ...] to [size, ...]."""
    if size == extent and start == round(start):
        return values[int(start) :][:size]
    function, reach = FILTERS[name]
    scale = (start + extent - start) / size
    shrink = max(scale, 1.0)
    weights, begins = [], []
    for number in range(size):
        centre = start + (number + 0.5) * scale
        begin = int(max(math.floor(centre - reach * shrink), 0))
        end = int(min(math.ceil(centre + reach * shrink), len(values)))
        own = function((np.arange(begin, end) - (centre - 0.5)) * (1 / shrink))
        weights.append(own / sum(own.tolist()))
        begins.append(begin)
    largest = max(own.max() for own in weights)
    bits = next((bits for bits in range(22) if _rounded(largest * 2 ** (bits + 1)) >= 1 << 15), 21)
    rows = []
    for begin, own in zip(begins, weights, strict=True):
        fixed = np.array([_rounded(weight * 2**bits) for weight in own])
        total = np.tensordot(fixed, values[begin : begin + len(own)], 1) + (1 << (bits - 1))
        rows.append(np.clip(total >> bits, 0, 255))
    return np.array(rows)


def expected(pixels: Array, size: tuple[int, int], name: str, box: Box | None) -> Array:
    left, top, right, bottom = box or (0, 0, pixels.shape[1], pixels.shape[0])
    columns = _one_pass(pixels.astype(np.int64), top, bottom - top, size[1], name)
    rows = _one_pass(np.moveaxis(columns, 1, 0), left, right - left, size[0], name)
    return np.moveaxis(rows, 0, 1).astype(np.uint8)


def random_pixels(number: int, mode: str) -> Array:
    generator = np.random.default_rng(number)
    height, width = generator.integers(1, 200, 2)
    pixels = generator.integers(0, 256, (height, width, 3) if mode == "RGB" else (height, width), np.uint8)
    return (pixels >> 7) * 255 if number % 3 == 0 else pixels


@pytest.mark.parametrize("name", SMOOTH)
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_random_pixels(name: Resample, mode: str) -> None:
    generator = np.random.default_rng(1)
    for number in range(25):
        pixels = random_pixels(number, mode)
        height, width = pixels.shape[:2]
        size = (int(generator.integers(1, 90)), int(generator.integers(1, 90)))
        box = _covered((width, height), size) if number % 2 else None
        if number == 24:
            size = (width, 7)
        actual = np.asarray(resampled(Image.fromarray(pixels), size, name, box))
        np.testing.assert_array_equal(actual, expected(pixels, size, name, box), f"{pixels.shape} to {size}")


@pytest.mark.parametrize("name", PORTABLE)
@pytest.mark.parametrize(("width", "height", "size"), [(4, 10, (3, 20)), (201, 100, (225, 224)), (12, 5, (9, 10))])
def test_an_enlarged_part_has_pixels_of_the_image_alone(
    name: Resample, width: int, height: int, size: tuple[int, int]
) -> None:
    """The middles of its outermost pixels meet those of the image's, so that these alone would do for them."""
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    box = _covered((width, height), size)
    actual = np.asarray(resampled(Image.fromarray(pixels), size, name, box))
    np.testing.assert_array_equal(actual, expected(pixels, size, name, box))


@pytest.mark.parametrize("name", SMOOTH)
def test_the_processors_instructions_change_nothing(name: Resample, monkeypatch: pytest.MonkeyPatch) -> None:
    images = [Image.fromarray(random_pixels(number, ("RGB", "L")[number % 2])) for number in range(20)]
    sizes = [(33, 20), (64, 64), (7, 130), (1, 1)]
    best = [np.asarray(resampled(image, size, name)) for image in images for size in sizes]
    for extensions in EXTENSIONS:

        def restricted(extensions: Any = extensions) -> cykooz_resizer.Resizer:
            resizer = cykooz_resizer.Resizer()
            resizer.cpu_extensions = extensions
            return resizer

        with monkeypatch.context() as patch:
            patch.setattr(resampling, "Resizer", restricted)
            others = [np.asarray(resampled(image, size, name)) for image in images for size in sizes]
        for one, other in zip(best, others, strict=True):
            np.testing.assert_array_equal(one, other, str(extensions))


@pytest.mark.parametrize(("name", "levels"), [("bilinear", 1), ("bicubic", 5), ("lanczos", 9)])
def test_a_photo_is_nearly_what_pillow_makes_of_it(name: Resample, levels: int) -> None:
    coarse = np.random.default_rng(0).integers(0, 256, (9, 12, 3), np.uint8)
    photo = Image.fromarray(coarse).resize((301, 203), Image.Resampling.BICUBIC)
    for size in ((64, 48), (150, 101), (400, 350)):
        pillows = np.asarray(photo.resize(size, Image.Resampling[name.upper()])).astype(int)
        assert abs(np.asarray(resampled(photo, size, name)).astype(int) - pillows).max() <= levels


def test_pillow_takes_the_nearest_and_16_bit() -> None:
    grey = Image.fromarray(np.arange(0, 60000, 1000, np.uint16).reshape(6, 10))
    for image, name in ((grey, "bilinear"), (grey, "nearest"), (grey.convert("L"), "nearest")):
        box = (0.5, 0, 9, 6)
        pillows = image.resize((4, 3), Image.Resampling[name.upper()], box)
        assert resampled(image, (4, 3), name, box).tobytes() == pillows.tobytes()  # type: ignore[arg-type]


def test_the_bytes_are_these() -> None:
    """Of another version of the crate, too: stored datasets hold such pixels."""
    rows, columns, channels = np.mgrid[0:61, 0:83, 0:3]
    image = Image.fromarray(((rows * 7 + columns * 13 + channels * 85 + rows * columns // 9) % 256).astype(np.uint8))
    digests = {
        name: hashlib.sha256(np.asarray(resampled(image, (37, 29), name)).tobytes()).hexdigest()[:16]
        for name in PORTABLE
    }
    assert digests == {"bilinear": "b8675603328f7139", "bicubic": "d28e268643f10010", "box": "87e22c27d23d2ddb"}
