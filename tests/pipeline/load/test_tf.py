"""tf.data: the batches of `ds.numpy` as tensors, and from any point."""

from typing import Any

import pytest
from helpers import differences

from penstock.pipeline import RequestError
from penstock.pipeline.load import Dataset

from .adapters import ONCE, TWICE, all_differences, row_numbers


@pytest.mark.slow
def test_tf_reads_the_same_stored_batches(dataset: Dataset) -> None:
    batches = dataset.tf("train", 4, features=False, shuffle="exact", repeat=2)
    expected = list(dataset.numpy("train", 4, features=False, shuffle="exact", repeat=2))
    found = list(batches)
    assert len(found) == len(batches) == len(expected)
    assert [differences(one, other) for one, other in zip(found, expected, strict=True)] == [[]] * len(expected)
    assert batches.loader.state_after(len(batches))["epoch"] == 2


@pytest.mark.slow
def test_every_iteration_of_tf_begins_the_next_epoch(dataset: Dataset) -> None:
    epochs = [row_numbers(dataset.numpy("train", 4, state=_beginning(dataset, epoch), **ONCE)) for epoch in range(6)]
    batches = dataset.tf("train", 4, **ONCE)
    assert row_numbers(batches.as_numpy_iterator()) == epochs[0]
    assert row_numbers(batches.take(2).as_numpy_iterator()) == epochs[1][:8]  # broken off
    assert row_numbers(batches.as_numpy_iterator()) == epochs[2]
    kept = batches.as_numpy_iterator()
    assert next(kept)["row"].tolist() == epochs[3][:4]
    assert row_numbers(batches.as_numpy_iterator()) == epochs[3]  # beside one under way
    assert row_numbers(batches.as_numpy_iterator()) == epochs[4]
    assert row_numbers(kept) == epochs[3][4:]
    assert row_numbers(batches.as_numpy_iterator()) == epochs[5]


@pytest.mark.slow
def test_keras_goes_through_an_epoch_of_tf_each_time(dataset: Dataset) -> None:
    import keras

    def pairs(**options: Any) -> Any:
        return dataset.tf("train", 4, **options).map(lambda batch: (batch["row"], batch["row"]))

    class Zero(keras.layers.Layer):
        def call(self, rows: Any) -> Any:
            return keras.ops.zeros_like(rows, dtype="float32")

    model = keras.Sequential([Zero()])
    model.compile(loss="mae", optimizer="sgd")
    history = model.fit(pairs(**ONCE), validation_data=pairs(), validation_steps=2, epochs=3, verbose=0)
    assert history.history["loss"] == pytest.approx([10.0] * 3)  # the mean of 0 ... 20: a whole epoch each
    assert history.history["val_loss"] == pytest.approx([3.5] * 3)  # of the first two batches each


def _beginning(dataset: Dataset, epoch: int) -> dict[str, int]:
    loader = dataset.numpy("train", 4, **ONCE)
    loader.set_epoch(epoch)
    return loader.state()


@pytest.mark.slow
def test_tf_goes_on_in_the_middle_of_an_epoch(dataset: Dataset) -> None:
    whole = [row_numbers([batch]) for batch in dataset.numpy("train", 4, repeat=3, **ONCE)]
    first = dataset.tf("train", 4, **ONCE)
    again = dataset.tf("train", 4, state=first.loader.state_after(2), **ONCE)
    assert [row_numbers([batch]) for epoch in (again, again, again) for batch in epoch.as_numpy_iterator()] == whole[2:]
    assert again.cardinality().numpy() < 0  # unknown: the first of them is shorter


@pytest.mark.slow
def test_tf_tells_the_state_after_each_batch_whatever_was_read_ahead(dataset: Dataset) -> None:
    expected = dataset.numpy("train", 4, **ONCE)
    batches = dataset.tf("train", 4, **ONCE)
    ahead = batches.map(lambda batch: batch).prefetch(4)
    for _ in range(3):
        for number, (batch, want) in enumerate(zip(ahead.as_numpy_iterator(), expected, strict=True), 1):
            assert row_numbers([batch]) == row_numbers([want])
            assert batches.loader.state_after(number) == expected.state()
            with pytest.raises(RequestError, match=r"found tf\.data, which reads ahead; use state_after"):
                batches.loader.state()


@pytest.mark.slow
def test_two_iterations_of_tf_at_once_are_alike(dataset: Dataset) -> None:
    import tensorflow as tf

    batches = dataset.tf("train", 4, **ONCE)
    for _ in range(2):
        pairs = list(tf.data.Dataset.zip((batches, batches)).as_numpy_iterator())
        assert len(pairs) == 6
        assert all(row_numbers([one]) == row_numbers([other]) for one, other in pairs)


@pytest.mark.slow
def test_tf_applies_the_portable_graph(dataset: Dataset) -> None:
    assert all_differences(dataset.tf("train", 4, **TWICE), dataset) == []
