"""What the frameworks' arrays are computed with: PyTorch's way to a device, which no machine of the tests has."""

from typing import Any

import numpy as np
import pytest
from stored_datasets import constant, operation

from penstock.pipeline.graph import backends
from penstock.pipeline.graph.portable import PortableGraph


class _Device:
    def __init__(self, kind: str) -> None:
        self.type = kind


class _Tensor:
    """Notes what is asked of a tensor."""

    def __init__(self, *asked: Any) -> None:
        self.asked = asked

    def pin_memory(self) -> "_Tensor":
        return _Tensor(*self.asked, "pin_memory")

    def to(self, device: _Device, **options: Any) -> "_Tensor":
        return _Tensor(*self.asked, device, options)


def test_a_gpu_gets_tensors_from_pinned_memory_and_nobody_waits_for_it() -> None:
    gpu = _Device("cuda")
    assert backends.to_device(_Tensor(), gpu).asked == ("pin_memory", gpu, {"non_blocking": True})


def test_what_is_no_gpu_gets_tensors_as_they_are() -> None:
    cpu = _Device("cpu")
    assert backends.to_device(_Tensor(), cpu).asked == (cpu, {})


@pytest.mark.extras("torch")
@pytest.mark.parametrize("kind", ["Sub", "Maximum"])
def test_constants_go_to_the_device_as_batches_do(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    def note(tensor: Any, device: Any) -> Any:
        sent.append((tensor.tolist(), device))
        return tensor

    sent: list[Any] = []
    monkeypatch.setattr(backends, "to_device", note)
    content = {
        "format": 1,
        "inputs": {"x": {"dtype": "float32", "shape": [2]}},
        "outputs": {"y": {"value": "t0", "dtype": "float32"}},
        "constants": {"c0": constant(np.array([3, 4], np.float32))},
        "tables": {},
        "operations": [operation(kind, ["input:x", "c0"], "t0", "float32")],
        "unsupported": [],
    }
    batch = {"x": torch.tensor([[5.0, 6.0]])}
    assert PortableGraph(content, lambda path: b"").run_device(batch)["y"].shape == (1, 2)
    assert sent == [([3.0, 4.0], batch["x"].device)]
