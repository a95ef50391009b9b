"""Arrays as pictures."""

import numpy as np

from penstock.pipeline.report.pictures import colour, is_picture, to_image, to_overlay


def test_stored_pixels_are_shown_as_they_are():
    pixels = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    assert np.array_equal(np.asarray(to_image(pixels)), pixels)


def test_floats_run_from_black_to_white():
    shown = np.asarray(to_image(np.linspace(-2, 2, 64, dtype=np.float32).reshape(8, 8, 1)))
    assert (shown.min(), shown.max()) == (0, 255)


def test_a_mask_has_the_colours_of_its_classes_and_is_transparent_elsewhere():
    overlay = to_overlay(np.array([[0, 5], [7, 7]], np.uint8), {5: 0, 7: 1})
    shown = np.asarray(overlay.convert("RGB"))
    assert shown[0, 1].tobytes().hex() == colour(0)[1:]
    assert shown[1, 0].tobytes().hex() == colour(1)[1:]
    assert np.asarray(overlay)[0, 0] == 0


def test_only_what_has_a_picture_s_shape_is_one():
    assert is_picture(np.zeros((8, 8, 3)))
    assert not is_picture(np.zeros((8, 8, 7)))
    assert not is_picture(np.zeros(8))
    assert not is_picture(np.array([[b"x"] * 8] * 8))
