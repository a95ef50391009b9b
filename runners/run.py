"""Runs a recipe: the one way in, for the command line and for Python."""

import contextlib
import fcntl
import json
import os
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from ..pipeline.build.journal import Journal
from ..pipeline.errors import OverBudgetError, PenstockError
from ..pipeline.formats import paths
from ..pipeline.formats.manifest import Manifest, Pointer, publish
from ..pipeline.job import PlannedRun, RunRequest, begin, plan, prepare
from ..pipeline.storage import files

_POLL = 0.5  # seconds between two looks at how far the units are


class Reporter(Protocol):
    """Is told how a run goes."""

    def stage(self, text: str) -> None:
        """A new stage begins."""

    def planned(self, planned: PlannedRun) -> None:
        """The plan is made."""

    def progress(self, read: int, quarantined: int) -> None:
        """So many examples were taken in hand so far, so many of them quarantined."""

    def committed(self, warnings: Sequence[str]) -> None:
        """The dataset is committed; what was found to warn of since it was planned."""


class Silent:
    """A reporter that says nothing."""

    def stage(self, text: str) -> None:
        pass

    def planned(self, planned: PlannedRun) -> None:
        pass

    def progress(self, read: int, quarantined: int) -> None:
        pass

    def committed(self, warnings: Sequence[str]) -> None:
        pass


@dataclass(frozen=True)
class Result:
    """What came of a run: `committed`, or `up_to_date` where there was nothing to do; and the dataset's manifest."""

    status: str
    manifest: Manifest


def run(request: RunRequest, reporter: Reporter | None = None, beam_arguments: Sequence[str] = ()) -> Result:
    """Runs a recipe to a committed dataset. Resumes an unfinished run; does nothing where there is nothing to do.

    Args:
      request: What is asked for.
      reporter: Is told how it goes.
      beam_arguments: Further options for Beam.

    Raises:
      RequestError: the request is wrong; nothing was done.
      OverBudgetError: too many examples were quarantined; nothing was committed.
      PenstockError: the run failed; nothing was committed.
    """
    reporter = reporter or Silent()
    reporter.stage("planning")
    planned = plan(request)
    reporter.planned(planned)
    existing = _committed_before(request.output, planned)
    root = files.join(request.output, planned.generation_id)
    if existing is not None:
        with contextlib.suppress(PenstockError), _alone(root):
            files.remove(files.join(root, paths.WORK))  # of a run that was killed right after its commit
        return Result("up_to_date", existing)
    reporter.stage("tracing the features")
    job = prepare(request, planned)
    os.makedirs(root, exist_ok=True)
    with _alone(root):
        current = Pointer.read(request.output)
        if current != planned.current and current and current.generation == planned.generation_id:
            files.remove(files.join(root, paths.WORK))
            return Result("up_to_date", Manifest.load(request.output))  # another run has made it meanwhile
        files.remove_temporaries(root)
        begin(job, planned)
        reporter.stage("making")
        files.remove(files.join(root, paths.OUTCOME))
        with _Watch(root, job.commit.plan.units, reporter):
            _run_engine(job, request, beam_arguments)
        outcome = json.loads(files.read_bytes(files.join(root, paths.OUTCOME)))
        if "refused" in outcome:
            refusal = OverBudgetError if outcome["refused"] == OverBudgetError.__name__ else PenstockError
            raise refusal(outcome["message"])
        files.remove(files.join(root, paths.WORK))
        manifest = Manifest.load(request.output)
        reporter.committed([warning for warning in manifest.warnings if warning not in planned.warnings])
        return Result("committed", manifest)


@contextlib.contextmanager
def _alone(generation: str) -> Iterator[None]:
    """Keeps other runs off a generation that this one makes; the kernel frees the lock when a process dies.

    Two runs of one job would write the same files: one's manifest would replace the other's after its commit.
    """
    descriptor = os.open(generation, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise PenstockError(f"another run is making {generation}; wait for its end, then run again") from error
        yield
    finally:
        os.close(descriptor)


def _committed_before(dataset: str, planned: PlannedRun) -> Manifest | None:
    """The manifest, where this very generation was committed before; the dataset points to it afterwards."""
    current = planned.current
    if current and current.generation == planned.generation_id:
        return Manifest.load(dataset)
    uri = files.join(dataset, planned.generation_id, paths.MANIFEST)
    if current is None or not files.exists(uri) or files.exists(files.join(dataset, planned.generation_id, paths.WORK)):
        return None
    publish(dataset, Pointer.to(planned.generation_id, files.read_bytes(uri)), current)
    return Manifest.load(dataset)


def _run_engine(job: Any, request: RunRequest, beam_arguments: Sequence[str]) -> None:
    """Runs the job to its end; where it fails, says why, and how much of it is done.

    Raises:
      OverBudgetError: nothing could be analyzed, since too many examples were quarantined.
      PenstockError: a stage failed.
    """
    from ..pipeline.commit.commit import check_budget, count
    from . import direct

    try:
        direct.run(job, request.workers, beam_arguments, request.recipe.module)
    except PenstockError:
        raise
    except Exception as error:  # an engine wraps whatever a stage raised in exceptions of its own
        journals = [Journal.read_finished(job.commit.root, unit) for unit in range(job.commit.plan.units)]
        finished = [journal for journal in journals if journal]
        if len(finished) == job.commit.plan.units:  # analyzers choke on nothing: say why there is nothing
            check_budget(job.commit, count(job.commit, finished))
        raise PenstockError(
            f"the run failed, nothing was committed: {_root_cause(error)}\n"
            f"{len(finished)} of {job.commit.plan.units} units are finished; run again to resume"
        ) from error


def _root_cause(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    return f"{type(error).__name__}: {str(error).strip()}"


class _Watch:
    """Tells the reporter every half second how far the units are, from their journals and heartbeats."""

    def __init__(self, generation: str, units: int, reporter: Reporter) -> None:
        self._generation = generation
        self._units = units
        self._reporter = reporter
        self._finished: dict[int, Journal] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="progress", daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._look()

    def _watch(self) -> None:
        while not self._stop.wait(_POLL):
            self._look()

    def _look(self) -> None:
        """Adds up what finished units and those at work have read, and tells it."""
        read = quarantined = 0
        for unit in range(self._units):
            journal = self._finished.get(unit) or Journal.read_finished(self._generation, unit)
            if journal:
                self._finished[unit] = journal
                read += journal.read
                quarantined += sum(journal.quarantined.values())
                continue
            try:
                beat = json.loads(files.read_bytes(files.join(self._generation, paths.unit_progress(unit))))
                read += beat["read"]
                quarantined += beat["quarantined"]
            except OSError:
                continue  # not begun
        self._reporter.progress(read, quarantined)
