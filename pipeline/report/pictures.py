"""Arrays of pixels as pictures in a page: JPEG and PNG in data URIs, small."""

import base64
import io

import numpy as np
import numpy.typing as npt
from PIL import Image

from .markup import Html, element

SIDE = 160  # pixels of a picture's longer side, at most
_QUALITY = 78
# Colours that differ also for most people who see few: masks' classes, splits and other categories, in this order.
COLOURS = (
    *("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#ee8866", "#44bb99", "#7a5195", "#bbcc33"),
    *("#003f5c", "#ffa600", "#8c564b", "#1b9e77", "#e7298a", "#666666"),
)


def colour(number: int) -> str:
    """The colour of a category by its number; they repeat."""
    return COLOURS[number % len(COLOURS)]


def is_picture(values: npt.NDArray[np.generic]) -> bool:
    """Whether one example's value can be looked at: numbers, [height, width] or [height, width, channels]."""
    shape = values.shape
    has_channels = values.ndim == 3 and shape[2] in (1, 2, 3, 4)
    return values.dtype.kind in "biuf" and (has_channels or values.ndim == 2) and min(shape[:2]) >= 4


def to_image(values: npt.NDArray[np.generic]) -> Image.Image:
    """Pixels as an image: uint8 as they are, others between their 1st and 99th percentile from black to white.

    Args:
      values: As `is_picture` takes.
    """
    pixels = values if values.ndim == 3 else values[:, :, np.newaxis]
    pixels = pixels[:, :, :3] if pixels.shape[2] in (3, 4) else pixels[:, :, 0]
    if pixels.dtype != np.uint8:
        numbers = np.nan_to_num(pixels.astype(np.float64))
        low, high = np.percentile(numbers, (1, 99))
        pixels = np.clip((numbers - low) * (255 / ((high - low) or 1)), 0, 255).astype(np.uint8)
    return shrink(Image.fromarray(np.ascontiguousarray(pixels)))


def shrink(image: Image.Image, side: int = SIDE) -> Image.Image:
    """The image, no longer than `side` on its longer side."""
    scale = side / max(image.size)
    if scale >= 1:
        return image
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.resize(size, Image.Resampling.BILINEAR)


def to_overlay(values: npt.NDArray[np.generic], numbers: dict[int, int]) -> Image.Image:
    """A mask as an image of its classes' colours.

    Args:
      values: Integers, [height, width] or [height, width, 1].
      numbers: Class to the number of its colour; what has none is transparent.
    """
    classes = values.reshape(values.shape[:2])
    indexes = np.zeros(classes.shape, np.uint8)  # 0 is transparent
    palette = [0, 0, 0]
    for index, (value, number) in enumerate(list(numbers.items())[:255], 1):
        indexes[classes == value] = index
        palette += bytes.fromhex(colour(number)[1:])
    scale = SIDE / max(classes.shape)
    image = Image.fromarray(indexes)
    image.putpalette(palette)
    if scale < 1:
        size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        image = image.resize(size, Image.Resampling.NEAREST)
    return image


def jpeg_uri(image: Image.Image) -> str:
    """An image as the data URI of a JPEG file."""
    buffer = io.BytesIO()
    (image if image.mode in ("L", "RGB") else image.convert("RGB")).save(buffer, "JPEG", quality=_QUALITY)
    return data_uri("image/jpeg", buffer.getvalue())


def mask_uri(image: Image.Image) -> str:
    """An image with a palette as the data URI of a PNG file, its first colour transparent."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG", transparency=0, optimize=True)
    return data_uri("image/png", buffer.getvalue())


def data_uri(kind: str, content: bytes) -> str:
    """Content of a media type, as a URI that holds it."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def picture(uri: str, alt: str, size: tuple[int, int], class_: str | None = None) -> Html:
    """An image element. `alt` says what it shows; an empty one: it adds nothing to what stands beside it."""
    return element("img", src=uri, alt=alt, width=size[0], height=size[1], class_=class_, decoding="async")
