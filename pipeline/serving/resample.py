"""Resampling as `transforms.resampling` does it, as TensorFlow operations, to the bit.

The crate fast_image_resize (6.1: src/convolution/mod.rs, optimisations.rs, resizer.rs) resamples 8-bit images in two
passes, first along the columns and then along the rows, and rounds to 8 bit after each. Its weights are computed in
double precision, in its own order of operations, and then brought to 16 bits: as many of them behind the point as the
largest one leaves room for. Sums of integers are the same in any order.
"""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

_WEIGHT_BITS = 15  # of a weight, beside its sign
_MOST_BITS = 21  # behind the point
_BLOCK = 8  # rows of the result that are computed together
_NARROW = 257  # so many bytes times bytes have a sum that single precision holds


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
    """What `transforms.resampling.resampled(image, (width, height), filter_name, box)` gives.

    Args:
      image: uint8 [h, w, channels].
      height: Of the result, a number or an int32 scalar.
      width: Of the result.
      box: float64 [4]: left, top, right, bottom of the part that is resampled.
      filter_name: A key of `KERNELS`.

    Returns:
      uint8 [height, width, channels].
    """
    left, top, right, bottom = tf.unstack(box)
    down = _along_columns(image, top, bottom - top, height, filter_name)
    turned = _along_columns(tf.transpose(down, [1, 0, 2]), left, right - left, width, filter_name)
    values = tf.transpose(turned, [1, 0, 2])
    values.set_shape([None, None, image.shape[-1]])
    return values


def _along_columns(image: tf.Tensor, start: tf.Tensor, extent: tf.Tensor, size: Any, filter_name: str) -> tf.Tensor:
    """One pass: uint8 [h, w, channels] to [size, w, channels], of what lies in an extent of the h rows from a start."""
    shape = tf.shape(image)

    def cut() -> tf.Tensor:
        return image[tf.cast(start, tf.int32) :][:size]

    def convolve() -> tf.Tensor:
        first, weights, bits = _weights(shape[0], start, extent, size, filter_name)
        blocks, begins = _in_blocks(first, weights)
        places = tf.minimum(begins[:, tf.newaxis] + tf.range(tf.shape(blocks)[2]), shape[0] - 1)
        rows = tf.gather(tf.reshape(image, [shape[0], -1]), places)
        total = tf.reshape(_product(blocks, rows), [-1, shape[1], shape[2]])[:size]
        values = tf.bitwise.right_shift(total + tf.bitwise.left_shift(1, bits - 1), bits)
        return tf.cast(tf.clip_by_value(values, 0, 255), tf.uint8)

    is_cut = (tf.cast(size, tf.float64) == extent) & (start == tf.round(start))
    return tf.cond(is_cut, cut, convolve)


def _in_blocks(first: tf.Tensor, weights: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Weights of neighbouring rows of the result, which are made of nearly the same rows, as one small matrix.

    Args:
      first: int32 [size], the row that the first weight of each is for.
      weights: int32 [size, n].

    Returns:
      int32 [blocks, _BLOCK, width], of the last block perhaps not all; int32 [blocks], the row that each begins with.
    """
    size, count = tf.shape(weights)[0], tf.shape(weights)[1]
    blocks = (size + _BLOCK - 1) // _BLOCK
    number = tf.range(size)
    begins = first[::_BLOCK]
    offsets = first - tf.gather(begins, number // _BLOCK)
    spread = [tf.repeat(number // _BLOCK, count), tf.repeat(number % _BLOCK, count)]
    columns = tf.reshape(offsets[:, tf.newaxis] + tf.range(count), [-1])
    shape = tf.stack([blocks, _BLOCK, tf.reduce_max(offsets) + count])
    return tf.scatter_nd(tf.stack([*spread, columns], axis=1), tf.reshape(weights, [-1]), shape), begins


def _product(weights: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
    """The exact product of matrices: int32 [blocks, n, width] of 16 bits, and uint8 [blocks, width, m]; int32.

    In floats, whose products are faster, and exact as long as no sum needs more digits than they have: in single
    precision byte by byte. On the CPU: a GPU may multiply with fewer digits.
    """
    width = tf.shape(weights)[2]

    def multiplied(factors: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
        return tf.cast(tf.matmul(tf.cast(factors, dtype), tf.cast(values, dtype)), tf.int32)

    def in_bytes() -> tf.Tensor:
        high, low = tf.bitwise.right_shift(weights, 8), tf.bitwise.bitwise_and(weights, 255)
        high, low = tf.split(multiplied(tf.concat([high, low], axis=1), tf.float32), 2, axis=1)
        return tf.bitwise.left_shift(high, 8) + low

    with tf.device("CPU"):
        return tf.cond(width <= _NARROW, in_bytes, lambda: multiplied(weights, tf.float64))


def _weights(
    available: tf.Tensor, start: tf.Tensor, extent: tf.Tensor, size: Any, filter_name: str
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """The weights of a pass.

    Returns:
      int32 [size], the first row that each of the result is made of; int32 [size, n], the weights of n from there; and
      how many bits of these are fraction.
    """
    # divided by divide_no_nan: TensorFlow's optimizer makes products of other quotients, and their last bit another
    function, reach = KERNELS[filter_name]
    divide = tf.math.divide_no_nan
    scale = divide((start + extent) - start, tf.cast(size, tf.float64))
    shrink = tf.maximum(scale, 1.0)
    support = reach * shrink
    centre = start + (tf.range(tf.cast(size, tf.float64), dtype=tf.float64) + 0.5) * scale
    first = tf.cast(tf.maximum(tf.floor(centre - support), 0.0), tf.int32)
    last = tf.cast(tf.minimum(tf.math.ceil(centre + support), tf.cast(available, tf.float64)), tf.int32)
    number = tf.range(tf.cast(tf.math.ceil(support), tf.int32) * 2 + 1)
    places = first[:, tf.newaxis] + number
    distances = tf.cast(places, tf.float64) - (centre - 0.5)[:, tf.newaxis]
    weights = tf.where(places < last[:, tf.newaxis], function(distances * divide(tf.ones_like(shrink), shrink)), 0.0)
    total = tf.foldl(lambda sum_, column: sum_ + column, tf.transpose(weights))[:, tf.newaxis]  # one after the other
    weights = tf.where(total != 0, divide(weights, total), weights)
    powers = tf.constant([2.0**bits for bits in range(1, _MOST_BITS + 1)], tf.float64)
    fits = _rounded(tf.reduce_max(weights) * powers) < 2.0**_WEIGHT_BITS
    bits = tf.reduce_sum(tf.cast(fits, tf.int32))
    fixed = tf.cast(_rounded(weights * tf.gather(tf.concat([[1.0], powers], 0), bits)), tf.int32)
    return first, fixed, bits


def _rounded(values: tf.Tensor) -> tf.Tensor:
    """To the nearest whole number, halves away from zero."""
    magnitude = tf.abs(values)
    whole = tf.floor(magnitude)
    return tf.sign(values) * tf.where(magnitude - whole >= 0.5, whole + 1.0, whole)
