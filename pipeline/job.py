"""From a request to a job: everything that happens before an engine is started."""

import datetime
import inspect
import os
import platform
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import TYPE_CHECKING

import cloudpickle
import pyarrow as pa

from .analysis import advice
from .commit import drift
from .commit.budget import Budget
from .errors import DatasetError, OverBudgetError, PenstockError, RequestError
from .formats import paths, raw_schema
from .formats.manifest import (
    LIMIT,
    DeltaEntry,
    Identity,
    Manifest,
    Origin,
    RecipeName,
    StoredFile,
    stored_file,
)
from .formats.pointer import Pointer
from .planned_run import PlannedRun, RunRequest, not_kept, on_current, settle
from .planning import identity, plan_file, step_configs
from .planning.costs import Costs, Work, estimate
from .planning.cut import reference_nanoseconds
from .planning.forgotten import read_forgotten
from .planning.measure import measure
from .planning.payloads import PayloadHasher
from .planning.plan import Plan, make_plan
from .planning.recipe import LoadedRecipe
from .prepare import summaries
from .prepare.preparer import Preparer, StatisticsSpec
from .prepare.shipping import shipped
from .prepare.tables import TablePreparer
from .sources.quarantine import FilteredExample
from .sources.record_source import RecordSource
from .storage import files

if TYPE_CHECKING:
    from .analysis.trace import Analysis
    from .beam import Job
    from .build.journal import FinishedUnits


def plan(request: RunRequest, hasher: PayloadHasher | None = None) -> PlannedRun:
    """Lists the input, assigns splits, tries a few examples, and cuts units. Writes nothing itself.

    Args:
      request: What is asked for.
      hasher: Hashes the payloads of many images, where duplicates are left out; its first argument is a folder of the
        generation to be made, where it may keep what it needs. None: they are hashed here.

    Raises:
      RequestError: the recipe, the input or the output is not as it should be.
    """
    _check_places(request.input, request.output)
    current = Pointer.read(request.output)
    if request.limit is not None and current is not None:
        _expect_sample(request.output)
    forgotten = request.forget | read_forgotten(request.output)
    with shipped(request.recipe.module, request.recipe.own):
        root = files.absolute(request.input)
        hash_payloads = _in_folder(request, hasher) if hasher else None
        new_plan = make_plan(
            request.recipe.recipe,
            root,
            request.worker_threads,
            request.isolate,
            hash_payloads,
            request.limit,
            forgotten,
        )
    if request.drift:
        drift.expect_schema(request.output, current, new_plan.table_schema, new_plan.features)
    warnings = list(new_plan.inventory.warnings)
    if new_plan.table_schema is not None:
        warnings += drift.compare_columns(request.output, current, new_plan.table_schema)
    warnings = forgotten.hide(warnings, of_table=new_plan.table_schema is not None)
    content = identity.content_id(request.recipe, new_plan.inventory.digest, request.limit)
    shape = identity.shape_id(request.recipe, new_plan)
    frame = identity.frame_id(request.recipe, new_plan)
    full = PlannedRun(new_plan, content, current, warnings, content, shape, forgotten=forgotten, frame_id=frame)
    planned = on_current(request, full)
    if request.keep_prepared and planned.anew:
        raise RequestError(not_kept(planned.anew))
    return planned


def _expect_sample(output: str) -> None:
    """Raises RequestError where a sample would take the place of a whole dataset."""
    try:
        manifest = Manifest.load(output)
    except DatasetError as error:
        raise RequestError(f"--limit: expected an output that is new, or holds a sample, found: {error}") from error
    if LIMIT not in manifest.origin.options:
        raise RequestError(
            f"--limit: expected an output that is new, or holds a sample, found the whole dataset of generation "
            f"{manifest.generation} in {files.redact(output)}, whose place the sample would take; give another --output"
        )


def _in_folder(request: RunRequest, hasher: PayloadHasher) -> PayloadHasher:
    """A hasher that is told of a folder, where the original is told of a hash over the input."""

    def hash_payloads(digest: str, candidates: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        content = identity.content_id(request.recipe, digest, request.limit)
        return hasher(files.join(files.absolute(request.output), paths.payload_hashes(content)), candidates)

    return hash_payloads


def check(recipe: LoadedRecipe, source: str | None = None) -> Plan | None:
    """Checks as much of a recipe as can be checked without TensorFlow and Beam, and without writing anything.

    Args:
      recipe: The recipe; its fields were checked when it was loaded.
      source: The input folder, to list what the recipe finds there and to prepare a few examples of it.

    Returns:
      The plan of what is found; None where no folder is given.

    Raises:
      RequestError: `features` does not take one argument, a function of `prepare` cannot be sent to a worker, or the
        recipe does not fit the input.
    """
    function = recipe.recipe.features
    if function is not None:
        try:
            inspect.signature(function).bind(None)
        except TypeError as error:
            raise RequestError(
                f"Recipe(features=...): expected a function of one argument, `inputs`, found {function!r}: {error}"
            ) from error
        except ValueError:
            pass  # a function of C's has no signature
    with shipped(recipe.module, recipe.own):
        _check_shippable(recipe.recipe.prepare)
        if source is None:
            return None
        _check_input(source)
        return make_plan(recipe.recipe, files.absolute(source), threads=1)


@dataclass(frozen=True)
class Preview:
    """What is known of a planned run before it.

    Attributes:
      planned: The run, once it is known what `features` needs; see `settle`.
      warnings: What the user should know.
      costs: What it takes; None where not one piece of the input could be tried.
    """

    planned: PlannedRun
    warnings: Sequence[str]
    costs: Costs | None


def preview(request: RunRequest, planned: PlannedRun) -> Preview:
    """Traces `features`, where there are any, and prepares a few examples: finds mistakes, warnings and costs.

    Raises:
      RequestError: `features` fails on the features that `prepare` makes, or the request is wrong otherwise.
    """
    recipe, features = request.recipe.recipe, planned.plan.features
    if recipe.features is not None:
        analysis = analyze(request, planned)
        settled = settle(planned, analysis)
        job = prepare(request, settled, analysis)
        return Preview(settled, job.commit.plan.warnings, _estimate(request, settled, job.make.preparer))
    _budget(request)
    preparer = planned.plan.preparer(StatisticsSpec(recipe.statistics, summaries.column_specs(features, ()), ()))
    with shipped(request.recipe.module, request.recipe.own):
        _check_shippable(preparer)
    warnings = [*planned.warnings, *advice.passed_lists(features)]
    return Preview(planned, warnings, _estimate(request, planned, preparer))


def _estimate(request: RunRequest, planned: PlannedRun, preparer: Preparer) -> Costs | None:
    """What a run takes, by some pieces that are prepared for it."""
    plan = planned.plan
    with shipped(request.recipe.module, request.recipe.own):
        measured = measure(plan.units, preparer, request.isolate is not None)
    if not measured:
        return None
    units, is_table = plan.units.units, plan.table_schema is not None
    left = planned.reuse.takeover.to_prepare if planned.reuse else [(unit.examples, unit.size) for unit in units]
    work = Work(
        units=sorted(
            (size if is_table else reference_nanoseconds(examples, size) for examples, size in left), reverse=True
        ),
        shards=sum(len(unit.shards) for unit in units),
        pieces=planned.reuse.takeover.new_pieces if planned.reuse else plan.units.pieces,
        nominal=plan.scans is not None,
        input_bytes=sum(size for _, size in left),
        remote_input=not files.is_local(request.input),
        remote_output=not files.is_local(request.output),
    )
    return estimate(work, measured, request.workers, request.worker_threads)


def _check_input(source: str) -> None:
    """Raises RequestError where the input cannot be read."""
    if files.is_local(source):
        if not os.path.isdir(source):
            found = "a file" if os.path.exists(source) else "nothing"
            raise RequestError(f"--input: expected a folder, found {found} at {source}")
        return
    if files.is_unlisted(source):  # files there are read by name: the source asks for them
        return
    try:
        is_there = files.exists(source)
    except OSError as error:
        raise RequestError(f"--input: expected a folder that can be read, found: {error}") from error
    if not is_there:
        raise RequestError(f"--input: expected a folder, found nothing at {source}")


def _check_places(source: str, output: str) -> None:
    """Raises RequestError where the input cannot be read, or the output would not have a folder of its own."""
    _check_input(source)
    if files.is_local(output):
        _check_local_output(output)
    elif files.is_unlisted(output) or output.startswith("file://"):
        raise RequestError(f"--output: expected a path, or a URI such as s3:// or gs://, found {files.redact(output)}")
    for inner, outer in ((output, source), (source, output)):
        if _is_within(inner, outer):
            raise RequestError(
                f"--output: expected a folder outside of --input, and none around it, found {files.redact(output)} for "
                f"{files.redact(source)}"
            )
    if strangers := _strangers(output):
        raise RequestError(
            f"--output: expected an empty folder, a dataset or an unfinished run, found {strangers[0]!r} in {output}"
        )


def _check_local_output(output: str) -> None:
    """Raises RequestError where a local folder cannot be written."""
    if os.path.exists(output) and not os.path.isdir(output):
        raise RequestError(f"--output: expected a folder, found a file at {output}")
    above = os.path.abspath(output)
    while not os.path.exists(above):
        above = os.path.dirname(above)
    if not os.path.isdir(above) or not os.access(above, os.W_OK):
        raise RequestError(f"--output: expected a place where {output} can be written, found {above}, which bars it")


def expect_writable(request: RunRequest) -> None:
    """Tries to write where the output is to be, if that is on a store; what it writes there it removes again.

    Raises:
      RequestError: it cannot be written; or the store ignores the conditions that let one of two runs win, and the user
        did not say that there is only one.
    """
    output = request.output
    if files.is_local(output):
        return
    _check_places(request.input, output)
    try:
        keeps_conditions = files.probe_conditions(output)
    except OSError as error:
        raise RequestError(f"--output: expected a folder that can be written, found: {error}") from error
    if not keeps_conditions and not request.single_writer:
        raise RequestError(
            f"--output: expected a store that refuses to create what is there, found that the one of {output} ignores "
            "conditions: of two runs the second would overwrite what the first committed; take another store, or give "
            "--single-writer if nothing else ever writes there while a run does"
        )


def _is_within(inner: str, outer: str) -> bool:
    """Whether a folder is another one, or lies in it."""
    if files.is_local(inner) != files.is_local(outer):
        return False
    if files.is_local(inner):
        inner, outer = os.path.realpath(inner), os.path.realpath(outer)
    return f"{inner.rstrip('/')}/".startswith(f"{outer.rstrip('/')}/")


def _strangers(output: str) -> list[str]:
    """What is in a folder that is no dataset, and no part of an unfinished run either."""
    try:
        if (files.is_local(output) and not os.path.isdir(output)) or files.exists(files.join(output, paths.POINTER)):
            return []
        names = files.list_names(output)
    except OSError as error:
        raise RequestError(f"--output: expected a folder that can be read, found: {error}") from error
    ours = (paths.is_generation, paths.is_payload_hashes, files.is_leftover)
    return [name for name in names if not any(is_ours(name) for is_ours in ours)]


def analyze(request: RunRequest, planned: PlannedRun) -> "Analysis":
    """Traces `features`.

    Raises:
      RequestError: it fails on the features that `prepare` makes.
    """
    from .analysis import trace

    return trace.trace(request.recipe.recipe.features, planned.plan.features)


def prepare(request: RunRequest, planned: PlannedRun, analysis: "Analysis") -> "Job":
    """Says what the engine has to do. Writes nothing.

    Args:
      request: What is asked for.
      planned: What is to be made, once `settle` knows the analysis.
      analysis: What `features` needs.

    Raises:
      RequestError: a function of `prepare` cannot be sent to a worker, or the budget is none.
    """
    from .beam import Job
    from .build.base import BaseGeneration
    from .build.duplicates import DuplicateOptions
    from .build.scan import ScanOptions
    from .build.units import MakeOptions
    from .build.versions import versions_here
    from .commit.commit import CommitOptions, PlanTotals

    recipe, plan, run = request.recipe.recipe, planned.plan, uuid.uuid4().hex
    budget, own, versions = _budget(request), request.recipe.own, versions_here()
    spec = StatisticsSpec(
        recipe.statistics,
        summaries.column_specs(plan.features, analysis.summary_specs),
        analysis.first_columns,  # later phases read the shards
    )
    statistics_id = identity.statistics_id(spec, request.recipe, analysis.phases)
    preparer = plan.preparer(spec)
    with shipped(request.recipe.module, request.recipe.own):
        _check_shippable(preparer)
    output = files.absolute(request.output)  # a worker may have another working directory
    root = files.join(output, planned.generation_id)
    scan = None
    if plan.scans:
        assert isinstance(recipe.source, RecordSource)
        scan = ScanOptions(root, recipe.source, len(plan.scans), request.threads, own=own, versions=versions)
    duplicates = None
    if plan.finds_duplicates:
        assert isinstance(preparer, TablePreparer)
        duplicates = DuplicateOptions(root, preparer, len(plan.units), request.threads, own=own, versions=versions)
    base = delta = None
    if planned.reuse:
        takeover = planned.reuse.takeover
        base = BaseGeneration(files.join(output, takeover.base), planned.reuse.base.statistics == statistics_id)
        shapes = planned.reuse.base.shapes
        delta = DeltaEntry(takeover.base, takeover.whole_units, takeover.examples, shapes)
    return Job(
        make=MakeOptions(
            root=root,
            run=run,
            preparer=preparer,
            analysis=analysis if analysis.phases else None,
            threads=request.threads,
            targets=plan.targets,
            splits=tuple(plan.splits),
            scan=scan,
            duplicates=duplicates,
            base=base,
            own=own,
            versions=versions,
        ),
        commit=CommitOptions(
            dataset=output,
            generation_id=planned.generation_id,
            run=run,
            created=datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds"),
            origin=_origin(request, planned, preparer),
            metadata=request.recipe.metadata,
            plan=PlanTotals(
                units=len(plan.units) + plan.targets,
                read=plan.inventory.read,
                filtered=plan.inventory.filtered,
                filtered_list=_stored(paths.PLAN_FILTERED, plan.inventory.filtered_examples),
                quarantined=plan.inventory.quarantined.counts,
                quarantine=plan.inventory.quarantined.stored(paths.PLAN_QUARANTINE),
                warnings=(*planned.warnings, *analysis.warnings),
            ),
            analysis=analysis,
            statistics=recipe.statistics,
            budget=budget,
            replaces=planned.current,
            drift=request.drift,
            identity=Identity(planned.content_id, planned.shape_id, statistics_id, planned.frame_id),
            delta=delta,
            retried=planned.retried,
            own=own,
            versions=versions,
            forgotten=stored_file(paths.FORGOTTEN, planned.forgotten.encode(), len(planned.forgotten))
            if planned.forgotten
            else None,
        ),
        order=plan.units.largest_first(),
    )


def check_budget(request: RunRequest, planned: PlannedRun) -> None:
    """Refuses a run of which the plan knows already that it will be over its budget.

    Raises:
      OverBudgetError: planning itself met more examples that cannot be used than the budget allows.
    """
    known = planned.plan.known_losses
    budget = _budget(request)
    if known.read >= 0 and (excess := budget.excess(known.quarantined, known.read, known.examples)):
        raise OverBudgetError(
            f"{excess}; nothing was written, and a run would commit nothing: fix the input or raise --max-quarantined"
        )


def _budget(request: RunRequest) -> Budget:
    try:
        return Budget.parse(request.max_quarantined)
    except ValueError as error:
        raise RequestError(f"--max-quarantined: {error}") from error


def begin(job: "Job", planned: PlannedRun, before: "FinishedUnits") -> StoredFile:
    """Makes the new generation the run's own, and writes the plan and what it quarantines into it.

    A plan that is there from before is replaced: it may name the same input by other URIs, from another folder.

    Args:
      job: The run, which has the generation's lease.
      planned: What is to be made.
      before: What is there of the generation.

    Returns:
      The file with what the units read, which stays in the generation.

    Raises:
      RequestError: that plan was made for other units.
    """
    from .build.claim import claim
    from .build.shards import write_lines

    root, units = job.make.root, planned.plan.units
    units_uri = files.join(root, paths.PLAN_UNITS)
    there = plan_file.read_units(units_uri) if before.has_file(paths.PLAN) else None
    made_alike = [[replace(unit, base=None) for unit in each] for each in (there or units.units, units.units)]
    if made_alike[0] != made_alike[1]:
        raise RequestError(
            f"{root}: expected an unfinished run of {len(units)} units, found one of {len(made_alike[0])}, or other "
            "ones: "
            "`prepare` gives other results than then; remove this folder and run again"
        )
    claim(root, job.make.run)
    _name_base(job.commit.dataset, root, planned, before)
    files.write_bytes(files.join(root, paths.PLAN_UNITS), units.lines())
    units.write(files.join(root, paths.PLAN))
    if isinstance(job.make.preparer, TablePreparer):
        for table, digest in job.make.preparer.joins():
            table.keep(files.join(root, paths.JOINED), digest)
    if planned.plan.scans:
        planned.plan.scans.write(files.join(root, paths.NOMINAL))
    inventory = planned.plan.inventory
    for path, count in (
        (paths.PLAN_QUARANTINE, len(inventory.quarantined)),
        (paths.PLAN_FILTERED, len(inventory.filtered_examples)),
    ):
        if not count and before.has_file(path):
            files.remove_files([files.join(root, path)])
    if planned.forgotten:
        files.write_bytes(files.join(root, paths.FORGOTTEN), planned.forgotten.encode())
    inventory.quarantined.write(files.join(root, paths.PLAN_QUARANTINE))
    write_lines(root, paths.PLAN_FILTERED, [example.to_line() for example in inventory.filtered_examples])
    return units.keep(root, inventory.versions)


def _name_base(dataset: str, root: str, planned: PlannedRun, before: "FinishedUnits") -> None:
    """Has a generation that is being made name its base, which `penstock prune` leaves alone as long as it does.

    Raises:
      PenstockError: the base is gone.
    """
    if planned.reuse is None:
        if before.has_file(paths.BASE):
            files.remove_files([files.join(root, paths.BASE)])
        return
    base = planned.reuse.takeover.base
    files.write_bytes(files.join(root, paths.BASE), base.encode())
    if not files.exists(files.join(dataset, base, paths.MANIFEST)):
        raise PenstockError(
            f"{files.join(dataset, base)}: expected the generation that this run takes examples over from, found that "
            "`penstock prune` has removed it; run again"
        )


def find_units(planned: PlannedRun, damaged: Sequence[str]) -> list[int] | None:
    """The units that made some files of a generation; None where others than single units have a part in them.

    Args:
      planned: The plan.
      damaged: The files' paths in the generation.
    """
    if planned.plan.targets:
        return None
    owners = {
        paths.PLAN_QUARANTINE: -1,
        paths.PLAN_FILTERED: -1,
        paths.INPUTS: -1,
        paths.FORGOTTEN: -1,
    }  # `begin` writes them
    for unit in planned.plan.units.units:
        owners |= dict.fromkeys(paths.unit_files(unit.index), unit.index)
        for shard in unit.shards.values():
            owners[shard.path] = owners[shard.index_path] = unit.index
    if any(path not in owners for path in damaged):
        return None
    return sorted({owners[path] for path in damaged} - {-1})


def _stored(path: str, examples: Sequence[FilteredExample]) -> StoredFile | None:
    """The file that `begin` writes of examples that the plan filters; None where there are none."""
    lines = [example.to_line() for example in examples]
    return stored_file(path, b"".join(lines), len(lines)) if lines else None


def _check_shippable(functions: object) -> None:
    """Raises RequestError where the recipe's functions, or what has them, cannot be sent to a worker."""
    try:
        cloudpickle.dumps(functions)
    except Exception as error:  # whatever an object's pickling raises
        raise RequestError(
            f"Recipe(prepare=...): expected functions that can be sent to a worker, found {error}; make what they "
            "need (a lock, an open file, a model) inside the function"
        ) from error


def _origin(request: RunRequest, planned: PlannedRun, preparer: Preparer) -> Origin:
    """What the manifest says of what the generation is made from and by."""
    recipe, table_schema = request.recipe.recipe, planned.plan.table_schema
    packages = ("tensorflow", "penstock", "pillow", "simplejpeg", "cykooz-resizer", "numpy")
    return Origin(
        recipe=RecipeName(request.recipe.name, request.recipe.hash),
        versions={
            "python": platform.python_version(),
            "beam": version("apache-beam"),
            "tft": version("tensorflow-transform"),
            **{name: version(name) for name in packages},
        },
        options={
            "input": files.absolute(request.input),
            "input_digest": planned.plan.inventory.digest,
            "format": recipe.format,
            "compression": recipe.compression,
            "shuffle": recipe.shuffle,
            "seed": recipe.seed,
            "deduplicate": recipe.deduplicate,
            "splits": dict(planned.plan.split_rule),
            "max_quarantined": request.max_quarantined,
            "isolate": request.isolate,
            **({} if request.limit is None else {LIMIT: request.limit}),
        },
        prepare=step_configs.describe(preparer),
        schema=raw_schema.to_text(table_schema) if table_schema is not None else None,
    )
