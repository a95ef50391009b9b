"""Any of Beam's runners, by its name: Prism, Spark, or another one that is installed."""

import contextlib
import copy
import json
import os
import shutil
import signal
import socket
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import apache_beam as beam
import grpc
from apache_beam.metrics.metric import MetricsFilter
from apache_beam.options.pipeline_options import (
    GoogleCloudOptions,
    JobServerOptions,
    PipelineOptions,
    PortableOptions,
    PrismRunnerOptions,
    SparkRunnerOptions,
)
from apache_beam.portability.api import beam_job_api_pb2
from apache_beam.runners import runner as beam_runners
from apache_beam.runners.portability import job_server, portable_runner
from apache_beam.runners.portability.prism_runner import PrismRunner
from apache_beam.runners.portability.spark_runner import SparkRunner

from ..pipeline.build.progress import NAMESPACE
from ..pipeline.errors import PenstockError, RequestError
from .engine import BuildPipeline, CountStages, EngineOptions, JobState
from .failures import root_cause
from .options import refuse_options, unknown_options
from .worker import PROGRAM, find_boot

if TYPE_CHECKING:
    from ..pipeline.planned_run import PlannedRun, RunRequest

_OURS = {"runner": "--runner"}
_STATES = {
    "DONE": JobState.DONE,
    "DRAINED": JobState.DONE,
    "FAILED": JobState.FAILED,
    "CANCELLED": JobState.CANCELLED,
}
_LOCAL = ("localhost", "127.0.0.1", "[::1]")
_PROCESS = f"""'{{"command": "{PROGRAM}"}}'"""
_EMBEDDED = "embed"  # a job endpoint: Beam's own server in this process
_BINARIES = {PrismRunner: "--prism_location", SparkRunner: "--spark_job_server_jar"}  # what Beam downloads
_NO_BINARY = "Unable to fetch"  # what Beam says where it cannot
_CONNECT_TIMEOUT = 10.0  # seconds
_FIND_TIMEOUT = 20.0  # seconds


def make(name: str, options: EngineOptions) -> "BeamEngine":
    """The engine that is one of Beam's runners.

    Args:
      name: The name of its class, with or without `Runner`, or with its module's.
      options: What is said of it.

    Raises:
      RequestError: Beam has no such runner, or an option's value is none of those that Beam takes.
    """
    options.expect_only(name)
    refuse_options(options.beam_arguments, _OURS)
    unknown = unknown_options(options.beam_arguments)
    try:
        runner = beam_runners.create_runner(name)
    except (ValueError, ImportError, AttributeError, TypeError) as error:
        known = "direct, flink, dataflow, prism, spark, or another of Beam's runners (such as PortableRunner)"
        missing = f" ({error})" if "." in name else ""  # else Beam lists all that it has for its own tests
        raise RequestError(f"--runner: expected {known}, found {name!r}{missing}; check the spelling") from error
    if not isinstance(runner, beam_runners.PipelineRunner):
        raise RequestError(f"--runner: expected a runner of Beam's, found {name}, which is {type(runner).__name__}")
    return BeamEngine(name, runner, options, unknown)


class BeamEngine:
    """Runs pipelines by a runner of Beam's, with Beam's options as they are given."""

    def __init__(
        self, name: str, runner: beam_runners.PipelineRunner, options: EngineOptions, unknown: Sequence[str]
    ) -> None:
        """Starts nothing.

        Args:
          name: What the user calls it.
          runner: Beam's runner.
          options: What is said of it.
          unknown: The options for Beam that Beam's Python does not know.
        """
        self.name = name
        self.options = options
        self._unknown = unknown
        self._runner = runner
        self._beam_options = self._parse()

    @property
    def is_here(self) -> bool:
        return self._environment == "LOOPBACK"

    @property
    def is_detachable(self) -> bool:
        """Whether neither its workers nor its job server are this process's."""
        has_server = self._beam_options.view_as(PortableOptions).job_endpoint not in (None, "", _EMBEDDED)
        return has_server and isinstance(self._runner, portable_runner.PortableRunner) and not self.is_here

    @property
    def _environment(self) -> str | None:
        """Beam's name of how workers are started; None where the runner decides, or has none."""
        if not isinstance(self._runner, portable_runner.PortableRunner):
            return None
        options = self._parse()
        portable = options.view_as(PortableOptions)
        if not portable.environment_type:
            self._runner.default_environment(options)  # which writes what it takes into them
        return portable.environment_type or "DOCKER"

    def check(self, request: "RunRequest") -> Sequence[str]:
        self._check_environment()
        if isinstance(self._runner, PrismRunner):
            self._check_prism()
        if isinstance(self._runner, SparkRunner):
            self._check_spark()
        if not self._unknown:
            return ()
        return [
            f"{' '.join(self._unknown)}: passed on to the engine {self.name}, since Beam's Python knows no such option"
        ]

    def _check_environment(self) -> None:
        """Raises RequestError where it is not said how workers start, and cannot be known."""
        portable = self._beam_options.view_as(PortableOptions)
        if portable.environment_type in ("EXTERNAL", "PROCESS") and not portable.environment_config:
            kind = portable.environment_type
            example = "HOST:PORT of a worker pool" if kind == "EXTERNAL" else _PROCESS
            raise RequestError(
                f"--runner {self.name}: expected --environment_config after `--` too, such as {example}, found "
                f"--environment_type={kind} alone"
            )
        endpoint = portable.job_endpoint
        if not endpoint and type(self._runner) is portable_runner.PortableRunner:  # the others start a server
            raise RequestError(
                f"--runner {self.name}: expected a job server, --job_endpoint=HOST:PORT after `--`, found none; start "
                "one and name it, or take a runner that starts its own, such as prism or spark"
            )
        if endpoint and endpoint != _EMBEDDED:
            self._expect_listening(endpoint)
        if not endpoint or portable.environment_type or portable.output_executable_path:
            return
        if isinstance(self._runner, PrismRunner) and endpoint.rpartition(":")[0] in _LOCAL:
            return
        raise RequestError(
            f"--runner {self.name}: expected --environment_type after `--`, since a job server that is there already "
            f"({endpoint}) does not tell where its workers run, found none; LOOPBACK runs them in this process (all of "
            "it on one machine), EXTERNAL by a worker pool, PROCESS by a command, DOCKER in an image"
        )

    def _expect_listening(self, endpoint: str) -> None:
        """Raises RequestError where nobody listens: Beam would wait for a minute after all the planning."""
        host, _, port = endpoint.rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), _CONNECT_TIMEOUT).close()
        except (OSError, ValueError) as error:
            raise RequestError(
                f"--runner {self.name}: expected a job server at --job_endpoint={endpoint} (HOST:PORT), found: {error}"
                "; start it, or check the address"
            ) from error

    def _check_prism(self) -> None:
        """Raises RequestError where there is no Prism, or it would wait for workers for ever."""
        location = self._beam_options.view_as(PrismRunnerOptions).prism_location
        if location and "://" not in location and not os.path.isfile(location):
            raise RequestError(f"--prism_location: expected Prism's binary, found nothing at {location}")
        portable = self._beam_options.view_as(PortableOptions)
        if portable.environment_type == "PROCESS" and PROGRAM not in (portable.environment_config or ""):
            raise RequestError(
                f"--runner {self.name}: expected workers that take their names as Prism gives them, in quotes, found "
                f"{portable.environment_config}, and the job would wait for them for ever; leave out "
                f"--environment_type (LOOPBACK), or start them by {PROGRAM}: --environment_config={_PROCESS}"
            )
        if portable.environment_type == "PROCESS" and not portable.job_endpoint:
            _expect_startable(portable.environment_config)

    def _check_spark(self) -> None:
        """Raises RequestError where Spark's job server is to be started and cannot be."""
        spark = self._beam_options.view_as(SparkRunnerOptions)
        if self._beam_options.view_as(PortableOptions).job_endpoint or spark.spark_submit_uber_jar:
            return
        java = self._beam_options.view_as(JobServerOptions).job_server_java_launcher
        if shutil.which(java) is None:
            raise RequestError(
                f"--runner {self.name}: expected Java to start Beam's job server for Spark, found no {java}; install "
                "it, or name a job server that runs: --job_endpoint=HOST:PORT after `--`"
            )
        jar = spark.spark_job_server_jar
        if jar and "://" not in jar and not os.path.isfile(jar):
            raise RequestError(f"--spark_job_server_jar: expected Beam's job server, found nothing at {jar}")

    def _parse(self) -> PipelineOptions:
        """Beam's options; what Beam's Python does not know stays in them for the engine."""
        return PipelineOptions([*self.options.beam_arguments])

    def check_plan(self, request: "RunRequest", planned: "PlannedRun", count_stages: CountStages) -> Sequence[str]:
        return ()

    def submit(self, build: BuildPipeline, name: str) -> "BeamJob":
        options = self._parse()
        cloud = options.view_as(GoogleCloudOptions)
        cloud.job_name = cloud.job_name or name
        try:
            pipeline = beam.Pipeline(runner=self._runner, options=options)
            build(pipeline)
            with _same_interrupt():
                return BeamJob(pipeline.run(), self.is_detachable)
        except Exception as error:  # whatever a runner raises
            words = root_cause(error)
            option = next((option for kind, option in _BINARIES.items() if isinstance(self._runner, kind)), None)
            advice = f"; fetch it elsewhere, and name it after `--`: {option}=FILE" if _NO_BINARY in words else ""
            raise PenstockError(f"--runner {self.name} did not take the job: {words}{advice}") from error

    def find(self, job_id: str) -> "BeamJob":
        endpoint = self._beam_options.view_as(PortableOptions).job_endpoint
        if not isinstance(self._runner, portable_runner.PortableRunner) or not endpoint:
            raise RequestError(
                f"--runner {self.name}: expected the job server of {job_id}, which outlives the process that submits, "
                "found no --job_endpoint after `--`; run the same command again to resume"
            )
        try:
            service = job_server.ExternalJobServer(endpoint, _FIND_TIMEOUT).start()
            request = beam_job_api_pb2.GetJobStateRequest(job_id=job_id)
            service.GetState(request, timeout=_FIND_TIMEOUT)
            states = service.GetStateStream(request)
            messages = service.GetMessageStream(beam_job_api_pb2.JobMessagesRequest(job_id=job_id))
        except (grpc.RpcError, grpc.FutureTimeoutError) as error:
            raise RequestError(
                f"--runner {self.name}: expected a job server at {endpoint} that knows the job {job_id}, found: "
                f"{root_cause(error)}"
            ) from error
        return BeamJob(portable_runner.PipelineResult(service, job_id, messages, states), True)


class BeamJob:
    """A job that is followed by what a runner gave when it was submitted."""

    url = None

    def __init__(self, result: Any, goes_on: bool) -> None:
        """Follows a job.

        Args:
          result: A `PipelineResult` of Beam's.
          goes_on: Whether it goes on without this process.
        """
        self._result = result
        self._goes_on = goes_on

    @property
    def job_id(self) -> str:
        job_id = getattr(self._result, "job_id", None) or getattr(self._result, "_job_id", None)
        return str(job_id() if callable(job_id) else job_id or "unnamed")

    def state(self) -> JobState:
        try:
            return _STATES.get(str(self._result.state), JobState.RUNNING)
        except (grpc.RpcError, ValueError) as error:  # the latter of a channel that is closed
            raise PenstockError(
                f"the job server does not tell how job {self.job_id} is: {root_cause(error)}"
            ) from error

    def wait(self) -> None:
        try:
            state = self._result.wait_until_finish()
        except Exception as error:  # whatever a runner raises
            raise PenstockError(root_cause(error)) from error
        if _STATES.get(str(state), JobState.DONE) is not JobState.DONE:
            raise PenstockError(f"the job {self.job_id} ended as {state}")

    def counters(self) -> Mapping[str, int]:
        with contextlib.suppress(Exception):  # not every runner has them, nor at any time
            result = copy.copy(self._result)
            result._metrics = None  # where Beam keeps what it was told first
            results = result.metrics().query(MetricsFilter().with_namespace(NAMESPACE))["counters"]
            counted = {}
            for each in results:
                count = each.attempted if each.committed is None else each.committed
                counted[each.key.metric.name] = int(count or 0)
            return counted
        return {}

    def cancel(self) -> None:
        try:
            if not self.state().is_final:
                self._result.cancel()
        except (grpc.RpcError, ValueError, PenstockError) as error:
            if self._goes_on:  # else it has ended with the job server
                raise PenstockError(f"job {self.job_id} could not be cancelled: {root_cause(error)}") from error


@contextlib.contextmanager
def _same_interrupt() -> Iterator[None]:
    """Lets Ctrl-C do afterwards what it did before: Beam would stop its job server first, under the job that runs."""
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    finally:
        if signal.getsignal(signal.SIGINT) is not before:
            signal.signal(signal.SIGINT, before)


def _expect_startable(config: str) -> None:
    """Raises RequestError where a process on this machine could start no worker: Prism would wait for it for ever.

    Args:
      config: The value of --environment_config.
    """
    try:
        process = json.loads(config)
        command, environment = process["command"], {**os.environ, **(process.get("env") or {})}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RequestError(f"--environment_config: expected JSON such as {_PROCESS}, found {config}") from error
    if shutil.which(command) is None:
        raise RequestError(f"--environment_config: expected a command that is there, found {command}; give its path")
    find_boot(environment)
