"""What prepared pixels are stored as: jpeg(), png() and raw()."""

import io
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from penstock.transforms import image

Encoding = Any
Photo = npt.NDArray[np.uint8]
# 1 x 1, and sizes that no block of 8 or 16 pixels divides
SIZES = [(1, 1), (7, 5), (16, 17), (224, 224), (225, 223)]
LOSSLESS = [image.png(), image.raw()]


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_all_decoders_agree_on_a_stored_jpeg(mode: str, real_data: Path) -> None:
    import tensorflow as tf

    paths = sorted((real_data / "clothing/train").glob("*/*.jpg"))[::70]
    assert len(paths) == 10
    channels = {"RGB": 3, "L": 1}[mode]
    for path in paths:
        photo = Image.open(path).convert(mode)
        for width, height in SIZES:
            for quality in (50, 95, 100):
                stored = image.jpeg(quality).encode(photo.resize((width, height)))
                ours = image.jpeg().decode(stored, (height, width, channels), np.uint8)
                pillows = np.asarray(Image.open(io.BytesIO(stored))).reshape(ours.shape)
                tensorflows = tf.io.decode_jpeg(
                    stored, channels, fancy_upscaling=True, dct_method="INTEGER_ACCURATE"
                ).numpy()
                assert np.array_equal(ours, pillows), (path, width, height, quality)
                assert np.array_equal(ours, tensorflows), (path, width, height, quality)


@pytest.mark.parametrize("encoding", [image.jpeg(95), *LOSSLESS], ids=repr)
@pytest.mark.parametrize("shape", [(47, 60, 3), (47, 60, 1), (1, 1, 3), (1, 1, 1)])
def test_arrays_and_pillow_images_are_stored_alike(encoding: Encoding, shape: tuple[int, ...], photo: Photo) -> None:
    array = photo[: shape[0], : shape[1], : shape[2]]
    plane = array if shape[2] == 3 else array[:, :, 0]
    stored = encoding.encode(array)
    assert stored == encoding.encode(plane) == encoding.encode(Image.fromarray(plane)) == encoding.encode(array)
    actual = encoding.decode(stored, shape, np.uint8)
    assert (actual.shape, actual.dtype) == (shape, np.uint8)
    if encoding in LOSSLESS:
        assert np.array_equal(actual, array)


@pytest.mark.parametrize("encoding", [image.jpeg(80), *LOSSLESS], ids=repr)
@pytest.mark.parametrize("shape", [(47, 60, 3), (47, 60, 1), (1, 1, 3)])
def test_what_is_counted_is_what_training_sees(encoding: Encoding, shape: tuple[int, ...], photo: Photo) -> None:
    array = photo[: shape[0], : shape[1], : shape[2]]
    stored = [encoding.encode(array), encoding.encode(255 - array), encoding.encode(array // 3)]
    decoded = np.stack([encoding.decode(content, shape, np.uint8) for content in stored])
    counts = [np.bincount(decoded[..., channel].ravel(), minlength=256) for channel in range(shape[2])]
    assert np.array_equal(encoding.count(stored, shape), counts)


@pytest.mark.parametrize("encoding", [image.jpeg(80), *LOSSLESS], ids=repr)
@pytest.mark.parametrize("shape", [(46, 60, 3), (48, 60, 3), (47, 59, 3)])
def test_images_of_another_shape_are_not_counted(encoding: Encoding, shape: tuple[int, ...], photo: Photo) -> None:
    with pytest.raises(ValueError, match=r"expected .*found"):
        encoding.count([encoding.encode(photo)], shape)


@pytest.mark.parametrize("encoding", LOSSLESS, ids=repr)
@pytest.mark.parametrize("dtype", ["<u2", ">u2"])
def test_16_bit_is_kept(encoding: Encoding, dtype: str) -> None:
    values = (np.arange(35).reshape(5, 7) * 1872).astype(dtype)
    for pixels in (values, values[:, :, np.newaxis], Image.fromarray(values.astype("<u2"))):
        actual = encoding.decode(encoding.encode(pixels), (5, 7, 1), np.uint16)
        assert actual.dtype == np.uint16
        assert np.array_equal(actual[:, :, 0], values)


def test_tensorflow_reads_stored_png_and_raw(photo: Photo) -> None:
    import tensorflow as tf

    wide = np.arange(35, dtype=np.uint16).reshape(5, 7, 1) * 1872
    assert np.array_equal(tf.io.decode_png(image.png().encode(photo), 3).numpy(), photo)
    assert np.array_equal(tf.io.decode_png(image.png().encode(wide), 1, tf.uint16).numpy(), wide)
    assert np.array_equal(tf.io.decode_raw(image.raw().encode(photo), tf.uint8).numpy(), photo.ravel())
    assert np.array_equal(tf.io.decode_raw(image.raw().encode(wide), tf.uint16).numpy(), wide.ravel())


def test_raw_is_the_pixels_row_by_row() -> None:
    assert image.raw().encode(np.array([[[1, 2, 3], [4, 5, 6]], [[7, 8, 9], [10, 11, 12]]], np.uint8)) == bytes(
        range(1, 13)
    )
    assert image.raw().encode(np.array([[1, 256]], np.uint16)) == b"\1\0\0\1"


def test_a_jpeg_of_quality_95_is_close(photo: Photo) -> None:
    grey = photo[:, :, 0]  # 4:2:0 halves the colours' resolution: only grey shows the quality alone
    actual = image.jpeg(95).decode(image.jpeg(95).encode(grey), (47, 60, 1), np.uint8)[:, :, 0]
    assert np.abs(actual.astype(int) - grey).max() <= 8


def test_a_jpeg_is_what_pillow_saves(photo: Photo) -> None:
    out = io.BytesIO()
    Image.fromarray(photo).save(out, "JPEG", quality=90)
    assert image.jpeg(90).encode(photo) == out.getvalue()


@pytest.mark.parametrize("encoding", [image.jpeg(), *LOSSLESS], ids=repr)
def test_nothing_but_the_pixels_is_stored(encoding: Encoding, photo: Photo) -> None:
    laden = Image.fromarray(photo)
    laden.info = {"comment": b"hello", "icc_profile": b"x" * 99, "transparency": (1, 2, 3), "dpi": (300, 300)}
    assert encoding.encode(laden) == encoding.encode(photo)


@pytest.mark.parametrize("encoding", [image.jpeg(), *LOSSLESS], ids=repr)
@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((4, 4, 2), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((4, 4, 3), np.uint16),
        np.zeros((4, 4, 3), np.float32),
        np.zeros((0, 4, 3), np.uint8),
        np.zeros(4, np.uint8),
        [[1, 2], [3, 4]],
        Image.new("RGBA", (4, 4)),
        Image.new("P", (4, 4)),
    ],
)
def test_other_pixels_are_refused(encoding: Encoding, pixels: Any) -> None:
    with pytest.raises(ValueError, match=r"expected .*found .*convert"):
        encoding.encode(pixels)


def test_jpeg_refuses_16_bit_and_says_what_to_use() -> None:
    with pytest.raises(ValueError, match=r"jpeg: expected pixels in mode RGB or L, found I;16; .*image\.png\(\)"):
        image.jpeg().encode(np.zeros((4, 4), np.uint16))


@pytest.mark.parametrize(
    ("encoding", "shape", "dtype"),
    [
        (image.jpeg(), (60, 47, 3), np.uint8),
        (image.jpeg(), (47, 60, 3), np.uint16),
        (image.png(), (60, 47, 3), np.uint8),
        (image.png(), (47, 60, 1), np.uint8),
        (image.png(), (47, 60, 3), np.uint16),
        (image.raw(), (47, 60, 1), np.uint8),
        (image.raw(), (47, 60, 3), np.uint16),
    ],
    ids=str,
)
def test_another_shape_or_dtype_is_not_what_was_stored(
    encoding: Encoding, shape: tuple[int, ...], dtype: Any, photo: Photo
) -> None:
    with pytest.raises(ValueError, match=r"expected .*found "):
        encoding.decode(encoding.encode(photo), shape, dtype)


@pytest.mark.parametrize("encoding", [image.jpeg(), *LOSSLESS], ids=repr)
def test_pixels_are_decoded_into_a_given_array(encoding: Encoding, photo: Photo) -> None:
    stored = encoding.encode(photo)
    batch = np.full((3, *photo.shape), 77, np.uint8)
    row = batch[1]
    assert encoding.decode(memoryview(stored), photo.shape, np.uint8, out=row) is row
    assert np.array_equal(row, encoding.decode(stored, photo.shape, np.uint8))
    assert (batch[[0, 2]] == 77).all()


@pytest.mark.parametrize("encoding", [image.jpeg(), *LOSSLESS], ids=repr)
def test_damaged_content_is_not_decoded(encoding: Encoding, photo: Photo) -> None:
    stored = encoding.encode(photo)
    for damaged in (b"", stored[: len(stored) // 2]):
        with pytest.raises(ValueError, match=r"expected .*found"):
            encoding.decode(damaged, photo.shape, np.uint8)


@pytest.mark.parametrize(
    ("encoding", "name", "text"),
    [(image.jpeg(80), "jpeg", "Jpeg(quality=80)"), (image.png(), "png", "Png()"), (image.raw(), "raw", "Raw()")],
)
def test_encodings_pickle_compare_and_read(encoding: Encoding, name: str, text: str) -> None:
    assert pickle.loads(pickle.dumps(encoding)) == encoding
    assert (encoding.codec_id, repr(encoding)) == (name, text)


@pytest.mark.parametrize("quality", [0, 101, 95.0, True, None])
def test_jpeg_refuses_a_quality(quality: Any) -> None:
    with pytest.raises(ValueError, match=r"jpeg\(quality=...\): expected a whole number from 1 to 100, found"):
        image.jpeg(quality)


def test_encoding_needs_no_more_than_the_pixels(photo: Photo) -> None:
    save: Callable[[Photo], bytes] = image.png().encode
    assert save(photo[::-1, ::-1]) == save(np.ascontiguousarray(photo[::-1, ::-1]))
