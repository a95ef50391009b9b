"""What is told of a commit: to a command, or by a POST; its failure is said, and changes nothing."""

import http.server
import json
import re
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from penstock.pipeline.errors import RequestError
from penstock.runners import on_commit
from penstock.runners.on_commit import call_hook, check_hook

GENERATION = "0123456789abcdef"
MANIFEST = {"format": 1, "generation": GENERATION}


@pytest.fixture
def dataset(tmp_path: Path) -> str:
    folder = tmp_path / "dataset" / GENERATION
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text(json.dumps(MANIFEST))
    return str(tmp_path / "dataset")


class Receiver(http.server.BaseHTTPRequestHandler):
    """Answers with the next of some statuses; keeps what it got."""

    statuses: list[int]
    got: list[tuple[str, dict[str, Any]]]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.got.append((self.path, json.loads(body)))
        self.send_response(self.statuses.pop(0))
        self.send_header("Location", "/elsewhere")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def url() -> Iterator[str]:
    Receiver.statuses, Receiver.got = [], []
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/hook?token=secret"
        server.shutdown()
        thread.join()


def command(code: str, *arguments: object) -> str:
    return f"{sys.executable} -c '{code}' {' '.join(map(str, arguments))}"


def test_a_command_gets_the_manifest_and_its_uri(dataset: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    code = (
        'import os, sys; open(sys.argv[1], "w").write(os.environ["PENSTOCK_MANIFEST"] + sys.stdin.read()); '
        'print("told")'
    )
    hook = command(code, tmp_path / "out")
    check_hook(hook)
    assert call_hook(hook, dataset, GENERATION) is None
    assert (tmp_path / "out").read_text() == f"{dataset}/{GENERATION}/manifest.json{json.dumps(MANIFEST)}"
    told = capfd.readouterr()
    assert (told.out, told.err) == ("", "told\n")  # standard output is the command's own, for --json


@pytest.mark.parametrize(
    ("code", "words"), [("raise SystemExit(4)", "found 4"), ("import os; os.kill(os.getpid(), 9)", "signal 9")]
)
def test_a_command_that_fails_is_told(dataset: str, code: str, words: str):
    assert words in (call_hook(command(code), dataset, GENERATION) or "")


def test_a_command_that_reads_nothing_is_fine(dataset: str):
    (Path(dataset) / GENERATION / "manifest.json").write_text(json.dumps({"filler": "x" * (1 << 20)}))
    assert call_hook("true", dataset, GENERATION) is None


def test_a_url_gets_the_manifest_and_its_uri(dataset: str, url: str):
    check_hook(url)
    Receiver.statuses = [204]
    assert call_hook(url, dataset, GENERATION) is None
    body = {
        "manifest_uri": f"{dataset}/{GENERATION}/manifest.json",
        "dataset": dataset,
        "generation": GENERATION,
        "manifest": MANIFEST,
    }
    assert Receiver.got == [("/hook?token=secret", body)]


def test_a_url_is_tried_again_only_where_that_may_help(dataset: str, url: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(on_commit, "_PAUSE", 0)
    for statuses, posts, words in (
        ([503, 500, 200], 3, None),
        ([503, 503, 503], 3, "found 503"),
        ([404], 1, "found 404"),
        ([302], 1, "found 302"),
    ):
        Receiver.statuses, Receiver.got = list(statuses), []
        failed = call_hook(url, dataset, GENERATION)
        assert len(Receiver.got) == posts
        assert (failed is None) if words is None else (failed is not None and words in failed)
        assert "secret" not in (failed or "")


def test_a_url_that_nobody_answers_is_told_without_its_token(dataset: str, url: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(on_commit, "_PAUSE", 0)
    failed = call_hook("http://127.0.0.1:9/hook?token=secret", dataset, GENERATION)
    assert failed is not None
    assert "refused" in failed
    assert "secret" not in failed


def test_a_manifest_that_is_gone_is_told(tmp_path: Path):
    assert "manifest.json" in (call_hook("true", str(tmp_path), GENERATION) or "")


@pytest.mark.parametrize(
    "hook", ["true --x 'y z'", "https://hooks.example.com/x", "http://localhost:1/", "http://[::1]/"]
)
def test_these_hooks_are_taken(hook: str):
    check_hook(hook)


@pytest.mark.parametrize(
    ("hook", "words"),
    [
        ("", "expected a command"),
        ("no-such-program-anywhere", "expected a command"),
        ("echo 'open", "No closing quotation"),
        ("http://hooks.example.com/x", "expected https://"),
        ("http://127.0.0.1.example.com/x", "expected https://"),
        ("https://user:secret@hooks.example.com/x", "without a password"),
        ("https://", "with a host"),
        ("https://host:port/", "cannot be read"),
    ],
)
def test_these_hooks_are_refused_before_any_work(hook: str, words: str):
    with pytest.raises(RequestError, match=re.escape(words)) as refused:
        check_hook(hook)
    assert "secret" not in str(refused.value)
