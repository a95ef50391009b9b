"""Floats from float64 to float32 and back, to the bit. TensorFlow's casts make 0 of what is subnormal in float32."""

import tensorflow as tf

_NORMAL = 2.0**-126  # the smallest float32 that is not subnormal
_SUBNORMAL = 2.0**-149  # the smallest one at all: subnormal ones are multiples of it, and their bits say of which


def narrow(values: tf.Tensor) -> tf.Tensor:
    """float64 as float32, rounded to the nearest."""
    multiple = tf.cast(tf.round(tf.minimum(tf.abs(values), _NORMAL) / _SUBNORMAL), tf.int32)
    sign = tf.where(tf.bitcast(values, tf.int64) < 0, tf.int32.min, 0)
    subnormal = tf.bitcast(tf.bitwise.bitwise_or(multiple, sign), tf.float32)
    return tf.where(tf.abs(values) < _NORMAL, subnormal, tf.cast(values, tf.float32))


def widen(values: tf.Tensor) -> tf.Tensor:
    """float32 as float64."""
    bits = tf.bitcast(values, tf.int32)
    multiple = tf.cast(tf.bitwise.bitwise_and(bits, tf.int32.max), tf.float64) * _SUBNORMAL
    subnormal = tf.where(bits < 0, -multiple, multiple)
    return tf.where(multiple < _NORMAL, subnormal, tf.cast(values, tf.float64))
