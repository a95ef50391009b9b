"""PyTorch: the batches of `ds.numpy` as tensors, among workers, and from any point."""

import json
import warnings
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch_rank
from slow_store import serve

from penstock.pipeline import RequestError, open_dataset
from penstock.pipeline.load import Dataset

from .adapters import ONCE, TWICE, all_differences, row_numbers


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


@pytest.fixture
def remote(tmp_path: Path, dataset: Dataset) -> Iterator[Dataset]:
    """The dataset in a store, from which this process has read already."""
    with serve(Path(dataset.uri).parent, delay=0.01) as store:
        opened = open_dataset(
            f"{store.uri}/{Path(dataset.uri).name}", cache_dir=tmp_path / "cache", cache_bytes=1 << 25
        )
        assert opened.source("train")[0]["row"] == 0
        yield opened


@pytest.mark.extras("torch")
def test_forked_workers_read_a_store(dataset: Dataset, remote: Dataset) -> None:
    loader = remote.torch("train", 4, **TWICE)
    assert next(iter(loader))  # threads of this process are reading
    loader.restore(remote.torch("train", 4, **TWICE).state())
    assert all_differences(_workers(loader, 2, multiprocessing_context="fork"), dataset) == []


@pytest.mark.extras("torch")
@pytest.mark.slow
def test_spawned_workers_read_a_store(dataset: Dataset, remote: Dataset) -> None:
    loader = remote.torch("train", 4, **TWICE)
    assert all_differences(_workers(loader, 2, multiprocessing_context="spawn"), dataset) == []


@pytest.mark.extras("torch")
def test_torch_resumes(dataset: Dataset) -> None:
    loader = dataset.torch("train", 4, **TWICE)
    begun = [batch["row"].tolist() for batch in islice(loader, 2)]
    again = dataset.torch("train", 4, state=loader.state(), **TWICE)
    whole = [batch["row"].tolist() for batch in dataset.torch("train", 4, **TWICE)]
    assert begun + [batch["row"].tolist() for batch in again][: len(whole) - 2] == whole


def _epochs(dataset: Dataset, count: int = 8) -> list[list[int]]:
    rows = row_numbers(dataset.numpy("train", 4, repeat=count, **ONCE))
    return [rows[start : start + 21] for start in range(0, len(rows), 21)]


def _workers(batches: Any, count: int, **options: Any) -> Any:
    import torch.utils.data

    return torch.utils.data.DataLoader(batches, batch_size=None, num_workers=count, **options)


@pytest.mark.extras("torch")
def test_each_iteration_of_torch_begins_an_epoch(dataset: Dataset) -> None:
    epochs = _epochs(dataset)
    batches = dataset.torch("train", 4, **ONCE)
    assert next(iter(batches))["row"].tolist() == epochs[0][:4]
    assert row_numbers(batches) == epochs[1]
    assert row_numbers(_workers(batches, 0)) == epochs[2]


@pytest.mark.extras("torch")
@pytest.mark.slow
@pytest.mark.parametrize("persistent", [False, True])
def test_each_iteration_of_workers_begins_an_epoch(dataset: Dataset, persistent: bool) -> None:
    import torch

    epochs = _epochs(dataset)
    batches = dataset.torch("train", 4, **ONCE)
    loader = _workers(batches, 2, persistent_workers=persistent)
    torch.manual_seed(1)
    assert row_numbers(loader) == epochs[0]
    torch.manual_seed(1)  # so the workers have the same seed again
    assert row_numbers(loader) == epochs[1]
    assert next(iter(loader))["row"].tolist() == epochs[2][:4]  # broken off
    assert row_numbers(loader) == epochs[3]
    assert row_numbers(_workers(batches, 3)) == epochs[4]
    assert row_numbers(batches) == epochs[5]
    assert row_numbers(loader) == epochs[6]


@pytest.mark.extras("torch")
@pytest.mark.slow
def test_workers_that_are_spawned_begin_epochs_too(dataset: Dataset) -> None:
    epochs = _epochs(dataset)
    batches = dataset.torch("train", 4, **ONCE)
    assert row_numbers(batches) == epochs[0]
    loader = _workers(batches, 2, persistent_workers=True, multiprocessing_context="spawn")
    assert row_numbers(loader) == epochs[1]
    assert row_numbers(loader) == epochs[2]
    assert row_numbers(batches) == epochs[3]


@pytest.mark.extras("torch")
@pytest.mark.slow
@pytest.mark.parametrize("persistent", [False, True])
def test_torch_workers_begin_where_they_are_told(dataset: Dataset, persistent: bool) -> None:
    epochs = _epochs(dataset)
    batches = dataset.torch("train", 4, **ONCE)
    loader = _workers(batches, 2, persistent_workers=persistent)
    for epoch in (0, 1, 0):
        batches.set_epoch(epoch)
        assert row_numbers(loader) == epochs[epoch]
    next(iter(loader))  # broken off
    batches.set_epoch(1)
    assert row_numbers(loader) == epochs[1]
    batches.restore(batches.state_after(5))  # one of six batches is left
    batches.set_epoch(1)  # as a loop over epochs does: it stands there
    assert row_numbers(loader) == epochs[1][20:]
    assert batches.state_after(1)["epoch"] == 2
    assert row_numbers(loader) == epochs[2]


@pytest.mark.extras("torch")
@pytest.mark.slow
def test_a_state_is_not_told_while_workers_iterate(dataset: Dataset) -> None:
    epochs = _epochs(dataset)
    batches = dataset.torch("train", 4, **ONCE)
    for _ in zip(range(3), _workers(batches, 2), strict=False):
        with pytest.raises(RequestError, match="state: expected that this process iterates"):
            batches.state_dict()
    again = dataset.torch("train", 4, **ONCE, state=batches.state_after(3))
    assert row_numbers(_workers(again, 2)) == epochs[0][12:]
    batches.load_state_dict(batches.state_after(3))
    assert {"epoch": 0, "position": 12}.items() <= batches.state_dict().items()


@pytest.mark.extras("torch", "torchdata")
@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2, 3])
@pytest.mark.parametrize(("size", "parts"), [(4, [0]), (4, [1, 3]), (4, [6]), (5, [4]), (5, [5, 5, 2]), (21, [1, 1])])
def test_torchdata_resumes(dataset: Dataset, workers: int, size: int, parts: list[int]) -> None:
    from torchdata.stateful_dataloader import StatefulDataLoader

    def make(state: Any) -> Any:
        batches = dataset.torch("train", size, **ONCE)
        loader = StatefulDataLoader(batches, batch_size=None, num_workers=workers)
        if state:
            loader.load_state_dict(json.loads(json.dumps(state)))
        return loader

    seen: list[int] = []
    state = None
    for part in parts:
        loader = make(state)
        seen += row_numbers(islice(loader, part))
        state = loader.state_dict()
    loader = make(state)
    seen += row_numbers(loader)
    epochs = sum(parts) // -(-21 // size) + 1
    assert seen == [row for epoch in _epochs(dataset)[:epochs] for row in epoch]
    again = make(loader.state_dict())  # saved at the end
    assert row_numbers(again) == _epochs(dataset)[epochs]


@pytest.mark.extras("torch", "torchdata")
@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_torchdata_resumes_an_iteration_of_many_epochs(dataset: Dataset, workers: int) -> None:
    from torchdata.stateful_dataloader import StatefulDataLoader

    def make() -> Any:
        batches = dataset.torch("train", 4, repeat=3, **ONCE)
        return StatefulDataLoader(batches, batch_size=None, num_workers=workers, persistent_workers=workers > 0)

    rows = [row for epoch in _epochs(dataset) for row in epoch]
    first = make()
    begun = row_numbers(islice(first, 8))
    again = make()
    again.load_state_dict(first.state_dict())
    assert begun + row_numbers(again) == rows[:63]
    assert row_numbers(again) == rows[63:126]


@pytest.mark.extras("torch")
def test_torch_map_style(dataset: Dataset) -> None:
    import torch.utils.data

    loader = torch.utils.data.DataLoader(dataset.source("train", features="host"), batch_size=4)
    assert next(batch["row"].tolist() for batch in loader) == [0, 1, 2, 3]


@pytest.mark.extras("torch")
@pytest.mark.slow
def test_torch_distributed_says_which_share_a_process_gets(dataset: Dataset, tmp_path: Path) -> None:
    import torch.multiprocessing

    arguments = (2, dataset.uri, str(tmp_path / "store"), str(tmp_path))
    torch.multiprocessing.start_processes(torch_rank.load_share, arguments, 2, start_method="spawn")
    first, second = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2))
    order = row_numbers(dataset.numpy("train", 21, **ONCE))
    for name in ("here", "fork", "spawn"):
        assert [first[name], second[name]] == [order[0::2], order[1::2]], name
    assert first["all"] == second["all"] == order
    assert [first["length"], second["length"]] == [3, 3]


@pytest.mark.extras("torch")
def test_torch_warns_where_processes_do_not_share(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.warns(UserWarning, match="WORLD_SIZE=2 says that there are several processes"):
        next(iter(dataset.torch("train", 4)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        next(iter(dataset.torch("train", 4, shard=(0, 1))))
