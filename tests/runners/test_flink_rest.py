"""A cluster's REST API and its jobs, on a stub of it."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from penstock.pipeline.errors import PenstockError, RequestError
from penstock.runners import flink_rest
from penstock.runners.engine import JobState
from penstock.runners.flink_rest import FlinkJob, FlinkRest, read_varint, root_exception

JOB = "762506a53ca978798c8a9eb51716885c"
TRACE = """\
org.apache.flink.runtime.JobException: Recovery is suppressed by NoRestartBackoffTimeStrategy
\tat org.apache.flink.runtime.failover.ExecutionFailureHandler.handleFailure(Handler.java:180)
Caused by: java.lang.Exception: Error received from SDK harness for instruction 5: Traceback (most recent call last):
  File "apache_beam/runners/common.py", line 1512, in apache_beam.runners.common.DoFnRunner.process
ValueError: expected a folder, found none [while running 'Make-ptransform-12']

\tat org.apache.beam.runners.fnexecution.control.FnApiControlClient.onNext(FnApiControlClient.java:180)
"""


class Stub(ThreadingHTTPServer):
    """Answers each path by what a test puts there: a value, a list of them one after the other, an error's number."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers: dict[str, Any] = {}
        self.asked: list[str] = []

    @property
    def master(self) -> str:
        return f"127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    server: Stub

    def do_GET(self) -> None:
        self.server.asked.append(f"{self.command} {self.path}")
        answer = self.server.answers.get(self.path, 404)
        if isinstance(answer, list):
            answer = answer.pop(0) if len(answer) > 1 else answer[0]
        status, content = (answer, b"{}") if isinstance(answer, int) else (200, answer)
        if not isinstance(content, bytes):
            content = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_PATCH = do_GET

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stub]:
    monkeypatch.setattr(flink_rest, "_POLL", 0.01)
    with Stub() as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()


def job(stub: Stub) -> FlinkJob:
    return FlinkJob(FlinkRest(stub.master), JOB)


@pytest.mark.parametrize(
    ("master", "address"),
    [
        ("localhost:8081", "http://localhost:8081"),
        ("http://jobmanager", "http://jobmanager"),
        ("https://flink.example.com:443/", "https://flink.example.com:443"),
        ("[::1]:8081", "http://[::1]:8081"),
    ],
)
def test_addresses(master: str, address: str):
    assert FlinkRest(master).address == address


@pytest.mark.parametrize("master", ["[auto]", "ftp://host:1", "user:secret@host:8081", "host:8081/path", "a b", ""])
def test_what_is_no_address_is_refused(master: str):
    with pytest.raises(RequestError, match="--flink-master: expected the address of Flink's REST API"):
        FlinkRest(master)


def test_a_job_is_found_by_its_name(stub: Stub):
    stub.answers["/jobs/overview"] = {"jobs": [{"jid": "a", "name": "other"}, {"jid": "b", "name": "mine"}]}
    assert FlinkRest(stub.master).find_jobs("mine") == ["b"]


@pytest.mark.parametrize(
    ("told", "state"),
    [
        ("INITIALIZING", JobState.RUNNING),
        ("RESTARTING", JobState.RUNNING),
        ("SUSPENDED", JobState.RUNNING),
        ("FAILING", JobState.RUNNING),
        ("FINISHED", JobState.DONE),
        ("FAILED", JobState.FAILED),
        ("CANCELED", JobState.CANCELLED),
    ],
)
def test_states(stub: Stub, told: str, state: JobState):
    stub.answers[f"/jobs/{JOB}"] = {"jid": JOB, "state": told}
    assert job(stub).state() is state


def test_a_job_is_waited_for(stub: Stub):
    stub.answers[f"/jobs/{JOB}"] = [{"state": "RUNNING"}, {"state": "RESTARTING"}, {"state": "FINISHED"}]
    job(stub).wait()
    assert stub.asked == [f"GET /jobs/{JOB}"] * 3
    assert job(stub).url == f"http://{stub.master}/#/job/running/{JOB}/overview"


def test_a_jobmanager_that_does_not_answer_for_a_while_is_waited_for(stub: Stub):
    stub.answers[f"/jobs/{JOB}"] = [{"state": "RUNNING"}, 503, 500, {"state": "FINISHED"}]
    job(stub).wait()


def test_a_jobmanager_that_does_not_come_back_is_named(stub: Stub, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(flink_rest, "_GONE", 0.1)
    stub.answers[f"/jobs/{JOB}"] = [{"state": "RUNNING"}, 503]
    with pytest.raises(PenstockError, match=rf"expected an answer from .*503.*; the job {JOB} may go on"):
        job(stub).wait()


def test_a_jobmanager_that_has_forgotten_the_job_is_named_at_once(stub: Stub):
    stub.answers[f"/jobs/{JOB}"] = [{"state": "RUNNING"}, 503, 404]
    with pytest.raises(PenstockError, match=r"which does not know it: .* run again to resume"):
        job(stub).wait()


def test_the_cause_of_a_failure_is_told_in_words(stub: Stub):
    stub.answers[f"/jobs/{JOB}"] = {"state": "FAILED"}
    stub.answers[f"/jobs/{JOB}/exceptions"] = {"root-exception": TRACE, "all-exceptions": []}
    with pytest.raises(PenstockError) as failure:
        job(stub).wait()
    assert str(failure.value) == f"the Flink job {JOB} failed: ValueError: expected a folder, found none"


def test_the_newest_exception_is_the_cause():
    entries = [{"exceptionName": "b", "stacktrace": "newest"}, {"exceptionName": "a", "stacktrace": "older"}]
    assert root_exception({"root-exception": "old way", "exceptionHistory": {"entries": entries}}) == "newest"
    assert root_exception({"root-exception": "old way", "exceptionHistory": {"entries": []}}) == "old way"
    assert root_exception({}) == ""


def test_a_cancelled_job_is_a_failure(stub: Stub):
    stub.answers[f"/jobs/{JOB}"] = {"state": "CANCELED"}
    with pytest.raises(PenstockError, match="was cancelled"):
        job(stub).wait()


def test_a_job_is_cancelled(stub: Stub):
    path = f"/jobs/{JOB}?mode=cancel"
    stub.answers[path] = {}
    job(stub).cancel()
    assert stub.asked == [f"PATCH {path}"]
    stub.answers[path] = 409  # it has ended
    job(stub).cancel()
    stub.answers[path] = 500
    with pytest.raises(PenstockError, match="expected an answer from the Flink cluster"):
        job(stub).cancel()


def test_what_is_no_json_is_an_error(stub: Stub):
    stub.answers["/config"] = b"<html>"
    with pytest.raises(OSError, match=r"expected JSON from .*, found b'<html>'"):
        FlinkRest(stub.master).get("/config")


def metric(name: str, payload: str, transform: str, namespace: str = "penstock") -> dict[str, Any]:
    labels = {"NAMESPACE": namespace, "NAME": name, "PTRANSFORM": transform}
    return {
        "urn": "beam:metric:user:sum_int64:v1",
        "type": "beam:metrics:sum_int64:v1",
        "payload": payload,
        "labels": labels,
    }


def test_counters_are_read_from_beams_accumulator(stub: Stub):
    """As Flink 1.20.5 gives it: JSON in JSON, counts as varints."""
    time_spent = {
        "urn": "beam:metric:pardo_execution_time:total_msecs:v1",
        "payload": "4ZQK",
        "labels": {"PTRANSFORM": "a"},
    }
    infos = [
        metric("read", "PA==", "a"),
        metric("read", "rAI=", "b"),
        metric("quarantined/bad image", "FA==", "a"),
        metric("read", "PA==", "a", namespace="other"),
        time_spent,
    ]
    value = json.dumps({"metrics": {"attempted": infos}})
    stub.answers[f"/jobs/{JOB}/accumulators"] = {
        "job-accumulators": [],
        "user-task-accumulators": [
            {"name": "__metricscontainers", "type": "MetricsAccumulator", "value": value},
            {"name": "numbers", "type": "IntCounter", "value": "5"},
        ],
    }
    assert job(stub).counters() == {"read": 360, "quarantined/bad image": 20}


@pytest.mark.parametrize("answer", [404, {}, {"user-task-accumulators": []}, b"<html>"])
def test_counters_that_are_not_there_are_none(stub: Stub, answer: Any):
    stub.answers[f"/jobs/{JOB}/accumulators"] = answer
    assert job(stub).counters() == {}


@pytest.mark.parametrize(("encoded", "count"), [(b"", 0), (b"\x00", 0), (b"\x14", 20), (b"\xac\x02", 300)])
def test_varints(encoded: bytes, count: int):
    assert read_varint(encoded) == count
