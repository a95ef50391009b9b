"""What the pixels of a mask's file mean as class ids, and where that is not sure."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from .outcome import Rejected
from .pixels import Colour

_SHOWN = 3  # colours named in a message
_SCALES = {"2": 85, "4": 17}  # Pillow's factor of grey values, by the file's bits


@dataclass(frozen=True)
class ClassIds:
    """A mask.

    Attributes:
      image: The ids: mode L, or I;16 where they need it.
      stored_as: How the file holds them, in words.
      colours: Of a palette, "id: red, green, blue" of each id that occurs.
    """

    image: Image.Image
    stored_as: str
    colours: tuple[str, ...] = ()


def class_ids(image: Image.Image, raw_mode: str = "", palette: Mapping[Colour, int] | None = None) -> ClassIds:
    """A mask's pixels as class ids.

    A palette's indices are the ids, not its colours; of one bit they are 0 and 1; greyscale of 2 or 4 bit has the ids
    that the file holds. Colours are ids where red, green and blue are equal everywhere, and alpha where it is opaque
    everywhere does not matter.

    Args:
      image: A loaded image of any mode.
      raw_mode: How the file stores it: what `image_file.raw_mode` gave before it was loaded.
      palette: Colour to id: then the colours that one sees are what counts, of a palette too.

    Raises:
      Rejected: `mask_mode`, where the pixels are colours or numbers that are no ids, or do not say which;
        `mask_colour`, where the palette lacks one.

    >>> np.asarray(class_ids(Image.new("1", (2, 1), 1)).image).tolist()
    [[1, 1]]
    >>> red = Image.new("RGB", (2, 1), (255, 0, 0))
    >>> np.asarray(class_ids(red, palette={(255, 0, 0): 7}).image).tolist()
    [[7, 7]]
    """
    depth = raw_mode.partition(";")[2]
    if not image.mode.startswith("I") and depth.startswith("16"):
        raise _no_ids(f"{image.mode} of 16 bit, whose lower 8 Pillow drops")
    if image.mode in ("1", "L") and "I" in depth:
        raise _no_ids("greyscale whose 0 is white, which some programs read the other way round")
    if palette is not None:
        return ClassIds(_by_colour(image, palette), "colours")
    if image.mode == "P":
        indices = np.array(image)
        return ClassIds(Image.fromarray(indices), "indices of a palette", _used_colours(image, indices))
    if image.mode == "L":
        if scale := _SCALES.get(depth.removesuffix("R")):
            return ClassIds(Image.fromarray(np.array(image) // scale), f"greyscale of {depth[0]} bit")
        return ClassIds(Image.fromarray(np.array(image)), "greyscale of 8 bit")
    if image.mode == "1":
        return ClassIds(Image.fromarray(np.array(image).astype(np.uint8)), "1 bit, whose ids are 0 and 1")
    if image.mode.startswith("I"):
        ids = np.array(image)
        if ids.min() >= 0 and ids.max() <= 65535:
            return ClassIds(Image.fromarray(ids.astype("<u2")), "greyscale of 16 bit")
        raise _no_ids(f"numbers from {ids.min()} to {ids.max()}")
    if image.mode in ("LA", "RGB", "RGBA", "RGBX"):
        return ClassIds(_equal_channels(image), "equal red, green and blue")
    raise _no_ids(f"mode {image.mode}")


def _no_ids(found: str) -> Rejected:
    return Rejected(
        "mask_mode",
        f"expected one class id a pixel, from 0 to 65535 (Pillow mode P, L, 1 or I;16), found {found}; save the mask "
        "as greyscale or with a palette, or say what its colours mean with decode(mask_palette={(red, green, blue): "
        "id})",
    )


def _opaque(image: Image.Image) -> None:
    """Raises Rejected where alpha is not 255 everywhere: then it may hold what is meant."""
    if image.mode in ("LA", "RGBA", "PA"):
        lowest, _ = image.getchannel("A").getextrema()
        if lowest != 255:
            raise _no_ids(f"mode {image.mode} with transparent pixels (alpha from {lowest})")


def _equal_channels(image: Image.Image) -> Image.Image:
    _opaque(image)
    channels = np.array(image)[:, :, : 1 if image.mode == "LA" else 3]
    different = (channels != channels[:, :, :1]).any(axis=2)
    if different.any():
        row, column = (int(place) for place in np.argwhere(different)[0])
        colour = tuple(int(part) for part in channels[row, column])
        raise _no_ids(f"colours, such as {colour} at row {row}, column {column}")
    return Image.fromarray(np.ascontiguousarray(channels[:, :, 0]))


def _by_colour(image: Image.Image, palette: Mapping[Colour, int]) -> Image.Image:
    if image.mode.startswith("I") or image.mode not in ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX"):
        raise _no_ids(f"mode {image.mode}, which has no colours to look up")
    _opaque(image)
    packed = _packed(np.asarray(image.convert("RGB")))
    known = np.array([red << 16 | green << 8 | blue for red, green, blue in palette], np.uint32)
    order = np.argsort(known)
    places = np.minimum(np.searchsorted(known[order], packed), len(known) - 1)
    unknown = known[order][places] != packed
    if unknown.any():
        colours, counts = np.unique(packed[unknown], return_counts=True)
        most = np.argsort(-counts, kind="stable")[:_SHOWN]
        words = ", ".join(f"{_colour(int(colours[at]))} ({counts[at]} pixels)" for at in most)
        raise Rejected(
            "mask_colour",
            f"expected the {len(palette)} colours of decode(mask_palette=...), found {len(colours)} others: {words}; "
            "add them, or save the mask without smoothing and compression",
        )
    ids = np.array(list(palette.values()), np.uint16)
    values = ids[order][places]
    return Image.fromarray(values.astype(np.uint8) if ids.max() < 256 else values.astype("<u2"))


def _packed(colours: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint32]:
    red, green, blue = (colours[:, :, channel].astype(np.uint32) for channel in range(3))
    packed: npt.NDArray[np.uint32] = red << np.uint32(16) | green << np.uint32(8) | blue
    return packed


def _colour(packed: int) -> tuple[int, int, int]:
    return packed >> 16, packed >> 8 & 255, packed & 255


def _used_colours(image: Image.Image, indices: npt.NDArray[np.uint8]) -> tuple[str, ...]:
    palette = image.getpalette("RGB") or []
    used = np.flatnonzero(np.bincount(indices.ravel(), minlength=256))
    return tuple(
        f"{index}: {palette[3 * index]}, {palette[3 * index + 1]}, {palette[3 * index + 2]}"
        for index in map(int, used)
        if 3 * index + 2 < len(palette)
    )
