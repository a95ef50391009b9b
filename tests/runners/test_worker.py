"""`penstock-worker`, with a boot of the tests' own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

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
    assert find_boot() is None
    monkeypatch.setenv("PENSTOCK_BOOT", sys.executable)
    assert find_boot() == sys.executable


def test_a_boot_that_is_missing_is_named(tmp_path: Path):
    environment = {**os.environ, "PENSTOCK_BOOT": str(tmp_path / "none")}
    command = [sys.executable, "-m", "penstock.runners.worker", "--id=1"]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30)
    assert ended.returncode == 1
    assert "expected Beam's boot" in ended.stderr
    assert "PENSTOCK_BOOT" in ended.stderr


def test_the_path_is_not_needed(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("PATH")
    assert worker_environment()["PATH"].startswith(os.path.dirname(sys.executable))
