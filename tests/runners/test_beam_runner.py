from pathlib import Path
from typing import Any

import pytest

from penstock import RequestError
from penstock.runners import beam_runner
from penstock.runners.engine import Engine, EngineOptions, make_engine


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


@pytest.mark.parametrize("name", ["spark", "portable"])
def test_a_job_server_that_is_there_does_not_tell_where_workers_run(name: str):
    with pytest.raises(RequestError, match=r"expected --environment_type .*\(host:8099\).* found none"):
        check(name, "--job_endpoint=host:8099")
    assert not check(name, "--job_endpoint=host:8099", "--environment_type=LOOPBACK")
    assert not check("prism", "--job_endpoint=localhost:8073")


@pytest.mark.parametrize("environment", ["EXTERNAL", "PROCESS"])
def test_how_workers_start_needs_its_configuration(environment: str):
    with pytest.raises(RequestError, match=f"expected --environment_config .* found --environment_type={environment} "):
        check("portable", f"--environment_type={environment}")


def test_prism_would_wait_for_workers_of_a_process(tmp_path: Path):
    with pytest.raises(RequestError, match=r"would wait for them for ever; .* start them by penstock-worker: --env"):
        check("prism", "--environment_type=PROCESS", '--environment_config={"command": "boot"}')
    assert not check("prism", "--environment_type=PROCESS", '--environment_config={"command": "/x/penstock-worker"}')
    with pytest.raises(RequestError, match=r"found nothing at .*/prism"):
        check("prism", f"--prism_location={tmp_path / 'prism'}")


@pytest.mark.parametrize(
    ("name", "arguments", "is_detachable"),
    [
        ("prism", [], False),
        ("spark", ["--environment_type=EXTERNAL", "--environment_config=host:1"], False),
        ("spark", ["--job_endpoint=host:8099", "--environment_type=LOOPBACK"], False),
        ("spark", ["--job_endpoint=host:8099", "--environment_type=DOCKER"], True),
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
