"""Categories: what users call in a recipe's `features` for columns of text or integers.

A value that is missing, one that training never saw and one that is the empty text are three things: each helper says
what becomes of them.

In the examples, `inputs_of(x=[1.0, None])` is what `features` receives of such a column, with its statistics.
"""

from contextlib import nullcontext
from functools import partial
from typing import Any, Literal

from .check import expect, is_int
from .inputs import Inputs, column_of, expect_tensor

Missing = Literal["own", "oov"]


def vocabulary(
    inputs: Inputs,
    name: str,
    *,
    top_k: int | None = None,
    min_count: int = 1,
    oov_buckets: int = 1,
    missing: Missing = "own",
) -> Any:
    """Numbers the values of a column by how often they occur.

    Ids 0 to V - 1 are the V tokens of the vocabulary, most frequent first, ties by the tokens' bytes. Then come the
    buckets of values that are not in it, chosen by a hash of the value (FarmHash64: the same on every machine). Then
    comes the id of missing values. Values that no line of a vocabulary file can hold, the empty text and text with a
    line break, are not in the vocabulary but in those buckets; statistics.json counts them.

    Args:
      inputs: What `features` received.
      name: A column of text or integers (which stand for their decimal text).
      top_k: Takes only so many tokens.
      min_count: Takes only tokens that occur at least so often.
      oov_buckets: How many buckets for values that are not in the vocabulary; with 0, their id is -1.
      missing: "own" gives missing values the id V + oov_buckets; "oov" treats them like the empty text.

    Returns:
      int64, in the column's shape.

    Raises:
      ValueError: an argument is not what it should be.

    >>> inputs = inputs_of(town=["Ulm", "Bonn", "Ulm", None, "Köln"])
    >>> categorical.vocabulary(inputs, "town", min_count=2).numpy().tolist()
    [0, 1, 0, 2, 1]
    """
    _expect_vocabulary(top_k, min_count, oov_buckets, missing)
    values = _column_text(inputs, name, "vocabulary", "tft.compute_and_apply_vocabulary")
    path, size = inputs.statistics.vocabulary(name, top_k, min_count)
    import tensorflow as tf
    import tensorflow_transform as tft

    if name in inputs.missing and inputs[name].dtype != tf.string:  # a missing integer is not the token "0"
        values = tf.where(inputs.missing[name], "", values)
    ids = tft.apply_vocabulary(
        values, path, num_oov_buckets=oov_buckets, default_value=-1, lookup_fn=partial(_look_up, size, oov_buckets)
    )
    if missing == "oov" or name not in inputs.missing:
        return ids
    return tf.where(inputs.missing[name], size + oov_buckets, ids)


def _look_up(size: Any, buckets: int, strings: Any, path: Any) -> tuple[Any, Any]:
    """The ids of strings in a vocabulary's file, and how many ids there are.

    As tf.lookup.StaticVocabularyTable gives them, which is two tables, of which each is traced and saved.
    """
    import tensorflow as tf

    if isinstance(strings, tf.RaggedTensor):
        ids, count = _look_up(size, buckets, strings.flat_values, path)
        return strings.with_flat_values(ids), count
    is_known = not tf.is_symbolic_tensor(path)
    with tf.init_scope() if is_known else nullcontext():  # a table is made once, not whenever the graph runs
        line, number = tf.lookup.TextFileIndex.WHOLE_LINE, tf.lookup.TextFileIndex.LINE_NUMBER
        initializer = tf.lookup.TextFileInitializer(path, tf.string, line, tf.int64, number)
        table = tf.lookup.StaticHashTable(initializer, -1)
    ids = table.lookup(strings)
    if buckets:
        ids = tf.where(tf.equal(ids, -1), size + tf.strings.to_hash_bucket_fast(strings, buckets), ids)
    return ids, size + buckets


def vocabulary_size(
    inputs: Inputs,
    name: str,
    *,
    top_k: int | None = None,
    min_count: int = 1,
    oov_buckets: int = 1,
    missing: Missing = "own",
) -> Any:
    """How many ids `vocabulary` gives with the same arguments: int64 scalar, known once the pass is over.

    Raises:
      ValueError: an argument is not what it should be.

    >>> inputs = inputs_of(town=["Ulm", "Bonn", "Ulm", None, "Köln"])
    >>> int(categorical.vocabulary_size(inputs, "town", min_count=2))
    3
    """
    _expect_vocabulary(top_k, min_count, oov_buckets, missing)
    column_of(inputs, name, "vocabulary_size", "tft.get_num_buckets_for_transformed_feature")
    _, size = inputs.statistics.vocabulary(name, top_k, min_count)
    return size + oov_buckets + (missing == "own" and name in inputs.missing)


def frequency(inputs: Inputs, name: str) -> Any:
    """How frequent a value is in training: its count divided by that of all values that are not missing.

    Args:
      inputs: What `features` received.
      name: A column of text or integers.

    Returns:
      float32, in the column's shape, from 0 to 1; 0 for values that are missing or that training never saw.

    Raises:
      ValueError: there is no such column.

    >>> inputs = inputs_of(town=["Ulm", "Bonn", "Ulm", None, "Ulm"])
    >>> categorical.frequency(inputs, "town").numpy().tolist()
    [0.75, 0.25, 0.75, 0.0, 0.75]
    """
    values = _column_text(inputs, name, "frequency", "tft.vocabulary(store_frequency=True)")
    known, counts = inputs.statistics.frequencies(name)
    import tensorflow as tf

    position, is_known = find(known, values)
    padded = tf.concat([counts, tf.zeros([1], counts.dtype)], 0)
    total = tf.cast(tf.maximum(tf.reduce_sum(counts), 1), tf.float64)
    share = tf.cast(tf.gather(padded, position), tf.float64) / total
    is_present = is_known & ~inputs.missing[name] if name in inputs.missing else is_known
    return tf.cast(tf.where(is_present, share, tf.zeros_like(share)), tf.float32)


def one_hot(ids: Any, depth: Any) -> Any:
    """Ids as vectors of zeros with a one.

    Args:
      ids: int64 of any shape.
      depth: How many ids there are: a number, or a tensor such as `vocabulary_size` gives (then the length is not known
        before the pass is over).

    Returns:
      float32, in the shape of the ids and [depth]; all zeros for an id below 0 or not below the depth.

    >>> categorical.one_hot(tf.constant([1, -1]), 3).numpy().tolist()
    [[0.0, 1.0, 0.0], [0.0, 0.0, 0.0]]
    """
    expect_tensor(ids, "one_hot(ids)")
    import tensorflow as tf

    return tf.one_hot(ids, depth if isinstance(depth, int) else tf.cast(depth, tf.int32), dtype=tf.float32)


def hash_bucket(values: Any, buckets: int) -> Any:
    """Numbers values by a hash (FarmHash64: the same on every machine), without a pass over the data.

    Args:
      values: string or integers (hashed as their decimal text), of any shape.
      buckets: How many numbers there are.

    Returns:
      int64 from 0 to buckets - 1, in the shape of the values.

    Raises:
      ValueError: the number of buckets is none.

    >>> categorical.hash_bucket(tf.constant(["Ulm", "Bonn", "Ulm"]), 100).numpy().tolist()
    [43, 89, 43]
    """
    expect_tensor(values, "hash_bucket(values)")
    expect(is_int(buckets, 1), "hash_bucket(buckets=...)", "a whole number from 1", buckets)
    import tensorflow as tf

    return tf.strings.to_hash_bucket_fast(as_text(values), buckets)


def find(keys: Any, values: Any) -> tuple[Any, Any]:
    """Looks values up among keys that are known only once the pass is over, in (K + n) log K.

    A table can't be made of tensors that tf.Transform fills in later. So keys are ordered by a hash of 63 bits, once a
    batch, and what is found is compared as a whole. (Of two keys with one hash, only one is found: the odds that a
    million keys have such two are 1 to 18 million.)

    Args:
      keys: string [K], each once.
      values: string of any shape.

    Returns:
      int64 positions in the shape of the values, K where there is none; and bool, whether there is one.

    >>> position, is_key = find(tf.constant(["b", "a"]), tf.constant(["a", "c"]))
    >>> position.numpy().tolist(), is_key.numpy().tolist()
    ([1, 2], [True, False])
    """
    import tensorflow as tf

    size = tf.shape(keys, tf.int64)[0]
    hashes = tf.strings.to_hash_bucket_fast(keys, 2**63 - 1)
    order = tf.argsort(hashes, stable=True)
    flat = tf.reshape(values, [-1])
    value_hashes = tf.strings.to_hash_bucket_fast(flat, 2**63 - 1)
    place = tf.searchsorted(tf.gather(hashes, order), value_hashes, out_type=tf.int64)
    # one more at the end, so that there is something to gather where there are no keys, or none as large
    position = tf.gather(tf.concat([tf.cast(order, tf.int64), size[tf.newaxis]], 0), place)
    candidates = tf.gather(tf.concat([keys, [""]], 0), position)
    is_key = (position < size) & (candidates == flat)
    position = tf.where(is_key, position, size)
    return tf.reshape(position, tf.shape(values)), tf.reshape(is_key, tf.shape(values))


def as_text(values: Any) -> Any:
    """Text as it is, integers as their decimal text: how keys and vocabularies spell them.

    >>> as_text(tf.constant([7, -1])).numpy().tolist()
    [b'7', b'-1']
    """
    import tensorflow as tf

    return values if values.dtype == tf.string else tf.strings.as_string(values)


def _column_text(inputs: Inputs, name: str, function: str, instead: str) -> Any:
    values = column_of(inputs, name, function, instead)
    if values.dtype != "string" and not values.dtype.is_integer:
        raise ValueError(
            f"{function}: expected a column of text or integers, found {name!r} of {values.dtype.name}; cast it in "
            "`prepare`, or use numeric.bucketize"
        )
    return as_text(values)


def _expect_vocabulary(top_k: object, min_count: object, oov_buckets: object, missing: object) -> None:
    expect(top_k is None or is_int(top_k, 1), "vocabulary(top_k=...)", "None or a whole number from 1", top_k)
    expect(is_int(min_count, 1), "vocabulary(min_count=...)", "a whole number from 1", min_count)
    expect(is_int(oov_buckets, 0), "vocabulary(oov_buckets=...)", "a whole number from 0", oov_buckets)
    expect(missing in ("own", "oov"), "vocabulary(missing=...)", '"own" or "oov"', missing)
