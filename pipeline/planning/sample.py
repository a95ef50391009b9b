"""Prepares a few examples before the run, to find out what the recipe makes: features, sizes, and its own mistakes."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice

from ..errors import RequestError
from ..formats.example_writer import serialize
from ..formats.features import IMAGE, MASK, Feature
from ..prepare.images import ImageSteps
from ..prepare.isolate import IsolatedPreparer
from ..prepare.outcomes import Prepared
from ..prepare.payloads import PayloadReader, is_remote
from ..sources.listing import Reference
from ..sources.quarantine import QuarantinedExample

GOOD = 4  # examples that must agree
TRIED = 64  # examples to try before giving up
_NUMBERS = {"int64", "float32"}


@dataclass(frozen=True)
class Sample:
    """What a few examples showed.

    Attributes:
      features: What every prepared example holds.
      example_bytes: The mean size of a stored example.
      seconds: The mean time that one took, in one thread.
      quarantined: Those that could not be prepared.
    """

    features: Mapping[str, Feature]
    example_bytes: float
    seconds: float
    quarantined: Sequence[QuarantinedExample] = ()


def take(steps: ImageSteps, references: Sequence[Reference], timeout: float | None) -> Sample:
    """Prepares the first good examples.

    Args:
      steps: Prepare an example, whatever its features.
      references: The examples to try, in order.
      timeout: Seconds that one may take in a process of its own; None prepares them here.

    Raises:
      RequestError: none can be prepared, or they do not agree in features, dtypes and shapes.
    """
    prepared: list[Prepared] = []
    quarantined: list[QuarantinedExample] = []
    isolated = IsolatedPreparer(steps, 1, timeout) if timeout else None
    reader = PayloadReader(steps.max_bytes)
    start = time.perf_counter()
    tried = 0
    for reference in islice(references, TRIED):
        tried += 1
        payloads = reader(reference) if is_remote(reference) else None
        if isinstance(payloads, QuarantinedExample):
            quarantined.append(payloads)
            continue
        outcome = (isolated or steps)(reference, payloads=payloads)
        if isinstance(outcome, QuarantinedExample):
            quarantined.append(outcome)
        elif isinstance(outcome, Prepared):
            prepared.append(outcome)
        if len(prepared) == GOOD:
            break
    if isolated:
        isolated.close()
    seconds = (time.perf_counter() - start) / max(tried, 1)
    if not prepared:
        why = (
            f"the first problem, of {quarantined[0].uri}: {quarantined[0].message}"
            if quarantined
            else "filters left all out"
        )
        raise RequestError(f"none of the first {tried} examples could be prepared; {why}; fix the recipe or the input")
    features = _agree(prepared)
    strangers = sorted(steps.encode.keys() - {name for name, feature in features.items() if feature.is_pixels})
    if strangers:
        raise RequestError(f"Recipe(encode=...): expected names of images that examples hold, found {strangers}")
    sizes = [len(serialize(example.values, features)) for example in prepared]
    return Sample(features, sum(sizes) / len(sizes), seconds, quarantined)


def _agree(examples: list[Prepared]) -> dict[str, Feature]:
    """The features that all examples have; integers in one and floats in another are floats."""
    first = examples[0]
    features = dict(first.features)
    for other in examples[1:]:
        if features.keys() != other.features.keys():
            raise RequestError(
                f"expected all examples to have the same features, found {sorted(features)} in {first.key} "
                f"and {sorted(other.features)} in {other.key}; see `prepare`"
            )
        for name, feature in features.items():
            another = other.features[name]
            if feature == another:
                continue
            if feature == replace(another, dtype=feature.dtype) and {feature.dtype, another.dtype} == _NUMBERS:
                features[name] = replace(feature, dtype="float32")
                continue
            names = "" if name in (IMAGE, MASK) else f", names=('image', {name!r})"
            hint = f"add image.resize(height, width{names}) to `prepare`" if feature.is_pixels else "see `prepare`"
            raise RequestError(
                f"expected {name!r} to have one dtype and shape, found {feature.dtype} {list(feature.shape)} in "
                f"{first.key} and {another.dtype} {list(another.shape)} in {other.key}; {hint}"
            )
    return features
