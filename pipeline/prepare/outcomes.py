"""What becomes of an example: it is stored, or filtered out, or goes to the quarantine."""

from dataclasses import dataclass
from typing import Any

from ...transforms.observations import Observation
from ..formats.features import Feature
from ..sources.quarantine import FilteredExample, QuarantinedExample


@dataclass(frozen=True)
class Prepared:
    """A prepared example as it is stored.

    Attributes:
      key: The example's key.
      label: The label it was prepared with, as text; None where it has none.
      values: Feature name to stored value: encoded bytes for images and masks, else numbers, text or arrays.
      features: Feature name to what it is.
      sha256: The payload's content hash.
      histograms: Feature name to int64 [channels, 256] counts of the pixel values, where they were asked for and are
        stored without loss.
      observations: What says something only of all examples together.
    """

    key: str
    label: str | None
    values: dict[str, Any]
    features: dict[str, Feature]
    sha256: str
    histograms: dict[str, Any]
    observations: tuple[Observation, ...] = ()


Outcome = Prepared | FilteredExample | QuarantinedExample
