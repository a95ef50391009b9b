"""Resampling of 8-bit pixels by the Rust crate fast_image_resize: a fifth of the time that Pillow takes.

It computes as Pillow does, with the same filters, but in other fixed point: the columns before the rows, weights of 16
bits. On photos its results differ from Pillow's by at most one level where the filter is bilinear. Where a pixel's
middle lies on the border of a "box", the two may take different ones of its neighbours. Sums of integers do not depend
on the processor's vector instructions; weights are computed in double precision, those of "lanczos" with the system's
sine.
"""

from typing import Literal, TypeAlias

from cykooz_resizer import CropBox, FilterType, ResizeAlg, ResizeOptions, Resizer
from PIL import Image

Resample: TypeAlias = Literal["bilinear", "bicubic", "lanczos", "box", "nearest"]
Box: TypeAlias = tuple[float, float, float, float]

_FILTERS = {
    "bilinear": FilterType.bilinear,
    "bicubic": FilterType.catmull_rom,
    "lanczos": FilterType.lanczos3,
    "box": FilterType.box,
}
_FAR = ("bicubic", "lanczos")  # filters that reach beyond the nearest pixels


def resampled(image: Image.Image, size: tuple[int, int], filter_: Resample, box: Box | None = None) -> Image.Image:
    """Brings an image, or a part of it, to a size.

    Args:
      image: Of mode "RGB" or "L", or "I;16", which Pillow resamples, as it does for "nearest".
      size: Width and height of the result.
      filter_: How its pixels are computed.
      box: Left, top, right and bottom of the part; None: the whole image.

    >>> resampled(Image.new("L", (5, 4), 9), (2, 3), "bilinear").getpixel((1, 2))
    9
    """
    if filter_ == "nearest" or image.mode not in ("RGB", "L"):
        return image.resize(size, Image.Resampling[filter_.upper()], box)
    left, top, right, bottom = box or (0, 0, *image.size)
    is_enlarged_part = right - left < size[0] and (left > 0 or right < image.width)
    if filter_ in _FAR and is_enlarged_part and (top, bottom, size[1]) != (0, image.height, image.height):
        # Where the middles of the outermost pixels meet those of the image's, the crate keeps too few columns between
        # its passes, and reads beyond them: so each pass is done by itself.
        rows = resampled(image, (image.width, size[1]), filter_, (0, top, image.width, bottom))
        return resampled(rows, size, filter_, (left, 0, right, size[1]))
    options = ResizeOptions()
    options.resize_alg = ResizeAlg.convolution(_FILTERS[filter_])
    options.crop_box = CropBox(left, top, right - left, bottom - top)
    target = Image.new(image.mode, size)
    Resizer().resize_pil(image, target, options)
    return target
