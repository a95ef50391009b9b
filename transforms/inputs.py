"""What a recipe's `features` receives."""

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol


class DeferredMoments(NamedTuple):
    """Moments of a column as float64 scalar tensors, of its finite values in the statistics' split.

    Attributes:
      count: How many there are.
      mean: NaN where there are none, as are the others.
      std: The population standard deviation (divided by the count).
      min: The smallest.
      max: The largest.
    """

    count: Any
    mean: Any
    std: Any
    min: Any
    max: Any


class Statistics(Protocol):
    """Full-pass statistics of the statistics' split, as tensors whose values are known once the pass is over.

    Of columns, they are of the values before these are rounded to float32; of images, of the pixels as they are stored.

    Each raises a ValueError for a name that is no raw column, or no uint8 image.
    """

    def moments(self, name: str) -> DeferredMoments:
        """The moments of a column of numbers."""

    def grouped_moments(self, name: str, key: str) -> tuple[Any, Any, Any]:
        """The moments of a column of numbers for each value of another.

        Returns:
          string [K] the keys (integers as decimal text), float64 [K] means and float64 [K] population standard
          deviations, which are NaN for a key without finite values.
        """

    def quantiles(self, name: str, num_buckets: int, epsilon: float) -> Any:
        """The boundaries between buckets that hold equally many values, up to a rank error.

        Returns:
          float64 [num_buckets - 1], not falling; NaN where there are no values.
        """

    def vocabulary(self, name: str, top_k: int | None, min_count: int) -> tuple[Any, Any]:
        """The distinct values of a column of text or integers, as a file.

        Returns:
          string scalar, the path of a file with a token a line, most frequent first, ties by the tokens' bytes; and
          int64 scalar, how many lines it has (see `counts.Vocabulary.lines`).
        """

    def frequencies(self, name: str) -> tuple[Any, Any]:
        """How often each value of a column of text or integers occurs.

        Returns:
          string [V] the distinct values (integers as decimal text) in any fixed order, and int64 [V] their counts.
        """

    def histogram(self, name: str) -> Any:
        """How often each value occurs in each channel of all stored pixels of a uint8 image.

        Returns:
          int64 [channels, 256].
        """


class Inputs(dict[str, Any]):
    """Feature name to a batch of values: a dict of tensors, for use in any `tft` function.

    Attributes:
      missing: For each column that may lack a value, bool [batch]: whether the row does. There `inputs[name]` holds NaN
        for a float, 0 for an integer and b"" for text.
    """

    def __init__(
        self,
        tensors: Mapping[str, Any],
        missing: Mapping[str, Any] | None = None,
        statistics: Statistics | None = None,
    ) -> None:
        super().__init__(tensors)
        self.missing: Mapping[str, Any] = missing or {}
        self._raw = dict(tensors)
        self._statistics = statistics

    @property
    def statistics(self) -> Statistics:
        """Full-pass statistics of columns and images.

        Raises:
          ValueError: these inputs come without.
        """
        if self._statistics is None:
            raise ValueError(
                "inputs.statistics: expected what `features` receives, found inputs without statistics; pass on the "
                "very `inputs`, not a dict made of it"
            )
        return self._statistics

    def column(self, name: str, function: str, instead: str) -> Any:
        """A raw column's tensor, for a function that needs the column's statistics.

        Args:
          name: The column.
          function: Who asks.
          instead: What does the same for tensors that `features` made.

        Raises:
          ValueError: there is no such column, or `features` put another tensor in its place.
        """
        if name not in self._raw:
            note = " which `features` made" if name in self else ""
            raise ValueError(
                f"{function}: expected the name of a raw column, one of {sorted(self._raw)}, found {name!r}{note}; "
                f"use {instead} for what `features` computes"
            )
        if self.get(name) is not self._raw[name]:
            raise ValueError(
                f"{function}: expected the raw column {name!r}, found that `features` replaced it, so that its "
                f"statistics are those of other values; give the new one another name, and use {instead} for it"
            )
        return self._raw[name]
