"""Submits a pipeline to Beam's job server for Flink, and watches it there: on a cluster until Flink has the job."""

import contextlib
import os
import threading
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence

import grpc
from apache_beam.options.pipeline_options import JobServerOptions, PipelineOptions
from apache_beam.portability.api import beam_job_api_pb2, beam_runner_api_pb2
from apache_beam.runners.portability.portable_runner import JobServiceHandle, PortableRunner

from ..pipeline.errors import PenstockError, RequestError
from .engine import JobState
from .failures import cause_in_words
from .flink_job_server import JobServer
from .flink_rest import FlinkJob, FlinkRest
from .options import unknown_options

_CANCEL = 10.0  # seconds that a job of one's own cluster may take to be cancelled
_LOOK = 0.5  # seconds between two looks whether a job is on the cluster
_EMPTY_JAR = "penstock-empty.jar"
_STATES = {
    beam_job_api_pb2.JobState.DONE: JobState.DONE,
    beam_job_api_pb2.JobState.FAILED: JobState.FAILED,
    beam_job_api_pb2.JobState.CANCELLED: JobState.CANCELLED,
}


class SubmittingRunner(PortableRunner):
    """Gives a pipeline to a job server, and keeps its hands off the process: no signal handler, nothing at its exit."""

    def __init__(self, server: JobServer) -> None:
        super().__init__()
        self._server = server

    def run_portable_pipeline(self, pipeline: beam_runner_api_pb2.Pipeline, options: PipelineOptions) -> "Submission":
        stage_nothing(pipeline, options)
        workers = self.start_and_replace_loopback_environments(pipeline, options)
        optimized = self._optimize_pipeline(pipeline, options)
        job_id, messages, states = JobServiceHandle(self._server.jobs, options).submit(optimized)
        return Submission(self._server, job_id, messages, states, workers)


def stage_nothing(pipeline: beam_runner_api_pb2.Pipeline, options: PipelineOptions) -> None:
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


class Submission:
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


def expect_known(server: JobServer, arguments: Sequence[str]) -> None:
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

    def __init__(self, submission: Submission) -> None:
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


def find_job(rest: FlinkRest, name: str, submission: Submission) -> FlinkJob:
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


def cancel_jobs(rest: FlinkRest, name: str) -> None:
    """Cancels what came to the cluster though its submission was interrupted: nobody would follow it."""
    with contextlib.suppress(OSError, PenstockError):
        for job_id in rest.find_jobs(name):
            FlinkJob(rest, job_id).cancel()


def write_empty_jar(folder: str) -> str:
    """A jar to stage in place of Beam's, which lies in the cluster's `lib/`: at least one is expected."""
    path = os.path.join(folder, _EMPTY_JAR)
    with zipfile.ZipFile(path, "w") as jar:
        jar.writestr("META-INF/MANIFEST.MF", "Manifest-Version: 1.0\r\n\r\n")
    return path
