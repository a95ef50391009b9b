"""From a file's content to an opened image, whose pixels are not decoded yet, or to what it is instead."""

import importlib
import io
import struct
from collections.abc import Sequence
from typing import Any

from PIL import Image, ImageFile, UnidentifiedImageError

from .outcome import Rejected

AGAIN = "fetch or export the file again, or remove it"

# Formats that Pillow reads with a plug-in: the package, its module, and the function of it that registers it.
_PLUGINS = {
    "HEIF": ("pillow-heif", "pillow_heif", "register_heif_opener"),
    "AVIF": ("pillow-avif-plugin", "pillow_avif", None),
    "JXL": ("pillow-jxl-plugin", "pillow_jxl", None),
}
_WORDS = {"HEIF": "HEIC (HEIF)", "JXL": "JPEG XL (JXL)"}
_BRANDS = {  # of ISO media files: what stands behind `ftyp`
    **dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"), "HEIF"),
    **dict.fromkeys((b"avif", b"avis"), "AVIF"),
}
_JXL = (b"\xff\x0a", b"\0\0\0\x0cJXL \r\n\x87\n")


def open_image(payload: bytes | memoryview, formats: Sequence[str]) -> ImageFile.ImageFile:
    """Reads the header of an image: as Pillow's `Image.open`, but for its limit of pixels, which is one per process.

    Args:
      payload: The file's content.
      formats: Pillow's names of the formats to try; their parsers alone see the content.

    Raises:
      UnidentifiedImageError: it is of none of these formats.
      Exception: whatever a parser raises.
    """
    prefix = bytes(payload[:16])
    for name in formats:
        is_known(name)
        factory, accept = Image.OPEN[name]
        try:
            if accept is None or accept(prefix) is True:
                return factory(io.BytesIO(payload), "")
        except (SyntaxError, IndexError, TypeError, struct.error):  # as Pillow: another format may know it
            continue
    raise UnidentifiedImageError("no format's parser knows it")


def is_known(name: str) -> bool:
    """Whether Pillow reads that format; imports its plug-in where one is installed.

    >>> is_known("PNG"), is_known("PNGX")
    (True, False)
    """
    if name not in Image.OPEN:
        Image.preinit()
    if name not in Image.OPEN:
        Image.init()
    if name not in Image.OPEN and name in _PLUGINS:
        _, module, function = _PLUGINS[name]
        try:
            plugin: Any = importlib.import_module(module)
        except ImportError:
            return False
        if function:
            getattr(plugin, function)()
    return name in Image.OPEN


def missing_plugin(names: Sequence[str]) -> str | None:
    """What has to be installed for the first of these formats that needs a plug-in; None where none does.

    >>> missing_plugin(["PNG"])
    """
    packages = [_PLUGINS[name][0] for name in names if name in _PLUGINS and not is_known(name)]
    return packages[0] if packages else None


def unidentified(payload: bytes, formats: Sequence[str]) -> Rejected:
    """Why none of the formats' parsers opened this content."""
    Image.init()
    prefix = payload[:16]
    looks_like = [name for name in Image.ID if _has_magic(name, prefix)] or _foreign(prefix)
    for name in looks_like:
        if name in formats:
            return Rejected(
                "corrupt",
                f"expected an image, found what begins like {name} but has a header that can't be read, damaged or of "
                f"a variant that Pillow doesn't know; {AGAIN}",
            )
    if looks_like:
        return not_allowed(looks_like[0], formats)
    if prefix[4:8] == b"ftyp":
        return Rejected(
            "format_not_allowed",
            f"expected one of {', '.join(formats)}, found a video or another ISO media file; convert the file",
        )
    return Rejected("not_an_image", f"expected an image, found content that begins with {prefix!r}; {AGAIN}")


def not_allowed(name: str | None, formats: Sequence[str]) -> Rejected:
    """That the file is of a format which the recipe does not accept, and what to do so that it does."""
    advice = f"allow it with decode(formats=(..., {name!r}))"
    if name in _PLUGINS and not is_known(name):
        advice = f"install its plug-in for Pillow (pip install {_PLUGINS[name][0]}) and {advice}"
    found = _WORDS.get(name or "", name)
    return Rejected(
        "format_not_allowed", f"expected one of {', '.join(formats)}, found {found}; convert the file, or {advice}"
    )


def webp_size(payload: bytes) -> tuple[int, int] | None:
    r"""Width and height in the header of a WebP, whose parser takes memory for them before it tells; None of others.

    >>> webp_size(b"RIFF....WEBPVP8X....\0\0\0\0\2\0\0\1\0\0")
    (3, 2)
    """
    if payload[:4] != b"RIFF" or payload[8:12] != b"WEBP" or len(payload) < 30:
        return None
    kind = payload[12:16]
    if kind == b"VP8X":
        return int.from_bytes(payload[24:27], "little") + 1, int.from_bytes(payload[27:30], "little") + 1
    if kind == b"VP8L":
        bits = int.from_bytes(payload[21:25], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", payload, 26)
        return width & 0x3FFF, height & 0x3FFF
    return None


def raw_mode(image: Image.Image) -> str:
    """How the file stores pixels, as Pillow's decoders name it (`L;4`: grey of 4 bit); ask before it is loaded."""
    for tile in getattr(image, "tile", []):
        arguments = tile[3] if isinstance(tile[3], tuple) else (tile[3],)
        for argument in arguments:
            if isinstance(argument, str):
                return argument
    return image.mode


def is_lossy(payload: bytes, image: Image.Image) -> bool:
    """Whether the file's format or compression changes pixels a little."""
    if image.format == "WEBP":
        return b"VP8L" not in payload[12:] or b"VP8 " in payload[12:64]
    if image.format == "TIFF":
        return str(image.info.get("compression")) in ("jpeg", "tiff_jpeg", "webp")
    return image.format in ("JPEG", "MPO", "JPEG2000", "HEIF", "AVIF", "JXL")


def _foreign(prefix: bytes) -> list[str]:
    """The format that needs a plug-in which is not there, by its magic number."""
    if prefix.startswith(_JXL):
        return ["JXL"]
    brand = _BRANDS.get(prefix[8:12]) if prefix[4:8] == b"ftyp" else None
    return [brand] if brand else []


def _has_magic(name: str, prefix: bytes) -> bool:
    """Whether content that begins so may be of that format, by its magic number; its parser is not run."""
    accept = Image.OPEN[name][1]
    try:
        return accept is not None and accept(prefix) is True
    except Exception:  # IndexError, struct.error ...: the content is shorter than a magic number
        return False
