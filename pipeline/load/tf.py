"""tf.data: the engine's batches, with the portable graph, or the saved one, applied. Imports TensorFlow."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from ..errors import RequestError
from ..formats.features import Feature
from ..graph.savedmodel import SavedGraph
from ..graph.transform import Transform
from .batches import Batches, Iteration
from .locks import ProcessLock
from .order import Step


def make(
    loader: Batches, stored: Mapping[str, Feature] | None, saved: Transform | None, deterministic: bool, resumed: bool
) -> Any:
    """A tf.data.Dataset of a loader's batches, as `Dataset.tf` returns it.

    Args:
      loader: The batches.
      stored: What is in them, where they hold stored features; None: they hold the graph's outputs.
      saved: The graph whose SavedModel is applied to stored features; None: none is.
      deterministic: Whether batches come in their order where the SavedModel is applied.
      resumed: Whether the loader goes on within an epoch.
    """
    # resumed, the first iteration is shorter; any may be where whole batches are damaged
    counted = loader.options.repeat is not None and not resumed and not loader.options.skip_damaged
    lists = [name for name, feature in (stored or {}).items() if None in feature.shape]
    begin = _Iterations(loader, counted)
    signature = _signature(loader, stored)
    if loader.stacked > 1 and not lists:  # a call of Python takes longer than a batch of a table
        batches = tf.data.Dataset.from_generator(
            begin.stacked,
            output_signature={name: tf.TensorSpec([None, *spec.shape], spec.dtype) for name, spec in signature.items()},
        )
        if loader.options.repeat == 1:  # else an epoch would count as begun of which nothing was used
            batches = batches.prefetch(1)
        batches = batches.unbatch()
    else:
        batches = tf.data.Dataset.from_generator(
            lambda: (_to_tensors(batch, lists) for batch in begin()), output_signature=signature
        )
    if saved and stored:
        apply = SavedGraph(saved.path, stored, saved.trust).on_decoded(saved.outputs)
        calls = 1 if deterministic else tf.data.AUTOTUNE
        batches = batches.map(apply, num_parallel_calls=calls, deterministic=deterministic)
    if counted:
        batches = batches.apply(tf.data.experimental.assert_cardinality(len(loader)))
    batches = batches.prefetch(1).with_options(_options())
    batches.loader = loader
    return batches


def _options() -> tf.data.Options:
    options = tf.data.Options()
    options.autotune.enabled = False  # its thread can delay an iteration's end for as long as the iteration took
    return options


def _signature(loader: Batches, stored: Mapping[str, Feature] | None) -> dict[str, tf.TensorSpec]:
    rows = loader.options.batch_size if loader.options.drop_remainder else None
    if stored is None:
        return {
            name: tf.TensorSpec([rows, *shape], tf.string if dtype.hasobject else dtype)
            for name, (shape, dtype) in loader.signature.items()
        }
    return {
        name: tf.RaggedTensorSpec([rows, None], feature.dtype)
        if None in feature.shape
        else tf.TensorSpec([rows, *feature.shape], feature.dtype)
        for name, feature in stored.items()
    }


def _to_tensors(batch: Mapping[str, np.ndarray], lists: Sequence[str]) -> dict[str, Any]:
    return {name: _ragged(values) if name in lists else values for name, values in batch.items()}


def _ragged(values: np.ndarray) -> tf.RaggedTensor:
    lengths = np.fromiter(map(len, values), np.int64, len(values))
    return tf.RaggedTensor.from_row_lengths(np.concatenate(values.tolist()), lengths, validate=False)


class _Iterations:
    """Iterations over a loader; each call begins one.

    tf.data reads ahead of its user. So the loader stays where the iteration under way began, for `state_after` to count
    from. One that is begun while another is under way gives the same epoch, so that tf.data.Dataset.zip pairs what
    belongs together.
    """

    def __init__(self, loader: Batches, counted: bool) -> None:
        self._loader = loader
        self._counted = counted
        self._under_way: Iteration | None = None  # until one that gives it ends, or is broken off
        self._lock = ProcessLock()

    def __call__(self) -> Iterator[dict[str, np.ndarray]]:
        """Its batches."""
        return self._give(lambda iteration: (([step], batch) for step, batch in iteration))

    def stacked(self) -> Iterator[dict[str, np.ndarray]]:
        """Its batches, as `Batches.run_stacked` has them."""
        return self._give(Iteration.stacked)

    def _give(
        self, make: Callable[[Iteration], Iterator[tuple[list[Step], dict[str, np.ndarray]]]]
    ) -> Iterator[dict[str, np.ndarray]]:
        with self._lock:
            if self._under_way is None:
                if self._counted and self._loader.next_start.position:
                    raise RequestError(
                        "expected a loader at an epoch's beginning, found one within; use ds.tf(..., state=...)"
                    )
                self._under_way = self._loader.begin(read_ahead=True)
            iteration = self._under_way
        try:
            for steps, batches in make(iteration):
                self._loader.reach(iteration, steps[0])  # all are of one epoch
                yield batches
        finally:
            with self._lock:
                if self._under_way is iteration:
                    self._under_way = None
