"""The values that flow: references and what becomes of an example."""

from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from ..formats.features import Feature


class Reference(NamedTuple):
    """What names an example's payloads without holding them.

    Attributes:
      key: Names the example for good: its path relative to the input.
      uri: Where its payload is.
      size: The payload's bytes, as listed.
      label: Its label, where the source gives one.
      mask: Where its mask is, where the source has masks.
      columns: Its values of the columns that are joined to it; None where nothing is joined.
    """

    key: str
    uri: str
    size: int
    label: str | None = None
    mask: str | None = None
    columns: dict[str, Any] | None = None


@dataclass(frozen=True)
class QuarantinedExample:
    """Why an example went to the quarantine: one line of a quarantine file.

    Attributes:
      key: The example's key.
      uri: The payload that could not be used.
      stage: Where it failed: `plan`, `read`, `decode`, `prepare` or `encode`.
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

    def to_json(self) -> dict[str, Any]:
        """The line's JSON object."""
        return asdict(self)


@dataclass(frozen=True)
class FilteredExample:
    """An example that a filter did not want, and the filter's reason."""

    key: str
    reason: str


@dataclass(frozen=True)
class Prepared:
    """A prepared example as it is stored.

    Attributes:
      key: The example's key.
      label: The label it was prepared with, as text; None where it has none.
      values: Feature name to stored value: encoded bytes for images and masks, else numbers, text or arrays.
      features: Feature name to what it is.
      sha256: The payload's content hash.
      histograms: Feature name to int64 [channels, 256] counts of the stored pixel values, where they were asked for.
    """

    key: str
    label: str | None
    values: dict[str, Any]
    features: dict[str, Feature]
    sha256: str
    histograms: dict[str, Any]


Outcome = Prepared | QuarantinedExample | FilteredExample
