"""Follows a job that makes a generation, to the commit: a run's own, or one that was submitted before."""

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial

from ..pipeline import errors
from ..pipeline.build.claim import stop
from ..pipeline.build.journal import FinishedUnits
from ..pipeline.build.progress import Progress, ProgressReader, interval
from ..pipeline.errors import INTERRUPTED, DatasetError, OverBudgetError, PenstockError, RequestError
from ..pipeline.formats import paths
from ..pipeline.formats.manifest import Manifest
from ..pipeline.storage import files
from ..pipeline.storage.leases import Lease, leased_folder
from .engine import Engine, EngineOptions, RunningJob
from .job_record import JobRecord
from .reporter import MAKING, Interrupt, Reporter, Silent

NOTHING_CHANGED = "what had been quarantined is quarantined again: nothing changed"
_REMOTE_POLL = 5.0  # seconds between two looks at a job elsewhere
_SIGNS = 30.0  # seconds in which a job's workers give a sign of life, if there are any


@dataclass(frozen=True)
class Result:
    """What came of a run.

    Attributes:
      status: `committed`, or `up_to_date` where there was nothing to do, or trying again changed nothing.
      manifest: The dataset's manifest.
      anew: Why nothing was taken over from the generation before, in words; empty where that is not known, or something
        was, or there was none.
      note: What else is to be said of it; empty where nothing is.
    """

    status: str
    manifest: Manifest
    anew: str = ""
    note: str = ""


class Detached(Exception):
    """A job goes on without the process that submitted or followed it.

    Attributes:
      record: The job.
      interrupted: Whether the user interrupted the command, and did not ask for it before.
    """

    def __init__(self, record: JobRecord, interrupted: bool = False) -> None:
        super().__init__(f"{record.name} goes on; follow it with: penstock attach {record.dataset}")
        self.record = record
        self.interrupted = interrupted

    @property
    def exit_code(self) -> int:
        """The command's exit code."""
        return INTERRUPTED if self.interrupted else 0


@contextlib.contextmanager
def alone(folder: str, run: str) -> Iterator[Lease]:
    """Keeps other runs off a generation that this one makes, or the hashes for it, and `prune`, too.

    Two runs of one job would do the same work twice, and the first to end would remove what the other still needs.
    """
    with leased_folder(folder, paths.LEASE, run) as lease:
        if lease is None:
            raise PenstockError(f"another run is making {folder}; wait for its end, then run again")
        yield lease


def remove_work(generation: str, lease: Lease) -> None:
    """Removes what only a run needs; where that fails it stays, for the dataset is committed all the same."""
    remove_folder(files.join(generation, paths.WORK), lease)


def remove_folder(folder: str, lease: Lease) -> None:
    """Removes a folder, if that can be done and the lease is still held."""
    if lease.is_held():
        with contextlib.suppress(OSError):
            lease.remove(folder)


def read_outcome(root: str, run: str, is_committed: Callable[[], bool], failed: Callable[[str], PenstockError]) -> str:
    """What a run came to that has ended; an attempt may fail beside one that succeeds.

    Args:
      root: The generation's URI.
      run: The run's id.
      is_committed: Whether the dataset is what the run made.
      failed: What to say where not all was made, or the commit failed by accident, and why.

    Returns:
      The generation that is current: the run's own, or the one before where trying again changed nothing.

    Raises:
      PenstockError: what it ended for without a commit; or how it ended is not known.
    """
    own = root.rpartition("/")[2]
    try:
        outcome = json.loads(files.read_bytes(files.join(root, paths.outcome(run))))
    except FileNotFoundError as error:
        if is_committed():  # who followed the job beside this process has removed it
            return own
        raise PenstockError(f"{root}: expected word of how the job ended, found none; run again") from error
    if "refused" in outcome and not is_committed():
        if not outcome["is_whole"] or not hasattr(errors, outcome["refused"]):
            raise failed(outcome["message"])
        refusal = OverBudgetError if outcome["refused"] == OverBudgetError.__name__ else PenstockError
        raise refusal(outcome["message"])
    return str(outcome.get("committed", own))


def ended_early(name: str, root: str, units: int, why: str) -> PenstockError:
    """What to say of a run that ended before all was made.

    Args:
      name: The run.
      root: The generation's URI.
      units: How many units there are.
      why: Why it ended.
    """
    finished = "its finished units cannot be counted"
    with contextlib.suppress(OSError):
        finished = f"{len(FinishedUnits(root).numbers())} of {units} units are finished"
    return PenstockError(f"{name} failed, nothing was committed: {why}\n{finished}; run again to resume")


def progress_of(manifest: Manifest) -> Progress:
    """How far units are of which a manifest tells."""
    shard_bytes = sum(split.bytes for split in manifest.splits.values())
    return Progress(manifest.read, manifest.quarantined, manifest.written, shard_bytes)


def wait(job: RunningJob, engine: Engine, record: JobRecord | None, reporter: Reporter) -> None:
    """Waits for a job's end; asks what to do where the user interrupts that.

    Args:
      job: The job.
      engine: Where it runs.
      record: The job's record, if it can go on without this process.
      reporter: Asks the user.

    Raises:
      Detached: the user leaves it running.
      KeyboardInterrupt: the user cancelled it.
      PenstockError: it did not succeed.
    """
    while True:
        try:
            job.wait()
            return
        except KeyboardInterrupt:
            choice = reporter.interrupted() if record else Interrupt.CANCEL
            if record and choice is Interrupt.DETACH:
                raise Detached(record, interrupted=True) from None
            if choice is Interrupt.CANCEL:
                try:
                    cancel(job, record)
                except KeyboardInterrupt:  # once more meanwhile: some who interrupt a process do it to its group, too
                    cancel(job, record)
                raise
            job = engine.find(job.job_id)  # what waited for it may have let go of it


def cancel(job: RunningJob, record: JobRecord | None) -> None:
    """Cancels a job, and removes its record.

    Raises:
      PenstockError: it could not be cancelled.
    """
    job.cancel()
    if record:
        record.remove()


class Watch:
    """Tells the reporter again and again how far a job is, as long as a block runs."""

    def __init__(self, job: RunningJob, engine: Engine, progress: str | None, reporter: Reporter) -> None:
        """Begins with the block.

        Args:
          job: The job, whose engine may tell.
          engine: Where it runs.
          progress: Where its workers tell, if the engine does not; None: nowhere.
          reporter: Is told.
        """
        self._job = job
        self._reporter = reporter
        self._reader = ProgressReader(progress) if progress else None
        self._interval = interval(progress) if progress else _REMOTE_POLL
        if not engine.is_here:
            self._interval = max(self._interval, _REMOTE_POLL)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="progress", daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(self._interval):
            with contextlib.suppress(OSError, PenstockError):  # the run goes on whether it can be watched or not
                if progress := look(self._job, self._reader):
                    self._reporter.progress(progress)


def look(job: RunningJob, reader: ProgressReader | None) -> Progress | None:
    """How far a job is: what its engine counts, or else what its workers wrote; None where neither tells."""
    return Progress.of_counters(job.counters()) or (reader.look() if reader else None)


def expect_no_other_job(dataset: str, generation: str) -> None:
    """Makes sure that no job makes a generation that this run is to make; the run has its lease.

    The launcher of such a job may be gone, and the lease with it. Its engine is asked; where that does not know the
    job, or cannot be reached, the job's workers are watched for signs of life.

    Raises:
      PenstockError: a job makes it.
    """
    record = JobRecord.read(dataset, generation)
    if record is None:
        return
    try:
        job = record.make_engine().find(record.job_id)
        alive = not job.state().is_final
    except PenstockError:  # it is not known, or its engine does not answer
        alive = _gives_signs(record)
    if alive:
        raise PenstockError(
            f"{record.root}: expected that nothing makes it, found {record.name}, submitted at {record.started}; "
            f"follow it with `penstock attach {dataset}`, or end it with `penstock attach --cancel {dataset}` and run "
            "again"
        )


def _gives_signs(record: JobRecord) -> bool:
    """Whether a job's workers write anything while they are watched; not at all where they never did."""

    def seen() -> list[tuple[str, float, int]]:
        folder = files.join(record.root, paths.progress(record.run))
        return [(info.uri, info.modified, info.size) for info in files.list_folder(folder)]

    before, end = seen(), time.monotonic() + _SIGNS
    while before and time.monotonic() < end:
        time.sleep(min(1.0, _SIGNS))
        if seen() != before:
            return True
    return False


def attach(
    dataset: str,
    reporter: Reporter | None = None,
    options: EngineOptions | None = None,
    cancels: bool = False,
) -> Result | None:
    """Follows the job that was submitted last for a dataset, and does after its commit what its run would have done.

    Args:
      dataset: The dataset's URI.
      reporter: Is told how it goes.
      options: What leads to the engine beside what the job's record says.
      cancels: Whether to cancel the job instead.

    Returns:
      What came of it; None where it was cancelled.

    Raises:
      Detached: the user leaves it running.
      RequestError: there is no such job.
      PenstockError: the job failed; nothing was committed.
    """
    reporter = reporter or Silent()
    record = JobRecord.find(dataset)
    if record is None:
        raise RequestError(
            f"{dataset}: expected a job that was submitted and whose end nobody has seen, found none; see "
            f"`penstock inspect {dataset}` for what is committed"
        )
    if record.is_committed():
        reporter.submitted(record)
        return _conclude(record, record.generation, reporter)
    engine = record.make_engine(options)
    try:
        job = engine.find(record.job_id)
    except RequestError as error:
        if not _has_outcome(record):
            if not cancels:
                raise RequestError(
                    f"{record.root}: {record.name} cannot be followed: {error}; if it is gone for good, let go of it "
                    f"by `penstock attach --cancel {dataset}`, or run again"
                ) from error
            stop(record.root, record.run, "it was cancelled by `penstock attach --cancel`")  # its workers, if there are
            record.remove()
            return None
        return _conclude(record, _read_outcome(record), reporter)  # another generation was committed since
    if cancels:
        cancel(job, record)
        return None
    reporter.stage(MAKING)
    reporter.submitted(replace(record, url=job.url or record.url))
    try:
        with Watch(job, engine, files.join(record.root, paths.progress(record.run)), reporter):
            wait(job, engine, record, reporter)
    except PenstockError as error:
        if not record.is_committed():
            if has_ended(job):
                record.remove()
            raise _failed(record)(str(error)) from error
        generation = record.generation
    else:
        generation = _read_outcome(record)
    return _conclude(record, generation, reporter)


def has_ended(job: RunningJob) -> bool:
    """Whether a job is known to have ended: an error may be that of asking for it."""
    with contextlib.suppress(PenstockError, OSError):
        return job.state().is_final
    return False


def _has_outcome(record: JobRecord) -> bool:
    """Whether a job came to its end, though its engine does not know it any more."""
    return files.exists(files.join(record.root, paths.outcome(record.run)))


def _read_outcome(record: JobRecord) -> str:
    """The generation that is current after a job; raises what it was refused for."""
    try:
        return read_outcome(record.root, record.run, record.is_committed, _failed(record))
    except PenstockError:
        record.remove()
        raise


def _failed(record: JobRecord) -> Callable[[str], PenstockError]:
    """Says that a job ended before all was made, given why."""
    return partial(ended_early, record.name, record.root, record.units)


def _conclude(record: JobRecord, generation: str, reporter: Reporter) -> Result:
    """After a job that has made a generation current, or left it so: removes what only the job needed, and tells.

    Nothing is removed where another command is at it.
    """
    is_changed = generation == record.generation
    with contextlib.suppress(PenstockError), alone(record.root, record.run) as lease:
        if is_changed:
            remove_work(record.root, lease)
        else:
            remove_folder(record.root, lease)
    try:
        manifest = Manifest.read_generation(record.dataset, generation)[0]
    except DatasetError as error:
        root = files.join(record.dataset, generation)
        raise PenstockError(f"{record.name} has committed {root}, which cannot be read: {error}") from error
    if not is_changed:
        return Result("up_to_date", manifest, note=NOTHING_CHANGED)
    reporter.progress(progress_of(manifest))
    reporter.committed(manifest.warnings)
    return Result("committed", manifest)
