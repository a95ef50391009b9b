import numpy as np
import tensorflow as tf

from penstock.pipeline.serving import isolated


def _digits(element: tf.Tensor) -> tf.Tensor:
    tf.debugging.assert_less(tf.strings.length(element), 3)
    return tf.fill([2], tf.strings.to_number(element, tf.int32))


def test_each_element_fails_alone() -> None:
    apply = tf.function(lambda elements: isolated.each(_digits, elements, tf.TensorSpec([2], tf.int32)))
    values, valid = apply(tf.constant(["7", "x", "100", "12", ""]))
    assert valid.numpy().tolist() == [True, False, False, True, False]
    assert values.numpy().tolist() == [[7, 7], [0, 0], [0, 0], [12, 12], [0, 0]]
    values, valid = apply(tf.constant(["x"]))
    assert (values.numpy().tolist(), valid.numpy().tolist()) == ([[0, 0]], [False])
    values, valid = apply(tf.constant([], tf.string))
    assert (values.shape, valid.shape) == ((0, 2), (0,))


def test_an_attempt_has_its_result_or_another_one() -> None:
    apply = tf.function(lambda element: isolated.attempt(_digits, (element,), tf.constant([-1])))
    assert [value.numpy().tolist() for value in apply(tf.constant("7"))] == [[7, 7], True]
    assert [value.numpy().tolist() for value in apply(tf.constant("x"))] == [[-1], False]


def test_examples_that_cannot_be_parsed() -> None:
    parsing = {
        "n": tf.io.FixedLenFeature([], tf.int64),
        "x": tf.io.FixedLenFeature([2], tf.float32),
        "s": tf.io.FixedLenFeature([], tf.string, b"none"),
        "l": tf.io.RaggedFeature(tf.int64, row_splits_dtype=tf.int64),
    }

    def example(**values: tf.train.Feature) -> bytes:
        return bytes(tf.train.Example(features=tf.train.Features(feature=values)).SerializeToString())

    integers = tf.train.Feature(int64_list=tf.train.Int64List(value=[3]))
    floats = tf.train.Feature(float_list=tf.train.FloatList(value=[1.5, 2.5]))
    examples = [
        example(n=integers, x=floats, l=integers),
        example(n=integers),
        example(n=floats, x=floats),
        example(n=integers, x=floats, l=floats),
        b"\xff",
        example(n=integers, x=floats),
    ]
    values, valid = tf.function(lambda given: isolated.parse(given, parsing))(tf.constant(examples))
    assert valid.numpy().tolist() == [True, False, False, False, False, True]
    assert values["n"].numpy().tolist() == [3, 0, 0, 0, 0, 3]
    assert values["s"].numpy().tolist() == [b"none"] * 6
    assert values["l"].to_list() == [[3], [], [], [], [], []]


def test_what_is_not_valid_is_zero_or_empty() -> None:
    valid = tf.constant([True, False, True])
    floats = tf.constant([[1.0, np.nan], [np.nan, np.inf], [3.0, 4.0]])
    np.testing.assert_array_equal(isolated.only_valid(floats, valid), [[1, np.nan], [0, 0], [3, 4]])
    assert isolated.only_valid(tf.constant(["a", "b", "c"]), valid).numpy().tolist() == [b"a", b"", b"c"]
    lists = tf.ragged.constant([[[1], []], [[2, 3]], [[], [4], [5, 6]]])
    assert isolated.only_valid(lists, valid).to_list() == [[[1], []], [], [[], [4], [5, 6]]]
    sparse = tf.sparse.from_dense([[1, 2], [3, 0], [0, 4]])
    assert tf.sparse.to_dense(isolated.only_valid(sparse, valid)).numpy().tolist() == [[1, 2], [0, 0], [0, 4]]
    assert isolated.only_valid(tf.constant(3), valid).numpy() == 3
