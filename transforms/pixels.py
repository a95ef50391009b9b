"""Pixels between Pillow and NumPy, and what a file's pixels mean as an image or as a mask."""

from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFile

from .outcome import Rejected

Pixels: TypeAlias = "Image.Image | npt.NDArray[Any]"
Mode: TypeAlias = Literal["RGB", "L"]
Colour: TypeAlias = tuple[int, int, int]

# Pillow's own conversion of these to RGB and L is the one that everybody means.
_CONVERTIBLE = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr")
_TRANSPOSITIONS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def as_pil(pixels: Pixels) -> Image.Image:
    """The pixels as a Pillow image; a Pillow image is returned as it is.

    Args:
      pixels: A Pillow image, or uint8 [h, w], [h, w, 1] or [h, w, 3], or uint16 [h, w] or [h, w, 1].

    Raises:
      ValueError: it is something else.

    >>> image = as_pil(np.zeros((2, 3), np.uint8))
    >>> image.mode, image.size
    ('L', (3, 2))
    """
    if isinstance(pixels, Image.Image):
        return pixels
    if isinstance(pixels, np.ndarray) and 0 not in pixels.shape:
        plane = pixels[:, :, 0] if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels
        if plane.dtype == np.uint8 and (plane.ndim == 2 or plane.shape[2:] == (3,)):
            return Image.fromarray(plane)
        if plane.dtype.newbyteorder("=") == np.uint16 and plane.ndim == 2:
            return Image.fromarray(plane.astype("<u2", copy=False))
    description = f"{pixels.dtype} {list(pixels.shape)}" if isinstance(pixels, np.ndarray) else type(pixels).__name__
    raise ValueError(
        "expected a Pillow image, or an array uint8 [height, width], [height, width, 1 or 3] or uint16 [height, "
        f"width], found {description}; convert it first, for example with .astype(np.uint8)"
    )


def to_mode(
    image: Image.Image,
    mode: Mode | Literal["I;16"],
    background: Colour | None = None,
    limits: tuple[int, int] = (0, 65535),
) -> Image.Image:
    """An image's pixels in a mode, without the file's other contents (EXIF, ICC profile, text).

    Greyscale of 16 bit becomes 8 bit by its limits, rounded and not clipped.

    Args:
      image: A loaded image of any mode.
      mode: The mode; "I;16" is of 16-bit greyscale alone, whose values it keeps.
      background: What transparent pixels lie on; None drops the alpha channel, as Pillow's `convert` does.
      limits: The values of 16-bit greyscale that become 0 and 255.

    Raises:
      Rejected: `unsupported_mode`, where there is no one meaning of the pixels in that mode; `out_of_range`, where
        values are beyond the limits.

    >>> to_mode(as_pil(np.array([[0, 65535]], np.uint16)), "L").tobytes().hex()
    '00ff'
    """
    if mode == "I;16":
        return _deep_grey(image)
    if image.mode.startswith("I"):
        image = _scaled_to_8_bit(image, limits)
    elif image.mode not in _CONVERTIBLE:
        raise Rejected(
            "unsupported_mode",
            f"expected grey, RGB or CMYK of 8 bit, or grey of 16 bit, found Pillow mode {image.mode}; convert the file",
        )
    if background is not None and image.has_transparency_data:
        canvas = Image.new("RGBA", image.size, (*background, 255))
        canvas.alpha_composite(image.convert("RGBA"))
        image = canvas
    if image.info or isinstance(image, ImageFile.ImageFile):
        image = image.copy()  # a plain image: an ImageFile may keep all of its file's bytes alive
        image.info = {}
    return image if image.mode == mode else image.convert(mode)


def orientation(image: Image.Image) -> int:
    """The EXIF or XMP orientation of an image, 1 to 8, or 0 where it has none. Ask it before the image is loaded.

    >>> orientation(Image.new("L", (2, 1)))
    0
    """
    tag = image.getexif().get(0x0112)
    return tag if isinstance(tag, int) and 1 <= tag <= 8 else 0


def transposed(image: Image.Image, exif_orientation: int) -> Image.Image:
    """The image as that orientation wants it to be seen.

    >>> transposed(Image.new("L", (2, 1)), 6).size
    (1, 2)
    """
    method = _TRANSPOSITIONS.get(exif_orientation)
    return image if method is None else image.transpose(method)


def _deep_grey(image: Image.Image) -> Image.Image:
    if not image.mode.startswith("I"):
        raise Rejected(
            "unsupported_mode",
            f"expected grey of 16 bit, found Pillow mode {image.mode} of 8; use decode(mode='L'), or convert the file",
        )
    return Image.fromarray(_deep_values(image).astype("<u2"))


def _deep_values(image: Image.Image) -> npt.NDArray[Any]:
    values = np.asarray(image)
    if values.min() < 0 or values.max() > 65535:
        raise Rejected(
            "unsupported_mode",
            f"expected grey values from 0 to 65535, found {values.min()} to {values.max()}; convert the file to 8 bit",
        )
    return values


def _scaled_to_8_bit(image: Image.Image, limits: tuple[int, int]) -> Image.Image:
    values, (low, high) = _deep_values(image), limits
    if values.min() < low or values.max() > high:
        raise Rejected(
            "out_of_range",
            f"expected grey values from {low} to {high}, as decode(range=...) says, found {values.min()} to "
            f"{values.max()}; widen the range",
        )
    span = high - low
    return Image.fromarray((((values.astype(np.int64) - low) * 255 + span // 2) // span).astype(np.uint8))
