"""Resampling as `transforms.resampling` does it, as TensorFlow operations, to the bit.

The crate fast_image_resize (6.1: src/convolution/mod.rs, optimisations.rs, resizer.rs) resamples 8-bit images in two
passes, first along the columns and then along the rows, and rounds to 8 bit after each. Its weights are computed in
double precision, in its own order of operations, and then brought to 16 bits: as many of them behind the point as the
largest one leaves room for. Sums of integers are the same in any order, and so are those of floats that hold them.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf

_WEIGHT_BITS = 15  # of a weight, beside its sign
_MOST_BITS = 21  # behind the point
_SINGLE = 2.0**24  # up to here single precision holds every whole number
_STRIP = 256  # columns that are multiplied at a time in double precision: so they stay in the processor's cache


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
    with tf.device("CPU"):  # a GPU may multiply with fewer digits, and add in another order
        left, top, right, bottom = tf.unstack(box)
        shape, channels = tf.shape(image), image.shape[-1]
        rows = tf.reshape(image, [shape[0], -1])
        columns = _pass(rows, _weights(shape[0], top, bottom - top, height, filter_name), 1)
        rows = _pass(columns, _weights(shape[1], left, right - left, width, filter_name), channels)
        values = tf.reshape(rows, [height, width, channels])
    values.set_shape([None, None, channels])
    return values


class _Weights(NamedTuple):
    """The weights of a pass.

    Attributes:
      first: int64 [size], the place among those available that the first weight of each result is for.
      fixed: float64 [size, n], whole numbers: the weights of n from there.
      unit: float64 scalar, a power of two: the weight that means 1.
      available: int64 scalar.
    """

    first: tf.Tensor
    fixed: tf.Tensor
    unit: tf.Tensor
    available: tf.Tensor


def _pass(values: tf.Tensor, weights: _Weights, channels: int) -> tf.Tensor:
    """One pass: uint8 [available * channels, m] to [m, size * channels], transposed on the way.

    A product with a sparse matrix of floats: exact, as long as no sum needs more digits than they have. Large images
    need double precision, and are taken some columns at a time: of two megapixels, 8.5 ms of CPU instead of 15.
    """
    indices, entries = _entries(weights, channels)
    size = tf.shape(weights.first, tf.int64)[0]
    shape = tf.stack([size, weights.available]) * channels
    most = 255 * tf.reduce_max(tf.reduce_sum(tf.abs(weights.fixed), axis=1)) + weights.unit / 2

    def product(columns: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
        matrix = tf.raw_ops.SparseTensorToCSRSparseMatrix(
            indices=indices, values=tf.cast(entries, dtype), dense_shape=shape
        )
        total = tf.raw_ops.SparseMatrixMatMul(a=matrix, b=tf.cast(columns, dtype), transpose_output=True)
        return tf.cast(tf.clip_by_value(total + 0.5, 0.0, 255.0), tf.uint8)

    def in_strips() -> tf.Tensor:
        count = tf.shape(values)[1]
        strips = (count + _STRIP - 1) // _STRIP

        def add(number: tf.Tensor, results: tf.TensorArray) -> tuple[tf.Tensor, tf.TensorArray]:
            strip = values[:, number * _STRIP : tf.minimum((number + 1) * _STRIP, count)]
            return number + 1, results.write(number, product(strip, tf.float64))  # a saved loop takes no sparse matrix

        results = tf.TensorArray(tf.uint8, strips, infer_shape=False, element_shape=[None, None])
        _, results = tf.while_loop(lambda number, _: number < strips, add, (0, results), parallel_iterations=1)
        return results.concat()

    return tf.cond(most < _SINGLE, lambda: product(values, tf.float32), in_strips)


def _entries(weights: _Weights, channels: int) -> tuple[tf.Tensor, tf.Tensor]:
    """The entries that are not 0 of the matrix that weighs each channel by itself.

    Returns:
      int64 [entries, 2], row and column; float64 [entries], weights with their fraction.
    """
    fixed = tf.tile(weights.fixed[:, tf.newaxis], [1, channels, 1])
    places = tf.where(fixed != 0)
    result, channel, number = tf.unstack(places, num=3, axis=1)
    rows = result * channels + channel
    columns = (tf.gather(weights.first, result) + number) * channels + channel
    return tf.stack([rows, columns], axis=1), tf.gather_nd(fixed, places) / weights.unit


def _weights(available: tf.Tensor, start: tf.Tensor, extent: tf.Tensor, size: Any, filter_name: str) -> _Weights:
    """The weights of a pass that makes `size` of an extent of what is available."""
    # divided by divide_no_nan: TensorFlow's optimizer makes products of other quotients, and their last bit another
    function, reach = KERNELS[filter_name]
    divide = tf.math.divide_no_nan
    scale = divide((start + extent) - start, tf.cast(size, tf.float64))
    shrink = tf.maximum(scale, 1.0)
    support = reach * shrink
    centre = start + (tf.range(tf.cast(size, tf.float64), dtype=tf.float64) + 0.5) * scale
    first = tf.maximum(tf.floor(centre - support), 0.0)
    last = tf.minimum(tf.math.ceil(centre + support), tf.cast(available, tf.float64))
    places = first[:, tf.newaxis] + tf.range(tf.math.ceil(support) * 2 + 1)
    distances = places - (centre - 0.5)[:, tf.newaxis]
    weights = tf.where(places < last[:, tf.newaxis], function(distances * divide(tf.ones_like(shrink), shrink)), 0.0)
    total = tf.cumsum(weights, axis=1)[:, -1:]  # one after the other, unlike reduce_sum
    weights = tf.where(total != 0, divide(weights, total), weights)
    powers = tf.constant([2.0**bits for bits in range(_MOST_BITS + 1)], tf.float64)
    fits = _rounded(tf.reduce_max(weights) * powers[1:]) < 2.0**_WEIGHT_BITS
    unit = tf.gather(powers, tf.reduce_sum(tf.cast(fits, tf.int32)))
    return _Weights(tf.cast(first, tf.int64), _rounded(weights * unit), unit, tf.cast(available, tf.int64))


def _rounded(values: tf.Tensor) -> tf.Tensor:
    """To the nearest whole number, halves away from zero."""
    magnitude = tf.abs(values)
    whole = tf.floor(magnitude)
    return tf.sign(values) * tf.where(magnitude - whole >= 0.5, whole + 1.0, whole)
