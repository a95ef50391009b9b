"""JPEGs decoded at a fraction of their size: the decoder's own small image, and the photo's place in it."""

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from penstock.transforms import image
from penstock.transforms.outcome import Filtered, Rejected
from penstock.transforms.pixels import transposed
from penstock.transforms.scaling import Scaled, box_of, factor_of

Array = np.ndarray[Any, Any]


def photo(height: int, width: int) -> Image.Image:
    coarse = np.random.default_rng(height).integers(0, 256, (7, 9, 3), np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def jpeg(picture: Image.Image, orientation: int = 1, **options: Any) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=95, exif=exif, **options)
    return file.getvalue()


def decoded(payload: bytes, step: Any, scale: float | None) -> Scaled:
    return image.decode(scale=scale).scaled(payload, shrinks_by=step.shrinks_by)


@pytest.mark.parametrize(
    ("fit", "size", "margin", "factor"),
    [
        ("stretch", (1024, 1024), 2, 8),
        ("stretch", (1023, 1024), 2, 4),
        ("stretch", (1024, 255), 2, 1),
        ("stretch", (1024, 256), 2, 2),
        ("stretch", (255, 255), 1, 2),
        ("stretch", (1024, 1024), 3, 4),
        ("cover", (5000, 256), 2, 2),
        ("letterbox", (5000, 256), 2, 8),
        ("letterbox", (5000, 100), 2, 4),
    ],
)
def test_the_fraction_leaves_so_many_times_the_target(
    fit: Any, size: tuple[int, int], margin: float, factor: int
) -> None:
    step = image.resize(64, 64, fit=fit)
    assert factor_of(size, margin, step.shrinks_by) == factor
    scaled = decoded(jpeg(photo(size[1], size[0])), step, margin)
    assert scaled.size == size
    assert scaled.image.size == tuple(-(-side // factor) for side in size)


@pytest.mark.parametrize("options", [{}, {"subsampling": 0}, {"progressive": True}], ids=str)
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_the_pixels_are_the_decoders_own(options: dict[str, Any], mode: Any) -> None:
    payload = jpeg(photo(517, 333).convert(mode), **options)
    for target, factor in ((100, 2), (70, 4), (30, 8)):
        expected = Image.open(io.BytesIO(payload))
        expected.draft(None, (333 // factor, 517 // factor))
        scaled = image.decode(mode=mode, scale=1).scaled(payload, shrinks_by=image.resize(target, target).shrinks_by)
        assert scaled.image.size == expected.size == (-(-333 // factor), -(-517 // factor))
        assert scaled.image.tobytes() == expected.tobytes()


@pytest.mark.parametrize("orientation", range(9))
@pytest.mark.parametrize("fit", ["stretch", "cover", "letterbox"])
def test_what_is_resized_lies_where_it_would_otherwise(orientation: int, fit: Any) -> None:
    """A ramp along both axes shows a shift by a fraction of a pixel."""
    rows, columns = np.mgrid[0:1003, 0:1501]
    ramps = np.stack([rows / 1003 * 255, columns / 1501 * 255, np.zeros_like(rows)], axis=2)
    payload = jpeg(Image.fromarray(ramps.astype(np.uint8)), orientation, subsampling=0)
    step = image.resize(60, 83, fit=fit, mask_fill=0)
    scaled = decoded(payload, step, 1.5)
    assert scaled.image.width * 8 <= scaled.size[0] + 7
    small = np.asarray(step({"image": scaled.image}, scaled=scaled)["image"]).astype(int)
    whole = np.asarray(step({"image": image.decode()(payload)})["image"]).astype(int)
    assert abs(small - whole).max() <= 2
    assert abs((small - whole).mean()) < 0.3


def test_masks_keep_their_own_pixels() -> None:
    picture, step = photo(800, 640), image.resize(50, 40)
    classes = Image.fromarray(np.random.default_rng(1).integers(0, 5, (800, 640), np.uint8))
    file = io.BytesIO()
    classes.save(file, "PNG")
    for orientation in (1, 6):
        scaled, mask = image.decode(scale=1).scaled_pair(
            jpeg(picture, orientation), file.getvalue(), shrinks_by=step.shrinks_by
        )
        assert scaled.image.size == ((80, 100) if orientation == 1 else (100, 80))
        assert mask.tobytes() == transposed(classes, orientation).tobytes()
        resized = step({"image": scaled.image, "mask": mask}, scaled=scaled)
        expected = transposed(classes, orientation).resize((40, 50), Image.Resampling.NEAREST)
        assert resized["mask"].tobytes() == expected.tobytes()


def test_other_files_are_decoded_whole() -> None:
    step, picture = image.resize(20, 20), photo(800, 640)
    png = io.BytesIO()
    picture.save(png, "PNG")
    for payload in (png.getvalue(), jpeg(picture.convert("CMYK"))):
        assert decoded(payload, step, 1) == Scaled.whole(image.decode()(payload))
    assert decoded(jpeg(picture), step, None).image.size == (640, 800)
    assert image.decode(scale=1)(jpeg(picture)).size == (640, 800)


def test_damage_is_found_in_what_is_decoded_small() -> None:
    payload = jpeg(photo(800, 640))
    with pytest.raises(Rejected, match="Premature end"):
        decoded(payload[: len(payload) // 2], image.resize(20, 20), 1)


def test_filters_before_look_at_the_whole_image() -> None:
    step = image.resize(20, 20)
    scaled = decoded(jpeg(photo(800, 640)), step, 1)
    example = {"image": scaled.image}
    assert image.min_size(800, 640)(example, scaled=scaled) is example
    assert image.max_aspect(1.25)(example, scaled=scaled) is example
    with pytest.raises(Filtered, match="too_small"):
        image.min_size(801, 640)(example, scaled=scaled)
    with pytest.raises(Filtered, match="aspect"):
        image.max_aspect(1.24)(example, scaled=scaled)


def test_a_box_is_turned_with_its_image() -> None:
    assert [box_of((33, 20), 8, orientation)[:2] for orientation in (0, 1, 2, 3, 4, 5, 6, 7, 8)] == [
        (0, 0), (0, 0), (0.875, 0), (0.875, 0.5), (0, 0.5), (0, 0), (0.875, 0), (0.875, 0.5), (0, 0.5),
    ]  # fmt: skip


@pytest.mark.parametrize("scale", [0, 0.5, float("inf"), True, "2"])
def test_wrong_margins_are_refused(scale: Any) -> None:
    with pytest.raises(ValueError, match=r"decode\(scale=...\): expected None, or a number from 1"):
        image.decode(scale=scale)
