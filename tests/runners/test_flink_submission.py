"""What a job server for Flink is given, and how it is watched, without one."""

import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.portability.api import beam_job_api_pb2, beam_runner_api_pb2

from penstock.pipeline.errors import PenstockError, RequestError
from penstock.runners import flink_submission
from penstock.runners.engine import JobState


def staged(*names: str) -> beam_runner_api_pb2.Pipeline:
    pipeline = beam_runner_api_pb2.Pipeline()
    for name in names:
        role = beam_runner_api_pb2.ArtifactStagingToRolePayload(staged_name=name).SerializeToString()
        pipeline.components.environments["python"].dependencies.add(role_payload=role)
    return pipeline


def test_workers_are_sent_no_files():
    pipeline = staged("penstock-empty.jar")
    flink_submission.stage_nothing(pipeline, PipelineOptions([]))
    assert not pipeline.components.environments["python"].dependencies
    with pytest.raises(RequestError, match="found options that send them 1 files"):
        flink_submission.stage_nothing(staged("penstock-empty.jar", "extra.whl"), PipelineOptions([]))
    shared = staged("penstock-empty.jar", "extra.whl")
    flink_submission.stage_nothing(shared, PipelineOptions(["--artifacts_dir=/nfs/staged"]))
    assert len(shared.components.environments["python"].dependencies) == 1


def said(error: str) -> beam_job_api_pb2.JobMessagesResponse:
    response = beam_job_api_pb2.JobMessagesResponse()
    response.message_response.importance = beam_job_api_pb2.JobMessage.JOB_MESSAGE_ERROR
    response.message_response.message_text = error
    return response


class Server:
    """A job server whose job has states one after the other, and that remembers what was asked of it."""

    def __init__(self, *states: str) -> None:
        self.states = list(states)
        self.events: list[str] = []
        self.jobs = self

    def GetState(self, request: beam_job_api_pb2.GetJobStateRequest) -> beam_job_api_pb2.JobStateEvent:
        if not self.states:
            raise ValueError("Cannot invoke RPC on closed channel!")
        state = self.states.pop(0) if len(self.states) > 1 else self.states[0]
        return beam_job_api_pb2.JobStateEvent(state=beam_job_api_pb2.JobState.Enum.Value(state))

    def Cancel(self, request: beam_job_api_pb2.CancelJobRequest, timeout: float) -> None:
        self.events.append(f"cancel {request.job_id}")
        self.states = ["CANCELLED"]

    def stop(self) -> None:
        self.events.append("stop")

    def last_words(self) -> str:
        return "goodbye"

    def job(self, *messages: beam_job_api_pb2.JobMessagesResponse) -> flink_submission.EmbeddedJob:
        stopped = [lambda: self.events.append("workers")]
        return flink_submission.EmbeddedJob(flink_submission.Submission(self, "id", iter(messages), None, stopped))  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def quick_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flink_submission, "_LOOK", 0.01)


def test_an_embedded_job_ends_its_job_server_and_its_workers():
    server = Server("STARTING", "RUNNING", "RUNNING", "DONE")
    job = server.job()
    job.wait()
    assert job.state() is JobState.DONE
    assert server.events == ["workers", "stop"]


def test_an_embedded_job_that_fails_says_why():
    server = Server("RUNNING", "FAILED")
    job = server.job(said("java.lang.IllegalStateException: no memory"))
    with pytest.raises(PenstockError, match="no memory"):
        job.wait()
    assert server.events == ["workers", "stop"]


def test_an_embedded_job_whose_job_server_dies_says_so():
    with pytest.raises(PenstockError, match=r"the job server is gone .*; its last words: goodbye"):
        Server().job().wait()


def test_an_embedded_job_that_is_interrupted_is_cancelled_before_its_job_server_ends(monkeypatch: pytest.MonkeyPatch):
    """Workers that are threads of this process would complain of a job server that is gone."""
    server = Server("RUNNING")
    job = server.job()
    join = job._submission.join

    def interrupted(timeout: float | None = None) -> JobState:
        monkeypatch.setattr(job._submission, "join", join)
        raise KeyboardInterrupt

    monkeypatch.setattr(job._submission, "join", interrupted)
    with pytest.raises(KeyboardInterrupt):
        job.wait()
    assert server.events == ["cancel id", "workers", "stop"]
    assert job.state() is JobState.CANCELLED
