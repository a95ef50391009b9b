"""OpenLineage is told of runs, by a file or by HTTP; no receiver, and nothing that is missing, harms a run."""

import contextlib
import http.server
import json
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers import Cli, draw, free_port, request
from runners.elsewhere import Elsewhere
from runners.openlineage_schema import faults

from penstock.pipeline import Images, OverBudgetError, PenstockError, Recipe, RequestError
from penstock.pipeline.planned_run import RunRequest
from penstock.runners import engine as engines
from penstock.runners import job_record, openlineage
from penstock.runners.follow import Detached, Result, attach
from penstock.runners.openlineage import LineageOptions, is_configured, trace_job, trace_run, transport_config
from penstock.runners.reporter import Reporter
from penstock.runners.run import run

RECIPE = Recipe(source=Images("images/*.png"), shards=2)
needs_client = pytest.mark.extras("openlineage.client")


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("URL", "CONFIG", "DISABLED", "API_KEY", "PARENT_ID", "CONTEXT", "NAMESPACE"):
        monkeypatch.delenv(f"OPENLINEAGE_{name}", raising=False)


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw(tmp_path_factory.mktemp("raw"), 6)


@pytest.fixture
def asked(raw: Path, tmp_path: Path) -> RunRequest:
    made: RunRequest = request(RECIPE, raw, tmp_path / "dataset", "7" * 64)
    return made


class Heard(list[str]):
    """What was warned of."""

    def options(self, target: object) -> LineageOptions:
        return LineageOptions(None if target is None else str(target), self.append)


@pytest.fixture
def heard() -> Heard:
    return Heard()


class Receiver(http.server.BaseHTTPRequestHandler):
    """Answers with a status, after a while; keeps what it got."""

    status: int
    pause: threading.Event
    got: list[tuple[str, str | None, dict[str, Any]]]

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.got.append((self.path, self.headers["Authorization"], body))
        self.pause.wait(20)
        with contextlib.suppress(OSError):
            self.send_response(self.status)
            self.send_header("Content-Length", "0")
            self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def url() -> Iterator[str]:
    Receiver.status, Receiver.got, Receiver.pause = 200, [], threading.Event()
    Receiver.pause.set()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        Receiver.pause.set()
        server.shutdown()
        thread.join()


def events(path: Path) -> list[dict[str, Any]]:
    """The events in a file, all of one run and as the schemas have them."""
    found = [json.loads(line) for line in path.read_text().splitlines()]
    assert [faults(event) for event in found] == [[]] * len(found)
    return found


def kinds(path: Path) -> list[str]:
    found = events(path)
    assert len({event["run"]["runId"] for event in found}) == 1
    return [event["eventType"] for event in found]


@pytest.mark.parametrize(
    ("environment", "configured"),
    [
        ({}, False),
        ({"OPENLINEAGE_NAMESPACE": "x", "OPENLINEAGE_PARENT_ID": "a/b/c"}, False),
        ({"OPENLINEAGE_URL": ""}, False),
        ({"OPENLINEAGE_URL": "http://localhost:5000"}, True),
        ({"OPENLINEAGE_CONFIG": "openlineage.yml"}, True),
        ({"OPENLINEAGE__TRANSPORT__TYPE": "kafka"}, True),
    ],
)
def test_the_environment_says_whether_events_are_sent(environment: dict[str, str], configured: bool):
    assert is_configured(environment) is configured


@pytest.mark.parametrize(
    ("target", "url", "endpoint"),
    [
        ("http://marquez:5000", "http://marquez:5000", "api/v1/lineage"),
        ("https://host/", "https://host", "api/v1/lineage"),
        ("https://host/tenant/lineage", "https://host", "tenant/lineage"),
    ],
)
def test_a_url_is_a_receiver_or_its_endpoint(target: str, url: str, endpoint: str):
    config = transport_config(target, {"OPENLINEAGE_API_KEY": "secret"})
    assert (config["type"], config["url"], config["endpoint"]) == ("http", url, endpoint)
    assert config["auth"] == {"type": "api_key", "apiKey": "secret"}
    assert "auth" not in transport_config(target, {})


@pytest.mark.parametrize("target", ["http://", "https://me:secret@host/", "{folder}", "{folder}/none/events.jsonl"])
def test_a_target_that_cannot_be_is_refused_before_any_work(target: str, asked: RunRequest, tmp_path: Path):
    def no_work(_: Reporter) -> Result:
        raise AssertionError

    options = LineageOptions(target.replace("{folder}", str(tmp_path)), print)
    with pytest.raises(RequestError, match="--openlineage: expected a") as error:
        trace_run(options, asked, engines.make_engine("direct", engines.EngineOptions()), no_work)
    assert "secret" not in str(error.value)


def test_without_the_client_the_option_is_refused_and_the_environment_only_warned_of(
    asked: RunRequest, tmp_path: Path, heard: Heard, monkeypatch: pytest.MonkeyPatch
):
    for name in ("openlineage", "openlineage.client", "openlineage.client.client"):
        monkeypatch.setitem(sys.modules, name, None)
    engine = Elsewhere()
    done = Result("up_to_date", None)  # type: ignore[arg-type]
    with pytest.raises(RequestError, match=r"pip install 'penstock\[openlineage\]'"):
        trace_run(heard.options(tmp_path / "events"), asked, engine, lambda _: done)
    assert trace_run(heard.options(None), asked, engine, lambda _: done) is done
    assert heard == []
    monkeypatch.setenv("OPENLINEAGE_URL", "http://127.0.0.1:1")
    assert trace_run(heard.options(None), asked, engine, lambda _: done) is done
    assert "pip install 'penstock[openlineage]'" in heard.pop()
    monkeypatch.setenv("OPENLINEAGE_DISABLED", "True")
    assert trace_run(heard.options(None), asked, engine, lambda _: done) is done
    assert heard == []


@needs_client
def test_a_run_is_told_by_the_command_line(cli: Cli, raw: Path, tmp_path: Path):
    recipe = cli.recipe('source=Images("images/*.png")')
    first, second, failed, over = (tmp_path / f"{name}.jsonl" for name in ("first", "second", "failed", "over"))
    assert cli.run(recipe, raw, "--openlineage", first, "--quiet").exit_code == 0
    assert cli.run(recipe, raw, "--openlineage", second, "--quiet").exit_code == 0
    assert (kinds(first), kinds(second)) == (["START", "COMPLETE"], ["START", "COMPLETE"])
    versions = [events(path)[1]["outputs"][0]["facets"]["version"] for path in (first, second)]
    assert versions[0] == versions[1]  # the second one found it up to date
    refused = cli.run(recipe, tmp_path / "none", "--openlineage", failed, "--quiet")
    assert refused.exit_code == 2
    assert kinds(failed) == ["START", "FAIL"]
    broken = cli.recipe('source=Images("images/*.png"), prepare=[lambda example: 1 / 0]', name="broken.py")
    ended = cli.run(broken, raw, "--openlineage", over, "--quiet", output=tmp_path / "over")
    assert ended.exit_code
    assert kinds(over) == ["START", "FAIL"]
    for result, path in ((refused, failed), (ended, over)):
        assert events(path)[1]["run"]["facets"]["errorMessage"]["message"] in result.stderr


@needs_client
def test_an_interrupted_run_is_aborted(asked: RunRequest, tmp_path: Path, heard: Heard):
    def interrupted(reporter: Reporter) -> Result:
        reporter.planned(None)  # type: ignore[arg-type]
        raise KeyboardInterrupt

    engine = engines.make_engine("direct", engines.EngineOptions())
    with pytest.raises(KeyboardInterrupt):
        trace_run(heard.options(tmp_path / "events"), asked, engine, interrupted)
    assert (kinds(tmp_path / "events"), heard) == (["START", "ABORT"], [])


@needs_client
@pytest.mark.parametrize("by_environment", [False, True])
def test_a_receiver_gets_them_by_http(
    asked: RunRequest, url: str, heard: Heard, by_environment: bool, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("OPENLINEAGE_API_KEY", "secret")
    monkeypatch.setenv("OPENLINEAGE_NAMESPACE", "nightly")
    if by_environment:
        config = {"type": "http", "url": url, "auth": {"type": "api_key", "apiKey": "secret"}}
        monkeypatch.setenv("OPENLINEAGE__TRANSPORT", json.dumps(config))

    def work(reporter: Reporter) -> Result:
        reporter.planned(None)  # type: ignore[arg-type]
        raise PenstockError("expected rows")

    engine = engines.make_engine("direct", engines.EngineOptions())
    with pytest.raises(PenstockError, match="expected rows"):
        trace_run(heard.options(None if by_environment else url), asked, engine, work)
    assert [(path, key) for path, key, _ in Receiver.got] == [("/api/v1/lineage", "Bearer secret")] * 2
    bodies = [body for _, _, body in Receiver.got]
    assert [body["eventType"] for body in bodies] == ["START", "FAIL"]
    assert [faults(body) for body in bodies] == [[], []]
    assert {body["job"]["namespace"] for body in bodies} == {"nightly"}
    assert heard == []


@needs_client
@pytest.mark.parametrize("harm", ["closed", "500", "hangs"])
def test_a_receiver_that_fails_or_hangs_harms_no_run(
    asked: RunRequest, url: str, heard: Heard, harm: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(openlineage, "_PATIENCE", 1.0)
    monkeypatch.setattr(openlineage, "_RETRIES", {"total": 0})
    if harm == "500":
        Receiver.status = 500
    if harm == "hangs":
        Receiver.pause.clear()
    began = time.monotonic()
    engine = engines.make_engine("direct", engines.EngineOptions())
    done = Result("committed", None)  # type: ignore[arg-type]
    target = f"http://127.0.0.1:{free_port()}" if harm == "closed" else url

    def work(reporter: Reporter) -> Result:
        reporter.planned(None)  # type: ignore[arg-type]
        assert time.monotonic() - began < 1  # it does not wait for the receiver
        return done

    assert trace_run(heard.options(target), asked, engine, work) is done
    assert time.monotonic() - began < 5
    (warning,) = heard
    assert warning.startswith("OpenLineage was not told of all: ")


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> Elsewhere:
    engine = Elsewhere()
    monkeypatch.setattr(job_record, "make_engine", lambda name, options: engine)
    return engine


@needs_client
def test_a_job_that_was_left_is_one_run_of_two_commands(
    asked: RunRequest, elsewhere: Elsewhere, tmp_path: Path, heard: Heard
):
    elsewhere.starts = False
    path = tmp_path / "events"
    with pytest.raises(Detached) as detached:
        trace_run(heard.options(path), asked, elsewhere, lambda told: run(asked, told, elsewhere, detach=True))
    assert kinds(path) == ["START"]
    elsewhere.jobs[detached.value.record.job_id].go.set()
    result = trace_job(heard.options(path), asked.output, lambda told: attach(asked.output, told))
    assert result is not None
    assert kinds(path) == ["START", "COMPLETE"]
    start, complete = events(path)
    assert start["job"]["name"] == complete["job"]["name"]
    assert start["outputs"][0]["name"] == complete["outputs"][0]["name"] == asked.output
    engine = complete["run"]["facets"]["processing_engine"]["name"]
    assert engine == start["run"]["facets"]["processing_engine"]["name"] == f"Apache Beam ({elsewhere.name})"
    with pytest.raises(RequestError, match="found none"):  # no job, so no run of which anything could be told
        trace_job(heard.options(path), asked.output, lambda told: attach(asked.output, told))
    assert (kinds(path), heard) == (["START", "COMPLETE"], [])


@needs_client
def test_a_job_that_is_cancelled_is_aborted_and_one_that_is_refused_has_failed(
    raw: Path, elsewhere: Elsewhere, tmp_path: Path, heard: Heard
):
    def fails(example: dict[str, Any]) -> dict[str, Any]:
        raise ValueError("unlucky")

    for name, cancels in (("cancelled", True), ("refused", False)):
        step = () if cancels else (lambda example: fails(example) if example["key"].endswith("003.png") else example,)
        recipe = Recipe(source=Images("images/*.png"), prepare=step, shards=2)
        asked = request(recipe, raw, tmp_path / name, max_quarantined="0")
        path = tmp_path / f"{name}.jsonl"
        elsewhere.starts = False
        with pytest.raises(Detached) as detached:
            trace_run(
                heard.options(path),
                asked,
                elsewhere,
                lambda told, asked=asked: run(asked, told, elsewhere, detach=True),  # type: ignore[misc]
            )

        def follow(told: Reporter, asked: RunRequest = asked, cancels: bool = cancels) -> Result | None:
            return attach(asked.output, told, cancels=cancels)

        if cancels:
            assert trace_job(heard.options(path), asked.output, follow) is None
        else:
            elsewhere.jobs[detached.value.record.job_id].go.set()
            with pytest.raises(OverBudgetError):
                trace_job(heard.options(path), asked.output, follow)
        assert kinds(path) == ["START", "ABORT" if cancels else "FAIL"]
    assert heard == []
