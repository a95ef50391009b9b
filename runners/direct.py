"""The in-process engine: Beam's FnApiRunner, named explicitly.

Beam's `DirectRunner` first looks for another engine to download and changes with what it finds; this one does not.
Beam is imported when it is needed: planning alone does without.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ..pipeline.errors import PenstockError, RequestError
from .engine import BuildPipeline, CountStages, EngineOptions, JobState
from .failures import root_cause
from .options import check_options, refuse_options

if TYPE_CHECKING:
    from apache_beam.options.pipeline_options import PipelineOptions
    from apache_beam.runners.portability.fn_api_runner.fn_runner import FnApiRunner

    from ..pipeline.planned_run import PlannedRun, RunRequest

_OURS = {"runner": "--runner", "direct_num_workers": "--workers", "direct_running_mode": "--workers"}


def make(options: EngineOptions) -> "DirectEngine":
    """The engine, with the options that are its own."""
    options.expect_only("direct", "workers")
    return DirectEngine(options)


class DirectEngine:
    """Runs pipelines in this process, or in worker processes of it. What it runs ends with it."""

    name = "direct"
    is_here = True
    is_detachable = False

    def __init__(self, options: EngineOptions) -> None:
        self.options = options

    def check(self, request: "RunRequest") -> Sequence[str]:
        refuse_options(self.options.beam_arguments, _OURS)
        check_options(self.options.beam_arguments)
        return ()

    def check_plan(self, request: "RunRequest", planned: "PlannedRun", count_stages: CountStages) -> Sequence[str]:
        return ()

    def submit(self, build: BuildPipeline, name: str) -> "DirectJob":
        return DirectJob(build, pipeline_options(self.options.workers or 1, self.options.beam_arguments))

    def find(self, job_id: str) -> "DirectJob":
        raise RequestError(
            f"--runner direct: expected a job that another process can follow, found {job_id}, which ends with the "
            "process that runs it; run the same command again to resume"
        )


class DirectJob:
    """A pipeline that runs while it is waited for."""

    job_id = "direct"
    url = None

    def __init__(self, build: BuildPipeline, options: "PipelineOptions") -> None:
        self._build = build
        self._options = options
        self._state = JobState.RUNNING

    def state(self) -> JobState:
        return self._state

    def wait(self) -> None:
        self._state = JobState.FAILED
        try:
            run(self._build, self._options)
        except PenstockError:
            raise
        except Exception as error:  # Beam wraps whatever a stage raised in exceptions of its own
            if _is_interrupt(error):
                raise KeyboardInterrupt from error
            raise PenstockError(root_cause(error)) from error
        self._state = JobState.DONE

    def counters(self) -> Mapping[str, int]:
        return {}  # progress files tell the same while it runs

    def cancel(self) -> None:
        pass  # it runs in `wait` alone


def _is_interrupt(error: BaseException | None) -> bool:
    """Whether an exception was raised for Ctrl-C: a stage may be at work in the main thread, which gets it."""
    while error is not None:
        if isinstance(error, KeyboardInterrupt):
            return True
        error = error.__cause__ or error.__context__
    return False


def run(build: BuildPipeline, options: "PipelineOptions") -> None:
    """Runs a pipeline to its end.

    Args:
      build: Adds its transforms.
      options: Beam's options.

    Raises:
      RuntimeError: a stage failed; its cause is in the message.
    """
    import apache_beam as beam

    with beam.Pipeline(runner=make_runner(options), options=options) as pipeline:
        build(pipeline)


def pipeline_options(workers: int, arguments: Sequence[str]) -> "PipelineOptions":
    """Beam's options for so many worker processes; one means this process, whose threads use every core."""
    from apache_beam.options.pipeline_options import PipelineOptions

    mode = "multi_processing" if workers > 1 else "in_memory"
    return PipelineOptions(
        [*arguments, f"--direct_num_workers={workers}", f"--direct_running_mode={mode}"],
    )


def make_runner(options: "PipelineOptions") -> "FnApiRunner":
    """Beam's FnApiRunner, whose worker processes get the pipeline's options and are watched."""
    from apache_beam.runners.portability.portable_runner import JobServiceHandle

    from .worker_processes import WatchingRunner

    return WatchingRunner(JobServiceHandle.encode_pipeline_options(options.get_all_options()))
