"""Merged summaries of columns as tensors in the traced `features`: the pipeline's side of `inputs.statistics`.

However many statistics a recipe asks for, they are two analyzers to tf.Transform: one for numbers, one for
vocabularies. So the number of Beam stages does not grow with the number of columns.
"""

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import apache_beam as beam
import numpy as np
import tensorflow as tf
import tensorflow_transform as tft
from tensorflow_transform.beam.experimental import PTransformAnalyzer

from ..transforms.counts import NO_TOKENS, Counts, Quantiles
from ..transforms.inputs import DeferredMoments
from ..transforms.moments import GroupedMoments, Moments
from .summaries import Summaries, Wanted, decode, merge


@dataclass(frozen=True)
class Vocabulary:
    """A vocabulary that was asked for: its column, and which tokens are in it."""

    column: str
    top_k: int | None
    min_count: int

    @property
    def wanted(self) -> Wanted:
        return Wanted("counts", self.column)

    @property
    def file_name(self) -> str:
        """The asset's name, by which tft.TFTransformOutput.vocabulary_by_name finds it."""
        limits = f"_top{self.top_k}" * (self.top_k is not None) + f"_min{self.min_count}" * (self.min_count > 1)
        return re.sub(r"\W", "_", self.column) + limits


@dataclass(frozen=True)
class Boundaries:
    """Quantiles that were asked for: their column, how many buckets they divide it into, and their rank error."""

    column: str
    buckets: int
    epsilon: float

    @property
    def wanted(self) -> Wanted:
        return Wanted("quantiles", self.column, epsilon=self.epsilon)


@dataclass(frozen=True)
class Grouped:
    """Moments by the values of another column."""

    column: str
    key: str

    @property
    def wanted(self) -> Wanted:
        return Wanted("grouped", self.column, self.key)


@dataclass(frozen=True)
class Frequencies:
    """How often each value of a column occurs."""

    column: str

    @property
    def wanted(self) -> Wanted:
        return Wanted("counts", self.column)


@dataclass(frozen=True)
class Whole:
    """Moments of a whole column."""

    column: str

    @property
    def wanted(self) -> Wanted:
        return Wanted("moments", self.column)


Request = Whole | Grouped | Boundaries | Vocabulary | Frequencies


class RecordingStatistics:
    """Stands in while `features` is traced for the first time, and keeps what it asks for."""

    def __init__(self, summaries: tf.Tensor, columns: Iterable[str]) -> None:
        self._summaries = summaries
        self._columns = set(columns)
        self.requests: dict[Request, Any] = {}

    def moments(self, name: str) -> DeferredMoments:
        """See `transforms.inputs.Statistics`."""
        return DeferredMoments(*self._ask(Whole(name), [tf.float64] * 5, [[]] * 5))

    def grouped_moments(self, name: str, key: str) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """See `transforms.inputs.Statistics`."""
        self._expect(key)
        keys, mean, std = self._ask(Grouped(name, key), [tf.string, tf.float64, tf.float64], [[None]] * 3)
        return keys, mean, std

    def quantiles(self, name: str, num_buckets: int, epsilon: float) -> tf.Tensor:
        """See `transforms.inputs.Statistics`."""
        (boundaries,) = self._ask(Boundaries(name, num_buckets, epsilon), [tf.float64], [[num_buckets - 1]])
        return boundaries

    def vocabulary(self, name: str, top_k: int | None, min_count: int) -> tuple[tf.Tensor, tf.Tensor]:
        """See `transforms.inputs.Statistics`."""
        request = Vocabulary(name, top_k, min_count)
        path, size = self._ask(request, [tf.string], [[]], assets=[NO_TOKENS]) + self._size(request)
        return path, size

    def frequencies(self, name: str) -> tuple[tf.Tensor, tf.Tensor]:
        """See `transforms.inputs.Statistics`."""
        values, counts = self._ask(Frequencies(name), [tf.string, tf.int64], [[None]] * 2)
        return values, counts

    def _size(self, request: Vocabulary) -> list[tf.Tensor]:
        return _analyzer(beam.PTransform(), self._summaries, [tf.int64], [[]])

    def _ask(
        self,
        request: Request,
        dtypes: list[tf.DType],
        shapes: list[list[int | None]],
        assets: list[bytes] | None = None,
    ) -> list[tf.Tensor]:
        self._expect(request.column)
        if request not in self.requests:
            self.requests[request] = _analyzer(beam.PTransform(), self._summaries, dtypes, shapes, assets)
        return list(self.requests[request])

    def _expect(self, name: str) -> None:
        if name not in self._columns:
            raise ValueError(
                f"expected the name of a raw column, one of {sorted(self._columns)}, found {name!r}; "
                "for what `features` computes itself, use tft.* functions"
            )


class DeferredStatistics:
    """Gives the tensors that were asked for in the first trace, from two analyzers in all."""

    def __init__(self, summaries: tf.Tensor, requests: Sequence[Request]) -> None:
        self._requests = list(requests)
        whole = [request for request in requests if isinstance(request, Whole)]
        grouped = [request for request in requests if isinstance(request, Grouped)]
        bounded = [request for request in requests if isinstance(request, Boundaries)]
        vocabularies = [request for request in requests if isinstance(request, Vocabulary)]
        counted = [request for request in requests if isinstance(request, Frequencies)]
        dtypes = [tf.string, tf.float64, tf.float64] * len(grouped) + [tf.string, tf.int64] * len(counted)
        table, flat, sizes, *lists = _analyzer(
            _Numbers(whole, grouped, bounded, vocabularies, counted),
            summaries,
            [tf.float64, tf.float64, tf.int64, *dtypes],
            # tf.Transform knows no outputs of size 0, only such whose size it does not know
            [[len(whole) or None, 5], [sum(request.buckets - 1 for request in bounded) or None]]
            + [[len(vocabularies) or None]]
            + [[None]] * len(dtypes),
        )
        self._given: dict[Request, Any] = {}
        for request, row in zip(whole, tf.unstack(table) if whole else [], strict=True):
            self._given[request] = DeferredMoments(*tf.unstack(row))
        rest = iter(lists)
        for group in grouped:
            self._given[group] = (next(rest), next(rest), next(rest))
        for frequencies in counted:
            self._given[frequencies] = (next(rest), next(rest))
        start = 0
        for bounds in bounded:
            self._given[bounds] = flat[start : start + bounds.buckets - 1]
            start += bounds.buckets - 1
        if vocabularies:
            paths = _analyzer(
                _Vocabularies(vocabularies),
                summaries,
                [tf.string] * len(vocabularies),
                [[]] * len(vocabularies),
                [NO_TOKENS] * len(vocabularies),
            )
            for number, vocabulary in enumerate(vocabularies):
                self._given[vocabulary] = (paths[number], sizes[number])

    def moments(self, name: str) -> DeferredMoments:
        """See `transforms.inputs.Statistics`."""
        return self._given[Whole(name)]  # type: ignore[no-any-return]

    def grouped_moments(self, name: str, key: str) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """See `transforms.inputs.Statistics`."""
        return self._given[Grouped(name, key)]  # type: ignore[no-any-return]

    def quantiles(self, name: str, num_buckets: int, epsilon: float) -> tf.Tensor:
        """See `transforms.inputs.Statistics`."""
        return self._given[Boundaries(name, num_buckets, epsilon)]

    def vocabulary(self, name: str, top_k: int | None, min_count: int) -> tuple[tf.Tensor, tf.Tensor]:
        """See `transforms.inputs.Statistics`."""
        return self._given[Vocabulary(name, top_k, min_count)]  # type: ignore[no-any-return]


    def frequencies(self, name: str) -> tuple[tf.Tensor, tf.Tensor]:
        """See `transforms.inputs.Statistics`."""
        return self._given[Frequencies(name)]  # type: ignore[no-any-return]


def _analyzer(
    transform: beam.PTransform,
    summaries: tf.Tensor,
    dtypes: list[tf.DType],
    shapes: list[Any],
    assets: list[bytes] | None = None,
) -> list[tf.Tensor]:
    outputs = tft.experimental.ptransform_analyzer([summaries], transform, dtypes, shapes, assets)
    return list(outputs)


class _MergeFn(beam.CombineFn):
    """Encoded summaries in, all of them merged out."""

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


def _merged(batches: beam.PCollection) -> beam.PCollection:
    return (
        batches
        | "Encoded" >> beam.FlatMap(lambda batch: [bytes(value) for value in batch[0] if value])
        # bytes: the summaries of a unit
        | "Merge" >> beam.CombineGlobally(_MergeFn())
    )  # Summaries


class _Numbers(PTransformAnalyzer):
    """Batches of encoded summaries in; moments, boundaries, vocabulary sizes and grouped moments out."""

    def __init__(
        self,
        whole: list[Whole],
        grouped: list[Grouped],
        bounded: list[Boundaries],
        vocabularies: list[Vocabulary],
        counted: list[Frequencies],
    ) -> None:
        super().__init__()
        self._whole, self._grouped, self._bounded = whole, grouped, bounded
        self._vocabularies, self._counted = vocabularies, counted

    def expand(self, batches: beam.PCollection) -> Any:
        values = batches | _Merged() | "Values" >> beam.Map(self._values)
        count = 3 + 3 * len(self._grouped) + 2 * len(self._counted)
        return tuple(values | f"Value{index}" >> beam.Map(_item, index) for index in range(count))

    def _values(self, summaries: Summaries) -> list[np.ndarray]:
        rows = []
        for request in self._whole:
            moments: Any = summaries.get(request.wanted) or Moments()
            rows.append(moments.as_floats())
        flat: list[float] = []
        for bounds in self._bounded:
            sketch: Any = summaries.get(bounds.wanted) or Quantiles(bounds.epsilon)
            flat.extend(sketch.boundaries(bounds.buckets))
        sizes = [len(_tokens(summaries, vocabulary)) for vocabulary in self._vocabularies]
        values: list[Any] = [
            np.array(rows, np.float64).reshape(len(rows), 5),
            np.array(flat, np.float64),
            np.array(sizes, np.int64),
        ]
        for group in self._grouped:
            by_key: Any = summaries.get(group.wanted) or GroupedMoments()
            keys, moments_of = by_key.keys(), by_key.results()
            values += [
                np.array(keys, object),
                np.array([moment.mean for moment in moments_of], np.float64),
                np.array([moment.std for moment in moments_of], np.float64),
            ]
        for frequent in self._counted:
            counts: Any = summaries.get(frequent.wanted) or Counts()
            found = counts.top()
            values.append(np.array([value for value, _ in found], object))
            values.append(np.array([number for _, number in found], np.int64))
        return values


class _Merged(beam.PTransform):
    """`_merged`, under a name of its own."""

    def expand(self, batches: beam.PCollection) -> beam.PCollection:
        return _merged(batches)


class _Vocabularies(PTransformAnalyzer):
    """Batches of encoded summaries in; for each vocabulary the path of a file with its tokens out."""

    def __init__(self, vocabularies: list[Vocabulary]) -> None:
        super().__init__()
        self._vocabularies = vocabularies

    def expand(self, batches: beam.PCollection) -> Any:
        paths = batches | _Merged() | "Write" >> beam.Map(self._write, self.base_temp_dir)
        return tuple(paths | f"Path{index}" >> beam.Map(_item, index) for index in range(len(self._vocabularies)))

    def _write(self, summaries: Summaries, folder: str) -> list[np.ndarray]:
        tf.io.gfile.makedirs(folder)
        paths = []
        for vocabulary in self._vocabularies:
            path = os.path.join(folder, vocabulary.file_name)
            while path.encode() in paths:  # `a-b` and `a_b` are two columns
                path += "_"
            with tf.io.gfile.GFile(path, "wb") as file:
                file.write(b"".join(token + b"\n" for token in _tokens(summaries, vocabulary)))
            paths.append(np.array(path.encode(), object))
        return paths


def _tokens(summaries: Summaries, vocabulary: Vocabulary) -> list[bytes]:
    """The lines of a vocabulary's file; where it has no tokens, tf.Transform's stand-in for them."""
    counts: Any = summaries.get(vocabulary.wanted) or Counts()
    return list(counts.vocabulary(vocabulary.top_k, vocabulary.min_count).lines)


def _item(values: list[np.ndarray], index: int) -> np.ndarray:
    return values[index]
