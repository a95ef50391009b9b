"""What is said of an example that cannot be used, or isn't wanted."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class QuarantinedExample:
    """Why an example went to the quarantine: one line of a quarantine file.

    Attributes:
      key: The example's key.
      uri: The payload that could not be used.
      stage: Where it failed: `plan`, `read`, `split`, `decode`, `prepare` or `encode`.
      code: The reason in snake_case, for counting.
      message: The reason in words.
      sha256: The payload's content hash; None where it was not read.
    """

    key: str
    uri: str
    stage: str
    code: str
    message: str
    sha256: str | None = None

    def to_line(self) -> bytes:
        """The line, a JSON object."""
        return json.dumps(asdict(self), sort_keys=True).encode() + b"\n"


def first_of_each(examples: Iterable[QuarantinedExample]) -> dict[str, str]:
    """Reason code to an example: its key, and its message."""
    found: dict[str, str] = {}
    for example in examples:
        found.setdefault(example.code, f"{example.key}: {example.message}")
    return found


LISTED = 10_000  # examples of one reason that a file of filtered examples lists


@dataclass(frozen=True)
class FilteredExample:
    """An example that a filter did not want, and the filter's reason: one line of a file of filtered examples."""

    key: str
    reason: str

    def to_line(self) -> bytes:
        """The line, a JSON object."""
        return json.dumps(asdict(self), sort_keys=True).encode() + b"\n"


def limit(examples: Iterable[FilteredExample]) -> list[FilteredExample]:
    """The first examples of each reason, as many as are listed."""
    listed: list[FilteredExample] = []
    counts: dict[str, int] = {}
    for example in examples:
        counts[example.reason] = counts.get(example.reason, 0) + 1
        if counts[example.reason] <= LISTED:
            listed.append(example)
    return listed
