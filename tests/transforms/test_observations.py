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
