import io

import numpy as np
import pytest
import simplejpeg
from PIL import Image
from stored_datasets import SHAPE, pixels, png, serialize

from penstock.pipeline import DatasetError
from penstock.pipeline.formats.decode import Decoder
from penstock.pipeline.formats.features import Feature


def _decode(feature: Feature, content: object) -> np.ndarray:
    value: np.ndarray = Decoder({"x": feature}).decode(serialize({"x": content}))["x"]
    return value


@pytest.mark.parametrize("quality", [50, 95])
@pytest.mark.parametrize("subsampling", ["444", "420"])
def test_jpeg_is_bit_identical_to_pillow(quality: int, subsampling: str) -> None:
    content = simplejpeg.encode_jpeg(pixels(3, (33, 47, 3)), quality, colorsubsampling=subsampling)
    found = _decode(Feature("image", "uint8", (33, 47, 3), "jpeg"), content)
    np.testing.assert_array_equal(found, np.asarray(Image.open(io.BytesIO(content))))


def test_grey_jpeg() -> None:
    file = io.BytesIO()
    Image.fromarray(pixels(0)[:, :, 0]).save(file, "JPEG")
    found = _decode(Feature("image", "uint8", (*SHAPE[:2], 1), "jpeg"), file.getvalue())
    np.testing.assert_array_equal(found[:, :, 0], np.asarray(Image.open(file)))


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_png_keeps_every_value(dtype: str) -> None:
    array = np.arange(12, dtype=dtype).reshape(3, 4) * (20 if dtype == "uint8" else 5000)
    found = _decode(Feature("mask", dtype, (3, 4, 1), "png"), png(array))
    assert found.dtype == dtype
    np.testing.assert_array_equal(found[:, :, 0], array)


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_raw_pixels_are_little_endian(dtype: str) -> None:
    array = np.arange(24, dtype=dtype).reshape(2, 4, 3) * 9
    content = array.astype(np.dtype(dtype).newbyteorder("<")).tobytes()
    np.testing.assert_array_equal(_decode(Feature("image", dtype, (2, 4, 3), "raw"), content), array)


def test_numbers_and_strings() -> None:
    assert _decode(Feature("number", "int64", (2,)), [3, -4]).tolist() == [3, -4]
    assert _decode(Feature("number", "float32", ()), [0.5]) == np.float32(0.5)
    assert _decode(Feature("text", "string", ()), b"abc") == b"abc"


def test_a_missing_value_is_refused_unless_optional() -> None:
    record = serialize({"other": b"x"})
    with pytest.raises(ValueError, match=r"feature 'x': expected a value, found only \['other'\]"):
        Decoder({"x": Feature("number", "int64", ())}).decode(record)
    found = Decoder({"x": Feature("number", "float32", (), optional=True)}).decode(record)
    assert np.isnan(found["x"])


@pytest.mark.parametrize("asked", [["image", "key", "label"], ["key"], ["image"]])
def test_an_image_is_found_among_other_values(asked: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    stored = {
        "image": Feature("image", "uint8", (2, 4, 3), "raw"),
        "key": Feature("key", "string", ()),
        "label": Feature("label", "string", ()),
    }
    values = {"image": pixels(1, (2, 4, 3)).tobytes(), "key": b"a.jpg", "label": b"x" * 300}
    decoder = Decoder({name: stored[name] for name in asked}, stored)
    merged = b"".join(serialize({name: value}) for name, value in values.items())  # nothing that Penstock writes
    expected = decoder.decode(merged)
    monkeypatch.setattr(Decoder, "write_values", None)
    decoded = decoder.decode(serialize(values))
    assert sorted(decoded) == sorted(expected) == sorted(asked)
    for name in asked:
        np.testing.assert_array_equal(decoded[name], expected[name])
        assert np.asarray(decoded[name]).tobytes() == values[name]


@pytest.mark.parametrize("encoding", ["jpeg", "png", "raw"])
def test_pixels_that_are_no_string_are_refused(encoding: str) -> None:
    with pytest.raises(ValueError, match="feature 'x': expected a string, found integers"):
        _decode(Feature("image", "uint8", (2, 2, 3), encoding), [7] * 12)


def test_an_unknown_encoding_or_dtype_needs_a_newer_penstock() -> None:
    with pytest.raises(DatasetError, match="stored as jpeg, png, raw, found avif; install a newer penstock"):
        Decoder({"x": Feature("image", "uint8", SHAPE, "avif")})
    with pytest.raises(DatasetError, match="values of int64, float32, string, found float16; install a newer penstock"):
        Decoder({"x": Feature("number", "float16", ())})


@pytest.mark.parametrize(("encoding", "size"), [("jpeg", 8), ("jpeg", 64), ("png", 8), ("raw", 8)])
def test_pixels_of_another_size_are_refused(encoding: str, size: int) -> None:
    array = pixels(0, (size, size, 3))
    contents = {"jpeg": simplejpeg.encode_jpeg(array), "png": png(array), "raw": array.tobytes()}
    with pytest.raises(ValueError, match="feature 'x'"):
        _decode(Feature("image", "uint8", SHAPE, encoding), contents[encoding])
