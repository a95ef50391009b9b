"""How fast a dataset is loaded, and what slows it down."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ..errors import PenstockError
from .dataset import Dataset

ADAPTERS = ("numpy", "torch", "jax", "tf")


@dataclass(frozen=True)
class Rate:
    """What was measured of one way to load.

    Attributes:
      name: The adapter, and what of the graph was applied.
      examples: Examples a second.
      bytes: Bytes of batches a second.
      cores: Cores that were at work.
      problem: Why it was not measured; else empty.
    """

    name: str
    examples: float
    bytes: float
    cores: float
    problem: str = ""

    def to_json(self) -> dict[str, Any]:
        """As a dict."""
        return asdict(self)


def measure(
    name: str, make: Callable[[], Iterable[Mapping[str, Any]]], seconds: float, clock: Callable[[], float]
) -> Rate:
    """Iterates over batches for about some seconds, after a first batch that is not counted."""
    batches = iter(make())
    next(batches)
    examples = size = 0
    cpu, start = time.process_time(), clock()
    elapsed = 0.0
    while elapsed < seconds:
        batch = next(batches)
        examples += len(next(iter(batch.values())))
        size += sum(_size(values) for values in batch.values())
        elapsed = clock() - start
    used = time.process_time() - cpu
    if hasattr(batches, "close"):
        batches.close()
    return Rate(name, examples / elapsed, size / elapsed, used / elapsed)


def _size(values: Any) -> int:
    if isinstance(values, np.ndarray) and values.dtype.hasobject:
        values = values.tolist()
    if isinstance(values, list):  # strings, or lists of any length
        return sum(len(value) if isinstance(value, bytes) else value.nbytes for value in values)
    if hasattr(values, "nbytes"):
        return int(values.nbytes)
    shape, dtype = values.shape, values.dtype  # TensorFlow's tensors
    return int(shape.num_elements() or 0) * int(getattr(dtype, "size", 0))


def rates(
    dataset: Dataset,
    split: str,
    adapters: Iterable[str],
    batch_size: int = 64,
    threads: int | None = None,
    seconds: float = 3.0,
    clock: Callable[[], float] = time.perf_counter,
) -> Iterator[Rate]:
    """Measures reading alone, where a disk is read, then each adapter, without features and with them.

    Args:
      dataset: The dataset.
      split: The split's name.
      adapters: Of `ADAPTERS`; of one that cannot be measured, the problem is told.
      batch_size: Examples in a batch.
      threads: Decoding threads; None: one a core, but no more than pay.
      seconds: How long each is measured.
      clock: Tells seconds.
    """
    source = dataset.source(split)

    def read() -> Iterator[dict[str, Any]]:
        records = source.records
        numbers = dataset.numpy(split, batch_size, shuffle=True, features=False, repeat=None)
        for step in numbers.steps():
            examples = numbers.order.examples(step.epoch, step.positions).tolist()
            yield {"records": [records[number] for number in examples]}

    if (
        source.has_records and not dataset.remote
    ):  # from a store, loaders read ahead, and this would wait for each record
        yield measure("read alone, one thread", read, seconds, clock)
    for adapter in adapters:
        for features in (False, True):
            name = f"{adapter}, {'features' if features else 'decoded'}"
            options = {"shuffle": True, "repeat": None, "threads": threads, "features": features}

            def make(adapter: str = adapter, options: dict[str, Any] = options) -> Iterable[Mapping[str, Any]]:
                return getattr(dataset, adapter)(split, batch_size, **options)  # type: ignore[no-any-return]

            try:
                yield measure(name, make, seconds, clock)
            except (ImportError, PenstockError) as error:
                yield Rate(name, 0.0, 0.0, 0.0, str(error))


def bottleneck(measured: Iterable[Rate], threads: int, remote: bool = False) -> str:
    """What slows loading down, in words, from what `rates` gave.

    Args:
      measured: The rates.
      threads: How many threads loaded.
      remote: Whether the dataset is in a store.
    """
    by_name = {rate.name: rate for rate in measured if not rate.problem}
    read, decoded = by_name.get("read alone, one thread"), by_name.get("numpy, decoded")
    featured = by_name.get("numpy, features")
    if decoded is None:
        return "unknown: measure the numpy adapter, too"
    if read and read.cores < 0.6 and read.examples < 2 * decoded.examples:
        return "the storage: reading waits for it; bring the data nearer, or load with more threads"
    if remote and decoded.cores < 0.6 * threads:
        return (
            f"the store, or other work on this machine: {threads} threads used {decoded.cores:.1f} cores; load "
            "with a cache_dir that has room for the split, which later epochs are read from, or in the store's region"
        )
    if decoded.cores < 0.6 * threads:
        return f"other work on this machine: {threads} threads got {decoded.cores:.1f} cores; measure when it is idle"
    if featured is not None and featured.examples < 0.6 * decoded.examples:
        return (
            "the features on the CPU: apply the device's part on the device (ds.torch(device=...), ds.jax(...), or "
            "features='host' and ds.transform.device)"
        )
    if read and decoded.examples < 0.5 * read.examples:
        return (
            "decoding: use more cores, more processes where threads leave some (a DataLoader's workers), cache=True, "
            "smaller images, or store pixels raw (encode=image.raw())"
        )
    return "nothing in particular: reading and decoding take about the same time"
