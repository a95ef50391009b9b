"""What the tests of table helpers share: inputs whose statistics are constants, from the summaries of given columns."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import tensorflow as tf

from penstock.transforms.counts import Counts
from penstock.transforms.histogram import count_pixels
from penstock.transforms.inputs import DeferredMoments, Inputs
from penstock.transforms.moments import GroupedMoments, Moments
from penstock.transforms.quantiles import Quantiles


class ConstantStatistics:
    """Statistics of the given columns."""

    def __init__(
        self,
        columns: Mapping[str, pa.Array],
        folder: Path | None = None,
        images: Mapping[str, np.ndarray] | None = None,
    ) -> None:
        self._columns, self._folder, self._images = columns, folder, images or {}

    def moments(self, name: str) -> DeferredMoments:
        values = Moments.of(self._columns[name]).as_floats()
        return DeferredMoments(*(tf.constant(value, tf.float64) for value in values))

    def grouped_moments(self, name: str, key: str) -> tuple[Any, Any, Any]:
        grouped = GroupedMoments.of(self._columns[name], self._columns[key])
        results = grouped.results()
        return (
            tf.constant(np.array(grouped.keys(), object), tf.string, shape=[len(results)]),
            tf.constant([moments.mean for moments in results], tf.float64),
            tf.constant([moments.std for moments in results], tf.float64),
        )

    def quantiles(self, name: str, num_buckets: int, epsilon: float) -> Any:
        quantiles = Quantiles.of(self._columns[name], epsilon)
        while look := quantiles.look([num_buckets]):
            look.add(self._columns[name])
            quantiles = quantiles.closer(look)
        return tf.constant(quantiles.boundaries(num_buckets))

    def vocabulary(self, name: str, top_k: int | None, min_count: int) -> tuple[Any, Any]:
        assert self._folder is not None
        lines = Counts.of(self._columns[name]).vocabulary(top_k, min_count).lines
        path = self._folder / f"{name}-{top_k}-{min_count}"
        path.write_bytes(b"".join(line + b"\n" for line in lines))
        return tf.constant(str(path)), tf.constant(len(lines), tf.int64)

    def frequencies(self, name: str) -> tuple[Any, Any]:
        top = Counts.of(self._columns[name]).top()
        values = tf.constant(np.array([value for value, _ in top], object), tf.string, shape=[len(top)])
        return values, tf.constant([count for _, count in top], tf.int64)

    def histogram(self, name: str) -> Any:
        return tf.constant(sum(count_pixels(pixels) for pixels in self._images[name]), tf.int64)


def inputs(
    columns: Mapping[str, pa.Array],
    training: Mapping[str, pa.Array] | None = None,
    folder: Path | None = None,
    images: Mapping[str, np.ndarray] | None = None,
) -> Inputs:
    """The columns as `features` receives them, with the statistics of others (by default, of the same).

    Args:
      columns: Name to values.
      training: The columns that statistics are of.
      folder: Where vocabularies are put.
      images: Name to uint8 [batch, height, width, channels].
    """
    tensors, missing = {name: tf.constant(pixels) for name, pixels in (images or {}).items()}, {}
    for name, column in columns.items():
        if pa.types.is_floating(column.type):
            tensors[name] = tf.constant(column.fill_null(float("nan")).to_numpy(), tf.float32)
        elif pa.types.is_integer(column.type):
            tensors[name] = tf.constant(column.fill_null(0).to_numpy(), tf.int64)
        else:
            values = column.cast(pa.binary()).fill_null(b"").to_pylist()
            tensors[name] = tf.constant(np.array(values, object), tf.string, shape=[len(values)])
        if column.null_count:
            missing[name] = tf.constant(np.asarray(column.is_null()))
    return Inputs(tensors, missing=missing, statistics=ConstantStatistics(training or columns, folder, images))


def traced(helper: Any, given: Inputs) -> Any:
    """What the helper gives in a graph whose inputs are of unknown length, as when `features` is traced."""
    names = list(given)
    statistics = given.statistics

    @tf.function(
        input_signature=[
            [tf.TensorSpec([None], given[name].dtype) for name in names],
            {name: tf.TensorSpec([None], tf.bool) for name in given.missing},
        ]
    )
    def function(tensors: Any, missing: Any) -> Any:
        return helper(Inputs(dict(zip(names, tensors, strict=True)), missing=missing, statistics=statistics))

    return function([given[name] for name in names], dict(given.missing)).numpy()
