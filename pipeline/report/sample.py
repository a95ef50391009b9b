"""A sample of the stored examples of each split, read by their numbers: never whole shards."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import DatasetError, PenstockError
from ..formats.decode import allocate
from ..formats.features import Feature
from ..graph.portable import PortableGraph
from ..load.dataset import Dataset

PIXEL_EXAMPLES = 144  # examples that are looked at where they have pixels
ROW_EXAMPLES = 4000  # and where they have none
_FEWEST = 12  # of each split, where it has so many
_RUNS = 16  # stretches of a split that they come from: neighbours in a shard are random ones, and read faster
_BATCH_BYTES = 64 << 20


@dataclass
class Batch:
    """Some examples of one split.

    Attributes:
      split: The split.
      stored: Feature name to the stored values, [examples, ...].
      outputs: The transform graph's outputs of them, [examples, ...]; empty where they are not known.
    """

    split: str
    stored: dict[str, npt.NDArray[Any]]
    outputs: dict[str, npt.NDArray[Any]]

    def __len__(self) -> int:
        return len(next(iter(self.stored.values()), ()))


def choose(sizes: Mapping[str, int], total: int) -> dict[str, list[int]]:
    """Numbers of examples to look at, from all over each split.

    Args:
      sizes: Split to how many examples it has.
      total: About how many to choose of all of them, in proportion; a small split gets a few more.

    Returns:
      Split to numbers, ascending.
    """
    examples = sum(sizes.values())
    chosen = {}
    for split, size in sizes.items():
        count = min(size, max(_FEWEST, round(total * size / max(1, examples))))
        runs = min(_RUNS, count)
        starts = [size * run // runs for run in range(runs)]
        lengths = [count * (run + 1) // runs - count * run // runs for run in range(runs)]
        chosen[split] = [start + at for start, length in zip(starts, lengths, strict=True) for at in range(length)]
    return chosen


class Sampler:
    """Reads a sample.

    Attributes:
      count: How many examples were read.
      damaged: How many could not be.
      reason: Why outputs of the transform graph are not shown, in words; empty where they are.
    """

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset
        self.count = self.damaged = 0
        self.reason = ""
        self._graph = self._open_graph()

    def _open_graph(self) -> PortableGraph | None:
        try:
            return self._dataset.transform.portable_part
        except PenstockError as error:
            self.reason = str(error)
            return None

    def batches(self) -> Iterator[Batch]:
        """The examples, split by split, a few at a time."""
        features = self._dataset.features
        has_pixels = any(feature.is_pixels for feature in features.values())
        sizes = {name: split.examples for name, split in self._dataset.splits.items()}
        step = _batch_size(features)
        for split, numbers in choose(sizes, PIXEL_EXAMPLES if has_pixels else ROW_EXAMPLES).items():
            for first in range(0, len(numbers), step):
                examples = self._read(split, numbers[first : first + step])
                if examples:
                    self.count += len(examples)
                    stored = _stack(features, examples)
                    yield Batch(split, stored, self._transform(stored))

    def _read(self, split: str, numbers: list[int]) -> list[dict[str, Any]]:
        """The examples that can be read."""
        source = self._dataset.source(split)
        try:
            return source[numbers]
        except DatasetError:
            examples = []
            for number in numbers:
                try:
                    examples.append(source[number])
                except DatasetError:
                    self.damaged += 1
            return examples

    def _transform(self, stored: dict[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
        if self._graph is None:
            return {}
        try:
            return {
                name: np.asarray(value) for name, value in self._graph.run_device(self._graph.run_host(stored)).items()
            }
        except (PenstockError, ValueError, TypeError, LookupError) as error:  # whatever an operation refuses
            self._graph, self.reason = None, str(error)
            return {}


def _batch_size(features: Mapping[str, Feature]) -> int:
    """Examples whose pixels, as float32 outputs too, do not take more memory than a batch may."""
    pixels = sum(int(np.prod(feature.pixel_shape)) for feature in features.values() if feature.is_pixels)
    return max(1, min(ROW_EXAMPLES, _BATCH_BYTES // (5 * pixels + 1)))


def _stack(features: Mapping[str, Feature], examples: list[dict[str, Any]]) -> dict[str, npt.NDArray[Any]]:
    """Examples as a batch."""
    arrays = allocate(features, len(examples))
    for name, array in arrays.items():
        for row, example in enumerate(examples):
            array[row] = example[name]
    return arrays
