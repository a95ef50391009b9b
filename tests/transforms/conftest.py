"""What the tests of `transforms` share: small images made up."""

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image


@pytest.fixture(scope="session")
def photo() -> npt.NDArray[np.uint8]:
    """uint8 [47, 60, 3]: smooth, with an edge and some noise, as photos are."""
    rows, columns = np.mgrid[0:47, 0:60]
    base = np.stack([rows * 5, columns * 4, 255 - rows * 2 - columns * 2], axis=-1)
    base[10:30, 15:40] = (200, 30, 60)
    noise = np.random.default_rng(0).integers(-6, 7, base.shape)
    return np.clip(base + noise, 0, 255).astype(np.uint8)


@pytest.fixture(scope="session")
def saved() -> Callable[..., bytes]:
    """A function: pixels and Pillow's arguments to a file's content."""

    def save(pixels: Any, pillow_format: str, **options: Any) -> bytes:
        image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
        out = io.BytesIO()
        image.save(out, pillow_format, **options)
        return out.getvalue()

    return save
