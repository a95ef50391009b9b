"""A job that is followed, by a stub of Dataflow's REST API."""

from collections.abc import Iterator, Sequence

import pytest
from dataflow_stub import PROJECT, REGION, DataflowStub, counters
from google.api_core import retry
from google.auth.credentials import AnonymousCredentials

from penstock.pipeline.errors import PenstockError
from penstock.runners.dataflow_job import DataflowJob, DataflowService, WrittenTemplate, find_cause
from penstock.runners.engine import JobState

TRACEBACK = (
    "Error message from worker: generic::unknown: Traceback (most recent call last):\n"
    '  File "apache_beam/runners/common.py", line 1498, in process\n'
    "OSError: [Errno 28] No space left on device [while running 'Make-ptransform-31']\n"
)
NOT_WHY = (
    "Workflow failed. Causes: S03:Make+Commit failed., The job failed because a work item has failed 4 times. Look in "
    "previous log entries for the cause of each one of the 4 failures."
)


@pytest.fixture
def stub() -> Iterator[DataflowStub]:
    stub = DataflowStub()
    yield stub
    stub.close()


@pytest.fixture
def job(stub: DataflowStub) -> DataflowJob:
    stub.jobs["2026-1"] = {"id": "2026-1", "name": "penstock"}
    service = DataflowService(PROJECT, REGION, stub.url, AnonymousCredentials())  # type: ignore[no-untyped-call]
    return DataflowJob("2026-1", service, poll=0.01, patience=0.1)


@pytest.mark.parametrize(
    ("name", "state"),
    [
        ("QUEUED", JobState.RUNNING),
        ("PENDING", JobState.RUNNING),
        ("RUNNING", JobState.RUNNING),
        ("CANCELLING", JobState.RUNNING),
        ("RESOURCE_CLEANING_UP", JobState.RUNNING),
        ("UNKNOWN", JobState.RUNNING),
        ("DONE", JobState.DONE),
        ("FAILED", JobState.FAILED),
        ("CANCELLED", JobState.CANCELLED),
    ],
)
def test_every_state_is_one_of_four(stub: DataflowStub, job: DataflowJob, name: str, state: JobState):
    stub.states = [f"JOB_STATE_{name}"]
    assert job.state() is state


def test_a_job_is_waited_for_until_it_is_done(stub: DataflowStub, job: DataflowJob):
    stub.states = ["JOB_STATE_PENDING", "JOB_STATE_RUNNING", "JOB_STATE_RUNNING", "JOB_STATE_DONE"]
    job.wait()
    assert stub.looks == 4


def test_a_service_that_is_not_well_is_asked_again(
    stub: DataflowStub, job: DataflowJob, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(retry.retry_unary.time, "sleep", lambda seconds: None)
    stub.failures = 3
    assert job.state() is JobState.DONE
    assert not stub.failures


def test_the_jobs_page_is_the_consoles(job: DataflowJob):
    assert job.url == f"https://console.cloud.google.com/dataflow/jobs/{REGION}/2026-1?project={PROJECT}"


def test_a_failed_job_says_why_in_the_workers_words(stub: DataflowStub, job: DataflowJob):
    stub.states = ["JOB_STATE_RUNNING", "JOB_STATE_FAILED"]
    stub.messages = [("2026-01-01T00:00:09Z", NOT_WHY), ("2026-01-01T00:00:01.5Z", TRACEBACK)]
    with pytest.raises(PenstockError, match=r"^OSError: \[Errno 28\] No space left on device; see https://console"):
        job.wait()


def test_what_the_service_says_late_is_waited_for(
    stub: DataflowStub, job: DataflowJob, monkeypatch: pytest.MonkeyPatch
):
    stub.states = ["JOB_STATE_FAILED"]
    job.patience = 30.0

    def sleep(seconds: float) -> None:
        stub.messages = [("2026-01-01T00:00:01Z", "Workflow failed. Causes: The image could not be pulled.")]

    monkeypatch.setattr("penstock.runners.dataflow_job.time.sleep", sleep)
    with pytest.raises(PenstockError, match=r"^The image could not be pulled; see "):
        job.wait()


def test_a_job_may_fail_without_a_word(stub: DataflowStub, job: DataflowJob):
    stub.states = ["JOB_STATE_FAILED"]
    with pytest.raises(PenstockError, match="Dataflow does not say why"):
        job.wait()


def test_a_cancelled_job_has_not_succeeded(stub: DataflowStub, job: DataflowJob):
    stub.states = ["JOB_STATE_RUNNING"]
    job.cancel()
    assert stub.jobs["2026-1"]["requestedState"] in ("JOB_STATE_CANCELLED", 5)  # its number in the API
    with pytest.raises(PenstockError, match="the job was cancelled"):
        job.wait()


def test_counters_are_those_of_penstock_summed_over_steps(stub: DataflowStub, job: DataflowJob):
    stub.metrics = [
        *counters({"read": 30, "written": 28, "quarantined/decode": 2}),
        *counters({"read": 10}, step="Again"),
        *counters({"read": 60}, tentative=True),
        {"name": {"origin": "user", "name": "read", "context": {"namespace": "others"}}, "scalar": 1000},
        {"name": {"origin": "dataflow/v1b3", "name": "ElementCount", "context": {}}, "scalar": 7},
    ]
    assert job.counters() == {"read": 60, "written": 28, "quarantined/decode": 2}


def test_a_refusal_is_told_in_words(stub: DataflowStub, job: DataflowJob):
    stub.jobs.clear()
    with pytest.raises(PenstockError, match=r"NotFound.*Information about job 2026-1 could not be found"):
        job.state()


@pytest.mark.parametrize(
    ("messages", "cause"),
    [
        ([NOT_WHY, TRACEBACK], "OSError: [Errno 28] No space left on device"),
        (["A work item was attempted 4 times", "Workflow failed. Causes: No quota."], "No quota"),
        (
            ["Workflow failed. Causes: S01:Units+Make failed., The worker lost contact."],
            "The worker lost contact",
        ),
        (["Startup of the worker pool failed."], "Startup of the worker pool failed"),
        (["x" * 1000], "x" * 500 + "…"),
    ],
)
def test_the_cause_is_found_among_what_is_said(messages: Sequence[str], cause: str):
    assert find_cause(messages) == cause


def test_a_template_is_no_job_to_wait_for():
    template = WrittenTemplate("penstock-make", "gs://staging/template")
    with pytest.raises(PenstockError, match="gs://staging/template is the template of a job that nobody has started"):
        template.wait()
    assert template.state() is JobState.RUNNING
    assert template.url is None
    assert template.counters() == {}
