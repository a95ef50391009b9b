"""What a recipe's `features` asks of `inputs.statistics`, and the tensors that it is given."""

import os
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from ...transforms.counts import Counts, Quantiles
from ...transforms.inputs import DeferredMoments
from ...transforms.moments import GroupedMoments, Moments
from ..formats.features import Feature
from ..prepare.summaries import Summaries, SummarySpec

Arrays = Sequence[np.ndarray]


class StatisticRequest(ABC):
    """A statistic that was asked for."""

    @property
    @abstractmethod
    def summary_spec(self) -> SummarySpec:
        """The summary that answers it."""

    @property
    @abstractmethod
    def tensor_specs(self) -> list[tf.TensorSpec]:
        """What its tensors are; a size is None where only the data tells it."""

    @abstractmethod
    def values(self, summaries: Summaries) -> Arrays:
        """What they hold."""


@dataclass(frozen=True)
class WholeRequest(StatisticRequest):
    """The moments of a column."""

    column: str

    @property
    def summary_spec(self) -> SummarySpec:
        return SummarySpec("moments", self.column)

    @property
    def tensor_specs(self) -> list[tf.TensorSpec]:
        return [tf.TensorSpec([], tf.float64)] * len(DeferredMoments._fields)

    def values(self, summaries: Summaries) -> Arrays:
        moments: Any = summaries.get(self.summary_spec) or Moments()
        return [np.array(value, np.float64) for value in moments.as_floats()]


@dataclass(frozen=True)
class GroupedRequest(StatisticRequest):
    """The moments of a column by the values of another."""

    column: str
    key: str

    @property
    def summary_spec(self) -> SummarySpec:
        return SummarySpec("grouped", self.column, self.key)

    @property
    def tensor_specs(self) -> list[tf.TensorSpec]:
        return [tf.TensorSpec([None], dtype) for dtype in (tf.string, tf.float64, tf.float64)]

    def values(self, summaries: Summaries) -> Arrays:
        by_key: Any = summaries.get(self.summary_spec) or GroupedMoments()
        found = by_key.results()
        mean, std = [moments.mean for moments in found], [moments.std for moments in found]
        return [np.array(by_key.keys(), object), np.array(mean, np.float64), np.array(std, np.float64)]


@dataclass(frozen=True)
class QuantilesRequest(StatisticRequest):
    """The boundaries between equally full buckets."""

    column: str
    buckets: int
    epsilon: float

    @property
    def summary_spec(self) -> SummarySpec:
        return SummarySpec("quantiles", self.column, epsilon=self.epsilon)

    @property
    def tensor_specs(self) -> list[tf.TensorSpec]:
        return [tf.TensorSpec([self.buckets - 1], tf.float64)]

    def values(self, summaries: Summaries) -> Arrays:
        sketch: Any = summaries.get(self.summary_spec) or Quantiles(self.epsilon)
        return [np.array(sketch.boundaries(self.buckets), np.float64)]


@dataclass(frozen=True)
class FrequenciesRequest(StatisticRequest):
    """How often each value of a column occurs."""

    column: str

    @property
    def summary_spec(self) -> SummarySpec:
        return SummarySpec("counts", self.column)

    @property
    def tensor_specs(self) -> list[tf.TensorSpec]:
        return [tf.TensorSpec([None], tf.string), tf.TensorSpec([None], tf.int64)]

    def values(self, summaries: Summaries) -> Arrays:
        counts: Any = summaries.get(self.summary_spec) or Counts()
        found = counts.top()
        return [np.array([value for value, _ in found], object), np.array([number for _, number in found], np.int64)]


@dataclass(frozen=True)
class HistogramRequest(StatisticRequest):
    """How often each value of an image's pixels occurs."""

    column: str
    channels: int

    @property
    def summary_spec(self) -> SummarySpec:
        return SummarySpec("histogram", self.column)

    @property
    def tensor_specs(self) -> list[tf.TensorSpec]:
        return [tf.TensorSpec([self.channels, 256], tf.int64)]

    def values(self, summaries: Summaries) -> Arrays:
        histogram: Any = summaries.get(self.summary_spec)
        return [histogram.counts if histogram else np.zeros([self.channels, 256], np.int64)]


@dataclass(frozen=True)
class VocabularyRequest(StatisticRequest):
    """The vocabulary of a column: its tensor is the number of its lines; its file has its path from `write`."""

    column: str
    top_k: int | None
    min_count: int

    @property
    def summary_spec(self) -> SummarySpec:
        return SummarySpec("counts", self.column)

    @property
    def tensor_specs(self) -> list[tf.TensorSpec]:
        return [tf.TensorSpec([], tf.int64)]

    def values(self, summaries: Summaries) -> Arrays:
        return [np.array(len(self._lines(summaries)), np.int64)]

    def write(self, summaries: Summaries, folder: str, taken: Sequence[str] = ()) -> str:
        """Writes the file, a token a line, into a folder, under a name not yet taken there; returns its path.

        `tft.TFTransformOutput.vocabulary_by_name` finds it by its name.
        """
        limits = f"_top{self.top_k}" * (self.top_k is not None) + f"_min{self.min_count}" * (self.min_count > 1)
        path = os.path.join(folder, re.sub(r"\W", "_", self.column) + limits)
        while path in taken:  # `a-b` and `a_b` are two columns
            path += "_"
        tf.io.gfile.makedirs(folder)
        with tf.io.gfile.GFile(path, "wb") as file:
            file.write(b"".join(token + b"\n" for token in self._lines(summaries)))
        return path

    def _lines(self, summaries: Summaries) -> Sequence[bytes]:
        counts: Any = summaries.get(self.summary_spec) or Counts()
        return list(counts.vocabulary(self.top_k, self.min_count).lines)


class RequestedStatistics(ABC):
    """Answers `inputs.statistics`; see `transforms.inputs.Statistics`. Where the answers come from, subclasses say."""

    def __init__(self, features: Mapping[str, Feature]) -> None:
        self._features = features

    @abstractmethod
    def give(self, request: StatisticRequest) -> Sequence[Any]:
        """A request's tensors."""

    @abstractmethod
    def path(self, vocabulary: VocabularyRequest) -> Any:
        """The tensor of the path of a vocabulary's file."""

    def moments(self, name: str) -> DeferredMoments:
        """See `transforms.inputs.Statistics`."""
        return DeferredMoments(*self.give(WholeRequest(self._column(name))))

    def grouped_moments(self, name: str, key: str) -> tuple[Any, Any, Any]:
        """See `transforms.inputs.Statistics`."""
        keys, mean, std = self.give(GroupedRequest(self._column(name), self._column(key)))
        return keys, mean, std

    def quantiles(self, name: str, num_buckets: int, epsilon: float) -> Any:
        """See `transforms.inputs.Statistics`."""
        (boundaries,) = self.give(QuantilesRequest(self._column(name), num_buckets, epsilon))
        return boundaries

    def vocabulary(self, name: str, top_k: int | None, min_count: int) -> tuple[Any, Any]:
        """See `transforms.inputs.Statistics`."""
        request = VocabularyRequest(self._column(name), top_k, min_count)
        (size,) = self.give(request)
        return self.path(request), size

    def frequencies(self, name: str) -> tuple[Any, Any]:
        """See `transforms.inputs.Statistics`."""
        values, counts = self.give(FrequenciesRequest(self._column(name)))
        return values, counts

    def histogram(self, name: str) -> Any:
        """See `transforms.inputs.Statistics`."""
        images = {key: value for key, value in self._features.items() if value.is_pixels and value.dtype == "uint8"}
        if name not in images:
            raise ValueError(f"expected the name of a uint8 image, one of {sorted(images)}, found {name!r}")
        (counts,) = self.give(HistogramRequest(name, images[name].pixel_shape[-1]))
        return counts

    def _column(self, name: str) -> str:
        columns = sorted(key for key, feature in self._features.items() if not feature.is_pixels)
        if name not in columns:
            raise ValueError(
                f"expected the name of a raw column, one of {columns}, found {name!r}; "
                "for what `features` computes itself, use tft.* functions"
            )
        return name


class RecordingStatistics(RequestedStatistics):
    """Stands in while `features` is traced for the first time, and keeps what it asks for."""

    def __init__(self, features: Mapping[str, Feature]) -> None:
        super().__init__(features)
        self.requests: dict[StatisticRequest, None] = {}

    def give(self, request: StatisticRequest) -> Sequence[Any]:
        self.requests[request] = None
        return [tf.raw_ops.Placeholder(dtype=spec.dtype, shape=spec.shape) for spec in request.tensor_specs]

    def path(self, vocabulary: VocabularyRequest) -> Any:
        return tf.raw_ops.Placeholder(dtype=tf.string, shape=[])


class KnownStatistics(RequestedStatistics):
    """Gives constants, when the pass over the data is done."""

    def __init__(self, features: Mapping[str, Feature], summaries: Summaries, folder: str) -> None:
        """Answers from summaries; vocabularies' files are put into a folder, from where a SavedModel takes them."""
        super().__init__(features)
        self._summaries = summaries
        self._folder = folder
        self._paths: dict[VocabularyRequest, str] = {}

    def give(self, request: StatisticRequest) -> Sequence[Any]:
        values = request.values(self._summaries)
        return [tf.constant(value, spec.dtype) for value, spec in zip(values, request.tensor_specs, strict=True)]

    def path(self, vocabulary: VocabularyRequest) -> Any:
        if vocabulary not in self._paths:
            self._paths[vocabulary] = vocabulary.write(self._summaries, self._folder, list(self._paths.values()))
        with tf.init_scope():  # tables are made of files outside of the traced function, and the SavedModel holds these
            path = tf.constant(self._paths[vocabulary])
        tf.compat.v1.get_default_graph().add_to_collection(tf.compat.v1.GraphKeys.ASSET_FILEPATHS, path)
        return path
