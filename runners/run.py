"""Runs a recipe: the one way in, for the command line and for Python."""

import contextlib
import datetime
import hashlib
import os
import re
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ..pipeline.build.journal import FinishedUnits
from ..pipeline.commit.drift import expect_like
from ..pipeline.commit.sealing import has_record
from ..pipeline.errors import DatasetError, PenstockError, RequestError
from ..pipeline.formats import paths
from ..pipeline.formats.manifest import Manifest
from ..pipeline.formats.pointer import Pointer, expect_replaceable, mark_removing
from ..pipeline.job import analyze, begin, expect_writable, plan, prepare
from ..pipeline.planned_run import PlannedRun, RunRequest, settle
from ..pipeline.planning.own_modules import unsent_modules
from ..pipeline.planning.recipe import LoadedRecipe
from ..pipeline.prepare.shipping import shipped
from ..pipeline.storage import files
from ..pipeline.storage.leases import Lease
from .engine import Engine, EngineOptions, RunningJob, make_engine
from .existing import Existing, find_existing, repair, take
from .follow import (
    NOTHING_CHANGED,
    Detached,
    Result,
    Watch,
    alone,
    ended_early,
    expect_no_other_job,
    has_ended,
    progress_of,
    read_outcome,
    remove_folder,
    remove_work,
    wait,
)
from .job_record import JobRecord
from .process import expect_preparing
from .reporter import MAKING, Reporter, Silent

if TYPE_CHECKING:
    import apache_beam as beam
    import pyarrow as pa

    from ..pipeline.beam import Job


def run(
    request: RunRequest,
    reporter: Reporter | None = None,
    engine: Engine | None = None,
    detach: bool = False,
) -> Result:
    """Runs a recipe to a committed dataset. Resumes an unfinished run; does nothing where there is nothing to do.

    Args:
      request: What is asked for.
      reporter: Is told how it goes.
      engine: Where it runs; None: in this process and its workers.
      detach: Whether to leave the job to its engine once that has it.

    Raises:
      Detached: the job goes on without this process, as it was asked to, or the user interrupted and said so.
      RequestError: the request is wrong; nothing was done.
      OverBudgetError: too many examples were quarantined; nothing was committed.
      PenstockError: the run failed; nothing was committed.
    """
    expect_preparing()
    reporter = reporter or Silent()
    engine = engine or make_engine("direct", EngineOptions(workers=request.workers))
    if detach and not engine.is_detachable:
        raise RequestError(
            f"--detach: expected an engine that goes on without this process, found --runner {engine.name}, whose "
            "workers, or job server, end with it; leave --detach out"
        )
    if engine.is_here and request.threads is None:  # workers share this machine's cores
        request = replace(request, threads=request.worker_threads)
    warnings = check_engine(engine, request)
    expect_writable(request)
    reporter.stage("planning")
    reporter.warn(warnings)
    planned = plan(request, _PayloadHasher(request, reporter, engine))
    reporter.planned(planned)
    existing = find_existing(request.output, planned)
    if existing.manifest and existing.pointer and not existing.damage:
        if request.drift and existing.pointer != planned.current:
            expect_like(request.output, planned.current, existing.manifest, request.drift)
        if take(request.output, planned, existing.pointer):
            return Result("up_to_date", existing.manifest)
        existing = Existing({})
    if existing.damage and planned.reuse is None and planned.generation_id != planned.content_id:
        raise DatasetError(f"{existing.damage_in_words()}, though it was whole when the run was planned; run again")
    if existing.damage:
        reporter.stage(f"{existing.damage_in_words()}: making it again")
    reporter.stage("tracing the features")
    analysis = analyze(request, planned)
    settled = settle(planned, analysis)
    if settled is not planned:
        planned, existing = settled, Existing({})
        reporter.settled(planned)
    job = prepare(request, planned, analysis)
    reporter.warn([warning for warning in job.commit.plan.warnings if warning not in planned.warnings])
    with _shipped_by_value(request.recipe):
        reporter.warn(engine.check_plan(request, planned, partial(_count_stages, job)))
        return _run(job, planned, existing, _Launch(engine, request, reporter, detach))


def check_engine(engine: Engine, request: RunRequest) -> list[str]:
    """Looks before any work whether an engine can run a request; gives what the user should know.

    Raises:
      RequestError: it cannot.
    """
    warnings, recipe = [*engine.check(request)], request.recipe
    place = getattr(recipe.module, "__file__", None)
    if not engine.is_here and place is not None and os.path.isfile(place):
        for name, file in unsent_modules(Path(place), recipe.own).items():
            warnings.append(
                f"{recipe.name} imports {name} from {file}, which is not sent to workers: install it where they run, "
                "or move it into the recipe's folder"
            )
    return warnings


def check_planned(engine: Engine, request: RunRequest, planned: PlannedRun) -> list[str]:
    """Looks whether an engine is large enough for what was planned; gives what the user should know.

    Raises:
      RequestError: it is not.
    """

    def count_stages() -> int:
        analysis = analyze(request, planned)
        return _count_stages(prepare(request, settle(planned, analysis), analysis))

    with _shipped_by_value(request.recipe):
        return [*engine.check_plan(request, planned, count_stages)]


@dataclass(frozen=True)
class _Launch:
    """How a job is run: where, for what request, who is told, and whether it is left to its engine."""

    engine: Engine
    request: RunRequest
    reporter: Reporter
    detach: bool


def _run(job: "Job", planned: PlannedRun, existing: Existing, launch: _Launch) -> Result:
    """What `run` does once it is known that there is something to do."""
    engine, request, reporter = launch.engine, launch.request, launch.reporter
    with alone(job.make.root, job.make.run) as lease:
        current = Pointer.read(request.output)
        if current != planned.current:
            if current is None or current.generation != planned.generation_id:
                expect_replaceable(request.output, current, planned.generation_id, planned.current)
            return Result("up_to_date", _load_manifest(job))  # another run has made it meanwhile
        expect_no_other_job(request.output, planned.generation_id)
        before = _clear(job, current, lease)
        inputs = begin(job, planned, before)
        if existing.manifest and repair(job, planned, existing, reporter):
            remove_work(job.make.root, lease)
            reporter.committed([])
            return Result("committed", existing.manifest, planned.anew)
        reporter.stage(MAKING)
        job = replace(
            job,
            finished=before.numbers(),
            commit=replace(job.commit, superseded=_find_superseded(job.make.root, before), inputs=inputs),
        )
        with _placed(job, engine) as placed:
            generation = _run_engine(placed, planned, launch)
        manifest = Manifest.read_generation(job.commit.dataset, generation)[0]  # another run may have committed since
        if generation != planned.generation_id:
            remove_folder(job.make.root, lease)
            return Result("up_to_date", manifest, note=NOTHING_CHANGED)
        remove_work(job.make.root, lease)
        reporter.progress(progress_of(manifest))
        reporter.committed([warning for warning in manifest.warnings if warning not in job.commit.plan.warnings])
        return Result("committed", manifest, planned.anew)


@dataclass(frozen=True)
class _PayloadHasher:
    """Has the engine hash payloads while a plan waits for it: a `PayloadHasher` that is told of a folder."""

    request: RunRequest
    reporter: Reporter
    engine: Engine

    def __call__(self, folder: str, candidates: Iterator["pa.RecordBatch"]) -> Iterator["pa.RecordBatch"]:
        from ..pipeline.build.payload_hashes import HashOptions, add_hashing, read_hashes, write_tasks

        self.reporter.stage("hashing payloads")
        run = uuid.uuid4().hex
        with alone(folder, run) as lease:  # another run's tasks have the same names
            tasks = write_tasks(folder, candidates)
            try:
                options = HashOptions(folder, tasks, self.request.threads)
                name = _job_name("hash", self.request.recipe.name, run)
                with _shipped_by_value(self.request.recipe):
                    job = self.engine.submit(partial(add_hashing, options), name)
                    wait(job, self.engine, None, self.reporter)
            except PenstockError as error:
                raise PenstockError(
                    f"payloads could not be hashed, nothing was committed: {error}; run again to resume"
                ) from error
            yield from read_hashes(folder, tasks)
            remove_folder(folder, lease)


def _clear(job: "Job", current: Pointer | None, lease: Lease) -> FinishedUnits:
    """Removes from the generation what nobody will need; returns what is left."""
    dataset, generation, root = job.commit.dataset, job.commit.generation_id, job.make.root
    if current and generation in current.removing:  # by a `prune` that was killed, for its lease is ours
        lease.remove(root)
        mark_removing(dataset, [], [generation])
    files.remove_temporaries(root)
    before = FinishedUnits(root)
    if before.has_file(paths.JOB):  # of a job that has ended
        files.remove_files([files.join(root, paths.JOB)])
    return before


def _find_superseded(root: str, before: FinishedUnits) -> str | None:
    """The checksum of a manifest.json that is to be made again; None: there is none, or its commit can be ended."""
    if not before.has_file(paths.MANIFEST):
        return None
    content = files.read_bytes(files.join(root, paths.MANIFEST))
    return None if has_record(root, content) else hashlib.sha256(content).hexdigest()


@contextlib.contextmanager
def _placed(job: "Job", engine: Engine) -> Iterator["Job"]:
    """The job with a place where its workers tell how far they are, as long as the block runs."""
    if not engine.is_here:
        yield replace(job, make=replace(job.make, progress=files.join(job.make.root, paths.progress(job.make.run))))
        return
    with tempfile.TemporaryDirectory(prefix="penstock-", ignore_cleanup_errors=True) as folder:
        yield replace(job, make=replace(job.make, progress=files.join(folder, "progress")))


def _run_engine(job: "Job", planned: PlannedRun, launch: _Launch) -> str:
    """Runs the job to its end; where it fails, says why, and how much of it is done.

    Returns:
      The generation that is current then; see `follow.read_outcome`.

    Raises:
      Detached: it goes on without this process.
      OverBudgetError: too many examples were quarantined.
      PenstockError: a stage failed.
    """
    engine, reporter = launch.engine, launch.reporter
    failed = partial(ended_early, "the run", job.commit.root, job.commit.plan.units)
    running = engine.submit(partial(_build, job), _job_name("make", launch.request.recipe.name, job.make.run))
    record = None
    if engine.is_detachable:
        try:
            record = _write_record(job, planned, running, launch)
        except OSError:  # nobody could find it
            running.cancel()
            raise
        reporter.submitted(record)
        if launch.detach:
            raise Detached(record)
    try:
        with Watch(running, engine, job.make.progress, reporter):
            wait(running, engine, record, reporter)
    except PenstockError as error:
        if _is_committed(job):  # whatever failed then, the dataset is there
            return job.commit.generation_id
        if record and has_ended(running):
            record.remove()
        raise failed(str(error)) from error
    try:
        return read_outcome(job.commit.root, job.commit.run, partial(_is_committed, job), failed)
    except PenstockError:
        if record:
            record.remove()
        raise


def _write_record(job: "Job", planned: PlannedRun, running: RunningJob, launch: _Launch) -> JobRecord:
    """Leaves a job's record in its generation, so that other commands can follow it."""
    record = JobRecord(
        dataset=job.commit.dataset,
        generation=job.commit.generation_id,
        run=job.make.run,
        engine=launch.engine.name,
        job_id=running.job_id,
        url=running.url,
        started=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        units=job.commit.plan.units,
        examples=planned.plan.units.examples,
        replaces=job.commit.replaces.sha256 if job.commit.replaces else None,
    ).with_options(launch.engine.options)
    record.write()
    return record


def _build(job: "Job", pipeline: "beam.Pipeline") -> None:
    """Adds the transforms of a job to a pipeline."""
    from ..pipeline.beam import Build

    _ = pipeline | Build(job)


@contextlib.contextmanager
def _shipped_by_value(recipe: LoadedRecipe) -> Iterator[None]:
    """Has pipelines hold a recipe's functions themselves; workers in this process pickle them again while they work."""
    import cloudpickle
    from apache_beam.internal.cloudpickle import cloudpickle as beam_cloudpickle  # a copy of Beam's own

    with shipped(recipe.module, recipe.own, (beam_cloudpickle, cloudpickle)):
        yield


def _count_stages(job: "Job") -> int:
    """How many transforms a job's pipeline has, composite ones not counted."""
    import apache_beam as beam
    from apache_beam.pipeline import PipelineVisitor

    class Counter(PipelineVisitor):
        count = 0

        def visit_transform(self, transform_node: object) -> None:
            self.count += 1

    pipeline, counter = beam.Pipeline(runner="FnApiRunner"), Counter()
    try:
        _build(job, pipeline)
        pipeline.visit(counter)
    finally:
        shutil.rmtree(pipeline.local_tempdir, ignore_errors=True)  # which only a pipeline that runs removes
    return counter.count


def _job_name(task: str, recipe: str, run: str) -> str:
    """A job's name, of the characters and the length that every engine takes."""
    words = re.sub(r"[^a-z0-9]+", "-", recipe.lower()).strip("-")[:32]
    return f"penstock-{task}-{words or 'recipe'}-{run[:8]}"


def _is_committed(job: "Job") -> bool:
    """Whether the dataset points to what the job made: to a manifest that was not there before."""
    current = Pointer.read(job.commit.dataset)
    return current is not None and current != job.commit.replaces and current.generation == job.commit.generation_id


def _load_manifest(job: "Job") -> Manifest:
    """The manifest of what the job made: the dataset may point to what another run has made since."""
    return Manifest.read_generation(job.commit.dataset, job.commit.generation_id)[0]
