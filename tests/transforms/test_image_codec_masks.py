"""An image and its mask on one grid: decoding them together."""

import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from penstock.transforms import image
from penstock.transforms.image_codec import Decode
from penstock.transforms.outcome import Rejected

Save = Callable[..., bytes]
Array = npt.NDArray[Any]

# An upright photo of 4 x 6 pixels, and its mask: each pixel's class is its red.
MASK = np.arange(24, dtype=np.uint8).reshape(4, 6) * 7
PHOTO = np.stack([MASK, MASK + 50, 255 - MASK], axis=-1)


def stored(upright: Array, orientation: int) -> Array:
    """How a camera that writes this orientation stores what is upright."""
    swap = upright.swapaxes(0, 1)
    return {
        0: upright,
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: swap,
        6: swap[::-1],
        7: swap[::-1, ::-1],
        8: swap[:, ::-1],
    }[orientation].copy()


def tagged(orientation: int) -> dict[str, Any]:
    tags = Image.Exif()
    tags[0x0112] = orientation
    return {"exif": tags} if orientation else {}


def decoded(decode: Decode, *arguments: Any) -> tuple[Image.Image, Image.Image]:
    """An image and its mask, both whole."""
    scaled, mask = decode.scaled_pair(*arguments)
    return scaled.image, mask


def pair(image_payload: bytes, mask_payload: bytes, **options: Any) -> tuple[Array, Array]:
    photo, mask = decoded(image.decode(**options), image_payload, mask_payload)
    assert photo.size == mask.size
    return np.asarray(photo), np.asarray(mask)


def code(image_payload: bytes, mask_payload: bytes, **options: Any) -> str:
    with pytest.raises(Rejected) as caught:
        decoded(image.decode(**options), image_payload, mask_payload)
    assert "expected" in caught.value.message
    return caught.value.code


@pytest.mark.parametrize("pillow_format", ["PNG", "TIFF"])
@pytest.mark.parametrize("orientation", range(9))
def test_a_mask_without_an_orientation_is_turned_like_its_image(
    pillow_format: str, orientation: int, saved: Save
) -> None:
    photo, mask = pair(
        saved(stored(PHOTO, orientation), pillow_format, **tagged(orientation)), saved(stored(MASK, orientation), "PNG")
    )
    assert np.array_equal(photo, PHOTO)
    assert np.array_equal(mask, MASK)


@pytest.mark.parametrize("pillow_format", ["PNG", "TIFF"])
@pytest.mark.parametrize("mask_orientation", range(1, 9))
@pytest.mark.parametrize("orientation", [0, 1, 3, 6, 7])
def test_a_mask_with_an_orientation_is_turned_by_its_own(
    pillow_format: str, orientation: int, mask_orientation: int, saved: Save
) -> None:
    photo, mask = pair(
        saved(stored(PHOTO, orientation), "PNG", **tagged(orientation)),
        saved(stored(MASK, mask_orientation), pillow_format, **tagged(mask_orientation)),
    )
    assert np.array_equal(photo, PHOTO)
    assert np.array_equal(mask, MASK)


@pytest.mark.parametrize("orientation", range(5, 9))
def test_a_mask_drawn_on_the_upright_photo_stays(orientation: int, saved: Save) -> None:
    photo, mask = pair(saved(stored(PHOTO, orientation), "PNG", **tagged(orientation)), saved(MASK, "PNG"))
    assert np.array_equal(photo, PHOTO)
    assert np.array_equal(mask, MASK)


@pytest.mark.parametrize("orientation", range(9))
def test_the_mask_of_a_square_photo_is_turned_like_it(orientation: int, saved: Save) -> None:
    photo, mask = pair(
        saved(stored(PHOTO[:, :4], orientation), "PNG", **tagged(orientation)),
        saved(stored(MASK[:, :4], orientation), "PNG"),
    )
    assert np.array_equal(photo, PHOTO[:, :4])
    assert np.array_equal(mask, MASK[:, :4])


@pytest.mark.parametrize("shape", [(4, 5), (5, 6), (6, 4), (8, 12), (1, 1)])
@pytest.mark.parametrize("orientation", [0, 3])
def test_a_mask_of_another_size_is_rejected_with_both_sizes(
    shape: tuple[int, int], orientation: int, saved: Save
) -> None:
    payload = saved(stored(PHOTO, orientation), "PNG", **tagged(orientation))
    with pytest.raises(Rejected) as caught:
        decoded(image.decode(), payload, saved(np.zeros(shape, np.uint8), "PNG"))
    assert caught.value.code == "mask_size_mismatch"
    assert "6x4" in caught.value.message
    assert f"{shape[1]}x{shape[0]}" in caught.value.message


def test_a_palette_masks_ids_are_its_indices(saved: Save) -> None:
    mask = Image.fromarray(MASK).convert("P")
    mask.putpalette([value for index in range(256) for value in (255 - index, index, 128)])
    for pillow_format in ("PNG", "BMP", "TIFF"):  # Pillow itself numbers a GIF's colours anew
        actual = decoded(image.decode(), saved(PHOTO, "PNG"), saved(mask, pillow_format))[1]
        assert actual.mode == "L"
        assert np.array_equal(np.asarray(actual), MASK), pillow_format


@pytest.mark.parametrize("pillow_format", ["PNG", "TIFF", "BMP"])
def test_a_mask_of_one_bit_is_0_and_1(pillow_format: str, saved: Save) -> None:
    bits = MASK > 70
    _, mask = pair(saved(PHOTO, "PNG"), saved(bits, pillow_format))
    assert mask.dtype == np.uint8
    assert np.array_equal(mask, bits)


@pytest.mark.parametrize(
    ("dtype", "pillow_format"), [("<u2", "PNG"), ("<u2", "TIFF"), (">u2", "TIFF"), ("<i4", "TIFF")]
)
def test_a_mask_of_16_bit_keeps_its_ids(dtype: str, pillow_format: str, saved: Save) -> None:
    ids = np.arange(24).reshape(4, 6) * 2849
    mask = Image.frombytes({"<u2": "I;16", ">u2": "I;16B", "<i4": "I"}[dtype], (6, 4), ids.astype(dtype).tobytes())
    actual = decoded(image.decode(), saved(PHOTO, "PNG"), saved(mask, pillow_format))[1]
    assert actual.mode == "I;16"
    assert np.array_equal(np.asarray(actual), ids)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA", "CMYK", "F"])
def test_a_mask_that_holds_no_ids_is_rejected(mode: str, saved: Save) -> None:
    assert code(saved(PHOTO, "PNG"), saved(Image.new(mode, (6, 4)), "TIFF")) == "mask_mode"


def test_a_mask_of_colours_is_rejected_with_one_of_them(saved: Save) -> None:
    with pytest.raises(Rejected, match=r"found colours, such as \(0, 50, 255\) at row 0, column 0; .*mask_palette"):
        decoded(image.decode(), saved(PHOTO, "PNG"), saved(PHOTO, "PNG"))


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA"])
@pytest.mark.parametrize("pillow_format", ["PNG", "TIFF"])
def test_equal_channels_and_opaque_alpha_are_ids(mode: str, pillow_format: str, saved: Save) -> None:
    _, mask = pair(saved(PHOTO, "PNG"), saved(Image.fromarray(MASK).convert(mode), pillow_format))
    assert np.array_equal(mask, MASK)


def test_a_lossless_webp_of_equal_channels_is_ids_and_a_lossy_one_is_rejected(saved: Save) -> None:
    mask = Image.fromarray(MASK).convert("RGB")
    assert np.array_equal(pair(saved(PHOTO, "PNG"), saved(mask, "WEBP", lossless=True))[1], MASK)
    assert code(saved(PHOTO, "PNG"), saved(mask, "WEBP")) == "mask_lossy"
    alpha = Image.fromarray(MASK).convert("RGBA")
    assert np.array_equal(pair(saved(PHOTO, "PNG"), saved(alpha, "WEBP", lossless=True, exact=True))[1], MASK)
    assert code(saved(PHOTO, "PNG"), saved(alpha, "WEBP")) == "mask_lossy"


@pytest.mark.parametrize(("pillow_format", "options"), [("JPEG", {}), ("TIFF", {"compression": "jpeg"})])
def test_a_lossy_mask_is_rejected_unless_it_is_asked_for(
    pillow_format: str, options: dict[str, Any], saved: Save
) -> None:
    photo, mask = (np.kron(array, np.ones((8, 8, 1), np.uint8)) for array in (PHOTO, MASK[:, :, np.newaxis]))
    payload = saved(mask[:, :, 0], pillow_format, **options)
    assert code(saved(photo, "PNG"), payload) == "mask_lossy"
    _, taken = pair(saved(photo, "PNG"), payload, lossy_masks=True)
    assert np.abs(taken.astype(int) - mask[:, :, 0]).max() < 9


def test_a_grey_png_of_few_bits_has_the_ids_that_it_holds(saved: Save) -> None:
    ids = MASK // 7 % 16
    for bits in (1, 2, 4):
        stored_ids = ids % (1 << bits)
        lines = b"".join(b"\0" + _packed_row(row, bits) for row in stored_ids)
        payload = _png(6, 4, bits, 0, lines)
        assert np.array_equal(pair(saved(PHOTO, "PNG"), payload)[1], stored_ids), bits


def _packed_row(row: Array, bits: int) -> bytes:
    text = "".join(f"{int(value):0{bits}b}" for value in row)
    return bytes(int(text[at : at + 8].ljust(8, "0"), 2) for at in range(0, len(text), 8))


def _png(width: int, height: int, bits: int, kind: int, lines: bytes) -> bytes:
    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")


@pytest.mark.parametrize(("kind", "channels"), [(2, 3), (4, 2), (6, 4)])
def test_colours_of_16_bit_are_no_ids_since_pillow_drops_half_of_them(kind: int, channels: int, saved: Save) -> None:
    values = np.full((4, 6, channels), 65535, ">u2")
    values[:, :, : min(3, channels - (kind != 2))] = 7
    payload = _png(6, 4, 16, kind, b"".join(b"\0" + row.tobytes() for row in values))
    assert code(saved(PHOTO, "PNG"), payload) == "mask_mode"


@pytest.mark.parametrize("mode", ["1", "L"])
def test_a_tiff_whose_0_is_white_is_no_mask(mode: str, saved: Save) -> None:
    payload = bytearray(saved(Image.new(mode, (6, 4)), "TIFF"))
    directory = struct.unpack_from("<I", payload, 4)[0]
    for entry in range(struct.unpack_from("<H", payload, directory)[0]):
        at = directory + 2 + 12 * entry
        if struct.unpack_from("<H", payload, at)[0] == 262:
            struct.pack_into("<H", payload, at + 8, 0)
    assert code(saved(PHOTO, "PNG"), bytes(payload)) == "mask_mode"


CLASSES = {(128, 64, 128): 0, (70, 70, 70): 1, (0, 0, 142): 300}


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P"])
def test_colours_become_ids_by_a_palette(mode: str, saved: Save) -> None:
    expected = np.array([[0, 1, 300, 0, 1, 300]] * 4)
    colours = np.array([list(CLASSES)[column % 3] for column in range(6)] * 4, np.uint8).reshape(4, 6, 3)
    picture = Image.fromarray(colours)
    mask = picture.quantize(3) if mode == "P" else picture.convert(mode)
    _, ids = pair(saved(PHOTO, "PNG"), saved(mask, "PNG"), mask_palette=CLASSES)
    assert np.array_equal(ids, expected)
    small = {colour: number % 256 for colour, number in CLASSES.items()}
    assert pair(saved(PHOTO, "PNG"), saved(mask, "PNG"), mask_palette=small)[1].dtype == np.uint8


def test_a_colour_that_a_palette_lacks_is_named(saved: Save) -> None:
    colours = np.full((4, 6, 3), (70, 70, 70), np.uint8)
    colours[0, :2] = (1, 2, 3)
    with pytest.raises(Rejected, match=r"found 1 others: \(1, 2, 3\) \(2 pixels\)") as caught:
        decoded(image.decode(mask_palette=CLASSES), saved(PHOTO, "PNG"), saved(colours, "PNG"))
    assert caught.value.code == "mask_colour"


def test_a_palette_is_for_8_bit_and_opaque_pixels(saved: Save) -> None:
    grey = np.full((4, 6), 70, np.uint8)
    assert np.all(pair(saved(PHOTO, "PNG"), saved(grey, "PNG"), mask_palette=CLASSES)[1] == 1)
    assert code(saved(PHOTO, "PNG"), saved(grey.astype(np.uint16), "PNG"), mask_palette=CLASSES) == "mask_mode"
    clear = Image.new("RGBA", (6, 4), (70, 70, 70, 100))
    assert code(saved(PHOTO, "PNG"), saved(clear, "PNG"), mask_palette=CLASSES) == "mask_mode"


def test_how_masks_are_stored_is_observed(saved: Save) -> None:
    observations: list[Any] = []
    mask = Image.fromarray(MASK // 100)
    for mode in ("L", "P", "1"):
        decoded(image.decode(), saved(PHOTO, "PNG"), saved(mask.convert(mode), "PNG"), observations)
    ways = [value for kind, value in observations if kind == "mask_stored_as"]
    assert ways == ["greyscale of 8 bit", "indices of a palette", "1 bit, whose ids are 0 and 1"]
    assert ("mask_colour", "1: 1, 1, 1") in observations


@pytest.mark.parametrize("wrong", [-1, 65536])
def test_ids_beyond_16_bit_are_rejected(wrong: int, saved: Save) -> None:
    assert code(saved(PHOTO, "PNG"), saved(np.full((4, 6), wrong, np.int32), "TIFF")) == "mask_mode"


def test_what_is_wrong_with_a_mask_is_said_of_the_mask(saved: Save) -> None:
    photo, mask = saved(PHOTO, "PNG"), saved(MASK, "PNG")
    assert code(photo, b"") == "mask_empty"
    assert code(photo, b"<html>") == "mask_not_an_image"
    assert code(photo, mask[:-20]) in {"mask_truncated", "mask_corrupt"}
    assert code(photo, saved(MASK, "PPM")) == "mask_format_not_allowed"
    assert code(photo, saved(MASK, "GIF", save_all=True, append_images=[Image.new("L", (6, 4))])) == "mask_animated"
    assert code(photo, saved(np.zeros((50, 50), np.uint8), "PNG"), max_pixels=100) == "mask_too_many_pixels"
    assert code(b"", b"") == "empty"


def test_a_mode_of_the_image_is_none_of_the_masks(saved: Save) -> None:
    photo, mask = decoded(image.decode(mode="L"), saved(PHOTO, "PNG"), saved(MASK, "PNG"))
    assert (photo.mode, mask.mode) == ("L", "L")
    assert np.array_equal(np.asarray(mask), MASK)


def test_trimaps_of_pets_keep_their_three_classes(real_data: Path) -> None:
    paths = sorted((real_data / "pets/images").glob("*.jpg"))[::40]
    assert len(paths) == 15
    for path in paths:
        trimap = real_data / "pets/annotations/trimaps" / f"{path.stem}.png"
        _, mask = pair(path.read_bytes(), trimap.read_bytes(), first_frame=True)
        assert np.array_equal(mask, np.asarray(Image.open(trimap)))
        assert set(np.unique(mask)) <= {1, 2, 3}
