"""tf.Transform's analyzers without Beam: each reduces the batches of a unit, the units' results are merged in order.

An analyzer is a graph of operations (`tensorflow_transform.nodes`). Those at its beginning, which are given batches,
are `Reduction`s here: their accumulators are what a unit leaves. What follows is computed from the merged accumulators,
by `Evaluator`. tf.Transform's own implementations (`beam.analyzer_impls`) are the reference for both.
"""

import hashlib
import heapq
import itertools
import operator
import os
import pickle
from abc import ABC, abstractmethod
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import apache_beam as beam
import numpy as np
import tensorflow as tf
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from tensorflow_transform import analyzer_nodes, analyzers, nodes, tf_utils
from tensorflow_transform.beam import analyzer_impls
from tensorflow_transform.beam.experimental import PTransformAnalyzer

from ..prepare.summaries import Summaries
from .accumulators import decode
from .deferred_statistics import StatisticAnalyzer

Batch = tuple[np.ndarray, ...]
Accumulator = Any
_ORDERING = analyzers._VocabOrderingType
_INFORMATION = (_ORDERING.MUTUAL_INFORMATION, _ORDERING.WEIGHTED_MUTUAL_INFORMATION)


class Reduction(ABC):
    """The beginning of an analyzer: takes batches in, gives an accumulator out."""

    @abstractmethod
    def create(self) -> Accumulator:
        """The accumulator of no batches."""

    @abstractmethod
    def add(self, accumulator: Accumulator, batch: Batch) -> Accumulator:
        """The accumulator with one more batch; the old one may be changed."""

    @abstractmethod
    def merge(self, first: Accumulator, second: Accumulator) -> Accumulator:
        """The accumulator of the batches of both; either may be changed."""

    def compact(self, accumulator: Accumulator) -> Accumulator:
        """The same accumulator, in less memory."""
        return accumulator

    def is_order_free(self, dtypes: Sequence[tf.DType]) -> bool:
        """Whether what it comes to has the same bits however examples are ordered, and grouped in batches and units.

        Args:
          dtypes: Of the tensors that it is given.
        """
        return False


class Combine(Reduction):
    """A combiner over all batches."""

    def __init__(self, combiner: analyzer_nodes.Combiner) -> None:
        self.combiner = combiner

    def create(self) -> Accumulator:
        return self.combiner.create_accumulator()

    def add(self, accumulator: Accumulator, batch: Batch) -> Accumulator:
        return self.combiner.add_input(accumulator, batch)

    def merge(self, first: Accumulator, second: Accumulator) -> Accumulator:
        return self.combiner.merge_accumulators([first, second])

    def compact(self, accumulator: Accumulator) -> Accumulator:
        return self.combiner.compact(accumulator)

    def is_order_free(self, dtypes: Sequence[tf.DType]) -> bool:
        """Sums of 64-bit integers: those of fewer bits may overflow within a batch, and floats are rounded."""
        is_sum = isinstance(self.combiner, analyzers.NumPyCombiner) and _is_sum(self.combiner)
        return is_sum and all(dtype in (tf.int64, tf.uint64) for dtype in dtypes)


class Maximum(Reduction):
    """The maxima of all batches. tf.Transform's own forgets a batch whose first maximum is what it starts with."""

    def create(self) -> Accumulator:
        return []

    def add(self, accumulator: Accumulator, batch: Batch) -> Accumulator:
        return [np.maximum(*both) for both in zip(accumulator, batch, strict=True)] if accumulator else list(batch)

    def merge(self, first: Accumulator, second: Accumulator) -> Accumulator:
        return self.add(first, second)

    def is_order_free(self, dtypes: Sequence[tf.DType]) -> bool:
        """Always: TensorFlow's maximum of a batch is NaN where a value is, and `_extract` knows one 0 and one NaN."""
        return True


class CombinePerKey(Reduction):
    """A combiner over the rows of each key."""

    def __init__(self, combiner: analyzer_nodes.Combiner) -> None:
        self._combine = _combination(combiner)

    def create(self) -> Accumulator:
        return {}

    def add(self, accumulator: Accumulator, batch: Batch) -> Accumulator:
        for key, values in analyzer_impls._split_inputs_by_key(batch):
            before = accumulator[key] if key in accumulator else self._combine.create()
            accumulator[key] = self._combine.add(before, values)
        return accumulator

    def merge(self, first: Accumulator, second: Accumulator) -> Accumulator:
        return _merge_dicts(first, second, self._combine.merge)

    def compact(self, accumulator: Accumulator) -> Accumulator:
        return {key: self._combine.compact(value) for key, value in accumulator.items()}

    def is_order_free(self, dtypes: Sequence[tf.DType]) -> bool:
        """As without keys, but for maxima of floats: in TensorFlow's of a key, NaN counts where it comes last."""
        return all(dtype.is_integer for dtype in dtypes[1:]) and self._combine.is_order_free(dtypes[1:])


class CountTokens(Reduction):
    """What a vocabulary is made of: the number of each token's occurrences, or the sum of their weights."""

    def __init__(self, ordering: int) -> None:
        self._ordering = ordering
        self._merge: Callable[[Any, Any], Any] = operator.add
        self._pairs = analyzer_impls._flatten_value_and_weights_to_list_of_tuples
        if ordering == _ORDERING.WEIGHTED_LABELS:
            self._pairs = analyzer_impls._flatten_value_and_labeled_weights_to_list_of_tuples
            self._merge = lambda first, second: analyzer_impls.sum_labeled_weights([first, second])
        elif ordering == _ORDERING.FREQUENCY:
            self._pairs = _count_values

    def create(self) -> Accumulator:
        return {}

    def add(self, accumulator: Accumulator, batch: Batch) -> Accumulator:
        return _merge_pairs(accumulator, self._pairs(batch), self._merge)

    def merge(self, first: Accumulator, second: Accumulator) -> Accumulator:
        return _merge_dicts(first, second, self._merge)

    def is_order_free(self, dtypes: Sequence[tf.DType]) -> bool:
        """Where it counts: weights are floats. Whatever is made of the tokens sorts them."""
        return bool(self._ordering == _ORDERING.FREQUENCY)


class CountLabelsOfTokens(Reduction):
    """What a vocabulary by mutual information is made of: the mean weight of each label beside each token."""

    def __init__(self, weighted: bool) -> None:
        self._weighted = weighted
        self.combine = analyzer_impls._WeightedMeanCombineFn(output_shape=(None,), compute_weighted=weighted)

    def create(self) -> Accumulator:
        return {}

    def add(self, accumulator: Accumulator, batch: Batch) -> Accumulator:
        pairs = analyzer_impls._flatten_to_key_and_means_accumulator_list(batch, self._weighted)
        for token, value in pairs:
            before = accumulator[token] if token in accumulator else self.combine.create_accumulator()
            accumulator[token] = self.combine.add_input(before, value)
        return accumulator

    def merge(self, first: Accumulator, second: Accumulator) -> Accumulator:
        return _merge_dicts(first, second, lambda *both: self.combine.merge_accumulators(both))


class KeepBatches(Reduction):
    """What a Beam transform of the recipe's own is given: every batch."""

    def create(self) -> Accumulator:
        return []

    def add(self, accumulator: Accumulator, batch: Batch) -> Accumulator:
        accumulator.append(batch)
        return accumulator

    def merge(self, first: Accumulator, second: Accumulator) -> Accumulator:
        return []  # they are read again, unit by unit, where the transform is run


def _merge_dicts(first: Any, second: Any, merge: Callable[[Any, Any], Any]) -> Any:
    return _merge_pairs(first, second.items(), merge)


def _merge_pairs(merged: Any, pairs: Iterable[tuple[Any, Any]], merge: Callable[[Any, Any], Any]) -> Any:
    for key, value in pairs:
        merged[key] = merge(merged[key], value) if key in merged else value
    return merged


def _count_values(batch: Batch) -> Iterable[tuple[Any, int]]:
    """Each value of a batch once, in the order of their first occurrences, and how often it occurs."""
    return Counter(analyzer_impls._flatten_value_to_list(batch)).items()


def _is_sum(combiner: analyzers.NumPyCombiner) -> bool:
    return getattr(combiner._fn, "func", None) is np.sum


def _is_maximum(combiner: analyzer_nodes.Combiner) -> bool:
    return isinstance(combiner, analyzers.NumPyCombiner) and combiner._fn is np.max


def _combination(combiner: analyzer_nodes.Combiner) -> Reduction:
    return Maximum() if _is_maximum(combiner) else Combine(combiner)


def _reduction(operation: Any) -> Reduction | None:
    """How an operation reduces batches; None: it is none that is given any."""
    if isinstance(operation, analyzer_nodes.CacheableCombineAccumulate):
        return _combination(operation.combiner)
    if isinstance(operation, analyzer_nodes.CacheableCombinePerKeyAccumulate):
        return CombinePerKey(operation.combiner)
    if isinstance(operation, analyzer_nodes.PTransform):
        return KeepBatches()
    if not isinstance(operation, analyzer_nodes.VocabularyAccumulate):
        return None
    if operation.vocab_ordering_type in _INFORMATION:
        return CountLabelsOfTokens(operation.vocab_ordering_type == _ORDERING.WEIGHTED_MUTUAL_INFORMATION)
    return CountTokens(operation.vocab_ordering_type)


class _Collector(nodes.Visitor):
    """Collects the reductions of analyzers, and the tensors that each is given."""

    def __init__(self) -> None:
        self.reductions: dict[str, tuple[Reduction, Sequence[tf.Tensor]]] = {}

    def visit(self, operation: Any, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        if isinstance(operation, analyzer_nodes.TensorSource):
            return (operation.tensors,)
        given = [tensors for tensors in inputs if tensors is not None]
        if given:
            reduction = _reduction(operation)
            if reduction is None:
                raise ValueError(f"expected an analyzer of tft.*, found {operation.label}")
            self.reductions[operation.label] = reduction, given[0]
        elif type(operation) not in EVALUATED:
            raise ValueError(f"expected an analyzer of tft.*, found {operation.label}")
        outputs: int = operation.num_outputs
        return (None,) * outputs

    def validate_value(self, value: Any) -> None:
        pass


def collect_reductions(futures: Iterable[nodes.ValueNode]) -> dict[str, tuple[Reduction, Sequence[tf.Tensor]]]:
    """The reductions of analyzers by their labels, which are unlike one another, and the tensors that each is given.

    Raises:
      ValueError: an analyzer is unknown.
    """
    collector = _Collector()
    traverser = nodes.Traverser(collector)
    for future in futures:
        traverser.visit_value_node(future)
    return collector.reductions


class Evaluator(nodes.Visitor):
    """Computes what analyzers give, from the merged accumulators of their reductions."""

    def __init__(
        self,
        graph: tf.Graph,
        names: Mapping[str, str],
        accumulators: Mapping[str, Accumulator],
        units: Sequence[Callable[[], bytes]],
        summaries: Summaries,
        folder: str,
    ) -> None:
        """Starts with nothing computed.

        Args:
          graph: The graph of `features`, in which the analyzers are.
          names: The label of each reduction in the graph to its name among accumulators.
          accumulators: The merged accumulators; those of no data may be missing.
          units: Read the encoded accumulators of each unit.
          summaries: The merged summaries of the statistics' split.
          folder: A local folder for the files that analyzers write.
        """
        self._graph = graph
        self._names = names
        self._accumulators = accumulators
        self._units = units
        self._summaries = summaries
        self._folder = folder
        self._transforms = 0
        self._paths: list[str] = []  # of our own vocabularies

    def validate_value(self, value: Any) -> None:
        pass

    def visit(self, operation: Any, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        if isinstance(operation, analyzer_nodes.TensorSource):
            return (None,)
        if isinstance(operation, analyzer_nodes.PTransform):
            return self._run_transform(operation, inputs)
        reduction = _reduction(operation)
        if reduction is not None:
            return (self._accumulators.get(self._names[operation.label], reduction.create()),)
        inputs = tuple(single(value) for value in inputs)
        return tuple(EVALUATED[type(operation)](self, operation, *inputs))

    def combined(self, operation: Any, accumulator: Accumulator) -> Any:
        yield _extract(operation.combiner, accumulator)

    def combined_outputs(self, operation: Any, outputs: Any) -> Any:
        if len(outputs) != operation.num_outputs:
            raise ValueError(f"{operation.label}: expected {operation.num_outputs} outputs, found {len(outputs)}")
        return outputs

    def combined_per_key(self, operation: Any, accumulators: Mapping[Any, Accumulator]) -> Any:
        yield [(key, _extract(operation.combiner, value)) for key, value in accumulators.items()]

    def by_keys(self, operation: Any, pairs: Any) -> Any:
        dtypes = [info.dtype for info in operation.combiner.output_tensor_infos()]
        return [output.value for output in analyzer_impls._merge_outputs_by_key(pairs, dtypes)]

    def in_words_per_key(self, operation: Any, pairs: Any) -> Any:
        to_text = tf.compat.as_str_any
        yield [(to_text(",".join(map(to_text, values))), key) for key, values in pairs]

    def joined_boundaries(self, operation: Any, matrix: np.ndarray) -> Any:
        return analyzer_impls._join_boundary_rows(matrix)

    def flattened(self, operation: Any, values: Any) -> Any:
        yield [tuple(value) for value in values]

    def ranked(self, operation: Any, tokens: Mapping[Any, Any]) -> Any:
        """What tokens are ordered by, and the tokens."""
        if operation.vocab_ordering_type not in _INFORMATION:
            yield [(value, token) for token, value in tokens.items()]
            return
        weighted = operation.vocab_ordering_type == _ORDERING.WEIGHTED_MUTUAL_INFORMATION
        combine = CountLabelsOfTokens(weighted).combine
        means = {token: _twice_rounded(combine, value) for token, value in tokens.items()}
        sentinels = (tf_utils.GLOBAL_Y_COUNT_SENTINEL_STRING, tf_utils.GLOBAL_Y_COUNT_SENTINEL_INT)
        of_all = [means.pop(sentinel) for sentinel in sentinels if sentinel in means]
        least = operation.min_diff_from_avg
        if least is None and of_all:
            least = analyzers.calculate_recommended_min_diff_from_avg(of_all[0].count * of_all[0].weight)
        adjusted = operation.use_adjusted_mutual_info
        rank = analyzer_impls._calculate_mutual_information_for_feature_value
        results = [rank(item, of_all[0], adjusted, least) for item in means.items()]
        yield [((information, frequency), token) for token, (information, _, frequency) in results]

    def counted(self, operation: Any, tokens: Sequence[Any]) -> Any:
        yield np.int64(max(len(tokens), 1))  # an empty vocabulary has one line that stands for nothing

    def pruned(self, operation: Any, ranked: Sequence[Any]) -> Any:
        thresholds = operation.frequency_threshold, operation.informativeness_threshold
        kept = _above(ranked, *thresholds, operation.input_dtype)
        if operation.top_k is not None:
            kept = heapq.nlargest(operation.top_k, kept)
            kept = analyzer_impls.maybe_add_empty_vocabulary_dummy(kept, operation.input_dtype)
        if operation.key_fn:
            thresholds = operation.coverage_frequency_threshold, operation.coverage_informativeness_threshold
            covered = _above(ranked, *thresholds, operation.input_dtype)
            if operation.coverage_top_k is not None:
                by_key = defaultdict(list)
                for value, token in covered:
                    by_key[operation.key_fn(token)].append((value, token))
                covered = [each for of in by_key.values() for each in heapq.nlargest(operation.coverage_top_k, of)]
            kept = list(dict.fromkeys([*kept, *covered]))
        yield kept

    def reserved_tokens(self, operation: Any) -> Any:
        yield tf_utils.fetch_vocabulary_reserved_tokens(self._graph, operation.name)

    def written(self, operation: Any, ranked: Sequence[Any], reserved: Sequence[bytes] | None = None) -> Any:
        """Writes a vocabulary; gives its path."""
        lines = list(ranked)
        if reserved is not None:
            taken = set(reserved)
            lines = [line for line in lines if line[1] not in taken]
        if operation.fingerprint_shuffle:
            lines.sort(key=lambda line: hashlib.sha1(line[1]).digest())
        elif reserved is not None or not operation.input_is_sorted:
            lines.sort(reverse=True)
        lines[:0] = [(-1, token) for token in (() if reserved is None else reserved)]
        lines = analyzer_impls.maybe_add_empty_vocabulary_dummy(lines, operation.input_dtype)
        to_bytes = analyzer_impls._count_and_token_to_bytes
        path = os.path.join(self._folder, operation.vocab_filename)
        texts = (to_bytes(*line) if operation.store_frequency else bytes(line[1]) for line in lines)
        yield np.array(_write_vocabulary(path, operation.file_format, texts))

    def statistic(self, operation: StatisticAnalyzer) -> Any:
        values = operation.evaluate(self._summaries, os.path.join(self._folder, "statistics"), self._paths)
        self._paths += [str(value) for value in values[len(operation.request.tensor_specs) :]]
        return values

    def _run_transform(self, operation: Any, inputs: tuple[Any, ...]) -> tuple["_Elements", ...]:
        """Runs a Beam transform of the recipe's own, in this process, over all batches or over another's results."""
        self._transforms += 1
        folder = os.path.join(self._folder, f"transform-{self._transforms}")
        os.makedirs(folder)
        transform = operation.ptransform
        if isinstance(transform, PTransformAnalyzer):
            transform.base_temp_dir = folder
        given = inputs[0]
        read = _Batches(self._units, self._names[operation.label]) if given is None else given
        files = [os.path.join(folder, f"{number}.elements") for number in range(operation.num_outputs)]
        with beam.Pipeline(runner=FnApiRunner()) as pipeline:
            batches = pipeline | beam.Impulse() | "Batches" >> beam.FlatMap(lambda _: iter(read))
            outputs = batches | operation.label >> transform
            outputs = (outputs,) if isinstance(outputs, beam.PCollection) else tuple(outputs)
            for number, (file, output) in enumerate(zip(files, outputs, strict=True)):
                _ = (
                    output
                    | f"List{number}" >> beam.combiners.ToList()
                    | f"Keep{number}" >> beam.Map(_write_elements, file)
                )
        return tuple(_read_elements(file) for file in files)


class _Elements(list[Any]):
    """What came out of a Beam transform."""


class _Batches:
    """The batches that a Beam transform is given, unit by unit; one unit's are in memory at a time."""

    def __init__(self, units: Sequence[Callable[[], bytes]], name: str) -> None:
        self._units = units
        self._name = name

    def __iter__(self) -> Iterator[Batch]:
        for read in self._units:
            yield from decode(read()).get(self._name, ())


def single(value: Any) -> Any:
    """The one element where a Beam transform's output is meant."""
    if not isinstance(value, _Elements):
        return value
    if len(value) != 1:
        raise ValueError(f"expected one element from a Beam transform that analyzes, found {len(value)}")
    return value[0]


def _write_elements(elements: list[Any], path: str) -> None:
    with open(path, "wb") as file:
        pickle.dump(elements, file)


def _read_elements(path: str) -> _Elements:
    with open(path, "rb") as file:
        return _Elements(pickle.load(file))


def _extract(combiner: analyzer_nodes.Combiner, accumulator: Accumulator) -> Any:
    """What an accumulator comes to; it may be one that was read back, of tuples without names."""
    if _is_maximum(combiner):
        return combiner.extract_output([_one_zero_one_nan(value) for value in accumulator])
    merged = combiner.merge_accumulators([combiner.create_accumulator(), accumulator])
    return combiner.extract_output(combiner.compact(merged))


def _one_zero_one_nan(value: np.ndarray) -> np.ndarray:
    """Values without the zeros and NaNs that are equal and differ in their bits: which is left follows the order."""
    if value.dtype.kind != "f":
        return value
    return np.where(np.isnan(value), np.asarray(np.nan, value.dtype), value + np.asarray(0, value.dtype))


def _twice_rounded(combine: Any, accumulator: Accumulator) -> Any:
    """A token's means, rounded to float32 before and after the merge, as tf.Transform does."""
    for _ in range(2):
        merged = combine.merge_accumulators([combine.create_accumulator(), accumulator])
        accumulator = combine.extract_output(merged)
    return accumulator


def _above(ranked: Sequence[Any], frequency: float, information: float, dtype: str) -> list[Any]:
    """The tokens that reach both thresholds, as bytes, and the one number that they are ordered by.

    A frequency of 0 is no threshold: weights may be negative.
    """
    kept = []
    has_threshold = frequency > 0 or information > float("-inf")
    for value, token in ranked:
        informativeness, number = value if isinstance(value, tuple) else (float("inf"), value)
        if not has_threshold or (number >= frequency and informativeness >= information):
            kept.append((value[0] if isinstance(value, tuple) else value, token))
    if dtype == tf.string.name:
        return kept
    return [(value, tf.compat.as_bytes(tf.compat.as_str_any(token))) for value, token in kept]


def _write_vocabulary(path: str, file_format: str, lines: Iterable[bytes]) -> str:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    if file_format == "text":
        with open(path, "wb") as file:
            file.writelines(itertools.chain.from_iterable((line, b"\n") for line in lines))
        return path
    path += ".tfrecord.gz"
    with tf.io.TFRecordWriter(path, "GZIP") as writer:
        for line in lines:
            writer.write(line)
    return path


EVALUATED: dict[type, Callable[..., Any]] = {
    StatisticAnalyzer: Evaluator.statistic,
    analyzer_nodes.CacheableCombineMerge: Evaluator.combined,
    analyzer_nodes.CacheableCombinePerKeyFormatKeys: Evaluator.by_keys,
    analyzer_nodes.CacheableCombinePerKeyFormatLarge: Evaluator.in_words_per_key,
    analyzer_nodes.CacheableCombinePerKeyMerge: Evaluator.combined_per_key,
    analyzer_nodes.ExtractCombineMergeOutputs: Evaluator.combined_outputs,
    analyzer_nodes.ExtractVocabularyReservedTokens: Evaluator.reserved_tokens,
    analyzer_nodes.FlattenLists: Evaluator.flattened,
    analyzer_nodes.PTransform: Evaluator._run_transform,
    analyzer_nodes.ScaleAndFlattenPerKeyBucketBouandaries: Evaluator.joined_boundaries,
    analyzer_nodes.VocabularyCount: Evaluator.counted,
    analyzer_nodes.VocabularyMerge: Evaluator.ranked,
    analyzer_nodes.VocabularyOrderAndWrite: Evaluator.written,
    analyzer_nodes.VocabularyPrune: Evaluator.pruned,
}
