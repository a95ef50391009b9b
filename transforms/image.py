"""Images: what users call in a recipe's `prepare`, `source`, `encode` and `features`.

    prepare=[image.min_size(64, 64), image.resize(224, 224, fit="cover")]

What goes into `prepare` works on an example's "image" and, where there is one, on its "mask", so that both stay on one
grid. Each is a frozen dataclass: it pickles, compares and says what it does.

In the examples, `inputs_of(image=pixels)` is what `features` receives of such an image, with its statistics.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args

from PIL import Image

from .check import expect, is_colour, is_int
from .image_codec import Decode, Jpeg, Png, Raw
from .inputs import Inputs, expect_name
from .outcome import Example, Filtered, Rejected
from .pixels import Colour, Mode, as_pil, to_mode
from .resampling import Resample, resampled
from .scaling import Scaled
from .step import config_of

Fit = Literal["stretch", "cover", "letterbox"]

_FORMATS = Decode.formats


@dataclass(frozen=True)
class Resize:
    """Brings images to one size. Made by `resize`, which says what the attributes mean."""

    step_id: ClassVar[str] = "image.resize"

    height: int
    width: int
    fit: Fit = "stretch"
    resample: Resample = "bilinear"
    fill: Colour = (0, 0, 0)
    mask_fill: int | None = None
    names: tuple[str, ...] = ("image",)

    def __post_init__(self) -> None:
        _expect_size("resize", self.height, self.width)
        expect(
            isinstance(self.names, tuple) and bool(self.names) and all(isinstance(name, str) for name in self.names),
            "resize(names=...)",
            "a tuple of names of images, such as ('image', 'depth')",
            self.names,
        )
        expect(self.fit in get_args(Fit), "resize(fit=...)", f"one of {get_args(Fit)}", self.fit)
        expect(
            self.resample in get_args(Resample), "resize(resample=...)", f"one of {get_args(Resample)}", self.resample
        )
        expect(is_colour(self.fill), "resize(fill=...)", "a tuple (red, green, blue) of 0 to 255", self.fill)
        expect(
            self.mask_fill is None or is_int(self.mask_fill, 0, 65535),
            "resize(mask_fill=...)",
            "None or a class id from 0 to 65535",
            self.mask_fill,
        )

    @property
    def touches(self) -> tuple[str, ...]:
        """The features that it changes."""
        return (*self.names, "mask")

    def config(self) -> dict[str, Any]:
        """The arguments of `resize`, by name."""
        return config_of(self)

    def __call__(self, example: Example, scaled: Scaled | None = None) -> Example:
        """Returns the example with its images, and the mask of "image" if any, in this size.

        Args:
          example: The example.
          scaled: How its image was decoded, where that was not at its full size.
        """
        missing = sorted(set(self.names) - example.keys())
        if missing and "image" in example:
            raise ValueError(f"resize(names=...): expected images that examples hold, found {missing}; fix the recipe")
        image, mask = (scaled.image, example.get("mask")) if scaled else _pixels(example)
        wholes = {name: Scaled.whole(image if name == "image" else as_pil(example[name])) for name in self.names}
        if scaled and "image" in wholes:
            wholes["image"] = scaled
        resized = {
            name: self._resized(whole, self.resample, _fill_of(whole.image.mode, self.fill))
            for name, whole in wholes.items()
        }
        if mask is None or "image" not in self.names:
            return {**example, **resized}
        fill = self._class_around(mask) if self.fit == "letterbox" else 0
        return {**example, **resized, "mask": self._resized(Scaled.whole(mask), "nearest", fill)}

    def shrinks_by(self, size: tuple[int, int], factor: float) -> bool:
        """Whether an image of that width and height becomes smaller by that factor or more, along both sides."""
        sides = factor * self.width <= size[0], factor * self.height <= size[1]
        return any(sides) if self.fit == "letterbox" else all(sides)

    def _resized(self, whole: Scaled, filter_: Resample, fill: int | Colour) -> Image.Image:
        size = (self.width, self.height)
        if self.fit == "stretch":
            return resampled(whole.image, size, filter_, whole.box)
        if self.fit == "cover":
            return resampled(whole.image, size, filter_, whole.within(_covered(whole.size, size)))
        inner = _inscribed(whole.size, size)
        around = Image.new(whole.image.mode, size, fill)
        left, top = (size[0] - inner[0]) // 2, (size[1] - inner[1]) // 2
        around.paste(resampled(whole.image, inner, filter_, whole.box), (left, top))
        return around

    def _class_around(self, mask: Image.Image) -> int:
        if self.mask_fill is None:
            raise ValueError(
                "resize(fit='letterbox'): expected mask_fill, the class id of what lies beside a letterboxed image, "
                "since these examples have masks, found None; give it, for example mask_fill=0"
            )
        if mask.mode == "L" and self.mask_fill > 255:
            raise ValueError(
                f"resize(mask_fill=...): expected a class id up to 255, since these masks have 8 bit, found "
                f"{self.mask_fill}; fix the recipe"
            )
        return self.mask_fill


def resize(
    height: int,
    width: int,
    *,
    fit: Fit = "stretch",
    resample: Resample = "bilinear",
    fill: Colour = (0, 0, 0),
    mask_fill: int | None = None,
    names: tuple[str, ...] = ("image",),
) -> Resize:
    """Brings images to height x width, and masks with them, on the same grid, by nearest neighbour.

    Args:
      height: In pixels.
      width: In pixels.
      fit: "stretch" changes the shape; "cover" cuts off what is beyond the middle; "letterbox" keeps all and fills what
        is left beside it, which counts in the mean and deviation of the pixels.
      resample: How the image's pixels are computed; all but "nearest" take every pixel into account when they shrink.
      fill: The colour beside a letterboxed image; of its luma in greyscale.
      mask_fill: The class id beside a letterboxed mask; examples that have masks need it.
      names: The images; where there are others beside "image", name all that shall have this size.

    Raises:
      ValueError: an argument is not what it should be.

    >>> example = {"image": Image.new("RGB", (60, 30))}
    >>> image.resize(20, 20, fit="letterbox")(example)["image"].size
    (20, 20)
    """
    return Resize(height, width, fit, resample, fill, mask_fill, names)


@dataclass(frozen=True)
class CenterCrop:
    """Cuts out the middle. Made by `center_crop`."""

    step_id: ClassVar[str] = "image.center_crop"
    touches: ClassVar[tuple[str, ...]] = ("image", "mask")

    height: int
    width: int

    def __post_init__(self) -> None:
        _expect_size("center_crop", self.height, self.width)

    def config(self) -> dict[str, Any]:
        """The arguments of `center_crop`, by name."""
        return config_of(self)

    def __call__(self, example: Example) -> Example:
        """Returns the example with its image, and its mask if any, cut to this size."""
        image, mask = _pixels(example)
        if image.width < self.width or image.height < self.height:
            raise Rejected(
                "too_small_to_crop",
                f"center_crop: expected an image of at least {self.width}x{self.height}, found "
                f"{image.width}x{image.height}; use resize(..., fit='cover'), or leave it out with min_size before",
            )
        left, top = (image.width - self.width) // 2, (image.height - self.height) // 2
        box = (left, top, left + self.width, top + self.height)
        cropped = {**example, "image": image.crop(box)}
        return cropped if mask is None else {**cropped, "mask": mask.crop(box)}


def center_crop(height: int, width: int) -> CenterCrop:
    """Cuts height x width out of the middle of images and masks; rejects images that are smaller.

    Raises:
      ValueError: an argument is not what it should be.

    >>> pixels = np.arange(12, dtype=np.uint8).reshape(3, 4)
    >>> np.asarray(image.center_crop(1, 2)({"image": pixels})["image"]).tolist()
    [[5, 6]]
    """
    return CenterCrop(height, width)


@dataclass(frozen=True)
class Convert:
    """Changes the mode of images. Made by `convert`."""

    step_id: ClassVar[str] = "image.convert"
    touches: ClassVar[tuple[str, ...]] = ("image",)

    mode: Mode

    def __post_init__(self) -> None:
        expect(self.mode in get_args(Mode), "convert(mode)", f"one of {get_args(Mode)}", self.mode)

    def config(self) -> dict[str, Any]:
        """The arguments of `convert`, by name."""
        return config_of(self)

    def __call__(self, example: Example) -> Example:
        """Returns the example with its image in this mode."""
        image, _ = _pixels(example)
        return {**example, "image": to_mode(image, self.mode)}


def convert(mode: Mode) -> Convert:
    """Makes images RGB or greyscale ("L"); masks stay as they are.

    Raises:
      ValueError: an argument is not what it should be.

    >>> image.convert("L")({"image": Image.new("RGB", (1, 1), (255, 0, 0))})["image"].getpixel((0, 0))
    76
    """
    return Convert(mode)


@dataclass(frozen=True)
class MinSize:
    """Leaves out small images. Made by `min_size`."""

    step_id: ClassVar[str] = "image.min_size"

    height: int
    width: int

    def __post_init__(self) -> None:
        _expect_size("min_size", self.height, self.width)

    def config(self) -> dict[str, Any]:
        """The arguments of `min_size`, by name."""
        return config_of(self)

    def __call__(self, example: Example, scaled: Scaled | None = None) -> Example:
        """Returns the example as it is, or raises Filtered("too_small"); `scaled` as for `Resize`."""
        width, height = scaled.size if scaled else _pixels(example)[0].size
        if height < self.height or width < self.width:
            raise Filtered("too_small")
        return example


def min_size(height: int, width: int) -> MinSize:
    """Leaves out images that are lower or narrower, counted as "too_small".

    Raises:
      ValueError: an argument is not what it should be.

    >>> image.min_size(64, 64)({"image": Image.new("L", (60, 90))})
    Traceback (most recent call last):
    penstock.transforms.outcome.Filtered: too_small
    """
    return MinSize(height, width)


@dataclass(frozen=True)
class MaxAspect:
    """Leaves out long images. Made by `max_aspect`."""

    step_id: ClassVar[str] = "image.max_aspect"

    ratio: float

    def __post_init__(self) -> None:
        expect(
            isinstance(self.ratio, int | float) and 1 <= self.ratio < float("inf"),
            "max_aspect(ratio)",
            "a number from 1",
            self.ratio,
        )

    def config(self) -> dict[str, Any]:
        """The arguments of `max_aspect`, by name."""
        return config_of(self)

    def __call__(self, example: Example, scaled: Scaled | None = None) -> Example:
        """Returns the example as it is, or raises Filtered("aspect"); `scaled` as for `Resize`."""
        size = scaled.size if scaled else _pixels(example)[0].size
        if max(size) > self.ratio * min(size):
            raise Filtered("aspect")
        return example


def max_aspect(ratio: float) -> MaxAspect:
    """Leaves out images whose longer side is more than `ratio` times the shorter, counted as "aspect".

    Raises:
      ValueError: an argument is not what it should be.

    >>> image.max_aspect(2)({"image": Image.new("L", (201, 100))})
    Traceback (most recent call last):
    penstock.transforms.outcome.Filtered: aspect
    """
    return MaxAspect(ratio)


def decode(
    *,
    mode: Mode | Literal["I;16"] = "RGB",
    formats: tuple[str, ...] = _FORMATS,
    max_pixels: int = 50_000_000,
    first_frame: bool = False,
    strict: bool = True,
    background: Colour | None = None,
    range: tuple[int, int] | None = None,
    mask_palette: Mapping[Colour, int] | None = None,
    lossy_masks: bool = False,
    scale: float | None = None,
) -> Decode:
    """How files become images, for a source; `Decode` says what the arguments mean.

    Raises:
      ValueError: an argument is not what it should be.

    >>> content = image.png().encode(Image.new("RGB", (3, 2)))
    >>> pixels = image.decode(mode="L")(content)
    >>> pixels.mode, pixels.size
    ('L', (3, 2))
    """
    return Decode(mode, formats, max_pixels, first_frame, strict, background, range, mask_palette, lossy_masks, scale)


def steps_of_scaled(steps: Sequence[Any]) -> int:
    """How many of the first steps of `prepare` can work on an image that was decoded at a fraction of its size.

    Args:
      steps: The steps.

    Returns:
      0, or the number of steps up to a `resize` that only `min_size` and `max_aspect` precede.

    >>> steps_of_scaled([image.min_size(8, 8), image.resize(32, 32), image.convert("L")])
    2
    >>> steps_of_scaled([image.center_crop(8, 8), image.resize(32, 32)])
    0
    """
    for number, step in enumerate(steps, 1):
        if isinstance(step, Resize):
            return number if "image" in step.names else 0
        if not isinstance(step, MinSize | MaxAspect):
            return 0
    return 0


def jpeg(quality: int = 95) -> Jpeg:
    """Stores pixels as JPEG of that quality, 1 to 100: small, and changed a little.

    Raises:
      ValueError: an argument is not what it should be.

    >>> stored = image.jpeg(80).encode(np.full((8, 8, 3), 100, np.uint8))
    >>> image.jpeg(80).decode(stored, (8, 8, 3), np.uint8)[0, 0].tolist()
    [100, 100, 100]
    """
    return Jpeg(quality)


def png() -> Png:
    """Stores pixels as PNG: the very values, of 8 or 16 bit.

    >>> stored = image.png().encode(np.array([[0, 65535]], np.uint16))
    >>> image.png().decode(stored, (1, 2, 1), np.uint16).ravel().tolist()
    [0, 65535]
    """
    return Png()


def raw() -> Raw:
    """Stores pixels as they lie in memory: large, and the fastest to read.

    >>> image.raw().encode(np.array([[1, 258]], np.uint16)).hex(" ")
    '01 00 02 01'
    """
    return Raw()


def standardize(inputs: Inputs, name: str, *, per_channel: bool = True) -> Any:
    """Subtracts the mean and divides by the standard deviation of all of the statistics split's pixels.

    For use in a recipe's `features`. Mean and (population) standard deviation come from integer counts of the stored
    pixels, so that they are exact, and the same however the data is divided among workers. A channel that is constant
    is divided by 1.

    Args:
      inputs: What `features` received.
      name: The name of a uint8 image, [batch, height, width, channels].
      per_channel: Whether each channel has its own mean and deviation.

    Returns:
      float32 [batch, height, width, channels].

    Raises:
      ValueError: there are no counts of that feature.

    >>> inputs = inputs_of(image=np.array([1, 3], np.uint8).reshape(1, 1, 2, 1))
    >>> image.standardize(inputs, "image").numpy().ravel().tolist()
    [-1.0, 1.0]
    """
    expect_name(inputs, name, "image.standardize", "tft.scale_to_z_score")
    try:
        counts = inputs.statistics.histogram(name)
    except ValueError as error:
        raise ValueError(f"standardize: {error}; use tft.scale_to_z_score for other features") from error
    import tensorflow as tf

    if not per_channel:
        counts = tf.reduce_sum(counts, axis=0, keepdims=True)
    mean, std = _mean_and_std(counts)
    return (tf.cast(inputs[name], tf.float32) - tf.cast(mean, tf.float32)) / tf.cast(std, tf.float32)


def scale(inputs: Inputs, name: str, low: float = 0.0, high: float = 1.0) -> Any:
    """Maps a uint8 image's values from [0, 255] to [low, high]. Needs no statistics.

    Args:
      inputs: What `features` received.
      name: The name of a uint8 image.
      low: What 0 becomes.
      high: What 255 becomes.

    Returns:
      float32, in the image's shape.

    Raises:
      ValueError: an argument is not what it should be.

    >>> inputs = inputs_of(image=np.array([0, 255], np.uint8).reshape(1, 1, 2, 1))
    >>> image.scale(inputs, "image", -1.0, 1.0).numpy().ravel().tolist()
    [-1.0, 1.0]
    """
    expect(low < high, "scale(low=..., high=...)", "low < high", (low, high))
    expect_name(inputs, name, "image.scale", "tft.scale_by_min_max")
    if name not in inputs or inputs[name].dtype != "uint8":
        value = f"{name!r} of dtype {inputs[name].dtype.name}" if name in inputs else repr(name)
        raise ValueError(
            f"scale: expected the name of a uint8 image, one of {_uint8_names(inputs)}, found {value}; use "
            "tft.scale_by_min_max for other features"
        )
    import tensorflow as tf

    # divided before it is scaled, so that 255 becomes exactly high
    return tf.cast(inputs[name], tf.float32) / 255.0 * (high - low) + low


def _mean_and_std(counts: Any) -> tuple[Any, Any]:
    """Mean and population standard deviation, float64 [channels], of int64 counts [channels, 256]; 1 for a std of 0."""
    import tensorflow as tf

    values = tf.range(256, dtype=tf.int64)
    # sums of integers are exact; at least 1, for tf.Transform also runs the graph on no data
    number = tf.cast(tf.maximum(tf.reduce_sum(counts, axis=1), 1), tf.float64)
    mean = tf.cast(tf.reduce_sum(counts * values, axis=1), tf.float64) / number
    deviations = tf.cast(values, tf.float64) - mean[:, tf.newaxis]
    std = tf.sqrt(tf.reduce_sum(tf.cast(counts, tf.float64) * deviations**2, axis=1) / number)
    return mean, tf.where(std > 0, std, tf.ones_like(std))


def _uint8_names(inputs: Inputs) -> list[str]:
    return sorted(name for name, tensor in inputs.items() if tensor.dtype == "uint8")


def _pixels(example: Example) -> tuple[Image.Image, Image.Image | None]:
    """The example's image and mask, of one size."""
    if "image" not in example:
        raise ValueError(f"expected an example with an 'image', found {sorted(example)}; fix `prepare`")
    image, mask = as_pil(example["image"]), example.get("mask")
    if mask is None:
        return image, None
    mask = as_pil(mask)
    if mask.size != image.size:
        raise Rejected(
            "mask_size_mismatch",
            f"expected a mask of the image's size, {image.width}x{image.height}, found {mask.width}x{mask.height}; "
            "change both in the same function of `prepare`",
        )
    return image, mask


def _covered(size: tuple[int, int], target: tuple[int, int]) -> tuple[float, float, float, float]:
    """The box in the middle of an image that has the target's shape and as much of the image as it can."""
    (width, height), (target_width, target_height) = size, target
    # compared as products of integers: a box must not leave the image by a rounding
    if width * target_height > height * target_width:
        left = (width - height * target_width / target_height) / 2
        return left, 0, width - left, height
    top = (height - width * target_height / target_width) / 2
    return 0, top, width, height - top


def _inscribed(size: tuple[int, int], target: tuple[int, int]) -> tuple[int, int]:
    """The largest size of the image's shape that fits into the target: half a pixel rounds up, none vanishes."""
    (width, height), (target_width, target_height) = size, target
    if width * target_height > height * target_width:
        return target_width, max(1, (2 * height * target_width + width) // (2 * width))
    return max(1, (2 * width * target_height + height) // (2 * height)), target_height


def _fill_of(mode: str, colour: Colour) -> int | Colour:
    """The colour in that mode."""
    if Image.getmodebands(mode) > 1:
        return colour
    red, green, blue = colour
    luma = (red * 19595 + green * 38470 + blue * 7471 + 32768) >> 16  # as Pillow's convert("L")
    return luma * 257 if mode.startswith("I;16") else luma


def _expect_size(function: str, height: int, width: int) -> None:
    expect(is_int(height, 1), f"{function}(height=...)", "a whole number from 1", height)
    expect(is_int(width, 1), f"{function}(width=...)", "a whole number from 1", width)
