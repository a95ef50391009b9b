"""Flink: an existing cluster, or one of the job's own inside its job server, started and stopped with the job.

On a cluster a job belongs to the cluster: the job server is there to submit it, and then ends.
"""

import contextlib
import json
import os
import socket
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import apache_beam as beam
import grpc
from apache_beam.options.pipeline_options import (
    FlinkRunnerOptions,
    GoogleCloudOptions,
    JobServerOptions,
    PipelineOptions,
    PortableOptions,
    StandardOptions,
    WorkerOptions,
)
from apache_beam.portability.api import beam_job_api_pb2, beam_runner_api_pb2
from apache_beam.runners.portability.portable_runner import JobServiceHandle, PortableRunner

from ..pipeline.cores import cores
from ..pipeline.errors import PenstockError, RequestError
from ..pipeline.storage import files
from . import flink_checks
from .engine import BuildPipeline, EngineOptions, JobState, RunningJob
from .failures import cause_in_words, root_cause
from .flink_checks import Cluster
from .flink_job_server import JarVersions, JobServer, ServerOptions, find_jar, find_java, read_versions
from .flink_rest import FlinkJob, FlinkRest
from .options import refuse_options, unknown_options
from .worker import PROGRAM

if TYPE_CHECKING:
    from ..pipeline.job import PlannedRun, RunRequest

_LOCAL = "[local]"
_BATCH_VERSION = "1.20"  # the last with a batch engine, which sorts on disk what Flink 2 keeps on the heap
_SHORT_LIVED = ("-XX:TieredStopAtLevel=1",)  # Java that ends soon: half the start for half the speed
_CANCEL = 10.0  # seconds that a job of one's own cluster may take to be cancelled
_UNIQUE = 8  # last characters of a job's name, which no other job's has
_LOOK = 0.5  # seconds between two looks whether a job is on the cluster
_CACHED = 60_000  # milliseconds for which a worker that is idle waits for the next stage, and stays after the last
_KINDS = ("PROCESS", "EXTERNAL", "DOCKER", "LOOPBACK")
_EMPTY_JAR = "penstock-empty.jar"
_POOL = "localhost:50000"
_EMBEDDED = {  # the configuration of an embedded cluster: see flink/config.yaml
    "taskmanager.memory.network.min": "512m",
    "taskmanager.memory.network.max": "512m",
    "taskmanager.network.sort-shuffle.min-buffers": "64",
}
_OURS = {
    "runner": "--runner",
    "flink_master": "--flink-master",
    "flink_job_server_jar": "--flink-job-server-jar",
    "job_endpoint": "--runner PortableRunner",
}
_STATES = {
    beam_job_api_pb2.JobState.DONE: JobState.DONE,
    beam_job_api_pb2.JobState.FAILED: JobState.FAILED,
    beam_job_api_pb2.JobState.CANCELLED: JobState.CANCELLED,
}


def make(options: EngineOptions) -> "FlinkEngine":
    """The engine, with the options that are its own."""
    options.expect_only("flink", "workers", "flink_master", "flink_job_server_jar")
    return FlinkEngine(options)


class FlinkEngine:
    """Runs pipelines on a Flink cluster; where none is named, on one of the job's own, on this machine."""

    name = "flink"

    def __init__(self, options: EngineOptions) -> None:
        self.options = options
        self._given = PipelineOptions(list(options.beam_arguments))
        master = options.flink_master
        self._rest = FlinkRest(master) if master and master != _LOCAL else None
        self._cluster: Cluster | None = None
        self._server: tuple[ServerOptions, JarVersions] | None = None

    @property
    def is_here(self) -> bool:
        """Whether the cluster is the job's own."""
        return self._rest is None

    @property
    def is_detachable(self) -> bool:
        return not self.is_here

    def check(self, request: "RunRequest") -> Sequence[str]:
        refuse_options(self.options.beam_arguments, _OURS)
        unknown_options(self.options.beam_arguments)
        self._environment()
        warnings: list[str] = []
        server, versions = self._find_server()
        if self._rest:
            cluster = self._ask()
            flink_checks.expect_versions(cluster, server.jar, versions)
            warnings += flink_checks.find_warnings(cluster)
            warnings += self._local_folders(request)
        return warnings

    def check_plan(self, request: "RunRequest", planned: "PlannedRun", stages: int) -> Sequence[str]:
        if self._rest is None:
            return ()
        cluster, parallelism = self._ask(again=True), self._parallelism()
        streaming = bool(self._given.view_as(StandardOptions).streaming)
        own_containers = self._given.view_as(PortableOptions).environment_type in ("EXTERNAL", "DOCKER")
        return [
            *flink_checks.check_placement(cluster, parallelism),
            *flink_checks.check_network(cluster, parallelism, stages, streaming),
            *([] if own_containers else flink_checks.check_memory(cluster)),
        ]

    def submit(self, build: BuildPipeline, name: str) -> RunningJob:
        """Submits a job; it is on the cluster, or known to the embedded one, when this returns."""
        given = self._given.view_as(GoogleCloudOptions).job_name
        name = f"{given}-{name[-_UNIQUE:]}" if given else name  # a job is found by its name
        server = JobServer(self._find_server()[0])
        try:
            _expect_known(server, self.options.beam_arguments)
            options = self._beam_options(server, name)
            pipeline = beam.Pipeline(runner=_Runner(server), options=options)
            build(pipeline)
            try:
                submission = pipeline.run()
            except PenstockError:
                raise
            except Exception as error:  # whatever Beam raises
                raise PenstockError(f"Flink's job server did not take the job: {root_cause(error)}") from error
            if self._rest is None:
                return EmbeddedJob(submission)
            job = _find_job(self._rest, name, submission)
            server.stop()
            return job
        except BaseException:
            server.stop()
            if self._rest:
                _cancel_jobs(self._rest, name)
            raise

    def find(self, job_id: str) -> FlinkJob:
        if self._rest is None:
            raise RequestError(
                f"--runner flink: expected a cluster that outlives a command (--flink-master), found job {job_id} of "
                "an embedded one, which ended with its command; run the same command again to resume"
            )
        job = FlinkJob(self._rest, job_id)
        try:
            job.state()
        except PenstockError as error:
            raise RequestError(str(error)) from error
        return job

    def _ask(self, again: bool = False) -> Cluster:
        """What the cluster says of itself; asked once, unless again."""
        assert self._rest is not None
        if self._cluster is None or again:
            self._cluster = Cluster.ask(self._rest)
        return self._cluster

    def _find_server(self) -> tuple[ServerOptions, JarVersions]:
        """How the job server is started: with the jar that is named, else with Beam's for the cluster's version."""
        if self._server:
            return self._server
        options = PipelineOptions(list(self.options.beam_arguments))
        version = flink_checks.minor_version(self._ask().version) if self._rest else _BATCH_VERSION
        named = self.options.flink_job_server_jar
        if named is None and not _is_given(self.options.beam_arguments, "flink_version"):
            published = FlinkRunnerOptions.PUBLISHED_FLINK_VERSIONS
            if version not in published:
                raise RequestError(
                    f"--runner flink: expected a Flink that Beam {beam.__version__} has a job server for "
                    f"({', '.join(published)}), found {version} at {self.options.flink_master}; name the jar of one "
                    "that fits by --flink-job-server-jar"
                )
            options.view_as(FlinkRunnerOptions).flink_version = version
        java = find_java(options)  # before a jar is downloaded in vain
        jar = find_jar(named, options)
        server = ServerOptions(
            java,
            jar,
            self._rest.address if self._rest else _LOCAL,
            [*(_SHORT_LIVED if self._rest else ()), *options.view_as(JobServerOptions).job_server_jvm_properties],
            {} if self._rest else _EMBEDDED,
        )
        self._server = server, read_versions(jar)
        return self._server

    def _parallelism(self) -> int:
        given = self._given.view_as(FlinkRunnerOptions).parallelism
        if given <= 0:
            given = self.options.workers
        if self._rest is None:
            return given or cores()
        return flink_checks.choose_parallelism(self._ask(), given)

    def _environment(self) -> list[str]:
        """The options that say how workers are started, unless the user's own say it."""
        return environment_arguments(self._given, self._rest.address if self._rest else None)

    def _beam_options(self, server: JobServer, name: str) -> PipelineOptions:
        """Beam's options for a job: defaults, and what the user gave, which wins."""
        arguments = [
            f"--job_endpoint={server.endpoint}",
            f"--parallelism={self._parallelism()}",
            # Workers of this process must be stopped before the job server ends, or they complain; others are dear.
            f"--environment_cache_millis={_CACHED if self._rest else 0}",
            "--experiments=disable_logging_submission_environment",  # a list of what is installed here, to be staged
            *self._environment(),
        ]
        if self._rest is None or self._ask().has_beam:
            arguments.append(f"--files_to_stage={_empty_jar(server.folder)}")
        return PipelineOptions([*arguments, *self.options.beam_arguments, f"--job_name={name}"])

    def _local_folders(self, request: "RunRequest") -> list[str]:
        """Warns where workers on other machines would look for folders of this one."""
        assert self._rest is not None
        local = [uri for uri in (request.input, request.output) if files.is_local(uri)]
        if not local or _is_this_machine(self._rest.address):
            return []
        return [
            f"Flink: expected folders that every TaskManager has at the same place, found {', '.join(local)}; mount "
            "them there, or use a store (s3://…, gs://…)"
        ]


def environment_arguments(given: PipelineOptions, master: str | None) -> list[str]:
    """Beam's options that say how a job's workers are started, where those that are given do not say it all.

    Args:
      given: What the user gave.
      master: The cluster's address; None: an embedded one, whose workers are this process's threads.

    Raises:
      RequestError: workers of such a kind cannot be started.
    """
    options = given.view_as(PortableOptions)
    kind = (options.environment_type or ("PROCESS" if master else "LOOPBACK")).upper()
    arguments = [] if options.environment_type else [f"--environment_type={kind}"]
    if kind == "LOOPBACK" and master and not _is_this_machine(master):
        raise RequestError(
            f"--environment_type=LOOPBACK: expected a cluster on this machine, found {master}, whose TaskManagers "
            "cannot reach workers of this process; use PROCESS, EXTERNAL or DOCKER"
        )
    if kind not in _KINDS and not kind.startswith("BEAM:ENV:"):
        raise RequestError(f"--environment_type: expected one of {', '.join(_KINDS)}, found {options.environment_type}")
    image = given.view_as(WorkerOptions).sdk_container_image
    if kind == "DOCKER" and not (options.environment_config or options.environment_options or image):
        raise RequestError(
            "--environment_type=DOCKER: expected the image that has Penstock, found none; give it by "
            "--environment_config=IMAGE"
        )
    if options.environment_config or options.environment_options:
        return arguments
    if kind == "PROCESS":
        arguments.append(f"--environment_config={json.dumps({'command': _worker_command(master)})}")
    if kind == "EXTERNAL":
        arguments.append(f"--environment_config={_POOL}")
    return arguments


def _worker_command(master: str | None) -> str:
    """What starts a worker: by its path where that is on this machine, else the first one in a TaskManager's PATH."""
    beside = os.path.join(os.path.dirname(sys.executable), PROGRAM)
    is_here = master is None or _is_this_machine(master)
    return beside if is_here and os.path.exists(beside) else PROGRAM


def _is_this_machine(address: str) -> bool:
    return urlsplit(address).hostname in ("localhost", "127.0.0.1", "::1", socket.gethostname())


def _is_given(arguments: Sequence[str], name: str) -> bool:
    return any(argument.partition("=")[0] == f"--{name}" for argument in arguments)


def _empty_jar(folder: str) -> str:
    """A jar to stage in place of Beam's, which lies in the cluster's `lib/`: at least one is expected."""
    path = os.path.join(folder, _EMPTY_JAR)
    with zipfile.ZipFile(path, "w") as jar:
        jar.writestr("META-INF/MANIFEST.MF", "Manifest-Version: 1.0\r\n\r\n")
    return path


class _Runner(PortableRunner):
    """Gives a pipeline to a job server, and keeps its hands off the process: no signal handler, nothing at its exit."""

    def __init__(self, server: JobServer) -> None:
        super().__init__()
        self._server = server

    def run_portable_pipeline(self, pipeline: beam_runner_api_pb2.Pipeline, options: PipelineOptions) -> "_Submission":
        _stage_nothing(pipeline, options)
        workers = self.start_and_replace_loopback_environments(pipeline, options)
        optimized = self._optimize_pipeline(pipeline, options)
        job_id, messages, states = JobServiceHandle(self._server.jobs, options).submit(optimized)
        return _Submission(self._server, job_id, messages, states, workers)


def _stage_nothing(pipeline: beam_runner_api_pb2.Pipeline, options: PipelineOptions) -> None:
    """Has workers ask for no files: they would look for them on the job server's disk, which has ended by then.

    Raises:
      RequestError: the user's options stage some, and name no folder that workers see.
    """
    shared = options.view_as(JobServerOptions).artifacts_dir
    for environment in pipeline.components.environments.values():
        needed = [each for each in environment.dependencies if _EMPTY_JAR.encode() not in each.role_payload]
        if needed and not shared:
            raise RequestError(
                "--runner flink: expected workers that have all they need installed, found options that send them "
                f"{len(needed)} files; install these where workers run, or give --artifacts_dir=FOLDER, which every "
                "TaskManager sees"
            )
        del environment.dependencies[:]
        environment.dependencies.extend(needed)


class _Submission:
    """A pipeline that a job server has taken, watched by a thread until it ends there.

    Attributes:
      server: The job server.
    """

    def __init__(
        self,
        server: JobServer,
        job_id: str,
        messages: Iterator[beam_job_api_pb2.JobMessagesResponse],
        states: object,
        workers: Sequence[Callable[[], object]],
    ) -> None:
        """Begins to watch it.

        Args:
          server: The job server.
          job_id: What it calls the job.
          messages: What it says of the job.
          states: What it says of its state. Not read, but kept: a job server that tells it to a stream that is gone
            tells it to no other.
          workers: Each ends a worker in this process.
        """
        self.server = server
        self._job_id = job_id
        self._messages = messages
        self._states = states
        self._workers = workers
        self._state = JobState.RUNNING
        self._error = "it ended without a word"
        self._reader = threading.Thread(target=self._read, name="flink messages", daemon=True)
        self._thread = threading.Thread(target=self._watch, name="flink", daemon=True)
        self._reader.start()
        self._thread.start()

    def _read(self) -> None:
        with contextlib.suppress(grpc.RpcError):  # the state will tell
            for response in self._messages:
                if response.message_response.importance == beam_job_api_pb2.JobMessage.JOB_MESSAGE_ERROR:
                    self._error = cause_in_words(response.message_response.message_text)

    def _watch(self) -> None:
        request = beam_job_api_pb2.GetJobStateRequest(job_id=self._job_id)
        try:
            while (state := self.server.jobs.GetState(request).state) not in _STATES:
                time.sleep(_LOOK)
        except (grpc.RpcError, ValueError) as error:  # the latter of a channel that was closed
            self._error = f"the job server is gone ({error}); its last words: {self.server.last_words()}"
            self._state = JobState.FAILED
            return
        if _STATES[state] is JobState.FAILED:
            self._reader.join(_CANCEL)
        self._state = _STATES[state]

    def join(self, timeout: float | None = None) -> JobState:
        """Waits for the end, but no longer than so many seconds; gives the state."""
        self._thread.join(timeout)
        return self._state

    @property
    def failure(self) -> str:
        """Why it failed, in words."""
        return self._error

    def cancel(self) -> None:
        """Has the job cancelled, if it runs: workers in this process complain of a job server that is simply gone."""
        request = beam_job_api_pb2.CancelJobRequest(job_id=self._job_id)
        with contextlib.suppress(grpc.RpcError, ValueError):  # the latter of a channel that is closed
            if not self._state.is_final:
                self.server.jobs.Cancel(request, timeout=_CANCEL)
        self.join(_CANCEL)

    def stop(self) -> None:
        """Ends the job server, and what there is of workers in this process."""
        for stop in self._workers:
            stop()
        self.server.stop()


def _expect_known(server: JobServer, arguments: Sequence[str]) -> None:
    """Raises RequestError where an option is neither Beam's nor the job server's: it would be discarded."""
    unknown = [argument for argument in unknown_options(arguments) if argument.startswith("--")]
    if not unknown:
        return
    answer = server.jobs.DescribePipelineOptions(beam_job_api_pb2.DescribePipelineOptionsRequest())
    known = {option.name for option in answer.options}
    if stray := [argument for argument in unknown if argument.partition("=")[0][2:] not in known]:
        raise RequestError(
            f"expected options for Beam after `--`, found {' '.join(stray)}, which neither Beam nor its job server for "
            "Flink knows; check the spelling (--name=value)"
        )


class EmbeddedJob:
    """A job on a cluster of its own, which ends with it, or with this process."""

    job_id = "embedded"
    url = None

    def __init__(self, submission: _Submission) -> None:
        self._submission = submission

    def state(self) -> JobState:
        return self._submission.join(0)

    def wait(self) -> None:
        try:
            state = self._submission.join()
        except BaseException:
            self.cancel()
            raise
        self._submission.stop()
        if state is JobState.CANCELLED:
            raise PenstockError("the job was cancelled")
        if state is JobState.FAILED:
            raise PenstockError(self._submission.failure)

    def counters(self) -> Mapping[str, int]:
        return {}  # progress files tell the same

    def cancel(self) -> None:
        self._submission.cancel()
        self._submission.stop()


def _find_job(rest: FlinkRest, name: str, submission: _Submission) -> FlinkJob:
    """A job that a job server has been given, as soon as it is on the cluster; then the job server has done its work.

    Raises:
      PenstockError: the job server failed before.
    """
    while True:
        with contextlib.suppress(OSError):  # the next look will tell
            if ids := rest.find_jobs(name):
                return FlinkJob(rest, ids[0])
        if submission.join(_LOOK) is JobState.FAILED:
            raise PenstockError(f"Flink's job server could not submit the job: {submission.failure}")


def _cancel_jobs(rest: FlinkRest, name: str) -> None:
    """Cancels what came to the cluster though its submission was interrupted: nobody would follow it."""
    with contextlib.suppress(OSError, PenstockError):
        for job_id in rest.find_jobs(name):
            FlinkJob(rest, job_id).cancel()
