"""Flink: an existing cluster, or one of the job's own inside its job server, started and stopped with the job.

On a cluster a job belongs to the cluster: the job server is there to submit it, and then ends.
"""

import json
import os
import socket
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import apache_beam as beam
from apache_beam.options.pipeline_options import (
    FlinkRunnerOptions,
    GoogleCloudOptions,
    JobServerOptions,
    PipelineOptions,
    PortableOptions,
    StandardOptions,
    WorkerOptions,
)

from ..pipeline.cores import cores
from ..pipeline.errors import PenstockError, RequestError
from ..pipeline.storage import files
from . import flink_checks
from .engine import BuildPipeline, CountStages, EngineOptions, RunningJob
from .failures import root_cause
from .flink_checks import Cluster
from .flink_job_server import JarVersions, JobServer, ServerOptions, find_jar, find_java, read_versions
from .flink_rest import FlinkJob, FlinkRest
from .flink_submission import EmbeddedJob, SubmittingRunner, cancel_jobs, expect_known, find_job, write_empty_jar
from .options import refuse_options, unknown_options
from .worker import PROGRAM

if TYPE_CHECKING:
    from ..pipeline.planned_run import PlannedRun, RunRequest

_LOCAL = "[local]"
_BATCH_VERSION = "1.20"  # the last with a batch engine, which sorts on disk what Flink 2 keeps on the heap
_SHORT_LIVED = ("-XX:TieredStopAtLevel=1",)  # Java that ends soon: half the start for half the speed
_UNIQUE = 8  # last characters of a job's name, which no other job's has
# Milliseconds for which an idle worker waits for the next stage: shorter than the delay before a restart, for which a
# worker that died would be kept, and every attempt would fail at it.
_CACHED = 1_000
_KINDS = ("PROCESS", "EXTERNAL", "DOCKER", "LOOPBACK")
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

    def check_plan(self, request: "RunRequest", planned: "PlannedRun", count_stages: CountStages) -> Sequence[str]:
        if self._rest is None:
            return ()
        cluster, parallelism = self._ask(again=True), self._parallelism()
        streaming = bool(self._given.view_as(StandardOptions).streaming)
        own_containers = self._given.view_as(PortableOptions).environment_type in ("EXTERNAL", "DOCKER")
        return [
            *flink_checks.check_placement(cluster, parallelism),
            *flink_checks.check_network(cluster, parallelism, count_stages(), streaming),
            *([] if own_containers else flink_checks.check_memory(cluster)),
        ]

    def submit(self, build: BuildPipeline, name: str) -> RunningJob:
        """Submits a job; it is on the cluster, or known to the embedded one, when this returns."""
        given = self._given.view_as(GoogleCloudOptions).job_name
        name = f"{given}-{name[-_UNIQUE:]}" if given else name  # a job is found by its name
        server = JobServer(self._find_server()[0])
        try:
            expect_known(server, self.options.beam_arguments)
            options = self._beam_options(server, name)
            pipeline = beam.Pipeline(runner=SubmittingRunner(server), options=options)
            build(pipeline)
            try:
                submission = pipeline.run()
            except PenstockError:
                raise
            except Exception as error:  # whatever Beam raises
                raise PenstockError(f"Flink's job server did not take the job: {root_cause(error)}") from error
            if self._rest is None:
                return EmbeddedJob(submission)
            job = find_job(self._rest, name, submission)
            server.stop()
            return job
        except BaseException:
            server.stop()
            if self._rest:
                cancel_jobs(self._rest, name)
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
            arguments.append(f"--files_to_stage={write_empty_jar(server.folder)}")
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
