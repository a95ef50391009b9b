"""An image's way from its file to the pixels that training sees, as TensorFlow operations: `prepare` once more."""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import tensorflow as tf

from ..formats.features import IMAGE
from . import header
from .exif import upright
from .resample import KERNELS, resample

ImageFunction = Callable[[tf.Tensor], tf.Tensor]
# Steps that leave examples out and change none: whoever is asked for an answer has to give one.
_FILTERS = ("image.min_size", "image.max_aspect", "keep")


def obstacles(prepare: Mapping[str, Any], with_pixels: bool = True, columns: Collection[str] = ()) -> list[str]:
    """What of an image recipe's `prepare` cannot be done in TensorFlow, in words.

    Args:
      prepare: The manifest's entry.
      with_pixels: Whether pixels are wanted; without, only what may change other features counts.
      columns: The joined columns that are wanted.
    """
    steps = _steps_that_matter(prepare, {*columns, *([IMAGE] if with_pixels else [])})
    if not with_pixels:
        return [f"{step['python']}, which is Python" for step in steps if "python" in step]
    rules = prepare["decode"]["arguments"]
    reasons = []
    if rules["background"] is not None:
        reasons.append("image.decode(background=...), which lays transparent pixels on a colour")
    if rules["mode"] == "I;16":
        reasons.append("image.decode(mode='I;16'), which keeps 16 bit")
    if rules.get("range") is not None:
        reasons.append("image.decode(range=...), which scales 16-bit grey by its own range")
    if not accepted(rules):
        reasons.append("image.decode(formats=...), which accepts neither JPEG nor PNG")
    for step in steps:
        if "python" in step:
            reasons.append(f"{step['python']}, which is Python")
        elif step["step"] == "image.resize" and step["arguments"]["resample"] not in KERNELS:
            reasons.append(f"image.resize(resample={step['arguments']['resample']!r}): only {', '.join(KERNELS)}")
        elif step["step"] not in (*_STEPS, *_FILTERS):
            reasons.append(step["step"])
    return reasons


def _steps_that_matter(prepare: Mapping[str, Any], features: Collection[str]) -> list[Mapping[str, Any]]:
    """The steps without those that say that they touch none of these features."""
    return [step for step in prepare["steps"] if "touches" not in step or not {*step["touches"]}.isdisjoint(features)]


def pipeline(prepare: Mapping[str, Any]) -> ImageFunction:
    """A function from a file's content, string scalar, to uint8 [height, width, channels]: what training would see."""
    rules = prepare["decode"]["arguments"]
    mattering = _steps_that_matter(prepare, {IMAGE})
    steps = [_STEPS[step["step"]](step["arguments"]) for step in mattering if step["step"] not in _FILTERS]
    store = _through_storage(prepare["encode"]["image"])

    def run(payload: tf.Tensor) -> tf.Tensor:
        image = decode(payload, rules)
        for step in steps:
            image = step(image)
        return store(image)

    return run


def decode(payload: tf.Tensor, rules: Mapping[str, Any]) -> tf.Tensor:
    """The upright image in a JPEG or PNG file, as `transforms.image.decode` gives it; an error where that rejects it.

    Args:
      payload: string scalar.
      rules: The arguments of `transforms.image.decode`.

    Returns:
      uint8 [h, w, 3], or [h, w, 1].
    """
    is_png = header.is_png(payload)
    kinds = [is_kind for name, is_kind in (("JPEG", header.is_jpeg), ("PNG", header.is_png)) if name in accepted(rules)]
    is_accepted = tf.reduce_any([is_kind(payload) for is_kind in kinds])
    words = f"image: expected the content of a {' or '.join(accepted(rules))} file, found another; convert it"
    with tf.control_dependencies([tf.debugging.assert_equal(is_accepted, True, words)]):
        stated = header.read(tf.identity(payload))
    with tf.control_dependencies(_checks(stated, rules)):
        payload = tf.identity(payload)
    colours = tf.cond(is_png, lambda: _decode_png(payload), lambda: _decode_jpeg(payload))
    colours.set_shape([None, None, 3])
    colours = upright(colours, stated.orientation)
    return colours if rules["mode"] == "RGB" else _grey(colours)


def accepted(rules: Mapping[str, Any]) -> list[str]:
    """Which of JPEG and PNG a recipe accepts; an MPO is a JPEG with a preview."""
    formats = {"JPEG" if name == "MPO" else name for name in rules["formats"]}
    return [name for name in ("JPEG", "PNG") if name in formats]


def _checks(stated: header.Header, rules: Mapping[str, Any]) -> list[Any]:
    """What `transforms.image.decode` rejects by the header."""
    checks = [
        tf.debugging.assert_less_equal(
            stated.width * stated.height,
            tf.constant(rules["max_pixels"], tf.int64),
            f"image: expected at most {rules['max_pixels']} pixels, found more in the header; scale the image down",
        ),
        tf.debugging.assert_less(
            stated.channels,
            tf.constant(4, tf.int64),
            "image: expected a JPEG in colours or in grey, found CMYK; convert it to RGB",
        ),
    ]
    if not rules["first_frame"]:
        words = "image: expected a still image, found an animated PNG; save its first frame"
        checks.append(tf.debugging.assert_less_equal(stated.frames, tf.constant(1, tf.int64), words))
    return checks


def _decode_jpeg(payload: tf.Tensor) -> tf.Tensor:
    return tf.io.decode_jpeg(payload, 3, fancy_upscaling=True, dct_method="INTEGER_ACCURATE")


def _decode_png(payload: tf.Tensor) -> tf.Tensor:
    # the header's 25th and 26th byte: bits a channel, and 0 for grey
    is_deep_grey = tf.strings.substr(payload, 24, 2) == b"\x10\x00"

    def deep() -> tf.Tensor:
        values = tf.cast(tf.io.decode_png(payload, 1, tf.uint16), tf.int32)
        return tf.repeat(tf.cast((values + 128) // 257, tf.uint8), 3, axis=2)

    return tf.cond(is_deep_grey, deep, lambda: tf.io.decode_png(payload, 3))


def _grey(image: tf.Tensor) -> tf.Tensor:
    """Luma as Pillow's convert("L") computes it."""
    red, green, blue = tf.unstack(tf.cast(image, tf.int32), axis=2)
    return tf.cast((red * 19595 + green * 38470 + blue * 7471 + 32768) // 65536, tf.uint8)[:, :, tf.newaxis]


def _resize(arguments: Mapping[str, Any]) -> ImageFunction:
    """As `transforms.image.resize`."""
    height, width, name = arguments["height"], arguments["width"], arguments["resample"]
    if "image" not in arguments.get("names", ["image"]):
        return lambda image: image

    def stretch(image: tf.Tensor) -> tf.Tensor:
        return resample(image, height, width, _whole_image(image), name)

    def cover(image: tf.Tensor) -> tf.Tensor:
        return resample(image, height, width, _covered(image, height, width), name)

    def letterbox(image: tf.Tensor) -> tf.Tensor:
        inner_height, inner_width = _inscribed(image, height, width)
        inner = tf.cast(resample(image, inner_height, inner_width, _whole_image(image), name), tf.int32)
        top, left = (height - inner_height) // 2, (width - inner_width) // 2
        around = [[top, height - inner_height - top], [left, width - inner_width - left], [0, 0]]
        inside = tf.pad(tf.ones_like(inner[:, :, :1]), around) > 0
        colour = _fill(image, arguments["fill"])
        return tf.cast(tf.where(inside, tf.pad(inner, around), colour), tf.uint8)

    return {"stretch": stretch, "cover": cover, "letterbox": letterbox}[arguments["fit"]]


def _size(image: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    shape = tf.shape(image)
    return shape[0], shape[1]


def _whole_image(image: tf.Tensor) -> tf.Tensor:
    """The box of all of an image: left, top, right and bottom; float64 [4]."""
    height, width = _size(image)
    return tf.cast(tf.stack([0, 0, width, height]), tf.float64)


def _covered(image: tf.Tensor, height: int, width: int) -> tf.Tensor:
    """As `transforms.image`: the box in the middle that has the target's shape; float64 [4]."""
    own_height, own_width = (tf.cast(size, tf.float64) for size in _size(image))
    shape = tf.constant([height, width], tf.float64)
    is_wide = own_width * height > own_height * width
    # divided as in `resample`
    left = tf.where(is_wide, (own_width - tf.math.divide_no_nan(own_height * width, shape[0])) / 2, 0.0)
    top = tf.where(is_wide, tf.zeros_like(left), (own_height - tf.math.divide_no_nan(own_width * height, shape[1])) / 2)
    return tf.stack([left, top, own_width - left, own_height - top])


def _inscribed(image: tf.Tensor, height: int, width: int) -> tuple[tf.Tensor, tf.Tensor]:
    """As `transforms.image`: the largest (height, width) of the image's shape that fits."""
    own_height, own_width = (tf.cast(size, tf.int64) for size in _size(image))
    one = tf.constant(1, tf.int64)
    low = tf.maximum(one, (2 * own_height * width + own_width) // (2 * own_width))
    narrow = tf.maximum(one, (2 * own_width * height + own_height) // (2 * own_height))
    is_wide = own_width * height > own_height * width
    return (
        tf.cast(tf.where(is_wide, low, tf.cast(height, tf.int64)), tf.int32),
        tf.cast(tf.where(is_wide, tf.cast(width, tf.int64), narrow), tf.int32),
    )


def _fill(image: tf.Tensor, colour: Sequence[int]) -> tf.Tensor:
    if image.shape[-1] == 1:
        red, green, blue = colour
        return tf.constant([(red * 19595 + green * 38470 + blue * 7471 + 32768) >> 16])
    return tf.constant(list(colour))


def _center_crop(arguments: Mapping[str, Any]) -> ImageFunction:
    """As `transforms.image.center_crop`; an error where that rejects an image as too small."""
    height, width = arguments["height"], arguments["width"]

    def crop(image: tf.Tensor) -> tf.Tensor:
        own_height, own_width = _size(image)
        message = f"center_crop: expected an image of at least {width}x{height}"
        with tf.control_dependencies(
            [
                tf.debugging.assert_greater_equal(own_height, height, message),
                tf.debugging.assert_greater_equal(own_width, width, message),
            ]
        ):
            top, left = (own_height - height) // 2, (own_width - width) // 2
        return image[top : top + height, left : left + width]

    return crop


def _convert(arguments: Mapping[str, Any]) -> ImageFunction:
    def convert(image: tf.Tensor) -> tf.Tensor:
        if arguments["mode"] == "L":
            return image if image.shape[-1] == 1 else _grey(image)
        return tf.repeat(image, 3, axis=2) if image.shape[-1] == 1 else image

    return convert


_STEPS: dict[str, Callable[[Mapping[str, Any]], ImageFunction]] = {
    "image.resize": _resize,
    "image.center_crop": _center_crop,
    "image.convert": _convert,
}


def _through_storage(encoding: Mapping[str, Any]) -> ImageFunction:
    """What storing does to pixels: JPEG changes them a little, and training sees those."""
    if encoding["codec"] != "jpeg":
        return lambda image: image

    quality = encoding["arguments"]["quality"]

    def through_jpeg(image: tf.Tensor) -> tf.Tensor:
        channels = image.shape[-1]
        content = tf.io.encode_jpeg(image, "grayscale" if channels == 1 else "rgb", quality=quality)
        return tf.io.decode_jpeg(content, channels, fancy_upscaling=True, dct_method="INTEGER_ACCURATE")

    return through_jpeg
