"""Numbers: what users call in a recipe's `features` for columns of integers or floats.

Statistics come from exact sums over the statistics' split (see `moments`). A value that is null, NaN or infinite counts
as missing: it is in no statistic, and in no output but where "keep" asks for NaN. Outputs are computed in float64 and
rounded once, to float32.

In the examples, `inputs_of(x=[1.0, None])` is what `features` receives of such a column, with its statistics.
"""

import math
from typing import Any, Literal, get_args

import numpy as np

from .categorical import as_text, find
from .check import expect, is_int
from .inputs import Inputs, column_of

Missing = Literal["mean", "zero", "keep"]


def standardize(inputs: Inputs, name: str, *, missing: Missing = "mean", clip: float | None = None) -> Any:
    """Subtracts the mean and divides by the population standard deviation of the whole column (z-score).

    A constant column is divided by 1; one without any finite value stays as it is.

    Args:
      inputs: What `features` received.
      name: A column of numbers.
      missing: What missing values count as: "mean" the mean, so that they become 0; "zero" the number 0; "keep" gives
        NaN.
      clip: Where given, outputs beyond it become it, and those below its negative its negative.

    Returns:
      float32, in the column's shape.

    Raises:
      ValueError: an argument is not what it should be.

    >>> inputs = inputs_of(x=[1.0, 3.0, None])
    >>> numeric.standardize(inputs, "x").numpy().tolist()
    [-1.0, 1.0, 0.0]
    """
    _expect_missing("standardize", missing)
    expect(clip is None or _is_number(clip, above=0), "standardize(clip=...)", "None or a number above 0", clip)
    values, absent = _column_numbers(inputs, name, "standardize", "tft.scale_to_z_score")
    moments = inputs.statistics.moments(name)
    mean, divisor = _safe(moments.mean, moments.std)
    return _scaled(values, absent, mean, divisor, mean, missing, clip)


def standardize_by_key(
    inputs: Inputs, name: str, key: str, *, missing: Missing = "mean", clip: float | None = None
) -> Any:
    """Subtracts the mean and divides by the standard deviation of the values with the same key.

    For a key that is missing, that training never saw, or that had no finite value, mean and standard deviation are
    those of the whole column. A key whose values are all equal divides by 1.

    Args:
      inputs: What `features` received.
      name: A column of numbers.
      key: A column of text or integers, of the same shape.
      missing: As for `standardize`; the mean is that of the key.
      clip: As for `standardize`.

    Returns:
      float32, in the column's shape.

    Raises:
      ValueError: an argument is not what it should be.

    >>> inputs = inputs_of(x=[1.0, 3.0, 10.0, 30.0], k=["a", "a", "b", "b"])
    >>> numeric.standardize_by_key(inputs, "x", "k").numpy().tolist()
    [-1.0, 1.0, -1.0, 1.0]
    """
    _expect_missing("standardize_by_key", missing)
    expect(clip is None or _is_number(clip, above=0), "standardize_by_key(clip=...)", "None or a number above 0", clip)
    values, absent = _column_numbers(inputs, name, "standardize_by_key", "tft.scale_to_z_score_per_key")
    key_values = column_of(inputs, key, "standardize_by_key", "tft.scale_to_z_score_per_key")
    if key_values.dtype != "string" and not key_values.dtype.is_integer:
        raise ValueError(
            f"standardize_by_key: expected a key of text or integers, found {key!r} of {key_values.dtype.name}; cast "
            "it in `prepare`"
        )
    import tensorflow as tf

    if isinstance(key_values, tf.RaggedTensor):
        raise ValueError(f"standardize_by_key: expected a key for each row, found {key!r}, a column of lists")
    whole = inputs.statistics.moments(name)
    keys, means, stds = inputs.statistics.grouped_moments(name, key)
    position, is_known = find(keys, as_text(key_values))
    mean = tf.gather(tf.concat([means, [whole.mean]], 0), position)
    std = tf.gather(tf.concat([stds, [whole.std]], 0), position)
    known = is_known & ~tf.math.is_nan(mean)
    if key in inputs.missing:
        known &= ~inputs.missing[key]
    mean, std = tf.where(known, mean, whole.mean), tf.where(known, std, whole.std)
    mean, divisor = _safe(mean, std)
    return _scaled(values, absent, mean, divisor, mean, missing, clip)


def min_max(
    inputs: Inputs, name: str, low: float = 0.0, high: float = 1.0, *, missing: Missing = "mean", clip: bool = False
) -> Any:
    """Maps the smallest value of the whole column to `low` and the largest to `high`, linearly.

    A column that is constant, or without any finite value, becomes `low`.

    Args:
      inputs: What `features` received.
      name: A column of numbers.
      low: What the smallest value becomes.
      high: What the largest value becomes.
      missing: As for `standardize`: "mean" maps them to where the mean goes.
      clip: Whether values that are smaller or larger than all that training saw become `low` or `high`.

    Returns:
      float32, in the column's shape.

    Raises:
      ValueError: an argument is not what it should be.

    >>> inputs = inputs_of(x=[2.0, 3.0, 4.0])
    >>> numeric.min_max(inputs, "x", -1.0, 1.0).numpy().tolist()
    [-1.0, 0.0, 1.0]
    """
    _expect_missing("min_max", missing)
    is_range = _is_number(low) and _is_number(high) and low < high
    expect(is_range, "min_max(low=..., high=...)", "numbers low < high", (low, high))
    values, absent = _column_numbers(inputs, name, "min_max", "tft.scale_by_min_max")
    import tensorflow as tf

    moments = inputs.statistics.moments(name)
    # rounded as the values are, so that the smallest and the largest become exactly low and high
    smallest, largest = (tf.cast(tf.cast(end, inputs[name].dtype), tf.float64) for end in (moments.min, moments.max))
    values = _filled(values, absent, _zero_for_nan(moments.mean), missing)
    spread = largest - smallest
    varies = spread > 0  # False of NaN
    share = (values - smallest) / tf.where(varies, spread, tf.ones_like(spread))
    share = tf.where(varies, share, tf.where(tf.math.is_nan(values), values, tf.zeros_like(values)))
    if clip:
        share = tf.clip_by_value(share, 0.0, 1.0)
    return tf.cast(share * high + (1 - share) * low, tf.float32)


def robust_scale(
    inputs: Inputs, name: str, *, epsilon: float = 0.01, missing: Missing = "mean", clip: float | None = None
) -> Any:
    """Subtracts the median and divides by the distance of the quartiles: outliers have no say in either.

    Where the quartiles are equal, it divides by 1.

    Args:
      inputs: What `features` received.
      name: A column of numbers.
      epsilon: The rank error of median and quartiles that is allowed; they are exact for up to 16,384 distinct values.
      missing: As for `standardize`, but "mean" means the median.
      clip: As for `standardize`.

    Returns:
      float32, in the column's shape.

    Raises:
      ValueError: an argument is not what it should be.

    >>> inputs = inputs_of(x=[1.0, 2.0, 3.0, 1000.0])
    >>> numeric.robust_scale(inputs, "x").numpy().tolist()
    [-0.5, 0.0, 0.5, 499.0]
    """
    _expect_missing("robust_scale", missing)
    _expect_epsilon("robust_scale", epsilon)
    expect(clip is None or _is_number(clip, above=0), "robust_scale(clip=...)", "None or a number above 0", clip)
    values, absent = _column_numbers(inputs, name, "robust_scale", "tft.quantiles")
    quartiles = inputs.statistics.quantiles(name, 4, epsilon)
    median = quartiles[1]
    median, divisor = _safe(median, quartiles[2] - quartiles[0])
    return _scaled(values, absent, median, divisor, median, missing, clip)


def bucketize(inputs: Inputs, name: str, num_buckets: int, *, epsilon: float = 0.01) -> Any:
    """Numbers values by the bucket that they fall into, of buckets that hold about equally many of the whole column.

    A value at a boundary is in the bucket above it, as with tft.bucketize. Where one value is more frequent than a
    bucket is large, some buckets hold no values.

    Args:
      inputs: What `features` received.
      name: A column of numbers.
      num_buckets: How many buckets, from 2.
      epsilon: The rank error of the boundaries that is allowed; they are exact for up to 16,384 distinct values.

    Returns:
      int64, in the column's shape: 0 to num_buckets - 1, and num_buckets for missing values.

    Raises:
      ValueError: an argument is not what it should be.

    >>> inputs = inputs_of(x=[1.0, 2.0, 3.0, 4.0, None])
    >>> numeric.bucketize(inputs, "x", 2).numpy().tolist()
    [0, 1, 1, 1, 2]
    """
    expect(is_int(num_buckets, 2), "bucketize(num_buckets=...)", "a whole number from 2", num_buckets)
    _expect_epsilon("bucketize", epsilon)
    _, absent = _column_numbers(inputs, name, "bucketize", "tft.bucketize")
    import tensorflow as tf

    boundaries = inputs.statistics.quantiles(name, num_buckets, epsilon)
    values = inputs[name]
    if values.dtype.is_integer:
        values = tf.cast(values, tf.float64)
    # rounded as the values are: what equals a boundary in float32 is at it
    boundaries = tf.where(tf.math.is_nan(boundaries), tf.constant(math.inf, tf.float64), boundaries)
    boundaries = tf.cast(boundaries, values.dtype)
    flat = tf.reshape(tf.where(absent, tf.zeros_like(values), values), [-1])
    bucket = tf.reshape(tf.searchsorted(boundaries, flat, side="right", out_type=tf.int64), tf.shape(values))
    return tf.where(absent, tf.constant(num_buckets, tf.int64), tf.ensure_shape(bucket, values.shape))


def log(inputs: Inputs, name: str, offset: float = 0.0, *, undefined: float = 0.0) -> Any:
    """The natural logarithm of value + offset.

    Args:
      inputs: What `features` received.
      name: A column of numbers.
      offset: Is added before; 1 suits counts.
      undefined: What missing values become, and those without a logarithm: value + offset is 0 or negative.

    Returns:
      float32, in the column's shape.

    Raises:
      ValueError: an argument is not what it should be.

    >>> inputs = inputs_of(x=[0, 1, -5])
    >>> numeric.log(inputs, "x", offset=1, undefined=-9).numpy()
    array([ 0.       ,  0.6931472, -9.       ], dtype=float32)
    """
    expect(_is_number(offset), "log(offset=...)", "a number", offset)
    expect(_is_number(undefined), "log(undefined=...)", "a number", undefined)
    values, absent = _column_numbers(inputs, name, "log", "tf.math.log")
    import tensorflow as tf

    defined = ~absent & (values + offset > 0)
    safe = tf.where(defined, values, tf.ones_like(values) - offset)
    result = tf.math.log1p(safe) if offset == 1 else tf.math.log(safe + offset)
    return tf.cast(tf.where(defined, result, tf.constant(undefined, tf.float64)), tf.float32)


def clip(inputs: Inputs, name: str, low: float | None = None, high: float | None = None) -> Any:
    """Makes values below `low` low, and those above `high` high.

    Args:
      inputs: What `features` received.
      name: A column of numbers.
      low: The smallest value allowed; None allows all.
      high: The largest value allowed; None allows all.

    Returns:
      float32, in the column's shape; NaN for missing values, also where they are infinite.

    Raises:
      ValueError: an argument is not what it should be.

    >>> inputs = inputs_of(x=[-1.0, 2.0, 9.0, None])
    >>> numeric.clip(inputs, "x", 0, 5).numpy().tolist()
    [0.0, 2.0, 5.0, nan]
    """
    ends = [end for end in (low, high) if end is not None]
    is_range = ends and all(map(_is_number, ends)) and ends == sorted(ends)
    expect(bool(is_range), "clip(low=..., high=...)", "numbers low <= high, one of them or both", (low, high))
    values, absent = _column_numbers(inputs, name, "clip", "tf.clip_by_value")
    import tensorflow as tf

    if low is not None:
        values = tf.maximum(values, tf.constant(low, tf.float64))
    if high is not None:
        values = tf.minimum(values, tf.constant(high, tf.float64))
    return tf.cast(tf.where(absent, tf.constant(math.nan, tf.float64), values), tf.float32)


def fill_missing(inputs: Inputs, name: str, value: float | Literal["mean", "median"]) -> Any:
    """Fills in missing values.

    Args:
      inputs: What `features` received.
      name: A column of numbers.
      value: A number, or "mean" or "median" of the whole column (of no finite values: 0). The median's rank is off by
        at most 1 %, and exact for up to 16,384 distinct values.

    Returns:
      In the column's shape: int64 for an int64 column filled with a whole number, else float32.

    Raises:
      ValueError: an argument is not what it should be.

    >>> inputs = inputs_of(x=[1.0, None, 3.0])
    >>> numeric.fill_missing(inputs, "x", "mean").numpy().tolist()
    [1.0, 2.0, 3.0]
    """
    is_word = isinstance(value, str) and value in ("mean", "median")
    expect(is_word or _is_number(value), "fill_missing(value)", 'a number, "mean" or "median"', value)
    values, absent = _column_numbers(inputs, name, "fill_missing", "tf.where")
    import tensorflow as tf

    if isinstance(value, int) and inputs[name].dtype.is_integer:
        return tf.where(absent, tf.constant(value, inputs[name].dtype), inputs[name])
    if value == "mean":
        filling = inputs.statistics.moments(name).mean
    elif value == "median":
        filling = inputs.statistics.quantiles(name, 2, 0.01)[0]
    else:
        filling = tf.constant(value, tf.float64)
    return tf.cast(tf.where(absent, _zero_for_nan(filling), values), tf.float32)


def is_missing(inputs: Inputs, name: str) -> Any:
    """Whether values are missing: null, or in a column of floats NaN or infinite. For columns of text too.

    Args:
      inputs: What `features` received.
      name: The column.

    Returns:
      int64, in the column's shape: 1 where it is, 0 where it isn't.

    Raises:
      ValueError: there is no such column.

    >>> inputs = inputs_of(t=["a", None, ""])
    >>> numeric.is_missing(inputs, "t").numpy().tolist()
    [0, 1, 0]
    """
    values = column_of(inputs, name, "is_missing", "tf.math.is_nan")
    import tensorflow as tf

    return tf.cast(_absent(inputs, name, values), tf.int64)


def _column_numbers(inputs: Inputs, name: str, function: str, instead: str) -> tuple[Any, Any]:
    """A column as float64, and which values are missing."""
    import tensorflow as tf

    values = column_of(inputs, name, function, instead)
    if isinstance(values, tf.RaggedTensor):
        raise ValueError(
            f"{function}: expected a column with one number in a row, found {name!r}, a column of lists, which has no "
            f"statistics; use {instead}, or make numbers of the lists in `prepare`"
        )
    if not (values.dtype.is_integer or values.dtype.is_floating):
        raise ValueError(
            f"{function}: expected a column of numbers, found {name!r} of {values.dtype.name}; cast it in `prepare`, "
            "or use a function of categorical or text"
        )
    return tf.cast(values, tf.float64), _absent(inputs, name, values)


def _absent(inputs: Inputs, name: str, values: Any) -> Any:
    import tensorflow as tf

    if values.dtype.is_floating:
        return ~tf.math.is_finite(values)  # what is missing is NaN
    return inputs.missing[name] if name in inputs.missing else tf.zeros_like(values, tf.bool)


def _scaled(values: Any, absent: Any, shift: Any, divisor: Any, middle: Any, missing: Missing, clip: Any) -> Any:
    import tensorflow as tf

    scaled = (_filled(values, absent, middle, missing) - shift) / divisor
    if clip is not None:
        bounded = tf.clip_by_value(scaled, -clip, clip)
        scaled = tf.where(tf.math.is_nan(scaled), scaled, bounded)
    return tf.cast(scaled, tf.float32)


def _filled(values: Any, absent: Any, middle: Any, missing: Missing) -> Any:
    import tensorflow as tf

    if missing == "keep":
        return tf.where(absent, tf.constant(math.nan, tf.float64), values)
    return tf.where(absent, middle if missing == "mean" else tf.zeros_like(values), values)


def _safe(shift: Any, divisor: Any) -> tuple[Any, Any]:
    """What to subtract and to divide by, also where a column is constant or has no values."""
    import tensorflow as tf

    known = tf.get_static_value(divisor)  # then one operation does for three, of each of maybe a thousand columns
    if known is not None:
        return _zero_for_nan(shift), tf.constant(np.where(known > 0, known, 1.0), divisor.dtype)
    return _zero_for_nan(shift), tf.where(divisor > 0, divisor, tf.ones_like(divisor))  # NaN > 0 is false


def _zero_for_nan(value: Any) -> Any:
    import tensorflow as tf

    known = tf.get_static_value(value)
    if known is not None:
        return tf.constant(np.where(np.isnan(known), 0.0, known), value.dtype)
    return tf.where(tf.math.is_nan(value), tf.zeros_like(value), value)


def _expect_missing(function: str, missing: object) -> None:
    expect(missing in get_args(Missing), f"{function}(missing=...)", f"one of {get_args(Missing)}", missing)


def _expect_epsilon(function: str, epsilon: object) -> None:
    is_share = isinstance(epsilon, float) and 0 < epsilon < 1
    expect(is_share, f"{function}(epsilon=...)", "a number above 0 and below 1", epsilon)


def _is_number(value: object, above: float = -math.inf) -> bool:
    """Whether the value is a finite number (not a bool) that is larger than `above`."""
    return isinstance(value, int | float) and not isinstance(value, bool) and above < value < math.inf
