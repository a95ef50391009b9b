"""Answers `inputs.statistics` in a `features` that uses tft's analyzers as well: as analyzers that read no batches.

So tf.Transform's own analysis of the graph tells which of its analyzers must wait for a statistic, and for how long.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow_transform import analyzer_nodes, nodes
from tfx_bsl.types import tfx_namedtuple

from ...transforms.counts import NO_TOKENS
from ..formats.features import Feature
from ..prepare.summaries import Summaries
from .requests import StatisticRequest, VocabularyRequest
from .statistics import RequestedStatistics

_FILE = analyzer_nodes.TensorInfo(tf.string, [], analyzer_nodes.TemporaryAssetInfo(NO_TOKENS, "text"))


class StatisticAnalyzer(
    tfx_namedtuple.namedtuple("StatisticAnalyzer", ["request", "label"]),  # type: ignore[misc]
    analyzer_nodes.AnalyzerDef,
):
    """An operation without inputs that gives a statistic's tensors; of a vocabulary the path of its file, too."""

    @property
    def output_tensor_infos(self) -> list[analyzer_nodes.TensorInfo]:
        specs = [
            analyzer_nodes.TensorInfo(spec.dtype, spec.shape.as_list(), None) for spec in self.request.tensor_specs
        ]
        return [*specs, _FILE] if isinstance(self.request, VocabularyRequest) else specs

    def evaluate(self, summaries: Summaries, folder: str, taken: Sequence[str]) -> list[Any]:
        """The values of its tensors; a vocabulary's file is written into a local folder, under a name not yet taken."""
        values = list(self.request.values(summaries))
        if isinstance(self.request, VocabularyRequest):
            values.append(np.array(self.request.write(summaries, folder, taken)))
        return values


class DeferredStatistics(RequestedStatistics):
    """Answers with the results of analyzers: tensors that tf.Transform replaces by constants once these are known.

    For every trace of a `features` that uses tft's analyzers, after the first one, which recorded the requests.
    """

    def __init__(self, features: Mapping[str, Feature], requests: Sequence[StatisticRequest]) -> None:
        """Adds the analyzers to the graph that is being traced.

        Args:
          features: The features of a prepared example.
          requests: What `features` asks for.
        """
        super().__init__(features)
        self._tensors: dict[StatisticRequest, Sequence[Any]] = {}
        for number, request in enumerate(requests):
            with tf.name_scope(f"statistic{number}"):
                outputs = nodes.apply_multi_output_operation(
                    StatisticAnalyzer, request=request, label=f"Statistic[{number}]"
                )
                self._tensors[request] = [analyzer_nodes.wrap_as_tensor(output) for output in outputs]

    def answer(self, request: StatisticRequest) -> Sequence[Any]:
        return self._tensors[request][: len(request.tensor_specs)]

    def vocabulary_path(self, vocabulary: VocabularyRequest) -> Any:
        return self._tensors[vocabulary][-1]
