"""Pillow's resampling as TensorFlow operations, to the bit.

Pillow (libImaging/Resample.c) resamples 8-bit images in two passes, along the rows and then along the columns (of very
tall images, in Image.resize, the other way around: faster, and rounded otherwise), with weights in fixed point of 22
bits, and rounds to 8 bit after each. Sums of integers are the same in any order; the weights are computed in double
precision in Pillow's own order of operations.
"""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

_BITS = 22


def _box(x: tf.Tensor) -> tf.Tensor:
    return tf.cast((x > -0.5) & (x <= 0.5), x.dtype)


def _bilinear(x: tf.Tensor) -> tf.Tensor:
    x = tf.abs(x)
    return tf.where(x < 1.0, 1.0 - x, 0.0)


def _bicubic(x: tf.Tensor) -> tf.Tensor:
    a, x = -0.5, tf.abs(x)
    near = ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0
    far = (((x - 5.0) * x + 8.0) * x - 4.0) * a
    return tf.where(x < 1.0, near, tf.where(x < 2.0, far, 0.0))


# name -> the filter, and how far it reaches; Lanczos needs a sine, whose last bit is each library's own
KERNELS: dict[str, tuple[Callable[[tf.Tensor], tf.Tensor], float]] = {
    "box": (_box, 0.5),
    "bilinear": (_bilinear, 1.0),
    "bicubic": (_bicubic, 2.0),
}


def resample(image: tf.Tensor, height: Any, width: Any, box: tf.Tensor, filter_name: str) -> tf.Tensor:
    """What `PIL.Image.resize((width, height), filter, box)` gives.

    Args:
      image: uint8 [h, w, channels].
      height: Of the result, a number or an int32 scalar.
      width: Of the result.
      box: float32 [4]: left, top, right, bottom of the part that is resampled.
      filter_name: A key of `KERNELS`.

    Returns:
      uint8 [height, width, channels].
    """
    own_height, own_width = tf.unstack(tf.shape(image)[:2])
    down, down_weights = _weights(own_height, box[1], box[3], height, filter_name)
    across, across_weights = _weights(own_width, box[0], box[2], width, filter_name)

    def rows_first() -> tf.Tensor:
        top, bottom = down[0], down[-1] + tf.shape(down_weights)[1]  # the rows that the result is made of
        return _along(_along(image[top:bottom], 1, across, across_weights), 0, down - top, down_weights)

    def columns_first() -> tf.Tensor:
        return _along(_along(image, 0, down, down_weights), 1, across, across_weights)

    is_tall = (own_height > own_width * 100) & (height < own_height)
    values = tf.cond(is_tall, columns_first, rows_first)
    values.set_shape([None, None, image.shape[-1]])
    return values


def _along(image: tf.Tensor, axis: int, first: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
    """One pass: uint8 [h, w, channels] in and out."""
    available = tf.shape(image)[axis]
    spread = [-1, 1, 1] if axis == 0 else [1, -1, 1]
    shape = tf.tensor_scatter_nd_update(tf.shape(image), [[axis]], [tf.size(first)])

    def add(number: tf.Tensor, total: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        pixels = tf.cast(tf.gather(image, tf.minimum(first + number, available - 1), axis=axis), tf.int32)
        return number + 1, total + pixels * tf.reshape(weights[:, number], spread)

    half = tf.fill(shape, 1 << (_BITS - 1))
    count = tf.shape(weights)[1]
    any_shape = tf.TensorShape([None, None, None])
    _, total = tf.while_loop(
        lambda number, _: number < count, add, [0, half], shape_invariants=[tf.TensorShape([]), any_shape]
    )
    return tf.cast(tf.clip_by_value(tf.bitwise.right_shift(total, _BITS), 0, 255), tf.uint8)


def _weights(
    available: tf.Tensor, start: tf.Tensor, stop: tf.Tensor, size: Any, filter_name: str
) -> tuple[tf.Tensor, tf.Tensor]:
    """int32 [size], the first pixel that each of the result is made of; int32 [size, n], the weights of n from there.

    Divided by `divide_no_nan`: TensorFlow's optimizer makes products of other quotients, and their last bit another.
    """
    function, reach = KERNELS[filter_name]
    divide = tf.math.divide_no_nan
    scale = divide(tf.cast(stop - start, tf.float64), tf.cast(size, tf.float64))  # Pillow subtracts in single precision
    shrink = tf.maximum(scale, 1.0)
    support = reach * shrink
    centre = tf.cast(start, tf.float64) + (tf.range(tf.cast(size, tf.float64), dtype=tf.float64) + 0.5) * scale
    first = tf.maximum(tf.cast(centre - support + 0.5, tf.int32), 0)
    count = tf.minimum(tf.cast(centre + support + 0.5, tf.int32), available) - first
    number = tf.range(tf.cast(tf.math.ceil(support), tf.int32) * 2 + 1)
    places = tf.cast(number + first[:, tf.newaxis], tf.float64) - centre[:, tf.newaxis] + 0.5
    narrowed = places * divide(tf.ones_like(shrink), shrink)
    weights = tf.where(number < count[:, tf.newaxis], function(narrowed), 0.0)
    total = tf.foldl(lambda sum_, column: sum_ + column, tf.transpose(weights))[:, tf.newaxis]  # one after the other
    weights = tf.where(total != 0, divide(weights, total), weights) * (1 << _BITS)
    return first, tf.cast(tf.where(weights < 0, weights - 0.5, weights + 0.5), tf.int32)
