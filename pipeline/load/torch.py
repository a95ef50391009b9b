"""PyTorch: the engine's batches as tensors. Imports PyTorch."""

import warnings
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch.utils.data import IterableDataset, get_worker_info

from .batches import Batches, cores

Tensors = dict[str, Any]


class TorchBatches(IterableDataset[Tensors]):
    """An iterable of batches: feature name to tensor [batch, ...].

    Strings are lists of bytes objects, lists of any length are lists of tensors.

    In a DataLoader (with batch_size=None) of n workers, worker i makes the batches i, i + n, ...: the order stays the
    same. The workers begin each iteration at the state of this process, which stands still meanwhile: call
    `set_epoch` before each epoch, and for a checkpoint ask for `state_after(batches)`.

    Args:
      batches: The engine.
      device: Where the tensors go; None leaves them in memory.
      apply: What runs on the tensors there.
    """

    def __init__(
        self, batches: Batches, device: Any = None, apply: Callable[[Mapping[str, Any]], Tensors] | None = None
    ) -> None:
        self.batches = batches
        self._device = None if device is None else torch.device(device)
        self._apply = apply
        # Workers live in other processes, some for many epochs: they see what is written here.
        self._start = torch.zeros(3, dtype=torch.int64).share_memory_()  # epoch, position, iterations begun there
        self._publish()

    def __len__(self) -> int:
        return len(self.batches)

    @property
    def skipped(self) -> int:
        """How many damaged examples were passed over; those of a DataLoader's workers are not counted here."""
        return self.batches.skipped

    def state(self) -> dict[str, int]:
        """Where the loader stands after the batch that it gave last; see `Batches.state`."""
        return self.batches.state()

    def state_after(self, batches: int) -> dict[str, int]:
        """The state after so many batches from the present one; see `Batches.state_after`."""
        return self.batches.state_after(batches)

    def restore(self, state: Mapping[str, int]) -> None:
        """Goes on from a state; see `Batches.restore`. Workers do so when they begin the next iteration."""
        self.batches.restore(state)
        self._publish()

    def set_epoch(self, epoch: int) -> None:
        """Goes on from the beginning of an epoch, from 0, unless the loader already stands in it."""
        state = self.batches.state()
        self.restore(state if state["epoch"] == epoch else {**state, "epoch": epoch, "position": 0})

    def __iter__(self) -> Iterator[Tensors]:
        """The batches; in a DataLoader's worker, that worker's, from where the launching process published."""
        worker = get_worker_info()
        if worker is None:
            return self._iterate()
        epoch, position, begun = self._start.tolist()
        batches = self.batches.fork(threads=max(1, cores() // worker.num_workers))
        batches.restore({**batches.state(), "epoch": epoch, "position": position})
        if worker.id == 0:
            self._start[2] += 1
            if begun and self.batches.order.shuffle:
                warnings.warn(
                    f"epoch {epoch} begins for the second time, in the same order; call set_epoch(epoch) on the "
                    "DataLoader's dataset before each epoch",
                    stacklevel=2,
                )
        return map(self._to_tensors, batches.run(islice(batches.steps(), worker.id, None, worker.num_workers)))

    def _iterate(self) -> Iterator[Tensors]:
        for batch in self.batches:
            self._publish()
            yield self._to_tensors(batch)
        self._publish()

    def _publish(self) -> None:
        state = self.batches.state()
        self._start[:] = torch.tensor([state["epoch"], state["position"], 0])

    def _to_tensors(self, batch: Mapping[str, np.ndarray]) -> Tensors:
        tensors = {name: self._to_tensor(values) for name, values in batch.items()}
        return self._apply(tensors) if self._apply else tensors

    def _to_tensor(self, values: np.ndarray) -> Any:
        if values.dtype == object:  # strings, or lists of any length
            return [torch.from_numpy(item.copy()) if _is_numbers(item) else item for item in values.tolist()]
        tensor = torch.from_numpy(values)
        if self._device is None:
            return tensor
        if self._device.type == "cuda":
            return tensor.pin_memory().to(self._device, non_blocking=True)
        return tensor.to(self._device)


def _is_numbers(item: object) -> bool:
    return isinstance(item, np.ndarray) and item.dtype != object
