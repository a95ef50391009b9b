"""Images between bytes and pixels: decoding what users have, and the encodings that prepared pixels are stored in."""

import io
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from .check import expect, is_colour, is_int
from .jpeg import decode_jpeg, load_jpeg
from .outcome import Rejected
from .pixels import Colour, Mode, Pixels, as_pil, class_ids, orientation, to_mode, transposed
from .step import config_of
from .tiff import load_tiff

Content: TypeAlias = bytes | memoryview

_FORMATS = ("JPEG", "MPO", "PNG", "GIF", "WEBP", "BMP", "TIFF")
_AGAIN = "fetch or export the file again, or remove it"


@dataclass(frozen=True)
class Decode:
    """How a payload becomes an image. What cannot become one raises Rejected, and nothing else.

    The format is told from the content, whatever the file is called. EXIF orientation is applied, an ICC profile is
    not. Greyscale of 16 bit is scaled to 8 bit.

    Attributes:
      mode: "RGB" or "L".
      formats: Which of Pillow's formats to accept. MPO is the JPEG with a preview that phones write.
      max_pixels: Images that are larger by their header are rejected before anything is decoded.
      first_frame: Whether to take the first frame of an animation, or page of a TIFF, rather than to reject it.
      strict: Whether to reject a JPEG that libjpeg decodes with a warning of damage, and a PNG with a wrong checksum.
      background: The colour that transparent pixels are laid on; None drops the alpha channel.
    """

    codec_id: ClassVar[str] = "image.decode"

    mode: Mode = "RGB"
    formats: tuple[str, ...] = _FORMATS
    max_pixels: int = 50_000_000
    first_frame: bool = False
    strict: bool = True
    background: Colour | None = None

    def __post_init__(self) -> None:
        expect(self.mode in ("RGB", "L"), "decode(mode=...)", "'RGB' or 'L'", self.mode)
        expect(
            isinstance(self.formats, tuple) and bool(self.formats) and _are_formats(self.formats),
            "decode(formats=...)",
            f"a tuple of Pillow's names of formats, such as {_FORMATS}",
            self.formats,
        )
        expect(is_int(self.max_pixels, 1), "decode(max_pixels=...)", "a whole number from 1", self.max_pixels)
        expect(
            self.background is None or is_colour(self.background),
            "decode(background=...)",
            "None, or a tuple (red, green, blue) of 0 to 255",
            self.background,
        )

    def config(self) -> dict[str, Any]:
        """The arguments of `image.decode`, by name."""
        return config_of(self)

    def __call__(self, payload: bytes) -> Image.Image:
        """Decodes an image.

        Args:
          payload: A file's content.

        Returns:
          The upright image in mode `mode`: its pixels alone, without EXIF, profile or text.

        Raises:
          Rejected: `empty`, `not_an_image`, `format_not_allowed`, `too_many_pixels`, `animated`, `truncated`,
            `corrupt`, `unsupported_compression` or `unsupported_mode`.
        """
        with _rejecting():
            image, _ = self._load(payload)
            return to_mode(image, self.mode, self.background)

    def decode_pair(self, image_payload: bytes, mask_payload: bytes) -> tuple[Image.Image, Image.Image]:
        """Decodes an image and its mask, and lays both on one grid.

        A mask that has an EXIF orientation is turned by it. One that has none is turned like its image, unless its size
        says that it was drawn on the upright photo.

        Args:
          image_payload: The image file's content.
          mask_payload: The mask file's content.

        Returns:
          The image as `__call__` returns it, and the mask of the same size: class ids, in mode L or I;16.

        Raises:
          Rejected: as in `__call__`, with `mask_` before the code where it is about the mask; `mask_mode` where the
            mask holds colours; `mask_size_mismatch`.
        """
        with _rejecting():
            loaded, image_orientation = self._load(image_payload)
            image = to_mode(loaded, self.mode, self.background)
        with _rejecting("mask_"):
            loaded, mask_orientation = self._load(mask_payload)
            mask = class_ids(loaded)
            was_lying = image_orientation >= 5 and image.width != image.height
            if not mask_orientation and not (was_lying and mask.size == image.size):
                mask = transposed(mask, image_orientation)
            if mask.size != image.size:
                raise Rejected(
                    "size_mismatch",
                    f"expected the size of the image, {image.width}x{image.height} when upright, found "
                    f"{mask.width}x{mask.height}; make the mask from this very image",
                )
        return image, mask

    def _load(self, payload: bytes) -> tuple[Image.Image, int]:
        """The upright image in the file's own mode, and the orientation that the file states (0: none)."""
        image = self._open(payload)
        stated = orientation(image)
        if image.format in ("JPEG", "MPO"):
            return transposed(load_jpeg(payload, image, self.strict), stated), stated
        if self.strict and image.format == "PNG":
            # decoding skips some of the checksums, and with them a flipped bit in seventy
            Image.open(io.BytesIO(payload), formats=["PNG"]).verify()
        if image.format == "TIFF":  # Pillow turns it upright itself while it loads it
            return load_tiff(payload, image), stated
        image.load()
        return transposed(image, stated), stated

    def _open(self, payload: bytes) -> Image.Image:
        """Reads the header, and rejects what can be rejected by it."""
        if not payload:
            raise Rejected("empty", f"expected an image, found 0 bytes; {_AGAIN}")
        try:
            # Pillow opens an MPO as a JPEG first; its parsers of formats that aren't named never see the content
            plugins = dict.fromkeys("JPEG" if name == "MPO" else name for name in self.formats)
            image = Image.open(io.BytesIO(payload), formats=list(plugins))
        except UnidentifiedImageError:
            raise _unidentified(payload, self.formats) from None
        if image.format not in self.formats:
            raise _not_allowed(image.format, self.formats)
        if image.width * image.height > self.max_pixels:
            raise Rejected(
                "too_many_pixels",
                f"expected at most {self.max_pixels} pixels, found {image.width}x{image.height} = "
                f"{image.width * image.height} in the header; scale the image down, or raise max_pixels",
            )
        # an MPO's second frame is a preview, or what the other eye sees
        if not self.first_frame and image.format != "MPO" and getattr(image, "is_animated", False):
            raise Rejected(
                "animated",
                f"expected a still image, found a {image.format} of several frames or pages; split it, or take the "
                "first with decode(first_frame=True)",
            )
        return image


@dataclass(frozen=True)
class Jpeg:
    """Pixels stored as JPEG with 4:2:0 chroma: small, and changed a little.

    Pillow encodes: as fast as simplejpeg, which below quality 96 uses the fast, less precise DCT whatever it is told
    (measured at 95: 0.5 dB worse at the same size).

    Attributes:
      quality: 1 to 100.
    """

    codec_id: ClassVar[str] = "jpeg"

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
        return _save(_storable(image, ("RGB", "L"), "jpeg"), "JPEG", quality=self.quality, comment=None)

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


@dataclass(frozen=True)
class Png:
    """Pixels stored as PNG: the very values, of 8 bit or, in one channel, 16."""

    codec_id: ClassVar[str] = "png"

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
            with Image.open(io.BytesIO(content), formats=("PNG",)) as image:
                pixels = np.asarray(image)
        except Exception as error:  # as in _rejecting
            raise ValueError(f"expected stored PNG pixels {list(shape)}, found: {error}") from error
        return _copied(_checked(pixels if pixels.ndim == 3 else pixels[:, :, np.newaxis], shape, dtype), out)


@dataclass(frozen=True)
class Raw:
    """Pixels stored as they lie in memory, rows from the top, channels together, 16 bit little-endian: fast to read."""

    codec_id: ClassVar[str] = "raw"

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
        advice = "scale the image down" if code == "too_many_pixels" else _AGAIN
        raise Rejected(prefix + code, f"expected a whole image, {complaint}; {advice}") from error


def _code(error: Exception) -> str:
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        return "too_many_pixels"
    words = str(error).lower()
    cut = isinstance(error, EOFError) or "truncated" in words or "not enough image data" in words
    return "truncated" if cut else "corrupt"


def _unidentified(payload: bytes, formats: Sequence[str]) -> Rejected:
    """Why none of the formats' plug-ins opened this content."""
    Image.init()
    prefix = payload[:16]
    looks_like = [name for name in Image.ID if _has_magic(name, prefix)]
    for name in looks_like:
        if name in formats:
            return Rejected(
                "corrupt",
                f"expected an image, found what begins like {name} but has a header that can't be read, damaged or of "
                f"a variant that Pillow doesn't know; {_AGAIN}",
            )
    if looks_like:
        return _not_allowed(looks_like[0], formats)
    if prefix[4:8] == b"ftyp":  # Pillow reads none of these, but phones' photos deserve the right word
        return _not_allowed("HEIF (or a video)", formats)
    return Rejected("not_an_image", f"expected an image, found content that begins with {prefix!r}; {_AGAIN}")


def _not_allowed(name: str | None, formats: Sequence[str]) -> Rejected:
    return Rejected(
        "format_not_allowed",
        f"expected one of {', '.join(formats)}, found {name}; convert the file, or allow it with decode(formats=...)",
    )


def _has_magic(name: str, prefix: bytes) -> bool:
    """Whether content that begins so may be of that format, by its magic number; its parser is not run."""
    accept = Image.OPEN[name][1]
    try:
        return accept is not None and accept(prefix) is True
    except Exception:  # IndexError, struct.error ...: the content is shorter than a magic number
        return False


def _are_formats(names: Sequence[str]) -> bool:
    if set(names) <= set(_FORMATS):
        return True
    Image.init()  # imports all of Pillow's plug-ins: only where it must be known
    return set(names) <= {*Image.ID, "MPO"}
