"""One payload to one image."""

import io
import pickle
import random
import struct
import subprocess
import sys
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from helpers import SHARED
from PIL import Image, ImageOps

from penstock.transforms import image
from penstock.transforms.jpeg import load_jpeg
from penstock.transforms.outcome import Rejected

HOSTILE = sorted((SHARED / "hostile").glob("*/*")) or [SHARED / "hostile"]
CODES = {
    "empty",
    "not_an_image",
    "format_not_allowed",
    "too_many_pixels",
    "animated",
    "truncated",
    "corrupt",
    "unsupported_mode",
}
LOSSLESS = [("PNG", {}), ("BMP", {}), ("TIFF", {}), ("WEBP", {"lossless": True})]
ALL = [*LOSSLESS, ("JPEG", {}), ("JPEG", {"progressive": True}), ("WEBP", {}), ("GIF", {})]
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL", "ignore::PIL.Image.DecompressionBombWarning")
Save = Callable[..., bytes]
Photo = npt.NDArray[np.uint8]


def decoded(payload: bytes, **options: Any) -> npt.NDArray[Any]:
    return np.asarray(image.decode(**options)(payload))


def outcome(payload: bytes) -> str | npt.NDArray[Any]:
    """The code that it is rejected with, or its pixels."""
    try:
        return decoded(payload)
    except Rejected as rejected:
        return rejected.code


def code(payload: bytes, **options: Any) -> str:
    with pytest.raises(Rejected) as caught:
        image.decode(**options)(payload)
    assert "expected" in caught.value.message
    assert "found" in caught.value.message
    assert "0x" not in caught.value.message.split("found")[0]  # no address of an object: messages must be repeatable
    return caught.value.code


def by_pillow(payload: bytes) -> npt.NDArray[Any]:
    """What Pillow alone makes of it: upright, RGB, 16 bit scaled."""
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(payload)))
    if upright.mode.startswith("I"):
        grey = np.rint(np.asarray(upright) / 257).astype(np.uint8)
        return np.stack([grey] * 3, axis=-1)
    return np.asarray(upright.convert("RGB"))


@pytest.mark.parametrize("path", HOSTILE, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_a_hostile_file_is_rejected_or_gives_the_pixels_that_pillow_gives(path: Path, real_data: Path) -> None:
    payload = path.read_bytes()
    actual = outcome(payload)
    if isinstance(actual, str):
        assert actual in CODES
    else:
        assert np.array_equal(actual, by_pillow(payload))


def test_hostile_files_that_pillow_takes_in_silence_are_rejected_with_their_code(real_data: Path) -> None:
    silent: Counter[tuple[str, str]] = Counter()
    for path in HOSTILE:
        payload = path.read_bytes()
        try:
            by_pillow(payload)
        except Exception:
            continue
        if isinstance(actual := outcome(payload), str):
            silent[path.parent.name, actual] += 1
    assert silent == {
        ("animated", "animated"): 13,
        ("bombs", "animated"): 1,
        ("other_formats", "animated"): 1,
        ("corrupt_png", "animated"): 1,
        ("corrupt_jpeg", "corrupt"): 5,
        ("odd_jpeg", "corrupt"): 2,  # bytes before the end marker, a scan without its DC coefficients
        ("corrupt_png", "corrupt"): 1,  # a wrong checksum of the pixels' data
        ("generated", "too_many_pixels"): 1,
        ("other_formats", "format_not_allowed"): 2,
        ("odd_tiff", "unsupported_mode"): 1,
    }


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("generated/html_error_page.jpg", "not_an_image"),
        ("generated/truncated_50pct__Abyssinian_130.jpg", "truncated"),
        ("generated/truncated_99pct__Abyssinian_30.jpg", "truncated"),
        ("generated/png_bomb_error_30000x30000_1bit.png", "too_many_pixels"),
        ("generated/png_bomb_warn_12000x9000_L.png", "too_many_pixels"),
        ("bombs/pillow__reallybig.bmp", "too_many_pixels"),
        ("corrupt_jpeg/jpegdec__max_size.jpg", "too_many_pixels"),
        ("corrupt_jpeg/jpegdec__7997b6b229f25315d33f5c7085e37500.jpg", "corrupt"),
        ("corrupt_png/imagepng__xcsn0g01.png", "corrupt"),
        ("corrupt_png/pillow__truncated_image.png", "truncated"),
        ("odd_jpeg/ljt__monkey12.jpg", "corrupt"),
        ("odd_tiff/pillow__10ct_32bit_128.tiff", "unsupported_mode"),
        ("other_formats/pillow__hopper.avif", "format_not_allowed"),
        ("other_formats/pillow__hopper.heif", "format_not_allowed"),
        ("other_formats/pillow__hopper.ico", "format_not_allowed"),
        ("bad_bmp_ico_tga/imagers__crash-981fee302fe0fc543ee48292cc3d6ace7e97e633.ico", "format_not_allowed"),
        ("animated/pillow__iss634.webp", "animated"),
        ("animated/pillow__delay.png", "animated"),
        ("animated/pillow__multipage_multiple_frame_loop.tiff", "animated"),
        ("animated/pillow__zero_width.gif", "corrupt"),
    ],
)
def test_a_hostile_file_is_rejected_with_its_code(name: str, expected: str, real_data: Path) -> None:
    assert code((real_data / "hostile" / name).read_bytes()) == expected


def test_photos_give_the_pixels_that_pillow_gives(real_data: Path) -> None:
    pets, clothes = (real_data / "pets/images").glob("*.jpg"), (real_data / "clothing").glob("*/*/*.jpg")
    paths = sorted(pets)[::15] + sorted(clothes)[::25]
    assert len(paths) == 80
    for path in paths:
        payload = path.read_bytes()
        assert np.array_equal(decoded(payload), by_pillow(payload)), path


@pytest.mark.parametrize(("pillow_format", "options"), LOSSLESS)
def test_lossless_formats_keep_every_pixel(
    pillow_format: str, options: dict[str, Any], photo: Photo, saved: Save
) -> None:
    assert np.array_equal(decoded(saved(photo, pillow_format, **options)), photo)


def test_a_jpeg_leaves_nothing_but_its_pixels(photo: Photo, saved: Save) -> None:
    actual = image.decode()(saved(photo, "JPEG", comment=b"hello", icc_profile=b"x" * 200))
    assert (type(actual), actual.mode, actual.size, actual.info) == (Image.Image, "RGB", (60, 47), {})


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_png_text_and_profile_are_left_out(mode: Any, photo: Photo, saved: Save) -> None:
    actual = image.decode(mode=mode)(saved(photo, "PNG", icc_profile=b"x" * 200))
    assert (type(actual), actual.mode, actual.info) == (Image.Image, mode, {})


def test_a_decoded_jpeg_may_be_drawn_on(photo: Photo, saved: Save) -> None:
    actual = image.decode()(saved(photo, "JPEG"))
    actual.putpixel((0, 0), (1, 2, 3))
    assert actual.getpixel((0, 0)) == (1, 2, 3)


def test_the_content_tells_the_format(photo: Photo, saved: Save) -> None:
    assert code(saved(photo, "PNG"), formats=("JPEG",)) == "format_not_allowed"
    assert code(saved(photo, "PPM")) == "format_not_allowed"
    assert np.array_equal(decoded(saved(photo, "PPM"), formats=("PPM",)), photo)


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        (b"", "empty"),
        (b"\0", "not_an_image"),
        (b"\xff\xd8", "not_an_image"),
        (b"<html>404 Not Found</html>", "not_an_image"),
        (b"\0" * 1000, "not_an_image"),
        (b"\x89PNG\r\n\x1a\n", "corrupt"),
        (b"\xff\xd8\xff\xe0", "corrupt"),
        (b"\0\0\0\x18ftypheic\0\0\0\0", "format_not_allowed"),
    ],
)
def test_what_is_no_image(payload: bytes, expected: str) -> None:
    assert code(payload) == expected


@pytest.mark.parametrize("side", [1, 2])
def test_too_many_pixels_is_told_from_the_header_alone(side: int, photo: Photo, saved: Save) -> None:
    header = saved(photo, "PNG")[:60]  # the pixels aren't there: decoding would say "truncated"
    assert code(header, max_pixels=47 * 60 - side) == "too_many_pixels"
    assert code(header, max_pixels=47 * 60) == "truncated"


def test_bombs_take_no_memory(saved: Save) -> None:
    program = f"""
import io, resource, struct, sys, zlib
from PIL import Image
from penstock.transforms import image
from penstock.transforms.outcome import Rejected
decode = image.decode()
def chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
deflate = zlib.compressobj()
zeros = b"".join(deflate.compress(bytes(1 << 20)) for _ in range(300)) + deflate.flush()
small = {saved(np.zeros((8, 8, 3), np.uint8), "PNG")!r}
huge = chunk(b"IHDR", struct.pack(">IIBBBBB", 30000, 30000, 8, 2, 0, 0, 0)) + chunk(b"IDAT", zeros) + small[-12:]
webp = bytearray({saved(Image.new("RGB", (8, 8)), "WEBP", save_all=True, append_images=[Image.new("L", (8, 8), 9)])!r})
at = webp.index(b"VP8X") + 12
webp[at : at + 6] = b"\\xfe\\x3f\\x00\\xfe\\x3f\\x00"
payloads = [
    small[:33] + chunk(b"zTXt", b"k\\0\\0" + zeros) + small[33:],
    small[:-12] + chunk(b"zTXt", b"k\\0\\0" + zeros) + small[-12:],
    small[:33] + chunk(b"iCCP", b"k\\0\\0" + zeros) + small[33:],
    small[:8] + huge,
    bytes(webp),
]
decode(small)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
codes = []
for payload in payloads:
    try:
        decode(payload)
    except Rejected as rejected:
        codes.append(rejected.code)
print(codes, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024 < 32)
"""
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert ran.stdout.strip() == ("['corrupt', 'corrupt', 'corrupt', 'too_many_pixels', 'too_many_pixels'] True"), (
        ran.stderr
    )


@pytest.mark.parametrize("pillow_format", ["GIF", "PNG", "WEBP", "TIFF"])
def test_an_animation_is_rejected_or_gives_its_first_frame(pillow_format: str, saved: Save) -> None:
    first, second = Image.new("RGB", (6, 4), (255, 0, 0)), Image.new("RGB", (6, 4), (0, 0, 255))
    options = {"lossless": True} if pillow_format == "WEBP" else {}
    payload = saved(first, pillow_format, save_all=True, append_images=[second], **options)
    assert code(payload) == "animated"
    assert np.array_equal(decoded(payload, first_frame=True), np.asarray(first))


def test_an_mpo_is_a_still_jpeg(photo: Photo, saved: Save) -> None:
    payload = saved(photo, "MPO", save_all=True, append_images=[Image.new("RGB", (8, 8))])
    assert Image.open(io.BytesIO(payload)).format == "MPO"
    assert np.array_equal(decoded(payload), by_pillow(payload))
    assert np.array_equal(decoded(payload, formats=("MPO",)), by_pillow(payload))
    assert code(payload, formats=("JPEG",)) == "format_not_allowed"


def exif(orientation: int) -> Image.Exif:
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags


@pytest.mark.parametrize("pillow_format", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(pillow_format: str, orientation: int, photo: Photo, saved: Save) -> None:
    options = {"lossless": True} if pillow_format == "WEBP" else {}
    payload = saved(photo, pillow_format, exif=exif(orientation), **options)
    plain = decoded(saved(photo, pillow_format, **options))
    upright = {
        1: plain,
        2: plain[:, ::-1],
        3: plain[::-1, ::-1],
        4: plain[::-1],
        5: plain.transpose(1, 0, 2),
        6: np.rot90(plain, -1),
        7: np.rot90(plain.transpose(1, 0, 2), 2),
        8: np.rot90(plain, 1),
    }[orientation]
    assert np.array_equal(decoded(payload), upright)


@pytest.mark.parametrize("orientation", [0, 9])
def test_an_orientation_that_means_nothing_is_none(orientation: int, photo: Photo, saved: Save) -> None:
    assert np.array_equal(decoded(saved(photo, "PNG", exif=exif(orientation))), photo)


@pytest.mark.parametrize("pillow_format", ["PNG", "TIFF"])
def test_16_bit_grey_is_scaled_and_not_clipped(pillow_format: str, saved: Save) -> None:
    values = np.array([[0, 128, 129, 257, 385, 386], [32767, 32768, 33000, 65406, 65407, 65535]], np.uint16)
    expected = [[0, 0, 1, 1, 1, 2], [127, 128, 128, 254, 255, 255]]
    payload = saved(values, pillow_format)
    assert decoded(payload, mode="L").tolist() == expected
    assert decoded(payload)[:, :, 1].tolist() == expected


def test_big_endian_and_32_bit_integers(saved: Save) -> None:
    big_endian = Image.frombytes("I;16B", (2, 1), struct.pack(">HH", 257, 65535))
    assert decoded(saved(big_endian, "TIFF"), mode="L").tolist() == [[1, 255]]
    assert decoded(saved(np.array([[257, 65535]], np.int32), "TIFF"), mode="L").tolist() == [[1, 255]]
    assert code(saved(np.array([[257, 65536]], np.int32), "TIFF")) == "unsupported_mode"
    assert code(saved(np.array([[-1, 257]], np.int32), "TIFF")) == "unsupported_mode"


def test_16_bit_grey_is_scaled_by_its_own_range(saved: Save) -> None:
    values = np.array([[100, 101, 2147, 4194, 4195]], np.uint16)
    payload = saved(values, "PNG")
    assert decoded(payload, mode="L", range=(100, 4195)).tolist() == [[0, 0, 127, 255, 255]]
    assert code(payload, range=(101, 4195)) == "out_of_range"
    assert code(payload, range=(0, 4095)) == "out_of_range"
    assert decoded(saved(np.array([[7]], np.uint8), "PNG"), mode="L", range=(0, 4095)).tolist() == [[7]]


@pytest.mark.parametrize("pillow_format", ["PNG", "TIFF"])
def test_16_bit_grey_is_kept_where_it_is_asked_for(pillow_format: str, saved: Save) -> None:
    values = np.array([[0, 1, 4095, 65535]], np.uint16)
    kept = decoded(saved(values, pillow_format), mode="I;16")
    assert kept.dtype == np.uint16
    assert np.array_equal(kept, values)
    assert code(saved(values.astype(np.uint8), pillow_format), mode="I;16") == "unsupported_mode"


def test_the_bits_that_16_bit_grey_needs_are_observed(saved: Save) -> None:
    payload, observations = saved(np.array([[3, 4095]], np.uint16), "PNG"), []
    image.decode()(payload, observations)
    assert observations == [("grey_bits", "12")]
    for options in ({"range": (0, 4095)}, {"mode": "I;16"}):
        image.decode(**options)(payload, observations)
    image.decode()(saved(np.zeros((2, 2), np.uint8), "PNG"), observations)
    assert len(observations) == 1


@pytest.mark.parametrize(("kind", "channels"), [(2, 3), (4, 2), (6, 4)])
def test_the_bits_that_16_bit_colours_need_are_observed(kind: int, channels: int) -> None:
    values = np.full((4, 6, channels), 65535, ">u2")
    values[:, :, : channels - (kind != 2)] = 4095
    lines = b"".join(b"\0" + row.tobytes() for row in values)

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", 6, 4, 16, kind, 0, 0, 0)
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")
    observations: list[Any] = []
    image.decode()(b"\x89PNG\r\n\x1a\n" + chunks, observations)
    assert observations == [("colour_bits", "12")]


@pytest.mark.parametrize("options", [{}, {"lossless": True}, {"exif": b"Exif\0\0"}])
def test_a_webp_that_is_too_large_is_not_opened(
    options: dict[str, Any], saved: Save, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Opening it takes the memory for all its pixels."""
    payload = saved(np.zeros((50, 41, 3), np.uint8), "WEBP", **options)
    assert decoded(payload, max_pixels=50 * 41).shape == (50, 41, 3)
    monkeypatch.setitem(Image.OPEN, "WEBP", (pytest.fail, Image.OPEN["WEBP"][1]))
    assert code(payload, max_pixels=50 * 41 - 1) == "too_many_pixels"


def test_max_pixels_is_the_only_limit(saved: Save, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    for pillow_format in ("PNG", "JPEG", "TIFF", "BMP", "WEBP"):
        assert decoded(saved(np.zeros((50, 40, 3), np.uint8), pillow_format)).shape == (50, 40, 3)
    stored = image.png().encode(np.zeros((50, 40, 3), np.uint8))
    assert image.png().decode(stored, (50, 40, 3), np.uint8).shape == (50, 40, 3)


@pytest.mark.parametrize(
    ("payload", "words"),
    [
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", r"found HEIC \(HEIF\); .*pip install pillow-heif.*'HEIF'"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", r"found JPEG XL \(JXL\); .*pip install pillow-jxl-plugin.*'JXL'"),
        (b"\xff\x0a" + bytes(30), r"found JPEG XL"),
        (b"\0\0\0\x18ftypisom\0\0\0\0", "found a video or another ISO media file; convert"),
    ],
)
def test_what_needs_a_plugin_is_named_with_it(payload: bytes, words: str) -> None:
    with pytest.raises(Rejected, match=words) as caught:
        image.decode()(payload + bytes(200))
    assert caught.value.code == "format_not_allowed"


def test_a_format_whose_plugin_is_missing_says_what_to_install() -> None:
    with pytest.raises(ValueError, match=r"decode\(formats=...\): expected .*pip install pillow-heif"):
        image.decode(formats=("JPEG", "HEIF"))


def test_a_plugin_is_registered_where_it_is_needed(monkeypatch: pytest.MonkeyPatch, saved: Save) -> None:
    """As in a worker, whose process has not imported the recipe."""
    plugin = ModuleType("pillow_heif")

    def register_heif_opener() -> None:
        def open_heif(fp: Any, filename: str) -> Image.Image:
            fp.read(len(magic))
            return Image.OPEN["BMP"][0](io.BytesIO(fp.read()), filename)

        monkeypatch.setitem(Image.OPEN, "HEIF", (open_heif, lambda prefix: prefix.startswith(magic)))

    magic = b"\0\0\0\x18ftypheic"
    plugin.register_heif_opener = register_heif_opener
    monkeypatch.setitem(sys.modules, "pillow_heif", plugin)
    decode = image.decode(formats=("HEIF", "BMP"))
    monkeypatch.delitem(Image.OPEN, "HEIF")
    assert decode(magic + saved(np.zeros((2, 3, 3), np.uint8), "BMP")).size == (3, 2)


@pytest.mark.parametrize("mode", ["F", "LAB"])
def test_what_has_no_one_meaning_as_rgb_is_rejected(mode: str, saved: Save) -> None:
    assert code(saved(Image.new(mode, (3, 3)), "TIFF")) == "unsupported_mode"


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK"])
@pytest.mark.parametrize("target", ["RGB", "L"])
def test_other_modes_are_converted_as_pillow_does(mode: str, target: Any, photo: Photo, saved: Save) -> None:
    payload = saved(Image.fromarray(photo).convert("RGBA" if mode == "PA" else "RGB").convert(mode), "TIFF")
    source = Image.open(io.BytesIO(payload))
    assert source.mode == mode
    assert np.array_equal(decoded(payload, mode=target), np.asarray(source.convert(target)))


@pytest.mark.parametrize("adobe", [True, False])
def test_cmyk_jpeg(adobe: bool, photo: Photo, saved: Save) -> None:
    payload = saved(Image.fromarray(photo).convert("CMYK"), "JPEG")
    if not adobe:  # without Adobe's marker the inks aren't inverted
        at = payload.index(b"Adobe")
        payload = payload[:at] + b"adobe" + payload[at + 5 :]
    assert np.array_equal(decoded(payload), by_pillow(payload))
    middle = len(payload) // 2
    assert code(payload[:middle] + b"\xff\xd0" + payload[middle + 2 :]) == "corrupt"


def test_alpha_is_dropped_or_laid_on_a_background(saved: Save) -> None:
    pixels = np.array([[[200, 100, 0, 0], [200, 100, 0, 51], [200, 100, 0, 255]]], np.uint8)
    payload = saved(pixels, "PNG")
    assert decoded(payload).tolist() == [[[200, 100, 0]] * 3]
    assert decoded(payload, background=(0, 50, 255)).tolist() == [[[0, 50, 255], [40, 60, 204], [200, 100, 0]]]


def test_a_transparent_palette_colour_is_laid_on_the_background(saved: Save) -> None:
    pixels = Image.new("P", (2, 1))
    pixels.putpalette([10, 20, 30, 40, 50, 60])
    pixels.putpixel((1, 0), 1)
    payload = saved(pixels, "PNG", transparency=bytes([0, 255]))
    assert decoded(payload).tolist() == [[[10, 20, 30], [40, 50, 60]]]
    assert decoded(payload, background=(255, 255, 255)).tolist() == [[[255, 255, 255], [40, 50, 60]]]


@pytest.mark.parametrize(("pillow_format", "options"), ALL)
@pytest.mark.parametrize("strict", [True, False])
def test_a_cut_file_is_rejected(
    pillow_format: str, options: dict[str, Any], strict: bool, photo: Photo, saved: Save
) -> None:
    payload = saved(photo, pillow_format, **options)
    cuts = [len(payload) * tenth // 10 for tenth in range(10)] + [len(payload) - 40]
    codes = [code(payload[:cut], strict=strict) for cut in cuts]
    assert codes[0] == "empty"
    assert set(codes[1:]) <= {"truncated", "corrupt", "not_an_image"}
    if pillow_format == "JPEG":
        assert codes[-1] == code(payload[:-2], strict=strict) == "truncated"  # even without its end marker alone


@pytest.mark.parametrize(("pillow_format", "options"), ALL)
def test_flipped_bytes_are_rejected_or_decoded_but_raise_nothing_else(
    pillow_format: str, options: dict[str, Any], photo: Photo, saved: Save
) -> None:
    payload, rng = saved(photo, pillow_format, **options), random.Random(0)
    whole, outcomes = decoded(payload), Counter[str]()
    for _ in range(300):
        damaged = bytearray(payload)
        for _ in range(rng.choice([1, 1, 2, 8])):
            damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        actual = outcome(bytes(damaged))
        outcomes[actual if isinstance(actual, str) else "same" if np.array_equal(actual, whole) else "altered"] += 1
    assert set(outcomes) <= CODES | {"same", "altered"}
    if pillow_format == "PNG":  # its checksums tell all
        assert outcomes["altered"] == 0


def test_strict_rejects_a_jpeg_that_its_decoder_warns_of(photo: Photo, saved: Save) -> None:
    payload = saved(photo, "JPEG")
    padded = payload[:-2] + b"\1" * 40 + payload[-2:]
    with pytest.raises(Rejected, match="extraneous bytes before marker 0xd9") as caught:
        image.decode()(padded)
    assert caught.value.code == "corrupt"
    assert "strict=False" in caught.value.message
    assert np.array_equal(decoded(padded, strict=False), decoded(payload))


def test_bytes_after_the_end_are_no_damage(photo: Photo, saved: Save) -> None:
    payload = saved(photo, "JPEG")
    assert np.array_equal(decoded(payload + b"trailing"), decoded(payload))


def test_a_bad_profile_is_no_damage_and_hides_none(photo: Photo, saved: Save) -> None:
    payload = bytearray(saved(photo, "JPEG", icc_profile=b"x" * 200))
    payload[payload.index(b"ICC_PROFILE") + 12] = 0  # its parts are counted from 1
    assert np.array_equal(decoded(bytes(payload)), by_pillow(bytes(payload)))
    assert code(bytes(payload[:-2] + b"\1" * 40 + payload[-2:])) == "corrupt"


def test_strict_rejects_a_png_with_a_wrong_checksum(photo: Photo, saved: Save) -> None:
    payload = bytearray(saved(photo, "PNG"))
    payload[-13] ^= 1  # of the pixels' data, which lies before the 12 bytes of the end
    assert code(bytes(payload)) == "corrupt"
    assert np.array_equal(decoded(bytes(payload), strict=False), photo)


def test_a_colour_space_that_only_pillow_decodes(photo: Photo, saved: Save) -> None:
    payload = saved(photo, "JPEG", keep_rgb=True)
    assert np.array_equal(decoded(payload), by_pillow(payload))


@pytest.mark.parametrize("shape", [(94, 120, 3), (20, 30, 3), (60, 47, 3)])
def test_where_the_decoders_read_different_sizes_pillow_is_right(
    shape: tuple[int, int, int], photo: Photo, saved: Save
) -> None:
    """So that no content can make simplejpeg allocate more than the size that was checked."""
    payload = saved(photo, "JPEG")
    other = saved(np.zeros(shape, np.uint8), "JPEG")
    actual = load_jpeg(other, Image.open(io.BytesIO(payload)), strict=True)
    assert np.array_equal(np.asarray(actual), by_pillow(payload))


def test_decode_pickles_compares_and_reads() -> None:
    op = image.decode(mode="L", background=(1, 2, 3), mask_palette={(0, 0, 0): 1})
    assert pickle.loads(pickle.dumps(op)) == op
    assert hash(op) == hash(image.decode(mode="L", background=(1, 2, 3), mask_palette={(0, 0, 0): 1}))
    assert repr(op).startswith("Decode(mode='L', formats=('JPEG', 'MPO', ")


@pytest.mark.parametrize(
    "options",
    [
        {"mode": "P"},
        {"formats": ()},
        {"formats": ["JPEG"]},
        {"formats": ("JPG",)},
        {"max_pixels": 0},
        {"max_pixels": 1e6},
        {"range": (0, 0)},
        {"range": (0, 65536)},
        {"range": [0, 4095]},
        {"mask_palette": {}},
        {"mask_palette": {(0, 0): 1}},
        {"mask_palette": {(0, 0, 0): 65536}},
        {"background": (1, 2)},
        {"background": (1, 2, 256)},
    ],
)
def test_decode_refuses_arguments(options: dict[str, Any]) -> None:
    (name,) = options
    with pytest.raises(ValueError, match=rf"decode\({name}=\.\.\.\): expected .*, found "):
        image.decode(**options)


def test_chunks_after_the_pixels_count_too(photo: Photo, saved: Save) -> None:
    payload = saved(photo, "PNG")
    text = b"tEXt" + b"k\0v"
    wrong = struct.pack(">I", 3) + text + struct.pack(">I", zlib.crc32(text) ^ 1)
    assert code(payload[:-12] + wrong + payload[-12:]) == "corrupt"
