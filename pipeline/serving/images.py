"""An image's way from its file to the pixels that training sees, as TensorFlow operations: `prepare` once more."""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from ...transforms.scaling import FACTORS, SMALLEST
from ..formats.features import IMAGE
from . import header, isolated
from .exif import upright
from .resample import KERNELS, resample

ImageFunction = Callable[[tf.Tensor], tf.Tensor]
# An image to what a step makes of it, and whether training would take it: bool scalar.
StepFunction = Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]
_FACTORS = (1, *reversed(FACTORS))
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


def pipeline(prepare: Mapping[str, Any]) -> Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]:
    """A function from a file's content, string scalar, to what training would see.

    Its results are uint8 [height, width, channels]; and bool scalar, whether training would take the file: if not, the
    pixels are of any size and mean nothing.
    """
    rules = prepare["decode"]["arguments"]
    first = _first_resize(prepare) if rules.get("scale") else None
    mattering = [step for step in _steps_that_matter(prepare, {IMAGE}) if step is not first]
    steps = [_STEPS[step["step"]](step["arguments"]) for step in mattering if step["step"] not in _FILTERS]
    store = _through_storage(prepare["encode"]["image"])

    def run(payload: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        if first is None:
            whole, valid = decode(payload, rules)
            image = whole.image
        else:
            whole, valid = decode(payload, rules, first["arguments"])
            image = _resized(whole, first["arguments"])
        for step in steps:
            image, fits = step(image)
            valid &= fits
        return store(image), valid

    return run


def _first_resize(prepare: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """As `transforms.image.steps_of_scaled`: the step that takes an image at a fraction of its size."""
    steps = (step for step in prepare["steps"] if step.get("step") not in ("image.min_size", "image.max_aspect"))
    step: Mapping[str, Any] = next(steps, {})
    is_resize = step.get("step") == "image.resize" and IMAGE in step["arguments"].get("names", [IMAGE])
    return step if is_resize else None


class Scaled(NamedTuple):
    """As `transforms.scaling.Scaled`.

    Attributes:
      image: uint8 [h, w, channels].
      size: Height and width of the whole image, int32 scalars.
      box: float64 [4]: left, top, right, bottom of the whole image in pixels of `image`.
    """

    image: tf.Tensor
    size: tuple[tf.Tensor, tf.Tensor]
    box: tf.Tensor

    @classmethod
    def whole(cls, image: tf.Tensor) -> "Scaled":
        """An image at its full size."""
        height, width = _size(image)
        return cls(image, (height, width), tf.cast(tf.stack([0, 0, width, height]), tf.float64))


def decode(
    payload: tf.Tensor, rules: Mapping[str, Any], resize: Mapping[str, Any] | None = None
) -> tuple[Scaled, tf.Tensor]:
    """The upright image in a JPEG or PNG file, as `transforms.image.decode` gives it.

    Args:
      payload: string scalar.
      rules: The arguments of `transforms.image.decode`.
      resize: The arguments of the `transforms.image.resize` that takes the image at a fraction of its size; None: it is
        decoded whole.

    Returns:
      The image, uint8 [h, w, 3] or [h, w, 1]; and bool scalar, false where `transforms.image.decode` rejects it.
    """
    is_png = header.is_png(payload)
    kinds = [is_kind for name, is_kind in (("JPEG", header.is_jpeg), ("PNG", header.is_png)) if name in accepted(rules)]
    is_accepted = tf.reduce_any([is_kind(payload) for is_kind in kinds])
    payload = tf.cond(is_accepted, lambda: payload, lambda: "")
    stated = header.read(payload)
    payload = tf.cond(_is_taken(stated, rules), lambda: payload, lambda: "")
    size = _upright_size(stated)
    index = tf.constant(0)
    if resize is not None:
        index = tf.where(is_png, 0, _fraction(size, rules["scale"], resize))

    def pixels(payload: tf.Tensor, is_png: tf.Tensor, index: tf.Tensor) -> tf.Tensor:
        return tf.cond(is_png, lambda: _decode_png(payload), lambda: _decode_jpeg(payload, index, resize is not None))

    colours, valid = isolated.attempt(pixels, (payload, is_png, index), tf.zeros([1, 1, 3], tf.uint8))
    colours.set_shape([None, None, 3])
    colours = upright(colours, stated.orientation)
    image = colours if rules["mode"] == "RGB" else _grey(colours)
    if resize is None:
        return Scaled.whole(image), valid
    size = tuple(tf.maximum(side, 1) for side in size)  # of what is no image
    return Scaled(image, size, _box(size, index, stated.orientation)), valid


def _upright_size(stated: header.Header) -> tuple[tf.Tensor, tf.Tensor]:
    """Height and width of the upright image, int32."""
    is_lying = stated.orientation >= 5
    height, width = tf.cast(stated.height, tf.int32), tf.cast(stated.width, tf.int32)
    return tf.where(is_lying, width, height), tf.where(is_lying, height, width)


def _fraction(size: tuple[tf.Tensor, tf.Tensor], margin: float, resize: Mapping[str, Any]) -> tf.Tensor:
    """As `transforms.scaling.factor_of`: the index in `_FACTORS`."""
    height, width = size
    index = tf.constant(0)
    for number, factor in enumerate(_FACTORS[1:], 1):
        sides = [
            tf.constant(factor * margin * resize[name], tf.float64) <= tf.cast(side, tf.float64)
            for name, side in (("width", width), ("height", height))
        ]
        shrinks = tf.reduce_any(sides) if resize["fit"] == "letterbox" else tf.reduce_all(sides)
        index = tf.where(shrinks & (tf.minimum(height, width) >= SMALLEST * factor), number, index)
    return index


def _box(size: tuple[tf.Tensor, tf.Tensor], index: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
    """As `transforms.scaling.box_of`: float64 [4]."""
    sides = tf.cast(tf.stack([size[1], size[0]]), tf.float64)
    extents = sides * tf.gather(tf.constant([1 / factor for factor in _FACTORS], tf.float64), index)
    turned = [
        tf.reduce_any(orientation == tf.constant(each, orientation.dtype)) for each in ([2, 3, 6, 7], [3, 4, 7, 8])
    ]
    start = tf.where(tf.stack(turned), tf.math.ceil(extents) - extents, tf.zeros_like(extents))
    return tf.concat([start, start + extents], axis=0)


def accepted(rules: Mapping[str, Any]) -> list[str]:
    """Which of JPEG and PNG a recipe accepts; an MPO is a JPEG with a preview."""
    formats = {"JPEG" if name == "MPO" else name for name in rules["formats"]}
    return [name for name in ("JPEG", "PNG") if name in formats]


def _is_taken(stated: header.Header, rules: Mapping[str, Any]) -> tf.Tensor:
    """Whether `transforms.image.decode` takes what has this header: not too large, not CMYK, not animated."""
    is_taken = (stated.width * stated.height <= rules["max_pixels"]) & (stated.channels < 4)
    return is_taken if rules["first_frame"] else is_taken & (stated.frames <= 1)


def _decode_jpeg(payload: tf.Tensor, index: tf.Tensor, may_shrink: bool) -> tf.Tensor:
    """The pixels of a JPEG at the fraction of that index in `_FACTORS`."""

    def decoded(factor: int) -> Callable[[], tf.Tensor]:
        return lambda: tf.io.decode_jpeg(payload, 3, factor, fancy_upscaling=True, dct_method="INTEGER_ACCURATE")

    return tf.switch_case(index, [decoded(factor) for factor in _FACTORS]) if may_shrink else decoded(1)()


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


def _resize(arguments: Mapping[str, Any]) -> StepFunction:
    """As `transforms.image.resize`, of whole images."""
    if IMAGE not in arguments.get("names", [IMAGE]):
        return lambda image: (image, tf.constant(True))
    return lambda image: (_resized(Scaled.whole(image), arguments), tf.constant(True))


def _resized(whole: Scaled, arguments: Mapping[str, Any]) -> tf.Tensor:
    """As `transforms.image.resize`: uint8 [height, width, channels]."""
    height, width, name = arguments["height"], arguments["width"], arguments["resample"]
    if arguments["fit"] == "stretch":
        return resample(whole.image, height, width, whole.box, name)
    if arguments["fit"] == "cover":
        return resample(whole.image, height, width, _within(whole, _covered(whole.size, height, width)), name)
    inner_height, inner_width = _inscribed(whole.size, height, width)
    inner = tf.cast(resample(whole.image, inner_height, inner_width, whole.box, name), tf.int32)
    top, left = (height - inner_height) // 2, (width - inner_width) // 2
    around = [[top, height - inner_height - top], [left, width - inner_width - left], [0, 0]]
    inside = tf.pad(tf.ones_like(inner[:, :, :1]), around) > 0
    colour = _fill(whole.image, arguments["fill"])
    return tf.cast(tf.where(inside, tf.pad(inner, around), colour), tf.uint8)


def _within(whole: Scaled, box: tf.Tensor) -> tf.Tensor:
    """A box of the whole image's pixels in those that were decoded; divided by a power of two."""
    factor = tf.round(tf.cast(whole.size[1], tf.float64) / (whole.box[2] - whole.box[0]))
    return tf.tile(whole.box[:2], [2]) + box / factor


def _size(image: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    shape = tf.shape(image)
    return shape[0], shape[1]


def _covered(size: tuple[tf.Tensor, tf.Tensor], height: int, width: int) -> tf.Tensor:
    """As `transforms.image`: the box in the middle that has the target's shape; float64 [4]."""
    own_height, own_width = (tf.cast(side, tf.float64) for side in size)
    shape = tf.constant([height, width], tf.float64)
    is_wide = own_width * height > own_height * width
    # divided as in `resample`
    left = tf.where(is_wide, (own_width - tf.math.divide_no_nan(own_height * width, shape[0])) / 2, 0.0)
    top = tf.where(is_wide, tf.zeros_like(left), (own_height - tf.math.divide_no_nan(own_width * height, shape[1])) / 2)
    return tf.stack([left, top, own_width - left, own_height - top])


def _inscribed(size: tuple[tf.Tensor, tf.Tensor], height: int, width: int) -> tuple[tf.Tensor, tf.Tensor]:
    """As `transforms.image`: the largest (height, width) of the image's shape that fits."""
    own_height, own_width = (tf.cast(side, tf.int64) for side in size)
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


def _center_crop(arguments: Mapping[str, Any]) -> StepFunction:
    """As `transforms.image.center_crop`, which rejects an image that is too small."""
    height, width = arguments["height"], arguments["width"]

    def crop(image: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        own_height, own_width = _size(image)
        top, left = tf.maximum(own_height - height, 0) // 2, tf.maximum(own_width - width, 0) // 2
        return image[top : top + height, left : left + width], (own_height >= height) & (own_width >= width)

    return crop


def _convert(arguments: Mapping[str, Any]) -> StepFunction:
    def convert(image: tf.Tensor) -> tf.Tensor:
        if arguments["mode"] == "L":
            return image if image.shape[-1] == 1 else _grey(image)
        return tf.repeat(image, 3, axis=2) if image.shape[-1] == 1 else image

    return lambda image: (convert(image), tf.constant(True))


_STEPS: dict[str, Callable[[Mapping[str, Any]], StepFunction]] = {
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
