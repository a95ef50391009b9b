import json
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.error import URLError

import apache_beam as beam
import grpc
import pytest
from apache_beam.metrics import Metrics
from apache_beam.runners.portability.prism_runner import PrismJobServer

from penstock import PenstockError, RequestError
from penstock.runners import beam_runner
from penstock.runners.beam_runner import BeamJob, _same_interrupt
from penstock.runners.engine import Engine, EngineOptions, JobState, make_engine


def engine(name: str, *arguments: str) -> Engine:
    return make_engine(name, EngineOptions(beam_arguments=arguments))


def check(name: str, *arguments: str) -> Any:
    return engine(name, *arguments).check(None)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["prism", "PrismRunner", "apache_beam.runners.portability.prism_runner.PrismRunner"])
def test_a_runner_goes_by_all_names_that_beam_has_for_it(name: str):
    assert engine(name).name == name
    assert engine(name).is_here


@pytest.mark.parametrize("name", ["prisma", "no.such.Runner", "os.path.join", "penstock.runners.engine.JobState"])
def test_a_name_that_is_no_runners_is_refused(name: str):
    with pytest.raises(RequestError, match=f"--runner: expected .*found '?{name}"):
        engine(name)


def test_workers_and_runner_are_said_in_beams_own_words():
    with pytest.raises(RequestError, match="found --workers; leave it out"):
        make_engine("prism", EngineOptions(workers=2))
    with pytest.raises(RequestError, match="found --runner=x, which Penstock sets; use --runner before `--`"):
        engine("prism", "--runner=x")


@pytest.mark.parametrize(
    ("name", "arguments", "is_here"),
    [
        ("spark", [], True),
        ("spark", ["--spark_master_url=local[2]"], True),
        ("spark", ["--spark_master_url=spark://host:7077"], False),
        ("spark", ["--environment_type=EXTERNAL", "--environment_config=localhost:1"], False),
        ("portable", ["--job_endpoint=embed"], False),
        ("portable", ["--environment_type=LOOPBACK"], True),
        ("BundleBasedDirectRunner", [], False),
    ],
)
def test_workers_are_here_where_this_process_runs_them(name: str, arguments: list[str], is_here: bool):
    assert engine(name, *arguments).is_here == is_here


@pytest.fixture
def endpoint() -> Iterator[str]:
    """Where somebody listens, and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


@pytest.mark.parametrize("name", ["spark", "portable"])
def test_a_job_server_that_is_there_does_not_tell_where_workers_run(name: str, endpoint: str):
    with pytest.raises(RequestError, match=rf"expected --environment_type .*\({endpoint}\).* found none"):
        check(name, f"--job_endpoint={endpoint}")
    assert not check(name, f"--job_endpoint={endpoint}", "--environment_type=LOOPBACK")
    assert not check("prism", f"--job_endpoint={endpoint}")


@pytest.mark.parametrize("nobody", ["127.0.0.1:9", "localhost", "host:x"])
def test_a_job_server_that_is_not_there_is_told_before_any_work(nobody: str):
    with pytest.raises(RequestError, match=f"expected a job server at --job_endpoint={nobody} "):
        check("spark", f"--job_endpoint={nobody}", "--environment_type=LOOPBACK")


@pytest.mark.parametrize("environment", ["EXTERNAL", "PROCESS"])
def test_how_workers_start_needs_its_configuration(environment: str):
    with pytest.raises(RequestError, match=f"expected --environment_config .* found --environment_type={environment} "):
        check("portable", f"--environment_type={environment}")


def test_prism_would_wait_for_workers_of_a_process(tmp_path: Path):
    with pytest.raises(RequestError, match=r"would wait for them for ever; .* start them by penstock-worker: --env"):
        check("prism", "--environment_type=PROCESS", '--environment_config={"command": "boot"}')
    with pytest.raises(RequestError, match=r"found nothing at .*/prism"):
        check("prism", f"--prism_location={tmp_path / 'prism'}")


def test_prism_would_wait_for_workers_that_cannot_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    worker, boot = tmp_path / "penstock-worker", tmp_path / "boot"
    for program in (worker, boot):
        program.write_text("#!/bin/sh\n")
        program.chmod(0o755)
    process = ("prism", "--environment_type=PROCESS")
    monkeypatch.setenv("PENSTOCK_BOOT", str(tmp_path / "none"))
    with pytest.raises(RequestError, match=r"expected JSON such as .*, found penstock-worker$"):
        check(*process, "--environment_config=penstock-worker")
    with pytest.raises(RequestError, match="expected a command that is there, found /x/penstock-worker; give its path"):
        check(*process, '--environment_config={"command": "/x/penstock-worker"}')
    with pytest.raises(RequestError, match=r"expected Beam's boot, .* name it by PENSTOCK_BOOT"):
        check(*process, f'--environment_config={{"command": "{worker}"}}')
    named = {"command": str(worker), "env": {"PENSTOCK_BOOT": str(boot)}}
    assert not check(*process, f"--environment_config={json.dumps(named)}")
    monkeypatch.setenv("PENSTOCK_BOOT", str(boot))
    assert not check(*process, f'--environment_config={{"command": "{worker}"}}')


def test_a_runner_without_a_server_of_its_own_needs_one():
    with pytest.raises(RequestError, match=r"expected a job server, --job_endpoint=HOST:PORT .* found none; start one"):
        check("PortableRunner", "--environment_type=LOOPBACK")


def test_a_binary_that_cannot_be_fetched_can_be_named(monkeypatch: pytest.MonkeyPatch):
    def fail(url: str) -> None:
        raise URLError("no network")

    monkeypatch.setattr("apache_beam.runners.portability.prism_runner.urlopen", fail)
    monkeypatch.setattr(PrismJobServer, "BIN_CACHE", "/nowhere")
    with pytest.raises(PenstockError, match=r"no network.*; fetch it elsewhere, .* `--`: --prism_location=FILE"):
        engine("prism").submit(lambda pipeline: pipeline | beam.Create([1]), "x")


@pytest.mark.parametrize(
    ("name", "arguments", "is_detachable"),
    [
        ("prism", [], False),
        ("spark", ["--environment_type=EXTERNAL", "--environment_config=host:1"], False),
        ("spark", ["--job_endpoint=host:8099", "--environment_type=LOOPBACK"], False),
        ("spark", ["--job_endpoint=host:8099", "--environment_type=DOCKER"], True),
        ("portable", ["--job_endpoint=embed", "--environment_type=DOCKER"], False),
        ("BundleBasedDirectRunner", ["--job_endpoint=host:8099"], False),
    ],
)
def test_a_job_goes_on_alone_where_nothing_of_it_is_this_process(name: str, arguments: list[str], is_detachable: bool):
    assert engine(name, *arguments).is_detachable == is_detachable


def test_spark_needs_java_or_a_job_server(tmp_path: Path):
    with pytest.raises(RequestError, match=r"expected Java .* found no no-such-java"):
        check("spark", "--job_server_java_launcher=no-such-java")
    with pytest.raises(RequestError, match=r"--spark_job_server_jar: .* found nothing at .*/server.jar"):
        check("spark", "--job_server_java_launcher=python", f"--spark_job_server_jar={tmp_path / 'server.jar'}")


def test_what_beams_python_does_not_know_is_passed_on_and_told():
    assert list(check("prism", "--job_name=x", "--no_such=1")) == [
        "--no_such=1: passed on to the engine prism, since Beam's Python knows no such option"
    ]
    with pytest.raises(RequestError, match="expected options for Beam after `--`"):
        check("prism", "--number_of_worker_harness_threads")


def test_only_a_job_server_that_stays_can_be_asked_for_a_job(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(beam_runner, "_FIND_TIMEOUT", 0.2)
    with pytest.raises(RequestError, match="found no --job_endpoint"):
        engine("prism").find("job-001")
    with pytest.raises(RequestError, match=r"expected a job server at 127.0.0.1:9 that knows"):
        engine("portable", "--job_endpoint=127.0.0.1:9").find("job-001")


EMBEDDED = ("--job_endpoint=embed", "--environment_type=LOOPBACK")  # Beam's own job server, in this process


def test_a_job_is_followed_to_its_end():
    def count(number: int) -> int:
        time.sleep(0.3)
        Metrics.counter("penstock", "read").inc(number)
        Metrics.counter("another", "read").inc(number)
        return number

    def build(pipeline: Any) -> None:
        _ = pipeline | beam.Create([1, 2, 4]) | beam.Map(count)

    job = engine("portable", *EMBEDDED).submit(build, "penstock-make-x-01234567")
    assert job.job_id
    assert job.counters().get("read", 0) < 7
    job.wait()
    assert job.state() is JobState.DONE
    assert job.counters() == {"read": 7}
    job.cancel()  # of one that has ended: nothing
    assert job.state() is JobState.DONE


def test_the_cause_of_a_failure_is_one_sentence():
    def refuse(number: int) -> None:
        raise ValueError(f"expected another number, found {number}")

    def build(pipeline: Any) -> None:
        _ = pipeline | beam.Create([3]) | "Refuse" >> beam.Map(refuse)

    job = engine("portable", *EMBEDDED).submit(build, "penstock-make-x-01234567")
    with pytest.raises(PenstockError) as caught:
        job.wait()
    assert str(caught.value) == "ValueError: expected another number, found 3"
    assert job.state() is JobState.FAILED


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # gRPC's, of a closed channel
def test_a_job_that_no_engine_takes_is_told(tmp_path: Path):
    (tmp_path / "prism").write_text("#!/bin/sh\nexit 1\n")
    with pytest.raises(PenstockError, match="--runner prism did not take the job: "):
        engine("prism", f"--prism_location={tmp_path / 'prism'}").submit(
            lambda pipeline: pipeline | beam.Create([1]), "x"
        )


class _Gone:
    """What a runner gave for a job whose job server is gone."""

    job_id = "job-1"

    @property
    def state(self) -> str:
        raise _Unreachable

    def cancel(self) -> None:
        raise _Unreachable


class _Unreachable(grpc.RpcError):  # type: ignore[misc]
    def details(self) -> str:
        return "failed to connect to all addresses"


def test_a_job_server_that_is_gone_is_told_in_words():
    with pytest.raises(PenstockError, match="does not tell how job job-1 is: failed to connect to all addresses"):
        BeamJob(_Gone(), goes_on=True).state()
    with pytest.raises(PenstockError, match=r"job job-1 could not be cancelled: .*failed to connect"):
        BeamJob(_Gone(), goes_on=True).cancel()
    BeamJob(_Gone(), goes_on=False).cancel()  # the job has ended with its server
    assert BeamJob(_Gone(), goes_on=True).counters() == {}


def test_beam_does_not_take_the_interrupt_for_itself():
    before = signal.getsignal(signal.SIGINT)
    with _same_interrupt():
        signal.signal(signal.SIGINT, lambda *_: None)  # as Beam does where it starts a job server
    assert signal.getsignal(signal.SIGINT) is before
