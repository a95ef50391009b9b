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

    Moments of columns are of the values before these are rounded to float32; those by keys and of lists, and all
    else, of what is stored.

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


def expect_name(inputs: object, name: object, function: str, instead: str) -> None:
    """Raises ValueError where a helper got tensors for `inputs` or for the name of what it is to work on.

    Args:
      inputs: What should be what `features` received.
      name: What should be a name in it.
      function: The helper.
      instead: What does the same for tensors.

    >>> expect_name(Inputs({"a": 1}), 7, "f", "tf.f")
    Traceback (most recent call last):
    ValueError: f(inputs, name): expected a column's name, one of ['a'], found 7; use tf.f for what `features` computes
    """
    if not isinstance(inputs, Inputs):
        raise ValueError(
            f"{function}(inputs, name): expected the very `inputs` that `features` received first, since they have the "
            f"statistics, found {_in_words(inputs)}"
        )
    if not isinstance(name, str):
        raise ValueError(
            f"{function}(inputs, name): expected a column's name, one of {sorted(inputs)}, found {_in_words(name)}; "
            f"use {instead} for what `features` computes"
        )


def expect_tensor(value: object, function: str) -> None:
    """Raises ValueError where a helper that works on tensors got a name.

    >>> expect_tensor("t", "lower(strings)")
    Traceback (most recent call last):
    ValueError: lower(strings): expected a tensor, such as inputs['t'], found the name 't' alone
    """
    if isinstance(value, str | bytes):
        raise ValueError(f"{function}: expected a tensor, such as inputs[{value!r}], found the name {value!r} alone")


def _in_words(value: object) -> str:
    """A tensor by its dtype and shape; all else as it is."""
    dtype, shape = getattr(value, "dtype", None), getattr(value, "shape", None)
    if dtype is None or shape is None:
        return f"a {type(value).__name__}" if isinstance(value, Mapping) else repr(value)
    return f"a tensor of {getattr(dtype, 'name', dtype)} {['batch', *shape[1:]]}"


def column_of(inputs: Inputs, name: str, function: str, instead: str) -> Any:
    """`inputs.column`, once `inputs` are known to be what `features` received.

    Raises:
      ValueError: they are not, or it is no name of a raw column.

    >>> column_of(Inputs({"age": 1}), "age", "log", "tf.math.log")
    1
    """
    expect_name(inputs, name, function, instead)
    return inputs.column(name, function, instead)
