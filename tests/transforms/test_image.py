"""The functions for `prepare`: sizes, grids, filters."""

import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from penstock.transforms import image
from penstock.transforms.outcome import Filtered, Rejected
from penstock.transforms.resampling import resampled

Array = npt.NDArray[Any]
Photo = npt.NDArray[np.uint8]
untyped: Any = image  # for arguments that mypy would refuse as well
FITS = ["stretch", "cover", "letterbox"]
RESAMPLES = ["bilinear", "bicubic", "lanczos", "box", "nearest"]
TARGETS = [(31, 45), (45, 31), (50, 50), (65, 91), (123, 201), (1, 1), (1, 30), (224, 7)]

# 65 x 91 pixels in patches of 13 pixels; the image shows the mask: each class has a colour of its own.
CLASSES = np.random.default_rng(1).integers(0, 5, (5, 7)).astype(np.uint8).repeat(13, 0).repeat(13, 1)
COLOURS = np.array([[250, 0, 0], [0, 250, 0], [0, 0, 250], [250, 250, 0], [0, 250, 250]], np.uint8)
FILL = (90, 90, 90)


def example(**values: Any) -> dict[str, Any]:
    return {"key": "a", "label": "cat", **values}


def paired(classes: Array = CLASSES) -> dict[str, Any]:
    return example(image=Image.fromarray(COLOURS[classes % 5]), mask=Image.fromarray(classes))


def pixels(value: Any) -> Array:
    assert isinstance(value, Image.Image)
    return np.asarray(value)


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("target", TARGETS, ids=str)
def test_mask_and_image_stay_on_one_grid(fit: Any, target: tuple[int, int]) -> None:
    result = image.resize(*target, fit=fit, resample="nearest", fill=FILL, mask_fill=9)(paired())
    photo, mask = pixels(result["image"]), pixels(result["mask"])
    assert photo.shape == (*target, 3)
    assert mask.shape == target
    expected = np.concatenate([COLOURS, [FILL] * 5])[mask]
    assert np.array_equal(photo, expected)


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("resample", ["bilinear", "bicubic", "lanczos", "box"])
@pytest.mark.parametrize("target", [(31, 45), (45, 31), (50, 50), (123, 201)], ids=str)
def test_a_smoothed_image_still_lies_under_its_mask(fit: Any, resample: Any, target: tuple[int, int]) -> None:
    result = image.resize(*target, fit=fit, resample=resample, fill=FILL, mask_fill=9)(paired())
    photo, mask = pixels(result["image"]), pixels(result["mask"])
    expected = np.concatenate([COLOURS, [FILL] * 5])[mask].astype(int)
    # where all within two pixels are of one class, smoothing changes little: a class is 250 from any other
    inside = np.ones(target, bool)
    padded = np.pad(mask, 2, mode="edge")
    for down in range(5):
        for right in range(5):
            inside &= padded[down : down + target[0], right : right + target[1]] == mask
    assert inside.sum() > 100
    assert np.abs(photo.astype(int) - expected)[inside].max() <= 25


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("target", TARGETS, ids=str)
def test_a_mask_gains_no_class(fit: Any, dtype: Any, target: tuple[int, int]) -> None:
    classes = (CLASSES * 51).astype(dtype) * (257 if dtype is np.uint16 else 1)
    result = image.resize(*target, fit=fit, mask_fill=7)(paired(classes))
    assert result["mask"].mode == {np.uint8: "L", np.uint16: "I;16"}[dtype]
    assert set(np.unique(pixels(result["mask"]))) <= set(np.unique(classes)) | ({7} if fit == "letterbox" else set())


def test_stretch_takes_the_pixels_at_the_centres() -> None:
    result = image.resize(2, 3, resample="nearest")(example(image=np.arange(36, dtype=np.uint8).reshape(4, 9)))
    assert pixels(result["image"]).tolist() == [[10, 13, 16], [28, 31, 34]]


def test_stretch_by_box_averages() -> None:
    result = image.resize(1, 2, resample="box")(
        example(image=np.array([[0, 4, 100, 104], [8, 12, 108, 112]], np.uint8))
    )
    assert pixels(result["image"]).tolist() == [[6, 106]]


def test_cover_cuts_both_sides_alike() -> None:
    wide = np.arange(12, dtype=np.uint8).reshape(2, 6)
    cover = image.resize(2, 2, fit="cover", resample="nearest")
    assert pixels(cover(example(image=wide))["image"]).tolist() == [[2, 3], [8, 9]]
    assert pixels(cover(example(image=wide.T))["image"]).tolist() == [[2, 8], [3, 9]]


def test_cover_is_one_resampling_of_the_cut_box(photo: Photo) -> None:
    actual = pixels(image.resize(20, 20, fit="cover", resample="bicubic")(example(image=photo))["image"])
    expected = resampled(Image.fromarray(photo), (20, 20), "bicubic", (6.5, 0, 53.5, 47))
    assert np.array_equal(actual, np.asarray(expected))


def test_letterbox_fills_beside_the_image() -> None:
    mask, photo = np.array([[1, 2], [3, 4]], np.uint8), np.full((2, 2, 3), 200, np.uint8)
    op = image.resize(2, 5, fit="letterbox", resample="nearest", fill=(10, 20, 30), mask_fill=0)
    result = op(example(image=photo, mask=mask))
    assert pixels(result["mask"]).tolist() == [[0, 1, 2, 0, 0], [0, 3, 4, 0, 0]]
    assert pixels(result["image"])[0].tolist() == [[10, 20, 30], [200] * 3, [200] * 3, [10, 20, 30], [10, 20, 30]]
    result = image.resize(5, 2, fit="letterbox", resample="nearest", mask_fill=0)(example(image=photo, mask=mask))
    assert pixels(result["mask"]).tolist() == [[0, 0], [1, 2], [3, 4], [0, 0], [0, 0]]
    assert pixels(result["image"])[:, 0, 0].tolist() == [0, 200, 200, 0, 0]


@pytest.mark.parametrize(
    ("size", "target", "inner"),
    [
        ((100, 50), (10, 10), (10, 5)),
        ((50, 100), (10, 10), (5, 10)),
        ((3, 2), (5, 5), (5, 3)),
        ((1000, 1), (7, 7), (7, 1)),
    ],
)
def test_letterbox_keeps_the_shape(size: tuple[int, int], target: tuple[int, int], inner: tuple[int, int]) -> None:
    op = image.resize(*target, fit="letterbox", fill=(0, 0, 0))
    inside = pixels(op(example(image=Image.new("L", size, 255)))["image"]) == 255
    assert (inside.any(0).sum(), inside.any(1).sum()) == inner


def test_a_grey_image_is_filled_with_the_colours_luma() -> None:
    op = image.resize(1, 3, fit="letterbox", fill=(255, 0, 10))
    expected = Image.new("RGB", (1, 1), (255, 0, 10)).convert("L").getpixel((0, 0))
    assert pixels(op(example(image=np.array([[7]], np.uint8)))["image"]).tolist() == [[expected, 7, expected]]


def test_letterboxed_masks_need_a_class_beside_them() -> None:
    with pytest.raises(ValueError, match=r"expected mask_fill.* found None; give it"):
        image.resize(5, 5, fit="letterbox")(paired())
    with pytest.raises(ValueError, match=r"expected a class id up to 255.* found 300"):
        image.resize(5, 5, fit="letterbox", mask_fill=300)(paired())


def test_center_crop_cuts_image_and_mask_alike() -> None:
    mask = np.arange(20, dtype=np.uint8).reshape(4, 5)
    result = image.center_crop(2, 2)(example(image=np.stack([mask] * 3, axis=-1), mask=mask))
    assert pixels(result["mask"]).tolist() == [[6, 7], [11, 12]]
    assert pixels(result["image"])[:, :, 2].tolist() == [[6, 7], [11, 12]]
    assert "mask" not in image.center_crop(4, 5)(example(image=mask))


@pytest.mark.parametrize("size", [(4, 9), (9, 3)])
def test_center_crop_rejects_what_is_smaller(size: tuple[int, int]) -> None:
    with pytest.raises(Rejected, match="expected an image of at least 5x4, found") as caught:
        image.center_crop(4, 5)(example(image=Image.new("L", size)))
    assert caught.value.code == "too_small_to_crop"


def test_convert_changes_the_image_alone(photo: Photo) -> None:
    source = Image.fromarray(photo)
    mask = Image.new("L", source.size, 3)
    result = image.convert("L")(example(image=source, mask=mask))
    assert np.array_equal(pixels(result["image"]), np.asarray(source.convert("L")))
    assert result["mask"] is mask
    assert image.convert("RGB")(result)["image"].mode == "RGB"
    assert pixels(image.convert("L")(example(image=np.array([[65535]], np.uint16)))["image"]).tolist() == [[255]]


@pytest.mark.parametrize(
    ("op", "kept", "dropped", "reason"),
    [
        (image.min_size(4, 6), (6, 4), (5, 4), "too_small"),
        (image.min_size(4, 6), (60, 40), (6, 3), "too_small"),
        (image.max_aspect(2), (8, 4), (9, 4), "aspect"),
        (image.max_aspect(1.5), (2, 3), (4, 7), "aspect"),
        (image.max_aspect(1), (5, 5), (5, 6), "aspect"),
    ],
    ids=repr,
)
def test_filters(op: Callable[..., Any], kept: tuple[int, int], dropped: tuple[int, int], reason: str) -> None:
    wanted = example(image=Image.new("RGB", kept))
    assert op(wanted) is wanted
    with pytest.raises(Filtered) as caught:
        op(example(image=Image.new("RGB", dropped)))
    assert caught.value.reason == reason


OPS = [
    image.resize(5, 7),
    image.resize(5, 7, fit="cover", resample="lanczos"),
    image.resize(5, 7, fit="letterbox", fill=(1, 2, 3), mask_fill=0),
    image.center_crop(5, 7),
    image.convert("L"),
    image.min_size(5, 7),
    image.max_aspect(3),
]


@pytest.mark.parametrize("op", OPS, ids=repr)
def test_ops_leave_their_input_and_the_rest_of_the_example(op: Callable[..., Any], photo: Photo) -> None:
    source, mask = Image.fromarray(photo), Image.new("L", (60, 47), 2)
    source.info = {"note": "mine"}
    given = example(image=source, mask=mask, extra=[1, 2])
    before = dict(given)
    result = op(given)
    assert given == before
    assert given["image"] is source
    assert np.array_equal(np.asarray(source), photo)
    assert source.info == {"note": "mine"}
    assert (result["key"], result["label"], result["extra"]) == ("a", "cat", [1, 2])


@pytest.mark.parametrize("op", OPS, ids=repr)
def test_ops_take_arrays_as_they_take_pillow_images(op: Callable[..., Any], photo: Photo) -> None:
    mask = photo[:, :, 0]
    ours = op(example(image=photo, mask=mask[:, :, np.newaxis]))
    theirs = op(example(image=Image.fromarray(photo), mask=Image.fromarray(mask)))
    for name in ("image", "mask"):
        assert np.array_equal(np.asarray(ours[name]).squeeze(), np.asarray(theirs[name]))


@pytest.mark.parametrize("op", OPS, ids=repr)
def test_ops_refuse_what_is_no_pair(op: Callable[..., Any], photo: Photo) -> None:
    with pytest.raises(ValueError, match="expected an example with an 'image', found"):
        op({"key": "a"})
    with pytest.raises(ValueError, match=r"expected a Pillow image.* found float64 \[2, 2\]"):
        op(example(image=np.zeros((2, 2))))
    with pytest.raises(Rejected, match="60x47, found 9x8") as caught:
        op(example(image=photo, mask=Image.new("L", (9, 8))))
    assert caught.value.code == "mask_size_mismatch"


@pytest.mark.parametrize("op", OPS, ids=repr)
def test_ops_pickle_compare_and_read(op: Any) -> None:
    again = pickle.loads(pickle.dumps(op))
    assert again == op
    assert hash(again) == hash(op)
    assert sum(op == other for other in OPS) == 1
    assert repr(op).startswith(type(op).__name__ + "(")


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: untyped.resize(0, 5), r"resize\(height=...\): expected a whole number from 1, found 0"),
        (lambda: untyped.resize(5, 2.5), r"resize\(width=...\): expected a whole number from 1, found 2.5"),
        (lambda: untyped.resize(5, True), r"resize\(width=...\)"),
        (lambda: untyped.resize(5, 5, fit="crop"), r"resize\(fit=...\): expected one of .*'cover'.*, found 'crop'"),
        (lambda: untyped.resize(5, 5, resample="cubic"), r"resize\(resample=...\): expected one of .*'bicubic'"),
        (lambda: untyped.resize(5, 5, fill=0), r"resize\(fill=...\)"),
        (lambda: untyped.resize(5, 5, fill=(0, 0, 256)), r"resize\(fill=...\)"),
        (lambda: untyped.resize(5, 5, mask_fill=-1), r"resize\(mask_fill=...\)"),
        (lambda: untyped.center_crop(5, 0), r"center_crop\(width=...\)"),
        (lambda: untyped.convert("P"), r"convert\(mode\): expected one of .*'RGB'.*, found 'P'"),
        (lambda: untyped.min_size(-1, 5), r"min_size\(height=...\)"),
        (lambda: untyped.max_aspect(0.5), r"max_aspect\(ratio\): expected a number from 1, found 0.5"),
        (lambda: untyped.max_aspect(float("nan")), r"max_aspect\(ratio\)"),
    ],
)
def test_wrong_arguments_are_refused_at_once(make: Callable[[], Any], match: str) -> None:
    with pytest.raises(ValueError, match=match + ".*; fix the recipe|" + match):
        make()


@pytest.mark.parametrize("resample", RESAMPLES)
def test_every_resampling_is_the_named_one(resample: Any, photo: Photo) -> None:
    actual = untyped.resize(20, 31, resample=resample)(example(image=photo))["image"]
    assert np.array_equal(pixels(actual), np.asarray(resampled(Image.fromarray(photo), (31, 20), resample)))


def test_16_bit_images_are_resized_and_letterboxed_in_16_bit():
    deep = Image.fromarray(np.full((10, 20), 4000, np.uint16))
    resized = np.asarray(image.resize(8, 8, fit="letterbox", fill=(255, 255, 255))({"image": deep})["image"])
    assert resized.dtype == np.uint16
    assert set(np.unique(resized)) == {4000, 65535}


def test_other_images_are_resized_along_where_they_are_named():
    pixels = Image.new("RGB", (20, 10))
    example = {"image": pixels, "mask": Image.new("L", (20, 10)), "depth": np.zeros((5, 7), np.uint16)}
    resized = image.resize(4, 6, names=("image", "depth"))(example)
    assert {name: each.size for name, each in resized.items()} == dict.fromkeys(example, (6, 4))
    alone = image.resize(4, 6, names=("depth",))(example)
    assert (alone["image"].size, alone["mask"].size, alone["depth"].size) == ((20, 10), (20, 10), (6, 4))
    assert image.resize(4, 6, names=("depth",)).touches == ("depth", "mask")
    with pytest.raises(
        ValueError, match=r"resize\(names=...\): expected images that examples hold, found \['normals'\]"
    ):
        image.resize(4, 6, names=("image", "normals"))(example)
    with pytest.raises(ValueError, match=r"resize\(names=...\): expected a tuple"):
        image.resize(4, 6, names=["image"])  # type: ignore[arg-type]
