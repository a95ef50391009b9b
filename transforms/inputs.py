"""What a recipe's `features` receives."""

from collections.abc import Mapping
from typing import Any


class Inputs(dict[str, Any]):
    """Feature name to a batch of values: a dict of tensors, for use in any `tft` function.

    Attributes:
      histograms: For each uint8 image, int64 [batch, channels * 256]: how often each value occurs, the 256 counts of
        channel 0 first. Only the sum over the batch means something: a row may hold the counts of many images, or
        of none. They are there while the statistics are computed, and are in no shard.
    """

    def __init__(self, tensors: Mapping[str, Any], histograms: Mapping[str, Any] | None = None) -> None:
        super().__init__(tensors)
        self.histograms: Mapping[str, Any] = histograms or {}
