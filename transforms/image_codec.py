"""Images between bytes and pixels: decoding what users have, and the encodings that prepared pixels are stored in."""

import io
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from . import memory_file
from .check import expect, is_colour, is_int
from .histogram import count_pixels
from .image_file import (
    AGAIN,
    is_known,
    is_lossy,
    missing_plugin,
    not_allowed,
    open_image,
    raw_mode,
    unidentified,
    webp_size,
)
from .jpeg import decode_jpeg, decode_stored, load_jpeg
from .masks import class_ids
from .observations import COLOUR_BITS, GREY_BITS, MASK_COLOUR, MASK_STORED, Observation
from .outcome import Rejected
from .pixels import Colour, Mode, Pixels, as_pil, orientation, to_mode, transposed
from .resampling import Box
from .scaling import Scaled, ShrinksBy, box_of, factor_of
from .step import config_of
from .tiff import load_tiff

Content: TypeAlias = bytes | memoryview

_FORMATS = ("JPEG", "MPO", "PNG", "GIF", "WEBP", "BMP", "TIFF")


@dataclass(frozen=True)
class Decode:
    """How a payload becomes an image. What cannot become one raises Rejected, and nothing else.

    The format is told from the content, whatever the file is called. EXIF orientation is applied, an ICC profile is
    not. Greyscale of 16 bit is scaled to 8 bit, unless `mode` keeps it.

    Attributes:
      mode: "RGB", "L", or "I;16", which keeps greyscale of 16 bit, and takes no other.
      formats: Which of Pillow's formats to accept. MPO is the JPEG with a preview that phones write. "HEIF" and "JXL"
        need a plug-in to be installed, which is imported where it is needed.
      max_pixels: Images that are larger by their header are rejected before anything is decoded.
      first_frame: Whether to take the first frame of an animation, or page of a TIFF, rather than to reject it.
      strict: Whether to reject a JPEG that libjpeg decodes with a warning of damage, and a PNG with a wrong checksum.
      background: The colour that transparent pixels are laid on; None drops the alpha channel.
      range: The values of 16-bit greyscale that become 0 and 255, such as (0, 4095) of an X-ray of 12 bit; an image
        with others is rejected. None: (0, 65535).
      mask_palette: Of masks whose colours are classes, (red, green, blue) to class id; a mask with another colour is
        rejected. None: a mask's pixels are the ids, and of a palette its indices.
      lossy_masks: Whether to take a mask from a format that changes pixels, such as JPEG, as it is decoded.
      scale: Large JPEGs are decoded at a half, a quarter or an eighth of their size, in a fraction of the time, where
        `prepare` begins with a `resize` (`min_size` and `max_aspect` may precede it) and what is decoded is still so
        many times as large, along both sides, as what that makes of it: 1 is fastest, from 2 on one hardly sees a
        difference. Masks are decoded whole. None: all are decoded whole.
    """

    codec_id: ClassVar[str] = "image.decode"

    mode: Mode | Literal["I;16"] = "RGB"
    formats: tuple[str, ...] = _FORMATS
    max_pixels: int = 50_000_000
    first_frame: bool = False
    strict: bool = True
    background: Colour | None = None
    range: tuple[int, int] | None = None
    mask_palette: Mapping[Colour, int] | None = field(default=None, hash=False)
    lossy_masks: bool = False
    scale: float | None = None

    def __post_init__(self) -> None:
        expect(self.mode in ("RGB", "L", "I;16"), "decode(mode=...)", "'RGB', 'L' or 'I;16'", self.mode)
        expect(
            isinstance(self.formats, tuple) and bool(self.formats) and _are_formats(self.formats),
            "decode(formats=...)",
            f"a tuple of Pillow's names of formats, such as {_FORMATS}{_install(self.formats)}",
            self.formats,
        )
        expect(is_int(self.max_pixels, 1), "decode(max_pixels=...)", "a whole number from 1", self.max_pixels)
        expect(
            self.background is None or is_colour(self.background),
            "decode(background=...)",
            "None, or a tuple (red, green, blue) of 0 to 255",
            self.background,
        )
        expect(
            self.range is None or (self.mode != "I;16" and _is_range(self.range)),
            "decode(range=...)",
            "None, or with another mode than 'I;16' a tuple (low, high) of 0 to 65535",
            self.range,
        )
        expect(
            self.mask_palette is None or _is_palette(self.mask_palette),
            "decode(mask_palette=...)",
            "None, or a dict such as {(128, 64, 128): 0} of colours to class ids from 0 to 65535",
            self.mask_palette,
        )
        expect(
            self.scale is None or (type(self.scale) in (int, float) and 1 <= self.scale < math.inf),
            "decode(scale=...)",
            "None, or a number from 1",
            self.scale,
        )

    def config(self) -> dict[str, Any]:
        """The arguments of `image.decode`, by name; a palette as a list of colours with their ids."""
        palette = (
            None if self.mask_palette is None else [[*colour, number] for colour, number in self.mask_palette.items()]
        )
        return config_of(self) | {"mask_palette": palette}

    def __call__(self, payload: bytes, observations: list[Observation] | None = None) -> Image.Image:
        """Decodes an image.

        Args:
          payload: A file's content.
          observations: What says something only of all images together is added to it.

        Returns:
          The upright image in mode `mode`: its pixels alone, without EXIF, profile or text.

        Raises:
          Rejected: `empty`, `not_an_image`, `format_not_allowed`, `too_many_pixels`, `animated`, `truncated`,
            `corrupt`, `unsupported_compression`, `preview`, `unsupported_mode` or `out_of_range`.
        """
        return self.scaled(payload, observations).image

    def scaled(
        self, payload: bytes, observations: list[Observation] | None = None, shrinks_by: ShrinksBy | None = None
    ) -> Scaled:
        """Decodes an image as `__call__` does, or at a fraction of its size.

        Args:
          payload: A file's content.
          observations: As in `__call__`.
          shrinks_by: What is to become of it, where `scale` says that it may be decoded so; None: it is decoded whole.

        Raises:
          Rejected: as `__call__`.
        """
        with _rejecting():
            loaded = self._load(payload, shrinks_by=shrinks_by)
            return Scaled(self._to_mode(loaded, observations), loaded.size, loaded.box)

    def scaled_pair(
        self,
        image_payload: bytes,
        mask_payload: bytes,
        observations: list[Observation] | None = None,
        shrinks_by: ShrinksBy | None = None,
    ) -> tuple[Scaled, Image.Image]:
        """Decodes an image, perhaps at a fraction of its size, and its mask, which is laid on the whole image's grid.

        A mask that has an EXIF orientation is turned by it. One that has none is turned like its image, unless its size
        says that it was drawn on the upright photo.

        Args:
          image_payload: The image file's content.
          mask_payload: The mask file's content.
          observations: As in `__call__`.
          shrinks_by: As in `scaled`.

        Returns:
          The image as `scaled` returns it, and the mask of the whole image's size: class ids, in mode L or I;16.

        Raises:
          Rejected: as in `__call__`, with `mask_` before the code where it is about the mask; `mask_mode` where the
            mask holds colours, `mask_colour` where it has one that `mask_palette` lacks, `mask_lossy`;
            `mask_size_mismatch`.
        """
        with _rejecting():
            loaded = self._load(image_payload, shrinks_by=shrinks_by)
            scaled = Scaled(self._to_mode(loaded, observations), loaded.size, loaded.box)
            width, height = loaded.size
        with _rejecting("mask_"):
            loaded_mask = self._load(mask_payload, is_mask=True)
            ids = class_ids(loaded_mask.image, loaded_mask.raw_mode, self.mask_palette)
            mask = ids.image
            was_lying = loaded.orientation >= 5 and width != height
            if not loaded_mask.orientation and not (was_lying and mask.size == loaded.size):
                mask = transposed(mask, loaded.orientation)
            if mask.size != loaded.size:
                raise Rejected(
                    "size_mismatch",
                    f"expected the size of the image, {width}x{height} when upright, found "
                    f"{mask.width}x{mask.height}; make the mask from this very image",
                )
        if observations is not None:
            observations.append((MASK_STORED, ids.stored_as))
            observations += ((MASK_COLOUR, colour) for colour in ids.colours)
        return scaled, mask

    def _to_mode(self, loaded: "_Loaded", observations: list[Observation] | None) -> Image.Image:
        image = loaded.image
        is_grey = image.mode.startswith("I")
        is_scaled = is_grey and self.mode != "I;16" and self.range is None
        if observations is not None and is_scaled:
            observations.append((GREY_BITS, str(int(np.asarray(image).max()).bit_length())))
        elif observations is not None and not is_grey and ";16" in loaded.raw_mode:
            upper = np.asarray(image)[:, :, : 1 if image.mode == "LA" else 3]  # Pillow keeps the upper 8 bits
            observations.append((COLOUR_BITS, str(int(upper.max()).bit_length() + 8)))
        return to_mode(image, self.mode, self.background, self.range or (0, 65535))

    def _load(self, payload: bytes, is_mask: bool = False, shrinks_by: ShrinksBy | None = None) -> "_Loaded":
        """The upright image in the file's own mode, and what only its file tells."""
        image = self._open(payload)
        if is_mask and not self.lossy_masks and is_lossy(payload, image):
            raise Rejected(
                "lossy",
                f"expected class ids in a format that keeps every pixel, found {image.format}, whose compression "
                "changes them; save the mask as PNG, or take it as it is with decode(lossy_masks=True)",
            )
        stored, stated = raw_mode(image), orientation(image)  # in this order: the latter loads a PNG
        if image.format in ("JPEG", "MPO"):
            whole = image.size
            size = whole[::-1] if stated >= 5 else whole
            factor = factor_of(size, self.scale, shrinks_by) if self.scale and shrinks_by else 1
            pixels = load_jpeg(payload, image, self.strict, factor)
            box = box_of(size, 1 if pixels.size == whole else factor, stated)
            return _Loaded(transposed(pixels, stated), stated, stored, size, box)
        if self.strict and image.format == "PNG":
            # decoding skips some of the checksums, and with them a flipped bit in seventy
            open_image(payload, ["PNG"]).verify()
        if image.format == "TIFF":  # Pillow turns it upright itself while it loads it
            return _Loaded.whole(load_tiff(payload, image), stated, stored)
        image.load()
        return _Loaded.whole(transposed(image, stated), stated, stored)

    def _open(self, payload: bytes) -> Image.Image:
        """Reads the header, and rejects what can be rejected by it."""
        if not payload:
            raise Rejected("empty", f"expected an image, found 0 bytes; {AGAIN}")
        if "WEBP" in self.formats and (size := webp_size(payload)):
            self._check_size(*size)
        try:
            # Pillow opens an MPO as a JPEG first; its parsers of formats that aren't named never see the content
            plugins = dict.fromkeys("JPEG" if name == "MPO" else name for name in self.formats)
            image = open_image(payload, list(plugins))
        except UnidentifiedImageError:
            raise unidentified(payload, self.formats) from None
        if image.format not in self.formats:
            raise not_allowed(image.format, self.formats)
        self._check_size(*image.size)
        # an MPO's second frame is a preview, or what the other eye sees
        if not self.first_frame and image.format != "MPO" and getattr(image, "is_animated", False):
            raise Rejected(
                "animated",
                f"expected a still image, found a {image.format} of several frames or pages; split it, or take the "
                "first with decode(first_frame=True)",
            )
        return image

    def _check_size(self, width: int, height: int) -> None:
        if width * height > self.max_pixels:
            raise Rejected(
                "too_many_pixels",
                f"expected at most {self.max_pixels} pixels, found {width}x{height} = {width * height} in the header; "
                "scale the image down, or raise max_pixels",
            )


class _Loaded(NamedTuple):
    """As `Scaled`, and which orientation the file states (0: none), and how it stores pixels."""

    image: Image.Image
    orientation: int
    raw_mode: str
    size: tuple[int, int]
    box: Box

    @classmethod
    def whole(cls, image: Image.Image, orientation: int, raw_mode: str) -> "_Loaded":
        return cls(image, orientation, raw_mode, *Scaled.whole(image)[1:])


@dataclass(frozen=True)
class Jpeg:
    """Pixels stored as JPEG with 4:2:0 chroma: small, and changed a little.

    Pillow encodes: as fast as simplejpeg, which below quality 96 uses the fast, less precise DCT whatever it is told
    (measured at 95: 0.5 dB worse at the same size).

    Attributes:
      quality: 1 to 100.
    """

    codec_id: ClassVar[str] = "jpeg"
    is_lossless: ClassVar[bool] = False

    quality: int = 95

    def __post_init__(self) -> None:
        expect(is_int(self.quality, 1, 100), "jpeg(quality=...)", "a whole number from 1 to 100", self.quality)

    def config(self) -> dict[str, Any]:
        """The arguments of `image.jpeg`, by name."""
        return config_of(self)

    def encode(self, image: Pixels) -> bytes:
        """Encodes 8-bit pixels; equal pixels give equal bytes.

        Args:
          image: A Pillow image in mode RGB or L, or uint8 [h, w], [h, w, 1] or [h, w, 3].

        Raises:
          ValueError: the pixels are of another kind.
        """
        # `comment`: else Pillow writes the one that a user's function may have left in the image's info
        return memory_file.save(_storable(image, ("RGB", "L"), "jpeg"), "JPEG", quality=self.quality, comment=None)

    def decode(
        self, content: Content, shape: Sequence[int], dtype: npt.DTypeLike, out: npt.NDArray[Any] | None = None
    ) -> npt.NDArray[Any]:
        """The stored pixels, as training sees them.

        Args:
          content: What `encode` returned.
          shape: (height, width, channels).
          dtype: uint8.
          out: Contiguous, of this shape and dtype: the pixels are decoded straight into it. None: a new array.

        Returns:
          uint8 [h, w, c]: `out`, where it is given.

        Raises:
          ValueError: the content is damaged, or of another shape or dtype; then what is in `out` is arbitrary.
        """
        try:
            pixels = decode_jpeg(content, "GRAY" if shape[-1] == 1 else "RGB", buffer=out)
        except ValueError as error:
            raise ValueError(f"expected stored JPEG pixels {list(shape)}, found: {error}") from error
        pixels = _checked(pixels, shape, dtype)
        return pixels if out is None else out

    def count(self, contents: Sequence[bytes], shape: Sequence[int]) -> npt.NDArray[np.int64]:
        """How often each value occurs in each channel of stored images, as training sees them.

        Args:
          contents: What `encode` returned for each.
          shape: (height, width, channels) of all.

        Returns:
          int64 [channels, 256].

        Raises:
          ValueError: a content is damaged, or of another shape.
        """
        try:
            return count_pixels(decode_stored(contents, shape))
        except ValueError as error:
            raise ValueError(f"expected stored JPEG pixels {list(shape)}, found: {error}") from error


@dataclass(frozen=True)
class Png:
    """Pixels stored as PNG: the very values, of 8 bit or, in one channel, 16."""

    codec_id: ClassVar[str] = "png"
    is_lossless: ClassVar[bool] = True

    def config(self) -> dict[str, Any]:
        """The arguments of `image.png`, by name."""
        return config_of(self)

    def encode(self, image: Pixels) -> bytes:
        """Encodes pixels; equal pixels give equal bytes.

        Args:
          image: A Pillow image in mode RGB, L or I;16, or uint8 [h, w], [h, w, 1] or [h, w, 3], or uint16 [h, w] or
            [h, w, 1].

        Raises:
          ValueError: the pixels are of another kind.
        """
        storable = _storable(image, ("RGB", "L", "I;16"), "png")
        # Measured at 224x224: photos shrink by 7 % more at level 6 but take 3.4 times as long, masks by 27 % at 1.2.
        level = 1 if storable.mode == "RGB" else 6
        # None: else Pillow writes those that a user's function may have left in the image's info
        return _save(storable, "PNG", compress_level=level, icc_profile=None, transparency=None)

    def decode(
        self, content: Content, shape: Sequence[int], dtype: npt.DTypeLike, out: npt.NDArray[Any] | None = None
    ) -> npt.NDArray[Any]:
        """The stored pixels, as training sees them; read-only, where `out` is not given.

        Args:
          content: What `encode` returned.
          shape: (height, width, channels).
          dtype: uint8 or uint16.
          out: Of this shape and dtype: the pixels are copied into it.

        Returns:
          uint8 or uint16 [h, w, c]: `out`, where it is given.

        Raises:
          ValueError: the content is damaged, or of another shape or dtype.
        """
        try:
            pixels = np.asarray(open_image(content, ("PNG",)))
        except Exception as error:  # as in _rejecting
            raise ValueError(f"expected stored PNG pixels {list(shape)}, found: {error}") from error
        return _copied(_checked(pixels if pixels.ndim == 3 else pixels[:, :, np.newaxis], shape, dtype), out)

    def count(self, contents: Sequence[bytes], shape: Sequence[int]) -> npt.NDArray[np.int64]:
        """How often each value occurs in each channel of stored images of 8 bit; for the arguments see `Jpeg.count`."""
        return _sum_of_counts(self.decode(content, shape, np.uint8) for content in contents)


@dataclass(frozen=True)
class Raw:
    """Pixels stored as they lie in memory, rows from the top, channels together, 16 bit little-endian: fast to read."""

    codec_id: ClassVar[str] = "raw"
    is_lossless: ClassVar[bool] = True

    def config(self) -> dict[str, Any]:
        """The arguments of `image.raw`, by name."""
        return config_of(self)

    def encode(self, image: Pixels) -> bytes:
        """The pixels' bytes.

        Args:
          image: A Pillow image in mode RGB, L or I;16, or uint8 [h, w], [h, w, 1] or [h, w, 3], or uint16 [h, w] or
            [h, w, 1].

        Raises:
          ValueError: the pixels are of another kind.
        """
        return _storable(image, ("RGB", "L", "I;16"), "raw").tobytes()

    def decode(
        self, content: Content, shape: Sequence[int], dtype: npt.DTypeLike, out: npt.NDArray[Any] | None = None
    ) -> npt.NDArray[Any]:
        """The stored pixels, as training sees them; a read-only view of the content, where `out` is not given.

        Args:
          content: What `encode` returned.
          shape: (height, width, channels).
          dtype: uint8 or uint16.
          out: Of this shape and dtype: the pixels are copied into it.

        Returns:
          uint8 or uint16 [h, w, c]: `out`, where it is given.

        Raises:
          ValueError: the content is not of that size.
        """
        stored = np.dtype(dtype).newbyteorder("<")
        expected = math.prod(shape) * stored.itemsize
        if len(content) != expected:
            raise ValueError(f"expected {expected} bytes, {np.dtype(dtype)} {list(shape)}, found {len(content)}")
        return _copied(np.frombuffer(content, stored).reshape(shape), out)

    def count(self, contents: Sequence[bytes], shape: Sequence[int]) -> npt.NDArray[np.int64]:
        """How often each value occurs in each channel of stored images of 8 bit; for the arguments see `Jpeg.count`."""
        return _sum_of_counts(self.decode(content, shape, np.uint8) for content in contents)


# By the id that the manifest has for them. Who reads a dataset tells, after what was found, what to do about it.
CODECS: Mapping[str, Jpeg | Png | Raw] = {codec.codec_id: codec for codec in (Jpeg(), Png(), Raw())}


def _storable(pixels: Pixels, modes: Sequence[str], encoding: str) -> Image.Image:
    image = as_pil(pixels)
    if image.mode not in modes:
        raise ValueError(
            f"{encoding}: expected pixels in mode {' or '.join(modes)}, found {image.mode}; convert them with "
            "image.convert('RGB'), or store them with image.png() or image.raw()"
        )
    return image


def _sum_of_counts(images: Iterable[Pixels]) -> npt.NDArray[np.int64]:
    counts: npt.NDArray[np.int64] = np.sum([count_pixels(image) for image in images], axis=0)
    return counts


def _save(image: Image.Image, pillow_format: str, **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, pillow_format, **options)
    return out.getvalue()


def _checked(pixels: npt.NDArray[Any], shape: Sequence[int], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    if pixels.shape != tuple(shape) or pixels.dtype != np.dtype(dtype):
        raise ValueError(
            f"expected stored pixels {np.dtype(dtype)} {list(shape)}, found {pixels.dtype} {list(pixels.shape)}"
        )
    return pixels


def _copied(pixels: npt.NDArray[Any], out: npt.NDArray[Any] | None) -> npt.NDArray[Any]:
    if out is None:
        return pixels
    out[...] = pixels
    return out


@contextmanager
def _rejecting(prefix: str = "") -> Iterator[None]:
    """Turns whatever is raised into Rejected, with the prefix before its code."""
    try:
        yield
    except Rejected as rejected:
        if not prefix or rejected.code.startswith(prefix):
            raise
        raise Rejected(prefix + rejected.code, f"mask: {rejected.message}") from rejected
    except Exception as error:  # decoders raise anything on hostile files: SyntaxError, struct.error, MemoryError ...
        code = _code(error)
        complaint = f"found what its decoder can't take ({type(error).__name__}: {error})"
        advice = "scale the image down" if code == "too_many_pixels" else AGAIN
        raise Rejected(prefix + code, f"expected a whole image, {complaint}; {advice}") from error


def _code(error: Exception) -> str:
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        return "too_many_pixels"
    words = str(error).lower()
    cut = isinstance(error, EOFError) or "truncated" in words or "not enough image data" in words
    return "truncated" if cut else "corrupt"


def _are_formats(names: Sequence[str]) -> bool:
    return set(names) <= set(_FORMATS) or all(isinstance(name, str) and name and _is_format(name) for name in names)


def _is_format(name: str) -> bool:
    return name == "MPO" or is_known(name)


def _install(names: object) -> str:
    """What to install where one of these formats needs it, as the end of a sentence."""
    package = missing_plugin(names) if isinstance(names, tuple) and not _are_formats(names) else None
    return f" (here: pip install {package})" if package else ""


def _is_range(value: object) -> bool:
    return (
        isinstance(value, tuple)
        and len(value) == 2
        and all(is_int(limit, 0, 65535) for limit in value)
        and value[0] < value[1]
    )


def _is_palette(value: object) -> bool:
    return (
        isinstance(value, Mapping)
        and bool(value)
        and all(is_colour(colour) and is_int(number, 0, 65535) for colour, number in value.items())
    )
