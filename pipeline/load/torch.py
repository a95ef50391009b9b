"""PyTorch: the engine's batches as tensors. Imports PyTorch."""

from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch.utils.data import IterableDataset, get_worker_info

from .batches import Batches

Tensors = dict[str, Any]


class TorchBatches(IterableDataset[Tensors]):
    """An iterable of batches: feature name to tensor [batch, ...].

    Texts are lists of bytes objects, lists of any length are lists of tensors.

    In a DataLoader (with batch_size=None) of n workers, worker i makes the batches i, i + n, ...: the order stays the
    same. There the state in this process stands still: ask for `state_after(batches)`.

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

    def __len__(self) -> int:
        return len(self.batches)

    def state(self) -> dict[str, int]:
        """Where the loader stands after the batch that it gave last; see `Batches.state`."""
        return self.batches.state()

    def state_after(self, batches: int) -> dict[str, int]:
        """The state after so many batches from the present one; see `Batches.state_after`."""
        return self.batches.state_after(batches)

    def restore(self, state: Mapping[str, int]) -> None:
        """Goes on from a state; see `Batches.restore`."""
        self.batches.restore(state)

    def __iter__(self) -> Iterator[Tensors]:
        worker = get_worker_info()
        if worker is None:
            return map(self._to_tensors, self.batches)
        steps = islice(self.batches.steps(), worker.id, None, worker.num_workers)
        return map(self._to_tensors, self.batches.run(steps))

    def _to_tensors(self, batch: Mapping[str, np.ndarray]) -> Tensors:
        tensors = {name: self._to_tensor(values) for name, values in batch.items()}
        return self._apply(tensors) if self._apply else tensors

    def _to_tensor(self, values: np.ndarray) -> Any:
        if values.dtype == object:  # texts, or lists of any length
            return [torch.from_numpy(item) if _is_numbers(item) else item for item in values.tolist()]
        tensor = torch.from_numpy(values)
        if self._device is None:
            return tensor
        if self._device.type == "cuda":
            return tensor.pin_memory().to(self._device, non_blocking=True)
        return tensor.to(self._device)


def _is_numbers(item: object) -> bool:
    return isinstance(item, np.ndarray) and item.dtype != object
