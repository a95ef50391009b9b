"""What an engine is: where a pipeline runs, and how what runs there is followed. Engines are chosen by name here."""

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from enum import Enum
from typing import TYPE_CHECKING, Any, Protocol

from ..pipeline.errors import RequestError

if TYPE_CHECKING:
    import apache_beam as beam

    from ..pipeline.planned_run import PlannedRun, RunRequest

BuildPipeline = Callable[["beam.Pipeline"], object]  # adds a pipeline's transforms
CountStages = Callable[[], int]

# Engines that have a module of their own, `make(options)` in it. Any other name is taken for a runner of Beam's.
_MODULES = {"direct": "direct", "flink": "flink", "dataflow": "dataflow"}


class JobState(Enum):
    """How far a job is."""

    RUNNING = "running"  # accepted, though it may still wait for its resources
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        """Whether the job has ended."""
        return self is not JobState.RUNNING


class RunningJob(Protocol):
    """A job that an engine has accepted.

    Attributes:
      job_id: What the engine calls it; `Engine.find` knows it by that.
      url: A page that shows it; None where there is none.
    """

    @property
    def job_id(self) -> str: ...

    @property
    def url(self) -> str | None: ...

    def state(self) -> JobState:
        """How far the job is by now."""

    def wait(self) -> None:
        """Returns when the job has succeeded.

        Raises:
          PenstockError: it did not; the cause in words.
        """

    def counters(self) -> Mapping[str, int]:
        """What the job has counted so far (`read`, `quarantined/CODE` ...); empty where its engine tells nothing."""

    def cancel(self) -> None:
        """Ends the job; nothing where it has ended."""


class Engine(Protocol):
    """Where pipelines run.

    Attributes:
      name: Its name, as `--runner` takes it.
      options: What it was made with.
      is_here: Whether its workers run on this machine and see its disk.
      is_detachable: Whether a job goes on without the process that has submitted it.
    """

    @property
    def name(self) -> str: ...

    @property
    def options(self) -> "EngineOptions": ...

    @property
    def is_here(self) -> bool: ...

    @property
    def is_detachable(self) -> bool: ...

    def check(self, request: "RunRequest") -> Sequence[str]:
        """Looks before any work whether a request can be run here.

        Returns:
          What the user should know.

        Raises:
          RequestError: it cannot; what to do about it.
        """

    def check_plan(self, request: "RunRequest", planned: "PlannedRun", count_stages: CountStages) -> Sequence[str]:
        """Looks whether the engine is large enough for what was planned.

        Args:
          request: What was asked for.
          planned: What is to be made.
          count_stages: How many transforms the pipeline has, composite ones not counted: it is built to be counted.

        Returns:
          What the user should know.

        Raises:
          RequestError: it is not; what to do about it.
        """

    def submit(self, build: BuildPipeline, name: str) -> RunningJob:
        """Builds a pipeline and has the engine accept it. The caller sees to it that a recipe's functions travel.

        Args:
          build: Adds the pipeline's transforms.
          name: The job's name: lower-case letters, digits and hyphens.

        Raises:
          PenstockError: it was not accepted; the cause in words.
        """

    def find(self, job_id: str) -> RunningJob:
        """A job that this or another process has submitted.

        Raises:
          RequestError: the engine does not know it.
        """


@dataclass(frozen=True)
class EngineOptions:
    """What the command line says of the engine.

    Attributes:
      workers: How many workers; None: as many as the engine takes to be right.
      beam_arguments: Options for Beam: what follows `--`.
      flink_master: Address of a Flink cluster's REST API, `host:port`; None: a cluster of the job's own.
      flink_job_server_jar: Path of Beam's job server for Flink; None: Beam downloads it.
    """

    workers: int | None = None
    beam_arguments: Sequence[str] = ()
    flink_master: str | None = None
    flink_job_server_jar: str | None = None

    def expect_only(self, engine: str, *own: str) -> None:
        """Raises RequestError where an option is given that only other engines have.

        Args:
          engine: The engine's name.
          own: The options that it has, besides those of Beam.
        """
        for field in fields(self):
            if field.name not in ("beam_arguments", *own) and getattr(self, field.name) is not None:
                option = f"--{field.name.replace('_', '-')}"
                raise RequestError(f"--runner {engine}: expected options of its own, found {option}; leave it out")


def make_engine(name: str, options: EngineOptions) -> Engine:
    """The engine of a name, with or without the `Runner` that Beam's own names end in.

    Args:
      name: `direct`, or the name of one of Beam's runners.
      options: What is said of it.

    Raises:
      RequestError: there is no such engine, or an option is not for it.
    """
    own = name.lower().removesuffix("runner")
    if own in _MODULES:
        return _load(_MODULES[own]).make(options)  # type: ignore[no-any-return]
    return _load("beam_runner").make(name, options)  # type: ignore[no-any-return]


def _load(module: str) -> Any:
    """An engine's module, imported when it is chosen: each of them takes seconds."""
    return importlib.import_module(f".{module}", __package__)
