"""The same batches from every framework's adapter."""

import os
import subprocess
import sys
import warnings
from collections.abc import Iterable, Mapping
from itertools import groupby, islice
from typing import Any

import numpy as np
import pytest

from penstock.pipeline.load import Dataset

OPTIONS_ONCE: dict[str, Any] = {"shuffle": "exact", "seed": 2}
OPTIONS = {**OPTIONS_ONCE, "repeat": 2}


def _check(dataset: Dataset, batches: Iterable[Mapping[str, Any]], ulps: int = 0) -> None:
    expected = list(dataset.numpy("train", 4, **OPTIONS))
    found = [{name: np.asarray(values) for name, values in batch.items()} for batch in batches]
    assert len(found) == len(expected)
    for want, have in zip(expected, found, strict=True):
        assert want.keys() == have.keys()
        for name, values in want.items():
            if values.dtype.kind == "f":
                np.testing.assert_array_max_ulp(have[name], values, max(ulps, 0))
            else:
                np.testing.assert_array_equal(have[name], values)


@pytest.mark.extras("torch")
def test_torch(dataset: Dataset) -> None:
    _check(dataset, dataset.torch("train", 4, **OPTIONS))


@pytest.mark.extras("torch")
def test_torch_device_part(dataset: Dataset) -> None:
    _check(dataset, dataset.torch("train", 4, device="cpu", **OPTIONS))


@pytest.mark.extras("torch")
@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2, 3])
def test_torch_workers_keep_the_order(dataset: Dataset, workers: int) -> None:
    import torch.utils.data

    loader = dataset.torch("train", 4, **OPTIONS)
    _check(dataset, torch.utils.data.DataLoader(loader, batch_size=None, num_workers=workers))


@pytest.mark.extras("torch")
def test_torch_resumes(dataset: Dataset) -> None:
    loader = dataset.torch("train", 4, **OPTIONS)
    begun = [batch["row"].tolist() for batch in islice(loader, 2)]
    again = dataset.torch("train", 4, state=loader.state(), **OPTIONS)
    whole = [batch["row"].tolist() for batch in dataset.torch("train", 4, **OPTIONS)]
    assert begun + [batch["row"].tolist() for batch in again][: len(whole) - 2] == whole


def _rows(batches: Iterable[Any]) -> list[int]:
    return [row for batch in batches for row in batch["row"].tolist()]


@pytest.mark.extras("torch")
@pytest.mark.slow
@pytest.mark.parametrize("persistent", [False, True])
def test_torch_workers_begin_where_they_are_told(dataset: Dataset, persistent: bool) -> None:
    import torch.utils.data

    options = {"shuffle": "exact", "seed": 5, "features": False}
    expected = [_rows(dataset.torch("train", 4, **options).batches.run(steps)) for steps in _epochs(dataset, options)]
    batches = dataset.torch("train", 4, **options)
    loader = torch.utils.data.DataLoader(batches, batch_size=None, num_workers=2, persistent_workers=persistent)
    for epoch in (0, 1, 0):
        batches.set_epoch(epoch)
        assert _rows(loader) == expected[epoch]
    next(iter(loader))  # broken off
    batches.set_epoch(1)
    assert _rows(loader) == expected[1]
    batches.restore(batches.state_after(5))  # one of six batches is left
    batches.set_epoch(1)  # as a loop over epochs does: it stands there
    assert _rows(loader) == expected[1][20:]
    batches.restore(batches.state_after(1))
    assert batches.state()["epoch"] == 2
    assert _rows(loader) == expected[2]


def _epochs(dataset: Dataset, options: dict[str, Any]) -> list[list[Any]]:
    steps = dataset.numpy("train", 4, repeat=3, **options).steps()
    return [list(epoch) for _, epoch in groupby(steps, key=lambda step: step.epoch)]


@pytest.mark.extras("torch")
@pytest.mark.slow
def test_torch_workers_tell_of_an_epoch_in_the_same_order(dataset: Dataset) -> None:
    import torch.utils.data

    loader = torch.utils.data.DataLoader(dataset.torch("train", 4, shuffle=True), batch_size=None, num_workers=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        list(loader)
        with pytest.raises(UserWarning, match="epoch 0 begins for the second time"):
            list(loader)


@pytest.mark.extras("torch")
def test_torch_map_style(dataset: Dataset) -> None:
    import torch.utils.data

    loader = torch.utils.data.DataLoader(dataset.source("train", features="host"), batch_size=4)
    assert next(batch["row"].tolist() for batch in loader) == [0, 1, 2, 3]


@pytest.mark.extras("jax")
def test_jax(dataset: Dataset) -> None:
    _check(dataset, dataset.jax("train", 4, **OPTIONS), ulps=1)  # XLA multiplies by reciprocals


@pytest.mark.extras("jax")
def test_jax_resumes(dataset: Dataset) -> None:
    loader = dataset.jax("train", 4, **OPTIONS)
    begun = [batch["row"].tolist() for batch in islice(loader, 2)]
    whole = [batch["row"].tolist() for batch in dataset.jax("train", 4, **OPTIONS)]
    again = [batch["row"].tolist() for batch in dataset.jax("train", 4, state=loader.state(), **OPTIONS)]
    assert begun + again[: len(whole) - 2] == whole


@pytest.mark.extras("jax")
def test_jax_batches_divide_among_devices(dataset: Dataset) -> None:
    script = f"""
import jax
from penstock.pipeline import RequestError, open_dataset
dataset = open_dataset({dataset.uri!r})
for batch in dataset.jax("train", 4, drop_remainder=True):
    print(*(len(shard.data) for shard in batch["row"].addressable_shards))
for options in ({{"batch_size": 3, "drop_remainder": True}}, {{"batch_size": 4, "drop_remainder": False}}):
    try:
        dataset.jax("train", **options)
    except RequestError as error:
        print(error)
"""
    two_devices = {**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=two_devices, check=True)
    *sizes, odd, remainder = ended.stdout.splitlines()
    assert sizes == ["2 2"] * 5
    assert "a multiple of 2 devices" in odd
    assert "a multiple of 2 devices" in remainder


@pytest.mark.extras("grain")
def test_grain_takes_it_as_a_source(dataset: Dataset) -> None:
    import grain

    rows = [example["row"] for example in grain.MapDataset.source(dataset.source("train")).shuffle(seed=1)]
    assert sorted(rows) == list(range(21))


@pytest.mark.slow
def test_tf_reads_the_same_stored_batches(dataset: Dataset) -> None:
    batches = dataset.tf("train", 4, features=False, shuffle="exact", repeat=2)
    expected = list(dataset.numpy("train", 4, features=False, shuffle="exact", repeat=2))
    for _ in range(2):  # looking at one batch moves nothing
        next(iter(batches))
    found = list(batches)
    assert len(found) == len(batches) == len(expected)
    for want, have in zip(expected, found, strict=True):
        for name, values in want.items():
            np.testing.assert_array_equal(have[name].numpy(), values)
    assert batches.loader.state_after(len(batches))["epoch"] == 2


@pytest.mark.slow
def test_tf_goes_on_in_the_middle_of_an_epoch(dataset: Dataset) -> None:
    whole = [_rows([batch]) for batch in dataset.numpy("train", 4, repeat=3, **OPTIONS_ONCE)]
    first = dataset.tf("train", 4, **OPTIONS_ONCE)
    again = dataset.tf("train", 4, state=first.loader.state_after(2), **OPTIONS_ONCE)
    assert [_rows([batch]) for epoch in (again, again, again) for batch in epoch.as_numpy_iterator()] == whole[2:]


@pytest.mark.slow
def test_tf_tells_the_state_after_each_batch_whatever_was_read_ahead(dataset: Dataset) -> None:
    expected = dataset.numpy("train", 4, **OPTIONS_ONCE)
    batches = dataset.tf("train", 4, **OPTIONS_ONCE)
    ahead = batches.map(lambda batch: batch).prefetch(4)
    for _ in range(3):
        for number, (batch, want) in enumerate(zip(ahead.as_numpy_iterator(), expected, strict=True), 1):
            assert _rows([batch]) == _rows([want])
            assert batches.loader.state_after(number) == expected.state()


@pytest.mark.slow
def test_two_iterations_of_tf_at_once_are_alike(dataset: Dataset) -> None:
    import tensorflow as tf

    batches = dataset.tf("train", 4, **OPTIONS_ONCE)
    for _ in range(2):
        pairs = list(tf.data.Dataset.zip((batches, batches)).as_numpy_iterator())
        assert len(pairs) == 6
        assert all(_rows([one]) == _rows([other]) for one, other in pairs)


@pytest.mark.slow
def test_tf_applies_the_portable_graph(dataset: Dataset) -> None:
    _check(dataset, dataset.tf("train", 4, **OPTIONS))


@pytest.mark.slow
def test_keras_layer_goes_with_its_model(dataset: Dataset, tmp_path: Any) -> None:
    import keras

    layer = dataset.transform.layer()
    host = list(dataset.numpy("train", 4, features="host", **OPTIONS))
    _check(dataset, (layer(batch) for batch in host))
    inputs = {
        name: keras.Input(values.shape[1:], dtype=str(values.dtype), name=name) for name, values in host[0].items()
    }
    keras.Model(inputs, layer(inputs)).save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    _check(dataset, (again(batch) for batch in host))
