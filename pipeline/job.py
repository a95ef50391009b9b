"""From a request to a job: everything that happens before an engine is started."""

import hashlib
import json
import os
import platform
from collections import Counter
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import TYPE_CHECKING

import cloudpickle

from .commit import drift
from .errors import RequestError
from .formats import paths, raw_schema
from .formats.manifest import Origin, Pointer, RecipeName
from .planning import plan as plans
from .planning import step_configs
from .planning.dry_run import Draft, draft
from .planning.recipe import LoadedRecipe
from .prepare.tables import RecordPreparer
from .storage import files

if TYPE_CHECKING:
    from .beam import Job

_SHAPING = ("penstock", "tensorflow", "tensorflow-transform", "pillow", "simplejpeg")


@dataclass(frozen=True)
class RunRequest:
    """What the user asked for.

    Attributes:
      recipe: The recipe.
      input: The input folder.
      output: The dataset's folder.
      max_quarantined: The budget, as text: `25`, `0.01` or `1%`.
      threads: Examples prepared at a time by one worker; None: a core each.
      workers: Worker processes.
      isolate: Seconds that an example may take in a process of its own; None: no isolation.
    """

    recipe: LoadedRecipe
    input: str
    output: str
    max_quarantined: str = "1%"
    threads: int | None = None
    workers: int = 1
    isolate: float | None = None

    @property
    def worker_threads(self) -> int:
        """Examples prepared at a time by one worker."""
        return self.threads or max(1, (os.cpu_count() or 1) // self.workers)


@dataclass(frozen=True)
class Drafted:
    """A planned job: what `--dry-run` shows.

    Attributes:
      draft: What would be made.
      generation: The id of the generation that would come out.
      current: The dataset's pointer as it is.
    """

    draft: Draft
    generation: str
    current: Pointer | None


def plan(request: RunRequest) -> Drafted:
    """Lists the input, assigns splits, tries a few examples, and cuts units. Writes nothing.

    Raises:
      RequestError: the recipe, the input or the output is not as it should be.
    """
    _check_places(request.input, request.output)
    current = Pointer.read(request.output)
    if request.isolate and request.recipe.module:
        cloudpickle.register_pickle_by_value(request.recipe.module)  # no other process can import a recipe's file
    drafted = draft(request.recipe.recipe, request.input, request.worker_threads, request.isolate)
    if drafted.columns is not None:
        drafted.warnings.extend(drift.compare_columns(request.output, current, drafted.columns))
    return Drafted(drafted, _generation_id(request, drafted.digest), current)


def _check_places(source: str, output: str) -> None:
    if files.is_local(source) and not os.path.isdir(source):
        found = "a file" if os.path.exists(source) else "nothing"
        raise RequestError(f"--input: expected a folder, found {found} at {source}")
    if not files.is_local(output):
        raise RequestError(f"--output: expected a local folder, found {output}; object stores are not supported yet")
    if os.path.exists(output) and not os.path.isdir(output):
        raise RequestError(f"--output: expected a folder, found a file at {output}")
    inside = os.path.realpath(output).startswith(os.path.realpath(source).rstrip("/") + "/")
    if inside or os.path.realpath(output) == os.path.realpath(source):
        raise RequestError(f"--output: expected a folder outside of --input, found {output} in {source}")
    above = os.path.abspath(output)
    while not os.path.exists(above):
        above = os.path.dirname(above)
    if not os.path.isdir(above) or not os.access(above, os.W_OK):
        raise RequestError(f"--output: expected a place where {output} can be written, found {above}, which bars it")
    strangers = (
        os.path.isdir(output)
        and not os.path.exists(files.join(output, paths.POINTER))
        and [name for name in os.listdir(output) if not (paths.is_generation(name) or files.is_temporary(name))]
    )
    if strangers:
        raise RequestError(
            f"--output: expected an empty folder, a dataset or an unfinished run, found {strangers[0]!r} in {output}"
        )


def _generation_id(request: RunRequest, digest: str) -> str:
    """16 hexadecimal digits that follow from all that shapes the output's bytes."""
    content = {
        "format": paths.FORMAT,
        "recipe": request.recipe.hash,
        "input": digest,
        "versions": {name: version(name) for name in _SHAPING},
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def prepare(request: RunRequest, drafted: Drafted) -> "Job":
    """Says what the engine has to do. Writes nothing.

    Raises:
      RequestError: `features` fails on the features that `prepare` makes.
    """
    from .analysis import trace
    from .beam import Job
    from .build.units import MakeOptions
    from .commit.commit import Budget, CommitOptions
    from .prepare import summaries

    recipe, planned = request.recipe.recipe, drafted.draft
    try:
        budget = Budget.parse(request.max_quarantined)
    except ValueError as error:
        raise RequestError(f"--max-quarantined: {error}") from error
    analysis = trace.trace(recipe.features, planned.features)
    preparer = planned.preparer
    if isinstance(preparer, RecordPreparer):
        specs = summaries.combine(analysis.summary_specs, preparer.summary_specs)
        preparer = replace(preparer, summary_specs=specs, columns=analysis.columns)
    _check_shippable(preparer)
    # images are shuffled globally by the plan: their references are in the order of a hash
    targets = len(planned.units) if recipe.shuffle == "global" and isinstance(preparer, RecordPreparer) else 0
    root = files.join(request.output, drafted.generation)
    return Job(
        make=MakeOptions(
            generation=root,
            preparer=preparer,
            analysis=analysis,
            statistics=recipe.statistics,
            threads=request.worker_threads,
            timeout=request.isolate,
            targets=targets,
        ),
        commit=CommitOptions(
            dataset=request.output,
            generation=drafted.generation,
            origin=_origin(request, planned),
            warnings=planned.warnings,
            units=len(planned.units) + targets,
            read=planned.read,
            filtered=planned.filtered,
            problems=Counter(problem.code for problem in planned.problems),
            quarantine=None,
            analysis=analysis,
            statistics=recipe.statistics,
            budget=budget,
            replaces=drafted.current,
        ),
    )


def begin(job: "Job", drafted: Drafted) -> "Job":
    """Writes the plan and what it quarantines into the new generation; a plan that is there from before stays.

    Raises:
      RequestError: that plan was made for other units.
    """
    from .build import units

    root = job.commit.root
    plan_uri = files.join(root, paths.PLAN)
    if not files.exists(plan_uri):
        plans.write(plan_uri, drafted.draft.units)
    elif plans.count_units(plan_uri) != len(drafted.draft.units):
        raise RequestError(
            f"{root}: expected an unfinished run of {len(drafted.draft.units)} units, found one of "
            f"{plans.count_units(plan_uri)}: `prepare` gives other results than then; remove this folder and run again"
        )
    quarantine = units.write_quarantine(root, paths.PLAN_QUARANTINE, drafted.draft.problems)
    return replace(job, commit=replace(job.commit, quarantine=quarantine))


def _check_shippable(preparer: object) -> None:
    """Raises RequestError where the recipe's functions cannot be sent to a worker."""
    try:
        cloudpickle.dumps(preparer)
    except Exception as error:  # whatever an object's pickling raises
        raise RequestError(
            f"Recipe(prepare=...): expected functions that can be sent to a worker, found {error}; make what they "
            "need (a lock, an open file, a model) inside the function"
        ) from error


def _origin(request: RunRequest, planned: Draft) -> Origin:
    """What the manifest says of what the generation is made from and by."""
    recipe = request.recipe.recipe
    packages = ("tensorflow", "penstock", "pillow", "simplejpeg", "numpy")
    return Origin(
        recipe=RecipeName(request.recipe.name, request.recipe.hash),
        versions={
            "python": platform.python_version(),
            "beam": version("apache-beam"),
            "tft": version("tensorflow-transform"),
            **{name: version(name) for name in packages},
        },
        options={
            "input": request.input,
            "format": recipe.format,
            "compression": recipe.compression,
            "shuffle": recipe.shuffle,
            "seed": recipe.seed,
            "deduplicate": recipe.deduplicate,
            "max_quarantined": request.max_quarantined,
            "isolate": request.isolate,
        },
        prepare=step_configs.describe(planned.preparer, planned.features, planned.joined),
        schema=raw_schema.to_text(planned.columns) if planned.columns is not None else None,
    )
