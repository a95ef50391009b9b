"""`penstock-worker`, with a boot of the tests' own."""

import contextlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import grpc
import pytest
from apache_beam.portability.api import beam_fn_api_pb2, beam_fn_api_pb2_grpc
from apache_beam.utils.subprocess_server import pick_port

from penstock import RequestError
from penstock.runners.worker import boot_arguments, find_boot, worker_environment

BOOT = f"""#!{sys.executable}
import json, os, sys
keys = ("PATH", "RUN_PYTHON_SDK_IN_DEFAULT_ENVIRONMENT", "SECRET")
open("pipeline_options.json", "w").write("{{}}")
print(json.dumps({{"arguments": sys.argv[1:], "folder": os.getcwd(), **{{key: os.environ.get(key) for key in keys}}}}))
sys.exit(5)
"""


def worker(folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    (folder / "boot").write_text(BOOT)
    (folder / "boot").chmod(0o755)
    environment = {**os.environ, "PENSTOCK_BOOT": str(folder / "boot"), "SECRET": "inherited", "TMPDIR": str(folder)}
    command = [sys.executable, "-m", "penstock.runners.worker", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=30)


def test_boot_runs_in_a_folder_of_its_own_with_this_python(tmp_path: Path):
    ended = worker(tmp_path, "--id=1-1", "--provision_endpoint=localhost:1")
    assert ended.returncode == 5
    told = json.loads(ended.stdout)
    assert told["arguments"] == [f"--semi_persist_dir={told['folder']}", "--id=1-1", "--provision_endpoint=localhost:1"]
    assert Path(told["folder"]).parent == tmp_path
    assert told["PATH"].startswith(f"{os.path.dirname(sys.executable)}{os.pathsep}")
    assert (told["RUN_PYTHON_SDK_IN_DEFAULT_ENVIRONMENT"], told["SECRET"]) == ("1", "inherited")
    assert [each.name for each in tmp_path.iterdir()] == ["boot"]  # its folder is gone, and what it wrote there


def test_quotes_around_an_id_are_taken_off():
    assert boot_arguments(["--id='job-001[job]_ref'", "--x='y'"]) == ["--id=job-001[job]_ref", "--x='y'"]


def test_boot_is_where_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PENSTOCK_BOOT", str(tmp_path / "none"))
    with pytest.raises(RequestError, match=r"Beam's boot, found nothing at .*/none; name it by PENSTOCK_BOOT"):
        find_boot()
    monkeypatch.setenv("PENSTOCK_BOOT", sys.executable)
    assert find_boot() == sys.executable


@pytest.mark.parametrize("option", ["--id=1", "--worker_pool"])
def test_a_boot_that_is_missing_is_named(tmp_path: Path, option: str):
    environment = {**os.environ, "PENSTOCK_BOOT": str(tmp_path / "none")}
    command = [sys.executable, "-m", "penstock.runners.worker", option]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30)
    assert ended.returncode == 1
    assert "expected Beam's boot" in ended.stderr
    assert "PENSTOCK_BOOT" in ended.stderr


def test_the_path_is_not_needed(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("PATH")
    assert worker_environment()["PATH"].startswith(os.path.dirname(sys.executable))


@pytest.mark.slow
@pytest.mark.linux
def test_a_pool_starts_workers_and_ends_with_all_of_them(tmp_path: Path):
    """By a boot of the test's own: it tells its options, and stays."""
    told, boot = tmp_path / "told", tmp_path / "boot"
    boot.write_text(f'#!/bin/sh\necho $$ "$@" > {told}.new\nmv {told}.new {told}\nsleep 60\n')
    boot.chmod(0o755)
    (port,) = pick_port(None)
    environment = {**os.environ, "PENSTOCK_BOOT": str(boot)}
    command = [sys.executable, "-m", "penstock.runners.worker", "--worker_pool", f"--service_port={port}"]
    with subprocess.Popen(command, env=environment) as pool, grpc.insecure_channel(f"localhost:{port}") as channel:
        try:
            grpc.channel_ready_future(channel).result(60)
            request = beam_fn_api_pb2.StartWorkerRequest(worker_id="1-1")
            request.provision_endpoint.url = "localhost:1"
            answer = beam_fn_api_pb2_grpc.BeamFnExternalWorkerPoolStub(channel).StartWorker(request)
            assert answer.error == ""
            deadline = time.monotonic() + 20
            while not told.exists() and time.monotonic() < deadline:
                time.sleep(0.05)
        finally:
            pool.terminate()
    pid, *options = told.read_text().split()
    assert {"--id=1-1", "--provision_endpoint=localhost:1"} <= set(options)
    with contextlib.suppress(FileNotFoundError):
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        assert state in "ZX"  # it has ended, and nobody has waited for it
