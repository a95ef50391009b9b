"""PyTorch: the batches of `ds.numpy` as tensors, among workers, and from any point."""

import warnings
from itertools import groupby, islice
from typing import Any

import pytest

from penstock.pipeline.load import Dataset

from .adapters import TWICE, all_differences, row_numbers


@pytest.mark.extras("torch")
def test_torch(dataset: Dataset) -> None:
    assert all_differences(dataset.torch("train", 4, **TWICE), dataset) == []


@pytest.mark.extras("torch")
def test_torch_device_part(dataset: Dataset) -> None:
    assert all_differences(dataset.torch("train", 4, device="cpu", **TWICE), dataset) == []


@pytest.mark.extras("torch")
@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2, 3])
def test_torch_workers_keep_the_order(dataset: Dataset, workers: int) -> None:
    import torch.utils.data

    loader = dataset.torch("train", 4, **TWICE)
    assert all_differences(torch.utils.data.DataLoader(loader, batch_size=None, num_workers=workers), dataset) == []


@pytest.mark.extras("torch")
def test_torch_resumes(dataset: Dataset) -> None:
    loader = dataset.torch("train", 4, **TWICE)
    begun = [batch["row"].tolist() for batch in islice(loader, 2)]
    again = dataset.torch("train", 4, state=loader.state(), **TWICE)
    whole = [batch["row"].tolist() for batch in dataset.torch("train", 4, **TWICE)]
    assert begun + [batch["row"].tolist() for batch in again][: len(whole) - 2] == whole


@pytest.mark.extras("torch")
@pytest.mark.slow
@pytest.mark.parametrize("persistent", [False, True])
def test_torch_workers_begin_where_they_are_told(dataset: Dataset, persistent: bool) -> None:
    import torch.utils.data

    options = {"shuffle": "exact", "seed": 5, "features": False}
    engine = dataset.torch("train", 4, **options).batches
    expected = [row_numbers(engine.run(steps)) for steps in _epochs(dataset, options)]
    batches = dataset.torch("train", 4, **options)
    loader = torch.utils.data.DataLoader(batches, batch_size=None, num_workers=2, persistent_workers=persistent)
    for epoch in (0, 1, 0):
        batches.set_epoch(epoch)
        assert row_numbers(loader) == expected[epoch]
    next(iter(loader))  # broken off
    batches.set_epoch(1)
    assert row_numbers(loader) == expected[1]
    batches.restore(batches.state_after(5))  # one of six batches is left
    batches.set_epoch(1)  # as a loop over epochs does: it stands there
    assert row_numbers(loader) == expected[1][20:]
    batches.restore(batches.state_after(1))
    assert batches.state()["epoch"] == 2
    assert row_numbers(loader) == expected[2]


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
