"""A run as it was asked for and as it is planned: what of it the dataset's current generation has stored already."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from .build.find_base import Base, find_base, has_quarantined, is_complete
from .commit import budget
from .commit.drift import DriftLimits
from .cores import cores
from .errors import DatasetError
from .formats.damage import find_damage
from .formats.manifest import Manifest
from .formats.pointer import Pointer
from .planning import identity
from .planning.cut import cut_scans
from .planning.delta import Overlap, Pieces, Takeover
from .planning.forgotten import NOTHING, Forgotten
from .planning.plan import Plan
from .planning.plan_file import PlannedUnits, of_ranges
from .planning.recipe import LoadedRecipe
from .sources import text_ranges

if TYPE_CHECKING:
    from .analysis.trace import Analysis


@dataclass(frozen=True)
class RunRequest:
    """What the user asked for.

    Attributes:
      recipe: The recipe.
      input: The input folder.
      output: The dataset's folder.
      max_quarantined: The budget, as text: `25`, `0.01` or `1%`.
      threads: Examples prepared at a time by one worker; None: as many as it has cores.
      workers: Worker processes.
      isolate: Seconds that an example may take in a process of its own; None: no isolation.
      single_writer: The user's word that nobody else writes the dataset meanwhile: its store may ignore conditions.
      drift: How far the new generation may be from the current one; None: however far.
      limit: How many examples to take, for a first try; None: all.
      full: Whether units must be laid out as if there were no earlier generation.
      forget: What is to be forgotten, beside what earlier runs were told.
      retry: Whether what the current generation has quarantined is tried again.
      keep_prepared: The user's word that examples are good though an earlier `prepare` has made them.
    """

    recipe: LoadedRecipe
    input: str
    output: str
    max_quarantined: str = budget.DEFAULT
    threads: int | None = None
    workers: int = 1
    isolate: float | None = None
    single_writer: bool = False
    drift: DriftLimits | None = None
    limit: int | None = None
    full: bool = False
    forget: Forgotten = NOTHING
    retry: bool = False
    keep_prepared: bool = False

    @property
    def worker_threads(self) -> int:
        """Examples prepared at a time by one worker, if all are on a machine such as this one."""
        return self.threads or max(1, cores() // self.workers)


@dataclass(frozen=True)
class PlannedRun:
    """A planned run: what `--dry-run` shows.

    Attributes:
      plan: What would be made.
      generation_id: The id of the generation that would come out.
      current: The dataset's pointer as it is.
      warnings: What the user should know.
      content_id: The id that the generation would have in the canonical layout.
      shape_id: A hash of all but the input's pieces that shapes what becomes of one.
      reuse: What is taken over from the current generation; None: nothing.
      anew: Why nothing is, in words; empty where there is no such generation, or it is what would come out.
      forgotten: What is to be forgotten.
      frame_id: As `shape_id`, but for the code of `prepare`.
      note: What else is to be said of what was asked for; empty where nothing is.
      retried: The current generation, where the run has its content and only tries again what that has quarantined;
        empty where it does not.
    """

    plan: Plan
    generation_id: str
    current: Pointer | None
    warnings: Sequence[str]
    content_id: str
    shape_id: str
    reuse: "Reuse | None" = None
    anew: str = ""
    forgotten: Forgotten = NOTHING
    frame_id: str = ""
    note: str = ""
    retried: str = ""

    @property
    def whole_examples(self) -> int:
        """How many examples are in units that are taken over as they are."""
        return self.reuse.takeover.whole_examples if self.reuse else 0


@dataclass(frozen=True)
class Reuse:
    """What a run takes over from the dataset's current generation.

    Attributes:
      base: That generation.
      overlap: What it and the plan have in common.
      takeover: What of it is taken over.
      full: The run that would take over nothing.
      retries: Whether what the base has quarantined is tried again.
      keeps_prepared: Whether the user expects that what an earlier `prepare` has made is taken over.
    """

    base: Base
    overlap: Overlap
    takeover: Takeover
    full: PlannedRun
    retries: bool
    keeps_prepared: bool


def on_current(request: RunRequest, full: PlannedRun) -> PlannedRun:
    """A run that makes all of a plan, as it is where the dataset has a current generation."""
    dataset, current = request.output, full.current
    if current is None:
        return full
    try:
        manifest = Manifest.load_pointed(dataset, current)
    except DatasetError as error:
        return replace(full, anew=f"the current generation is damaged: {error}")
    retries = request.retry and has_quarantined(manifest)
    if request.retry and not retries:
        full = replace(full, note=f"nothing to try again: the units of {manifest.generation} have quarantined nothing")
    is_same = manifest.content == full.content_id
    if retries and is_same:
        is_laid_out_anew = request.full and manifest.generation != full.content_id
        full = replace(
            full,
            generation_id=identity.delta_id(full.content_id, manifest.generation, retries),
            retried="" if is_laid_out_anew else manifest.generation,
        )
    elif manifest.generation == full.content_id:
        return full
    elif is_same and not request.full:
        if not find_damage(dataset, manifest):
            return replace(full, generation_id=manifest.generation)
        return replace(full, anew=f"generation {manifest.generation}, of the same content, is damaged")
    elif full.content_id not in current.removing and is_complete(dataset, full.content_id):
        return full
    if why := _why_anew(full.plan, request):
        return replace(full, anew=why)
    base = find_base(
        dataset, manifest, full.shape_id, full.frame_id, request.keep_prepared, is_pure=request.full, retries=retries
    )
    if isinstance(base, str):
        return replace(full, anew=base)
    plan = full.plan
    pieces, stored_pieces = Pieces.of(plan.units.kept(plan.inventory.versions)), Pieces.of(base.inputs)
    leaves_out_rows = plan.table_schema is not None and request.recipe.recipe.deduplicate
    if leaves_out_rows and stored_pieces.sizes.sum() > text_ranges.READ_WHOLE:  # its ranges do not say which
        return replace(full, anew=f"deduplicate=True: workers compared the rows of generation {base.generation}")
    retried = base.retried() if retries else np.zeros(len(stored_pieces), bool)
    overlap = Overlap.between(plan.units, pieces, base.generation, stored_pieces, base.read(), retried)
    recipe = request.recipe.recipe
    is_fixed = request.full or recipe.shards is not None or recipe.shuffle != "unit"
    takeover = overlap.take_over(plan.cut, is_fixed)
    if takeover is None:
        what = "of these images" if plan.table_schema is None else "of the files of this table"
        return replace(full, anew=f"generation {base.generation} has none {what} as they are")
    return _with_takeover(Reuse(base, overlap, takeover, full, retries, request.keep_prepared))


def settle(planned: PlannedRun, analysis: "Analysis") -> PlannedRun:
    """A planned run, once it is known what `features` needs: in the canonical layout where results follow that."""
    reuse = planned.reuse
    if reuse is None or reuse.takeover.is_canonical or analysis.is_order_free:
        return planned
    plan = reuse.full.plan
    takeover = reuse.overlap.take_over(plan.cut, is_fixed=True)
    assert takeover  # what is stored does not depend on the layout
    return _with_takeover(replace(reuse, takeover=takeover))


def not_kept(why: str) -> str:
    """What to say where --keep-prepared has nothing to keep, and why."""
    return (
        "--keep-prepared: expected examples that can be taken over, found that everything would be prepared anew: "
        f"{why}; leave it out to do that"
    )


def _mixed(base: Base) -> str:
    """A warning of examples that an earlier `prepare` has made."""
    return (
        f"--keep-prepared: examples that are taken over from generation {base.generation} were made by an earlier "
        f"`prepare` (shape {', '.join(base.shapes)}); run with --full to have all made by the one that there is now"
    )


def _why_anew(plan: Plan, request: RunRequest) -> str:
    """Why a run takes over nothing, whatever the current generation is; empty: it may."""
    if request.limit is not None:
        return "--limit makes a sample"
    if plan.targets:
        return "shuffle='global' gives every row another place"
    if plan.finds_duplicates:
        return "deduplicate=True compares the rows of so large a table among workers"
    return ""


def _with_takeover(reuse: Reuse) -> PlannedRun:
    """A run that takes over from a base."""
    full, takeover = reuse.full, reuse.takeover
    units = takeover.units
    shards = Counter(split for unit in units.units for split in unit.shards)
    plan = replace(
        full.plan,
        units=units,
        splits={name: replace(split, shards=shards[name]) for name, split in full.plan.splits.items()},
        scans=_scans(full.plan, takeover),
    )
    generation = full.content_id
    if not takeover.is_canonical or reuse.base.shapes or full.generation_id != full.content_id:
        generation = identity.delta_id(full.content_id, takeover.base, reuse.retries, reuse.base.shapes)
    warnings = [*full.warnings, *([_mixed(reuse.base)] if reuse.base.shapes else [])]
    return replace(full, plan=plan, generation_id=generation, warnings=warnings, reuse=reuse)


def _scans(plan: Plan, takeover: Takeover) -> PlannedUnits | None:
    """The scans of the files of which rows are prepared; None: there are none."""
    if plan.scans is None:
        return None
    keys = takeover.units.prepared_keys()
    scans = cut_scans(each for _, group in plan.scans for each in group if each.key in keys)
    return of_ranges(scans) if scans else None
