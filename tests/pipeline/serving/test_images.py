"""What TensorFlow makes of an image file is what Pillow and `prepare` make of it, to the bit."""

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image

from penstock.pipeline.planning.step_configs import describe_codec, describe_step
from penstock.pipeline.serving import header, images
from penstock.pipeline.serving.resample import KERNELS
from penstock.transforms import image, touches
from penstock.transforms.image import steps_of_scaled
from penstock.transforms.outcome import keep
from penstock.transforms.step import python_name

SIZES = [(40, 60), (61, 33), (200, 17), (1, 9), (64, 64), (377, 501)]
TALL = [(301, 3), (300, 3), (1000, 9), (3000, 29), (56, 1), (101, 1), (3, 900)]


def photo(height: int, width: int, mode: str = "RGB", seed: int = 0) -> Image.Image:
    generator = np.random.default_rng(seed)
    coarse = generator.integers(0, 256, (5, 7, 4), np.uint8)
    smooth = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))
    noisy = np.clip(smooth.astype(int) + generator.integers(-20, 20, smooth.shape), 0, 255).astype(np.uint8)
    return Image.fromarray(noisy).convert(mode)


def encoded(picture: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def prepare_entry(*steps: Any, mode: Any = "RGB", encode: Any = None, **decode: Any) -> dict[str, Any]:
    return {
        "decode": describe_codec(image.decode(mode=mode, **decode)),
        "steps": [describe_step(step) for step in steps],
        "encode": {"image": describe_codec(encode or image.png())},
    }


def in_training(payload: bytes, *steps: Any, mode: Any = "RGB", encode: Any = None, **decode: Any) -> np.ndarray:
    """The pixels that training sees."""
    number = steps_of_scaled(steps) if "scale" in decode else 0
    scaled = image.decode(mode=mode, **decode).scaled(
        payload, shrinks_by=steps[number - 1].shrinks_by if number else None
    )
    example: dict[str, Any] = {"key": "k", "image": scaled.image}
    for step in steps[:number]:
        example = step(example, scaled=scaled)
    for step in steps[number:]:
        example = step(example)
    encoding = encode or image.png()
    picture = example["image"]
    shape = (picture.height, picture.width, len(picture.getbands()))
    return np.asarray(encoding.decode(encoding.encode(picture), shape, np.uint8))


def served_all(
    payloads: list[bytes], *steps: Any, mode: str = "RGB", encode: Any = None, **decode: Any
) -> list[np.ndarray]:
    import tensorflow as tf

    entry = prepare_entry(*steps, mode=mode, encode=encode, **decode)
    assert images.obstacles(entry) == []
    function = tf.function(images.pipeline(entry))
    results = [function(tf.constant(payload)) for payload in payloads]
    assert all(valid.numpy() for _, valid in results)
    return [pixels.numpy() for pixels, _ in results]


def is_valid(payload: bytes, *steps: Any, **decode: Any) -> bool:
    """Whether serving takes a file."""
    import tensorflow as tf

    _, valid = tf.function(images.pipeline(prepare_entry(*steps, **decode)))(tf.constant(payload))
    return bool(valid)


def served(payload: bytes, *steps: Any, **options: Any) -> np.ndarray:
    return served_all([payload], *steps, **options)[0]


@pytest.mark.parametrize("resample", list(KERNELS))
@pytest.mark.parametrize("fit", ["stretch", "cover", "letterbox"])
def test_resizing_is_that_of_training(resample: Any, fit: Any) -> None:
    step = image.resize(48, 56, fit=fit, resample=resample, fill=(9, 200, 30))
    payloads = [encoded(photo(*size, seed=number), "PNG") for number, size in enumerate(SIZES)]
    for payload, actual, size in zip(payloads, served_all(payloads, step), SIZES, strict=True):
        np.testing.assert_array_equal(actual, in_training(payload, step), str(size))


@pytest.mark.parametrize("fit", ["stretch", "cover", "letterbox"])
def test_resizing_tall_and_narrow_photos_is_that_of_training(fit: Any) -> None:
    step = image.resize(56, 5, fit=fit)
    payloads = [encoded(photo(*size, seed=number), "PNG") for number, size in enumerate(TALL)]
    for payload, actual, size in zip(payloads, served_all(payloads, step), TALL, strict=True):
        np.testing.assert_array_equal(actual, in_training(payload, step), str(size))


@pytest.mark.parametrize(
    ("fit", "mode", "scale"),
    [
        ("stretch", "RGB", 1),
        ("cover", "L", 2),
        ("letterbox", "RGB", 2.5),
        pytest.param("stretch", "L", 2.5, marks=pytest.mark.slow),
        pytest.param("cover", "RGB", 1, marks=pytest.mark.slow),
        pytest.param("letterbox", "L", 1, marks=pytest.mark.slow),
    ],
)
def test_photos_decoded_at_a_fraction_of_their_size(fit: Any, mode: Any, scale: float) -> None:
    steps = [image.min_size(10, 10), image.resize(24, 33, fit=fit, fill=(9, 200, 30)), image.center_crop(20, 20)]
    payloads = []
    for number, (height, width) in enumerate([(40, 60), (331, 257), (100, 517), (403, 99), (640, 777), (24, 33)]):
        for orientation in range(1 + number % 2, 9, 2):
            exif = Image.Exif()
            exif[0x0112] = orientation
            kind = {"subsampling": orientation % 3, "progressive": orientation % 2 == 0}
            payloads.append(encoded(photo(height, width, seed=number), "JPEG", exif=exif.tobytes(), **kind))
    payloads.append(encoded(photo(400, 300), "PNG"))
    payloads.append(encoded(photo(400, 300, "L"), "JPEG"))
    options = {"mode": mode, "scale": scale}
    fractions = set()
    for payload, actual in zip(payloads, served_all(payloads, *steps, **options), strict=True):
        np.testing.assert_array_equal(actual, in_training(payload, *steps, **options))
        scaled = image.decode(**options).scaled(payload, shrinks_by=steps[1].shrinks_by)
        fractions.add(round(scaled.size[0] / scaled.image.width))
    assert fractions >= {1, 4, 8}


def test_a_fraction_is_for_a_resize_that_comes_first() -> None:
    payload = encoded(photo(640, 777), "JPEG")
    for steps in ([image.center_crop(600, 600), image.resize(24, 24)], [image.convert("L"), image.resize(24, 24)]):
        actual = served(payload, *steps, scale=1)
        np.testing.assert_array_equal(actual, in_training(payload, *steps, scale=1))
        np.testing.assert_array_equal(actual, in_training(payload, *steps))


def test_the_other_steps() -> None:
    payload = encoded(photo(50, 70), "PNG")
    steps = [image.min_size(10, 10), image.center_crop(31, 40), image.convert("L"), keep(lambda _: True, "why")]
    np.testing.assert_array_equal(served(payload, *steps), in_training(payload, *steps))
    steps = [image.convert("RGB"), image.resize(16, 20, fit="letterbox", fill=(1, 2, 3))]
    np.testing.assert_array_equal(served(payload, *steps, mode="L"), in_training(payload, *steps, mode="L"))
    grey = [image.resize(16, 20, fit="letterbox", fill=(10, 20, 30))]
    np.testing.assert_array_equal(served(payload, *grey, mode="L"), in_training(payload, *grey, mode="L"))


def test_a_photo_that_is_too_small_to_crop_is_not_valid() -> None:
    sizes = [(30, 70), (31, 39), (31, 40)]
    actual = [is_valid(encoded(photo(*size), "PNG"), image.center_crop(31, 40), image.resize(9, 9)) for size in sizes]
    assert actual == [False, False, True]


@pytest.mark.parametrize("quality", [60, 95])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_storing_as_jpeg_changes_pixels_as_in_training(quality: int, mode: Any) -> None:
    payload, step = encoded(photo(90, 70), "PNG"), image.resize(33, 47)
    options = {"mode": mode, "encode": image.jpeg(quality)}
    np.testing.assert_array_equal(served(payload, step, **options), in_training(payload, step, **options))


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize(
    ("kind", "picture", "options"),
    [
        ("JPEG", photo(61, 47), {"quality": 90}),
        ("JPEG", photo(61, 47), {"quality": 60, "progressive": True, "subsampling": 0}),
        ("JPEG", photo(61, 47, "L"), {}),
        ("PNG", photo(20, 30), {}),
        ("PNG", photo(20, 30, "RGBA"), {}),
        ("PNG", photo(20, 30, "L"), {}),
        ("PNG", photo(20, 30, "LA"), {}),
        ("PNG", photo(20, 30).quantize(16), {}),
        ("PNG", Image.fromarray(np.arange(0, 65536, 109, np.uint16)[:600].reshape(20, 30)), {}),
    ],
)
def test_files_of_all_kinds(kind: str, picture: Image.Image, options: dict[str, Any], mode: Any) -> None:
    payload = encoded(picture, kind, **options)
    np.testing.assert_array_equal(served(payload, mode=mode), in_training(payload, mode=mode))


@pytest.mark.parametrize("order", [b"II", b"MM"])
def test_photos_are_turned_upright(order: bytes) -> None:
    import tensorflow as tf

    payloads = []
    for stated in range(10):
        exif = Image.Exif()
        exif[0x010F] = "maker"
        exif[0x0112] = stated
        exif.endian = "<" if order == b"II" else ">"
        payloads.append(encoded(photo(30, 41), "JPEG", exif=exif.tobytes(), comment=b"c" * 300))
        assert order in payloads[-1][:60]
    read = tf.function(header.read)
    assert [int(read(tf.constant(payload)).orientation) for payload in payloads] == [0, 1, 2, 3, 4, 5, 6, 7, 8, 0]
    for payload, actual in zip(payloads, served_all(payloads), strict=True):
        np.testing.assert_array_equal(actual, in_training(payload))


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\xff\xd8",
        b"\xff\xd8\xff\xe1\x00\x10Exif\0\0II",
        b"\xff\xd8\xff\xe0\x00\x00" * 9,
        b"\x89PNG\r\n\x1a\n",
        b"\x89PNG\r\n\x1a\n\xff\xff\xff\xffeXIf\xff\xff\xff\xff",
        b"\x89PNG\r\n\x1a\n\0\0\0\x0ceXIfMM\0*\xff\xff\xff\xff\xff\xff\0\0\0\0",
    ],
)
def test_no_orientation_in_what_is_no_photo(payload: bytes) -> None:
    import tensorflow as tf

    assert int(header.read(tf.constant(payload)).orientation) == 0


XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description \xe4\n tiff:Orientation="6"/></x:xmpmeta>'


def exif(*entries: tuple[int, int, int, bytes], order: str = ">", after: bytes = b"") -> bytes:
    """TIFF data of (tag, type, count, four bytes of value)."""
    fields = [struct.pack(f"{order}HHI", *entry[:3]) + entry[3] for entry in entries]
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}IH", 8, len(entries))
    return head + b"".join(fields) + bytes(4) + after


def segment(content: bytes, marker: bytes = b"\xff\xe1") -> bytes:
    return marker + struct.pack(">H", len(content) + 2) + content


def with_segments(*segments: bytes) -> bytes:
    payload = encoded(photo(21, 34), "JPEG")
    return payload[:2] + b"".join(segments) + payload[2:]


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def with_chunk(kind: bytes, content: bytes, last: bool = False) -> bytes:
    payload = encoded(photo(21, 34), "PNG")
    at = len(payload) - 12 if last else 33
    return payload[:at] + chunk(kind, content) + payload[at:]


NAME, ADOBE = b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0"
SIX = exif((0x0112, 3, 1, b"\0\6\0\0"))
RARE = {
    "xmp": with_segments(segment(ADOBE + XMP)),
    "xmp as an element": with_segments(segment(ADOBE + b"<tiff:Orientation>3</tiff:Orientation>")),
    "exif before xmp": with_segments(segment(NAME + exif((0x0112, 3, 1, b"\0\3\0\0"))), segment(ADOBE + XMP)),
    "exif without it, and xmp": with_segments(segment(NAME + exif((0x0100, 3, 1, b"\0\3\0\0"))), segment(ADOBE + XMP)),
    "exif says none, and xmp": with_segments(segment(NAME + exif((0x0112, 3, 1, bytes(4)))), segment(ADOBE + XMP)),
    "fill bytes": with_segments(b"\xff" * 7 + segment(NAME + SIX)),
    "long, big-endian": with_segments(segment(NAME + exif((0x0112, 4, 1, b"\0\0\0\6")))),
    "long, little-endian": with_segments(segment(NAME + exif((0x0112, 4, 1, b"\6\0\0\0"), order="<"))),
    "far behind": with_segments(*[segment(bytes(65000), b"\xff\xed")] * 6, segment(NAME + SIX)),
    "count 0": with_segments(segment(NAME + exif((0x0112, 3, 0, b"\0\6\0\0")))),
    "count 2": with_segments(segment(NAME + exif((0x0112, 3, 2, b"\0\6\0\3")))),
    "count 3": with_segments(segment(NAME + exif((0x0112, 3, 3, b"\0\0\0\x1a"), after=b"\0\6\0\3\0\3"))),
    "byte": with_segments(segment(NAME + exif((0x0112, 1, 1, b"\6\0\0\0")))),
    "signed": with_segments(segment(NAME + exif((0x0112, 8, 1, b"\0\6\0\0")))),
    "unknown type": with_segments(segment(NAME + exif((0x0112, 99, 1, b"\0\6\0\0")))),
    "twice": with_segments(segment(NAME + exif((0x0112, 3, 1, b"\0\3\0\0"), (0x0112, 3, 1, b"\0\6\0\0")))),
    "two names": with_segments(segment(NAME + NAME + SIX)),
    "png": with_chunk(b"eXIf", SIX),
    "png, at its end": with_chunk(b"eXIf", SIX, last=True),
    "png, named": with_chunk(b"eXIf", NAME + SIX),
    "png, xmp": with_chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP.replace(b"\xe4", b"")),
}


@pytest.mark.parametrize("size", [1, 4094, 4095, 4096, 9001])
def test_a_segment_behind_what_belongs_to_none(size: int) -> None:
    import tensorflow as tf

    payload = with_segments(bytes(size) + b"\xff\0\xff\xd0" + segment(NAME + SIX))
    stated = header.read(tf.constant(payload))
    assert (int(stated.orientation), int(stated.height), int(stated.width)) == (6, 21, 34)


@pytest.fixture(scope="module")
def serve() -> Any:
    import tensorflow as tf

    function = tf.function(images.pipeline(prepare_entry()))
    return lambda payload: function(tf.constant(payload))[0].numpy()


@pytest.mark.parametrize("case", list(RARE))
@pytest.mark.filterwarnings("ignore:Metadata Warning")
def test_orientation_in_rare_places(case: str, serve: Any) -> None:
    np.testing.assert_array_equal(serve(RARE[case]), in_training(RARE[case]))


@pytest.mark.filterwarnings("ignore:Metadata Warning")
def test_the_rare_places_are_read() -> None:
    turned = {case for case, payload in RARE.items() if in_training(payload).shape[:2] == (34, 21)}
    assert len(turned) >= 13


def animated() -> bytes:
    file = io.BytesIO()
    photo(9, 9).save(file, "PNG", save_all=True, append_images=[photo(9, 9, seed=1)])
    return file.getvalue()


@pytest.mark.parametrize(
    ("payload", "decode", "accepting"),
    [
        (encoded(photo(9, 9), "WEBP"), {}, None),
        (encoded(photo(9, 9), "GIF"), {}, None),
        (encoded(photo(9, 9), "BMP"), {}, None),
        (b"", {}, None),
        (encoded(photo(9, 9), "PNG"), {"formats": ("JPEG", "WEBP")}, {}),
        (encoded(photo(9, 9), "JPEG"), {"formats": ("PNG",)}, {}),
        (encoded(photo(9, 9).convert("CMYK"), "JPEG"), {}, None),
        (encoded(photo(9, 12), "JPEG"), {"max_pixels": 107}, {"max_pixels": 108}),
        (encoded(photo(9, 12), "PNG"), {"max_pixels": 107}, {"max_pixels": 108}),
        (animated(), {}, {"first_frame": True}),
        (encoded(photo(61, 47), "JPEG")[:20], {}, None),
        (encoded(photo(61, 47), "PNG")[:-30], {}, None),
    ],
)
def test_files_that_training_rejects(payload: bytes, decode: dict[str, Any], accepting: dict[str, Any] | None) -> None:
    assert not is_valid(payload, **decode)
    assert accepting is None or is_valid(payload, **accepting)


def test_the_first_frame_where_it_is_asked_for() -> None:
    actual = served_all([animated()], first_frame=True)[0]
    np.testing.assert_array_equal(actual, in_training(animated(), first_frame=True))


def test_formats_of_which_none_can_be_served_are_named() -> None:
    assert "range=" in images.obstacles(prepare_entry(range=(0, 4095)))[0]
    assert "keeps 16 bit" in images.obstacles(prepare_entry(mode="I;16"))[0]
    assert "neither JPEG nor PNG" in images.obstacles(prepare_entry(formats=("WEBP",)))[0]


def test_what_cannot_be_included_is_named() -> None:
    steps = (image.resize(8, 8, resample="lanczos"), photo, image.resize(8, 8))
    actual = images.obstacles(prepare_entry(*steps, background=(255, 255, 255)))
    assert len(actual) == 3
    assert "background" in actual[0]
    assert "lanczos" in actual[1]
    assert actual[2].endswith("test_images.photo, which is Python")


def test_steps_that_touch_masks_alone_do_not_matter() -> None:
    @touches("mask")
    def binary(example: dict[str, Any]) -> dict[str, Any]:
        return {**example, "mask": example["mask"].point(bool)}

    @touches("size")
    def size(example: dict[str, Any]) -> dict[str, Any]:
        return {**example, "size": 3}

    prepare = prepare_entry(image.resize(2, 2), binary, size)
    assert images.obstacles(prepare) == []
    assert images.obstacles(prepare, with_pixels=False, columns=["size"]) == [f"{python_name(size)}, which is Python"]
    payload = image.png().encode(np.zeros((4, 4, 3), np.uint8))
    assert images.pipeline(prepare)(payload)[0].shape == (2, 2, 3)
    undeclared = prepare_entry(lambda example: example)
    assert len(images.obstacles(undeclared)) == 1
