"""A function applied to each element of a batch, so that one that it fails on fails alone, as TensorFlow operations.

In TensorFlow an error of an operation ends the whole call, and with it the requests of others, which TensorFlow Serving
puts into one batch. A tf.data pipeline in the graph goes on with the next element instead.
"""

from collections.abc import Callable, Mapping
from typing import Any

import tensorflow as tf


def attempt(run: Callable[..., Any], elements: tuple[tf.Tensor, ...], otherwise: tf.Tensor) -> tuple[Any, tf.Tensor]:
    """Applies a function that may fail, once.

    Args:
      run: Takes the elements. It runs as it is, without TensorFlow's optimizer: give it what may fail, and no more.
      elements: What it takes.
      otherwise: What there is where it fails.

    Returns:
      Its result, and whether it did not fail: bool scalar.
    """
    result = tf.data.Dataset.from_tensors(elements).map(lambda *given: (run(*given), True)).ignore_errors()
    instead = tf.data.Dataset.from_tensors((otherwise, False))
    value, succeeded = result.concatenate(instead).take(1).get_single_element()
    return value, succeeded


def each(run: Callable[[tf.Tensor], tf.Tensor], elements: tf.Tensor, spec: tf.TensorSpec) -> tuple[Any, tf.Tensor]:
    """Applies a function to each element of a batch.

    Args:
      run: Takes an element; may fail.
      elements: [batch, ...].
      spec: What it gives, of a known shape.

    Returns:
      [batch, ...], zeros where the function failed; and bool [batch], where it did not.
    """
    count = tf.shape(elements, tf.int64)[0]
    options = tf.data.Options()
    options.autotune.enabled = False  # its thread can delay an iteration's end
    options.deterministic = False
    numbered = tf.data.Dataset.from_tensor_slices((tf.range(count), elements)).with_options(options)
    done = numbered.map(lambda number, element: (number, run(element)), tf.data.AUTOTUNE).ignore_errors()
    nothing = tf.data.Dataset.from_tensors((count, tf.zeros(spec.shape, spec.dtype)))
    numbers, values = done.concatenate(nothing).batch(count + 1).get_single_element()
    numbers, failed = numbers[:-1, tf.newaxis], tf.shape(numbers, tf.int64)[0] - 1  # the last one is `nothing`
    places = tf.tensor_scatter_nd_update(tf.fill([count], failed), numbers, tf.range(failed))
    values = tf.gather(values, places)
    values.set_shape([None, *spec.shape])
    return values, places < failed


def parse(examples: tf.Tensor, parsing: Mapping[str, Any]) -> tuple[dict[str, Any], tf.Tensor]:
    """Parses tf.train.Examples.

    Args:
      examples: string [batch].
      parsing: How; see tf.io.parse_example.

    Returns:
      The values, those of an empty example where there is none; and bool [batch], where there is one.
    """

    def parse_one(example: tf.Tensor) -> tf.Tensor:
        parsed = tf.nest.flatten(tf.io.parse_single_example(example, parsing), expand_composites=True)
        numbers = [tf.strings.length(value) if value.dtype == tf.string else value for value in parsed]
        return tf.add_n([tf.reduce_sum(tf.cast(value, tf.float32)) for value in numbers])  # it depends on all

    _, valid = each(parse_one, examples, tf.TensorSpec([], tf.float32))
    return tf.io.parse_example(tf.where(valid, examples, _empty(parsing)), parsing), valid


def _empty(parsing: Mapping[str, Any]) -> bytes:
    """An example with zeros and empty strings for what must be there."""
    example = tf.train.Example()
    for name, how in parsing.items():
        if not isinstance(how, tf.io.FixedLenFeature) or how.default_value is not None:
            continue
        size, feature = tf.TensorShape(how.shape).num_elements(), example.features.feature[name]
        if how.dtype == tf.string:
            feature.bytes_list.value.extend([b""] * size)
        elif how.dtype == tf.int64:
            feature.int64_list.value.extend([0] * size)
        else:
            feature.float_list.value.extend([0.0] * size)
    return bytes(example.SerializeToString())


def only_valid(value: Any, valid: tf.Tensor) -> Any:
    """An output with zeros, empty strings or empty lists in the rows that are not valid."""
    if isinstance(value, tf.RaggedTensor):
        lengths = tf.where(valid, value.row_lengths(), 0)
        return tf.RaggedTensor.from_row_lengths(tf.ragged.boolean_mask(value, valid).values, lengths, validate=False)
    if isinstance(value, tf.SparseTensor):
        return tf.sparse.retain(value, tf.gather(valid, value.indices[:, 0]))
    if value.shape.rank == 0:
        return value

    def masked() -> tf.Tensor:
        shape = tf.concat([tf.shape(valid), tf.ones([tf.rank(value) - 1], tf.int32)], 0)
        return tf.where(tf.reshape(valid, shape), value, tf.zeros_like(value))

    return tf.cond(tf.reduce_all(valid), lambda: value, masked)
