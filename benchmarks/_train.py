"""What `train.py` measures, each command in a process of its own, by the Python that has the frameworks.

Usage: _train.py COMMAND [MODEL] SETTINGS   prints figures as JSON; SETTINGS are those of `Settings`, as JSON
"""

import json
import math
import sys
import time
from argparse import Namespace
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from itertools import islice, repeat
from pathlib import Path
from typing import Any

import numpy as np
from _loaders import cpu_seconds
from _measure import orders

from penstock import open_dataset
from penstock.pipeline.formats.manifest import SplitEntry
from penstock.pipeline.load import Dataset

COMPARED = 8  # batches
COPIES = 32  # of one batch, to the device

Batches = Iterator[tuple[Any, Any]]  # pixels [batch, channels, height, width] and labels [batch], on the device
Figures = dict[str, list[dict[str, float]]]  # by what was measured, one a round


@dataclass(frozen=True)
class Settings:
    """What all commands get.

    Attributes:
      folder: Where the datasets "jpeg", "raw" and "rows" are, and the folder "files" of JPEG files by label.
      epoch: How many images an epoch has at least: fewer are read several times.
      batch: Examples in a batch.
      warm_up: How many batches do not count.
      seconds: How long each is measured in a round, after these.
      rounds: How often all is measured.
      seed: Of the order within the rounds.
      workers: Processes of a DataLoader.
    """

    folder: str
    epoch: int
    batch: int
    warm_up: int
    seconds: float
    rounds: int
    seed: int
    workers: int

    def path(self, name: str) -> Path:
        """Where a dataset is."""
        return Path(self.folder) / name

    def dataset(self, name: str) -> Dataset:
        """A dataset, of which an epoch reads the shards as often as it takes."""
        dataset = open_dataset(self.path(name))
        train = dataset.manifest.splits["train"]
        times = -(-self.epoch // train.examples)
        splits = {"train": SplitEntry(times * train.examples, times * train.shards)}
        return Dataset(dataset.uri, replace(dataset.manifest, splits=splits))

    @property
    def options(self) -> dict[str, Any]:
        """How Penstock's batches are loaded."""
        return {"shuffle": True, "repeat": None, "drop_remainder": True}


@dataclass(frozen=True)
class Feed:
    """What gives a training step its batches.

    Attributes:
      batches: Of the settings and the device: the batches, without an end.
      bytes: How many bytes of each of a pixel's values travel to the device.
    """

    batches: Callable[[Settings, Any], Batches]
    bytes: int


def _resident(settings: Settings, device: Any) -> Batches:
    with closing(_penstock("jpeg")(settings, device)) as batches:
        return repeat(next(batches))


def _penstock(encoding: str) -> Callable[[Settings, Any], Batches]:
    def batches(settings: Settings, device: Any) -> Batches:
        loader = settings.dataset(encoding).torch("train", settings.batch, device=device, **settings.options)
        for batch in loader:
            yield batch["image"].permute(0, 3, 1, 2), batch["label"]  # which lie in memory as channels_last does

    return batches


def _penstock_processes(encoding: str) -> Callable[[Settings, Any], Batches]:
    """Penstock in a DataLoader's processes, of which each decodes in threads on two cores."""

    def batches(settings: Settings, device: Any) -> Batches:
        from torch.utils.data import DataLoader

        dataset = settings.dataset(encoding)
        loader = dataset.torch("train", settings.batch, features="host", **settings.options)
        processes = DataLoader(
            loader, batch_size=None, num_workers=max(1, settings.workers // 2), pin_memory=device.type == "cuda"
        )
        for batch in processes:
            there = {name: values.to(device, non_blocking=True) for name, values in batch.items()}
            features = dataset.transform.device(there)
            yield features["image"].permute(0, 3, 1, 2), features["label"]

    return batches


def _image_folder(normalize_on_device: bool) -> Callable[[Settings, Any], Batches]:
    """ImageFolder in a DataLoader's processes, which normalize as well, or leave that to the device."""

    def batches(settings: Settings, device: Any) -> Batches:
        import torch
        from torch.utils.data import ConcatDataset, DataLoader, RandomSampler
        from torchvision.datasets import ImageFolder
        from torchvision.transforms import Compose, Normalize, PILToTensor, ToTensor

        statistics = settings.dataset("jpeg").statistics["image"]
        mean, std = torch.tensor(statistics.mean), torch.tensor(statistics.std)
        steps = [PILToTensor()] if normalize_on_device else [ToTensor(), Normalize(mean / 255, std / 255)]
        folder = ImageFolder(str(settings.path("files")), Compose(steps))
        images = ConcatDataset([folder] * -(-settings.epoch // len(folder)))
        loader = DataLoader(
            images,
            settings.batch,
            sampler=RandomSampler(images, num_samples=1 << 40),  # epoch after epoch
            num_workers=settings.workers,
            pin_memory=device.type == "cuda",
        )
        mean, std = mean.view(-1, 1, 1).to(device), std.view(-1, 1, 1).to(device)
        for pixels, labels in loader:
            pixels = pixels.to(device, non_blocking=True).contiguous(memory_format=torch.channels_last)
            if normalize_on_device:
                pixels = (pixels.float() - mean) / std
            yield pixels, labels.to(device, non_blocking=True)

    return batches


RESIDENT = "one batch that is there"
FEEDS = {
    RESIDENT: Feed(_resident, 0),
    "Penstock, JPEG": Feed(_penstock("jpeg"), 1),
    "Penstock, raw": Feed(_penstock("raw"), 1),
    "Penstock in processes, JPEG": Feed(_penstock_processes("jpeg"), 1),
    "Penstock in processes, raw": Feed(_penstock_processes("raw"), 1),
    "ImageFolder": Feed(_image_folder(normalize_on_device=False), 4),
    "ImageFolder, normalized there": Feed(_image_folder(normalize_on_device=True), 1),
}


def train(settings: Settings, model: str) -> Figures:
    """Images a second of a training step, and the CPU seconds of an image, by what feeds it."""
    import torch

    torch.backends.cudnn.benchmark = True
    device = _device()
    step = _training_step(model, len(settings.dataset("jpeg").vocabulary("label")), device)
    return _measure_feeds(settings, FEEDS, device, step)


def load(settings: Settings) -> Figures:
    """The same of batches that come to the device, where nothing else is done with them."""
    feeds = {name: feed for name, feed in FEEDS.items() if name != RESIDENT}
    return _measure_feeds(settings, feeds, _device(), lambda pixels, labels: None)


def _measure_feeds(
    settings: Settings, feeds: Mapping[str, Feed], device: Any, step: Callable[[Any, Any], None]
) -> Figures:
    import torch

    finish = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    figures: Figures = {name: [] for name in feeds}
    for order in orders(list(feeds), Namespace(**asdict(settings))):
        for name in order:
            batches = feeds[name].batches(settings, device)
            figures[name].append(_rates(settings, batches, step, finish, feeds[name].bytes))
            del batches  # and with it its threads or processes
    return figures


def _training_step(name: str, classes: int, device: Any) -> Callable[[Any, Any], None]:
    import torch
    import torchvision

    model = getattr(torchvision.models, name)(num_classes=classes).to(device, memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)

    def step(pixels: Any, labels: Any) -> None:
        with torch.autocast(device.type, torch.bfloat16):
            loss = torch.nn.functional.cross_entropy(model(pixels), labels)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def load_jax(settings: Settings) -> Figures:
    """As `load`, by JAX."""
    import jax

    def batches(encoding: str) -> Batches:
        for batch in settings.dataset(encoding).jax("train", settings.batch, **settings.options):
            yield batch["image"], batch["label"]

    def wait(pixels: Any, _: Any) -> None:
        jax.block_until_ready(pixels)

    figures: Figures = {"Penstock, JPEG": [], "Penstock, raw": []}
    for order in orders(list(figures), Namespace(**asdict(settings))):
        for name in order:
            encoding = name.rpartition(" ")[2].lower()
            figures[name].append(_rates(settings, batches(encoding), wait, lambda: None, 1))
    return figures


def _rates(
    settings: Settings,
    batches: Batches,
    step: Callable[[Any, Any], None],
    finish: Callable[[], None],
    value_bytes: int,
) -> dict[str, float]:
    """Of the steps of some seconds: images a second, CPU seconds an image, and bytes a second to the device."""
    for pixels, labels in islice(batches, settings.warm_up):
        step(pixels, labels)
    finish()
    images, cpu, start = 0, cpu_seconds(), time.perf_counter()
    for pixels, labels in batches:
        step(pixels, labels)
        images += len(labels)
        if time.perf_counter() - start > settings.seconds:
            break
    finish()
    elapsed = time.perf_counter() - start
    size = value_bytes * math.prod(pixels.shape[1:])
    return {"images": images / elapsed, "cpu": (cpu_seconds() - cpu) / images, "bytes": size * images / elapsed}


def copy(settings: Settings) -> Figures:
    """Bytes a second of copies to the device, and the seconds that the device's part of the graph takes for a batch."""
    device = _device()
    dataset = settings.dataset("jpeg")
    (batch,) = islice(dataset.torch("train", settings.batch, features="host"), 1)
    there = {name: values.to(device) for name, values in batch.items()}
    pageable = batch["image"]
    pinned = pageable.pin_memory() if device.type == "cuda" else pageable
    figures: Figures = {"pageable": [], "pinned": [], "device's part": []}
    for _ in range(settings.rounds):
        for name, source in (("pageable", pageable), ("pinned", pinned)):
            seconds = _seconds(lambda source=source: source.to(device, non_blocking=True), device)  # type: ignore[misc]
            figures[name].append({"bytes": source.numel() / seconds})
        figures["device's part"].append({"seconds": _seconds(lambda: dataset.transform.device(there), device)})
    return figures


def _seconds(call: Callable[[], Any], device: Any) -> float:
    """What one of many calls takes, until the device has done them all."""
    import torch

    finish = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    call()
    finish()
    start = time.perf_counter()
    for _ in range(COPIES):
        call()
    finish()
    return (time.perf_counter() - start) / COPIES


@dataclass
class Comparison:
    """Outputs of a device, compared with those of NumPy.

    Attributes:
      floats: How many floats there were.
      ulps: The largest difference of any, in units of the last place of the larger one.
      others: How many other values there were: integers, ids of a vocabulary, strings.
      different: How many of these were not equal.
    """

    floats: int = 0
    ulps: float = 0.0
    others: int = 0
    different: int = 0

    def add(self, given: Any, expected: np.ndarray[Any, Any]) -> None:
        """Compares some values more."""
        values = np.asarray(given.cpu() if hasattr(given, "cpu") else given, dtype=expected.dtype)
        if values.shape != expected.shape:
            raise ValueError(f"expected values of shape {expected.shape}, found {values.shape}")
        if expected.dtype.kind != "f":
            self.others += expected.size
            self.different += int(np.count_nonzero(values != expected))
            return
        self.floats += expected.size
        unit = np.spacing(np.maximum(np.abs(values), np.abs(expected)))
        self.ulps = max(self.ulps, float(np.max(np.abs(values - expected) / unit)))


def outputs(settings: Settings, framework: str) -> dict[str, dict[str, float]]:
    """What a framework's batches on the device differ in from NumPy's, by dataset."""
    compared: dict[str, dict[str, float]] = {}
    for name in ("jpeg", "raw", "rows"):
        if not settings.path(name).exists():
            continue
        dataset, comparison = settings.dataset(name), Comparison()
        device = {"device": _device()} if framework == "torch" else {}
        load: Callable[..., Iterable[Mapping[str, Any]]] = getattr(dataset, framework)
        given = load("train", settings.batch, shuffle=True, **device)
        expected = dataset.numpy("train", settings.batch, shuffle=True)
        for one, other in islice(zip(given, expected, strict=True), COMPARED):
            for output, values in other.items():
                comparison.add(one[output], values)
        compared[name] = asdict(comparison)
    return compared


def machine(framework: str) -> dict[str, str]:
    """The device, and what computes on it."""
    if framework == "jax":
        import jax

        return {"device": jax.devices()[0].device_kind}
    import torch

    if not torch.cuda.is_available():
        return {"device": "cpu"}
    cudnn = torch.backends.cudnn.version()
    return {"device": torch.cuda.get_device_name(), "cuda": str(torch.version.cuda), "cudnn": str(cudnn)}


def _device() -> Any:
    import torch

    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


COMMANDS: dict[str, Callable[..., Any]] = {
    "train": train,
    "load": load,
    "load-jax": load_jax,
    "copy": copy,
    "outputs": outputs,
}


def main(command: str, *words: str) -> None:
    if command == "machine":
        print(json.dumps(machine(*words)))
        return
    *rest, settings = words
    print(json.dumps(COMMANDS[command](Settings(**json.loads(settings)), *rest)))


if __name__ == "__main__":
    main(*sys.argv[1:])
