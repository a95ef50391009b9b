"""What an author is told of outputs that have no portable form. Imports no TensorFlow."""

from collections.abc import Mapping, Sequence

from ..formats.features import Feature
from ..graph.feature_graph import RAGGED


def not_portable(obstacles: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """A warning of all outputs that have no portable form; none where each has one.

    Args:
      obstacles: What stands in the way, in words, to the names of the outputs that need it.
    """
    by_output = {
        name: ", ".join(kind for kind, names in obstacles.items() if name in names)
        for name in sorted({name for names in obstacles.values() for name in names})
    }
    if not by_output:
        return ()
    words = "; ".join(f"{name!r} for {kinds}" for name, kinds in by_output.items())
    return (f"not portable, so that only ds.tf, or ds.torch and the like with features=False, can load it: {words}",)


def passed_lists(features: Mapping[str, Feature]) -> tuple[str, ...]:
    """The warning that a recipe without `features` gets, which passes lists of any length through.

    Args:
      features: The features of a prepared example.
    """
    lists = [name for name, feature in features.items() if None in feature.shape]
    return not_portable({RAGGED: lists} if lists else {})
