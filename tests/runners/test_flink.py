"""The engine Flink, without Flink: its options, what it refuses, and how a job comes to a cluster."""

import json
import sys
import types
import zipfile
from pathlib import Path
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import PipelineOptions, PortableOptions
from apache_beam.transforms.environments import ProcessEnvironment

from penstock.pipeline.errors import PenstockError, RequestError
from penstock.runners import flink
from penstock.runners.engine import EngineOptions, make_engine
from penstock.runners.flink import environment_arguments

REMOTE = "http://jobmanager.example.com:8081"
REQUEST: Any = types.SimpleNamespace(input="s3://in/raw", output="s3://out/dataset")
RECORDED: dict[str, Any] = json.loads((Path(__file__).parent / "flink_1_20_5.json").read_text())


@pytest.fixture
def java(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A Java that tells its version, and no more."""
    path = tmp_path / "home/bin/java"
    path.parent.mkdir(parents=True)
    path.write_text("#!/bin/sh\necho 'openjdk version \"17.0.15\"' >&2\n")
    path.chmod(0o755)
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "home"))
    return path


@pytest.fixture
def jar(tmp_path: Path) -> str:
    path = tmp_path / "beam-runners-flink-1.20-job-server-2.70.0.jar"
    with zipfile.ZipFile(path, "w") as opened:
        opened.writestr(".flink-runtime.version.properties", "project.version=1.20.5\n")
    return str(path)


def engine(master: str | None = None, *arguments: str, **options: Any) -> flink.FlinkEngine:
    made = make_engine("flink", EngineOptions(flink_master=master, beam_arguments=arguments, **options))
    assert isinstance(made, flink.FlinkEngine)
    return made


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("penstock.runners.flink_rest.FlinkRest.get", lambda _, path: RECORDED[path])


def test_an_embedded_cluster_is_here():
    assert engine().is_here
    assert engine("[local]").is_here
    assert not engine("jobmanager:8081").is_here


@pytest.mark.parametrize(
    ("given", "master", "expected"),
    [
        ([], None, ["--environment_type=LOOPBACK"]),
        ([], REMOTE, ["--environment_type=PROCESS", '--environment_config={"command": "penstock-worker"}']),
        (["--environment_type=PROCESS"], REMOTE, ['--environment_config={"command": "penstock-worker"}']),
        (["--environment_type=EXTERNAL"], REMOTE, ["--environment_config=localhost:50000"]),
        (["--environment_type=EXTERNAL", "--environment_config=pool:1"], REMOTE, []),
        (["--environment_type=EXTERNAL", "--environment_options=external_service_address=a:1"], REMOTE, []),
        (["--environment_type=DOCKER", "--environment_config=registry/penstock"], REMOTE, []),
        (["--environment_type=LOOPBACK"], "http://localhost:8081", []),
    ],
)
def test_how_workers_are_started(given: list[str], master: str | None, expected: list[str]):
    assert environment_arguments(PipelineOptions(given), master) == expected


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("--environment_type=LOOPBACK", "expected a cluster on this machine, found http://jobmanager"),
        ("--environment_type=FOO", "expected one of PROCESS, EXTERNAL, DOCKER, LOOPBACK, found FOO"),
        ("--environment_type=DOCKER", "expected the image that has Penstock, found none"),
    ],
)
def test_workers_that_cannot_be_started_are_refused(given: str, words: str):
    with pytest.raises(RequestError, match=words):
        environment_arguments(PipelineOptions([given]), REMOTE)


def test_beam_makes_an_environment_of_what_is_given():
    arguments = environment_arguments(PipelineOptions([]), REMOTE)
    made = ProcessEnvironment.from_options(PipelineOptions(arguments).view_as(PortableOptions))
    assert made.command == "penstock-worker"


@pytest.mark.parametrize(
    "option", ["--runner=X", "--flink_master=a:1", "--job_endpoint=a:1", "--flink_job_server_jar=x"]
)
def test_options_of_our_own_are_not_beams(option: str):
    with pytest.raises(RequestError, match="which Penstock sets"):
        engine(None, option).check(REQUEST)


def test_the_embedded_job_server_is_that_of_the_batch_engine(java: Path, tmp_path: Path):
    made = engine(None, f"--jar_cache_dir={tmp_path}")
    (tmp_path / f"beam-runners-flink-1.20-job-server-{beam.__version__}.jar").touch()
    assert made.check(REQUEST) == []


def test_nothing_is_downloaded_where_there_is_no_java(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    with pytest.raises(RequestError, match="expected Java 11 or later"):
        engine(flink_job_server_jar="http://localhost:1/a.jar").check(REQUEST)


@pytest.mark.usefixtures("java", "recorded")
def test_a_cluster_that_fits_is_not_warned_of(jar: str):
    made = engine("jobmanager:8081", flink_job_server_jar=jar)
    assert made.check(REQUEST) == []
    assert made.check_plan(REQUEST, None, lambda: 80) == []  # type: ignore[arg-type]


@pytest.mark.usefixtures("java", "recorded")
def test_folders_of_this_machine_are_warned_of(jar: str):
    local: Any = types.SimpleNamespace(input="/data/raw", output="s3://out")
    (warning,) = engine("jobmanager:8081", flink_job_server_jar=jar).check(local)
    assert "expected folders that every TaskManager has at the same place, found /data/raw" in warning
    assert engine("localhost:8081", flink_job_server_jar=jar).check(local) == []


@pytest.mark.usefixtures("java")
def test_a_flink_that_beam_has_no_job_server_for_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    answers = {**RECORDED, "/config": {"flink-version": "1.15.2"}}
    monkeypatch.setattr("penstock.runners.flink_rest.FlinkRest.get", lambda _, path: answers[path])
    with pytest.raises(RequestError, match=r"has a job server for \(.*1\.20.*\), found 1\.15 at jobmanager:8081"):
        engine("jobmanager:8081", f"--jar_cache_dir={tmp_path}").check(REQUEST)


def test_a_cluster_that_is_not_there_is_refused():
    with pytest.raises(RequestError, match="--flink-master: expected the REST API of a Flink cluster at"):
        engine("localhost:1").check(REQUEST)


@pytest.mark.usefixtures("java", "recorded")
def test_a_job_has_what_is_given_and_defaults_for_the_rest(jar: str, tmp_path: Path):
    server: Any = types.SimpleNamespace(endpoint="localhost:8099", folder=str(tmp_path))
    made = engine("jobmanager:8081", "--environment_cache_millis=5", flink_job_server_jar=jar, workers=3)
    given = made._beam_options(server, "penstock-make-pets-0a1b").get_all_options()
    assert (given["parallelism"], given["job_name"]) == (3, "penstock-make-pets-0a1b")
    assert given["environment_cache_millis"] == "5"
    assert given["files_to_stage"] == [str(tmp_path / "penstock-empty.jar")]
    assert zipfile.is_zipfile(given["files_to_stage"][0])
    by_beam = engine("jobmanager:8081", "--parallelism=2", flink_job_server_jar=jar, workers=3)
    assert by_beam._beam_options(server, "name").get_all_options()["parallelism"] == 2


@pytest.mark.usefixtures("java", "recorded")
def test_a_submission_that_is_interrupted_leaves_no_job(jar: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    events: list[str] = []

    class Started:
        endpoint, folder = "localhost:1", str(tmp_path)

        def __init__(self, *_: object) -> None:
            events.append("start")

        def stop(self) -> None:
            events.append("stop")

    def interrupted(pipeline: beam.Pipeline) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(flink, "JobServer", Started)
    monkeypatch.setattr("penstock.runners.flink_rest.FlinkRest.find_jobs", lambda _, name: [f"id of {name}"])
    monkeypatch.setattr("penstock.runners.flink_rest.FlinkRest.patch", lambda _, path: events.append(path))
    with pytest.raises(KeyboardInterrupt):
        engine("jobmanager:8081", flink_job_server_jar=jar).submit(interrupted, "penstock-make-pets-0a1b")
    assert events == ["start", "stop", "/jobs/id of penstock-make-pets-0a1b?mode=cancel"]


@pytest.mark.usefixtures("java", "recorded")
def test_a_name_of_the_users_stays_unlike_any_other(jar: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    found: list[str] = []
    server = types.SimpleNamespace(endpoint="localhost:1", folder=str(tmp_path), stop=lambda: None)
    monkeypatch.setattr(flink, "JobServer", lambda _: server)
    monkeypatch.setattr("penstock.runners.flink_rest.FlinkRest.find_jobs", lambda _, name: found.append(name) or [])
    made = engine("jobmanager:8081", "--job_name=nightly", flink_job_server_jar=jar)
    with pytest.raises(PenstockError, match="Flink's job server did not take the job: ZeroDivisionError"):
        made.submit(lambda pipeline: setattr(pipeline, "run", lambda: 1 // 0), "penstock-make-pets-0a1b2c3d")
    assert found == ["nightly-0a1b2c3d"]
    options = made._beam_options(server, "nightly-0a1b2c3d").get_all_options()  # type: ignore[arg-type]
    assert options["job_name"] == "nightly-0a1b2c3d"


def test_a_job_of_an_embedded_cluster_cannot_be_found_again():
    with pytest.raises(RequestError, match="run the same command again to resume"):
        engine().find("embedded")


def test_penstock_worker_is_named_by_its_path_where_it_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    (tmp_path / "penstock-worker").touch()
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    (_, config) = environment_arguments(PipelineOptions([]), "http://localhost:8081")
    assert json.loads(config.partition("=")[2]) == {"command": str(tmp_path / "penstock-worker")}
