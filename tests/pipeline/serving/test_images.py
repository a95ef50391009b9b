"""What TensorFlow makes of an image file is what Pillow and `prepare` make of it, to the bit."""

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from penstock.pipeline.described import describe_step
from penstock.pipeline.serving import images
from penstock.pipeline.serving.exif import orientation
from penstock.pipeline.serving.resample import FILTERS
from penstock.transforms import image
from penstock.transforms.outcome import keep

SIZES = [(40, 60), (61, 33), (200, 17), (1, 9), (64, 64), (377, 501)]


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


def prepare_entry(*steps: Any, mode: str = "RGB", encode: Any = None) -> dict[str, Any]:
    encoding = encode or image.png()
    return {
        "decode": {"mode": mode, "background": None},
        "steps": [describe_step(step) for step in steps],
        "encode": {"image": {"name": encoding.name, **vars(encoding)}},
    }


def in_training(payload: bytes, *steps: Any, mode: Any = "RGB", encode: Any = None) -> np.ndarray:
    """The pixels that training sees."""
    example: dict[str, Any] = {"key": "k", "image": image.decode(mode=mode)(payload)}
    for step in steps:
        example = step(example)
    encoding = encode or image.png()
    picture = example["image"]
    shape = (picture.height, picture.width, len(picture.getbands()))
    return np.asarray(encoding.decode(encoding.encode(picture), shape, np.uint8))


def served_all(payloads: list[bytes], *steps: Any, mode: str = "RGB", encode: Any = None) -> list[np.ndarray]:
    import tensorflow as tf

    entry = prepare_entry(*steps, mode=mode, encode=encode)
    assert images.obstacles(entry) == []
    function = tf.function(images.pipeline(entry))
    return [function(tf.constant(payload)).numpy() for payload in payloads]


def served(payload: bytes, *steps: Any, **options: Any) -> np.ndarray:
    return served_all([payload], *steps, **options)[0]


@pytest.mark.parametrize("resample", list(FILTERS))
@pytest.mark.parametrize("fit", ["stretch", "cover", "letterbox"])
def test_resizing_is_pillows(resample: Any, fit: Any) -> None:
    step = image.resize(48, 56, fit=fit, resample=resample, fill=(9, 200, 30))
    payloads = [encoded(photo(*size, seed=number), "PNG") for number, size in enumerate(SIZES)]
    for payload, found, size in zip(payloads, served_all(payloads, step), SIZES, strict=True):
        np.testing.assert_array_equal(found, in_training(payload, step), str(size))


def test_the_other_steps() -> None:
    payload = encoded(photo(50, 70), "PNG")
    steps = [image.min_size(10, 10), image.center_crop(31, 40), image.convert("L"), keep(lambda _: True, "why")]
    np.testing.assert_array_equal(served(payload, *steps), in_training(payload, *steps))
    steps = [image.convert("RGB"), image.resize(16, 20, fit="letterbox", fill=(1, 2, 3))]
    np.testing.assert_array_equal(served(payload, *steps, mode="L"), in_training(payload, *steps, mode="L"))
    grey = [image.resize(16, 20, fit="letterbox", fill=(10, 20, 30))]
    np.testing.assert_array_equal(served(payload, *grey, mode="L"), in_training(payload, *grey, mode="L"))


def test_a_photo_that_is_too_small_to_crop_is_an_error() -> None:
    import tensorflow as tf

    with pytest.raises(tf.errors.InvalidArgumentError, match="at least 40x31"):
        served(encoded(photo(30, 70), "PNG"), image.center_crop(31, 40))


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
    stated_by = tf.function(orientation)
    assert [int(stated_by(tf.constant(payload))) for payload in payloads] == [0, 1, 2, 3, 4, 5, 6, 7, 8, 0]
    for payload, found in zip(payloads, served_all(payloads), strict=True):
        np.testing.assert_array_equal(found, in_training(payload))


@pytest.mark.parametrize(
    "payload", [b"", b"\xff\xd8", b"\xff\xd8\xff\xe1\x00\x10Exif\0\0II", b"\xff\xd8\xff\xe0\x00\x00" * 9]
)
def test_no_orientation_in_what_is_no_photo(payload: bytes) -> None:
    import tensorflow as tf

    assert int(orientation(tf.constant(payload))) == 0


def test_what_cannot_be_included_is_named() -> None:
    entry = prepare_entry(image.resize(8, 8, resample="lanczos"), photo, image.resize(8, 8))
    entry["decode"]["background"] = [255, 255, 255]
    found = images.obstacles(entry)
    assert len(found) == 3
    assert "background" in found[0]
    assert "lanczos" in found[1]
    assert found[2].endswith("test_images.photo, which is Python")
