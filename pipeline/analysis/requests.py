"""The statistics that a recipe's `features` can ask for: recorded in its first trace, answered from summaries."""

import os
import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from ...transforms.counts import Counts
from ...transforms.inputs import DeferredMoments
from ...transforms.moments import GroupedMoments, Moments
from ...transforms.quantiles import Quantiles
from ..prepare.summaries import Summaries, SummarySpec

Arrays = Sequence[np.ndarray]


class StatisticRequest(ABC):
    """A statistic that `features` asked for: which summary of which column has it, and as what tensors it is given."""

    @property
    @abstractmethod
    def summary_spec(self) -> SummarySpec:
        """The summary that has the answer."""

    @property
    @abstractmethod
    def tensor_specs(self) -> list[tf.TensorSpec]:
        """The types of its tensors; a size that depends on the data is None."""

    @abstractmethod
    def values(self, summaries: Summaries) -> Arrays:
        """The values of its tensors, from the merged summaries of the statistics' split."""


@dataclass(frozen=True)
class MomentsRequest(StatisticRequest):
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
class GroupedMomentsRequest(StatisticRequest):
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
        results = by_key.results()
        mean, std = [moments.mean for moments in results], [moments.std for moments in results]
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
        quantiles: Any = summaries.get(self.summary_spec) or Quantiles(self.epsilon)
        return [np.array(quantiles.boundaries(self.buckets), np.float64)]


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
        top = counts.top()
        return [np.array([value for value, _ in top], object), np.array([number for _, number in top], np.int64)]


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
    """The vocabulary of a column: its tensor is how many lines it has; `write` writes its file."""

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
