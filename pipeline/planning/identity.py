"""What makes generations the same, or parts of them: hashes over all that they follow from.

Equal content ids: the same examples, statistics and graph, however they are laid out in units and shards. Equal shape
ids: the same becomes of an equal piece of the input. Equal statistics ids: what units keep for the statistics and tft's
analyzers is the same, if they have the same examples in the same order.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

from ..formats import paths
from ..prepare.preparer import StatisticsSpec
from ..prepare.tables import TablePreparer
from ..splits.columns import Strata
from . import step_configs
from .plan import Plan
from .recipe import LoadedRecipe

_SHAPING = ("penstock", "tensorflow", "tensorflow-transform", "pillow", "simplejpeg", "cykooz-resizer")


def content_id(recipe: LoadedRecipe, input_digest: str, limit: int | None) -> str:
    """The id of a generation in the canonical layout: it follows from all that shapes the output's bytes.

    Args:
      recipe: The recipe.
      input_digest: A hash over every file that the plan depends on.
      limit: How many examples are taken; None: all.
    """
    content: dict[str, Any] = {
        "format": paths.FORMAT,
        "shape": recipe.shape,
        "graph": recipe.graph,
        "input": input_digest,
        "versions": _versions(),
    }
    if limit is not None:
        content["limit"] = limit
    return _digest(content)


def delta_id(content: str, base: str, retries: bool = False, shapes: Sequence[str] = ()) -> str:
    """The id of a generation with a content in the layout that follows from a base, or made from it otherwise.

    Args:
      content: Its content id.
      base: The base's generation.
      retries: Whether what the base has quarantined is tried again.
      shapes: The shape ids of examples that are taken over though the run's is another.
    """
    marks = {**({"retry": True} if retries else {}), **({"shapes": list(shapes)} if shapes else {})}
    return _digest({"content": content, "base": base, **marks})


def shape_id(recipe: LoadedRecipe, plan: Plan) -> str:
    """A hash of all but the input's pieces that shapes what becomes of one."""
    return _shape(recipe.shape, recipe, plan)


def frame_id(recipe: LoadedRecipe, plan: Plan) -> str:
    """The same but for the code of `prepare`; empty where it is not known."""
    return recipe.frame and _shape(recipe.frame, recipe, plan)


def _shape(code: str, recipe: LoadedRecipe, plan: Plan) -> str:
    """A hash of a recipe's code, versions, columns and features."""
    preparer = plan.preparer(StatisticsSpec(recipe.recipe.statistics))
    of_table: dict[str, Any] = {}
    if isinstance(preparer, TablePreparer):
        rule = preparer.steps.rule
        bounds = sorted(map(repr, rule.bounds.items())) if isinstance(rule, Strata) else []
        joined = [digest for _, digest in preparer.joins()]
        of_table = {"rule": plan.split_rule, "bounds": bounds, "joined": joined}
    told = {"reasons", "steps"}  # steps are in the code's hash, without the name of the recipe's module
    prepare = {key: value for key, value in step_configs.describe(preparer).items() if key not in told}
    return _digest(
        {
            "recipe": code,
            "versions": _versions(),
            "features": {name: feature.to_json() for name, feature in plan.features.items()},
            "prepare": prepare,
            "statistics": recipe.recipe.statistics,  # of whose examples alone a unit has notes
            **of_table,
        }
    )


def statistics_id(spec: StatisticsSpec, recipe: LoadedRecipe, phases: int) -> str:
    """A hash of what, beside its examples, decides what a unit keeps for the statistics and tft's analyzers.

    Args:
      spec: What these need of examples.
      recipe: The recipe.
      phases: How many passes the analyzers take.
    """
    return _digest({"spec": asdict(spec), "versions": _versions(), "graph": recipe.graph if phases else ""})


def _versions() -> Mapping[str, str]:
    return {name: version(name) for name in _SHAPING}


def _digest(content: Mapping[str, Any]) -> str:
    """16 hexadecimal digits, as a generation's id has them."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
