"""`inputs.statistics` of a traced `features`: which requests it makes, and what answers them in which trace."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

from ...transforms.inputs import DeferredMoments
from ..formats.features import Feature
from ..prepare.summaries import Summaries
from .requests import (
    FrequenciesRequest,
    GroupedMomentsRequest,
    HistogramRequest,
    MomentsRequest,
    QuantilesRequest,
    StatisticRequest,
    VocabularyRequest,
)


class RequestedStatistics(ABC):
    """`inputs.statistics` (see `transforms.inputs.Statistics`): turns each call into a StatisticRequest.

    Its subclasses answer the requests: `RecordingStatistics` before the data was seen, `KnownStatistics` after it, and
    `analyzers.DeferredStatistics` within tf.Transform's analysis.
    """

    def __init__(self, features: Mapping[str, Feature]) -> None:
        self._features = features

    @abstractmethod
    def answer(self, request: StatisticRequest) -> Sequence[Any]:
        """A request's tensors, of the types `request.tensor_specs`."""

    @abstractmethod
    def vocabulary_path(self, vocabulary: VocabularyRequest) -> Any:
        """String scalar: the path of a vocabulary's file."""

    def moments(self, name: str) -> DeferredMoments:
        """See `transforms.inputs.Statistics`."""
        return DeferredMoments(*self.answer(MomentsRequest(self._numbers(name))))

    def grouped_moments(self, name: str, key: str) -> tuple[Any, Any, Any]:
        """See `transforms.inputs.Statistics`."""
        for column in (self._numbers(name), self._tokens(key)):
            if self._features[column].shape:
                raise ValueError(
                    f"grouped_moments: expected columns of one value in a row, found {column!r}, of several"
                )
        keys, mean, std = self.answer(GroupedMomentsRequest(name, key))
        return keys, mean, std

    def quantiles(self, name: str, num_buckets: int, epsilon: float) -> Any:
        """See `transforms.inputs.Statistics`."""
        (boundaries,) = self.answer(QuantilesRequest(self._numbers(name), num_buckets, epsilon))
        return boundaries

    def vocabulary(self, name: str, top_k: int | None, min_count: int) -> tuple[Any, Any]:
        """See `transforms.inputs.Statistics`."""
        request = VocabularyRequest(self._tokens(name), top_k, min_count)
        (size,) = self.answer(request)
        return self.vocabulary_path(request), size

    def frequencies(self, name: str) -> tuple[Any, Any]:
        """See `transforms.inputs.Statistics`."""
        values, counts = self.answer(FrequenciesRequest(self._tokens(name)))
        return values, counts

    def histogram(self, name: str) -> Any:
        """See `transforms.inputs.Statistics`."""
        images = {key: value for key, value in self._features.items() if value.is_pixels and value.dtype == "uint8"}
        if not isinstance(name, str) or name not in images:
            raise ValueError(f"expected the name of a uint8 image, one of {sorted(images)}, found {name!r}")
        (counts,) = self.answer(HistogramRequest(name, images[name].pixel_shape[-1]))
        return counts

    def _numbers(self, name: str) -> str:
        """The name of a column of numbers."""
        return self._column(name, "numbers", ("int64", "float32", "float64"))

    def _tokens(self, name: str) -> str:
        """The name of a column of what can be in a vocabulary."""
        return self._column(name, "strings or integers", ("string", "int64"))

    def _column(self, name: str, what: str, dtypes: Sequence[str]) -> str:
        feature = self._features.get(name) if isinstance(name, str) else None
        if feature is None or feature.is_pixels:
            columns = sorted(key for key, each in self._features.items() if not each.is_pixels)
            raise ValueError(
                f"expected the name of a raw column, one of {columns}, found {name!r}; "
                "for what `features` computes itself, use tft.* functions"
            )
        if feature.dtype not in dtypes:
            raise ValueError(f"expected a column of {what}, found {name!r} of {feature.dtype}; cast it in `prepare`")
        return name


class RecordingStatistics(RequestedStatistics):
    """Answers with placeholders and keeps the requests.

    For the trace before a run, which learns what `features` asks for.
    """

    def __init__(self, features: Mapping[str, Feature]) -> None:
        super().__init__(features)
        self._requests: dict[StatisticRequest, None] = {}
        self._placeholders: dict[tuple[tf.Graph, tf.TensorSpec], tf.Tensor] = {}

    @property
    def requests(self) -> tuple[StatisticRequest, ...]:
        """What was asked for, each once, in order."""
        return tuple(self._requests)

    def answer(self, request: StatisticRequest) -> Sequence[Any]:
        self._requests[request] = None
        return [self._placeholder(spec) for spec in request.tensor_specs]

    def _placeholder(self, spec: tf.TensorSpec) -> tf.Tensor:
        """What stands for every tensor of a type: operations that are traced take time."""
        key = tf.compat.v1.get_default_graph(), spec
        if key not in self._placeholders:
            self._placeholders[key] = tf.raw_ops.Placeholder(dtype=spec.dtype, shape=spec.shape)
        return self._placeholders[key]

    def vocabulary_path(self, vocabulary: VocabularyRequest) -> Any:
        return tf.raw_ops.Placeholder(dtype=tf.string, shape=[])


class KnownStatistics(RequestedStatistics):
    """Answers with constants.

    For the trace at the commit, whose graph is saved if `features` does not use tft's analyzers.
    """

    def __init__(self, features: Mapping[str, Feature], summaries: Summaries, folder: str) -> None:
        """Answers from the merged summaries of the statistics' split.

        Args:
          features: The features of a prepared example.
          summaries: The merged summaries.
          folder: Where vocabularies' files are written; the SavedModel copies them from there.
        """
        super().__init__(features)
        self._summaries = summaries
        self._folder = folder
        self._paths: dict[VocabularyRequest, str] = {}

    def answer(self, request: StatisticRequest) -> Sequence[Any]:
        pairs = list(zip(request.values(self._summaries), request.tensor_specs, strict=True))
        if any(spec.shape.rank for _, spec in pairs):
            return [tf.constant(value, spec.dtype) for value, spec in pairs]
        with tf.init_scope():  # a number is in the graph only if something there computes with it
            return [tf.constant(value, spec.dtype) for value, spec in pairs]

    def vocabulary_path(self, vocabulary: VocabularyRequest) -> Any:
        if vocabulary not in self._paths:
            self._paths[vocabulary] = vocabulary.write(self._summaries, self._folder, list(self._paths.values()))
        with tf.init_scope():  # tables are built outside of the traced function, and the SavedModel holds their files
            path = tf.constant(self._paths[vocabulary])
        tf.compat.v1.get_default_graph().add_to_collection(tf.compat.v1.GraphKeys.ASSET_FILEPATHS, path)
        return path
