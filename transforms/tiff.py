"""TIFF decoding that hands out no pixel that was not decoded.

libtiff takes a damaged strip of CCITT group 4 or JPEG for whole, and leaves in memory, where its missing rows belong,
what was there before. So a strip of group 4 is decoded twice, each time into memory of a known colour; of JPEG, the
size that each part states must be the one that is expected; and kinds of compression of which this is not known are
rejected.
"""

import io
import struct

import numpy as np
import numpy.typing as npt
from PIL import Image, TiffImagePlugin

from .outcome import Rejected

_SUBFILE_TYPE = 254
_WIDTH, _LENGTH, _BITS, _COMPRESSION, _PHOTOMETRIC, _FILL_ORDER = 256, 257, 258, 259, 262, 266
_STRIP_OFFSETS, _SAMPLES, _ROWS_PER_STRIP, _STRIP_COUNTS = 273, 277, 278, 279
_TILE_WIDTH, _TILE_LENGTH, _TILE_OFFSETS, _TILE_COUNTS = 322, 323, 324, 325
# As Pillow calls them. libtiff says so where data of these end early; of the rest it may not.
_TELLING = ("raw", "tiff_ccitt", "group3", "tiff_lzw", "tiff_adobe_deflate", "tiff_deflate", "packbits", "lzma", "zstd")
_GROUP_4 = 4
_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def load_tiff(payload: bytes, image: Image.Image) -> Image.Image:
    """The pixels of an opened TIFF, of its first page.

    Args:
      payload: The file's content.
      image: What Pillow opened it as; it may be loaded and returned. Pillow turns it upright while it loads it.

    Raises:
      Rejected: `truncated`, `corrupt`, `unsupported_compression` or `preview`.
      Exception: whatever Pillow raises.
    """
    assert isinstance(image, TiffImagePlugin.TiffImageFile)
    if int(image.tag_v2.get(_SUBFILE_TYPE, 0)) & 1:
        raise Rejected(
            "preview",
            "expected a TIFF whose first page is the image, found one whose first page is a small copy of it, as in a "
            "camera's raw files (DNG, NEF, ARW); develop the file, and save it as TIFF or PNG",
        )
    compression = str(image.info.get("compression", "raw"))
    if compression == "group4":
        _check_group_4(payload, image)
    elif compression == "jpeg":
        _check_jpeg(payload, image)
    elif compression not in _TELLING:
        raise Rejected(
            "unsupported_compression",
            f"expected a TIFF compressed by {', '.join(_TELLING[1:])}, group4, jpeg or not at all, found "
            f"{compression}, whose decoder does not tell of damage; convert the file to PNG",
        )
    if getattr(image, "_tile_size", None) == image.size:
        image.im = Image.new(image.mode, image.size).im  # else Pillow's own limit of pixels would hold here
    image.load()
    return image


def _check_group_4(payload: bytes, image: TiffImagePlugin.TiffImageFile) -> None:
    """Raises Rejected where not every pixel is decoded; then none shows what was in memory before."""
    tags = image.tag_v2
    width, height = int(tags[_WIDTH]), int(tags[_LENGTH])
    rows = min(int(tags.get(_ROWS_PER_STRIP, height)), height)
    offsets, counts = _tuple(tags.get(_STRIP_OFFSETS)), _tuple(tags.get(_STRIP_COUNTS))
    if rows < 1 or len(offsets) != -(-height // rows) or len(counts) != len(offsets):
        raise Rejected(
            "corrupt", f"expected strips for {height} rows, found {len(offsets)} of {rows} rows; export the file again"
        )
    strips = [payload[offset : offset + count] for offset, count in zip(offsets, counts, strict=True)]
    reverse = int(tags.get(_FILL_ORDER, 1)) == 2
    white, black = (_decode_group_4(width, height, rows, strips, reverse, fill) for fill in (255, 0))
    missing = int((white != black).any(axis=1).sum())
    if missing:
        raise Rejected(
            "corrupt",
            f"expected a whole CCITT group 4 image of {height} rows, found {missing} that are not decoded; fetch or "
            "export the file again, or remove it",
        )


def _decode_group_4(
    width: int, height: int, rows: int, strips: list[bytes], reverse: bool, fill: int
) -> npt.NDArray[np.bool_]:
    """The pixels, bool [height, width], each strip decoded over one of a single colour."""
    before = _blank_strip(width, rows, fill)
    if reverse:
        before = before.translate(_REVERSED)
    interleaved = [part for strip in strips for part in (before, strip)]
    decoded_rows = (2 * len(strips) - 1) * rows + (height - (len(strips) - 1) * rows)
    content = _group_4_file(width, decoded_rows, rows, interleaved, 2 if reverse else 1)
    pixels = np.asarray(TiffImagePlugin.TiffImageFile(io.BytesIO(content)))
    return np.concatenate([pixels[at : at + rows] for at in range(rows, decoded_rows, 2 * rows)])


def _blank_strip(width: int, rows: int, fill: int) -> bytes:
    """A strip of one colour, as group 4 encodes it."""
    out = io.BytesIO()
    Image.new("1", (width, rows), fill).save(out, "TIFF", compression="group4", tiffinfo={_ROWS_PER_STRIP: rows})
    content = out.getvalue()
    tags = TiffImagePlugin.TiffImageFile(io.BytesIO(content)).tag_v2
    (offset,), (count,) = _tuple(tags[_STRIP_OFFSETS]), _tuple(tags[_STRIP_COUNTS])
    return content[offset : offset + count]


def _group_4_file(width: int, height: int, rows: int, strips: list[bytes], fill_order: int) -> bytes:
    """A TIFF of these strips: little-endian, its directory behind the strips and their lists."""
    offsets, at = [], 8
    for strip in strips:
        offsets.append(at)
        at += len(strip)
    lists = struct.pack(f"<{2 * len(strips)}I", *offsets, *(len(strip) for strip in strips))
    is_one = len(strips) == 1
    entries = [
        (_WIDTH, 1, width),
        (_LENGTH, 1, height),
        (_BITS, 1, 1),
        (_COMPRESSION, 1, _GROUP_4),
        (_PHOTOMETRIC, 1, 1),
        (_FILL_ORDER, 1, fill_order),
        (_STRIP_OFFSETS, len(strips), offsets[0] if is_one else at),
        (_SAMPLES, 1, 1),
        (_ROWS_PER_STRIP, 1, rows),
        (_STRIP_COUNTS, len(strips), len(strips[0]) if is_one else at + 4 * len(strips)),
    ]
    directory = b"".join(struct.pack("<HHII", tag, 4, count, value) for tag, count, value in entries)
    begin = at + len(lists)
    return b"".join(
        [
            struct.pack("<2sHI", b"II", 42, begin),
            *strips,
            lists,
            struct.pack("<H", len(entries)),
            directory,
            bytes(4),
        ]
    )


def _check_jpeg(payload: bytes, image: TiffImagePlugin.TiffImageFile) -> None:
    """Raises Rejected where a strip or tile states that it is smaller than its place: the rest would not be written."""
    tags = image.tag_v2
    width, height = int(tags[_WIDTH]), int(tags[_LENGTH])
    if _TILE_OFFSETS in tags:
        offsets, counts = _tuple(tags[_TILE_OFFSETS]), _tuple(tags.get(_TILE_COUNTS))
        sizes = [(int(tags[_TILE_WIDTH]), int(tags[_TILE_LENGTH]))] * len(offsets)
    else:
        offsets, counts = _tuple(tags.get(_STRIP_OFFSETS)), _tuple(tags.get(_STRIP_COUNTS))
        rows = max(1, min(int(tags.get(_ROWS_PER_STRIP, height)), height))
        strips_a_plane = -(-height // rows)
        sizes = [(width, min(rows, height - at % strips_a_plane * rows)) for at in range(len(offsets))]
    if not offsets or len(offsets) != len(counts):
        raise Rejected("corrupt", "expected the places of a TIFF's parts, found none; export the file again")
    for offset, count, (part_width, part_height) in zip(offsets, counts, sizes, strict=True):
        stated = _jpeg_size(payload[offset : offset + count])
        if stated is None or stated[0] < part_width or stated[1] < part_height:
            found = f"one of {stated[0]}x{stated[1]}" if stated else "no frame header"
            raise Rejected(
                "corrupt",
                f"expected JPEG parts of {part_width}x{part_height} in the TIFF, found {found}; export the file again",
            )


def _jpeg_size(part: bytes) -> tuple[int, int] | None:
    """Width and height that a JPEG's frame header states; None where there is none."""
    at = 2
    while at + 9 <= len(part) and part[at] == 0xFF:
        marker = part[at + 1]
        if marker == 0xFF:  # a fill byte
            at += 1
            continue
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack_from(">HH", part, at + 5)
            return width, height
        at += 2 + struct.unpack_from(">H", part, at + 2)[0]
    return None


def _tuple(value: object) -> tuple[int, ...]:
    if value is None:
        return ()
    return tuple(value) if isinstance(value, tuple | list) else (int(value),)  # type: ignore[call-overload]
