from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf

from penstock.transforms import categorical
from penstock.transforms.inputs import Inputs

from .tables import inputs, traced

TRAINING = {"x": pa.array(["b", "b", "b", "a", "a", "c", "é", "é", None, "", "line\nbreak"])}
# by count and then by bytes: b 3, a 2, é 2, c 1; V = 4


def ids(values: list[Any], folder: Path, training: dict[str, pa.Array] | None = None, **options: Any) -> list[int]:
    # in a graph of its own, as tf.Transform runs it: tables that eager functions make are shared by name
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        given = inputs({"x": pa.array(values)}, training or TRAINING, folder)
        outputs = categorical.vocabulary(given, "x", **options)
        session.run(tf.compat.v1.tables_initializer())
        actual = session.run(outputs)
    assert actual.dtype == np.int64
    return actual.tolist()  # type: ignore[no-any-return]


def test_ids_are_by_count_and_then_by_bytes(tmp_path: Path) -> None:
    assert ids(["b", "a", "é", "c", "new", None], tmp_path) == [0, 1, 2, 3, 4, 5]


def test_missing_values_are_not_the_empty_text(tmp_path: Path) -> None:
    assert ids(["", None], tmp_path) == [4, 5]
    assert ids(["", None], tmp_path, missing="oov") == [4, 4]


def test_what_no_line_can_hold_is_out_of_the_vocabulary(tmp_path: Path) -> None:
    assert ids(["line\nbreak", "line", "break"], tmp_path) == [4, 4, 4]


def test_out_of_vocabulary_buckets_are_those_of_farmhash(tmp_path: Path) -> None:
    words = [f"new{number}" for number in range(50)]
    expected = 4 + tf.strings.to_hash_bucket_fast(words, 7).numpy()
    assert ids([*words, None], tmp_path, oov_buckets=7) == [*expected.tolist(), 11]


def test_without_buckets_what_is_not_in_the_vocabulary_is_minus_1(tmp_path: Path) -> None:
    assert ids(["b", "new", None], tmp_path, oov_buckets=0) == [0, -1, 4]
    assert ids(["b", "new", None], tmp_path, oov_buckets=0, missing="oov") == [0, -1, -1]


def test_rare_tokens_can_be_left_out(tmp_path: Path) -> None:
    assert ids(["b", "a", "é", "c"], tmp_path, min_count=2) == [0, 1, 2, 3]
    assert ids(["b", "a", "é", "c"], tmp_path, top_k=1) == [0, 1, 1, 1]


def test_integers_are_tokens_and_a_missing_one_is_not_0(tmp_path: Path) -> None:
    training = {"x": pa.array([0, 0, 0, -5, -5, 12])}
    assert ids([0, -5, 12, 7, None], tmp_path, training) == [0, 1, 2, 3, 4]
    assert ids([0, None], tmp_path, training, missing="oov") == [0, 3]


def test_bytes_that_are_no_text_are_tokens(tmp_path: Path) -> None:
    training = {"x": pa.array([b"\xff\xfe", b"\xff\xfe", b" a "])}
    assert ids([b"\xff\xfe", b" a ", b"a"], tmp_path, training) == [0, 1, 2]


def test_a_vocabulary_may_be_empty(tmp_path: Path) -> None:
    assert ids(["a", "", None], tmp_path, {"x": pa.array([None, None], pa.string())}) == [1, 1, 2]


def test_the_size_is_that_of_the_ids(tmp_path: Path) -> None:
    given = inputs({"x": pa.array(["b", None])}, TRAINING, tmp_path)
    assert categorical.vocabulary_size(given, "x").numpy() == 6
    assert categorical.vocabulary_size(given, "x", oov_buckets=3, top_k=2).numpy() == 6
    assert categorical.vocabulary_size(given, "x", missing="oov").numpy() == 5
    full = inputs({"x": pa.array(["b"])}, TRAINING, tmp_path)
    assert categorical.vocabulary_size(full, "x").numpy() == 5


def test_frequency_is_the_share_of_the_values_that_are_there() -> None:
    given = inputs({"x": pa.array(["b", "a", "", "new", None])}, TRAINING)
    expected = [3 / 10, 2 / 10, 1 / 10, 0, 0]
    np.testing.assert_allclose(categorical.frequency(given, "x"), expected, rtol=1e-6)
    np.testing.assert_allclose(traced(partial(categorical.frequency, name="x"), given), expected, rtol=1e-6)
    numbers = inputs({"x": pa.array([1, 2, 0, None])}, {"x": pa.array([1, 1, 1, 2])})
    assert categorical.frequency(numbers, "x").numpy().tolist() == [0.75, 0.25, 0, 0]
    nothing = inputs({"x": pa.array(["a", ""])}, {"x": pa.array([], pa.string())})
    assert categorical.frequency(nothing, "x").numpy().tolist() == [0, 0]


def test_find_finds_every_key_and_nothing_else() -> None:
    keys = [f"key {number}" for number in range(20_000)]
    order = np.random.default_rng(4).permutation(len(keys))
    position, actual = categorical.find(tf.constant(keys), tf.gather(tf.constant(keys), order))
    assert bool(tf.reduce_all(actual))
    assert position.numpy().tolist() == order.tolist()
    position, actual = categorical.find(tf.constant(keys), tf.constant([["key", "", "key 20000"]]))
    assert (position.numpy().tolist(), actual.numpy().tolist()) == ([[20_000] * 3], [[False] * 3])
    position, actual = categorical.find(tf.constant(["", "a"]), tf.constant(["", "b"]))
    assert (position.numpy().tolist(), actual.numpy().tolist()) == ([0, 2], [True, False])


def test_one_hot() -> None:
    assert categorical.one_hot(tf.constant([1, -1, 3], tf.int64), 3).numpy().tolist() == [[0, 1, 0], [0] * 3, [0] * 3]
    assert categorical.one_hot(tf.constant([1]), tf.constant(2, tf.int64)).numpy().tolist() == [[0, 1]]


def test_hash_buckets_are_pinned() -> None:
    # these numbers are in people's models: they must never change
    assert categorical.hash_bucket(tf.constant(["a", "b", "", "Zürich"]), 1_000_003).numpy().tolist() == PINNED
    numbers = categorical.hash_bucket(tf.constant([[5, -1]], tf.int64), 10)
    assert numbers.numpy().tolist() == categorical.hash_bucket(tf.constant([["5", "-1"]]), 10).numpy().tolist()
    with pytest.raises(ValueError, match=r"hash_bucket\(buckets=...\)"):
        categorical.hash_bucket(tf.constant(["a"]), 0)


def test_arguments_are_checked(tmp_path: Path) -> None:
    given = inputs({"x": pa.array(["a"]), "y": pa.array([1.5])}, None, tmp_path)
    for options in ({"top_k": 0}, {"min_count": 0}, {"oov_buckets": -1}, {"missing": "mean"}):
        with pytest.raises(ValueError, match=r"vocabulary\(.*expected"):
            categorical.vocabulary(given, "x", **options)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="expected a column of text or integers, found 'y' of float32"):
        categorical.vocabulary(given, "y")
    made = Inputs({**given}, statistics=given.statistics)
    made["z"] = made["x"]
    with pytest.raises(ValueError, match=r"frequency: .*'z' which `features` made; use tft.vocabulary"):
        categorical.frequency(made, "z")


PINNED = [291400, 113437, 377723, 993973]


@pytest.mark.parametrize("buckets", [0, 1, 5])
def test_ids_are_those_of_tensorflows_own_table(tmp_path: Path, buckets: int) -> None:
    """StaticVocabularyTable, or StaticHashTable where there are no buckets, in a graph and outside of one."""
    column = pa.array([f"w{number % 7}" for number in range(20)])
    received = inputs({"x": column}, {"x": column}, tmp_path)
    path, size = received.statistics.vocabulary("x", None, 1)
    initializer = tf.lookup.TextFileInitializer(
        path, tf.string, tf.lookup.TextFileIndex.WHOLE_LINE, tf.int64, tf.lookup.TextFileIndex.LINE_NUMBER
    )
    table = (
        tf.lookup.StaticVocabularyTable(initializer, buckets) if buckets else tf.lookup.StaticHashTable(initializer, -1)
    )
    strings = tf.constant([f"w{number}" for number in range(60)] + [""])
    expected = table.lookup(strings).numpy().tolist()
    ids, count = categorical._look_up(size, buckets, strings, path)
    assert ids.numpy().tolist() == expected
    assert int(count) == 7 + buckets
    traced = tf.function(lambda values: categorical._look_up(size, buckets, values, path)[0])
    assert traced(strings).numpy().tolist() == expected
    assert (
        categorical._look_up(size, buckets, tf.RaggedTensor.from_row_lengths(strings, [60, 0, 1]), path)[0][0]
        .numpy()
        .tolist()
        == expected[:60]
    )
