"""Answers `inputs.statistics` within tf.Transform's analysis, for a `features` that uses tft's analyzers as well.

However many statistics a recipe asks for, they are two analyzers to tf.Transform: one for values, one for the paths of
vocabularies. So the number of Beam stages does not grow with the number of columns.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import apache_beam as beam
import numpy as np
import tensorflow as tf
import tensorflow_transform as tft
from tensorflow_transform.beam.experimental import PTransformAnalyzer

from ...transforms.counts import NO_TOKENS
from ..formats.features import Feature
from ..prepare.summaries import Summaries, decode, merge
from .requests import StatisticRequest, VocabularyRequest
from .statistics import RequestedStatistics

_DTYPES = (tf.float64, tf.int64, tf.string)


class DeferredStatistics(RequestedStatistics):
    """Answers with the results of analyzers: tensors that tf.Transform replaces by constants after its pass.

    For every trace of a `features` that uses tft's analyzers, after the first one, which recorded the requests.
    """

    def __init__(
        self, features: Mapping[str, Feature], summaries: tf.Tensor, requests: Sequence[StatisticRequest]
    ) -> None:
        """Adds the analyzers to the graph that is being traced.

        Args:
          features: The features of a prepared example.
          summaries: string [batch], encoded summaries or b"".
          requests: What `features` asks for.
        """
        super().__init__(features)
        packed = _analyze(_Values(requests), summaries, [*_DTYPES, *[tf.int64] * len(_DTYPES)], [[None]] * 6)
        flat, sizes = packed[:3], packed[3:]
        parts = {
            dtype: iter(tf.split(flat[index], sizes[index], num=number) if (number := _count(requests, dtype)) else [])
            for index, dtype in enumerate(_DTYPES)
        }
        self._answers = {
            request: [_reshape(next(parts[spec.dtype]), spec) for spec in request.tensor_specs] for request in requests
        }
        vocabularies = [request for request in requests if isinstance(request, VocabularyRequest)]
        paths: list[tf.Tensor] = []
        if vocabularies:
            count = len(vocabularies)
            paths = _analyze(
                _Vocabularies(vocabularies), summaries, [tf.string] * count, [[]] * count, [NO_TOKENS] * count
            )
        self._paths = dict(zip(vocabularies, paths, strict=True))

    def answer(self, request: StatisticRequest) -> Sequence[Any]:
        return self._answers[request]

    def vocabulary_path(self, vocabulary: VocabularyRequest) -> Any:
        return self._paths[vocabulary]


def _count(requests: Sequence[StatisticRequest], dtype: tf.DType) -> int:
    return sum(spec.dtype == dtype for request in requests for spec in request.tensor_specs)


def _reshape(flat: tf.Tensor, spec: tf.TensorSpec) -> tf.Tensor:
    return tf.reshape(flat, [-1 if size is None else size for size in spec.shape])


def _analyze(
    transform: beam.PTransform,
    summaries: tf.Tensor,
    dtypes: list[tf.DType],
    shapes: list[Any],
    assets: list[bytes] | None = None,
) -> list[tf.Tensor]:
    return list(tft.experimental.ptransform_analyzer([summaries], transform, dtypes, shapes, assets))


class _MergeFn(beam.CombineFn):
    """Merges encoded summaries."""

    def create_accumulator(self) -> Summaries:
        return {}

    def add_input(self, accumulator: Summaries, element: bytes) -> Summaries:
        return merge(accumulator, decode(element))

    def merge_accumulators(self, accumulators: Iterable[Summaries]) -> Summaries:
        merged: Summaries = {}
        for accumulator in accumulators:
            merged = merge(merged, accumulator)
        return merged

    def extract_output(self, accumulator: Summaries) -> Summaries:
        return accumulator


class _MergeSummaries(beam.PTransform):
    """Batches of encoded summaries in; all of them merged out."""

    def expand(self, batches: beam.PCollection) -> beam.PCollection:
        return (
            batches
            | "Encoded" >> beam.FlatMap(lambda batch: [bytes(value) for value in batch[0] if value])
            # bytes: the summaries of a unit
            | "Merge" >> beam.CombineGlobally(_MergeFn())
        )  # Summaries


class _Values(PTransformAnalyzer):
    """Batches of encoded summaries in; for each dtype the requests' values, concatenated, out, and then their sizes."""

    def __init__(self, requests: Sequence[StatisticRequest]) -> None:
        super().__init__()
        self._requests = requests

    def expand(self, batches: beam.PCollection) -> Any:
        values = batches | _MergeSummaries() | "Values" >> beam.Map(self._values)
        return tuple(values | f"Value{index}" >> beam.Map(_item, index) for index in range(2 * len(_DTYPES)))

    def _values(self, summaries: Summaries) -> list[np.ndarray]:
        by_dtype: dict[tf.DType, list[np.ndarray]] = {dtype: [] for dtype in _DTYPES}
        for request in self._requests:
            for spec, value in zip(request.tensor_specs, request.values(summaries), strict=True):
                by_dtype[spec.dtype].append(np.ravel(value))
        flat = [np.concatenate([*parts, np.zeros(0, dtype.as_numpy_dtype)]) for dtype, parts in by_dtype.items()]
        return flat + [np.array([len(part) for part in parts], np.int64) for parts in by_dtype.values()]


class _Vocabularies(PTransformAnalyzer):
    """Batches of encoded summaries in; for each vocabulary the path of a file with its tokens out."""

    def __init__(self, vocabularies: list[VocabularyRequest]) -> None:
        super().__init__()
        self._vocabularies = vocabularies

    def expand(self, batches: beam.PCollection) -> Any:
        paths = batches | _MergeSummaries() | "Write" >> beam.Map(self._write, self.base_temp_dir)
        return tuple(paths | f"Path{index}" >> beam.Map(_item, index) for index in range(len(self._vocabularies)))

    def _write(self, summaries: Summaries, folder: str) -> list[np.ndarray]:
        paths: list[str] = []
        for vocabulary in self._vocabularies:
            paths.append(vocabulary.write(summaries, folder, paths))
        return [np.array(path.encode(), object) for path in paths]


def _item(values: list[np.ndarray], index: int) -> np.ndarray:
    return values[index]
