"""Launches a run from a command or from Python, and tells of it: to a terminal, to files, and to other services."""

import os
import threading
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import ModuleType
from typing import TYPE_CHECKING, Any

from ..pipeline.planning.recipe import LoadedRecipe, Recipe, find_recipe
from . import report, terminal
from .follow import Detached, Result
from .metrics import kept_metrics
from .on_commit import tell_of_commit
from .openlineage import LineageOptions, trace_run
from .process import expect_preparing
from .reporter import Both, Reporter
from .run import run as run_request
from .run_options import RunOptions, StrPath

if TYPE_CHECKING:
    from ..pipeline.planned_run import RunRequest
    from .engine import Engine

_TURN = threading.Lock()  # Python 3.11 cannot parse, nor cloudpickle know modules by value, for two at a time


@dataclass(frozen=True)
class RunResult:
    """What came of a run.

    Attributes:
      status: `committed`; `up_to_date` where there was nothing to do, or `retry` changed nothing; `submitted` where the
        job goes on without this process, and `penstock attach` follows it.
      dataset: The dataset's URI.
      generation: The id of the generation that is committed, or that the job makes.
      counts: `read`, `written`, `filtered` and `quarantined`, how many examples each; empty where the job goes on.
      summary: What `penstock run` prints in the end.
    """

    status: str
    dataset: str
    generation: str
    counts: Mapping[str, int]
    summary: str = field(repr=False)
    _entry: Mapping[str, Any] = field(repr=False)

    def __str__(self) -> str:
        return self.summary

    def to_json(self) -> dict[str, Any]:
        """What `penstock run --json` prints: beside the counts splits, reasons, warnings and what was taken over."""
        return dict(self._entry)


def launch(
    options: RunOptions, request: "RunRequest", engine: "Engine", shows: bool, warn: Callable[[str], None]
) -> Result:
    """Runs a request; shows how it goes, keeps its figures, and sends events of it, as the options say.

    Args:
      options: What is asked for.
      request: The same, with the recipe.
      engine: The same, where it runs.
      shows: Whether standard error gets how it goes.
      warn: Is told in words if events could not be sent.

    Raises:
      Detached: the job goes on without this process.
      PenstockError: the run failed; nothing was committed.
    """
    metrics = None if options.metrics is None else os.fspath(options.metrics)

    def work(lineage: Reporter) -> Result:
        with (
            terminal.reporter(not shows) as shown,
            kept_metrics(metrics, request.output, shown) as reporter,
        ):
            return run_request(request, Both(reporter, lineage), engine, options.detach)

    return trace_run(LineageOptions(options.openlineage, warn), request, engine, work)


def run(
    recipe: Recipe | ModuleType | StrPath,
    *,
    input: StrPath,
    output: StrPath,
    runner: str = RunOptions.runner,
    workers: int | None = None,
    threads: int | None = None,
    max_quarantined: str | float = RunOptions.max_quarantined,
    fail_on_drift: bool = False,
    max_new_values: str | float | None = None,
    max_mean_shift: float | None = None,
    max_missing_growth: str | float | None = None,
    max_share_shift: str | float | None = None,
    limit: int | None = None,
    full: bool = False,
    retry: bool = False,
    keep_prepared: bool = False,
    forget: StrPath | None = None,
    isolate: bool = False,
    timeout: float = RunOptions.timeout,
    single_writer: bool = False,
    metrics: StrPath | None = None,
    on_commit: str | None = None,
    openlineage: str | None = None,
    flink_master: str | None = None,
    flink_job_server_jar: str | None = None,
    detach: bool = False,
    engine_options: Sequence[str] = (),
    progress: bool = True,
) -> RunResult:
    """Runs a recipe to a committed dataset, as `penstock run` does: resumes, takes over, or has nothing to do.

    Called again it goes on where it was interrupted. Calls from several threads take turns. Messages
    name options as the command line does: `--max-quarantined` is `max_quarantined`.

    Args:
      recipe: A recipe, or the module that has it as `recipe`, or where it is: `file.py`, `file.py:name` or
        `package.module:name`. One that was made in a notebook or a script counts, and reaches workers, by what its
        functions are made of.
      input: Where the raw data is: a path, `s3://…`, `gs://…` or `az://…`.
      output: The dataset's folder, likewise; it need not exist.
      runner: The engine: `direct`, in this process, or one of Beam's runners: `flink`, `dataflow`, `prism`, `spark`.
      workers: Worker processes; None: as many as the engine takes to be right.
      threads: Examples that a worker prepares at a time; None: as many as there are cores.
      max_quarantined: How many examples may fail before the run does: 25, 0.01 or `1%`.
      fail_on_drift: Whether only what is like the current generation may be committed.
      max_new_values: With `fail_on_drift`: which share of a column's values may be new; None: 1 %.
      max_mean_shift: Likewise: how far a mean may move, in standard deviations; None: 0.5.
      max_missing_growth: Likewise: which share of a column's values may be missing beyond those that were; None: 1 %.
      max_share_shift: Likewise: how far the share of a label, class or string may move; None: 10 %.
      limit: How many examples from all over the input to take, for a first try; None: all.
      full: Whether all is laid out as if there were no earlier generation.
      retry: Whether what the current generation has quarantined is tried again.
      keep_prepared: Whether examples that an earlier `prepare` has made are taken over: your word that they are good.
      forget: A file of examples to leave out, a key a line, in this run and all that follow.
      isolate: Whether examples are decoded in processes of their own, which may hang or die.
      timeout: With `isolate`: seconds that one example may take.
      single_writer: Whether a store may ignore conditions: your word that nothing else writes the dataset meanwhile.
      metrics: A file to keep the run's figures in, in Prometheus' text format.
      on_commit: A command, or an https URL, that is told of the commit.
      openlineage: A URL or a file that OpenLineage events go to; None: as the environment says.
      flink_master: A Flink cluster, `host:port`; None: one of the job's own.
      flink_job_server_jar: Beam's job server for Flink, not to be fetched.
      detach: Whether to return once the engine has the job.
      engine_options: Options for Beam, as the command line takes them after `--`.
      progress: Whether standard error gets how it goes and what is warned of.

    Returns:
      What came of it. `str()` of it is what `penstock run` prints.

    Raises:
      RequestError: the recipe, the input, the output or an option is wrong; nothing was done.
      OverBudgetError: too many examples were quarantined; nothing was committed.
      PenstockError: the run failed, nothing was committed; the same call resumes it.
      OSError: a file cannot be read or written; likewise.
    """
    options = RunOptions(
        input=input,
        output=output,
        runner=runner,
        workers=workers,
        threads=threads,
        max_quarantined=max_quarantined,
        fail_on_drift=fail_on_drift,
        max_new_values=max_new_values,
        max_mean_shift=max_mean_shift,
        max_missing_growth=max_missing_growth,
        max_share_shift=max_share_shift,
        limit=limit,
        full=full,
        retry=retry,
        keep_prepared=keep_prepared,
        forget=forget,
        isolate=isolate,
        timeout=timeout,
        single_writer=single_writer,
        metrics=metrics,
        on_commit=on_commit,
        openlineage=openlineage,
        flink_master=flink_master,
        flink_job_server_jar=flink_job_server_jar,
        detach=detach,
        engine_options=engine_options,
    )
    with _TURN:
        return _run(find_recipe(recipe), options, progress)


def _run(recipe: LoadedRecipe, options: RunOptions, progress: bool) -> RunResult:
    """What `run` does once its options are known."""
    expect_preparing()
    request = options.request(recipe)
    try:
        result = launch(options, request, options.engine(), progress, _warn)
    except Detached as detached:
        entry, counts = report.submitted_entry(detached.record), {}
        summary = report.rendered(entry, report.show_submitted)
    else:
        failure = tell_of_commit(options.on_commit, request.output, result, _warn)
        entry = report.result_entry(request.output, result, failure)
        counts = {name: entry[name] for name in ("read", "written", "filtered", "quarantined")}
        summary = report.rendered(entry, report.show_result)
    return RunResult(entry["status"], request.output, entry["generation"], counts, summary, entry)


def _warn(words: str) -> None:
    warnings.warn(words, RuntimeWarning, stacklevel=3)
