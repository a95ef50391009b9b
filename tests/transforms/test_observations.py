from penstock.transforms.observations import COLOUR_BITS, GREY_BITS, MASK_COLOUR, MASK_STORED, warnings


def test_images_that_use_little_of_16_bit_are_told():
    (warning,) = warnings({(GREY_BITS, "12"): (3, "b.png"), (GREY_BITS, "11"): (2, "a.png")})
    assert warning.startswith("5 images of 16-bit grey, such as a.png, hold no value above 4095")
    assert "16 of 256 levels" in warning
    assert "image.decode(range=(0, 4095))" in warning
    assert warnings({(GREY_BITS, "12"): (3, "b.png"), (GREY_BITS, "15"): (1, "a.png")}) == []
    (colours,) = warnings({(COLOUR_BITS, "12"): (1, "a.png"), (GREY_BITS, "16"): (1, "b.png")})
    assert colours.startswith("1 images of 16-bit colours, such as a.png, hold no value above 4095")


def test_masks_of_several_kinds_are_told():
    assert warnings({(MASK_STORED, "1 bit"): (9, "a")}) == []
    (warning,) = warnings({(MASK_STORED, "1 bit"): (9, "a"), (MASK_STORED, "greyscale of 8 bit"): (1, "b")})
    assert "9 as 1 bit (such as that of a), 1 as greyscale of 8 bit (such as that of b)" in warning


def test_palettes_of_another_order_are_told():
    same = {(MASK_COLOUR, "0: 0, 0, 0"): (4, "a"), (MASK_COLOUR, "1: 128, 0, 0"): (4, "a")}
    assert warnings(same) == []
    (warning,) = warnings({**same, (MASK_COLOUR, "1: 0, 128, 0"): (1, "b")})
    assert "differ in 1 ids, such as 1, which is (0, 128, 0) in that of b and (128, 0, 0) in that of a" in warning


def test_greys_that_are_not_the_ids_are_told():
    """A mask of the ids 0, 7 and 255 that was saved as GIF."""
    greys = {(MASK_COLOUR, "0: 0, 0, 0"): (4, "a"), (MASK_COLOUR, "2: 255, 255, 255"): (1, "a")}
    (warning,) = warnings({**greys, (MASK_COLOUR, "1: 7, 7, 7"): (2, "b")})
    assert "in 2 ids, such as 1, which is grey 7 in that of b" in warning
    assert "image.decode(mask_palette={(7, 7, 7): 7, ...})" in warning
    assert warnings({**greys, (MASK_COLOUR, "1: 7, 0, 0"): (2, "b")}) == []
    for plain in ({"0: 0, 0, 0": 1, "7: 7, 7, 7": 1}, {"0: 0, 0, 0": 1, "1: 255, 255, 255": 1}):
        assert warnings({(MASK_COLOUR, colour): (count, "a") for colour, count in plain.items()}) == []
