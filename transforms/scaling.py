"""JPEGs that are decoded at a half, a quarter or an eighth of their size, and where their pixels lie then.

A JPEG decoder makes small images from fewer coefficients, in a fraction of the time; their last row or column may lie
partly beyond the photo. So what is resized next is a box of fractions of a pixel.
"""

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

from PIL import Image

from .resampling import Box

# Whether what follows shrinks an image of (width, height) by at least a factor.
ShrinksBy: TypeAlias = Callable[[tuple[int, int], float], bool]

FACTORS = (8, 4, 2)
SMALLEST = 16  # pixels of a side: below, decoders may take another fraction that rounds to the same size


class Scaled(NamedTuple):
    """An upright image, perhaps decoded at a fraction of its size.

    Attributes:
      image: Its pixels.
      size: Width and height of the whole image, in its own pixels.
      box: Left, top, right and bottom of the whole image, in pixels of `image`.
    """

    image: Image.Image
    size: tuple[int, int]
    box: Box

    @classmethod
    def whole(cls, image: Image.Image) -> "Scaled":
        """An image at its full size."""
        return cls(image, image.size, (0.0, 0.0, float(image.width), float(image.height)))

    def within(self, box: Box) -> Box:
        """A box of the whole image's pixels in those of `image`."""
        left, top, right, _ = self.box
        factor = self.size[0] / (right - left)  # a power of two
        return left + box[0] / factor, top + box[1] / factor, left + box[2] / factor, top + box[3] / factor


def factor_of(size: tuple[int, int], margin: float, shrinks_by: ShrinksBy) -> int:
    """By which of 8, 4, 2 and 1 an image is divided so that it is still `margin` times as large as what becomes of it.

    Args:
      size: Width and height of the upright image.
      margin: 1 or more.
      shrinks_by: What becomes of it.

    >>> [factor_of((side, side), 2.0, lambda size, factor: factor * 32 <= size[0]) for side in (100, 128, 300, 5000)]
    [1, 2, 4, 8]
    """
    for factor in FACTORS:
        if min(size) >= SMALLEST * factor and shrinks_by(size, factor * margin):
            return factor
    return 1


def box_of(size: tuple[int, int], factor: int, orientation: int) -> Box:
    """Where a whole image lies in its pixels, which were divided by a factor before they were turned upright.

    Args:
      size: Width and height of the upright image.
      factor: By which it was divided.
      orientation: The EXIF orientation by which it was turned; 0 or 1: by none.

    >>> box_of((33, 20), 4, 1), box_of((33, 20), 4, 3)
    ((0.0, 0.0, 8.25, 5.0), (0.75, 0.0, 9.0, 5.0))
    """
    (width, height), (scaled_width, scaled_height) = size, (-(-side // factor) for side in size)
    left = scaled_width - width / factor if orientation in (2, 3, 6, 7) else 0.0
    top = scaled_height - height / factor if orientation in (3, 4, 7, 8) else 0.0
    return left, top, left + width / factor, top + height / factor
