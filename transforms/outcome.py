"""Why an example is not in the dataset: it could not be prepared, or it isn't wanted."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from .check import expect
from .step import config_of

Example = dict[str, Any]


class Rejected(Exception):
    """This example could not be prepared: it goes to the quarantine.

    Attributes:
      code: The reason's code, in snake_case: what the quarantine is counted by.
      message: What was expected, what was found and what to do.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(code, message)  # both, so that it pickles
        self.code = code
        self.message = message

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"


class Filtered(Exception):
    """This example isn't wanted: it is counted by its reason and left out.

    Attributes:
      reason: What it is counted by.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True)
class Keep:
    """Leaves out the examples for which the predicate isn't true. Made by `keep`.

    Attributes:
      predicate: A function from an example to whether it is wanted.
      reason: What those that are left out are counted by.
    """

    step_id: ClassVar[str] = "keep"

    predicate: Callable[[Example], object]
    reason: str

    def __post_init__(self) -> None:
        expect(callable(self.predicate), "keep(predicate=...)", "a function of an example", self.predicate)
        expect(isinstance(self.reason, str) and bool(self.reason.strip()), "keep(reason=...)", "a text", self.reason)

    def config(self) -> dict[str, Any]:
        """The arguments of `keep`, by name."""
        return config_of(self)

    def __call__(self, example: Example) -> Example:
        """Returns the example as it is, or raises Filtered."""
        if not self.predicate(example):
            raise Filtered(self.reason)
        return example


def keep(predicate: Callable[[Example], object], reason: str) -> Keep:
    """Keeps the examples for which the predicate is true; the rest is counted under `reason` and left out.

    Args:
      predicate: A function from an example to whether it is wanted.
      reason: Why the others are not: the name of their count.

    Raises:
      ValueError: an argument is not what it should be.

    >>> step = keep(lambda example: example["age"] >= 18, "under age")
    >>> step({"age": 31})
    {'age': 31}
    >>> step({"age": 4})
    Traceback (most recent call last):
    penstock.transforms.outcome.Filtered: under age
    """
    return Keep(predicate, reason)
